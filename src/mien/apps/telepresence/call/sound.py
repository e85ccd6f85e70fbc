"""Sound of a call: Opus at 24 kbit/s from a clip or a microphone; what is heard goes to a file and a loudspeaker."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from numpy.typing import NDArray

from mien.errors import InputError

RATE = 48_000
SAMPLES = 960  # of a packet: 20 ms
BITS = 24_000  # a second
AHEAD = 5.0  # seconds that the other end's sound may run ahead of this machine's clock
ALSA = Path("/usr/share/alsa")  # what Linux knows of sound cards
_HEAD = struct.Struct("<4sI4s4sIHHIIHH4sI")


def clip_sound(path: Path) -> Iterator[Any]:
    """The sound of a file as mono frames of 20 ms at 48 kHz; none where it has no sound."""
    with av.open(f"file:{path}") as container:
        if container.streams.audio:
            yield from _resampled(container.decode(audio=0))


def microphone_sound(name: str | None) -> Iterator[Any]:
    """A microphone's frames, as they come. Raises InputError at once where it cannot be opened."""
    form, usual = {"darwin": ("avfoundation", ":default"), "win32": ("dshow", "")}.get(
        sys.platform, ("alsa", "default")
    )
    if form == "alsa" and (ALSA / "alsa.conf").is_file():
        os.environ.setdefault("ALSA_CONFIG_DIR", str(ALSA))  # PyAV's own libasound looks where none is
    try:
        container = av.open(name or usual, format=form)
        frames = container.decode(audio=0)
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise InputError(
            f"the microphone {name or usual!r} cannot be opened: --microphone NAME, or --no-sound."
        ) from error
    return _resampled(frames)


def _resampled(frames: Iterator[Any]) -> Iterator[Any]:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE, frame_size=SAMPLES)
    for frame in frames:
        frame.pts = None
        yield from resampler.resample(frame)


class SoundTrack(MediaStreamTrack):
    """What is sent: nothing until `start`, then a packet every 20 ms, each when it is due. `sent`: bytes so far."""

    kind = "audio"

    def __init__(self, frames: Iterator[Any]) -> None:
        super().__init__()
        self.sent = 0
        self._frames, self._count = frames, 0
        self._begin = 0.0
        self._started = asyncio.Event()
        self._coder = av.CodecContext.create("libopus", "w")
        self._coder.sample_rate, self._coder.layout, self._coder.format = RATE, "mono", "s16"
        self._coder.bit_rate = BITS
        self._coder.options = {"application": "voip", "fec": "1", "packet_loss": "10"}
        self._coder.time_base = Fraction(1, RATE)

    def start(self, begin: float) -> None:
        """Send from now on; the first sample is due at `begin`, seconds of `time.monotonic`."""
        self._begin = begin
        self._started.set()

    async def recv(self) -> Any:
        """The next packet."""
        await self._started.wait()
        packet = await asyncio.get_running_loop().run_in_executor(None, self._next)
        if packet is None:
            self.stop()
            raise MediaStreamError
        packet.pts, packet.time_base = self._count * SAMPLES, Fraction(1, RATE)
        wait = self._begin + self._count * SAMPLES / RATE - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        self._count += 1
        self.sent += packet.size
        return packet

    def _next(self) -> Any | None:
        for frame in self._frames:
            frame.pts = None
            for packet in self._coder.encode(frame):
                return packet
        return None


class HeardSound:
    """Keeps what is heard as a WAV file at `path`, each sample in its place on the sender's clock, and plays it.

    What was lost is silence. `seconds`: of sound that came.
    """

    def __init__(self, path: Path | None, play: bool) -> None:
        self.path = path
        self._file = None if path is None else path.open("wb")
        self._samples = self._end = 0
        self._begin: float | None = None
        self._speaker = _speaker() if play else None

    def __call__(self, frame: Any) -> None:
        """Take a frame of sound, s16, at 48 kHz."""
        now = time.monotonic()
        self._begin = now if self._begin is None else self._begin
        samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels)).mean(1).astype("<i2")
        at = int(frame.pts * frame.time_base * RATE)
        if not 0 <= at <= (now - self._begin + AHEAD) * RATE:
            return
        self._samples += len(samples)
        if self._file is not None:
            self._file.seek(_HEAD.size + 2 * at)
            self._file.write(samples.tobytes())
            self._end = max(self._end, at + len(samples))
        self._play(samples)

    @property
    def seconds(self) -> float:
        return self._samples / RATE

    def close(self) -> None:
        """End the file and the loudspeaker."""
        if self._file is not None:
            size = 2 * self._end
            self._file.seek(0)
            self._file.write(
                _HEAD.pack(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", size)
            )
            self._file.close()
        if self._speaker is not None:
            with suppress(OSError):
                self._speaker.stdin.close()
            self._speaker.terminate()

    def _play(self, samples: NDArray[np.int16]) -> None:
        if self._speaker is not None:
            with suppress(OSError):  # a loudspeaker that does not keep up misses some
                os.write(self._speaker.stdin.fileno(), samples.tobytes())


def _speaker() -> Any | None:
    """A player of raw sound; None where ffplay is not here."""
    if shutil.which("ffplay") is None:
        return None
    command = ("ffplay", "-loglevel", "quiet", "-nodisp", "-fflags", "nobuffer", "-f", "s16le", "-ar", str(RATE), "-")
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process
