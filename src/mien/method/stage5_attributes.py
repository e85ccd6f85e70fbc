"""Stage 5: 32 StyleSpace channels a frame (the paper, Sec. 3.4, Eq. 3 and 7-12, Algorithm 1).

    min over alpha_t of  L( G_ss(A(LH_t) + alpha_t on V),  S_t )

The warm start reads alpha_t off A(L_t) on the channels V, which takes the place of Eq. 7's start from frame t-1. The
step is Gauss-Newton's (`mien.method.gauss_newton`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mien.method.avatar import Avatar
from mien.method.gauss_newton import DescentOptions, Render, minimize
from mien.method.image_sequences import BATCH, Latents
from mien.method.problems import AttributeProblem
from mien.method.types import Attributes
from mien.nets.decoder.renderer import Renderer
from mien.runtime.monitor import UNWATCHED, StageMonitor


@dataclass(frozen=True)
class AttributeOptions:
    """Stage 5 by Gauss-Newton. `target`: what is fitted, S_t or the frames I_t themselves (the paper's ablation, Sec.
    4.2); `size`: pixels that the losses look at, None: the pack's; one frame in `every` is
    solved (`mien.method.thinning`)."""

    target: Literal["inversion", "frame"] = "inversion"
    size: int | None = None
    every: int = 1
    descent: DescentOptions = field(default_factory=DescentOptions)


@torch.no_grad()
def warm_start(avatar: Avatar, w_plus: Latents, angles: Tensor) -> Tensor:
    """alpha_t read off A(L_t) - A(LH_t) on the channels V: `w_plus [T, L, D]`, `angles [T, 2]` -> `[T, C]`.

    Some frames at a time: the flow's gates alone take 0.3 MiB a frame.
    """

    def of(part: slice) -> Tensor:
        there, here = (avatar.generator.styles(w) for w in (w_plus[part], avatar.latents(angles[part])))
        return avatar.read(there) - avatar.read(here)

    return torch.cat([of(slice(i, i + BATCH)) for i in range(0, len(angles), BATCH)])


def fit_attributes(
    problem: AttributeProblem, options: AttributeOptions, *, monitor: StageMonitor = UNWATCHED
) -> Attributes:
    """Eq. 3 for all frames, by Gauss-Newton from `start`.

    At blinks the values of gaze channels go straight across. Bounded and damped: a frame that cannot be explained (a
    hand before the mouth) ends near its start, not far away.
    """
    avatar, networks, blink, descent = problem.avatar, problem.networks, problem.blink, options.descent
    generator, scale, gaze = avatar.generator, avatar.scale, avatar.gaze
    renderer = Renderer(generator)
    with torch.no_grad():
        code = networks.identity(problem.identity_image) if networks.identity is not None else None
    units = starting_point(problem, options) / scale

    def renders(part: slice, size: int) -> Render:
        styles = generator.styles(avatar.latents(problem.angles[part]))

        def render(now: Tensor, ids: Tensor | slice) -> Tensor:
            return renderer.picture(avatar.moved([s[ids] for s in styles], now * scale), size)

        return render

    solved = minimize(
        generator, networks, renders, units, torch.zeros_like(units), problem.targets, problem.masks,
        blink[:, None] & gaze[None], code, descent, monitor.tick,
    )  # fmt: skip
    return Attributes((solved.value * scale).half().float(), solved.loss, solved.initial_loss)


def starting_point(problem: AttributeProblem, options: AttributeOptions) -> Tensor:
    """Where Gauss-Newton begins, `[T, C]`: the warm start within its limits, with gaze straight across blinks."""
    avatar, limit = problem.avatar, options.descent.limit
    units = _across_blinks(problem.start, problem.blink, avatar.gaze) / avatar.scale
    return units.clamp(-limit, limit) * avatar.scale


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
