"""The sound that goes with a clip: copied packet by packet where that can be, re-encoded to AAC where not.

Times are those of the picture: second 0 is the first frame of the (cut) clip, whatever the source's clocks say.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from mien.errors import VideoError
from mien.media.timeline import Clock, Part, read_timeline

MP4_CODECS = {"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "alac"}
AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000)
ATTACHED_PICTURE = 0x400  # a disposition: cover art, not a video
CHANGING_FORMATS = (
    "mpegts",
    "mpeg",
    "aac",
    "mp3",
    "ogg",
    "loas",
    "rtsp",
    "flv",
)  # may change layout and rate on the way
PACKETS_TRIED = 60  # of a track, before it counts as one that cannot be decoded
PREROLL = 0.1  # seconds of packets before the first frame that are kept, so that a decoder can warm up


def extract_audio(path: str | os.PathLike[str], start: float = 0.0, duration: float | None = None) -> bytes:
    """The sound of `path` from `start` for `duration` seconds as a small MP4 without picture; b"" when there is none.

    Raises VideoError when the file, or its sound, cannot be read.
    """
    buffer = io.BytesIO()
    with Sound.open(path, start, duration) as sound:
        if not sound.present:
            return b""
        try:
            with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
                sound.attach(container)
                packets = sound.mux_until(None)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"the sound of {path} is damaged: take the clip without sound, or mend it.") from error
    return buffer.getvalue() if packets else b""


def choose_track(container: Any) -> tuple[int | None, str]:
    """The first sound track that can be decoded, as its number among the sound tracks, and what is to be said of the
    others.

    None where there is none. `container` is read on the way: open it anew for anything else.
    """
    failed: list[str] = []
    for number, stream in enumerate(container.streams.audio):
        if _decodes(container, stream):
            return number, f"sound track {number + 1} is taken; {', '.join(failed)} cannot be decoded" if failed else ""
        name = stream.codec_context.name if stream.codec_context is not None else "of an unknown kind"
        failed.append(f"track {number + 1} ({name})")
    return None, f"its sound cannot be decoded ({', '.join(failed)}): it counts as silent" if failed else ""


def _decodes(container: Any, stream: Any) -> bool:
    if stream.codec_context is None or not stream.codec_context.name:
        return False
    tried = 0
    try:
        container.seek(0)
    except av.FFmpegError:  # a file that cannot be wound back is read on from where it is
        pass
    try:
        for packet in container.demux(stream):
            try:
                if any(frame.samples for frame in packet.decode()):
                    return True
            except (av.FFmpegError, ValueError):
                pass
            tried += 1
            if tried > PACKETS_TRIED:
                return False
    except (av.FFmpegError, ValueError, AttributeError):
        return False
    return False


def keep_spans(audio: bytes, spans: Sequence[tuple[float, float]]) -> bytes:
    """The sound of a stream (bytes of `extract_audio`) with only the `spans` (start, end) in seconds, joined.

    The samples are decoded, cut to the sample and coded as AAC anew. b"" when nothing is left. Raises VideoError.
    """
    with Sound.open(audio) as whole:
        context = whole._input.codec_context if whole.present else None
        if context is None or not context.sample_rate or not spans:
            return b""
        layout = "mono" if context.layout.nb_channels == 1 else "stereo"
        rate = min(AAC_RATES, key=lambda r: abs(r - context.sample_rate))
    runs: list[tuple[int, Any]] = []
    begin = 0
    for start, end in spans:
        with Sound.open(audio, start, end - start) as part:
            runs += [(begin + position, samples) for position, samples in part._samples(rate, layout)]
        begin += round((end - start) * rate)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        output = _aac(container, rate, layout)
        written = 0
        for _, packet in Sound._packets_of(output, rate, layout, runs):
            container.mux(packet)
            written += 1
    return buffer.getvalue() if written else b""


def _aac(container: Any, rate: int, layout: str) -> Any:
    output = container.add_stream("aac", rate=rate, layout=layout)
    output.bit_rate = 96_000 if layout == "mono" else 160_000
    return output


class Sound:
    """A source of sound that is muxed beside frames as they are written. Made by `Sound.open`; may be silent."""

    def __init__(
        self, source: Any, start: float, duration: float | None, track: int | None = None, parts: tuple[Part, ...] = ()
    ) -> None:
        self._source = source
        self._input: Any = source.streams.audio[track] if source is not None and track is not None else None
        self._parts = parts  # of the picture's clock, which the sound follows
        self._start = start
        self._duration = duration
        self._packets: Iterator[tuple[float, Any]] = iter(())
        self._waiting: tuple[float, Any] | None = None
        self._container: Any = None

    @classmethod
    @contextmanager
    def open(
        cls, source: str | os.PathLike[str] | bytes | None, start: float = 0.0, duration: float | None = None
    ) -> Iterator[Sound]:
        """Open a file or the bytes of `extract_audio`; None and b"" are silence. Raises VideoError."""
        if not source:
            yield cls(None, start, duration)
            return
        name = "the sound" if isinstance(source, bytes) else str(source)

        def reopened() -> Any:
            try:
                if isinstance(source, bytes):
                    return av.open(io.BytesIO(source))
                return av.open(f"file:{Path(source).absolute()}", options={"protocol_whitelist": "file"})
            except (av.FFmpegError, ValueError) as error:
                raise VideoError(f"{name} cannot be read as a video or as sound.") from error

        with reopened() as container:
            track, _ = choose_track(container)
        parts: tuple[Part, ...] = ()
        if track is not None and not isinstance(source, bytes):
            with reopened() as container:
                pictures = [s for s in container.streams.video if not int(s.disposition) & ATTACHED_PICTURE]
                timeline = read_timeline(container, pictures[0])[0] if pictures else None
                parts = timeline.parts if timeline is not None else ()
        with reopened() as container:
            yield cls(container, start, duration, track, parts)

    @property
    def present(self) -> bool:
        """Whether there is any sound."""
        return self._input is not None

    @property
    def _changing(self) -> bool:
        """Whether the source is of a kind whose sound may change its layout and rate on the way."""
        return any(name in CHANGING_FORMATS for name in self._source.format.name.split(","))

    def attach(self, container: Any) -> None:
        """Add the sound's stream to an output that no packet has been written to yet."""
        if self._input is None:
            return
        self._container = container
        whole = self._start == 0 and self._duration is None and not self._changing and len(self._parts) < 2
        codec = self._input.codec_context.name
        known = MP4_CODECS - {"opus"} if container.format.name == "mov" else MP4_CODECS
        if whole and (codec in known or container.format.name == "matroska"):
            self._packets = self._copied(container.add_stream_from_template(self._input))
        elif self._input.codec_context.sample_rate:
            self._packets = self._encoded(container)

    def mux_until(self, seconds: float | Fraction | None) -> int:
        """Write the packets that begin before `seconds` (None: all that are left); returns how many."""
        written = 0
        while True:
            item = self._waiting or next(self._packets, None)
            self._waiting = None
            if item is None:
                return written
            if seconds is not None and item[0] > seconds:
                self._waiting = item
                return written
            self._container.mux(item[1])
            written += 1

    def _origin(self) -> Fraction:
        """Time of the source's first frame on its own clock; 0 for sound without picture."""
        for stream in self._source.streams.video:
            if not int(stream.disposition) & ATTACHED_PICTURE and stream.start_time is not None:
                return stream.start_time * stream.time_base
        return Fraction(0)

    def _copied(self, output: Any) -> Iterator[tuple[float, Any]]:
        origin = self._origin()
        for packet in self._source.demux(self._input):
            if packet.dts is None or packet.size == 0:
                continue
            shift = round(origin / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if float((packet.pts + (packet.duration or 0)) * packet.time_base) < -PREROLL:
                continue
            time = float(packet.pts * packet.time_base)
            packet.stream = output
            yield time, packet

    def _encoded(self, container: Any) -> Iterator[tuple[float, Any]]:
        context = self._input.codec_context
        rate = min(AAC_RATES, key=lambda r: abs(r - context.sample_rate))
        layout = "mono" if context.layout.nb_channels == 1 and not self._changing else "stereo"
        return self._packets_of(_aac(container, rate, layout), rate, layout, self._samples(rate, layout))

    @staticmethod
    def _packets_of(
        output: Any, rate: int, layout: str, runs: Iterable[tuple[int, Any]]
    ) -> Iterator[tuple[float, Any]]:
        for position, samples in runs:
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, position, Fraction(1, rate)
            for packet in output.encode(frame):
                yield position / rate, packet
        for packet in output.encode(None):
            yield float("inf"), packet

    def _samples(self, rate: int, layout: str) -> Iterator[tuple[int, Any]]:
        """Runs of samples [channels, n] inside the span that is wanted, each with the number of its first sample."""
        several = len(self._parts) > 1
        clock = Clock(self._parts)
        first = (self._parts[0].start if several else float(self._origin())) + self._start
        end = None if self._duration is None else round(self._duration * rate)
        if self._start > 1 and not several:
            self._source.seek(int((first - 1) * av.time_base))
        position: int | None = None
        for frame in self._decoded(rate, layout):
            time = None if frame.pts is None else clock(frame.time)
            if time is not None:
                here = round((time - first) * rate)
            elif frame.pts is None and position is not None:  # it follows on what came before
                here = position
            else:
                continue
            samples = frame.to_ndarray()
            # Rounded time stamps (Matroska: milliseconds) are no gap; what follows on is appended.
            if position is None or abs(here - position) > rate // 50:
                position = here if position is None else max(here, position)
            skip = max(0, -position)
            stop = len(samples[0]) if end is None else max(0, min(len(samples[0]), end - position))
            if skip < stop:
                yield position + skip, np.ascontiguousarray(samples[:, skip:stop])
            position += len(samples[0])
            if end is not None and position >= end:
                return

    def _decoded(self, rate: int, layout: str) -> Iterator[Any]:
        """Frames of one rate and layout, whatever those of the source are and become."""
        resampler, kind = None, None
        for packet in self._source.demux(self._input):
            try:
                frames = packet.decode()
            except av.FFmpegError:  # one damaged packet is a gap, not the end
                continue
            for frame in frames:
                now = (frame.layout.name, frame.sample_rate, frame.format.name)
                if now != kind or resampler is None:
                    if resampler is not None:
                        yield from resampler.resample(None)
                    resampler, kind = av.AudioResampler(format="fltp", layout=layout, rate=rate), now
                yield from resampler.resample(frame)
        if resampler is not None:
            yield from resampler.resample(None)
