"""The networks that metrics are taken with, gathered from the packs and files that are at hand."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mien.errors import PackError
from mien.packs.pack import Pack, locate

Network = Callable[[Tensor], Tensor]
METRICS_PACK = "metrics"


@dataclass
class MetricNetworks:
    """Networks of metrics; what is None is not measured. Each takes images `[N, 3, H, W]` in [-1, 1].

    `identity`: the pack's own network; `arcface`, `curricularface`: those of that name; all three to unit vectors.
    `lpips`: two images to distances. `inception`: to features of FID; `i3d`: clips to logits of FVD. `gaze`: faces cut
    out tightly to angles in degrees `[N, 2]`; `action_units`: FFHQ-framed faces to intensities `[N, 12]`.
    """

    identity: Network | None = None
    arcface: Network | None = None
    curricularface: Network | None = None
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None
    inception: Network | None = None
    i3d: Network | None = None
    gaze: Network | None = None
    action_units: Network | None = None


def gather(
    pack: str | None = None, *, inception: Path | None = None, i3d: Path | None = None, metrics_pack: str | None = None
) -> MetricNetworks:
    """Gather the networks at hand.

    The pack `metrics` where it was pulled, the networks of `pack` (`mini` if that is at hand), and FID's and FVD's
    networks from files of their own. `metrics_pack`: another pack in place of `metrics`.

    Raises PackError when a pack or file that was asked for cannot be used.
    """
    found = MetricNetworks()
    own = _networks(pack, "mini")
    found.identity = own.get("identity")
    others = _networks(metrics_pack, METRICS_PACK)
    if _is_arcface(own):
        found.arcface = own["identity"]
    if "identity" in others:
        found.arcface = others["identity"]
    for networks in (own, others):
        found.lpips = networks.get("lpips_alex") or networks.get("lpips_vgg") or found.lpips
    found.curricularface = others.get("curricularface")
    found.inception, found.i3d = others.get("inception"), others.get("i3d")
    found.gaze, found.action_units = others.get("gaze"), others.get("action_units")
    if inception is not None:
        from mien.evaluate.metrics.fid import load_inception

        found.inception = load_inception(inception)
    if i3d is not None:
        from mien.evaluate.metrics.fvd import load_i3d

        found.i3d = load_i3d(i3d)
    return MetricNetworks(**{field.name: _on_cpu(getattr(found, field.name)) for field in fields(found)})


def stamps(pack: str | None) -> list[tuple[str, int, int]]:
    """Identify the packs that a measurement depends on: path, size and time of their files."""
    files = [locate(pack or "mini"), locate(METRICS_PACK)]
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if os.path.isfile(f)]


def _networks(name: str | None, fallback: str) -> dict[str, Any]:
    try:
        return dict(Pack.load(name or fallback).networks)
    except PackError:
        if name is not None or locate(fallback).is_file():
            raise
        return {}


def _on_cpu(network: Any) -> Any:
    """The network, or a copy where an encode in this process has moved it to another device: metrics are taken of pictures
    on the CPU."""
    first = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return network if first is None or first.device.type == "cpu" else copy.deepcopy(network).cpu()


def _is_arcface(networks: dict[str, Any]) -> bool:
    from mien.nets.arcface import ArcFace

    return isinstance(networks.get("identity"), ArcFace)
