"""The pivot, optimised: PTI's first step (Roich et al. 2021, Sec. 3.1), after stage 2 and before pivotal tuning.

PTI optimises the latent of one image from the mean of W. Here it starts from the encoder's answer, and one difference
in W+ serves all frames of a person: it is who they are that the encoder misses, and what tells their frames apart
stays the encoder's. The paper leaves the encoder's answer as it is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.media.images import to_float
from mien.method.stage2_invert import invert
from mien.nets.generator import Generator
from mien.nets.perceptual import Analysis, distance_maps
from mien.packs.pack import Pack
from mien.runtime.frame_store import Crops
from mien.runtime.monitor import UNWATCHED, StageMonitor

PYRAMID = (1, 2, 4, 8)  # pixels that are averaged before pictures are compared
DISTANCE_SIZE = 32  # side of the maps of perceptual distance
LAST_SHARE = 0.05  # of the rate at the start, what is left at the end
WARM_UP_STEPS = 5


@dataclass(frozen=True)
class PivotOptions:
    """How the difference is found: `steps` of Adam at `rate`, in standard deviations of W, each on `batch` of at most
    `frames` frames in pictures of `size` pixels. Weights of the loss: the mean absolute difference over a pyramid
    counts 1; `perceptual` distance; `landmarks`, in sides of the picture; `identity`, one less the cosine; `hold`: of
    the squared difference, in standard deviations of W; what all rows have in common is held a tenth as much, for it
    stays in W (e4e's reason for small offsets: Tov et al. 2021)."""

    steps: int = 80
    batch: int = 2
    frames: int = 16
    rate: float = 0.06
    size: int = 128
    perceptual: float = 0.3
    landmarks: float = 4.0
    identity: float = 0.5
    hold: float = 0.02
    seed: int = 0


def optimise_pivot(
    pack: Pack,
    generator: Generator,
    w_plus: Tensor,
    crops: NDArray[np.uint8],
    options: PivotOptions,
    tick: Callable[[int], None] = lambda n: None,
) -> Tensor:
    """What to add to the latents `w_plus [K, L, D]` of a person's crops uint8 `[K, S, S, 3]` in FFHQ framing, `[L, D]`.

    `pack`: whose networks tell how alike two pictures are; `tick`: called with 1 after each step. Deterministic for a
    seed on one machine.
    """
    device, size = w_plus.device, min(options.size, generator.resolution)
    target = F.interpolate(to_float(crops, device=device), (size, size), mode="area")
    loss = _Likeness(pack, target, options)
    spread = pack.people.float().flatten(0, 1).std(0).to(device)
    offset = torch.zeros(w_plus.shape[1:], device=device, requires_grad=True)
    optimiser = torch.optim.Adam([offset], betas=(0.9, 0.99))
    random = np.random.RandomState(options.seed)
    with torch.enable_grad():
        for step in range(options.steps):
            share = LAST_SHARE + (1 - LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * step / options.steps))
            optimiser.param_groups[0]["lr"] = options.rate * share * min(1.0, (step + 1) / WARM_UP_STEPS)
            index = torch.from_numpy(random.permutation(len(crops))[: options.batch]).to(device)
            made = generator.picture(generator.styles(w_plus[index] + offset * spread), size)
            shared = offset.mean(0, keepdim=True)
            held = (offset - shared).square().mean() + 0.1 * shared.square().mean()
            optimiser.zero_grad()
            (gradient,) = torch.autograd.grad(loss(made, index) + options.hold * held, [offset])
            offset.grad = gradient
            optimiser.step()
            tick(1)
    return (offset * spread).detach()


class _Likeness:
    """How far pictures are from those of `target [K, 3, S, S]`."""

    def __init__(self, pack: Pack, target: Tensor, options: PivotOptions) -> None:
        self._perceptual, self._identity = pack.perceptual, pack.networks.get("identity")
        self._target, self._options = target, options
        with torch.no_grad():
            self._seen = self._perceptual.analyse(target, landmarks=True)
            self._person = None if self._identity is None else F.normalize(self._identity(target), dim=1)

    def __call__(self, made: Tensor, index: Tensor) -> Tensor:
        """The mean over pictures `made [N, 3, S, S]` of the targets `index [N]`."""
        options, target = self._options, self._target[index]
        terms = [(F.avg_pool2d(made, k) - F.avg_pool2d(target, k)).abs().mean() / len(PYRAMID) for k in PYRAMID]
        shown: Analysis = self._perceptual.analyse(made, landmarks=True)
        known = [f[index] for f in self._seen.features]
        terms.append(options.perceptual * distance_maps(shown.features, known, DISTANCE_SIZE).mean())
        if shown.landmarks is not None and self._seen.landmarks is not None:
            terms.append(options.landmarks * (shown.landmarks - self._seen.landmarks[index]).abs().mean())
        if self._identity is not None and self._person is not None:
            alike = (F.normalize(self._identity(made), dim=1) * self._person[index]).sum(1)
            terms.append(options.identity * (1 - alike).mean())
        return torch.stack(terms).sum()


@dataclass(frozen=True)
class PivotOffset:
    """What is added to the latents of a clip, `w_plus [L, D]`."""

    w_plus: Tensor


def pivot_of_clip(
    pack: Pack, generator: Generator, encoder: nn.Module, crops: Crops, options: PivotOptions, *,
    monitor: StageMonitor = UNWATCHED,
) -> PivotOffset:  # fmt: skip
    """The difference for a clip's crops uint8 `[T, S, S, 3]`, from frames spread evenly over it (`optimise_pivot`)."""
    chosen = crops[np.unique(np.linspace(0, len(crops) - 1, options.frames).round().astype(int))]
    w_plus = invert(encoder, chosen, pack.device)
    return PivotOffset(optimise_pivot(pack, generator, w_plus, chosen, options, monitor.tick))


def moved_encoder(encoder: nn.Module, offset: Tensor) -> nn.Module:
    """A copy of an encoder whose answers are `offset [L, D]` further."""
    moved = copy.deepcopy(encoder)
    mean = moved.w_mean
    assert isinstance(mean, Tensor)
    mean += offset
    return moved
