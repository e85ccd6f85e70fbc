"""Pivotal tuning for the person (the paper, Sec. 4.1; Roich et al. 2021): one generator is tuned over all frames.

Beyond the paper, and an option: the encoder is tuned along, since tuned weights alone cannot bring back what the
latents do not tell apart.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.media.images import to_float
from mien.method.image_sequences import Latents
from mien.nets.e4e import ReStyleLoop
from mien.nets.generator import Generator
from mien.packs.pack import Pack
from mien.personalize.generator_params import Weights
from mien.personalize.losses import pivot_locality_loss
from mien.personalize.options import TuningOptions
from mien.personalize.sampling import Batch, even_sampling, uniform_sampling
from mien.personalize.schedule import Schedule
from mien.personalize.trainer import Once, Step, Trainer
from mien.personalize.training_data import TrainingData
from mien.runtime.monitor import UNWATCHED, StageMonitor

# Larger encoders stay as they are, as in pivotal tuning: e4e's 267 million weights and their optimiser would take
# 4 GiB, and what so many learn from one clip is not the person.
LARGEST_TUNED_ENCODER = 50_000_000
WARM_UP_STEPS = 10  # at most: until the rates are full


@dataclass(frozen=True)
class TunedWeights:
    """What tuning gave: the generator's difference to the pack's as it travels, `delta` uint8 `[B]`, and the weights of
    the `encoder [P]`, empty where it was not tuned."""

    delta: NDArray[np.uint8]
    encoder: Tensor

    def encoder_for(self, pack: Pack) -> nn.Module:
        """A copy of the pack's encoder with the tuned weights."""
        encoder = copy.deepcopy(pack.encoder)
        parameters = list(encoder.parameters())
        with torch.no_grad():
            for p, values in zip(parameters, self.encoder.split([p.numel() for p in parameters]), strict=True):
                p.copy_(values.view(p.shape))
        return encoder


def learns_encoder(encoder: nn.Module, options: TuningOptions) -> bool:
    """Whether tuning moves the encoder, so that the pivots have to be looked for again."""
    small = sum(p.numel() for p in encoder.parameters()) <= LARGEST_TUNED_ENCODER
    return options.encoder_rate is not None and small and not isinstance(encoder, ReStyleLoop)


def pivotal_tuning(
    weights: Weights,
    encoder: nn.Module,
    data: TrainingData,
    pivots: Latents | None,
    options: TuningOptions,
    *,
    monitor: StageMonitor = UNWATCHED,
) -> TunedWeights:
    """Tune `weights`, and a copy of the encoder where that is small, to a clip; the pack's networks stay as they are.

    `pivots [T, L, D]`: the latents that stay fixed where the encoder is not tuned, in memory or on disk; None to ask
    the encoder for them.
    Deterministic for a seed on one machine; a run that was stopped and taken up again ends with the same weights.
    """
    rates: list[tuple[list[Tensor], float]] = []
    learned = learns_encoder(encoder, options)
    if learned and options.encoder_rate is not None:
        encoder = copy.deepcopy(encoder)
        rates = [([p.requires_grad_(True) for p in encoder.parameters()], options.encoder_rate)]
    full = data.original.resolution
    schedule = Schedule.of(
        options,
        resolution=min(options.resolution, full // 2),
        low_steps=options.steps * 2 // 3 if options.coarse_first else 0,
        warm=min(WARM_UP_STEPS, max(options.steps // 2, 1)),
        seed=options.seed,
    )
    probability = even_sampling(data.landmarks) if options.even_sampling else uniform_sampling(len(data.crops))
    trainer = Trainer(weights, data, options.generator_rate, rates, schedule, probability, monitor)
    device = data.original.device

    def latents(index: Tensor) -> Tensor:
        if pivots is not None and not learned:
            return pivots[index]
        return encoder(to_float(data.crops[index.numpy()], device=device)).float()

    trainer.run(*_objective(latents, weights, data, options))
    encoder.requires_grad_(False)
    _, blob = weights.export()
    found = [p.detach().reshape(-1) for p in encoder.parameters()] if learned else []
    return TunedWeights(np.frombuffer(blob, np.uint8), torch.cat(found) if found else torch.zeros(0))


def _objective(
    latents: Callable[[Tensor], Tensor], weights: Weights, data: TrainingData, options: TuningOptions
) -> tuple[Step, Once]:
    """The styles of the frames that are drawn, and PTI's locality."""
    pivot_locality = options.pivot_locality

    def step(generator: Generator, batch: Batch) -> tuple[list[Tensor], None]:
        return generator.styles(latents(batch.index)), None

    def once(generator: Generator, batch: Batch) -> Tensor | None:
        if pivot_locality is None or not weights.groups or batch.step % pivot_locality.interval:
            return None
        random = np.random.RandomState([options.seed, batch.step])
        other = data.others[random.randint(len(data.others))]
        pivot = latents(batch.index[:1])[0].detach()
        return pivot_locality_loss(generator, data.original, data.perceptual, pivot, other, pivot_locality)

    return step, once
