"""Stage 4: yaw and pitch of every frame by analysis-by-synthesis (the paper, Sec. 3.3, Eq. 2).

    min over (Y_t, P_t) of  L( G(flow(L_ID, Y_t, P_t)),  S_t )

L is an L2 over the rigid face (eyes, mouth and brows left out) plus a perceptual distance over the face, both against
S_t = G(L_t). Only the W+ rows that head pose may change are changed; that is `HeadPoseFlow`'s doing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.face.masks import Masks, Regions
from mien.method.image_sequences import ImageSequence
from mien.method.landmark_targets import Reading, residual
from mien.method.losses import look
from mien.method.types import HeadPose
from mien.nets.generator import Generator, at_most
from mien.nets.styleflow import HeadPoseFlow


@dataclass(frozen=True)
class PoseOptions:
    """`resolution`: what the loss looks at; `perceptual`: weight of the perceptual part; `iterations` of Gauss-Newton;
    `step`: degrees of the finite difference; `prior`: weight per squared degree of straying from the measured angle;
    `smooth`: weight per squared degree of second differences over time; `measures`: weight of what landmarks measure
    (`mien.method.landmark_targets`; the paper has no such term)."""

    resolution: int = 64
    perceptual: float = 0.05
    iterations: int = 2
    step: float = 1.0
    prior: float = 2e-5
    smooth: float = 1e-4
    measures: float = 3.0
    batch: int = 32


class PoseObjective:
    """Residuals of Eq. 2 for a batch of frames, as one vector a frame whose squared length is the loss."""

    def __init__(self, perceptual: Any, target: Tensor, regions: Regions, options: PoseOptions,
                 reading: Reading | None = None) -> None:  # fmt: skip
        self.reading = reading
        self.perceptual, self.options = perceptual, options
        self.target = at_most(target, options.resolution)
        size = self.target.shape[-1]
        rigid = F.interpolate(regions.rigid, (size, size), mode="bilinear")
        self.rigid = (rigid / rigid.sum((1, 2, 3), keepdim=True).clamp_min(1.0) / 3).sqrt()
        self.features = perceptual.features(self.target)
        self.face = []
        for f in self.features:
            mask = F.interpolate(regions.face, f.shape[-2:], mode="area")
            scale = options.perceptual / mask.sum((1, 2, 3), keepdim=True).clamp_min(1.0)
            self.face.append((mask * scale).sqrt())

    def __call__(self, images: Tensor, index: Tensor | slice) -> Tensor:
        """Residuals `[N, R]` of renders `[N, 3, r, r]` of the frames `index`."""
        parts = [((images - self.target[index]) * self.rigid[index]).flatten(1)]
        seen = look(self.perceptual, images, measures=self.reading is not None)
        for f, g, mask in zip(seen.features, self.features, self.face, strict=True):
            parts.append(((f - g[index]) * mask[index]).flatten(1))
        if seen.measures is not None and self.reading is not None:
            parts.append(residual(seen.measures, self.reading.part(index)) * self.options.measures**0.5)
        return torch.cat(parts, dim=1)


@torch.no_grad()
def fit_pose(
    generator: Generator,
    flow: HeadPoseFlow,
    perceptual: Any,
    identity: Tensor,
    targets: ImageSequence,
    measured: Tensor,
    regions: Masks,
    options: PoseOptions = PoseOptions(),
    tick: Callable[[int], None] = lambda n: None,
    reading: Reading | None = None,
) -> HeadPose:
    """Eq. 2 for all frames, by damped Gauss-Newton from the measured angles.

    `identity [L, D]`: the identity latent facing the camera; `targets [T, 3, R, R]`: S_t; `measured [T, 2]`: degrees;
    `reading`: what the head's landmarks measure, None to compare pictures only.
    Two unknowns a frame need three renders an iteration and no gradient; frames are solved in parallel and smoothed
    over time through a prior that pulls each towards its neighbours. A step is kept only where the loss falls.
    """
    prior = flow.prior(identity[None], identity.new_zeros(1, 2))
    measured = flow.clamp(measured.float())

    def render(angles: Tensor) -> Tensor:
        n = len(angles)
        w_plus = flow.place(identity.expand(n, -1, -1), prior.expand(n, -1, -1), angles)
        return generator.picture(generator.styles(w_plus), options.resolution)

    angles = measured.clone()
    initial, final = angles.new_zeros(len(angles)), angles.new_zeros(len(angles))
    for sweep in range(options.iterations):
        for start in range(0, len(angles), options.batch):
            part = slice(start, min(start + options.batch, len(angles)))
            objective = PoseObjective(perceptual, targets[part], regions.part(part), options,
                                      None if reading is None else reading.part(part))  # fmt: skip
            now = angles[part]
            neighbours = _neighbours(angles)[part]
            penalty = partial(_penalty, measured=measured[part], neighbours=neighbours, options=options)
            base = objective(render(now), slice(None))
            columns = []
            for axis in range(2):
                moved = now.clone()
                moved[:, axis] += options.step
                columns.append((objective(render(moved), slice(None)) - base) / options.step)
            jacobian = torch.stack(columns, dim=2)
            normal = jacobian.transpose(1, 2) @ jacobian
            gradient = (jacobian.transpose(1, 2) @ base[:, :, None])[:, :, 0]
            gradient = gradient + options.prior * (now - measured[part]) + options.smooth * (now - neighbours)
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
            angles[part] = best
            final[part] = best_pixels
            if sweep == 0:
                initial[part] = loss
            tick(len(best) if sweep == options.iterations - 1 else 0)
    return HeadPose(angles.half().float(), final, initial)


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
