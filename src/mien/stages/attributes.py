"""Stage 5: 32 StyleSpace channels a frame (the paper, Sec. 3.4, Eq. 3 and 7-12, Algorithm 1).

    min over alpha_t of  L( G_ss(A(LH_t) + alpha_t on V),  S_t )

The warm start reads alpha_t off A(L_t) on the channels V, which takes the place of Eq. 7's start from frame t-1 (that
start is kept for frames whose face was out of sight). The step is Gauss-Newton's: the exact gradient of the whole
loss, preconditioned by J'J of the residual at the middle of a short run of frames. J'J carries each channel's
sensitivity on its diagonal, which is what Eq. 8's learning rates are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.models.stylegan2 import Generator
from mien.packs.pack import Channel
from mien.stages.frames import Frames
from mien.stages.losses import AttributeObjective, AttributeWeights, features_and_logits, identity_loss, logits_loss
from mien.stages.regions import Regions
from mien.stages.view import Seen, at_most

# Second difference, in units of a channel's scale, beyond which the smoothing pulls no harder: a frame that went wrong
# must not take its neighbours along.
JUMP = 2.0
# Largest eigenvalue of the squared second difference: with it in the preconditioner, smoothing cannot overshoot and shake
# channels that hardly show.
STIFFEST = 16.0


@dataclass(frozen=True)
class AttributeOptions:
    """`resolution`: what the losses look at; `run`: frames that share a preconditioner and are solved together;
    `iterations`; `damping` of Gauss-Newton; `limit`: largest |alpha| in units of a channel's scale; `ridge`: weight
    per squared unit of scale; `smooth`: weight of second differences over time; `enough`: the share of the loss that an
    iteration must gain for another one to follow."""

    resolution: int = 128
    run: int = 16
    iterations: int = 8
    damping: float = 0.05
    limit: float = 8.0
    ridge: float = 1e-5
    smooth: float = 2e-5
    enough: float = 0.01
    weights: AttributeWeights = field(default_factory=AttributeWeights)


@dataclass(frozen=True)
class Attributes:
    """`alpha [T, 32]`, rounded to half floats as it travels; `loss [T]`: Eq. 9's L2 and perceptual part at the end;
    `initial_loss [T]`: at the warm start."""

    alpha: Tensor
    loss: Tensor
    initial_loss: Tensor


def read_channels(styles: Sequence[Tensor], channels: Sequence[Channel]) -> Tensor:
    """The values of the channels V in StyleSpace, `[N, 32]`."""
    return torch.stack([styles[c.layer][:, c.index] for c in channels], dim=1)


def add_channels(styles: Sequence[Tensor], channels: Sequence[Channel], alpha: Tensor) -> list[Tensor]:
    """LH^ss + alpha on the channels V (the paper, Eq. 13): styles `[N, C_l]`, `alpha [N, 32]`."""
    out = list(styles)
    by_layer: dict[int, list[int]] = {}
    for i, channel in enumerate(channels):
        by_layer.setdefault(channel.layer, []).append(i)
    for layer, places in by_layer.items():
        index = torch.tensor([channels[i].index for i in places], device=alpha.device)
        out[layer] = out[layer].index_add(1, index, alpha[:, places].to(out[layer].dtype))
    return out


def warm_start(generator: Generator, w_plus: Tensor, posed: Tensor, channels: Sequence[Channel]) -> Tensor:
    """alpha_t read off A(L_t) - A(LH_t) on the channels V: `w_plus`, `posed` `[T, L, D]` -> `[T, 32]`."""
    with torch.no_grad():
        wanted = read_channels(generator.styles(w_plus), channels)
        return wanted - read_channels(generator.styles(posed), channels)


def fit_attributes(
    generator: Generator,
    networks: LossNetworks,
    channels: Sequence[Channel],
    posed: Tensor,
    targets: Frames,
    regions: Regions,
    start: Tensor,
    blink: Tensor,
    identity_image: Tensor,
    options: AttributeOptions = AttributeOptions(),
    tick: Callable[[int], None] = lambda n: None,
) -> Attributes:
    """Eq. 3 for all frames.

    `posed [T, L, D]`: LH_t; `targets [T, 3, R, R]`: S_t; `start [T, 32]`: warm start; `blink [T]` bool: frames whose
    gaze channels are left alone (their values go straight across the blink); `identity_image [1, 3, R, R]`: the
    identity frame, for L_ID. Bounded and damped: a frame that cannot be explained (a hand before the mouth) ends near
    its start, not far away.
    """
    scale = torch.tensor([c.scale for c in channels], dtype=torch.float32, device=posed.device)
    gaze = torch.tensor([c.attribute == "gaze" for c in channels], device=posed.device)
    start = _across_blinks(start, blink, gaze)
    resolution = min(options.resolution, generator.resolution)
    with torch.no_grad():
        code = networks.identity(identity_image) if networks.identity is not None else None
    alpha = (start / scale).clamp(-options.limit, options.limit)
    final, initial = alpha.new_zeros(len(alpha)), alpha.new_zeros(len(alpha))
    before: Tensor | None = None
    run = generator.frames_at_once(options.run, resolution) if isinstance(generator, Seen) else options.run
    for first in range(0, len(alpha), run):
        part = slice(first, min(first + run, len(alpha)))
        target = at_most(targets[part], resolution)
        with torch.no_grad():
            styles = generator.styles(posed[part])
            labels = None
            if networks.parser is not None:
                labels = networks.parser(target)[0].argmax(1)
        objective = AttributeObjective(networks.perceptual, target, regions.part(part), options.weights)

        def render(a: Tensor, ids: Tensor | slice = slice(None)) -> Tensor:
            chosen = [s[ids] for s in styles]  # noqa: B023
            return at_most(
                generator.synthesis_from_styles(add_channels(chosen, channels, a * scale), resolution), resolution
            )

        normal = _normal_matrix(render, objective, alpha[part], options)
        value, wrong, first_loss, last_loss = _solve(
            render, objective, networks, code, labels, alpha[part], normal, before, blink[part], gaze, options
        )
        alpha[part], before = value, wrong
        initial[part], final[part] = first_loss, last_loss
        tick(len(value))
    return Attributes((alpha * scale).half().float(), final, initial)


@dataclass(frozen=True)
class LossNetworks:
    """The networks that Eq. 9 looks through; `identity` and `parser` may be absent, their terms are then left out."""

    perceptual: Any
    identity: Any | None
    parser: Any | None


def _across_blinks(alpha: Tensor, blink: Tensor, gaze: Tensor) -> Tensor:
    """Gaze values interpolated over blinking frames from the open-eyed frames around them."""
    open_eyed = torch.nonzero(~blink)[:, 0]
    if len(open_eyed) == 0 or len(open_eyed) == len(blink):
        return alpha.clone()
    out = alpha.clone()
    for i in torch.nonzero(blink)[:, 0].tolist():
        after = open_eyed[open_eyed > i]
        earlier = open_eyed[open_eyed < i]
        lo = int(earlier[-1]) if len(earlier) else int(after[0])
        hi = int(after[0]) if len(after) else lo
        share = 0.0 if hi == lo else (i - lo) / (hi - lo)
        out[i, gaze] = (1 - share) * alpha[lo, gaze] + share * alpha[hi, gaze]
    return out


@torch.no_grad()
def _normal_matrix(render: Any, objective: AttributeObjective, alpha: Tensor, options: AttributeOptions) -> Tensor:
    """J'J `[32, 32]` of the residual at the run's middle frame, by forward differences of half a unit of scale, plus the
    curvature of ridge and smoothing, and damping."""
    middle = len(alpha) // 2
    count = alpha.shape[1]
    unit = torch.eye(count, device=alpha.device)
    moved = alpha[middle].expand(count, -1) + 0.5 * unit
    everything = torch.cat([alpha[middle : middle + 1], moved])
    index = torch.full((count + 1,), middle)
    rows = []
    for i in range(0, count + 1, 11):
        rows.append(objective.residual(render(everything[i : i + 11], index[i : i + 11]), index[i : i + 11]))
    residual = torch.cat(rows)
    jacobian = (residual[1:] - residual[:1]) / 0.5
    normal = jacobian @ jacobian.T
    return (
        normal
        + options.damping * torch.diag(normal.diagonal())
        + (0.02 * normal.diagonal().mean() + 1e-6 + options.ridge + STIFFEST * options.smooth) * unit
    )


def _solve(
    render: Any, objective: AttributeObjective, networks: LossNetworks, code: Tensor | None, labels: Tensor | None,
    start: Tensor, normal: Tensor, before: Tensor | None, blink: Tensor, gaze: Tensor, options: AttributeOptions,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Preconditioned descent for one run of frames; every frame keeps its own best point and step length. Ends early
    where an iteration gains less than `options.enough` of the loss."""
    weights = options.weights
    inverse = torch.linalg.inv(normal)
    frozen = blink[:, None] & gaze[None]
    value = start.clone()
    best, best_loss = start.clone(), start.new_full((len(start),), float("inf"))
    direction = torch.zeros_like(start)
    length = start.new_ones(len(start))
    first_loss, best_fit = start.new_zeros(len(start)), start.new_zeros(len(start))
    best_wrong = torch.zeros_like(objective.target)
    for iteration in range(options.iterations + 1):
        value = value.detach().requires_grad_(True)
        images = render(value)
        logits: Tensor | None = None
        features: list[Tensor] | None = None
        if labels is not None and weights.parsing:
            features, logits = features_and_logits(networks.perceptual, networks.parser, images)
        fit = objective.residual(images, features=features).square().sum(1)
        loss = fit + objective.inter_frame(images, before)
        if code is not None and weights.identity:
            loss = loss + weights.identity * identity_loss(networks.identity, images, code)
        if logits is not None and labels is not None:
            loss = loss + weights.parsing * logits_loss(logits, labels)
        loss = loss + options.ridge * value.square().sum(1)
        if len(value) > 2:
            bend = value[:-2] - 2 * value[1:-1] + value[2:]
            bend = bend.square()
            loss = loss + options.smooth * F.pad((bend / (1 + bend / JUMP**2)).sum(1), (1, 1))
        (gradient,) = torch.autograd.grad(loss.sum(), value)
        now = loss.detach()
        if iteration == 0:
            first_loss = fit.detach()
        better = now < best_loss
        gain = float((best_loss - now).clamp_min(0).sum() / best_loss.sum()) if iteration else 1.0
        best = torch.where(better[:, None], value.detach(), best)
        best_loss = torch.where(better, now, best_loss)
        best_fit = torch.where(better, fit.detach(), best_fit)
        best_wrong = torch.where(better[:, None, None, None], (images - objective.target).detach(), best_wrong)
        length = torch.where(better, (length * 1.3).clamp_max(1.0), length * 0.4)
        step = (gradient * 0.5) @ inverse
        step = step.masked_fill(frozen, 0.0)
        direction = torch.where(better[:, None], step, direction)
        if gain < options.enough:
            break
        value = (best - length[:, None] * direction.clamp(-2, 2)).clamp(-options.limit, options.limit)
    return best, best_wrong[-1:], first_loss, best_fit
