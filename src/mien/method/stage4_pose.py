"""Stage 4: yaw and pitch of every frame by analysis-by-synthesis (the paper, Sec. 3.3, Eq. 2).

    min over (Y_t, P_t) of  L( G(flow(L_ID, Y_t, P_t)),  S_t )

L is an L2 over the rigid face (eyes, mouth and brows left out) plus a perceptual distance over the face, both against
S_t = G(L_t). Only the W+ rows that head pose may change are changed; that is `HeadPoseFlow`'s doing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.face.masks import Regions
from mien.method.problems import PoseProblem
from mien.method.types import HeadPose
from mien.nets.decoder.renderer import Renderer
from mien.nets.perceptual import PerceptualNetwork
from mien.nets.styleflow import HeadPoseFlow
from mien.runtime.monitor import UNWATCHED, StageMonitor
from mien.runtime.team import team


@dataclass(frozen=True)
class PoseOptions:
    """Gauss-Newton for Eq. 2. `size`: pixels that the loss looks at, None: the pack's; `perceptual`: weight of the
    perceptual part; `iterations`; `step_deg`: of the finite difference; `prior`: weight per squared degree of straying
    from the measured angle; `smooth`: weight per squared degree of straying from the mean of the frames before and
    after; `batch`: frames drawn at once; one frame in `every` is solved (`mien.method.thinning`)."""

    size: int | None = None
    perceptual: float = 0.05
    iterations: int = 2
    step_deg: float = 1.0
    prior: float = 2e-5
    smooth: float = 1e-4
    batch: int = 24
    every: int = 1


class PoseObjective:
    """Residuals of Eq. 2 for a batch of frames, as one vector a frame whose squared length is the loss.

    `target [N, 3, R, R]`: S_t; `weight`: of the perceptual part.
    """

    def __init__(self, perceptual: PerceptualNetwork, target: Tensor, regions: Regions, weight: float) -> None:
        self.perceptual, self.target = perceptual, target
        size = self.target.shape[-1]
        rigid = F.interpolate(regions.rigid, (size, size), mode="bilinear")
        self.rigid = (rigid / rigid.sum((1, 2, 3), keepdim=True).clamp_min(1.0) / 3).sqrt()
        self.features = perceptual.features(self.target)
        self.face = []
        for f in self.features:
            mask = F.interpolate(regions.face, f.shape[-2:], mode="area")
            scale = weight / mask.sum((1, 2, 3), keepdim=True).clamp_min(1.0)
            self.face.append((mask * scale).sqrt())

    def __call__(self, images: Tensor, index: Tensor | slice) -> Tensor:
        """Residuals `[N, R]` of renders `[N, 3, r, r]` of the frames `index`."""
        parts = [((images - self.target[index]) * self.rigid[index]).flatten(1)]
        for f, g, mask in zip(self.perceptual.features(images), self.features, self.face, strict=True):
            parts.append(((f - g[index]) * mask[index]).flatten(1))
        return torch.cat(parts, dim=1)


@torch.no_grad()
def fit_pose(problem: PoseProblem, options: PoseOptions, *, monitor: StageMonitor = UNWATCHED) -> HeadPose:
    """Eq. 2 for all frames, by damped Gauss-Newton from the measured angles.

    Two unknowns a frame need three renders an iteration and no gradient; frames are solved in parallel and smoothed
    over time through a prior that pulls each towards its neighbours. A step is kept only where the loss falls.
    """
    avatar, perceptual, targets = problem.avatar, problem.perceptual, problem.targets
    flow, generator = avatar.flow, avatar.generator
    measured = flow.clamp(problem.measured.float())
    size = targets[:1].shape[-1]
    batch = generator.frames_at_once(options.batch, size)
    renderer = Renderer(generator)

    def render(angles: Tensor) -> Tensor:
        return renderer.picture(generator.styles(avatar.latents(angles)), size)

    angles = measured.clone()
    initial, final = angles.new_zeros(len(angles)), angles.new_zeros(len(angles))

    def objective(part: slice) -> PoseObjective:
        return PoseObjective(perceptual, targets[part], problem.masks.part(part), options.perceptual)

    with team(angles.device) as threads:
        parts = threads.split(len(angles), batch)
        for sweep in range(options.iterations):
            predicted = _neighbours(angles)

            def one(part: slice, predicted: Tensor = predicted) -> tuple[Tensor, Tensor, Tensor]:
                return _step(objective(part), render, flow, angles[part], measured[part], predicted[part], options)

            for part, (now, loss, best) in zip(parts, threads.map(one, parts), strict=True):
                angles[part], final[part] = now, best
                if sweep == 0:
                    initial[part] = loss
                monitor.tick(len(now) if sweep == options.iterations - 1 else 0)
    return HeadPose(angles.half().float(), final, initial)


def _step(
    objective: PoseObjective, render: Callable[[Tensor], Tensor], flow: HeadPoseFlow, now: Tensor, measured: Tensor,
    neighbours: Tensor, options: PoseOptions,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """One step of Gauss-Newton from the angles `now [N, 2]`: the angles after it, and the loss `[N]` before and
    after."""
    penalty = partial(_penalty, measured=measured, neighbours=neighbours, options=options)
    base = objective(render(now), slice(None))
    columns = []
    for axis in range(2):
        moved = now.clone()
        moved[:, axis] += options.step_deg
        columns.append((objective(render(moved), slice(None)) - base) / options.step_deg)
    jacobian = torch.stack(columns, dim=2)
    normal = jacobian.transpose(1, 2) @ jacobian
    gradient = (jacobian.transpose(1, 2) @ base[:, :, None])[:, :, 0]
    gradient = gradient + options.prior * (now - measured) + options.smooth * (now - neighbours)
    normal = normal + (options.prior + options.smooth) * torch.eye(2, device=now.device)
    normal = normal + 0.02 * torch.diag_embed(normal.diagonal(dim1=1, dim2=2))
    step = torch.linalg.solve(normal, gradient).clamp(-6, 6)
    loss = base.square().sum(1)
    best, best_loss, best_pixels = now, loss + penalty(now), loss
    left = torch.arange(len(now), device=now.device)  # frames whose loss has not fallen yet
    for share in (1.0, 0.4):
        trial, trial_pixels = now.clone(), loss.clone()
        trial[left] = flow.clamp(now - share * step)[left]
        trial_pixels[left] = objective(render(trial[left]), left).square().sum(1)
        better = trial_pixels + penalty(trial) < best_loss
        best = torch.where(better[:, None], trial, best)
        best_loss = torch.where(better, trial_pixels + penalty(trial), best_loss)
        best_pixels = torch.where(better, trial_pixels, best_pixels)
        left = left[~better[left]]
        if not len(left):
            break
    return best, loss, best_pixels


def _penalty(angles: Tensor, measured: Tensor, neighbours: Tensor, options: PoseOptions) -> Tensor:
    """What it costs `[N]` to stray from the measured angles and from the neighbours in time, all `[N, 2]`."""
    stray = options.prior * (angles - measured).square().sum(1)
    return stray + options.smooth * (angles - neighbours).square().sum(1)


def _neighbours(angles: Tensor) -> Tensor:
    """What the neighbours in time predict for each frame: the mean of the one before and the one after."""
    if len(angles) < 3:
        return angles.clone()
    out = angles.clone()
    out[1:-1] = (angles[:-2] + angles[2:]) / 2
    return out
