"""Where a crop lies in its clip's frame: as three numbers a frame beside the roll, and back to corners and pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError
from mien.models.landmarks import quad_matrix, warp_crop
from mien.stream import Stream

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]  # [H, W, 3] RGB

FEATHER = 0.12  # share of the crop's side over which it fades into the frame


def placement_from_quads(quads: Array, frame_size: tuple[int, int]) -> NDArray[np.float32]:
    """Centre x, centre y and side `[T, 3]` of crops with corners `quads [T, 4, 2]` (top left, bottom left, bottom
    right, top right, pixel centres at integers), as fractions of the frame's width, height and width."""
    width, height = frame_size
    centre = (quads.mean(1) + 0.5) / [width, height]
    side = np.hypot(*(quads[:, 3] - quads[:, 0]).T) / width
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
    """Cut the stream's crops out of its clip's frames again: uint8 [size, size, 3]. Raises InputError."""
    for frame, quad in zip(frames, quads_from_stream(stream, frame_size), strict=False):
        yield warp_crop(frame, quad, size)


def paste(
    rendered: Iterable[Frame], frames: Iterable[Frame], stream: Stream, frame_size: tuple[int, int]
) -> Iterator[Frame]:
    """Put rendered crops back where they came from in the clip's frames, their edges faded in. Raises InputError."""
    for face, frame, quad in zip(rendered, frames, quads_from_stream(stream, frame_size), strict=False):
        yield _paste_one(face, frame, quad)


def _paste_one(face: Frame, frame: Frame, quad: Array) -> Frame:
    height, width = frame.shape[:2]
    low = np.maximum(np.floor(quad.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(quad.max(0)).astype(int) + 1, [width, height])
    if (high <= low).any():  # the crop lies outside the frame
        return frame
    size = face.shape[0]
    matrix = quad_matrix(quad - low, size)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    target = (int(high[0] - low[0]), int(high[1] - low[1]))
    moved = cv2.warpAffine(face, matrix, target, flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    weight = cv2.warpAffine(_fade(size), matrix, target, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)[..., None]
    result = frame.copy()
    window = result[low[1] : high[1], low[0] : high[0]]
    window[:] = np.clip(moved * weight + window * (1 - weight) + 0.5, 0, 255).astype(np.uint8)
    return result


def _fade(size: int) -> NDArray[np.float32]:
    """1 inside, falling smoothly to 0 at the edges."""
    edge = np.minimum(np.arange(size), np.arange(size)[::-1]) / max(FEATHER * size, 1)
    ramp = np.clip(edge, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.outer(ramp, ramp).astype(np.float32)
