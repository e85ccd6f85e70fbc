"""Files as the world makes them: clocks that restart or jump, sizes that change, HDR, colour profiles, odd sound, odd
names."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from factories import GOLDEN
from factories.clips import make_clip, pictures
from mien.errors import OutputError, VideoError
from mien.media import hdr, still_images
from mien.media.sound import extract_audio
from mien.media.still_images import read_image
from mien.media.timeline import Stamp, Timeline
from mien.media.video import probe, read_video, write_video
from mien.runtime.files import atomic_path, check_output, check_outputs_differ, decode_text, sibling

FAULTS = Path(__file__).parents[4] / "shared" / "faults"
shared = pytest.mark.skipif(not FAULTS.is_dir(), reason=f"needs {FAULTS}")


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round((float(f[:, : f.shape[1] // 4].mean()) - 30) / 7) for f in frames]


def joined(path: Path, first: Path, second: Path) -> Path:
    path.write_bytes(first.read_bytes() + second.read_bytes())
    return path


def test_a_clock_that_starts_again_goes_on(tmp_path: Path) -> None:
    frames = pictures(24)
    for name, part in (("a.ts", frames[:12]), ("b.ts", frames[12:])):
        make_clip(tmp_path / name, part, sound="aac", options={"bf": "0"})
    clip = read_video(joined(tmp_path / "both.ts", tmp_path / "a.ts", tmp_path / "b.ts"))
    assert (clip.fps, len(clip)) == (25, 24)
    assert numbers(list(clip)) == list(range(24))
    assert any("starts again" in note for note in clip.notes)
    with av.open(io.BytesIO(extract_audio(clip.path))) as container:
        seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert abs(seconds - 0.96) < 0.15, "the sound of both parts"


@pytest.mark.parametrize("gap", [60_000, 18_000_000])
def test_a_clock_that_jumps_is_bridged(tmp_path: Path, gap: int) -> None:
    pts = [i * 40 + (gap if i > 9 else 0) for i in range(20)]
    clip = read_video(make_clip(tmp_path / "jump.mkv", pictures(20), pts=pts))
    assert (clip.fps, len(clip)) == (25, 20)
    assert numbers(list(clip)) == list(range(20))
    assert any("jumps" in note for note in clip.notes)


def test_a_picture_that_is_held_is_no_jump() -> None:
    stamps = [Stamp(t, 0.04, key=True) for t in (0.0, 0.04, 6.0, 6.04)]
    timeline = Timeline.of(stamps)
    assert len(timeline.parts) == 1 and timeline.times[-1] == 6.04 and timeline.breaks() == []


def test_frames_that_change_size_keep_their_shape(tmp_path: Path) -> None:
    """Two sizes in one stream: a white disc stays a disc, and the largest frame decides the size."""
    y, x = np.mgrid[0:48, 0:64]
    disc = np.repeat(((x - 31.5) ** 2 + (y - 23.5) ** 2 < 15**2)[..., None] * np.uint8(255), 3, axis=2).astype(np.uint8)
    make_clip(tmp_path / "wide.ts", [disc] * 5)
    make_clip(tmp_path / "tall.ts", [np.ascontiguousarray(disc.transpose(1, 0, 2)[::2, ::2])] * 5)
    clip = read_video(joined(tmp_path / "turned.ts", tmp_path / "wide.ts", tmp_path / "tall.ts"))
    frames = list(clip)
    assert clip.size == (64, 48) and len(frames) == 10 and any("change size" in note for note in clip.notes)
    for frame in frames[:4] + frames[-4:]:
        bright = np.argwhere(frame[..., 1] > 128)
        height, width = np.ptp(bright, axis=0) + 1
        assert height > 15 and abs(height - width) <= 3


@pytest.mark.parametrize(("transfer", "signal"), [(hdr.HLG, 0.75), (hdr.PQ, 0.5807)])
def test_reference_white_is_nearly_white_and_grey_stays_grey(transfer: int, signal: float) -> None:
    white = hdr.to_sdr(np.full((1, 3), signal), transfer)[0]
    assert np.ptp(white) < 0.01 and 0.9 < white.mean() <= 1
    ramp = hdr.to_sdr(np.linspace(0, 1, 50)[:, None].repeat(3, 1), transfer)[:, 0]
    assert ramp[0] == 0 and (np.diff(ramp) >= 0).all() and ramp[-1] <= 1


@shared
def test_hlg_looks_like_the_clip_that_it_was_made_from() -> None:
    frame = next(iter(read_video(FAULTS / "iphone_hlg.mov")))
    for place, wanted in (((slice(300, 320), slice(220, 240)), (212, 153, 129)),
                          ((slice(150, 170), slice(270, 300)), (226, 168, 138)),
                          ((slice(480, 500), slice(270, 300)), (63, 92, 186))):  # fmt: skip
        assert np.abs(frame[place].reshape(-1, 3).mean(0) - wanted).max() < 6


def test_colour_profiles_are_honoured(tmp_path: Path) -> None:
    """A profile whose primaries are swapped: red numbers are green light."""
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = swapped.find(b"rXYZ"), swapped.find(b"gXYZ")
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    for suffix in ("png", "jpg", "webp"):
        path = tmp_path / f"a.{suffix}"
        Image.new("RGB", (32, 32), (220, 30, 30)).save(path, icc_profile=bytes(swapped), quality=95)
        shown = read_image(path)[16, 16].astype(int)
        assert shown[1] > 190 and shown[0] < 70
        assert np.abs(next(iter(read_video(path)))[16, 16].astype(int) - shown).max() == 0
    Image.new("RGB", (32, 32), (220, 30, 30)).save(tmp_path / "bad.png", icc_profile=b"no profile")
    assert tuple(read_image(tmp_path / "bad.png")[0, 0]) == (220, 30, 30)


def test_side_data_never_end_the_interpreter(tmp_path: Path) -> None:
    """A PNG video with a colour profile, in an interpreter of its own."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (9, 99, 199)).save(data, "PNG", icc_profile=profile)
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "rgb24"
        for i in range(4):
            packet = av.Packet(data.getvalue())
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, i * 40, i * 40, True
            packet.time_base = Fraction(1, 1000)
            container.mux(packet)
    script = "import gc,sys; from mien.media.video import read_video; print(len(list(read_video(sys.argv[1])))); gc.collect()"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "4"), done.stderr


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_and_mirrored_as_they_say(tmp_path: Path, orientation: int) -> None:
    """Motion JPEG with EXIF, which FFmpeg hands on as side data of a kind that PyAV does not know."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[24:, :32] = (250, 20, 20), (20, 250, 20)
    exif = Image.Exif()
    exif[0x112] = orientation
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", exif=exif, quality=95, subsampling=0)
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj444p"
        for i in range(3):
            packet = av.Packet(data.getvalue())
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, i, i, True
            packet.time_base = Fraction(1, 25)
            container.mux(packet)
    with Image.open(io.BytesIO(data.getvalue())) as picture:
        upright = np.array(ImageOps.exif_transpose(picture))
    shown = next(iter(read_video(path)))
    assert shown.shape == upright.shape and np.abs(shown.astype(int) - upright).mean() < 8


def test_animated_webp(tmp_path: Path) -> None:
    frames = [Image.fromarray(p) for p in pictures(5)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    clip = read_video(tmp_path / "a.webp")
    assert (clip.fps, len(clip)) == (10, 5) and numbers(list(clip)) == list(range(5))
    assert numbers([read_image(tmp_path / "a.webp")]) == [0]


def test_an_animation_is_read_one_picture_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unevenly timed pictures come as often as they are shown, from any start, and few of them are held at once."""
    frames = [Image.fromarray(p) for p in pictures(40)]
    path, times = tmp_path / "a.webp", [40, 120, 40, 40] * 10
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, lossless=True)
    clip = read_video(path, duration=0.4)
    assert clip.fps == 25 and numbers(list(clip)) == [0, 1, 1, 1, 2, 3, 4, 5, 5, 5]
    assert numbers(list(read_video(path, 0.2, 0.16))) == [3, 4, 5, 5]
    size = frames[0].width * frames[0].height * 3
    tracemalloc.start()
    assert sum(1 for _ in read_video(path)) == 60
    assert tracemalloc.get_traced_memory()[1] < 20 * size
    tracemalloc.stop()
    monkeypatch.setattr(still_images, "MOST_ANIMATED_PIXELS", 40 * size // 3 - 1)
    with pytest.raises(VideoError, match="has 40 pictures of"):
        next(still_images.read_animation(path))


def test_huge_images_are_reduced_or_refused(tmp_path: Path) -> None:
    Image.new("L", (14_500, 14_000), 77).save(tmp_path / "large.png", compress_level=1)  # 203 megapixels
    picture = read_image(tmp_path / "large.png")
    assert picture.shape[0] * picture.shape[1] <= 51_000_000 and (picture == 77).all()
    header = bytearray(b"BM" + bytes(52))
    header[10], header[14], header[26], header[28] = 54, 40, 1, 24
    header[18:22], header[22:26] = (30_000).to_bytes(4, "little"), (20_000).to_bytes(4, "little")
    (tmp_path / "huge.bmp").write_bytes(bytes(header) + bytes(1000))
    with pytest.raises(VideoError, match="600 megapixels"):
        read_image(tmp_path / "huge.bmp")


@shared
def test_sound_that_cannot_be_decoded_counts_as_silent() -> None:
    clip = probe(FAULTS / "apac_only.mov")
    assert not clip.has_audio and any("silent" in note for note in clip.notes)
    assert extract_audio(clip.path) == b""


@shared
def test_sound_without_time_stamps_follows_on() -> None:
    path = GOLDEN / "untimed_sound.ts"  # a damaged transport stream
    assert extract_audio(path)


def test_sound_that_changes_its_layout_is_whole() -> None:
    with av.open(io.BytesIO(extract_audio(FAULTS / "stereo_then_mono.ts"))) as container:
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], 1)
    assert abs(samples.shape[1] / 48_000 - 1.0) < 0.06
    assert min(float(np.abs(part).mean()) for part in np.array_split(samples[:, 2048:-4096], 8, axis=1)) > 0.01


@pytest.mark.parametrize("name", ["a:b.mp4", "file:x.mkv", "n" * 251 + ".mp4", "ü" * 125 + ".mkv"])
def test_odd_output_names(tmp_path: Path, name: str) -> None:
    assert write_video(tmp_path / name, pictures(3), 25) == 3
    assert len(read_video(tmp_path / name)) == 3
    assert os.listdir(tmp_path) == [name]
    assert len(os.fsencode(sibling(tmp_path / name, ".work").name)) <= 255


def test_outputs_are_checked_before_the_work(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(b"precious")
    (tmp_path / "link.mp4").symlink_to(source)
    os.link(source, tmp_path / "hard.mp4")
    for name in ("in.mp4", "link.mp4", "hard.mp4", "../" + tmp_path.name + "/in.mp4"):
        with pytest.raises(OutputError, match="is the input"):
            check_output(tmp_path / name, (".mp4",), (None, source))
    with pytest.raises(OutputError, match="longer than"):
        check_output(tmp_path / ("n" * 252 + ".mp4"))
    with pytest.raises(OutputError, match="same file"):
        check_outputs_differ(tmp_path / "a.json", None, tmp_path / "." / "a.json")
    with atomic_path(tmp_path / "new.txt") as temporary:
        temporary.write_text("x")
    assert source.read_bytes() == b"precious"


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_files_with_a_byte_order_mark(coding: str) -> None:
    assert decode_text('[[edit]]\ndo = "scale"  # ü\n'.encode(coding)).startswith("[[edit]]")
