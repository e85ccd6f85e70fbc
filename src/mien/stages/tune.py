"""Stage 2, second half: tuning for the person (the paper, Sec. 4.1: pivotal tuning, Roich et al. 2021).

One generator is tuned over all frames. Beyond the paper, the encoder is tuned along with it, since tuned weights alone
cannot bring back what the latents do not tell apart, and half of the renders take the way that the decoder will take:
the identity frame's latent, turned by the flow, with the frame's own values on the channels V. So the tuned generator
is one that 35 numbers a frame can drive, not only one that inverts well.

`refine` ends the encode: weights, identity latent and the frames' numbers, together, against the frames themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.models.styleflow import HeadPoseFlow
from mien.models.stylegan2 import Generator
from mien.packs.pack import Channel
from mien.stages.attributes import add_channels, read_channels
from mien.stages.checkpoint import NO_CHECKPOINT, Checkpoint, Loop
from mien.stages.invert import to_float
from mien.stages.precision import fast
from mien.stages.regions import Regions

# Larger encoders stay as they are, as in pivotal tuning: e4e's 267 million weights and their optimiser would take
# 4 GiB, and what so many learn from one clip is not the person.
LARGEST_TUNED_ENCODER = 50_000_000


@dataclass(frozen=True)
class TuneOptions:
    """`steps` of `batch` frames each; learning rates of generator and encoder; `locality`: weight of staying the same
    generator on other people; `perceptual`: weight beside the pixel loss; `resolution`: of the first two thirds of the
    steps, the last third runs at the generator's own."""

    steps: int = 240
    batch: int = 8
    generator_rate: float = 2e-3
    encoder_rate: float = 4e-4
    locality: float = 0.5
    perceptual: float = 0.3
    resolution: int = 128
    seed: int = 0


@dataclass(frozen=True)
class Tuned:
    """The tuned networks, and the loss of the last steps."""

    generator: Generator
    encoder: nn.Module
    loss: float


def tunable(generator: Generator) -> list[nn.Parameter]:
    """The weights that tuning may change: all but the affine layers, so that StyleSpace keeps its meaning."""
    return [p for name, p in generator.named_parameters() if ".affine." not in name]


def even_sampling(landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probability `[T]` of drawing each frame: rarer expressions (far from the clip's median) more often."""
    points = landmarks - landmarks.mean(1, keepdims=True)
    away = np.linalg.norm(points - np.median(points, axis=0), axis=2).mean(1)
    weight = 0.5 + away / max(float(away.mean()), 1e-6)
    return weight / weight.sum()


def batch_at(size: int, batch: int) -> int:
    """How many of `batch` frames a step takes at `size` pixels: a gradient at 1024x1024 fills about 1 GiB a frame."""
    return batch if size <= 512 else min(batch, 2)


def pyramid_loss(x: Tensor, y: Tensor, weight: Tensor, levels: int = 3) -> Tensor:
    """L1 and gradient L1 over a pyramid plus L2, weighted `[N, 1, h, w]`; a scalar."""
    weight = F.interpolate(weight, x.shape[-2:], mode="bilinear") if weight.shape[-1] != x.shape[-1] else weight
    total = ((x - y) * weight).square().mean() * 2
    for level in range(levels):
        d = (x - y) * weight
        total = total + (d.abs().mean() + d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean()) / levels
        if level < levels - 1:
            x, y, weight = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2), F.avg_pool2d(weight, 2)
    return total


def perceptual_loss(perceptual: Any, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Mean weighted feature difference of two batches, a scalar."""
    total = x.new_zeros(())
    with torch.no_grad():
        target = perceptual.features(y)
    for f, g in zip(perceptual.features(x), target, strict=True):
        mask = F.interpolate(weight, f.shape[-2:], mode="area")
        total = total + ((f - g).square().sum(1, keepdim=True) * mask).mean()
    return total


def tune(
    generator: Generator,
    encoder: nn.Module,
    flow: HeadPoseFlow,
    perceptual: Any,
    channels: Sequence[Channel],
    others: Tensor,
    crops: NDArray[np.uint8],
    landmarks: NDArray[np.floating],
    angles: Tensor,
    regions: Regions,
    anchor: int,
    options: TuneOptions = TuneOptions(),
    tick: Callable[[int], None] = lambda n: None,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> Tuned:
    """Tune copies of generator and encoder to a clip; the originals are left as they are.

    `others [M, L, D]`: latents of other people, for locality; `crops` uint8 `[T, S, S, 3]`; `landmarks [T, 478, 2]`;
    `angles [T, 2]` measured yaw and pitch in degrees; `anchor`: the identity frame. `tick(1)` after each step.
    Deterministic for a seed on one machine. `checkpoint` keeps what the steps change (the weights of both networks,
    Adam's moments, the random states, the last losses), so that a run that was stopped ends with the same weights.
    """
    random = np.random.RandomState(options.seed)
    original = generator
    generator = copy.deepcopy(generator)
    weights = tunable(generator)
    trained = [p.requires_grad_(True) for p in weights]
    inner: list[Tensor] = []
    if sum(p.numel() for p in encoder.parameters()) <= LARGEST_TUNED_ENCODER:
        encoder = copy.deepcopy(encoder)
        inner = [p.requires_grad_(True) for p in encoder.parameters()]
    optimiser = torch.optim.Adam(
        [{"params": trained, "lr": options.generator_rate}, {"params": inner, "lr": options.encoder_rate}],
        betas=(0.5, 0.99),
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    probability = even_sampling(landmarks)
    angles = flow.clamp(angles)
    device = generator.const.device
    attention = regions.attention
    resolution = min(options.resolution, generator.resolution)
    last = torch.full((10,), float("nan"))  # the losses of the last steps
    loop = Loop([*trained, *inner, last], optimiser, random, checkpoint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        first = loop.resume()
        tick(first)
        for step in range(first, options.steps):
            fall = 0.5 * (1 + np.cos(np.pi * step / options.steps)) * 0.95 + 0.05
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * fall * min(1.0, (step + 1) / 10)
            size = resolution if step < options.steps * 2 // 3 else generator.resolution
            chosen = random.choice(len(crops), batch_at(size, options.batch), p=probability)
            half = len(chosen) // 2
            images = to_float(crops[np.append(chosen, anchor)], device=device)
            target = images if size == images.shape[-1] else F.interpolate(images, (size, size), mode="area")
            weight = attention[torch.from_numpy(chosen)]
            with fast(device):
                w_plus = encoder(images).float()
                now = angles[anchor : anchor + 1].expand(half, -1)
                turned = flow(w_plus[-1:].expand(half, -1, -1), now, angles[torch.from_numpy(chosen[:half])])
                direct = generator.styles(w_plus[half:-1])
                driven = generator.styles(turned)
                own = generator.styles(w_plus[:half])
                driven = add_channels(driven, channels, read_channels(own, channels) - read_channels(driven, channels))
                styles = [torch.cat([a, b]) for a, b in zip(driven, direct, strict=True)]
                image = generator.synthesis_from_styles(styles, size)
                loss = pyramid_loss(image, target[:-1], weight)
                loss = loss + options.perceptual * perceptual_loss(perceptual, image, target[:-1], weight)
                if options.locality and step % 4 == 0:
                    loss = loss + options.locality * _locality(generator, original, others, random)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained + inner, 2.0)
            optimiser.step()
            last[step % len(last)] = loss.detach()
            loop.done(step)
            tick(1)
    for network in (generator, encoder):
        network.requires_grad_(False)
    return Tuned(generator, encoder, float(last.nanmean()))


def _locality(generator: Generator, original: Generator, others: Tensor, random: np.random.RandomState) -> Tensor:
    """Difference to the untuned generator on mixtures of other people's latents (PTI's locality regularisation)."""
    pick = random.choice(len(others), (2, 2))
    share = float(random.rand())
    latents = others[pick[0]] * share + others[pick[1]] * (1 - share)
    size = min(64, generator.resolution)
    with torch.no_grad():
        wanted = original.synthesis(latents, size)
    return (generator.synthesis(latents, size) - wanted).abs().mean()


@dataclass(frozen=True)
class RefineOptions:
    """The last joint pass. Learning rates of weights, identity latent, angles (degrees) and channels (units of their
    scale); `hold`: weight that keeps the numbers near where stages 4 and 5 put them; `smooth`: against jitter."""

    steps: int = 160
    batch: int = 8
    generator_rate: float = 1e-3
    identity_rate: float = 2e-3
    angle_rate: float = 0.1
    channel_rate: float = 0.04
    perceptual: float = 0.3
    hold: float = 2e-4
    locality: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Refined:
    """`identity [L, D]`, `angles [T, 2]`, `alpha [T, 32]`, all rounded to half floats, and the tuned generator."""

    generator: Generator
    identity: Tensor
    angles: Tensor
    alpha: Tensor


def refine(
    generator: Generator,
    original: Generator,
    flow: HeadPoseFlow,
    perceptual: Any,
    channels: Sequence[Channel],
    others: Tensor,
    crops: NDArray[np.uint8],
    landmarks: NDArray[np.floating],
    regions: Regions,
    identity: Tensor,
    angles: Tensor,
    alpha: Tensor,
    options: RefineOptions = RefineOptions(),
    tick: Callable[[int], None] = lambda n: None,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> Refined:
    """Generator, identity latent and the 34 numbers of each frame, together, against the frames I_t.

    The paper found real frames a bad target for its stage 5, where the generator is fixed and what it cannot draw
    turns into wrong numbers. Here the weights move too, and `hold` keeps the numbers where S_t put them.

    `checkpoint` keeps what the steps change (weights, identity latent, angles, channels, Adam's moments, the random
    states), so that a run that was stopped ends with the same numbers.
    """
    random = np.random.RandomState(options.seed + 1)
    generator = copy.deepcopy(generator)
    trained = [p.requires_grad_(True) for p in tunable(generator)]
    scale = torch.tensor([c.scale for c in channels], dtype=torch.float32, device=identity.device)
    w = identity.clone().requires_grad_(True)
    turn = angles.clone().requires_grad_(True)
    units = (alpha / scale).requires_grad_(True)
    turn_start, units_start = angles.clone(), (alpha / scale).clone()
    optimiser = torch.optim.Adam(
        [
            {"params": trained, "lr": options.generator_rate},
            {"params": [w], "lr": options.identity_rate},
            {"params": [turn], "lr": options.angle_rate},
            {"params": [units], "lr": options.channel_rate},
        ],
        betas=(0.5, 0.99),
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    probability = even_sampling(landmarks)
    attention = regions.attention
    device = generator.const.device
    loop = Loop([*trained, w, turn, units], optimiser, random, checkpoint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        first = loop.resume()
        tick(first)
        for step in range(first, options.steps):
            fall = 0.5 * (1 + np.cos(np.pi * step / options.steps)) * 0.95 + 0.05
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * fall * min(1.0, (step + 1) / 5)
            chosen = random.choice(len(crops), batch_at(generator.resolution, options.batch), p=probability)
            index = torch.from_numpy(chosen)
            target = to_float(crops[chosen], generator.resolution, device)
            with fast(device):
                posed = pose_latents(flow, w, turn[index])
                styles = add_channels(generator.styles(posed), channels, units[index] * scale)
                image = generator.synthesis_from_styles(styles)
                loss = pyramid_loss(image, target, attention[index])
                loss = loss + options.perceptual * perceptual_loss(perceptual, image, target, attention[index])
                if options.locality and step % 4 == 0:
                    loss = loss + options.locality * _locality(generator, original, others, random)
            strayed = (units[index] - units_start[index]).square().sum(1) + (
                turn[index] - turn_start[index]
            ).square().sum(1)
            loss = loss + options.hold * strayed.mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_([*trained, w], 2.0)
            optimiser.step()
            loop.done(step)
            tick(1)
    generator.requires_grad_(False)
    angles = flow.clamp(turn.detach()).half().float()
    return Refined(generator, w.detach().half().float(), angles, (units.detach() * scale).half().float())


def pose_latents(flow: HeadPoseFlow, identity: Tensor, angles: Tensor) -> Tensor:
    """LH_t: the identity latent `[L, D]`, facing the camera, turned to `angles [N, 2]` (degrees): `[N, L, D]`."""
    prior = flow.prior(identity[None], angles.new_zeros(1, 2))
    n = len(angles)
    return flow.place(identity.expand(n, -1, -1), prior.expand(n, -1, -1), angles)
