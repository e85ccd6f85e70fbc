"""Clips whose frames are not square are compared by the face in them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from factories.clips import pictures
from mien.evaluate.evaluate import evaluate
from mien.evaluate.face_crops import portrait_crops
from mien.evaluate.metrics.psnr import psnr
from mien.evaluate.sides import Side
from mien.face.mesh import FaceMesh
from mien.media.images import MAX_PSNR_DB
from mien.media.video import write_video
from mien.runtime.progress import NoProgress

FACE = astronaut()[0:256, 90:346]
SHIFTS = (0, 3, 6, 4)  # pixels


def written(path: Path, right: int, width: int = 900) -> Path:
    """A face that moves at the left of wide frames, whose right part is of the brightness `right`."""
    frames = [np.full((256, width, 3), right, np.uint8) for _ in SHIFTS]
    for frame, shift in zip(frames, SHIFTS, strict=True):
        frame[:, : 256 + shift] = cv2.copyMakeBorder(FACE, 0, 0, shift, 0, cv2.BORDER_REPLICATE)
    write_video(path, frames, 25)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("wide")
    return written(folder / "a.mkv", 40), written(folder / "b.mkv", 220)


def test_what_is_beside_the_face_does_not_count(clips: tuple[Path, Path]) -> None:
    found = evaluate(*clips)
    assert found.values["psnr"] == pytest.approx(MAX_PSNR_DB)
    assert (found.frames, found.faces) == (len(SHIFTS), len(SHIFTS))
    assert found.values["head_pose"] == pytest.approx(0, abs=1e-6)


def test_a_face_keeps_its_shape(clips: tuple[Path, Path]) -> None:
    """The picture is the crop of stage 1: not a frame that was squeezed to a square."""
    first = next(iter(Side(clips[0], 128, 1, None, progress=NoProgress())))
    mesher = FaceMesh()
    with closing(mesher):
        crop = portrait_crops(clips[0], mesher)[0]
    assert psnr(first, cv2.resize(crop, (128, 128), interpolation=cv2.INTER_AREA)) > 25


def test_every_other_picture(clips: tuple[Path, Path]) -> None:
    whole, half = (list(Side(clips[0], 64, step, None, progress=NoProgress())) for step in (1, 2))
    assert len(whole) == len(SHIFTS)
    assert np.array_equal(whole[::2], half)


def test_a_square_clip_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "square.mkv"
    frames = list(pictures(3, 96, 96))
    write_video(path, frames, 25)
    assert np.array_equal(list(Side(path, 96, 1, None, progress=NoProgress())), frames)
