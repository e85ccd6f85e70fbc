"""The last step of an encode: each frame's 34 numbers against the frame itself, with the tuned generator fixed.

`refine` draws a frame some five times, and each time Adam moves its numbers by a good part of a unit: the weights end where
they should, the numbers end shaken. Here they are put where Eq. 9 is least, angles and channels together. The paper
found real frames I_t a bad target for its stage 5, whose generator cannot draw this person; the tuned one can. Beyond
the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mien.face.masks import Masks
from mien.method.avatar import Avatar
from mien.method.gauss_newton import DescentOptions, Render, descend
from mien.method.image_sequences import ImageSequence
from mien.method.landmark_targets import Reading
from mien.method.losses import LossNetworks

DEGREES = 3.0  # what a unit of an angle is
_OPTIONS = DescentOptions(iterations=3)


@dataclass(frozen=True)
class Polished:
    """`angles [T, 2]` in degrees and `alpha [T, 32]`, rounded to half floats as they travel; `initial_loss`, `loss` `[T]`:
    Eq. 9's L2 and perceptual part against I_t, before and after."""

    angles: Tensor
    alpha: Tensor
    initial_loss: Tensor
    loss: Tensor


def polish(
    avatar: Avatar,
    perceptual: Any,
    angles: Tensor,
    alpha: Tensor,
    targets: ImageSequence,
    regions: Masks,
    fixed: Tensor,
    blink: Tensor,
    reading: Reading | None = None,
    options: DescentOptions = _OPTIONS,
    tick: Callable[[int], None] = lambda n: None,
) -> Polished:
    """Eq. 9 of every frame, over its two angles and 32 channels.

    `angles [T, 2]`, `alpha [T, 32]`: where they start; `targets [T, 3, R, R]`: I_t;
    `fixed [T]` bool: frames that stay as they are (no face was seen, a hand covers it); `blink [T]` bool: frames whose
    gaze channels are left alone; `reading`: what expressions measure (`mien.method.landmark_targets`); the ridge of
    `options` pulls to where the numbers were. Identity and parsing losses are left out: they change nothing that was
    measured.
    """
    scale, flow = avatar.scale, avatar.flow
    gaze = torch.cat([avatar.gaze.new_zeros(2), avatar.gaze])
    home = torch.cat([angles / DEGREES, alpha / scale], 1)

    def renders(part: slice, resolution: int) -> Render:
        def render(now: Tensor, ids: Tensor | slice) -> Tensor:
            turned = flow.clamp(now[:, :2] * DEGREES)
            return avatar.generator.picture(avatar.styles(turned, now[:, 2:] * scale), resolution)

        return render

    frozen = (blink[:, None] & gaze[None]) | fixed[:, None]
    networks = LossNetworks(perceptual, None, None)
    solved = descend(
        avatar.generator, networks, renders, home, home, targets, regions, frozen, None, reading, options, tick
    )
    turned = flow.clamp(solved.value[:, :2] * DEGREES)
    moved = solved.value[:, 2:] * scale
    return Polished(turned.half().float(), moved.half().float(), solved.initial_loss, solved.loss)
