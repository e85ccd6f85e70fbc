"""The last step of an encode: each frame's 34 numbers against the frame itself, with the tuned generator fixed.

`refine` draws a frame some five times, and each time Adam moves its numbers by a good part of a unit: the weights end where
they should, the numbers end shaken. Here they are put where Eq. 9 is least, angles and channels together. The paper
found real frames I_t a bad target for its stage 5, whose generator cannot draw this person; the tuned one can. Beyond
the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mien.face.masks import Masks
from mien.method.avatar import driven_styles
from mien.method.gauss_newton import DescentOptions, Render, descend
from mien.method.image_sequences import Frames
from mien.method.landmark_targets import Reading
from mien.method.losses import LossNetworks
from mien.method.reduced_resolution import at_most
from mien.nets.styleflow import HeadPoseFlow
from mien.nets.stylegan2 import Generator
from mien.nets.stylespace import Channel

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


class Driven:
    """Renders of numbers a frame, as `Frames`: an identity latent `[L, D]`, `angles [T, 2]` in degrees and `alpha [T, 32]` on
    `channels`."""

    def __init__(
        self, generator: Generator, flow: HeadPoseFlow, channels: Sequence[Channel], identity: Tensor, angles: Tensor,
        alpha: Tensor, resolution: int,
    ) -> None:  # fmt: skip
        self._generator, self._flow, self._channels, self._identity = generator, flow, channels, identity
        self._angles, self._alpha, self._resolution = angles, alpha, resolution

    def __len__(self) -> int:
        return len(self._angles)

    @torch.no_grad()
    def __getitem__(self, part: slice | Tensor, /) -> Tensor:
        styles = driven_styles(
            self._generator, self._flow, self._channels, self._identity, self._angles[part], self._alpha[part]
        )
        return at_most(self._generator.synthesis_from_styles(styles, self._resolution), self._resolution)


def polish(
    generator: Generator,
    perceptual: Any,
    flow: HeadPoseFlow,
    channels: Sequence[Channel],
    identity: Tensor,
    angles: Tensor,
    alpha: Tensor,
    targets: Frames,
    regions: Masks,
    fixed: Tensor,
    blink: Tensor,
    reading: Reading | None = None,
    options: DescentOptions = _OPTIONS,
    tick: Callable[[int], None] = lambda n: None,
) -> Polished:
    """Eq. 9 of every frame, over its two angles and 32 channels.

    `identity [L, D]`, facing the camera; `angles [T, 2]`, `alpha [T, 32]`: where they start; `targets [T, 3, R, R]`: I_t;
    `fixed [T]` bool: frames that stay as they are (no face was seen, a hand covers it); `blink [T]` bool: frames whose
    gaze channels are left alone; `reading`: what expressions measure (`mien.method.landmark_targets`); the ridge of
    `options` pulls to where the numbers were. Identity and parsing losses are left out: they change nothing that was
    measured.
    """
    scale = torch.tensor([c.scale for c in channels], dtype=torch.float32, device=alpha.device)
    gaze = torch.tensor([False, False, *(c.attribute == "gaze" for c in channels)], device=alpha.device)
    home = torch.cat([angles / DEGREES, alpha / scale], 1)

    def renders(part: slice, resolution: int) -> Render:
        def render(now: Tensor, ids: Tensor | slice) -> Tensor:
            turned = flow.clamp(now[:, :2] * DEGREES)
            styles = driven_styles(generator, flow, channels, identity, turned, now[:, 2:] * scale)
            return at_most(generator.synthesis_from_styles(styles, resolution), resolution)

        return render

    frozen = (blink[:, None] & gaze[None]) | fixed[:, None]
    networks = LossNetworks(perceptual, None, None)
    solved = descend(generator, networks, renders, home, home, targets, regions, frozen, None, reading, options, tick)
    turned = flow.clamp(solved.value[:, :2] * DEGREES)
    moved = solved.value[:, 2:] * scale
    return Polished(turned.half().float(), moved.half().float(), solved.initial_loss, solved.loss)
