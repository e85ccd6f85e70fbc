"""Stage 2: inversion of every crop into W+, L_t = E(I_t) (the paper, Sec. 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mien.errors import InputError
from mien.media.images import to_float
from mien.method.image_sequences import LatentFile
from mien.nets.e4e import ReStyle, ReStyleLoop
from mien.nets.generator import Generator
from mien.packs.pack import Pack
from mien.runtime.frame_store import ArrayFile, Crops
from mien.runtime.monitor import UNWATCHED, StageMonitor

BATCH = 16


@dataclass(frozen=True)
class InversionOptions:
    """`restyle`: several looks at each frame by the pack's ReStyle network (the ablation of the paper's Table 1), in place of
    one by its encoder."""

    restyle: bool = False


def encoder_of(pack: Pack, generator: Generator, options: InversionOptions) -> nn.Module:
    """What inverts images `[N, 3, H, W]` into `w_plus [N, L, D]`: the pack's encoder, or its ReStyle network, which looks at
    renders of `generator`. Raises InputError where the pack has no ReStyle network."""
    if not options.restyle:
        return pack.encoder
    network = pack.networks.get("restyle")
    if not isinstance(network, ReStyle):
        raise InputError(f"the pack {pack.name!r} has no ReStyle network: take its encoder.")
    return ReStyleLoop(network, generator)


@torch.no_grad()
def invert(
    encoder: nn.Module, crops: Crops, device: str | torch.device = "cpu", *, batch: int = BATCH
) -> Tensor:  # fmt: skip
    """L_t = E(I_t) for a few crops uint8 `[T, S, S, 3]`: `w_plus [T, L, D]`."""
    starts = range(0, len(crops), batch)
    return torch.cat([encoder(to_float(crops[i : i + batch], device=device)).float() for i in starts])


def invert_clip(
    encoder: nn.Module, crops: Crops, device: str | torch.device = "cpu", *, monitor: StageMonitor = UNWATCHED
) -> LatentFile:
    """L_t = E(I_t) for the crops of a clip, uint8 `[T, S, S, 3]`: `w_plus [T, L, D]`, on disk."""
    rows: ArrayFile | None = None
    for start in range(0, len(crops), BATCH):
        found = invert(encoder, crops[start : start + BATCH], device).cpu().numpy()
        rows = ArrayFile(found.shape[1:], np.float32) if rows is None else rows
        for row in found:
            rows.append(row)
        monitor.tick(len(found))
    assert rows is not None, "a clip has frames"
    return LatentFile(rows, str(device))
