"""A face that a visitor's camera drives: a picture of the camera comes in, a picture of the face goes out."""

from __future__ import annotations

import io
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.apps.telepresence.face import LiveFace
from mien.apps.telepresence.marks import Marker, Marks
from mien.apps.telepresence.packet_sizes import PacketSizes
from mien.apps.telepresence.session import LiveOptions, MotionTracker
from mien.apps.telepresence.sources import Captured
from mien.errors import InputError

MOST_BYTES = 400_000  # of a camera's picture
MOST_SIDE = 1280
QUALITY = 88
_HEAD = struct.Struct("<4f")


@dataclass(frozen=True)
class LiveAnswer:
    """A JPEG of the face, seconds of `track` and `draw`, `kbit_s` of the numbers in the last second, whether a face was
    seen."""

    jpeg: bytes
    track: float
    draw: float
    kbit_s: float
    seen: bool

    def body(self) -> bytes:
        """What the page reads: four float32 (track and draw in milliseconds, kbit/s, seen), then the JPEG."""
        return _HEAD.pack(1000 * self.track, 1000 * self.draw, self.kbit_s, self.seen) + self.jpeg


class LiveDriver:
    """Drives one face for one visitor. Two pictures may be under way: one is tracked while the one before it is
    drawn."""

    def __init__(self, face: LiveFace) -> None:
        self._face, self._marker = face, Marker(face.still, Marks())
        self._tracker = MotionTracker(face, LiveOptions())
        self._tracking, self._drawing = threading.Lock(), threading.Lock()
        self._packets, self._sizes = PacketSizes(face.unit), deque[tuple[float, int]](maxlen=240)
        self._count = 0

    def show(self, data: bytes) -> LiveAnswer:
        """The face for a camera's picture, a JPEG. Raises InputError."""
        frame = camera_picture(data)
        with self._tracking:
            now = time.monotonic()
            self._count += 1
            tracked = self._tracker(Captured(self._count, now, frame))
            self._sizes.append((now, self._packets(self._count, tracked.row)))
            bits = 8 * sum(size for at, size in self._sizes if at > now - 1)
        with self._drawing:
            begin = time.monotonic()
            picture = self._marker(self._face.paint(tracked.row))
            done, coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            assert done
        return LiveAnswer(coded.tobytes(), tracked.seconds, time.monotonic() - begin, bits / 1000, tracked.seen)


def camera_picture(data: bytes) -> NDArray[np.uint8]:
    """A JPEG as RGB `[H, W, 3]`. Raises InputError: it is none, or too large."""
    from PIL import Image

    if len(data) > MOST_BYTES:
        raise InputError("This picture is too large.")
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:  # reads the head only
            size = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError("This picture cannot be read.") from error
    if not 16 <= min(size) <= max(size) <= MOST_SIDE:
        raise InputError("This picture is too large.")
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise InputError("This picture cannot be read.")
    return np.ascontiguousarray(found[..., ::-1])
