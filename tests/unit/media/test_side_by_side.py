"""Side by side, and crops cut out of their frames and put back."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from skimage.data import astronaut

from factories.clips import pictures
from mien.errors import InputError
from mien.face.mesh import warp_crop
from mien.format.stream import Stream
from mien.media.side_by_side import PANEL, side_by_side
from mien.method.stage6_render.placement import crops, paste, placement_from_quads, quads_from_stream


def stream_of(quads: np.ndarray, roll: float, frame_size: tuple[int, int]) -> Stream:
    frames = np.zeros((len(quads), 35), np.float16)
    frames[:, 0] = roll
    channels = np.stack([np.zeros(32), np.arange(32)], axis=1).astype(np.int16)
    return Stream(
        "0" * 64, "none", 64, Fraction(25), channels, np.zeros((2, 4), np.float16), frames,
        placement=placement_from_quads(quads, frame_size), frame_size=frame_size,
    )  # fmt: skip


def square(centre: tuple[float, float], side: float, roll: float) -> np.ndarray:
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * side / 2
    return corners @ np.array([[c, s], [-s, c]]) + centre


def test_panels_stand_beside_each_other() -> None:
    left, right = pictures(4, 64, 64), pictures(3, 32, 32)
    frames = list(side_by_side([left, right], ["input", "mien"]))
    assert len(frames) == 4, "the one that ends first keeps its last frame"
    height, width, _ = frames[0].shape
    assert height % 2 == width % 2 == 0 and width > 2 * PANEL
    strip = frames[0][PANEL:]
    assert strip[:, : width // 2].max() > 150 and strip[:, width // 2 :].max() > 150, "both captions can be read"
    assert (frames[2][:PANEL, width // 2 + 2 :] == frames[3][:PANEL, width // 2 + 2 :]).all()
    assert (frames[2][:PANEL, :PANEL] != frames[3][:PANEL, :PANEL]).any()


@pytest.mark.parametrize("roll", [0.0, 12.5, -80.0])
def test_placement_brings_the_corners_back(roll: float) -> None:
    quads = np.stack([square((300 + 2 * i, 250), 200, roll) for i in range(3)])
    stream = stream_of(quads, roll, (640, 480))
    assert np.abs(quads_from_stream(stream, (640, 480)) - quads).max() < 0.1, "what is left is the roll's, a half float"
    assert np.abs(quads_from_stream(stream, (1280, 960)) - (quads * 2 + 0.5)).max() < 1
    with pytest.raises(InputError, match="480x640"):
        quads_from_stream(stream, (480, 640))
    with pytest.raises(InputError, match="where the face was"):
        quads_from_stream(replace(stream, placement=None), (640, 480))


@pytest.mark.parametrize("roll", [0.0, 20.0])
def test_a_crop_pasted_back_changes_nothing(roll: float) -> None:
    frame = astronaut()
    quads = square((230, 140), 180, roll)[None]
    stream = stream_of(quads, roll, (512, 512))
    face = next(crops([frame], stream, 256, (512, 512)))
    assert np.abs(face.astype(int) - warp_crop(frame, quads[0], 256)).mean() < 1.5
    back = next(paste([face], [frame], stream, (512, 512)))
    assert np.abs(back.astype(int) - frame).mean() < 0.5
    inverted = next(paste([255 - face], [frame], stream, (512, 512)))
    assert (inverted[300:] == frame[300:]).all(), "what lies outside the crop stays as it is"
    there = np.s_[100:180, 190:270, 1]
    assert np.corrcoef(inverted[there].ravel(), frame[there].ravel())[0, 1] < -0.5, "the render is what is seen"


def test_a_crop_that_leaves_the_frame() -> None:
    frame = astronaut()
    for centre in ((0.0, 0.0), (-500.0, 250.0)):
        stream = stream_of(square(centre, 200, 0)[None], 0.0, (512, 512))
        face = next(crops([frame], stream, 64, (512, 512)))
        assert next(paste([face], [frame], stream, (512, 512))).shape == frame.shape
