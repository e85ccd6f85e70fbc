"""Decoded video frames to upright RGB images, and RGB images to what an encoder takes.

Applies the display matrix, the sample aspect ratio, the colour matrix and range, and tone mapping of HDR.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from mien.media import hdr

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
# swscale's default is fast and up to 1.3 levels too dark.
ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
ACCURATE |= Interpolation.FULL_CHR_H_INP


def display_matrix(frame: Any, codec: str = "") -> NDArray[np.int64]:
    """The display matrix's 2x2 part reduced to -1, 0, 1: [x', y'] = [x, y] @ matrix, with y down.

    `codec`: the name of the frame's codec. Angles that are no multiple of 90 degrees are not undone.
    """
    # PyAV frees the text that goes with a PNG's colour profile twice: the side data of a PNG are never touched.
    data = None if codec in ("png", "apng") else _matrix_data(frame)
    if data is None:
        turns = round(frame.rotation / 90) % 4  # counterclockwise; a mirrored picture does not say so here
        return np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), turns)
    values = np.frombuffer(data, np.int32)[:9].reshape(3, 3)[:2, :2].astype(np.float64)
    matrix = np.rint(values / max(np.abs(values).max(), 1)).astype(np.int64)
    return matrix if (np.abs(matrix).sum(0) == 1).all() and (np.abs(matrix).sum(1) == 1).all() else np.eye(2, dtype=int)


def _matrix_data(frame: Any) -> bytes | None:
    """A copy of the display matrix; None where there is none, or it comes after side data of a kind that PyAV does not
    know."""
    # Not `frame.side_data`: the frame would hold it, and it the frame, until the collector frees them in any order.
    found = SideDataContainer.__new__(SideDataContainer)
    with suppress(ValueError):  # at the first of a kind that PyAV does not know, with all before it read
        found.__init__(frame)  # type: ignore[misc]
    for number in range(len(found)):
        data = found[number]
        with suppress(ValueError):
            if data.type is Type.DISPLAYMATRIX:
                return bytes(data)
    return None


def upright_size(frame: Any, ratio: Fraction | None, codec: str = "") -> tuple[int, int]:
    """Width and height in square pixels, upright. `ratio`: the sample aspect ratio (1: square pixels)."""
    width = round(frame.width * ratio) if ratio and Fraction(1, 4) < ratio < 4 else frame.width
    return (frame.height, width) if display_matrix(frame, codec)[0, 0] == 0 else (width, frame.height)


class Converter:
    """`converter(frame)`: one decoded frame as an upright uint8 [H, W, 3] RGB image of `size` (width, height).

    A frame of another shape keeps its own: it is scaled to fit and stands in the middle, on black. `ratio` is the
    stream's sample aspect ratio, `codec` its codec's name.
    """

    def __init__(self, size: tuple[int, int], ratio: Fraction | None = None, codec: str = "") -> None:
        self._size, self._ratio, self._codec = size, ratio, codec
        self._tone_mapper: hdr.ToneMapper | None = None

    def __call__(self, frame: Any) -> Frame:
        own = upright_size(frame, self._ratio, self._codec)
        fitted = _fitted(own, self._size)
        image = self._upright(frame, fitted)
        if fitted == self._size:
            return image
        canvas = np.zeros((self._size[1], self._size[0], 3), np.uint8)
        left, top = (self._size[0] - fitted[0]) // 2, (self._size[1] - fitted[1]) // 2
        canvas[top : top + fitted[1], left : left + fitted[0]] = image
        return canvas

    def _upright(self, frame: Any, size: tuple[int, int]) -> Frame:
        matrix = display_matrix(frame, self._codec)
        swapped = matrix[0, 0] == 0
        width, height = size[::-1] if swapped else size
        if int(frame.color_trc) in hdr.HDR_TRANSFERS:
            if self._tone_mapper is None or self._tone_mapper.kind != hdr.kind(frame):
                self._tone_mapper = hdr.ToneMapper(frame)
            frame = self._tone_mapper(frame)
        image = frame.reformat(width=width, height=height, format="rgb24", interpolation=ACCURATE).to_ndarray()
        if swapped:  # x and y change places
            image, matrix = image.transpose(1, 0, 2), matrix[::-1]
        if matrix[0, 0] < 0:
            image = image[:, ::-1]
        if matrix[1, 1] < 0:
            image = image[::-1]
        return np.ascontiguousarray(image)


def _fitted(own: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture `own`, scaled to fit into `size`: the whole of it where shapes differ by
    rounding."""
    scale = min(size[0] / own[0], size[1] / own[1])
    width, height = max(round(own[0] * scale), 1), max(round(own[1] * scale), 1)
    return size if abs(width - size[0]) <= 2 and abs(height - size[1]) <= 2 else (width, height)


def to_yuv(frame: Frame, stream: Any) -> Any:
    """An RGB image as a frame that the stream's encoder takes."""
    pad = ((0, stream.height - frame.shape[0]), (0, stream.width - frame.shape[1]), (0, 0))
    if any(after for _, after in pad):
        frame = np.pad(frame, pad, mode="edge")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    if stream.pix_fmt == "bgr0":
        return picture.reformat(format="bgr0")
    return picture.reformat(
        format="yuv420p",
        interpolation=ACCURATE,
        dst_colorspace="ITU709",
        dst_color_range="MPEG",
        dst_color_trc=1,
        dst_color_primaries=1,
    )
