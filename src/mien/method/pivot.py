"""The pivot of an image, optimised: PTI's first step (Roich et al. 2021, Sec. 3.1).

PTI starts from the mean of W; here it is the encoder's answer. The paper leaves that as it is, and so do clips: there
tuning makes good what the encoder missed. Only the W of a mapping network is one that a latent can be held to: away
from the latents of an autoencoder's people irises take colours and outlines glow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.media.images import to_float
from mien.nets.perceptual import distance_maps
from mien.packs.pack import Pack

PYRAMID = (1, 2, 4, 8)  # pixels that are averaged before pictures are compared
DISTANCE_SIZE = 32  # side of the maps of perceptual distance
LAST_SHARE = 0.05  # of the rate at the start, what is left at the end
WARM_UP_STEPS = 5


@dataclass(frozen=True)
class PivotOptions:
    """How the pivot is found: `steps` of Adam at `rate`, in standard deviations of W, in pictures of `size` pixels.

    Weights of the loss: the mean absolute difference over a pyramid counts 1; `perceptual` distance; `landmarks`, in
    sides of the picture; `identity`, one less the cosine; `hold`: of the squared difference to the encoder's answer, in
    standard deviations of W. What all rows have in common is held a tenth as much: it stays in W, where a latent can be
    edited (e4e's reason for small offsets: Tov et al. 2021).
    """

    steps: int = 80
    rate: float = 0.1
    size: int = 256
    perceptual: float = 0.3
    landmarks: float = 4.0
    identity: float = 0.5
    hold: float = 0.005


def can_optimise(pack: Pack) -> bool:
    """Whether the pack's latents are those of a mapping network."""
    return "mapping" in pack.networks


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
    likeness = _Likeness(pack, F.interpolate(to_float(crop, device=device), (size, size), mode="area"), options)
    spread = pack.people.float().flatten(0, 1).std(0).to(device)
    offset = torch.zeros_like(w_plus, requires_grad=True)
    optimiser = torch.optim.Adam([offset], betas=(0.9, 0.99))
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


class _Likeness:
    """How far a picture is from `target [1, 3, S, S]`."""

    def __init__(self, pack: Pack, target: Tensor, options: PivotOptions) -> None:
        self._perceptual, self._identity = pack.perceptual, pack.networks.get("identity")
        self._target, self._options = target, options
        with torch.no_grad():
            self._seen = self._perceptual.analyse(target, landmarks=True)
            self._person = None if self._identity is None else F.normalize(self._identity(target), dim=1)

    def __call__(self, made: Tensor) -> Tensor:
        """The loss of `made [1, 3, S, S]`."""
        options, target = self._options, self._target
        terms = [(F.avg_pool2d(made, k) - F.avg_pool2d(target, k)).abs().mean() / len(PYRAMID) for k in PYRAMID]
        shown = self._perceptual.analyse(made, landmarks=True)
        terms.append(options.perceptual * distance_maps(shown.features, self._seen.features, DISTANCE_SIZE).mean())
        if shown.landmarks is not None and self._seen.landmarks is not None:
            terms.append(options.landmarks * (shown.landmarks - self._seen.landmarks).abs().mean())
        if self._identity is not None and self._person is not None:
            terms.append(options.identity * (1 - F.cosine_similarity(self._identity(made), self._person).mean()))
        return torch.stack(terms).sum()
