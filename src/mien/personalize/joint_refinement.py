"""The joint pass after stage 5 (ours): weights, identity latent and the frames' numbers, against the frames I_t."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mien.method.avatar import Avatar
from mien.nets.generator import Generator
from mien.personalize.generator_params import Weights
from mien.personalize.options import RefinementOptions
from mien.personalize.sampling import Batch, even_sampling, uniform_sampling
from mien.personalize.schedule import Schedule
from mien.personalize.trainer import Trainer
from mien.personalize.training_data import TrainingData
from mien.runtime.monitor import UNWATCHED, StageMonitor


@dataclass(frozen=True)
class RefinementResult:
    """`delta`: the tuned generator's difference to the pack's as it travels, uint8 `[B]`; `identity [L, D]`, `angles
    [T, 2]` in degrees, `alpha [T, C]`, all rounded to half floats."""

    delta: NDArray[np.uint8]
    identity: Tensor
    angles: Tensor
    alpha: Tensor


def refine(
    weights: Weights,
    data: TrainingData,
    identity: Tensor,
    angles: Tensor,
    alpha: Tensor,
    fixed: Tensor | None,
    options: RefinementOptions,
    *,
    monitor: StageMonitor = UNWATCHED,
) -> RefinementResult:
    """Weights, identity latent and the 34 numbers of each frame, together, against the frames I_t.

    The paper found real frames a bad target for its stage 5, where the generator is fixed and what it cannot draw
    turns into wrong numbers. Here the weights move too, and `hold` keeps the numbers where S_t put them.

    `identity [L, D]`, facing the camera; `angles [T, 2]` in degrees and `alpha [T, C]`: where they start; `fixed [T,
    C]` bool: values of `alpha` that stay, None for none. A run that was stopped and taken up again ends with the same
    numbers.
    """
    flow, channels = data.flow, data.channels
    w = identity.clone().requires_grad_(True)
    scale = Avatar(data.original, flow, channels, identity).scale
    turn = angles.clone().requires_grad_(True)
    units = (alpha / scale).requires_grad_(True)
    if fixed is not None:
        # A value whose gradient is always zero has no momentum either, so Adam leaves it where it is.
        units.register_hook(lambda gradient: gradient.masked_fill(fixed, 0.0))
    turn_start, units_start = angles.clone(), (alpha / scale).clone()
    more = [([w], options.identity_rate), ([turn], options.angle_rate), ([units], options.channel_rate)]
    schedule = Schedule.of(options, resolution=data.original.resolution, low_steps=0, warm=5, seed=options.seed + 1)
    probability = even_sampling(data.landmarks) if options.even_sampling else uniform_sampling(len(data.crops))
    trainer = Trainer(weights, data, options.generator_rate, more, schedule, probability, monitor)

    def step(generator: Generator, batch: Batch) -> tuple[list[Tensor], Tensor]:
        index = batch.index
        styles = Avatar(generator, flow, channels, w).styles(flow.clamp(turn[index]), units[index] * scale)
        strayed = (units[index] - units_start[index]).square().sum(1)
        strayed = strayed + (turn[index] - turn_start[index]).square().sum(1)
        return styles, options.hold * strayed.mean()

    trainer.run(step)
    _, blob = weights.export()
    angles = flow.clamp(turn.detach()).half().float()
    delta = np.frombuffer(blob, np.uint8)
    return RefinementResult(delta, w.detach().half().float(), angles, (units.detach() * scale).half().float())
