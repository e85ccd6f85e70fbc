"""The Live tab's driver: pictures in, pictures out, and what is no picture of a camera."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest

from mien.apps.studio.live_driver import MOST_BYTES, LiveDriver, camera_picture
from mien.apps.telepresence.face import FacePainter, LiveFace
from mien.errors import InputError
from mien.format.stream import Stream
from mien.method.avatar import Avatar
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack


def jpeg(height: int, width: int) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", jpeg(48, 64)[:60], jpeg(8, 8), jpeg(20, 2000), jpeg(48, 64) + bytes(MOST_BYTES),
     cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()],
)  # fmt: skip
def test_what_is_no_picture_of_a_camera_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        camera_picture(data)


def test_without_a_face_the_face_rests(pack: Pack) -> None:
    identity = pack.people[0].numpy().astype(np.float16)
    still = Stream(pack.fingerprint, pack.name, pack.resolution, Fraction(25), channel_table(pack.channels), identity,
                   np.zeros((1, 35), np.float16))  # fmt: skip
    scale = np.array([c.scale for c in pack.channels])
    reader: Any = None  # no face is seen, so nothing is read
    driver = LiveDriver(
        LiveFace(still, FacePainter(Avatar.of(still, pack, pack.generator)), scale, np.zeros((0, 32)), reader)
    )
    for _ in range(2):
        body = driver.show(jpeg(120, 160)).body()
    track, draw, rate, seen = struct.unpack("<4f", body[:16])
    assert track > 0 and draw > 0 and rate > 0 and seen == 0
    assert cv2.imdecode(np.frombuffer(body[16:], np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)
