"""Little clips for the tests, made on the spot."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from skimage.data import astronaut


def pictures(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Smooth pictures that are all different: frame i carries i in the brightness of its left half."""
    x = np.linspace(0, 1, width)[None, :]
    y = np.linspace(0, 1, height)[:, None]
    frames = []
    for i in range(count):
        image = np.stack([60 + 120 * x + 0 * y, 60 + 120 * y + 0 * x, 200 - 100 * x * y], axis=2)
        image[:, : width // 2] = 30 + (i * 7) % 200
        frames.append(image.round().astype(np.uint8))
    return frames


def tone(seconds: float, rate: int = 44100) -> np.ndarray:
    """A quiet 440 Hz tone, float32 [1, samples], with a click at each whole second."""
    t = np.arange(round(seconds * rate)) / rate
    samples = 0.1 * np.sin(2 * np.pi * 440 * t)
    samples[(t % 1) < 0.01] = 0.9
    return samples[None].astype(np.float32)


def make_clip(
    path: Path,
    frames: list[np.ndarray],
    fps: Fraction | int = 25,
    *,
    pts: list[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sound: str | None = None,
    options: dict[str, str] | None = None,
    rotation: int = 0,
) -> Path:
    """Write frames with PyAV alone, so that reading is not tested with our own writer.

    `pts` are in units of 1/1000 s and make the rate variable; `sound` is an audio codec.
    """
    with av.open(str(path), "w", options={}) as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if pts is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        audio = container.add_stream(sound, rate=44100, layout="mono") if sound else None
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts = i if pts is None else pts[i]
            frame.time_base = 1 / Fraction(fps) if pts is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            end = len(frames) / float(fps) if pts is None else pts[-1] / 1000
            wave = av.AudioFrame.from_ndarray(tone(end), format="fltp", layout="mono")
            wave.sample_rate, wave.pts, wave.time_base = 44100, 0, Fraction(1, 44100)
            container.mux(audio.encode(wave))
            container.mux(audio.encode(None))
    return path


def sound_of(path: Path | str) -> tuple[np.ndarray, int, float]:
    """Decoded mono samples, their rate, and the time of the first one after the first picture."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        video = container.streams.video
        origin = float(video[0].start_time * video[0].time_base) if video else 0.0
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=44100)
        parts, start = [], None
        for frame in container.decode(stream):
            for piece in resampler.resample(frame):
                start = piece.time if start is None else start
                parts.append(piece.to_ndarray()[0])
        return np.concatenate(parts), 44100, (start or 0.0) - origin


def packets_of(path: Path | str) -> list[bytes]:
    """The audio packets, to see that they were copied."""
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]


def astronaut_clip(path: Path, count: int = 10, *, sound: bool = True) -> Path:
    """A face that moves to the right by two pixels a frame."""
    image = np.pad(astronaut()[:300, 60:380], ((0, 0), (0, 2 * count), (0, 0)), mode="edge")
    frames = [np.ascontiguousarray(image[:, 2 * (count - i) : 2 * (count - i) + 320]) for i in range(count)]
    return make_clip(path, frames, sound="aac" if sound else None)
