"""Stage 2: inversion of every crop into W+, L_t = E(I_t) (the paper, Sec. 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mien.errors import InputError
from mien.media.images import to_float
from mien.nets.e4e import ReStyle, ReStyleLoop
from mien.nets.generator import Generator
from mien.packs.pack import Pack
from mien.runtime.frame_store import Crops
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
    encoder: nn.Module,
    crops: Crops,
    device: str | torch.device = "cpu",
    *,
    batch: int = BATCH,
    monitor: StageMonitor = UNWATCHED,
) -> Tensor:
    """L_t = E(I_t) for crops uint8 `[T, S, S, 3]`: `w_plus [T, L, D]`."""
    latents = torch.empty(0)
    for start in range(0, len(crops), batch):
        images = to_float(crops[start : start + batch], device=device)
        found = encoder(images).float()
        # In one piece: small ones between large temporaries keep the memory of those from being used again.
        if not start:
            latents = found.new_empty(len(crops), *found.shape[1:])
        latents[start : start + batch] = found
        monitor.tick(len(images))
    return latents
