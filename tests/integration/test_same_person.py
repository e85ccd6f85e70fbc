"""Whether a driver is taken for the person who is shown, with the embedded pack."""

from __future__ import annotations

import pytest

from factories import TESTS
from mien.apps.telepresence.face import drawn_face, read_face
from mien.apps.telepresence.same_person import PersonCheck
from mien.face.mesh import FaceMesh
from mien.media.still_images import read_image
from mien.media.video import read_video

EXAMPLES = TESTS.parent / "examples"


@pytest.mark.slow
def test_a_driver_is_recognised_and_another_is_not() -> None:
    face = drawn_face(read_face(EXAMPLES / "clip.mien"), None)
    check, mesh = PersonCheck(face.paint(face.neutral)), FaceMesh()
    own, other = next(iter(read_video(EXAMPLES / "clip.mp4"))), read_image(EXAMPLES / "portrait.png")
    assert check(own, mesh(own)[0]) and not check(other, mesh(other)[0])
