"""Clips and portraits as people have them, by the embedded pack up to where the long work would begin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.api import align_clip, encode
from mien.errors import FaceError, PersonChangeError
from mien.face.mesh import FaceMesh
from mien.media.still_images import read_image
from mien.media.video import read_video
from mien.method.stage1_align.align import AlignOptions, align_image
from mien.method.types import FaceTrack
from mien.packs.pack import Pack
from mien.runtime.monitor import StageMonitor

FAULTS = Path(__file__).parents[3] / "shared" / "faults"
pytestmark = pytest.mark.skipif(not FAULTS.is_dir(), reason=f"needs {FAULTS}")


def track(name: str, mini: Pack) -> FaceTrack:
    return align_clip(read_video(FAULTS / name), mini, AlignOptions(), monitor=StageMonitor())


def test_a_close_up_has_one_forehead(mini: Pack) -> None:
    """Above the cut the mirrored skin is gone: no row there looks like the one that a mirror would put there."""
    faces = track("closeup.mp4", mini)
    assert faces.bounds is not None and len(faces) == 10
    crop = faces.crops[0].astype(float)
    border = round((0 - faces.quads[0, 0, 1]) / (faces.quads[0, 1, 1] - faces.quads[0, 0, 1]) * len(crop))
    skin, above = crop[border + 8 : border + 30, 100:156], crop[: border - 12, 100:156]
    assert above.mean() < 0.7 * skin.mean(), "hair, and no second forehead"
    mesh = FaceMesh(max_faces=2)
    assert len(mesh(faces.crops[0])) == 1
    mesh.close()


@pytest.mark.parametrize(
    ("name", "frames", "lost"),
    [
        ("face_away_and_back.mp4", 16, list(range(8, 14))),
        ("turned_while_recording.webm", 24, []),
        ("joined.ts", 30, []),
        ("jump.mkv", 30, []),
    ],
)
def test_the_face_is_followed_and_lost_frames_are_true(mini: Pack, name: str, frames: int, lost: list[int]) -> None:
    faces = track(name, mini)
    assert len(faces) == frames and np.flatnonzero(faces.lost).tolist() == lost


def test_a_cut_to_another_person_is_said_with_its_place() -> None:
    with pytest.raises(PersonChangeError) as raised:
        encode(FAULTS / "interview_cut.mp4", tune=False)
    assert raised.value.frames == [6] and raised.value.times == pytest.approx([0.24])


def test_of_two_people_each_can_be_taken() -> None:
    image = read_image(FAULTS / "two_people.jpg")
    places = [align_image(image, 64, face).quads[0].mean(0)[0] for face in (1, 2)]
    assert places == pytest.approx([275, 844], abs=15)
    with pytest.raises(FaceError, match="there are 2 faces"):
        align_image(image, 64, 3)


def test_a_landscape_has_no_face() -> None:
    with pytest.raises(FaceError, match="no face"):
        align_image(read_image(FAULTS / "landscape_no_face.jpg"), 64)


@pytest.mark.parametrize("name", ["IMG_0001.HEIC", "photo_exif.jpg", "portrait_adobe_rgb.jpg", "icc_srgb.png"])
def test_portraits_show_a_face(name: str) -> None:
    assert len(align_image(read_image(FAULTS / name), 64)) == 1
