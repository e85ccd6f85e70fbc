"""Where a crop lies in its clip's frame: as three numbers a frame beside the roll, and back to corners and pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError
from mien.face.mesh import warp_crop
from mien.format.stream import Stream
from mien.method.stage6_render.paste import Paster

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]  # [H, W, 3] RGB


def placement_from_quads(
    quads: Array, frame_size: tuple[int, int], lost: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Centre x, centre y and side `[T, 3]` of crops with corners `quads [T, 4, 2]` (top left, bottom left, bottom
    right, top right, pixel centres at integers), as fractions of the frame's width, height and width.

    The side is 0 in frames where the face is `lost [T]`: nothing is pasted there."""
    width, height = frame_size
    centre = (quads.mean(1) + 0.5) / [width, height]
    side = np.hypot(*(quads[:, 3] - quads[:, 0]).T) / width
    if lost is not None:
        side = np.where(lost, 0.0, side)
    return np.concatenate([centre, side[:, None]], axis=1).astype(np.float32)


def quads_from_stream(stream: Stream, frame_size: tuple[int, int]) -> Array:
    """Corners `[T, 4, 2]` of the stream's crops in frames of `frame_size`, turned by the roll R_t.

    Raises InputError when the stream does not say where its crops were, or the frames have another aspect ratio.
    """
    if stream.placement is None or stream.frame_size is None:
        raise InputError(
            "the stream does not say where the face was in the clip's frame (was it made with --aligned?)."
        )
    width, height = frame_size
    if abs(width / height - stream.frame_size[0] / stream.frame_size[1]) > 0.02:
        was = "x".join(map(str, stream.frame_size))
        raise InputError(f"the clip's frames are {width}x{height}, those that were encoded were {was}.")
    place = np.asarray(stream.placement, np.float64)
    roll = np.radians(np.asarray(stream.frames[:, 0], np.float64))
    half = place[:, 2:] * width / 2
    right = np.stack([np.cos(roll), np.sin(roll)], axis=1) * half
    down = np.stack([-np.sin(roll), np.cos(roll)], axis=1) * half
    centre = place[:, :2] * [width, height] - 0.5
    return np.stack(
        [centre - right - down, centre - right + down, centre + right + down, centre + right - down], axis=1
    )


def crops(frames: Iterable[Frame], stream: Stream, size: int, frame_size: tuple[int, int]) -> Iterator[Frame]:
    """Cut the stream's crops out of its clip's frames again: uint8 [size, size, 3]. Raises InputError.

    Where the face was out of sight the crop stays where it was last."""
    quads = quads_from_stream(stream, frame_size)
    seen = np.flatnonzero(np.hypot(*(quads[:, 3] - quads[:, 0]).T) > 0)
    if not len(seen):
        raise InputError("the stream says that the face was never in sight.")
    last = np.maximum(np.searchsorted(seen, np.arange(len(quads)), side="right") - 1, 0)
    for frame, quad in zip(frames, quads[seen[last]], strict=False):
        yield warp_crop(frame, quad, size)


def paste(
    rendered: Iterable[Frame], frames: Iterable[Frame], stream: Stream, frame_size: tuple[int, int]
) -> Iterator[Frame]:
    """Put rendered crops back where they came from in the clip's frames: their edges blended, their colours matched,
    frames without the face as they are. Raises InputError, also where the clip ends before the stream."""
    paster, left = Paster(), iter(frames)
    for face, quad in zip(rendered, quads_from_stream(stream, frame_size), strict=True):
        frame = next(left, None)
        if frame is None:
            raise InputError("the clip ends before the stream does, so faces cannot be put back into it (see --start).")
        yield paster(frame, face, quad)
