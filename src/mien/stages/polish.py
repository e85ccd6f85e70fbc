"""The last step of an encode: each frame's 34 numbers against the frame itself, with the tuned generator fixed.

`refine` draws a frame some six times, and each time Adam moves its numbers by a good part of a unit: the weights end where
they should, the numbers end shaken. Here they are put where Eq. 9 is least, angles and channels together. The paper
found real frames I_t a bad target for its stage 5, whose generator cannot draw this person; the tuned one can. Beyond
the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mien.models.styleflow import HeadPoseFlow
from mien.models.stylegan2 import Generator
from mien.packs.pack import Channel
from mien.stages.attributes import add_channels
from mien.stages.descent import DescentOptions, descend, normal_matrix
from mien.stages.frames import Frames
from mien.stages.losses import AttributeObjective, LossNetworks
from mien.stages.pose import pose_latents
from mien.stages.reading import Reading
from mien.stages.regions import Regions
from mien.stages.view import Seen, at_most

DEGREES = 3.0  # what a unit of an angle is


@dataclass(frozen=True)
class PolishOptions:
    """`descent`: how it is solved; its ridge pulls to where the numbers were."""

    descent: DescentOptions = field(default_factory=lambda: DescentOptions(iterations=3, enough=0.01))


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
        styles = self._generator.styles(pose_latents(self._flow, self._identity, self._angles[part]))
        moved = add_channels(styles, self._channels, self._alpha[part])
        return at_most(self._generator.synthesis_from_styles(moved, self._resolution), self._resolution)


def polish(
    generator: Generator,
    networks: LossNetworks,
    flow: HeadPoseFlow,
    channels: Sequence[Channel],
    identity: Tensor,
    angles: Tensor,
    alpha: Tensor,
    targets: Frames,
    regions: Regions,
    fixed: Tensor,
    blink: Tensor,
    reading: Reading | None = None,
    options: PolishOptions = PolishOptions(),
    tick: Callable[[int], None] = lambda n: None,
) -> Polished:
    """Eq. 9 of every frame, over its two angles and 32 channels.

    `identity [L, D]`, facing the camera; `angles [T, 2]`, `alpha [T, 32]`: where they start; `targets [T, 3, R, R]`: I_t;
    `fixed [T]` bool: frames that stay as they are (no face was seen, a hand covers it); `blink [T]` bool: frames whose
    gaze channels are left alone; `reading`: what expressions measure (`mien.stages.reading`). Identity and parsing losses are left out: they change nothing that was measured.
    """
    plan = options.descent
    resolution = min(plan.resolution, generator.resolution)
    scale = torch.tensor([c.scale for c in channels], dtype=torch.float32, device=alpha.device)
    gaze = torch.tensor([False, False, *(c.attribute == "gaze" for c in channels)], device=alpha.device)
    home = torch.cat([angles / DEGREES, alpha / scale], 1)
    value = home.clone()
    initial, final = home.new_zeros(len(home)), home.new_zeros(len(home))
    before: Tensor | None = None
    run = generator.frames_at_once(plan.run, resolution) if isinstance(generator, Seen) else plan.run

    def render(now: Tensor, ids: Tensor | slice) -> Tensor:
        posed = pose_latents(flow, identity, flow.clamp(now[:, :2] * DEGREES))
        styles = add_channels(generator.styles(posed), channels, now[:, 2:] * scale)
        return at_most(generator.synthesis_from_styles(styles, resolution), resolution)

    for first in range(0, len(home), run):
        part = slice(first, min(first + run, len(home)))
        objective = AttributeObjective(networks.perceptual, at_most(targets[part], resolution), regions.part(part),
                                       plan.weights, None if reading is None else reading.part(part))  # fmt: skip
        start = value[part]
        normal = normal_matrix(render, objective, start, plan)
        frozen = (blink[part, None] & gaze[None]) | fixed[part, None]
        solved = descend(render, objective, networks, None, None, start, start, normal, before, frozen, plan)
        value[part], before = solved.value, solved.wrong
        initial[part], final[part] = solved.initial_loss, solved.loss
        tick(len(start))
    angles = flow.clamp(value[:, :2] * DEGREES)
    return Polished(angles.half().float(), (value[:, 2:] * scale).half().float(), initial, final)
