"""Stage 5: 32 StyleSpace channels a frame (the paper, Sec. 3.4, Eq. 3 and 7-12, Algorithm 1).

    min over alpha_t of  L( G_ss(A(LH_t) + alpha_t on V),  S_t )

The warm start reads alpha_t off A(L_t) on the channels V, which takes the place of Eq. 7's start from frame t-1 (that
start is kept for frames whose face was out of sight). The step is Gauss-Newton's (`mien.method.gauss_newton`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mien.face.masks import Masks
from mien.method.avatar import Avatar
from mien.method.gauss_newton import DescentOptions, Render, descend
from mien.method.image_sequences import ImageSequence
from mien.method.landmark_targets import Reading
from mien.method.losses import LossNetworks
from mien.method.types import Attributes
from mien.runtime.monitor import UNWATCHED, StageMonitor


@dataclass(frozen=True)
class AttributeOptions:
    """Stage 5 by Gauss-Newton. `target`: what is fitted, S_t or the frames I_t themselves (the paper's ablation, Sec. 4.2);
    `size`: pixels that the losses look at, None: the pack's."""

    target: Literal["inversion", "frame"] = "inversion"
    size: int | None = None
    descent: DescentOptions = field(default_factory=DescentOptions)


def warm_start(avatar: Avatar, w_plus: Tensor, angles: Tensor) -> Tensor:
    """alpha_t read off A(L_t) - A(LH_t) on the channels V: `w_plus [T, L, D]`, `angles [T, 2]` -> `[T, C]`."""
    with torch.no_grad():
        wanted = avatar.read(avatar.generator.styles(w_plus))
        return wanted - avatar.read(avatar.generator.styles(avatar.latents(angles)))


def fit_attributes(
    avatar: Avatar,
    networks: LossNetworks,
    angles: Tensor,
    targets: ImageSequence,
    regions: Masks,
    start: Tensor,
    blink: Tensor,
    identity_image: Tensor,
    options: AttributeOptions,
    reading: Reading | None = None,
    *,
    monitor: StageMonitor = UNWATCHED,
) -> Attributes:
    """Eq. 3 for all frames.

    `angles [T, 2]`: of stage 4, in degrees; `targets [T, 3, R, R]`: S_t, at the size that is looked at; `start [T, C]`: warm
    start; `blink [T]` bool: frames whose gaze channels are left alone (their values go straight across the blink);
    `identity_image [1, 3, R, R]`: the identity frame, for L_ID; `reading`: what expressions measure
    (`mien.method.landmark_targets`; of the head's measures it must know nothing, which channels would imitate), None to
    compare pictures only. Bounded and damped: a frame that cannot be explained (a hand before the mouth) ends near its
    start, not far away.
    """
    generator, scale, gaze, descent = avatar.generator, avatar.scale, avatar.gaze, options.descent
    start = _across_blinks(start, blink, gaze)
    with torch.no_grad():
        posed = avatar.latents(angles)
        code = networks.identity(identity_image) if networks.identity is not None else None
    units = (start / scale).clamp(-descent.limit, descent.limit)

    def renders(part: slice, size: int) -> Render:
        styles = generator.styles(posed[part])

        def render(now: Tensor, ids: Tensor | slice) -> Tensor:
            return generator.picture(avatar.moved([s[ids] for s in styles], now * scale), size)

        return render

    solved = descend(generator, networks, renders, units, torch.zeros_like(units), targets, regions,
                     blink[:, None] & gaze[None], code, reading, descent, monitor.tick)  # fmt: skip
    return Attributes((solved.value * scale).half().float(), solved.loss, solved.initial_loss)


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
