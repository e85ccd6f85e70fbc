"""What a driver asks of a person, as channel values, and the frames of it that tell most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.errors import MienError
from mien.face import mesh as lm
from mien.face.measures import gaze_direction
from mien.format.stream import Stream
from mien.method.avatar import Avatar
from mien.method.image_sequences import BATCH
from mien.method.stage6_render.render import FrameRenderer
from mien.method.types import Motion
from mien.nets.generator import Generator
from mien.packs.pack import Pack
from mien.packs.resolve import Where, tuned_generator

DEGREES_PER_UNIT = 5.0  # of yaw and pitch that count as much as one unit of a channel where frames are compared


@dataclass(frozen=True)
class DrivingMotion:
    """`angles [T, 2]`: yaw and pitch in degrees, within what the flow can turn to; `values [T, C]`: what the channels V
    take in StyleSpace. Unlike offsets, they stay what they are while an identity latent is trained."""

    angles: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.angles)

    @staticmethod
    @torch.no_grad()
    def of(motion: Motion, avatar: Avatar) -> DrivingMotion:
        """The angles of a motion, and the values that its offsets give on an avatar."""
        angles = avatar.flow.clamp(motion.angles)
        # Some frames at a time: the flow's gates alone take 0.3 MiB a frame.
        parts = [angles[i : i + BATCH] for i in range(0, len(angles), BATCH)]
        values = torch.cat([avatar.read(avatar.generator.styles(avatar.latents(part))) for part in parts])
        return DrivingMotion(angles, values + motion.alpha)

    def part(self, frames: slice | Tensor) -> DrivingMotion:
        """Some frames."""
        return DrivingMotion(self.angles[frames], self.values[frames])

    def followed_by(self, other: DrivingMotion) -> DrivingMotion:
        """With the frames of another after these."""
        return DrivingMotion(torch.cat([self.angles, other.angles]), torch.cat([self.values, other.values]))


def farthest_point_sampling(motion: DrivingMotion, scale: Tensor, count: int) -> Tensor:
    """At most `count` frames, the most usual one first, then each the farthest from those before it (Gonzalez 1985).

    `scale [C]`: units of the channels. Returns frame numbers `[N]`.
    """
    numbers = torch.cat([motion.angles / DEGREES_PER_UNIT, motion.values / scale], 1)
    chosen = [int((numbers - numbers.median(0).values).square().sum(1).argmin())]
    distance = (numbers - numbers[chosen[0]]).square().sum(1)
    while len(chosen) < count and float(distance.max()) > 0:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (numbers - numbers[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


def render_frames_of(stream: Stream, pack: Pack, generator: Generator, frames: Tensor) -> NDArray[np.uint8]:
    """Some `frames [N]` of a stream, uint8 RGB `[N, S, S, 3]`."""
    renderer = FrameRenderer(stream, pack, generator, exact=True)
    return np.concatenate([renderer(i, i + 1) for i in frames.tolist()])


def gaze_of_frames(stream: Stream, pack: Pack, frames: Tensor, person: Where = None) -> NDArray[np.float64]:
    """Gaze (iris offset over the eye's width, right and down) in renders of a stream at `frames [N]`: `[N, 2]`.

    NaN where it cannot be seen, and everywhere where the person that the stream names is not found (`person`: see
    `mien.format.person.find_person`).
    """
    try:
        generator = tuned_generator(stream, pack, person)
    except MienError:
        return np.full((len(frames), 2), np.nan)
    mesh = lm.FaceMesh()
    found = [mesh(image) for image in render_frames_of(stream, pack, generator, frames)]
    mesh.close()
    return np.stack([gaze_direction(f[0][:, :2] if f else None, stream.resolution) for f in found])
