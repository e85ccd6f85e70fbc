"""The pivot of an image, optimised: PTI's first step (Roich et al. 2021, Sec. 3.1).

PTI starts from the mean of W; here it is the encoder's answer. The paper leaves that as it is, and so do clips: there
tuning makes good what the encoder missed. Only the W of a mapping network is one that a latent can be held to: away
from the latents of an autoencoder's people irises take colours and outlines glow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.media.images import to_float
from mien.method.likeness import LikenessLoss, LikenessWeights
from mien.packs.pack import Pack
from mien.runtime.fused_adam import FusedAdam

LAST_SHARE = 0.05  # of the rate at the start, what is left at the end
WARM_UP_STEPS = 5


@dataclass(frozen=True)
class PivotOptions:
    """How the pivot is found: `steps` of Adam at `rate`, in standard deviations of W, in pictures of `size` pixels.

    `likeness`: weights of what is compared; `hold`: weight of the squared difference to the encoder's answer, in
    standard deviations of W. What all rows have in common is held a tenth as much: it stays in W, where a latent can be
    edited (e4e's reason for small offsets: Tov et al. 2021).
    """

    steps: int = 80
    rate: float = 0.1
    size: int = 256
    likeness: LikenessWeights = field(default_factory=LikenessWeights)
    hold: float = 0.005


def usable(options: PivotOptions | None, pack: Pack) -> PivotOptions | None:
    """The options where the pack's latents are those of a mapping network, else None."""
    return options if "mapping" in pack.networks else None


def optimise_pivot(
    pack: Pack,
    w_plus: Tensor,
    crop: NDArray[np.uint8],
    options: PivotOptions,
    tick: Callable[[int], None] = lambda n: None,
) -> Tensor:
    """The latent `[1, L, D]` of a crop uint8 `[1, S, S, 3]` in FFHQ framing, from the encoder's answer `w_plus [1, L, D]`.

    `tick` is called with 1 after each step. Deterministic on one machine.
    """
    device, size = w_plus.device, min(options.size, pack.resolution)
    target = F.interpolate(to_float(crop, device=device), (size, size), mode="area")
    likeness = LikenessLoss(pack, target, options.likeness)
    spread = pack.people.float().flatten(0, 1).std(0).to(device)
    offset = torch.zeros_like(w_plus, requires_grad=True)
    optimiser = FusedAdam([{"params": [offset]}], (0.9, 0.99), fused=False)
    with torch.enable_grad():
        for step in range(options.steps):
            share = LAST_SHARE + (1 - LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * step / options.steps))
            optimiser.param_groups[0]["lr"] = options.rate * share * min(1.0, (step + 1) / WARM_UP_STEPS)
            made = pack.generator.picture(pack.generator.styles(w_plus + offset * spread), size)
            shared = offset.mean(1, keepdim=True)
            held = (offset - shared).square().mean() + 0.1 * shared.square().mean()
            (offset.grad,) = torch.autograd.grad(likeness(made) + options.hold * held, [offset])
            optimiser.step()
            tick(1)
    return (w_plus + offset * spread).detach()
