"""The invisible mark: seen by nobody, found by the detector, in coded, smaller, cropped and mirrored videos too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from factories import ROOT
from mien.media.video import read_video, write_video
from mien.media.watermark import Watermark, marked, tile
from mien.media.watermark_detection import FOUND, Detection, WatermarkDetector

KEY = "ab" * 32
Frames = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def plain() -> Frames:
    """30 frames of a face, 256x256."""
    clip = read_video(ROOT / "examples" / "clip.mp4", duration=30 / 25)
    return [cv2.resize(frame, (256, 256), interpolation=cv2.INTER_AREA) for frame in clip]


@pytest.fixture(scope="module")
def bearing(plain: Frames) -> Frames:
    return list(marked(plain, KEY))


def detect(frames: Frames, key: str | None = None) -> Detection:
    detector = WatermarkDetector()
    for frame in frames:
        detector.add(frame)
    return detector.result(key)


def test_the_mark_is_below_what_is_seen_and_leaves_the_frame_given(plain: Frames) -> None:
    before = plain[0].copy()
    after = Watermark(KEY, 256, 256)(plain[0])
    error = np.mean((after.astype(float) - before) ** 2)
    assert 45 < 10 * np.log10(255**2 / error) < 49
    assert (plain[0] == before).all() and after.dtype == np.uint8


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_do_not_wrap(value: int) -> None:
    frame = np.full((64, 64, 3), value, np.uint8)
    assert np.abs(Watermark(KEY, 64, 64)(frame).astype(int) - value).max() < 10


def test_without_a_mark_nothing_is_found(plain: Frames) -> None:
    assert detect(plain, KEY).p_value > 1e-3
    noise = np.random.default_rng(0).integers(0, 256, (8, 96, 128, 3), np.uint8)
    assert detect(list(noise)).p_value > 1e-3


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f,
        lambda f: cv2.resize(f, (128, 128), interpolation=cv2.INTER_AREA),
        lambda f: f[13:-13, 20:-6],
        lambda f: np.ascontiguousarray(f[:, ::-1]),
        lambda f: np.pad(cv2.resize(f, (300, 300)), ((30, 40), (200, 60), (0, 0)), constant_values=40),
    ],
    ids=["as it is", "half size", "cropped", "mirrored", "on a larger screen"],
)
def test_the_mark_is_found_and_is_its_streams(
    bearing: Frames, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> None:
    frames = [change(frame) for frame in bearing]
    found = detect(frames, KEY)
    assert found.found and found.stream_p_value is not None and found.stream_p_value < 1e-3
    other = detect(frames, "cd" * 32)
    assert other.found and other.stream_p_value is not None and other.stream_p_value > 1e-3


def test_the_mark_outlives_h264(bearing: Frames, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", bearing, 25)
    assert detect(list(read_video(tmp_path / "a.mp4"))).p_value < FOUND


def test_a_marked_part_of_a_longer_video_is_found(plain: Frames, bearing: Frames) -> None:
    frames = plain * 9 + bearing * 9  # 270 frames each, the windows 250
    found = detect(frames)
    assert found.found


def test_two_keys_have_two_tiles() -> None:
    first, second = tile("a"), tile("b")
    assert abs(float(np.mean(first * second))) < 0.2
    assert float(np.mean(first)) == pytest.approx(0, abs=1e-6) and float(first.std()) == pytest.approx(1, abs=1e-5)


def test_frames_too_small_to_hold_a_mark_are_not_searched() -> None:
    assert detect([np.zeros((16, 16, 3), np.uint8)]).p_value == 1.0
