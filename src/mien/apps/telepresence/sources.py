"""Where frames come from: a camera, a clip that runs at its own rate as a camera would, or a stream of a network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from mien.apps.telepresence.newest import Newest
from mien.errors import InputError
from mien.media.video import Clip

Image = NDArray[np.uint8]
CAMERA_RATE = Fraction(30)
PROTOCOLS = ("rtsp", "rtsps", "rtmp", "srt", "udp", "rtp", "tcp", "http", "https")
BOTH = "give --camera or --input, not both."
PATIENCE_S = 10.0  # for a stream's next byte


@dataclass(frozen=True)
class Captured:
    """A frame RGB uint8 `[H, W, 3]`, its number in the source, and when it was there, in seconds of the clock."""

    index: int
    time: float
    frame: Image


class Source(Protocol):
    """Frames at `fps`; `count` of them, None where there is no end."""

    fps: Fraction
    count: int | None

    def frames(self) -> Iterator[tuple[float, Image]]:
        """Each frame with the seconds of the clock at which it was there, when it is."""
        ...


class ClipSource:
    """A clip that runs as if it were filmed now: frame i is there i / fps seconds after the first, and the first at
    `begin`, seconds of the clock, or as soon as it is asked for."""

    def __init__(self, clip: Clip, now: Callable[[], float] = time.monotonic) -> None:
        self.fps, self._clip, self._now = clip.fps, clip, now
        self.count: int | None = len(clip)
        self.begin: float | None = None

    def frames(self) -> Iterator[tuple[float, Image]]:
        begin = self.begin
        for i, frame in enumerate(self._clip):
            begin = self._now() if begin is None else begin
            due = begin + i / float(self.fps)
            wait = due - self._now()
            if wait > 0:
                time.sleep(wait)
            # A frame that was decoded late was there in time all the same: the delay is counted from when it was due.
            yield due, frame


class CameraSource:
    """A camera of this machine, by its number. Raises InputError where there is none."""

    def __init__(self, number: int) -> None:
        self.count: int | None = None
        self._camera = cv2.VideoCapture(number)
        if not self._camera.isOpened():
            raise InputError(f"camera {number} cannot be opened: there is none, or another program uses it.")
        self._camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        rate = self._camera.get(cv2.CAP_PROP_FPS)
        self.fps = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 120 else CAMERA_RATE

    def frames(self) -> Iterator[tuple[float, Image]]:
        try:
            while True:
                there, frame = self._camera.read()
                if not there:
                    return
                yield time.monotonic(), np.ascontiguousarray(frame[..., ::-1])
        finally:
            self._camera.release()


def is_address(text: str) -> bool:
    """Whether that is a network address and not a file: it has a protocol in front."""
    return "://" in text


class NetworkSource:
    """The video of a network stream, each frame there when it arrived, those of a file when they are due. It ends where
    the stream does, or where nothing comes for ten seconds.

    Raises InputError for a protocol that is not in `PROTOCOLS`, and where no video is to be had.
    """

    def __init__(self, address: str) -> None:
        self.count: int | None = None
        try:
            parts = urlsplit(address)
        except ValueError as error:
            raise InputError("what is given as a stream is no address: its host cannot be read.") from error
        where = f"the stream at {parts.hostname or 'that address'}"  # without the password that an address may hold
        if parts.scheme.lower() not in PROTOCOLS:
            raise InputError(
                f"a stream comes by {', '.join(PROTOCOLS[:-1])} or {PROTOCOLS[-1]}, not by {parts.scheme!r}."
            )
        options = {"flags": "low_delay", "rtsp_transport": "tcp"}
        try:
            self._container = av.open(address, options=options, timeout=PATIENCE_S)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise InputError(
                f"{where} cannot be opened: {(getattr(error, 'strerror', None) or str(error)).lower()}."
            ) from None
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{where} has no video.")
        rate = self._container.streams.video[0].average_rate
        self.fps = rate.limit_denominator(1001) if rate and 1 <= rate <= 120 else CAMERA_RATE

    def frames(self) -> Iterator[tuple[float, Image]]:
        finite, begin = self._container.duration is not None, time.monotonic()
        try:
            for packet in self._container.demux(video=0):
                with suppress(av.error.InvalidDataError):  # damaged on the way: the next one may be whole
                    for frame in packet.decode():
                        if finite and frame.time is not None:  # a file comes as fast as the network lets it
                            time.sleep(max(begin + frame.time - time.monotonic(), 0.0))
                        yield time.monotonic(), np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        except (av.error.FFmpegError, OSError):
            return
        finally:
            self._container.close()


def feed(source: Source, place: Newest[Captured], stop: threading.Event) -> threading.Thread:
    """Put the frames of a source into `place` from a thread of their own, until it ends or `stop` is set.

    Frames are numbered by the time at which they came, so that a camera that gives fewer than it says, as in dim
    light, does not run fast. Of one that gives more, those are left out that are a second ahead.
    """

    def work() -> None:
        fps, number, first = float(source.fps), -1, None
        try:
            for there, frame in source.frames():
                if stop.is_set():
                    break
                first = there if first is None else first
                due = round((there - first) * fps)
                if number + 1 <= due + fps:
                    number = max(number + 1, due)
                    place.put(Captured(number, there, frame))
            place.close()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised at the taker's
            place.close(error)

    thread = threading.Thread(target=work, daemon=True, name="mien-source")
    thread.start()
    return thread


def live_source(camera: int | None, given: str | None) -> Source:
    """A camera, or the clip or stream that `given` names. Raises InputError and VideoError."""
    if given is None or not is_address(given):
        return camera_or_clip(camera, None if given is None else Path(given))
    if camera is not None:
        raise InputError(BOTH)
    return NetworkSource(given)


def camera_or_clip(camera: int | None, path: Path | None) -> Source:
    """The source that was asked for. Raises InputError and VideoError."""
    if path is None:
        return CameraSource(0 if camera is None else camera)
    if camera is not None:
        raise InputError(BOTH)
    from mien.media.video import read_video

    return ClipSource(read_video(path))
