"""Videos and images in and out: RGB frames one at a time, at a constant rate, with the sound carried along.

Reading applies what a player would apply: rotation and mirroring (the display matrix), non-square pixels, the colour
matrix and range, tone mapping of HDR, edit lists. A variable frame rate becomes a constant one by the timestamps, so
that the sound stays in step; a constant one keeps every frame exactly once. Memory does not grow with the length.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from mien.errors import InputError, MienError, VideoError
from mien.media.frame_conversion import Frame, to_rgb, to_yuv, upright_size
from mien.media.sound import ATTACHED_PICTURE, Sound
from mien.runtime.files import atomic_path, check_output

PathLike = str | os.PathLike[str]

# What the metadata of every rendered video says, whoever writes it.
SYNTHETIC = "Synthetic: rendered by mien from one identity latent and 35 numbers a frame; not a recording."
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".m4v")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

STANDARD_RATES = [Fraction(n) for n in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)]
STANDARD_RATES += [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)]


@dataclass(frozen=True)
class Clip:
    """A span of a video, to iterate over as often as one likes: each pass decodes anew.

    Frames are uint8 [H, W, 3] RGB, upright. `frame_count` is what a pass yields, unless packets are damaged.
    """

    path: Path
    fps: Fraction
    size: tuple[int, int]  # width, height after rotation
    frame_count: int
    start: float  # seconds cut off the front
    duration: float | None  # as asked for; None: to the end
    has_audio: bool
    _first: int  # number of the first frame in the whole video
    _origin: float  # presentation time of frame 0, in seconds of the container's clock

    def __len__(self) -> int:
        return self.frame_count

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order. Raises VideoError where the video cannot be decoded."""
        yield from _constant_rate(self)

    @property
    def cut(self) -> bool:
        """Whether this is only a part of the file."""
        return self._first > 0 or self.duration is not None


def read_video(path: PathLike, start: float = 0.0, duration: float | None = None) -> Clip:
    """Open a video (or a still image, as one frame) from `start` for `duration` seconds.

    Raises VideoError (missing, empty, truncated, not a video, sound only), InputError (start or duration impossible).
    """
    if not start >= 0 or (duration is not None and not duration > 0):
        raise InputError(f"start must be 0 or more and duration more than 0 seconds, not {start} and {duration}.")
    whole = probe(path)
    first = int(np.ceil(start * whole.fps - 1e-6))
    last = whole.frame_count
    if duration is not None:
        last = min(last, int(np.ceil((start + duration) * whole.fps - 1e-6)))
    if first >= last:
        raise InputError(
            f"{path} lasts {float(whole.frame_count / whole.fps):.2f} s; nothing is left from {start} s on."
        )
    return Clip(whole.path, whole.fps, whole.size, last - first, start, duration, whole.has_audio, first, whole._origin)


def probe(path: PathLike) -> Clip:
    """Read a video's headers and timestamps, and its first frame; returns the whole of it as a `Clip`.

    Raises VideoError as `read_video` does.
    """
    path = Path(path)
    with _open(path) as container:
        stream = _video_stream(container, path)
        size = upright_size(_first_frame(container, stream, path), stream)
        rates = (stream.average_rate, stream.guessed_rate)
        _check_index(stream, path)
        has_audio = bool(container.streams.audio)
        promised = container.duration / av.time_base if container.duration and not stream.duration else None
    with _open(path) as container:
        times, end, last = _timestamps(container, _video_stream(container, path), path)
    if promised and last - times[0] < 0.9 * promised - 1.0:
        raise VideoError(f"{path} is truncated: it ends after {last - times[0]:.1f} of {promised:.1f} seconds.")
    fps, constant = _frame_rate(times, rates)
    count = len(times) if constant else max(round((end - times[0]) * float(fps)), _slot(times[-1], times[0], fps) + 1)
    return Clip(path, fps, size, count, 0.0, None, has_audio, 0, float(times[0]))


def read_image(path: PathLike) -> Frame:
    """Read an image upright (EXIF orientation applied) as uint8 [H, W, 3] RGB; transparency goes over white.

    Raises VideoError when it is missing or no image.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    _check_file(path)
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip
                grey = (np.asarray(upright).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            if "A" in upright.getbands() or "transparency" in upright.info:
                layer = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
            return np.array(upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path} is not an image that can be read.") from error


def write_image(path: PathLike, image: Frame) -> None:
    """Write uint8 [H, W, 3] RGB to a PNG, JPEG or WebP file, all of it or none of it. Raises OutputError."""
    from PIL import Image

    check_output(path, IMAGE_SUFFIXES)
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary)


def write_video(
    path: PathLike,
    frames: Iterable[Frame],
    fps: Fraction | float,
    audio_from: PathLike | bytes | None = None,
    start: float = 0.0,
    duration: float | None = None,
    lossless: bool | None = None,
    metadata: dict[str, str] | None = None,
) -> int:
    """Write uint8 [H, W, 3] RGB frames at `fps`, with the sound of `audio_from`; returns the number of frames.

    `.mp4`, `.mov` and `.m4v` hold H.264 (crf 14, BT.709), `.mkv` lossless FFV1 in RGB; `lossless=False` makes an
    `.mkv` H.264 too. H.264 needs even sizes: an odd one gets its last row or column twice. `audio_from` is a video or
    audio file, of which `start` and `duration` (seconds) name the part, or the bytes that `sound.extract_audio` gave.
    Sound is copied packet by packet where the container can hold it and nothing is cut, and re-encoded to AAC where
    not; a source without sound gives a silent video. The file appears at `path` whole or not at all.

    Raises OutputError (folder missing, ending unknown), InputError (no frames, or sizes that differ), MienError.
    """
    target = check_output(path, VIDEO_SUFFIXES)
    if lossless is None:
        lossless = target.suffix.lower() == ".mkv"
    if lossless and target.suffix.lower() != ".mkv":
        raise InputError(f"lossless video needs an .mkv file, not {target}.")
    rate = Fraction(fps).limit_denominator(100_000)
    container_format = {".mkv": "matroska", ".mov": "mov"}.get(target.suffix.lower(), "mp4")
    options = {} if container_format == "matroska" else {"movflags": "+faststart"}
    with atomic_path(target) as temporary:
        iterator = iter(frames)
        first = next(iterator, None)
        if first is None:
            raise InputError(f"there are no frames to write to {target}.")
        try:
            with (
                av.open(str(temporary), "w", format=container_format, options=options) as container,
                Sound.open(audio_from, start, duration) as sound,
            ):
                container.metadata.update(metadata or {})
                stream = _add_video_stream(container, rate, first.shape[1], first.shape[0], lossless)
                sound.attach(container)
                count = 0
                for frame in _chain(first, iterator):
                    if frame.shape != first.shape:
                        raise InputError(f"frame {count} is {frame.shape}, the first one {first.shape}.")
                    picture = to_yuv(frame, stream)
                    picture.pts, picture.time_base = count, 1 / rate
                    count += 1
                    sound.mux_until(count / rate)
                    container.mux(stream.encode(picture))
                container.mux(stream.encode(None))
                sound.mux_until(None)
        except av.FFmpegError as error:
            raise MienError(f"{target} could not be written: {error.strerror}.") from error
    return count


# --- reading ---------------------------------------------------------------------------------------------------------


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise VideoError(f"{path} is a folder, not a video or image.")
    if not path.exists():
        raise VideoError(f"{path} does not exist.")
    if not os.access(path, os.R_OK):
        raise VideoError(f"{path} cannot be read: permission denied.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty.")


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open for reading. `file:` keeps FFmpeg from taking a name for an address, the whitelist playlists from the
    net."""
    _check_file(path)
    try:
        container = av.open(f"file:{path.absolute()}", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"{path} is not a video that can be read (it may be truncated or of another kind).") from error
    with container:
        try:
            yield container
        except av.FFmpegError as error:
            raise VideoError(f"{path} is damaged: {error.strerror}.") from error


def _video_stream(container: Any, path: Path) -> Any:
    if container.format.name == "tty":  # FFmpeg draws any text as a video
        raise VideoError(f"{path} is a text file, not a video.")
    streams = [s for s in container.streams.video if not int(s.disposition) & ATTACHED_PICTURE]
    if not streams:
        raise VideoError(f"{path} has no video" + (", only sound." if container.streams.audio else "."))
    stream = streams[0]
    if not stream.codec_context.name or stream.width == 0:
        raise VideoError(f"{path} holds a video that cannot be decoded.")
    stream.thread_type = "AUTO"
    return stream


def _first_frame(container: Any, stream: Any, path: Path) -> Any:
    for frame in _decode(container, stream):
        return frame
    raise VideoError(f"{path} has no frame that can be decoded.")


def _decode(container: Any, stream: Any) -> Iterator[Any]:
    """Every frame with a picture; a damaged packet is left out. The last packet is empty: it flushes the decoder."""
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def _check_index(stream: Any, path: Path) -> None:
    """An MP4 that was cut short still lists packets that lie behind its end."""
    entries = stream.index_entries
    length = path.stat().st_size
    if len(entries) and max(e.pos + e.size for e in (entries[0], entries[len(entries) - 1])) > length:
        raise VideoError(f"{path} is truncated: a part of its frames is missing.")


def _timestamps(container: Any, stream: Any, path: Path) -> tuple[list[float], float, float]:
    """Presentation times of all frames in seconds, in order; when the last one ends; when the last stream ends."""
    stamps: list[float | None] = []
    lengths, others = [], [0.0]
    unit = float(stream.time_base)
    for packet in container.demux():
        if packet.size == 0 or packet.is_discard:
            continue
        stamp = packet.pts if packet.pts is not None else packet.dts
        if packet.stream_index != stream.index:
            others.append(0.0 if stamp is None else float((stamp + (packet.duration or 0)) * packet.time_base))
            continue
        stamps.append(stamp * unit if stamp is not None else None)
        lengths.append((packet.duration or 0) * unit)
    if not stamps:
        raise VideoError(f"{path} has no frames.")
    times = [t for t in stamps if t is not None]
    if len(times) < len(stamps):  # a raw stream without a clock
        step = 1 / float(stream.guessed_rate or stream.average_rate or 25)
        times = [i * step for i in range(len(stamps))]
    order = np.argsort(times, kind="stable")
    ordered = [float(times[i]) for i in order]
    end = ordered[-1] + lengths[int(order[-1])]
    return ordered, end, max(end, *others)


def _slot(time: float, origin: float, fps: Fraction) -> int:
    """Number of the frame of the constant-rate grid that a presentation time is nearest to."""
    return int(np.floor((time - origin) * float(fps) + 0.5))


def _frame_rate(times: list[float], stated: tuple[Fraction | None, ...]) -> tuple[Fraction, bool]:
    """Frames a second, and whether every frame has its own place on that grid (a constant rate)."""
    if len(times) == 1:
        rate = next((r for r in stated if r and 1 <= r <= 240), Fraction(25))
        return _snap(rate), True
    offsets = np.array(times) - times[0]
    steps = np.diff(offsets)
    median = Fraction(1 / max(float(np.median(steps)), 1e-3)).limit_denominator(1001)
    mean = Fraction((len(times) - 1) / max(float(offsets[-1]), 1e-3)).limit_denominator(1001)
    for rate in [r for s in (*stated, mean, median) if s for r in (_snap(Fraction(s)), Fraction(s))]:
        if np.abs(offsets * float(rate) - np.arange(len(times))).max() < 0.5:
            return rate.limit_denominator(100_000), True
    # Variable: the rate of most frames if there is one (some were dropped), else the mean.
    usual = np.abs(steps - np.median(steps)) < 0.3 * np.median(steps)
    nominal = median if usual.mean() > 0.6 else mean
    return _snap(min(nominal, Fraction(120)), 0.02), False


def _snap(rate: Fraction, tolerance: float = 0.0004) -> Fraction:
    nearest = min(STANDARD_RATES, key=lambda r: abs(r - rate))
    return nearest if abs(nearest - rate) <= tolerance * rate else rate


def _constant_rate(clip: Clip) -> Iterator[Frame]:
    """The clip's frames on its grid: a place that no frame is nearest to repeats the one before it."""
    for seek in (True, False):
        with _open(clip.path) as container:
            stream = _video_stream(container, clip.path)
            sought = seek and clip._first > 0
            if sought:
                time = clip._origin + clip._first / float(clip.fps)
                container.seek(int(time / stream.time_base), stream=stream)
            frames = _placed(container, stream, clip)
            pending = next(frames, None)
            if sought and (pending is None or pending[0] > clip._first):
                continue  # the seek went past the first frame that is wanted: decode from the start instead
            if pending is None:
                raise VideoError(f"{clip.path} has no frame that can be decoded.")
            yield from _fill(clip, pending, frames)
            return


def _placed(container: Any, stream: Any, clip: Clip) -> Iterator[tuple[int, Any]]:
    previous = -1
    for frame in _decode(container, stream):
        slot = previous + 1 if frame.pts is None else _slot(frame.time, clip._origin, clip.fps)
        previous = slot
        yield slot, frame


def _fill(clip: Clip, pending: tuple[int, Any], frames: Iterator[tuple[int, Any]]) -> Iterator[Frame]:
    current, image = pending[1], None
    following = next(frames, None)
    for wanted in range(clip._first, clip._first + clip.frame_count):
        while following is not None and following[0] <= wanted:
            current, image = following[1], None
            following = next(frames, None)
        if image is None:
            image = to_rgb(current, clip.size)
        yield image.copy()


# --- writing ---------------------------------------------------------------------------------------------------------


def _chain(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


def _add_video_stream(container: Any, rate: Fraction, width: int, height: int, lossless: bool) -> Any:
    if lossless:
        stream = container.add_stream("ffv1", rate=rate, options={"level": "3", "slicecrc": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        return stream
    stream = container.add_stream("libx264", rate=rate, options={"crf": "14", "preset": "medium"})
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709 in all three
    context.color_range = ColorRange.MPEG
    return stream
