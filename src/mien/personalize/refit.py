"""The last step (ours): each frame's 34 numbers against the frame itself, with the tuned generator fixed.

Refinement draws a frame some five times, and each time Adam moves its numbers by a good part of a unit: the weights end
where they should, the numbers end shaken. Here they are put where Eq. 9 is least, angles and channels together. The
paper found real frames I_t a bad target for its stage 5, whose generator cannot draw this person; the tuned one can.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mien.face.masks import Masks
from mien.method.avatar import Avatar
from mien.method.gauss_newton import DescentOptions, Render, minimize
from mien.method.image_sequences import ImageSequence
from mien.method.losses import LossNetworks
from mien.nets.decoder.renderer import Renderer
from mien.nets.perceptual import PerceptualNetwork
from mien.runtime.monitor import UNWATCHED, StageMonitor


@dataclass(frozen=True)
class RefitOptions:
    """`descent`: of Eq. 9, where two steps of Gauss-Newton do nearly all; `angle_unit_deg`: how many degrees of an angle
    weigh as much as one unit of a channel."""

    descent: DescentOptions = field(default_factory=lambda: DescentOptions(iterations=2))
    angle_unit_deg: float = 3.0


@dataclass(frozen=True)
class RefitResult:
    """`angles [T, 2]` in degrees and `alpha [T, C]`, rounded to half floats as they travel; `initial_loss`, `loss`
    `[T]`: Eq. 9's L2 and perceptual part against I_t, before and after."""

    angles: Tensor
    alpha: Tensor
    initial_loss: Tensor
    loss: Tensor


def refit_to_frames(
    avatar: Avatar,
    perceptual: PerceptualNetwork,
    angles: Tensor,
    alpha: Tensor,
    targets: ImageSequence,
    masks: Masks,
    fixed: Tensor,
    blink: Tensor,
    options: RefitOptions,
    *,
    monitor: StageMonitor = UNWATCHED,
) -> RefitResult:
    """Eq. 9 of every frame, over its two angles and its channels.

    `angles [T, 2]`, `alpha [T, C]`: where they start; `targets [T, 3, R, R]`: I_t; `fixed [T]` bool: frames that stay
    as they are (no face was seen, a hand covers it); `blink [T]` bool: frames whose gaze channels are left alone.
    The ridge of `options` pulls to where the numbers were. There are no identity and parsing losses.
    """
    renderer = Renderer(avatar.generator)
    scale, flow, unit = avatar.scale, avatar.flow, options.angle_unit_deg
    gaze = torch.cat([avatar.gaze.new_zeros(2), avatar.gaze])
    start = torch.cat([angles / unit, alpha / scale], 1)

    def renders(part: slice, resolution: int) -> Render:
        def render(now: Tensor, ids: Tensor | slice) -> Tensor:
            turned = flow.clamp(now[:, :2] * unit)
            return renderer.picture(avatar.styles(turned, now[:, 2:] * scale), resolution)

        return render

    fixed_numbers = (blink[:, None] & gaze[None]) | fixed[:, None]
    networks = LossNetworks(perceptual, None, None)
    solved = minimize(
        avatar.generator, networks, renders, start, start, targets, masks, fixed_numbers, None, options.descent,
        monitor.tick,
    )  # fmt: skip
    turned = flow.clamp(solved.value[:, :2] * unit)
    moved = solved.value[:, 2:] * scale
    return RefitResult(turned.half().float(), moved.half().float(), solved.initial_loss, solved.loss)
