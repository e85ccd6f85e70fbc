"""Where frames go: a video file, a .mien, a window, a virtual camera. Each takes every frame of the source's clock."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError
from mien.media.player import has_desktop, player, window, yuv4mpeg_frame, yuv4mpeg_header
from mien.media.video import SYNTHETIC, VIDEO_SUFFIXES, write_video
from mien.runtime.files import check_output

Image = NDArray[np.uint8]
Row = NDArray[np.float64]
VIRTUAL_CAMERA_SIZE = (1280, 720)
VIRTUAL_CAMERA_RATE = 30
_AHEAD = 64  # frames that wait for the video's coder
PRESET = "veryfast"  # x264's: the cores are wanted for the face


class Output(Protocol):
    """Takes what is shown."""

    def show(self, picture: Image, row: Row, repeats: int) -> None:
        """A new picture and its numbers, after the one before it has stood for `repeats` more frames of the source."""
        ...

    def close(self, repeats: int) -> None:
        """The end, after the last picture has stood for `repeats` more frames."""
        ...


class VideoFile:
    """Writes a video in a thread of its own; where its coder is late, a frame repeats the one before."""

    def __init__(self, path: Path, fps: Fraction, audio: Path | None = None) -> None:
        check_output(path, VIDEO_SUFFIXES)
        self._queue: queue.Queue[tuple[Image | None, int]] = queue.Queue(_AHEAD)
        self._error: BaseException | None = None
        self._owed = 0
        self._thread = threading.Thread(target=self._work, args=(path, fps, audio), daemon=True, name="mien-write")
        self._thread.start()

    def show(self, picture: Image, row: Row, repeats: int) -> None:
        if self._error is not None:
            raise self._error
        try:
            self._queue.put_nowait((picture, repeats + self._owed))
            self._owed = 0
        except queue.Full:
            self._owed += repeats + 1

    def close(self, repeats: int) -> None:
        self._queue.put((None, repeats + self._owed))
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self, path: Path, fps: Fraction, audio: Path | None) -> None:
        try:
            write_video(
                path, self._frames(), fps, audio, metadata={"comment": SYNTHETIC}, preset=PRESET, trim_sound=True
            )
        except BaseException as error:  # noqa: BLE001 - raised at the caller's
            self._error = error
            with suppress(queue.Empty):
                while True:
                    self._queue.get_nowait()

    def _frames(self) -> Iterator[Image]:
        before: Image | None = None
        while True:
            picture, repeats = self._queue.get()
            shown = picture if before is None else before
            if shown is not None:
                for _ in range(repeats):
                    yield shown
            if picture is None:
                return
            yield picture
            before = picture


class MotionRecord:
    """Keeps the numbers of every frame of the source, `rows`, float64 `[T, 35]`; those of dropped frames are the ones
    before."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def show(self, picture: Image, row: Row, repeats: int) -> None:
        self._rows += [self._rows[-1] if self._rows else row] * repeats + [row]

    def close(self, repeats: int) -> None:
        self._rows += self._rows[-1:] * repeats

    @property
    def rows(self) -> NDArray[np.float64]:
        return np.stack(self._rows) if self._rows else np.zeros((0, 35))


class Window:
    """A player's window on the desktop. Raises InputError where no player is here."""

    def __init__(self, size: int, fps: Fraction) -> None:
        self._manager = window()
        self._pipe = self._manager.__enter__()
        self._pipe.write(yuv4mpeg_header(size, fps))

    def show(self, picture: Image, row: Row, repeats: int) -> None:
        # A player shows frames at the stream's rate: the clock is kept for it, so that it does not run dry.
        self._pipe.write(yuv4mpeg_frame(picture) * (repeats + 1))
        self._pipe.flush()

    def close(self, repeats: int) -> None:
        self._manager.__exit__(None, None, None)


class VirtualCamera:
    """A camera that other programs see, 1280x720 at 30 frames/s. Raises InputError where the extra or the driver is
    missing."""

    def __init__(self) -> None:
        try:
            import pyvirtualcam
        except ImportError as error:
            raise InputError("--virtual-camera needs the extra `camera`: pip install 'mien[camera]'.") from error
        width, height = VIRTUAL_CAMERA_SIZE
        try:
            self._camera: Any = pyvirtualcam.Camera(width, height, VIRTUAL_CAMERA_RATE)
        except RuntimeError as error:
            raise InputError(
                "no virtual camera is here: Linux needs v4l2loopback (modprobe v4l2loopback), "
                f"Windows and macOS OBS's virtual camera ({str(error).splitlines()[0]})."
            ) from error

    def show(self, picture: Image, row: Row, repeats: int) -> None:
        self._camera.send(letterboxed(picture, VIRTUAL_CAMERA_SIZE))

    def close(self, repeats: int) -> None:
        self._camera.close()


def letterboxed(picture: Image, size: tuple[int, int]) -> Image:
    """A square picture in the middle of a black one of `size` (width, height)."""
    width, height = size
    side = min(size)
    out = np.zeros((height, width, 3), np.uint8)
    left, top = (width - side) // 2, (height - side) // 2
    out[top : top + side, left : left + side] = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
    return out


def has_display() -> bool:
    """Whether there is a desktop with a player for a window on it."""
    return has_desktop() and player() is not None


def check_live_output(path: Path | None, inputs: Sequence[Path | None] = ()) -> None:
    """Raises OutputError where a run could not be written to `path`, or `path` is one of the `inputs`."""
    if path is not None:
        check_output(path, (*VIDEO_SUFFIXES, ".mien"), inputs)
