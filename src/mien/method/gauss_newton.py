"""The solver of stage 5 and of the last re-fit: preconditioned descent for a short run of frames at once.

A frame's unknowns are K numbers in units of about a standard deviation each. The step is Gauss-Newton's: the exact
gradient of the whole loss (Eq. 9 and what holds it in place), preconditioned by J'J of the residual at the middle of
the run. J'J carries each number's sensitivity on its diagonal, which is what the learning rates of Eq. 8 are for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.face.masks import Masks
from mien.method.image_sequences import ImageSequence
from mien.method.losses import AttributeObjective, AttributeWeights, LossNetworks, identity_loss, logits_loss
from mien.nets.generator import Generator
from mien.runtime.team import team

# Second difference, in units of a channel's scale, beyond which the smoothing pulls no harder: a frame that went wrong
# must not take its neighbours along.
JUMP = 2.0
# Largest eigenvalue of the squared second difference: with it in the preconditioner, smoothing cannot overshoot and shake
# channels that hardly show.
STIFFEST = 16.0
PROBES_AT_ONCE = 11  # renders of the Jacobian


@dataclass(frozen=True)
class DescentOptions:
    """`run`: frames that share a preconditioner and are solved together; `iterations`; `damping` of Gauss-Newton;
    `limit`: largest value; `ridge`: weight per squared unit of distance from `prior_mean` (`minimize`); `smooth`:
    weight of second differences over time; `enough`: the share of the loss that an iteration must gain for another one
    to follow; `weights` of Eq. 9's terms."""

    run: int = 16
    iterations: int = 8
    damping: float = 0.05
    limit: float = 8.0
    ridge: float = 1e-5
    smooth: float = 2e-5
    enough: float = 0.01
    weights: AttributeWeights = field(default_factory=AttributeWeights)


# Pictures `[N, 3, R, R]` of values `[N, K]` of the frames with those numbers within the run.
Render = Callable[[Tensor, Tensor | slice], Tensor]


@dataclass(frozen=True)
class GaussNewtonResult:
    """`value [T, K]`, and Eq. 9's L2 and perceptual part `[T]` at the start and at the end."""

    value: Tensor
    initial_loss: Tensor
    loss: Tensor


def minimize(
    generator: Generator,
    networks: LossNetworks,
    renders: Callable[[slice, int], Render],
    start: Tensor,
    prior_mean: Tensor,
    targets: ImageSequence,
    masks: Masks,
    fixed: Tensor,
    code: Tensor | None,
    options: DescentOptions,
    tick: Callable[[int], None],
) -> GaussNewtonResult:
    """Eq. 9 for all frames, run by run; runs know nothing of each other and are shared by threads.

    `renders`: how values become pictures in the frames of a slice, at a size; `start`, `prior_mean [T, K]`: where it
    begins, and what the ridge pulls to; `targets [T, 3, R, R]`; `fixed [T, K]` bool: what must not move; `code [1, E]`:
    of the identity frame, for L_ID, None for none. Without `networks.parser` there is no parsing loss.
    """
    size = targets[:1].shape[-1]
    with team(start.device) as threads:
        at_once = max(1, generator.frames_at_once(options.run, size) // threads.size)

        def one(part: slice) -> tuple[Tensor, Tensor, Tensor]:
            target = targets[part]
            with torch.no_grad():
                render = renders(part, size)
                labels = None if networks.parser is None else networks.parser(target)[0].argmax(1)
            objective = AttributeObjective(networks.perceptual, target, masks.part(part), options.weights)
            run = _Run(render, objective, networks, code, labels, prior_mean[part], at_once, options)
            normal = _normal_matrix(render, objective, start[part], options, min(at_once, PROBES_AT_ONCE))
            return _solve(run, start[part], normal, fixed[part])

        solved = []
        for of_run in threads.map(one, threads.split(len(start), options.run)):
            solved.append(of_run)
            tick(len(of_run[0]))
    return GaussNewtonResult(*(torch.cat(each) for each in zip(*solved, strict=True)))


@torch.no_grad()
def _normal_matrix(
    render: Render, objective: AttributeObjective, value: Tensor, options: DescentOptions, at_once: int
) -> Tensor:
    """J'J `[K, K]` of the residual at the middle frame of `value [N, K]`, by forward differences of half a unit, plus
    the curvature of ridge and smoothing, and damping. `at_once`: pictures that fit in memory."""
    middle = len(value) // 2
    count = value.shape[1]
    unit = torch.eye(count, device=value.device)
    moved = value[middle].expand(count, -1) + 0.5 * unit
    everything = torch.cat([value[middle : middle + 1], moved])
    index = torch.full((count + 1,), middle)
    rows = []
    for i in range(0, count + 1, at_once):
        part = slice(i, i + at_once)
        rows.append(objective.residual(render(everything[part], index[part]), index[part]))
    residual = torch.cat(rows)
    jacobian = (residual[1:] - residual[:1]) / 0.5
    normal = jacobian @ jacobian.T
    return (
        normal
        + options.damping * torch.diag(normal.diagonal())
        + (0.02 * normal.diagonal().mean() + 1e-6 + options.ridge + STIFFEST * options.smooth) * unit
    )


@dataclass(frozen=True)
class _Run:
    """A run of N frames and its loss. `labels [N, h, w]`: parsing of the targets; `prior_mean [N, K]`;
    `at_once`: pictures whose gradients fit in memory."""

    render: Render
    objective: AttributeObjective
    networks: LossNetworks
    code: Tensor | None
    labels: Tensor | None
    prior_mean: Tensor
    at_once: int
    options: DescentOptions

    def pictures(self, value: Tensor, part: slice, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of the frames `part` at `value [N, K]`: renders, Eq. 9's L2 and perceptual part, and all of Eq. 9, `[n]`."""
        objective, weights, networks = self.objective, self.options.weights, self.networks
        images = self.render(value[part], part)
        parser = networks.parser if self.labels is not None and weights.parsing else None
        seen = networks.perceptual.analyse(images, parser)
        fit = objective.residual(images, part, seen=seen).square().sum(1)
        loss = fit + objective.inter_frame(images, part, before)
        if self.code is not None and weights.identity:
            loss = loss + weights.identity * identity_loss(networks.identity, images, self.code)
        if seen.logits is not None and self.labels is not None:
            loss = loss + weights.parsing * logits_loss(seen.logits, self.labels[part])
        return images, fit, loss

    def held(self, value: Tensor, loss: Tensor) -> Tensor:
        """The loss `[N]` with what holds the values in place: ridge, and smoothing over time."""
        loss = loss + self.options.ridge * (value - self.prior_mean).square().sum(1)
        if len(value) > 2:
            bend = (value[:-2] - 2 * value[1:-1] + value[2:]).square()
            loss = loss + self.options.smooth * F.pad((bend / (1 + bend / JUMP**2)).sum(1), (1, 1))
        return loss

    def evaluate(self, value: Tensor, differentiate: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Fit and loss `[N]`, and the gradient `[N, K]` of all frames but the last that were drawn together, whose
        gradient is still to be had of the loss: None where there are no others."""
        parts = [slice(i, min(i + self.at_once, len(value))) for i in range(0, len(value), self.at_once)]
        before: Tensor | None = None
        gradient: Tensor | None = None
        fits: list[Tensor] = []
        losses: list[Tensor] = []
        for part in parts:
            images, fit, loss = self.pictures(value, part, before)
            if differentiate and part is not parts[-1]:
                (of_part,) = torch.autograd.grad(loss.sum(), value)
                gradient = of_part if gradient is None else gradient + of_part
                loss = loss.detach()
            fits.append(fit.detach())
            losses.append(loss)
            before = (images[-1:] - self.objective.target[part][-1:]).detach()
        return torch.cat(fits), self.held(value, torch.cat(losses)), gradient


def _solve(run: _Run, start: Tensor, normal: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Preconditioned descent for one run of N frames; every frame keeps its own best point and step length. Ends early
    where an iteration gains less than `options.enough` of the loss.

    Returns what `GaussNewtonResult` holds.
    """
    options = run.options
    inverse = torch.linalg.inv(normal)
    value = start.clone()
    bound = start.abs().clamp_min(options.limit)  # a start beyond the limit, such as a wide turn, may stay
    best, best_loss = start.clone(), start.new_full((len(start),), float("inf"))
    direction = torch.zeros_like(start)
    length = start.new_ones(len(start))
    first_loss, best_fit = start.new_zeros(len(start)), start.new_zeros(len(start))
    for iteration in range(options.iterations + 1):
        last = iteration == options.iterations  # only looked at: no step follows
        value = value.detach().requires_grad_(not last)
        with torch.set_grad_enabled(not last):
            fit, loss, gradient = run.evaluate(value, not last)
        now = loss.detach()
        if iteration == 0:
            first_loss = fit
        better = now < best_loss
        gain = float((best_loss - now).clamp_min(0).sum() / best_loss.sum()) if iteration else 1.0
        best = torch.where(better[:, None], value.detach(), best)
        best_loss = torch.where(better, now, best_loss)
        best_fit = torch.where(better, fit, best_fit)
        if last or gain < options.enough:
            break
        (of_last,) = torch.autograd.grad(loss.sum(), value)
        gradient = of_last if gradient is None else gradient + of_last
        length = torch.where(better, (length * 1.3).clamp_max(1.0), length * 0.4)
        step = (gradient * 0.5) @ inverse
        step = step.masked_fill(fixed, 0.0)
        direction = torch.where(better[:, None], step, direction)
        value = (best - length[:, None] * direction.clamp(-2, 2)).clamp(-bound, bound)
    return best, first_loss, best_fit
