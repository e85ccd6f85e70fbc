"""The pack `metrics`: the networks that `mien evaluate` judges by and that no other command needs.

It is a pack like the others, without a generator. Every network of it may be missing: its metric then says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mien.errors import PackError
from mien.packs.convert import checkpoint_layouts
from mien.packs.convert.common import Source, add_network, answering, read_layout, read_lpips, sha256
from mien.packs.pack import Pack
from mien.runtime.files import check_output

# What can be given, and the metric that each file is for.
ROLES: dict[str, str] = {
    "lpips-alex": "LPIPS",
    "alexnet": "LPIPS",
    "lpips-vgg": "LPIPS by VGG16",
    "vgg16": "LPIPS by VGG16",
    "inception": "FID",
    "i3d": "FVD and FVD_M",
    "arcface": "L_ID",
    "curricularface": "L_ID by CurricularFace",
    "gaze": "rho_GZ by L2CS-Net",
    "action-units": "rho_AU by LibreFace",
}
# role -> (slot of the pack, kind, how the file is read)
_NETWORKS = {
    "inception": ("inception", "fid", checkpoint_layouts.inception),
    "i3d": ("i3d", "kinetics400", checkpoint_layouts.i3d),
    "arcface": ("identity", "arcface", checkpoint_layouts.arcface),
    "curricularface": ("curricularface", "ir101", checkpoint_layouts.curricularface),
    "gaze": ("gaze", "l2cs", checkpoint_layouts.gaze),
    "action-units": ("action_units", "libreface", checkpoint_layouts.action_units),
}
_LPIPS = (("lpips-alex", "alexnet", "alex"), ("lpips-vgg", "vgg16", "vgg"))


def convert_judges(sources: Mapping[str, Path | str], out: Path | str, *, name: str = "metrics") -> Pack:
    """Convert the files of `sources` (role -> file; `ROLES`) into one pack file at `out`; returns what was written.

    LPIPS's heads without their backbone, or the other way round, are left out. Raises PackError when a file is not
    what it was given as or nothing is left to convert, OutputError when `out` cannot be written.
    """
    out = check_output(Path(out), (".safetensors",), sources.values())
    files = {role: Path(path) for role, path in sources.items()}
    for role in files:
        if role not in ROLES:
            raise PackError(f"{role!r} is not one of the files that can be converted: {', '.join(ROLES)}.")
    pack = Pack(name, {}, {}, ())
    used = []
    for heads, backbone, kind in _LPIPS:
        if heads in files and backbone in files:
            network = read_lpips(files[heads], files[backbone], "alex" if kind == "alex" else "vgg")
            add_network(pack, f"lpips_{kind}", "lpips", network, {})
            used += [heads, backbone]
    for role, (slot, kind, layout) in _NETWORKS.items():
        if role in files:
            add_network(pack, slot, kind, read_layout(layout, files[role]), {})
            used.append(role)
    if not used:
        raise PackError("none of the judges' files is there, so the pack was not made.")
    sources_used = [dataclasses.asdict(Source(role, files[role].name, sha256(files[role]))) for role in sorted(used)]
    pack.card = {"licence": "each network's own; see docs/metrics.md", "sources": sources_used}
    pack.save(out, half=False)
    return pack


def verify(pack: Pack) -> Iterator[str]:
    """Put one image, or a clip of it, through each judge; yields what was found. Raises PackError."""
    yield f"{pack.name}: judges of mien evaluate, sha256 {pack.fingerprint}"
    image = torch.linspace(-1, 1, 256)[None, None, None, :].expand(1, 3, 256, 256).contiguous()
    for slot, network in pack.networks.items():
        inputs: tuple[Tensor, ...] = (image,)
        if slot.startswith("lpips"):
            inputs = (image, image.flip(3))
        elif slot == "i3d":
            inputs = (image[:, :, None, :224, :224].expand(-1, -1, 9, -1, -1),)
        with torch.no_grad(), answering(slot):
            result = network(*inputs)
        if not bool(torch.isfinite(result).all()):
            raise PackError(f"the pack's {slot} network answers with numbers that are not finite.")
        yield f"{slot}: {pack.configs[slot]['kind']}, answers {list(result.shape)}"
    present = {source["role"] for source in pack.card.get("sources", [])}
    lacking = {ROLES[role] for role in ROLES if role not in present}
    if lacking:
        yield f"cannot be measured with it: {', '.join(sorted(lacking))}"
