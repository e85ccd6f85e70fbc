"""A device that no machine has, so that what runs on a GPU can be tested without one.

Tensors that live *elsewhere* keep their numbers on the CPU, say that they are on the device `elsewhere`, and refuse, as
CUDA's do, to meet tensors of the CPU (but for scalars, copies, and indices) or to become NumPy arrays. Run as a
program: the whole pipeline of a tiny pack on that device; prints means of what came out, or fails where two devices
meet. `--cpu`: the same on the CPU. It changes torch for its whole process, so tests start it as one of its own.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from typing import Any, Self

import numpy as np
import torch
from torch.utils import _pytree as pytree

from factories.faces import face
from factories.packs import tiny_pack
from mien.api import to_stream
from mien.apps.telepresence.face import FacePainter
from mien.apps.telepresence.same_person import PersonCheck
from mien.face import mesh as lm
from mien.format.person import Person
from mien.format.stream import Stream
from mien.method.avatar import Avatar
from mien.method.solvers.adam_reference import AdamAttributeOptions, AdamPoseOptions
from mien.method.stage1_align.align import AlignOptions
from mien.method.stage6_render.render_probe import RenderProbe
from mien.method.types import FaceTrack
from mien.options import EncodeOptions
from mien.packs.pack import Pack
from mien.packs.resolve import tuned_generator
from mien.personalize.options import RefinementOptions, TuningOptions
from mien.reenact.options import PuppetOptions
from mien.reenact.portrait import PortraitTuning
from mien.runtime.frame_store import CropFile
from mien.runtime.monitor import Monitor

NAME = "elsewhere"
# What CUDA lets mix: indices on the CPU, copies from one device to the other.
MAY_MIX = (
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
    "aten::copy_",
    "aten::_to_copy",
)
FACTORIES = ("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros")


class Elsewhere(torch.Tensor):
    """A tensor elsewhere; `numbers` is what it holds."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> Self:
        made = torch.Tensor._make_wrapper_subclass(
            cls, numbers.size(), strides=numbers.stride(), storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype, device=torch.device(NAME, 0),
        )  # fmt: skip
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copy: torch.Tensor = Elsewhere(self.numbers.detach().clone())
        if getattr(self, "_is_param", False):
            copy = torch.nn.Parameter(copy, requires_grad=self.requires_grad)
        return memo.setdefault(id(self), copy)

    def tolist(self) -> Any:
        return self.numbers.tolist()

    def __getitem__(self, index: Any) -> Any:
        return torch.Tensor.__getitem__(self, _tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        torch.Tensor.__setitem__(self, _tensors(index), value)


def _tensors(index: Any) -> Any:
    """An index whose lists are tensors: torch itself would put those on the tensor's device past the dispatcher."""
    if isinstance(index, tuple):
        return tuple(map(_tensors, index))
    return plain_tensor(index, dtype=torch.long) if isinstance(index, list) else index


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    flat, _ = pytree.tree_flatten((args, kwargs))
    away = [x for x in flat if isinstance(x, Elsewhere)]
    here = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, Elsewhere) and x.dim()]
    if away and here and (name not in MAY_MIX or (name == "aten::index" and args[0] is here[0])):
        raise RuntimeError(f"{name}: expected all tensors on one device, found {NAME} and cpu")
    stays = bool(away) if kwargs.get("device") is None else torch.device(kwargs["device"]).type == NAME
    if name == "aten::copy_":
        stays = isinstance(args[0], Elsewhere)
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    unwrap = lambda x: x.numbers if isinstance(x, Elsewhere) else x
    out = func(*pytree.tree_map(unwrap, args), **pytree.tree_map(unwrap, kwargs))
    known = {id(x.numbers): x for x in away}  # what works in place gives back what it was given
    wrap = lambda x: known.get(id(x)) or Elsewhere(x) if isinstance(x, torch.Tensor) and stays else x
    return pytree.tree_map(lambda x: known[id(x)] if id(x) in known else wrap(x), out)


plain_tensor = torch.tensor


def _factory(plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(plain)
    def made(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        if device is not None and torch.device(device).type == NAME:
            first = args[0] if args else None
            return first.to(device) if isinstance(first, torch.Tensor) else Elsewhere(plain(*args, **kwargs))
        return plain(*args, **kwargs) if device is None else plain(*args, device=device, **kwargs)

    return made


def install() -> None:
    """Let torch know the device, for the rest of the process."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16]  # autocast asks, to be switched off too
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    install.library = library  # type: ignore[attr-defined]  # what it registers goes with it
    for name in FACTORIES:
        setattr(torch, name, _factory(getattr(torch, name)))
    for name in ("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros"):
        new = lambda self, *args, _name=name, **kwargs: Elsewhere(
            getattr(self.numbers.detach(), _name)(*args, **kwargs)
        )
        setattr(Elsewhere, name, new)


def crops(count: int) -> FaceTrack:
    """Noise where a face would be, with a mesh that moves a little."""
    random = np.random.RandomState(0)
    mesh = (lm.canonical_face()[None, :, :2] * 15 + [32, 30]).repeat(count, 0) + random.randn(count, 1, 2)
    images = random.randint(0, 256, (count, 64, 64, 3)).astype(np.uint8)
    still, never = np.zeros(count), np.zeros(count, bool)
    return FaceTrack(CropFile(64, images), np.zeros((count, 4, 2)), still, np.zeros(count, np.int64), still, never, never,
                     mesh.astype(np.float32), random.randn(count) * 3, random.randn(count) * 3, (64, 64))  # fmt: skip


def main() -> None:
    names = ("pipeline", "reenact.puppeteer", "method.stage6_render.render", "method.stage6_render.render_probe")
    encode, puppets, frames, probe = (importlib.import_module(f"mien.{name}") for name in names)
    names = ("personalize.trainer", "personalize.muon")
    trainer, muon = (importlib.import_module(f"mien.{name}") for name in names)
    device = torch.device("cpu")
    if "--cpu" not in sys.argv:
        install()
        device = torch.device(NAME, 0)
    # Neither device has bfloat16 here; random sums count as pictures, so that windows are drawn.
    encode.autocast_bf16 = trainer.autocast_bf16 = muon.autocast_bf16 = lambda device: nullcontext()
    trainer.WINDOWS_FROM = 64
    puppets.resolve_device = frames.resolve_device = probe.resolve_device = lambda name: device
    puppet = PuppetOptions(tuning=PortraitTuning(steps=4))
    few = {"steps": 3, "batch": 2, "passes": 0.0}
    tuned = replace(
        EncodeOptions.mien(), tuning=TuningOptions(**few), refinement=RefinementOptions(**few),
        align=AlignOptions(aligned=True), person_size=None,
    )  # fmt: skip
    # Every frame solved: one that is interpolated carries on how its neighbours' numbers were rounded to half floats.
    solved = {name: replace(getattr(tuned, name), every=1) for name in ("pose", "attributes")}
    plain = replace(tuned, tuning=None, refinement=None, refit=None, **solved)
    slow = replace(plain, pose=AdamPoseOptions(epochs=2), attributes=AdamAttributeOptions(epochs=2, probes=1))
    pack, clip = tiny_pack(noise=True).to(device), crops(3)
    pack.generator.rgb_valid_from = 32

    def made(options: EncodeOptions, person: Person | None = None) -> Stream:
        encoding = encode.encode_track(clip, pack, options, Monitor(), person)
        return to_stream(encoding, clip, Fraction(25), pack, options, person)

    first = made(tuned)
    streams = [
        first, made(replace(tuned, person_size=8000)), made(tuned, Person.of(first, "ann")), made(slow), made(plain),
        puppets.puppeteer(first, first, pack=pack), puppets.puppeteer(first, face(), pack=pack, options=puppet),
    ]  # fmt: skip
    drawn = [np.stack(list(frames.render(stream, pack=pack))) for stream in (first, streams[-1])]
    seen = RenderProbe(first, pack=pack).draw(np.asarray(first.frames))
    painted = FacePainter(Avatar.of(first, pack, tuned_generator(first, pack)))(np.asarray(first.frames[0]))
    Pack.load("mini").identity.to(device)
    check, picture = PersonCheck(face()), face()
    same = check(picture, lm.canonical_face() * 15 + [150, 150, 0])
    if not all(parameter.device == device for parameter in pack.generator.parameters()):
        raise SystemExit("the pack has left its device")
    numbers = [*(np.asarray(s.frames, np.float32) for s in streams), *drawn, seen, painted, np.array([same])]
    print(*(float(np.abs(a.astype(np.float64)).mean()) for a in numbers))


if __name__ == "__main__":
    main()
