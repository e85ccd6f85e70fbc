"""Videos and images in and out: RGB frames one at a time, at a constant rate, with the sound carried along.

Reading applies what a player would apply: rotation and mirroring (the display matrix), non-square pixels, the colour
matrix and range, tone mapping of HDR, edit lists. A variable frame rate becomes a constant one by the timestamps, so
that the sound stays in step; a constant one keeps every frame exactly once. Memory does not grow with the length.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from mien.errors import InputError, MienError, VideoError
from mien.media.frame_conversion import Converter, Frame, to_yuv, upright_size
from mien.media.sound import ATTACHED_PICTURE, Sound, choose_track
from mien.media.still_images import HEIF_SUFFIXES, IMAGE_SUFFIXES, check_file, read_animation, read_image
from mien.media.timeline import Clock, Part, frame_rate, read_timeline, slot
from mien.runtime.files import atomic_path, check_output

PathLike = str | os.PathLike[str]

# What the metadata of every rendered video says, whoever writes it.
SYNTHETIC = "Synthetic: rendered by mien from one identity latent and 35 numbers a frame; not a recording."
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".m4v")
KEY_FRAME_SECONDS = 0.1  # of the key frames that are looked at for their size, at most one in so much time


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
    notes: tuple[str, ...]  # sentences on what of the file is not taken as it is
    _first: int  # number of the first frame in the whole video
    _parts: tuple[Part, ...]  # stretches of the file's clock; none for still images

    def __len__(self) -> int:
        return self.frame_count

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order. Raises VideoError where the video cannot be decoded."""
        if not self._parts:
            yield from _images(self)
        else:
            yield from _constant_rate(self)

    @property
    def cut(self) -> bool:
        """Whether this is only a part of the file."""
        return self._first > 0 or self.duration is not None


def read_video(path: PathLike, start: float = 0.0, duration: float | None = None) -> Clip:
    """Open a video (or a still image, as one frame) from `start` for `duration` seconds.

    Raises VideoError (missing, empty, truncated, not a video, sound only), InputError (start or duration impossible).
    """
    if not 0 <= start < math.inf or (duration is not None and not 0 < duration < math.inf):
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
    return replace(whole, frame_count=last - first, start=start, duration=duration, _first=first)


def probe(path: PathLike) -> Clip:
    """Read a video's headers and timestamps, and its key frames' sizes; returns the whole of it as a `Clip`.

    Raises VideoError as `read_video` does.
    """
    path = Path(path)
    check_file(path)
    facts = path.stat()
    return _probe(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=8)
def _probe(path: Path, size: int, modified: int) -> Clip:
    """`probe` of a file that has `size` and was `modified` then, so that it is read anew where it has changed."""
    if path.suffix.lower() in (*IMAGE_SUFFIXES, *HEIF_SUFFIXES):
        shown = [(time, picture.shape) for time, picture in read_animation(path)]
        height, width, _ = shown[0][1] if shown else read_image(path).shape
        seconds = shown[-1][0] if shown else 0.0
        fps = frame_rate([time for time, _ in shown[:-1]], ())[0] if shown else Fraction(25)
        count = max(round(seconds * fps), 1)
        return Clip(path, fps, (width, height), count, 0.0, None, False, (), 0, ())
    with _open(path) as container:
        stream = _video_stream(container, path)
        _first_frame(container, stream, path)
        rates = (stream.average_rate, stream.guessed_rate)
        _check_index(stream, path)
        promised = container.duration / av.time_base if container.duration and not stream.duration else None
        track, silence = choose_track(container)
    with _open(path) as container:
        timeline, last = read_timeline(container, _video_stream(container, path))
    if timeline is None:
        raise VideoError(f"{path} has no frames.")
    times, origin = timeline.times, timeline.times[0]
    if promised and len(timeline.parts) == 1 and last - origin < 0.9 * promised - 1.0:
        raise VideoError(f"{path} is truncated: it ends after {last - origin:.1f} of {promised:.1f} seconds.")
    fps, constant = frame_rate(times, rates)
    count = (
        len(times) if constant else max(round((timeline.end - origin) * float(fps)), slot(times[-1], origin, fps) + 1)
    )
    sizes = _sizes(path)
    shape = max(sizes, key=lambda s: s[0] * s[1])
    notes = [*timeline.breaks(), *([silence] if silence else [])]
    if len(sizes) > 1:
        others = ", ".join(f"{w}x{h}" for w, h in sizes if (w, h) != shape)
        notes.append(f"its frames change size: those of {others} are fitted into {shape[0]}x{shape[1]}")
    said = tuple(f"{path}: {note}." for note in notes)
    return Clip(path, fps, shape, count, 0.0, None, track is not None, said, 0, timeline.parts)


def write_video(
    path: PathLike,
    frames: Iterable[Frame],
    fps: Fraction | float,
    audio_from: PathLike | bytes | None = None,
    start: float = 0.0,
    duration: float | None = None,
    lossless: bool | None = None,
    metadata: dict[str, str] | None = None,
    preset: str = "medium",
    trim_sound: bool = False,
) -> int:
    """Write uint8 [H, W, 3] RGB frames at `fps`, with the sound of `audio_from`; returns the number of frames.

    `.mp4`, `.mov` and `.m4v` hold H.264 (crf 14, BT.709), `.mkv` lossless FFV1 in RGB; `lossless=False` makes an
    `.mkv` H.264 too. H.264 needs even sizes: an odd one gets its last row or column twice. `audio_from` is a video or
    audio file, of which `start` and `duration` (seconds) name the part, or the bytes that `sound.extract_audio` gave.
    Sound is copied packet by packet where the container can hold it and nothing is cut, and re-encoded to AAC where
    not; a source without sound gives a silent video. `trim_sound`: it ends with the last frame. `preset`: x264's, from
    ultrafast to veryslow. The file appears at `path` whole or not at all.

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
                av.open(f"file:{temporary.absolute()}", "w", format=container_format, options=options) as container,
                Sound.open(audio_from, start, duration) as sound,
            ):
                container.metadata.update(metadata or {})
                stream = _add_video_stream(container, rate, first.shape[1], first.shape[0], lossless, preset)
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
                sound.mux_until(count / rate if trim_sound else None)
        except av.FFmpegError as error:
            raise MienError(f"{target} could not be written: {error.strerror}.") from error
    return count


# --- reading ---------------------------------------------------------------------------------------------------------


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open for reading. `file:` keeps FFmpeg from taking a name for an address, the whitelist playlists from the
    net."""
    check_file(path)
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
    if stream.codec_context is None or not stream.codec_context.name or stream.width == 0:
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


def _sizes(path: Path) -> list[tuple[int, int]]:
    """Width and height, upright, of the frames, by key frames: each size once, in the order in which they come."""
    sizes: list[tuple[int, int]] = []
    with _open(path) as container:
        stream = _video_stream(container, path)
        context, ratio = stream.codec_context, stream.sample_aspect_ratio
        context.skip_frame = "NONKEY"
        looked = -KEY_FRAME_SECONDS
        for packet in container.demux(stream):
            time = float((packet.pts or 0) * stream.time_base)
            if packet.size and not (packet.is_keyframe and not 0 < time - looked < KEY_FRAME_SECONDS):
                continue
            looked = time if packet.size else looked
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                size = upright_size(frame, ratio, context.name)
                if size not in sizes:
                    sizes.append(size)
    if sizes:
        return sizes
    with _open(path) as container:
        stream = _video_stream(container, path)
        frame = _first_frame(container, stream, path)
        return [upright_size(frame, stream.sample_aspect_ratio, stream.codec_context.name)]


def _images(clip: Clip) -> Iterator[Frame]:
    """The frames of a still image, or of an animation on its constant rate."""
    pictures = read_animation(clip.path)
    _, picture = next(pictures, None) or (0.0, read_image(clip.path))
    following = next(pictures, None)
    for number in range(clip._first, clip._first + clip.frame_count):
        while following is not None and following[0] < (number + 0.5) / float(clip.fps):
            picture, following = following[1], next(pictures, None)
        yield picture.copy()


def _constant_rate(clip: Clip) -> Iterator[Frame]:
    """The clip's frames on its grid: a place that no frame is nearest to repeats the one before it."""
    for seek in (True, False):
        with _open(clip.path) as container:
            stream = _video_stream(container, clip.path)
            sought = seek and clip._first > 0 and len(clip._parts) == 1
            if sought:
                time = clip._parts[0].start + clip._first / float(clip.fps)
                container.seek(int(time / stream.time_base), stream=stream)
            frames = _placed(container, stream, clip)
            pending = next(frames, None)
            if sought and (pending is None or pending[0] > clip._first):
                continue  # the seek went past the first frame that is wanted: decode from the start instead
            if pending is None:
                raise VideoError(f"{clip.path} has no frame that can be decoded.")
            convert = Converter(clip.size, stream.sample_aspect_ratio, stream.codec_context.name)
            yield from _fill(clip, convert, pending, frames)
            return


def _placed(container: Any, stream: Any, clip: Clip) -> Iterator[tuple[int, Any]]:
    previous, clock, origin = -1, Clock(clip._parts), clip._parts[0].start
    for frame in _decode(container, stream):
        time = None if frame.pts is None else clock(frame.time)
        place = previous + 1 if time is None else slot(time, origin, clip.fps)
        previous = place
        yield place, frame


def _fill(
    clip: Clip, convert: Converter, pending: tuple[int, Any], frames: Iterator[tuple[int, Any]]
) -> Iterator[Frame]:
    current, image = pending[1], None
    following = next(frames, None)
    for wanted in range(clip._first, clip._first + clip.frame_count):
        while following is not None and following[0] <= wanted:
            current, image = following[1], None
            following = next(frames, None)
        if image is None:
            image = convert(current)
        yield image.copy()


# --- writing ---------------------------------------------------------------------------------------------------------


def _chain(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


def _add_video_stream(container: Any, rate: Fraction, width: int, height: int, lossless: bool, preset: str) -> Any:
    if lossless:
        stream = container.add_stream("ffv1", rate=rate, options={"level": "3", "slicecrc": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        return stream
    stream = container.add_stream("libx264", rate=rate, options={"crf": "14", "preset": preset})
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709 in all three
    context.color_range = ColorRange.MPEG
    return stream
