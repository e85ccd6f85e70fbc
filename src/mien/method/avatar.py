"""One person, ready to be driven: Eq. 4 and 13 of the paper, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.format.stream import Stream
from mien.method.image_sequences import BATCH
from mien.method.types import Motion
from mien.nets.decoder.renderer import Renderer
from mien.nets.generator import Generator
from mien.nets.styleflow import HeadPoseFlow
from mien.nets.stylespace import Channel, add_channels, read_channels
from mien.packs.pack import Pack
from mien.packs.resolve import stream_channels


@dataclass(frozen=True)
class Avatar:
    """A generator, the flow that turns heads, the channels V and an identity latent: what 34 numbers a frame drive.

    `identity [L, D]`: L_ID facing the camera. `channels`: C of them, 32 in the shipped packs.
    """

    generator: Generator
    flow: HeadPoseFlow
    channels: tuple[Channel, ...]
    identity: Tensor

    @staticmethod
    def of(stream: Stream, pack: Pack, generator: Generator) -> Avatar:
        """The person of a stream, drawn by `generator` (`mien.packs.resolve.tuned_generator`)."""
        identity = torch.from_numpy(np.asarray(stream.identity, np.float32)).to(pack.device)
        return Avatar(generator, pack.flow, stream_channels(stream, pack), identity)

    @cached_property
    def scale(self) -> Tensor:
        """The unit of each channel, `[C]`."""
        return torch.tensor([c.scale for c in self.channels], dtype=torch.float32, device=self.identity.device)

    @cached_property
    def gaze(self) -> Tensor:
        """Which channels move the irises, bool `[C]`."""
        return torch.tensor([c.attribute == "gaze" for c in self.channels], device=self.identity.device)

    def with_identity(self, identity: Tensor) -> Avatar:
        """Another identity latent `[L, D]` on the same networks."""
        return replace(self, identity=identity)

    def with_generator(self, generator: Generator) -> Avatar:
        """The same latent drawn by another generator."""
        return replace(self, generator=generator)

    def latents(self, angles: Tensor) -> Tensor:
        """LH_t = flow(L_ID, Y_t, P_t): `angles [N, 2]` in degrees -> `[N, L, D]`."""
        n = len(angles)
        prior = self.flow.prior(self.identity[None], angles.new_zeros(1, 2)) if self._learned else self._prior
        return self.flow.with_pose(self.identity.expand(n, -1, -1), prior.expand(n, -1, -1), angles)

    def styles(self, angles: Tensor, alpha: Tensor) -> list[Tensor]:
        """A(LH_t) + alpha_t on V (Eq. 13): `angles [N, 2]` in degrees, `alpha [N, C]` -> styles `[N, C_l]`."""
        styles = self.generator.styles(self.latents(angles))
        if not self._learned:  # angles move the first rows alone: of the others' styles no gradient is asked for
            turned = self.flow.pose.rows
            layers = self.generator.layers
            styles = [s if layer.row < turned else s.detach() for s, layer in zip(styles, layers, strict=True)]
        return self.moved(styles, alpha)

    def styles_at(self, angles: Tensor, values: Tensor) -> list[Tensor]:
        """Eq. 13 for the `values [N, C]` that the channels V are to take, in place of their offsets alpha."""
        styles = self.generator.styles(self.latents(angles))
        return self.moved(styles, values - self.read(styles))

    def moved(self, styles: list[Tensor], alpha: Tensor) -> list[Tensor]:
        """Styles `[N, C_l]` of this generator with `alpha [N, C]` added on V."""
        return add_channels(styles, self.channels, alpha)

    def read(self, styles: list[Tensor]) -> Tensor:
        """The values of the channels V in StyleSpace, `[N, C]`."""
        return read_channels(styles, self.channels)

    def images(self, motion: Motion, size: int) -> ReenactedFrames:
        """Renders of a motion, `[T, 3, size, size]`."""
        return ReenactedFrames(self, motion, size)

    @property
    def _learned(self) -> bool:
        """Whether L_ID is being trained, so that nothing may be kept of it."""
        return self.identity.requires_grad

    @cached_property
    def _prior(self) -> Tensor:
        with torch.no_grad():
            return self.flow.prior(self.identity[None], self.identity.new_zeros(1, 2))


class ReenactedFrames:
    """G_ss(A(LH_t) + alpha_t) of a motion (Eq. 4), as an `ImageSequence`."""

    def __init__(self, avatar: Avatar, motion: Motion, size: int) -> None:
        self._avatar, self._motion, self._size = avatar, motion, size
        self._renderer = Renderer(avatar.generator)

    def __len__(self) -> int:
        return len(self._motion)

    @torch.no_grad()
    def __getitem__(self, part: slice | Tensor, /) -> Tensor:
        motion, avatar = self._motion.part(part), self._avatar
        batch = avatar.generator.frames_at_once(BATCH, self._size)
        each = zip(motion.angles.split(batch), motion.alpha.split(batch), strict=True)
        return torch.cat([self._renderer.picture(avatar.styles(y, a), self._size) for y, a in each])


def channel_offset_for_identity(pack: Pack, stream: Stream, identity: NDArray[np.floating]) -> NDArray[np.float32]:
    """What to add to the stream's channels so that on `identity [L, D]` they take the values they have on its own.

    Returns `[C]`, the channels' values in A(L_ID) of the stream less those in A(`identity`); 0 for channels outside
    the pack's V: only V was chosen, and in the embedded pack taught, to mean the same on everyone, so of the others the
    change from the driver's identity frame is taken over and not the value.
    """
    both = np.stack([np.asarray(stream.identity, np.float32), np.asarray(identity, np.float32)])
    with torch.no_grad():
        styles = pack.generator.styles(torch.from_numpy(both).to(pack.device))
        values = read_channels(styles, stream_channels(stream, pack)).cpu().numpy()
    own = {(c.layer, c.index) for c in pack.channels}
    common = np.array([(x, y) in own for x, y in np.asarray(stream.channels).tolist()])
    return (values[0] - values[1]) * common
