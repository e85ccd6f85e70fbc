"""Official checkpoints to one pack, and what a pack can do.

Conversion reads the files with `torchfile`, which runs nothing of them, and writes one safetensors file in full
precision. Any file but the generator's may be missing; `missing` says what then cannot be done.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mien.errors import PackError
from mien.nets.e4e import ReStyle, to_input
from mien.nets.generator import measured_rgb_valid_from
from mien.nets.mapping import Mapping as MappingNetwork
from mien.nets.styleflow import HeadPoseFlow
from mien.nets.stylegan2 import StyleGAN2Generator
from mien.nets.stylespace import Channel
from mien.packs.convert import checkpoint_layouts, ffhq1024_channels, pose_sign_calibration
from mien.packs.convert.common import Source, add_network, read_layout, read_lpips, sha256
from mien.packs.pack import Pack, StageSizes
from mien.runtime.files import check_output, read_text

# What can be given, and what it is; the names are those of the command line's options.
SOURCES: dict[str, str] = {
    "stylegan2": "StyleGAN2 FFHQ 1024x1024: NVIDIA's ffhq.pkl, or stylegan2-ffhq-config-f.pt in rosinality's layout",
    "e4e": "e4e_ffhq_encode.pt",
    "restyle": "restyle_e4e_ffhq_encode.pt",
    "styleflow": "StyleFlow's modellarge10k.pt",
    "arcface": "ArcFace's model_ir_se50.pth",
    "bisenet": "BiSeNet's 79999_iter.pth",
    "lpips-vgg": "LPIPS's linear heads for VGG16, vgg.pth",
    "vgg16": "torchvision's vgg16-397923af.pth",
    "lpips-alex": "LPIPS's linear heads for AlexNet, alex.pth",
    "alexnet": "torchvision's alexnet-owt-7be5be79.pth",
}

# Slots of a pack and what cannot be done without them.
_NEEDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("flow",), "head pose: encode, render and puppeteer"),
    (("encoder", "restyle"), "inversion: encode and puppeteer"),
    (("identity",), "choosing the identity frame: encode and puppeteer"),
    (("parser",), "the face-parsing loss: encode and puppeteer"),
    (("lpips_alex", "lpips_vgg"), "LPIPS, in encode and in evaluate"),
    (("mapping",), "sampling people: train channels"),
)
CHANNEL_COUNT = 32  # as many as a stream carries
LARGE = 512  # pixels: from this resolution on, stages 3 to 5 look at
LARGE_STAGE_SIZES = StageSizes(identity=256, pose=128, attributes=256)  # where AlexNet's last maps are more than 3x3
RESOLUTION_PROBES = 4  # random people that partial pictures are compared on
_SAMPLES = 4096  # random latents from which the units of the channels are measured


def missing(pack: Pack) -> list[str]:
    """List what a pack cannot do, one sentence each; empty when nothing is missing."""
    own_perceptual = pack.landmark_reader is not None
    lines = []
    for slots, purpose in _NEEDS:
        if any(slot in pack.networks for slot in slots) or (own_perceptual and slots[0] in ("lpips_alex", "mapping")):
            continue
        lines.append(f"no {' or '.join(slots)} network: {purpose} cannot run with this pack")
    if not pack.channels:
        lines.append("no channels: encode cannot run with this pack until `python -m mien.train channels` chose them")
    return lines


def convert_pack(
    sources: Mapping[str, Path | str],
    out: Path | str,
    *,
    name: str = "ffhq1024",
    half: bool = False,
    channels: Path | str | None = None,
) -> Pack:
    """Convert checkpoint files into one pack file at `out`; returns what was written (its fingerprint unset).

    `sources` maps roles (`SOURCES`) to files. The generator may also come from an e4e or ReStyle checkpoint, which
    holds one. `half`: store in float16, at half the size and a small loss. `channels`: the `channels.json` that
    `python -m mien.train channels` wrote, in place of the prior.
    Raises `PackError` when a file cannot be used or files are missing that belong together, `OutputError` when `out`
    cannot be written. An existing `out` is replaced only by a whole pack.
    """
    out = check_output(Path(out), (".safetensors",), (*sources.values(), channels))
    files = {role: Path(path) for role, path in sources.items()}
    _check_roles(files)
    named = None if channels is None else read_channels(Path(channels))
    pack = Pack(name, {}, {}, (), channels_absolute=False)  # StyleSpace channels carry a person's own shape too
    oriented = "no flow"
    _add_generator(pack, files)
    for role, slot in (("e4e", "encoder"), ("restyle", "restyle")):
        if role in files:
            network = read_layout(checkpoint_layouts.encoder, files[role])
            if isinstance(network, ReStyle) != (role == "restyle"):
                kind = "a ReStyle" if isinstance(network, ReStyle) else "an e4e"
                raise PackError(f"{files[role]} is {kind} checkpoint, not the other kind of encoder it was given as.")
            _add_encoder(pack, slot, network, files[role])
    if "styleflow" in files:
        flow = read_layout(checkpoint_layouts.styleflow, files["styleflow"])
        if flow.flow.config.dim != pack.generator.w_dim:
            raise PackError(f"{files['styleflow']} is a flow over latents of another width than the generator's.")
        oriented = _orient(pack, flow)
        add_network(pack, "flow", "styleflow", flow, _flow_config(flow))
    if "arcface" in files:
        add_network(pack, "identity", "arcface", read_layout(checkpoint_layouts.arcface, files["arcface"]), {})
    if "bisenet" in files:
        add_network(pack, "parser", "bisenet", read_layout(checkpoint_layouts.bisenet, files["bisenet"]), {})
    if "lpips-vgg" in files:
        add_network(pack, "lpips_vgg", "lpips", read_lpips(files["lpips-vgg"], files["vgg16"], "vgg"), {})
    if "lpips-alex" in files:
        add_network(pack, "lpips_alex", "lpips", read_lpips(files["lpips-alex"], files["alexnet"], "alex"), {})
    _measure_resolution(pack)
    if pack.resolution >= LARGE:
        pack.stage_sizes = LARGE_STAGE_SIZES
    pack.channels = _channels(pack) if named is None else named
    check_channels(pack)
    origins = [Source(role, path.name, sha256(path)) for role, path in sorted(files.items())]
    pack.card = {"pose": oriented} | _card(pack, origins)
    pack.save(out, half=half)
    return pack


def _measure_resolution(pack: Pack) -> None:
    """Say in the pack from which resolution its generator's partial pictures are valid, seen on random people."""
    if "mapping" in pack.networks:
        generator = pack.generator
        generator.rgb_valid_from = measured_rgb_valid_from(generator, pack.people[:RESOLUTION_PROBES])
        pack.configs["generator"]["rgb_valid_from"] = generator.rgb_valid_from


def _check_roles(files: Mapping[str, Path]) -> None:
    for role, path in files.items():
        if role not in SOURCES:
            raise PackError(f"{role!r} is not one of the files that can be converted: {', '.join(SOURCES)}.")
        if not path.is_file():
            raise PackError(f"there is no file {path}.")
    for pair in (("lpips-vgg", "vgg16"), ("lpips-alex", "alexnet")):
        given = [role for role in pair if role in files]
        if len(given) == 1:
            absent = pair[0] if given[0] == pair[1] else pair[1]
            raise PackError(f"{given[0]} needs {absent} beside it ({SOURCES[absent]}).")
    if not any(role in files for role in ("stylegan2", "e4e", "restyle")):
        raise PackError("a pack needs a generator: give stylegan2, or an e4e or ReStyle checkpoint, which holds one.")


def _add_generator(pack: Pack, files: Mapping[str, Path]) -> None:
    role = next(role for role in ("stylegan2", "e4e", "restyle") if role in files)
    found: checkpoint_layouts.StyleGAN2 = read_layout(checkpoint_layouts.stylegan2, files[role])
    config = dataclasses.asdict(found.generator.config)
    add_network(pack, "generator", "stylegan2", found.generator, config | {"channels": list(config["channels"])})
    if found.mapping is not None:
        mapping = found.mapping
        add_network(pack, "mapping", "stylegan2", mapping, {"dim": len(mapping.w_mean), "layers": len(mapping.weights)})


def _add_encoder(pack: Pack, slot: str, network: nn.Module, path: Path) -> None:
    generator = pack.generator
    if network.num_ws != generator.num_ws or generator.w_dim != 512:
        raise PackError(
            f"{path} encodes into {network.num_ws} rows of 512 numbers, the generator takes "
            f"{generator.num_ws} rows of {generator.w_dim}."
        )
    if isinstance(network, ReStyle):
        with torch.no_grad():
            network.average.copy_(to_input(generator.synthesis(network.w_mean[None])))
    add_network(pack, slot, "e4e", network, {"num_ws": network.num_ws})


def _orient(pack: Pack, flow: HeadPoseFlow) -> str:
    """Turn the flow's angles to our directions where random people show them; says what was found."""
    mapping = pack.networks.get("mapping")
    if mapping is None or pack.resolution < pose_sign_calibration.SMALLEST:
        return "directions of yaw and pitch unchecked"
    noise = torch.randn(pose_sign_calibration.PEOPLE, pack.generator.w_dim, generator=torch.Generator().manual_seed(0))
    people = mapping(noise, pose_sign_calibration.TRUNCATION)[:, None].expand(-1, pack.generator.num_ws, -1)
    signs = pose_sign_calibration.pose_signs(flow, people, pose_sign_calibration.measured_angles(pack.generator))
    if signs == (None, None):
        return "directions of yaw and pitch unchecked: random people of this generator show no clear head pose"
    scale = [1.0] * flow.flow.config.condition
    scale[flow.pose.yaw], scale[flow.pose.pitch] = (sign or 1.0 for sign in signs)
    flow.flow.config = dataclasses.replace(flow.flow.config, condition_scale=tuple(scale))
    flow.flow.condition_scale.copy_(torch.tensor(scale))
    words = {1.0: "as the checkpoint's own", -1.0: "against the checkpoint's own", None: "unchecked"}
    return f"yaw {words[signs[0]]}, pitch {words[signs[1]]}, seen on random people"


def _flow_config(flow: HeadPoseFlow) -> dict[str, Any]:
    shape, pose = dataclasses.asdict(flow.flow.config), dataclasses.asdict(flow.pose)
    shape |= {"hidden": list(shape["hidden"]), "condition_scale": list(shape["condition_scale"])}
    return {"flow": shape, "pose": pose | {"neutral": list(pose["neutral"])}}


def _channels(pack: Pack) -> tuple[Channel, ...]:
    """The prior table, with each channel's unit: its standard deviation over random people."""
    generator = pack.generator
    assert isinstance(generator, StyleGAN2Generator)
    if (generator.resolution, generator.config.channels) != (ffhq1024_channels.RESOLUTION, ffhq1024_channels.WIDTHS):
        return ()
    spread = _spread(generator, pack.networks.get("mapping"))  # type: ignore[arg-type]
    return tuple(
        Channel(layer, index, attribute, round(spread.get((layer, index), 1.0), 4))
        for attribute, entries in ffhq1024_channels.CHANNELS.items()
        for layer, index in entries
    )


@torch.no_grad()
def _spread(generator: StyleGAN2Generator, mapping: MappingNetwork | None) -> dict[tuple[int, int], float]:
    if mapping is None:
        return {}
    noise = torch.randn(_SAMPLES, generator.w_dim, generator=torch.Generator().manual_seed(0))
    w = mapping(noise)
    spread = {}
    for entries in ffhq1024_channels.CHANNELS.values():
        for layer, index in entries:
            affine: Any = generator.blocks[layer].affine
            spread[layer, index] = float((w @ (affine.weight[index] * affine.scale)).std())
    return spread


def read_channels(path: Path) -> tuple[Channel, ...]:
    """Read the 32 channels that `python -m mien.train channels` measured. Raises `PackError`."""
    try:
        found = tuple(Channel(**entry) for entry in json.loads(read_text(path))["channels"])
    except (OSError, ValueError, KeyError, TypeError):
        raise PackError(f"{path} is not a table of channels as `python -m mien.train channels` writes it.") from None
    if len(found) != CHANNEL_COUNT:
        raise PackError(f"{path} names {len(found)} channels, a pack has {CHANNEL_COUNT}.")
    return found


def _origin(channels: tuple[Channel, ...]) -> str:
    if not channels:
        return "none"
    return "measured" if any(c.sensitivity for c in channels) else "a prior from public sources, not measured here"


def _card(pack: Pack, sources: list[Source]) -> dict[str, Any]:
    return {
        "resolution": pack.resolution,
        "data": "FFHQ and what the authors of each network say; see docs/packs/official.md",
        "licence": "research only: NVIDIA's source code licence for the generator, CC BY-NC-SA 4.0 for StyleFlow",
        "channels": _origin(pack.channels),
        "sources": [dataclasses.asdict(source) for source in sources],
    }


def check_channels(pack: Pack) -> None:
    layers = pack.generator.layers
    for channel in pack.channels:
        layer = layers[channel.layer] if 0 <= channel.layer < len(layers) else None
        if layer is None or layer.to_rgb or not 0 <= channel.index < layer.width:
            raise PackError(f"the pack's channel {channel.layer}_{channel.index} is not in its generator's StyleSpace.")
