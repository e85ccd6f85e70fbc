"""mien: a talking-head video as one identity latent and 35 numbers a frame in StyleGAN2's latent space.

    stream = mien.encode("clip.mp4")                    # Stream: L_ID and [R, Y, P, alpha] for each frame
    stream.save("clip.mien")
    for frame in mien.render(mien.load("clip.mien")):   # uint8 [H, W, 3]
        ...
    puppet = mien.puppeteer(stream, "portrait.png")     # the portrait's person does what the clip's does

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mien._version import __version__ as __version__
from mien.errors import FaceError, InputError, MienError, OutputError, PackError, StreamError, VideoError

if TYPE_CHECKING:
    from mien.edit import edit as edit
    from mien.encode import encode as encode
    from mien.live import live as live
    from mien.packs.pack import Pack as Pack
    from mien.render import puppeteer as puppeteer
    from mien.render import render as render
    from mien.stream import Stream as Stream

    load = Stream.load

__all__ = ["FaceError", "InputError", "MienError", "OutputError", "Pack", "PackError", "Stream", "StreamError"]
__all__ += ["VideoError", "edit", "encode", "live", "load", "puppeteer", "render"]

_WHERE = {
    "edit": ("mien.edit", "edit"),
    "encode": ("mien.encode", "encode"),
    "live": ("mien.live", "live"),
    "render": ("mien.render", "render"),
    "puppeteer": ("mien.render", "puppeteer"),
    "Stream": ("mien.stream", "Stream"),
    "Pack": ("mien.packs.pack", "Pack"),
}


def __getattr__(name: str) -> Any:
    if name == "load":
        value = import_module("mien.stream").Stream.load
    elif name in _WHERE:
        module, attribute = _WHERE[name]
        value = getattr(import_module(module), attribute)
    else:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """`mien.encode` is the function, also after the module of that name was imported, which Python would bind here."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
