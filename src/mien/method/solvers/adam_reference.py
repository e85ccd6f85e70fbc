"""Stages 4 and 5 in the paper's plain form: gradient descent, one frame after the other (Eq. 2, Algorithm 1, Eq. 7-12).

The reference that `method.stage4_pose` and `method.stage5_attributes` are measured against (`--optimizer reference`),
with the same problems and the same results. Slow on purpose: nothing here is shared between frames but what the paper
shares.

The paper's numbers of epochs, learning rates and weights are in its supplement; those here are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mien.face.masks import Masks
from mien.method.avatar import Avatar
from mien.method.image_sequences import BATCH
from mien.method.index_sensitivity import Candidates, index_sensitivity
from mien.method.losses import AttributeObjective, AttributeWeights, identity_loss, parsing_loss
from mien.method.problems import AttributeProblem, PoseProblem
from mien.method.stage4_pose import PoseObjective
from mien.method.types import Attributes, HeadPose
from mien.nets.perceptual import PerceptualNetwork
from mien.runtime.monitor import UNWATCHED, StageMonitor

# Which mask an attribute's sensitivity is measured over (Eq. 5) and its losses are taken over (Eq. 10-12).
MASK_OF = {"mouth": 0, "jaw": 0, "eyes": 1, "brows": 1, "gaze": 2, "other": 3}


@dataclass(frozen=True)
class AdamPoseOptions:
    """`epochs` of Adam a frame at `rate` degrees; `smooth`: weight per squared degree of leaving the angles of the
    frame before; `size`, `perceptual`: as in `PoseOptions`."""

    epochs: int = 60
    rate: float = 0.5
    smooth: float = 1e-6
    size: int | None = None
    perceptual: float = 0.05


@dataclass(frozen=True)
class AdamAttributeOptions:
    """`target`, `size`: as in `AttributeOptions`; `epochs` of Adam a frame; `rate`: its step in units of a channel's
    scale where Eq. 8's rate is one; `limit`: largest |alpha| in those units; `probes`: frames over which Gamma is
    averaged for Eq. 8; `weights`: those of Eq. 9 to 12, without an L2 over the face."""

    target: Literal["inversion", "frame"] = "inversion"
    size: int | None = None
    epochs: int = 100
    rate: float = 0.05
    limit: float = 8.0
    probes: int = 3
    weights: AttributeWeights = field(default_factory=lambda: AttributeWeights(face=0.0))


class Adam:
    """The descent direction F' of Algorithm 1 (Kingma & Ba 2015): a unit-sized step for each number of `[K]`."""

    def __init__(self, like: Tensor, betas: tuple[float, float] = (0.9, 0.99), epsilon: float = 1e-10) -> None:
        self.mean, self.square = torch.zeros_like(like), torch.zeros_like(like)
        self.betas, self.epsilon, self.count = betas, epsilon, 0

    def __call__(self, gradient: Tensor) -> Tensor:
        self.count += 1
        a, b = self.betas
        self.mean = a * self.mean + (1 - a) * gradient
        self.square = b * self.square + (1 - b) * gradient.square()
        mean, square = self.mean / (1 - a**self.count), self.square / (1 - b**self.count)
        return mean / (square.sqrt() + self.epsilon)


def fit_pose_reference(
    problem: PoseProblem, options: AdamPoseOptions, *, monitor: StageMonitor = UNWATCHED
) -> HeadPose:
    """Eq. 2, frame by frame: Adam on yaw and pitch through the flow and the generator.

    The first frame starts at its measured angles, each later one at the angles found for the frame before it and is
    held near them (temporal consistency).
    """
    avatar, targets = problem.avatar, problem.targets
    flow, generator = avatar.flow, avatar.generator
    measured = flow.clamp(problem.measured.float())
    found = torch.zeros_like(measured)
    final, initial = measured.new_zeros(len(measured)), measured.new_zeros(len(measured))
    for t in range(len(measured)):
        target = targets[t : t + 1]
        masks = problem.masks.part(slice(t, t + 1))
        objective = PoseObjective(problem.perceptual, target, masks, options.perceptual)

        def loss_at(angles: Tensor) -> Tensor:
            styles = generator.styles(avatar.latents(angles))
            return objective(generator.picture(styles, target.shape[-1]), slice(None)).square().sum()  # noqa: B023

        with torch.no_grad():
            initial[t] = loss_at(measured[t : t + 1])
        before = found[t - 1 : t] if t else None
        angles = (measured[:1] if before is None else before).clone()
        direction = Adam(angles)
        best, best_loss = angles, float("inf")
        for epoch in range(options.epochs + 1):
            angles = angles.detach().requires_grad_(True)
            loss = loss_at(angles)
            held = loss if before is None else loss + options.smooth * (angles - before).square().sum()
            if held.item() < best_loss:
                best, best_loss, final[t] = angles.detach(), held.item(), loss.detach()
            if epoch < options.epochs:
                (gradient,) = torch.autograd.grad(held, angles)
                rate = options.rate * (1 - epoch / options.epochs)
                angles = flow.clamp(angles.detach() - rate * direction(gradient))
        found[t] = best[0]
        monitor.tick(1)
    return HeadPose(found.half().float(), final, initial)


@torch.no_grad()
def learning_rates(
    avatar: Avatar,
    perceptual: PerceptualNetwork,
    angles: Tensor,
    regions: Masks,
    frames: Sequence[int],
    size: int = 64,
) -> Tensor:
    """Eq. 8: eta_{f,i} = exp(-1.5 Gamma_{f,i} / max over i in V_f of Gamma_{f,i}), `[32]` in [exp(-1.5), 1].

    Gamma is Eq. 5 at LH_t of some `frames`, over the mask of each channel's own attribute f.
    """
    channels, generator = avatar.channels, avatar.generator
    candidates = Candidates.of(channels)
    column = torch.tensor([MASK_OF.get(c.attribute, 3) for c in channels])
    gamma = torch.zeros(len(channels))
    for t in frames:
        here = regions.part(slice(t, t + 1))
        masks = torch.cat([m[0] for m in (here.mouth, here.eyes, here.pupils, here.face)])
        styles = generator.styles(avatar.latents(angles[t : t + 1]))
        table = index_sensitivity(generator, perceptual, styles, masks, candidates, resolution=size)
        gamma += table.inside.gather(1, column[:, None])[:, 0] / len(frames)
    rates = torch.ones(len(channels))
    for f in column.unique():
        own = column == f
        rates[own] = torch.exp(-1.5 * gamma[own] / gamma[own].max().clamp_min(1e-12))
    return rates.to(angles.device)


def fit_attributes_reference(
    problem: AttributeProblem, options: AdamAttributeOptions, *, monitor: StageMonitor = UNWATCHED
) -> Attributes:
    """Algorithm 1, frame by frame.

    The problem's start is not looked at: the first frame starts at A(LH_1), each later one at the channel values of the
    frame before (Eq. 7).

    The identity loss compares with the identity frame at t = 1 and with the first rendered frame after it.
    """
    avatar, networks, angles = problem.avatar, problem.networks, problem.angles
    generator, scale, gaze = avatar.generator, avatar.scale, avatar.gaze
    weights = options.weights
    probes = torch.linspace(0, len(angles) - 1, min(options.probes, len(angles))).round().long().tolist()
    rates = options.rate * learning_rates(avatar, networks.perceptual, angles, problem.masks, probes)
    with torch.no_grad():
        base = torch.cat([avatar.read(generator.styles(avatar.latents(some))) for some in angles.split(BATCH)])
        code = networks.identity(problem.identity_image) if networks.identity is not None else None
    found = torch.zeros_like(base)
    final, initial = base.new_zeros(len(base)), base.new_zeros(len(base))
    wrong: Tensor | None = None
    for t in range(len(base)):
        part = slice(t, t + 1)
        target = problem.targets[part]
        with torch.no_grad():
            styles = generator.styles(avatar.latents(angles[part]))
            labels = networks.parser(target)[0].argmax(1) if networks.parser is not None else None
        objective = AttributeObjective(networks.perceptual, target, problem.masks.part(part), weights)
        value = torch.zeros_like(base[:1])
        if t:
            value = ((base[t - 1 : t] + found[t - 1 : t] - base[part]) / scale).clamp(-options.limit, options.limit)
        direction = Adam(value)
        best, best_loss, best_image = value, float("inf"), target
        for epoch in range(options.epochs + 1):
            value = value.detach().requires_grad_(True)
            image = generator.picture(avatar.moved(styles, value * scale), target.shape[-1])
            fit = objective.residual(image).square().sum()
            loss = fit + objective.inter_frame(image, slice(None), wrong).sum()
            if code is not None and weights.identity:
                loss = loss + weights.identity * identity_loss(networks.identity, image, code).sum()
            if labels is not None and weights.parsing:
                loss = loss + weights.parsing * parsing_loss(networks.parser, image, labels).sum()
            if epoch == 0:
                initial[t] = fit.detach()
            if loss.item() < best_loss:
                best, best_loss, best_image, final[t] = value.detach(), loss.item(), image.detach(), fit.detach()
            if epoch < options.epochs:
                (gradient,) = torch.autograd.grad(loss, value)
                fall = 1 - epoch / options.epochs
                step = fall * rates * direction(gradient)
                if problem.blink[t]:
                    step = step.masked_fill(gaze, 0.0)
                value = (value.detach() - step).clamp(-options.limit, options.limit)
        found[t] = best[0] * scale
        wrong = best_image - target
        if t == 0 and networks.identity is not None:
            with torch.no_grad():
                code = networks.identity(best_image)
        monitor.tick(1)
    return Attributes(found.half().float(), final, initial)
