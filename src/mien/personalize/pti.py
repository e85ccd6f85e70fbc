"""Stage 2, second half: tuning for the person (the paper, Sec. 4.1: pivotal tuning, Roich et al. 2021).

One generator is tuned over all frames. Beyond the paper, the encoder is tuned along with it, since tuned weights alone
cannot bring back what the latents do not tell apart, and half of the renders take the way that the decoder will take:
the identity frame's latent, turned by the flow, with the frame's own values on the channels V. So the tuned generator
is one that 35 numbers a frame can drive, not only one that inverts well.

`mien.personalize.joint_refinement` ends the encode. Both train whatever `mien.personalize.generator_params` says a
person is (all weights, or few bytes), with the loop of `mien.personalize.trainer`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mien.media.images import to_float
from mien.nets.generator import Generator
from mien.nets.stylespace import add_channels, read_channels
from mien.personalize.generator_params import Weights
from mien.personalize.motion_regularizer import MotionLocality
from mien.personalize.trainer import Drawn, Material, Schedule, Trainer
from mien.runtime.resumable_loop import NO_CHECKPOINT, Checkpoint

# Larger encoders stay as they are, as in pivotal tuning: e4e's 267 million weights and their optimiser would take
# 4 GiB, and what so many learn from one clip is not the person.
LARGEST_TUNED_ENCODER = 50_000_000


@dataclass(frozen=True)
class TuneOptions:
    """`steps` of `batch` frames each, and more on a long clip, so that each frame is drawn `passes` times on average
    (`for_clip`); learning rates of generator and encoder; `locality`: weight of staying the same generator on other
    people; `perceptual`: weight beside the pixel loss; `resolution`: of the first two thirds of the steps, but at most
    half of the generator's own, at which the last third runs; `least_gain`: early stop (`Schedule`), 0 for none;
    `motion`: weight of going on to move as the pack's generator does (`mien.personalize.motion_regularizer`)."""

    steps: int = 60
    passes: float = 2.0
    batch: int = 4
    generator_rate: float = 6e-3
    encoder_rate: float = 4e-4
    locality: float = 0.5
    perceptual: float = 0.3
    resolution: int = 256
    least_gain: float = 0.002
    motion: float = 5.0
    seed: int = 0


@dataclass(frozen=True)
class Tuned:
    """`generator`: as the receiver will have it, from `blob`, its difference to the pack's. `encoder`: the tuned one.
    `loss`: the mean of the last steps."""

    generator: Generator
    blob: bytes
    encoder: nn.Module
    loss: float


def tune(
    weights: Weights,
    encoder: nn.Module,
    material: Material,
    angles: Tensor,
    anchor: int,
    options: TuneOptions = TuneOptions(),
    tick: Callable[[int], None] = lambda n: None,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> Tuned:
    """Tune `weights` and a copy of the encoder to a clip; the pack's generator is left as it is.

    `angles [T, 2]`: measured yaw and pitch in degrees; `anchor`: the identity frame. `tick(1)` after each step.
    Deterministic for a seed on one machine. `checkpoint` keeps what the steps change, so that a run that was stopped
    ends with the same weights.
    """
    inner: list[Tensor] = []
    if sum(p.numel() for p in encoder.parameters()) <= LARGEST_TUNED_ENCODER:
        encoder = copy.deepcopy(encoder)
        inner = [p.requires_grad_(True) for p in encoder.parameters()]
    flow, channels, full = material.flow, material.channels, material.original.resolution
    angles = flow.clamp(angles)
    device = material.original.device
    schedule = Schedule(
        options.steps, options.batch, min(options.resolution, full // 2), options.steps * 2 // 3,
        10, options.perceptual, options.locality, options.least_gain, options.seed,
    )  # fmt: skip
    trainer = Trainer(
        weights, material, options.generator_rate, [(inner, options.encoder_rate)], schedule, tick, checkpoint
    )

    with torch.no_grad():
        first = to_float(material.crops[anchor : anchor + 1], device=device)
        facing = angles.new_zeros(1, 2)
        start = flow(encoder(first).float(), angles[anchor : anchor + 1], facing)[0]
    motion = MotionLocality(material, start, options.motion if weights.groups else 0.0, options.seed)

    def step(generator: Generator, drawn: Drawn) -> tuple[list[Tensor], Tensor | None]:
        index = torch.cat([drawn.index, torch.tensor([anchor])])
        w_plus = encoder(to_float(material.crops[index.numpy()], device=device)).float()
        half = len(drawn.index) // 2
        now = angles[anchor : anchor + 1].expand(half, -1)
        turned = flow(w_plus[-1:].expand(half, -1, -1), now, angles[drawn.index[:half]])
        direct = generator.styles(w_plus[half:-1])
        driven = generator.styles(turned)
        own = generator.styles(w_plus[:half])
        wanted = read_channels(own, channels)
        driven = add_channels(driven, channels, wanted - read_channels(driven, channels))
        return [torch.cat([a, b]) for a, b in zip(driven, direct, strict=True)], motion(generator, start, drawn.number)

    loss = trainer.run(step)
    encoder.requires_grad_(False)
    generator, blob = weights.finish()
    return Tuned(generator, blob, encoder, loss)
