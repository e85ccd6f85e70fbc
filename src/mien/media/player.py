"""A window for frames in real time: YUV4MPEG2 into ffplay or mpv, whichever is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import BinaryIO, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError

PLAYERS = (
    ("ffplay", "-loglevel", "error", "-fflags", "nobuffer", "-f", "yuv4mpegpipe", "-autoexit", "-"),
    ("mpv", "--really-quiet", "--untimed", "-"),
)


def yuv4mpeg_header(size: int, fps: Fraction) -> bytes:
    """The head of YUV4MPEG2 of square frames of side `size`."""
    return f"YUV4MPEG2 W{size} H{size} F{fps.numerator}:{fps.denominator} Ip A1:1 C420jpeg\n".encode()


def yuv4mpeg_frame(frame: NDArray[np.uint8]) -> bytes:
    """A frame, uint8 RGB `[H, W, 3]` of even sides, as YUV4MPEG2 has it: planes of Y, U and V (BT.601)."""
    return b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes()


def player() -> tuple[str, ...] | None:
    """The command of a player that is here; None without."""
    return next((c for c in PLAYERS if shutil.which(c[0])), None)


def has_desktop() -> bool:
    """Whether windows can be shown."""
    always = os.name == "nt" or sys.platform == "darwin"
    return always or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def window() -> Iterator[BinaryIO]:
    """A pipe into a player's window. Raises InputError where there is no player."""
    command = player()
    if command is None:
        raise InputError("no player is here (ffplay or mpv): take -o OUT.y4m, or -o - into one of your own.")
    if not has_desktop():
        raise InputError("no desktop is here to show a window on: take -o OUT.y4m, or -o - into a player of your own.")
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    try:
        yield cast(BinaryIO, process.stdin)
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
