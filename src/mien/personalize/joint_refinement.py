"""The last joint pass: weights, identity latent and the frames' numbers, against the frames I_t."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from mien.method.avatar import Avatar
from mien.nets.generator import Generator
from mien.personalize.generator_params import Weights
from mien.personalize.motion_regularizer import MotionLocality
from mien.personalize.pti import TuneOptions
from mien.personalize.trainer import Drawn, Material, Schedule, Trainer
from mien.runtime.resumable_loop import NO_CHECKPOINT, Checkpoint


@dataclass(frozen=True)
class RefineOptions:
    """The last joint pass. `steps`, `passes`, `batch`, `least_gain`, `motion`: as in `TuneOptions`. Learning rates of weights,
    identity latent, angles (degrees) and channels (units of their scale); `hold`: weight that keeps the numbers near
    where stages 4 and 5 put them."""

    steps: int = 120
    passes: float = 4.8
    batch: int = 4
    generator_rate: float = 4e-3
    identity_rate: float = 2e-3
    angle_rate: float = 0.1
    channel_rate: float = 0.04
    perceptual: float = 0.3
    hold: float = 2e-4
    locality: float = 0.5
    least_gain: float = 0.002
    motion: float = 5.0
    seed: int = 0


Options = TypeVar("Options", TuneOptions, RefineOptions)


def for_clip(options: Options, frames: int, effort: float = 1.0) -> Options:
    """The options with as many steps as a clip of so many frames takes, times `effort`."""
    steps = max(options.steps, options.passes * frames / options.batch)
    return replace(options, steps=max(math.ceil(steps * effort), 1))


@dataclass(frozen=True)
class Refined:
    """`identity [L, D]`, `angles [T, 2]`, `alpha [T, 32]`, all rounded to half floats; the tuned generator as the
    receiver will have it, and `blob`, its difference to the pack's."""

    generator: Generator
    blob: bytes
    identity: Tensor
    angles: Tensor
    alpha: Tensor


def refine(
    weights: Weights,
    material: Material,
    identity: Tensor,
    angles: Tensor,
    alpha: Tensor,
    options: RefineOptions = RefineOptions(),
    tick: Callable[[int], None] = lambda n: None,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> Refined:
    """Weights, identity latent and the 34 numbers of each frame, together, against the frames I_t.

    The paper found real frames a bad target for its stage 5, where the generator is fixed and what it cannot draw
    turns into wrong numbers. Here the weights move too, and `hold` keeps the numbers where S_t put them.

    `checkpoint`: as in `tune`.
    """
    flow, channels = material.flow, material.channels
    scale = torch.tensor([c.scale for c in channels], dtype=torch.float32, device=identity.device)
    w = identity.clone().requires_grad_(True)
    turn = angles.clone().requires_grad_(True)
    units = (alpha / scale).requires_grad_(True)
    turn_start, units_start = angles.clone(), (alpha / scale).clone()
    more = [([w], options.identity_rate), ([turn], options.angle_rate), ([units], options.channel_rate)]
    schedule = Schedule(
        options.steps, options.batch, material.original.resolution, 0, 5, options.perceptual, options.locality,
        options.least_gain, options.seed + 1,
    )  # fmt: skip
    trainer = Trainer(weights, material, options.generator_rate, more, schedule, tick, checkpoint)
    motion = MotionLocality(material, identity, options.motion if weights.groups else 0.0, options.seed)

    def step(generator: Generator, drawn: Drawn) -> tuple[list[Tensor], Tensor]:
        index = drawn.index
        styles = Avatar(generator, flow, channels, w).styles(turn[index], units[index] * scale)
        strayed = (units[index] - units_start[index]).square().sum(1) + (turn[index] - turn_start[index]).square().sum(
            1
        )
        kept = motion(generator, w, drawn.number)
        held = options.hold * strayed.mean()
        return styles, held if kept is None else held + kept

    trainer.run(step)
    generator, blob = weights.finish()
    angles = flow.clamp(turn.detach()).half().float()
    return Refined(generator, blob, w.detach().half().float(), angles, (units.detach() * scale).half().float())
