"""Frames to be measured: of a video, of a folder of images, or of one panel of a side-by-side clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError, VideoError
from mien.media.still_images import IMAGE_SUFFIXES, read_image
from mien.media.video import read_video

Frame = NDArray[np.uint8]  # [H, W, 3] RGB
FOLDER_FPS = 25.0  # images say nothing of time


def count_frames(path: str | Path) -> int:
    """Count the frames of a video or a folder of images. Raises VideoError or InputError as `frames` does."""
    folder = Path(path)
    return len(_images(folder)) if folder.is_dir() else read_video(folder).frame_count


def frame_rate(path: str | Path) -> float:
    """Frames a second of a video; of a folder of images, `FOLDER_FPS`."""
    folder = Path(path)
    return FOLDER_FPS if folder.is_dir() else float(read_video(folder).fps)


def frames(path: str | Path, *, size: int = 256, step: int = 1, panel: int | None = None) -> Iterator[Frame]:
    """Yield every `step`-th frame of a video, or of a folder of images in the order of their names.

    Frames are uint8 [size, size, 3] RGB, area-averaged to `size`. `panel` cuts square number `panel` (from 0) out of a
    row of squares.

    Raises VideoError (unreadable), InputError (an empty folder, no such panel).
    """
    for index, frame in enumerate(whole_frames(path)):
        if index % step == 0:
            yield resize(_cut(frame, panel, path), size)


def panel_frames(path: str | Path, panel: int) -> Iterator[Frame]:
    """Yield every frame's square number `panel`, at its own size. Raises as `frames` does."""
    for frame in whole_frames(path):
        yield _cut(frame, panel, path)


def resize(frame: Frame, size: int) -> Frame:
    """Resize a frame [H, W, 3] to `size` x `size`: area average, bilinear where it grows."""
    if frame.shape[:2] == (size, size):
        return frame
    return np.asarray(cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def whole_frames(path: str | Path) -> Iterator[Frame]:
    """Yield every frame, uint8 [H, W, 3], as it is. Raises as `frames` does."""
    folder = Path(path)
    return map(read_image, _images(folder)) if folder.is_dir() else iter(read_video(folder))


def _images(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise VideoError(f"the folder {folder} holds no images.")
    return found


def _cut(frame: Frame, panel: int | None, path: str | Path) -> Frame:
    if panel is None:
        return frame
    side = frame.shape[0]
    if (panel + 1) * side > frame.shape[1]:
        raise InputError(f"{path} has {frame.shape[1] // side} square panels; {panel} is not one of 0 and up.")
    return np.ascontiguousarray(frame[:, panel * side : (panel + 1) * side])
