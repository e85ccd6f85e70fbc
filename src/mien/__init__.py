"""mien: a talking-head video as one identity latent and 35 numbers a frame in StyleGAN2's latent space.

    stream = mien.encode("clip.mp4")                    # Stream: L_ID and [R, Y, P, alpha] for each frame
    stream.save("clip.mien")
    for frame in mien.render(mien.load("clip.mien")):   # uint8 [H, W, 3]
        ...
    puppet = mien.puppeteer(stream, "portrait.png")     # the portrait's person does what the clip's does

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mien._version import __version__ as __version__
from mien.errors import FaceError, InputError, MienError, OutputError, PackError, StreamError, VideoError

if TYPE_CHECKING:
    from mien.api import encode as encode
    from mien.apps.live import live as live
    from mien.editing.operations import edit as edit
    from mien.format.stream import Stream as Stream
    from mien.method.stage6_render.render import render as render
    from mien.packs.pack import Pack as Pack
    from mien.reenact.puppeteer import puppeteer as puppeteer

    load = Stream.load

__all__ = ["FaceError", "InputError", "MienError", "OutputError", "Pack", "PackError", "Stream", "StreamError"]
__all__ += ["VideoError", "edit", "encode", "live", "load", "puppeteer", "render"]

_WHERE = {
    "edit": ("mien.editing.operations", "edit"),
    "encode": ("mien.api", "encode"),
    "live": ("mien.apps.live", "live"),
    "render": ("mien.method.stage6_render.render", "render"),
    "puppeteer": ("mien.reenact.puppeteer", "puppeteer"),
    "Stream": ("mien.format.stream", "Stream"),
    "Pack": ("mien.packs.pack", "Pack"),
}


def __getattr__(name: str) -> Any:
    if name == "load":
        value = import_module("mien.format.stream").Stream.load
    elif name in _WHERE:
        module, attribute = _WHERE[name]
        value = getattr(import_module(module), attribute)
    else:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
