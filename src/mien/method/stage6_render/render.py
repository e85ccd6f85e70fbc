"""Stage 6: a Stream to frames (the paper, Sec. 3.5, Eq. 4 and 13)."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.format.stream import Stream
from mien.method.avatar import Avatar
from mien.method.types import Motion
from mien.nets.decoder.for_generator import decoder_for
from mien.nets.generator import Generator
from mien.packs.pack import Pack
from mien.packs.resolve import Where, pack_for, tuned_generator
from mien.runtime.device import resolve_device

BATCH = 8
STYLES_AT_ONCE = 64
WORTH_PREPARING = 16  # frames; with fewer, preparing the weights takes longer than it saves


def render(
    stream: Stream, *, pack: str | Pack | None = None, person: Where = None, device: str = "auto", exact: bool = False,
    size: int | None = None,
) -> Iterator[NDArray[np.uint8]]:  # fmt: skip
    """Frames of a stream, uint8 RGB `[H, W, 3]`, one by one.

    `pack`: a name, a path or a loaded pack; by default the one that the stream names. `person`: for a stream that names
    a person, that person, its file, or a folder to look in first. `exact`: by the generator's own modules also where a
    faster way is here, which differs in rounding only (research/speed.md). `size`: side of the pictures in pixels, where
    the pack draws it; by default the stream's own, at which its weights were learned. Raises PackError, StreamError.
    """
    return iter(FrameRenderer.of(stream, pack=pack, person=person, device=device, exact=exact, size=size))


def render_frames(
    stream: Stream, pack: Pack, generator: Generator, *, exact: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """Frames of a stream by a generator that is already tuned."""
    return iter(FrameRenderer(stream, pack, generator, exact=exact))


class FrameRenderer:
    """Renders any frames of a stream, with all that is the same for every frame done once.

    `exact`: as in `render`. `int16`: for what is only looked at, faster products where there are any (`decoder_for`).
    """

    def __init__(
        self, stream: Stream, pack: Pack, generator: Generator, *, exact: bool = False, int16: bool = False,
        size: int | None = None,
    ) -> None:  # fmt: skip
        """`size`: side to which pictures are averaged down, None for the generator's own."""
        self._size = generator.resolution if size is None else size
        self._avatar = Avatar.of(stream, pack, generator)
        self._motion = Motion.from_rows(stream.frames, pack.device)
        self._decoder = decoder_for(generator, exact=exact or len(stream) < WORTH_PREPARING, int16=int16)

    @staticmethod
    def of(
        stream: Stream, *, pack: str | Pack | None = None, person: Where = None, device: str = "auto",
        exact: bool = False, int16: bool = False, size: int | None = None,
    ) -> FrameRenderer:  # fmt: skip
        """A stream's renderer, with its pack and its person found as `render` does, at the `size` that is asked for."""
        shown = stream.resolution if size is None else size
        found = pack_for(stream, pack, max(shown, stream.resolution)).to(resolve_device(device))
        generator, drawn = tuned_generator(stream, found, person), shown
        if shown < stream.resolution and (stream.tuning or stream.person):
            # Weights that were learned in larger pictures do not fit the networks for smaller ones.
            drawn = generator.at(stream.resolution).compared_size(shown)
        return FrameRenderer(stream, found.at(drawn), generator.at(drawn), exact=exact, int16=int16, size=shown)

    def __call__(self, first: int, last: int) -> NDArray[np.uint8]:
        """Frames `first` to `last` - 1, uint8 RGB `[N, H, W, 3]`."""
        return self._drawn(self.styles(first, last))

    def _drawn(self, styles: list[Tensor]) -> NDArray[np.uint8]:
        pictures = self._decoder(styles)
        if pictures.shape[1] == self._size:
            return pictures
        side = self._size, self._size
        return np.stack([cv2.resize(picture, side, interpolation=cv2.INTER_AREA) for picture in pictures])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        # Latents of many frames at once, since the flow is small; pictures of a few, since they are large.
        for start in range(0, len(self._motion), STYLES_AT_ONCE):
            styles = self.styles(start, start + STYLES_AT_ONCE)
            for i in range(0, len(styles[0]), BATCH):
                yield from self._drawn([s[i : i + BATCH] for s in styles])

    @torch.no_grad()
    def styles(self, first: int, last: int) -> list[Tensor]:
        """A(LH_t) + alpha_t of frames `first` to `last` - 1 (Eq. 13)."""
        part = self._motion.part(slice(first, last))
        return self._avatar.styles(self._avatar.flow.clamp(part.angles), part.alpha)
