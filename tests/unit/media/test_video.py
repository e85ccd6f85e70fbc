"""Frames and sound in and out: rates, rotation, colour, cuts, damaged files, half-written ones."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from factories.clips import make_clip, packets_of, pictures, sound_of
from mien.errors import InputError, MienError, OutputError, VideoError
from mien.media.sound import extract_audio
from mien.media.still_images import read_image
from mien.media.video import probe, read_video, write_video


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def numbers(frames: list[np.ndarray]) -> list[int]:
    """Which of `media.pictures` each frame is."""
    return [round((float(f[:, : f.shape[1] // 4].mean()) - 30) / 7) for f in frames]


def clicks(path: Path) -> np.ndarray:
    """When the first and the last loud sample are heard, in seconds after the first picture."""
    samples, rate, start = sound_of(path)
    return np.flatnonzero(np.abs(samples) > 0.5)[[0, -1]] / rate + start


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(12)])
def test_every_frame_comes_back_once_at_the_same_rate(tmp_path: Path, fps: Fraction) -> None:
    frames = pictures(23)
    assert write_video(tmp_path / "a.mp4", iter(frames), fps) == 23
    clip = read_video(tmp_path / "a.mp4")
    assert (clip.fps, clip.frame_count, clip.size) == (fps, 23, (64, 48))
    back = list(clip)
    assert numbers(back) == list(range(23))
    assert numbers(list(clip)) == list(range(23)), "a clip can be read twice"
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == 23
        assert container.streams.video[0].average_rate == fps


def test_colours_survive_h264(tmp_path: Path) -> None:
    frames = [np.ascontiguousarray(np.broadcast_to(np.array(c, np.uint8), (64, 64, 3))) for c in
              [(200, 30, 30), (30, 200, 30), (30, 30, 200), (240, 200, 180), (255, 255, 255), (0, 0, 0)]]  # fmt: skip
    write_video(tmp_path / "a.mp4", frames, 25)
    for before, after in zip(frames, read_video(tmp_path / "a.mp4"), strict=True):
        assert difference(before, after) <= 2
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (int(context.colorspace), int(context.color_primaries), int(context.color_trc)) == (1, 1, 1)
        assert context.pix_fmt == "yuv420p"


def test_pictures_survive_h264(tmp_path: Path) -> None:
    frames = pictures(8, 128, 128)
    write_video(tmp_path / "a.mp4", frames, 25)
    assert max(difference(a, b) for a, b in zip(frames, read_video(tmp_path / "a.mp4"), strict=True)) < 2


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_mkv_is_lossless(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = [np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8) for i in range(5)]
    write_video(tmp_path / "a.mkv", frames, Fraction(30000, 1001))
    clip = read_video(tmp_path / "a.mkv")
    assert clip.fps == Fraction(30000, 1001)
    assert all((a == b).all() for a, b in zip(frames, clip, strict=True))


def test_odd_sizes_are_read_and_written(tmp_path: Path) -> None:
    frames = pictures(3, 63, 47)
    make_clip(tmp_path / "odd.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    clip = read_video(tmp_path / "odd.mkv")
    assert clip.size == (63, 47)
    write_video(tmp_path / "even.mp4", clip, clip.fps)
    assert read_video(tmp_path / "even.mp4").size == (64, 48)


def test_variable_rate_becomes_constant_by_time(tmp_path: Path) -> None:
    # 25 frames a second, with a hole of 0.4 s after frame 9.
    pts = [i * 40 + (400 if i > 9 else 0) for i in range(20)]
    path = make_clip(tmp_path / "vfr.mkv", pictures(20), pts=pts, sound="aac")
    clip = read_video(path)
    assert clip.fps == 25
    assert numbers(list(clip)) == list(range(10)) + [9] * 10 + list(range(10, 20))
    # Jitter of less than half a frame is not a variable rate.
    pts = [i * 40 + (i * 7) % 13 for i in range(20)]
    assert numbers(list(read_video(make_clip(tmp_path / "jitter.mkv", pictures(20), pts=pts)))) == list(range(20))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    frames = pictures(3)
    path = make_clip(tmp_path / "turned.mp4", frames, rotation=degrees)
    with av.open(str(path)) as container:
        shown = next(container.decode(video=0)).rotation % 360  # counter-clockwise, as PyAV tells it
    assert shown != 0
    clip = read_video(path)
    assert clip.size == ((64, 48) if degrees == 180 else (48, 64))
    assert difference(next(iter(clip)), np.rot90(frames[0], shown // 90)) < 4


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p", "yuv444p"])
def test_other_pixel_formats(tmp_path: Path, pix_fmt: str) -> None:
    frames = pictures(3)
    path = make_clip(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt=pix_fmt)
    assert max(difference(a, b) for a, b in zip(frames, read_video(path), strict=True)) < 2


def test_hdr_becomes_sdr(tmp_path: Path) -> None:
    """A BT.2020 HLG clip of skin and white looks like skin and white, not like washed-out grey."""
    path = tmp_path / "hlg.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, 18
        context.color_range = av.video.reformatter.ColorRange.MPEG
        skin = np.full((32, 32, 3), (150, 110, 95), np.uint8)
        frame = av.VideoFrame.from_ndarray(skin, format="rgb24").reformat(format="yuv420p10le", dst_colorspace="BT2020")
        frame.color_trc, frame.color_primaries, frame.pts = 18, 9, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    plain = (150, 110, 95)
    red, green, blue = next(iter(read_video(path)))[16, 16].astype(int)
    assert red - blue > plain[0] - plain[2], "BT.2020 numbers mean more saturated colours"
    assert red > green > blue and 120 < red < 240


def test_a_cut_is_the_same_frames_and_sound(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", pictures(75), sound="aac", options={"g": "12", "bf": "2"})
    everything = list(read_video(path))
    clip = read_video(path, start=1.0, duration=1.2)
    assert clip.frame_count == 30 and clip.cut
    assert all((a == b).all() for a, b in zip(clip, everything[25:55], strict=True))
    write_video(tmp_path / "cut.mp4", clip, clip.fps, path, 1.0, 1.2)
    samples, rate, start = sound_of(tmp_path / "cut.mp4")
    assert abs(len(samples) / rate + start - 1.2) < 0.05
    # The clicks of the source at 1 s and 2 s are at 0 s and 1 s now.
    loud = np.flatnonzero(np.abs(samples) > 0.5) / rate + start
    assert loud.min() < 0.03 and abs(loud[loud > 0.5].min() - 1.0) < 0.03
    with pytest.raises(InputError, match="nothing is left"):
        read_video(path, start=9.0)
    with pytest.raises(InputError):
        read_video(path, duration=0.0)


def test_sound_is_copied_packet_by_packet(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", pictures(50), sound="aac")
    clip = read_video(path)
    assert clip.has_audio
    write_video(tmp_path / "b.mp4", clip, clip.fps, path)
    blob = extract_audio(path)
    write_video(tmp_path / "c.mp4", clip, clip.fps, blob)
    write_video(tmp_path / "d.mkv", clip, clip.fps, blob)
    for name in ("b.mp4", "c.mp4", "d.mkv"):
        assert packets_of(tmp_path / name) == packets_of(path)
        assert np.abs(clicks(tmp_path / name) - clicks(path)).max() < 0.002
    assert blob == extract_audio(path), "the same sound gives the same bytes"
    assert len(blob) < 1.3 * sum(map(len, packets_of(path))) + 1200


def test_sound_that_mp4_cannot_hold_is_encoded_anew(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", pictures(50), sound="pcm_s16le")
    clip = read_video(path)
    write_video(tmp_path / "b.mp4", clip, clip.fps, path)
    assert abs(len(sound_of(path)[0]) - len(sound_of(tmp_path / "b.mp4")[0])) < 3000
    assert np.abs(clicks(tmp_path / "b.mp4") - clicks(path)).max() < 0.02


def test_sound_that_begins_late_stays_late(tmp_path: Path) -> None:
    source = tmp_path / "late.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=44100, layout="mono")
        for i, image in enumerate(pictures(50)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        samples = np.full((1, 44100), 9000, np.int16)
        wave = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        wave.sample_rate, wave.pts, wave.time_base = 44100, 22050, Fraction(1, 44100)
        container.mux(audio.encode(wave))
        container.mux(audio.encode(None))
    clip = read_video(source)
    write_video(tmp_path / "a.mp4", clip, clip.fps, source)
    write_video(tmp_path / "b.mp4", clip, clip.fps, extract_audio(source))
    for name in ("a.mp4", "b.mp4"):
        heard, rate, start = sound_of(tmp_path / name)
        assert abs(np.flatnonzero(np.abs(heard) > 0.1)[0] / rate + start - 0.5) < 0.03


def test_a_silent_source_gives_a_silent_video(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", pictures(5))
    assert extract_audio(path) == b""
    write_video(tmp_path / "b.mp4", pictures(5), 25, path)
    assert not read_video(tmp_path / "b.mp4").has_audio


def test_metadata_is_kept(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pictures(2), 25, metadata={"comment": "synthetic"})
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.metadata["comment"] == "synthetic"


def test_files_that_are_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("Call me Ishmael. Some years ago, never mind how long precisely.\n" * 50)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=44100, layout="mono")
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        wave.sample_rate, wave.pts = 44100, 0
        container.mux(audio.encode(wave))
        container.mux(audio.encode(None))
    for name in ("text.mp4", "empty.mp4", "noise.mp4", "sound.mp4", "missing.mp4", "."):
        with pytest.raises(VideoError) as caught:
            list(read_video(tmp_path / name))
        assert str(caught.value).count("\n") == 0 and str(caught.value).endswith(".")
    assert "only sound" in str(pytest.raises(VideoError, probe, tmp_path / "sound.mp4").value)


@pytest.mark.parametrize(("name", "faststart"), [("a.mp4", True), ("a.mp4", False), ("a.mkv", False)])
def test_truncated_files(tmp_path: Path, name: str, faststart: bool) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (96, 96, 3)).astype(np.uint8) for _ in range(100)]
    if faststart:
        write_video(tmp_path / name, frames, 25)
    else:
        make_clip(tmp_path / name, frames)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match="truncated"):
        list(read_video(tmp_path / name))


def test_images(tmp_path: Path) -> None:
    picture = pictures(1, 64, 48)[0]
    for suffix in ("png", "webp", "jpg"):
        Image.fromarray(picture).save(tmp_path / f"a.{suffix}", quality=95)
        assert difference(read_image(tmp_path / f"a.{suffix}"), picture) < 4
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    Image.fromarray(picture).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert difference(read_image(tmp_path / "turned.jpg"), np.rot90(picture, -1)) < 4
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png") == 156).all()
    (tmp_path / "text.png").write_text("not a picture")
    for name in ("text.png", "missing.png"):
        with pytest.raises(VideoError):
            read_image(tmp_path / name)


def test_output_is_checked_first_and_never_half_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_video(tmp_path / "nowhere" / "a.mp4", pictures(2), 25)
    with pytest.raises(OutputError, match="must end in"):
        write_video(tmp_path / "a.gif", pictures(2), 25)
    with pytest.raises(InputError, match="no frames"):
        write_video(tmp_path / "a.mp4", [], 25)

    def failing(error: type[BaseException]):
        yield from pictures(3)
        raise error

    (tmp_path / "a.mp4").write_bytes(b"precious")
    for error in (MienError, KeyboardInterrupt):
        with pytest.raises(error):
            write_video(tmp_path / "a.mp4", failing(error), 25)
        assert (tmp_path / "a.mp4").read_bytes() == b"precious"
        assert os.listdir(tmp_path) == ["a.mp4"]
