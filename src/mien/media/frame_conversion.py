"""Decoded video frames to upright RGB images, and RGB images to what an encoder takes.

Applies the display matrix, the sample aspect ratio, the colour matrix and range, and tone mapping of HDR.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # SMPTE ST 2084, ARIB STD-B67
# swscale's default is fast and up to 1.3 levels too dark.
ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
ACCURATE |= Interpolation.FULL_CHR_H_INP


def _display_matrix(frame: Any) -> NDArray[np.int64]:
    """The display matrix's 2x2 part reduced to -1, 0, 1: [x', y'] = [x, y] @ matrix, with y down."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return np.eye(2, dtype=np.int64)
    values = np.frombuffer(bytes(data), np.int32)[:9].reshape(3, 3)[:2, :2].astype(np.float64)
    matrix = np.rint(values / max(np.abs(values).max(), 1)).astype(np.int64)
    # Angles that are no multiple of 90 degrees are not undone.
    return matrix if (np.abs(matrix).sum(0) == 1).all() and (np.abs(matrix).sum(1) == 1).all() else np.eye(2, dtype=int)


def upright_size(frame: Any, stream: Any) -> tuple[int, int]:
    """Width and height in square pixels (anamorphic video has a sample aspect ratio other than 1), upright."""
    ratio = stream.sample_aspect_ratio
    width = round(frame.width * ratio) if ratio and Fraction(1, 4) < ratio < 4 else frame.width
    return (frame.height, width) if _display_matrix(frame)[0, 0] == 0 else (width, frame.height)


def to_rgb(frame: Any, size: tuple[int, int]) -> Frame:
    """One decoded frame as an upright uint8 [H, W, 3] RGB image of `size` (width, height)."""
    matrix = _display_matrix(frame)
    swapped = matrix[0, 0] == 0
    width, height = size[::-1] if swapped else size
    if int(frame.color_trc) in HDR_TRANSFERS:
        frame = _tone_map(frame)
    image = frame.reformat(width=width, height=height, format="rgb24", interpolation=ACCURATE).to_ndarray()
    if swapped:  # x and y change places
        image, matrix = image.transpose(1, 0, 2), matrix[::-1]
    if matrix[0, 0] < 0:
        image = image[:, ::-1]
    if matrix[1, 1] < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)


def _tone_map(frame: Any) -> Any:
    """An HDR frame (PQ or HLG, BT.2020) as BT.709, its highlights rolled off."""
    graph = av.filter.Graph()
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000:pixel_aspect=1/1"
        ":colorspace=bt2020nc:range=" + ("pc" if int(frame.color_range) == 2 else "tv"),
    )
    scale = graph.add(
        "scale", "out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709:out_range=pc:intent=perceptual"
    )
    form = graph.add("format", "pix_fmts=rgb24")
    sink = graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(form)
    form.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()


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
