"""The `.mien` container: what goes in comes out, every byte is accounted for, and a bad file gets one sentence."""

from __future__ import annotations

import dataclasses
import os
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from factories import GOLDEN
from factories.streams import flipped, make_stream, offset_of, parts_of, replaced
from mien.errors import InputError, MienError, OutputError, StreamError
from mien.format import container
from mien.format.container import Part
from mien.format.limits import FRAME_BYTES, PARAMETERS
from mien.format.stream import Stream, read_frame

REMAKE = os.environ.get("MIEN_REMAKE_GOLDEN") == "1"


FULL = make_stream(tuning=b"weights" * 9, placement=True)


@pytest.mark.parametrize("stream", [make_stream(), make_stream(1), FULL], ids=["plain", "one frame", "full"])
def test_round_trip(stream: Stream, tmp_path: Path) -> None:
    stream.save(tmp_path / "a.mien")
    back = Stream.load(tmp_path / "a.mien")
    assert back == stream
    for field in dataclasses.fields(Stream):
        assert np.array_equal(getattr(back, field.name), getattr(stream, field.name)), field.name
    assert back.frames.dtype == np.float16 and back.channels.dtype == np.int16
    assert Stream.from_bytes(stream.to_bytes()) == stream


def test_a_frame_is_70_bytes_little_endian_in_the_order_r_y_p_alpha() -> None:
    frames = np.zeros((3, PARAMETERS))
    frames[1] = np.arange(PARAMETERS) + 1
    data = dataclasses.replace(make_stream(3), frames=frames).to_bytes()
    assert data[offset_of(data, "FRAM") + 70 :][:70] == struct.pack("<35e", *range(1, 36))
    assert len(make_stream(33).to_bytes()) - len(make_stream(32).to_bytes()) == 70 + 4  # a new checksum block begins
    assert len(make_stream(34).to_bytes()) - len(make_stream(33).to_bytes()) == 70


@pytest.mark.parametrize("name, stream", [("plain", make_stream()), ("full", FULL)])
def test_golden_bytes(name: str, stream: Stream) -> None:
    path = GOLDEN / f"{name}.mien"
    if REMAKE:
        stream.save(path)
    assert path.read_bytes() == stream.to_bytes(), "the format changed; MIEN_REMAKE_GOLDEN=1 makes the file again"
    assert Stream.load(path) == stream


def test_accounting_counts_every_byte_once(tmp_path: Path) -> None:
    path = tmp_path / "a.mien"
    FULL.save(path)
    sizes = FULL.accounting()
    assert sizes["per_frame"] == 70
    assert sizes["frames"] == 70 * len(FULL)
    assert sizes["total"] == path.stat().st_size
    assert sizes["total"] == sum(sizes[key] for key in ("header", "identity", "tuning", "placement", "audio", "frames"))
    facts = Stream.inspect(path)
    assert facts["bytes"] == sizes and facts["rate"] == FULL.rates()
    assert facts["damage"] == [] and all(part["intact"] for part in facts["parts"])
    assert facts["rate"]["frames"] == pytest.approx(70 * 8 * 30000 / 1001, abs=0.1)


def test_read_frame_reads_only_its_block(tmp_path: Path) -> None:
    path = tmp_path / "a.mien"
    stream = make_stream(50)
    stream.save(path)
    for index in (0, 15, 16, 49):
        assert np.array_equal(read_frame(path, index), stream.frames[index])
    data = stream.to_bytes()
    path.write_bytes(flipped(data, offset_of(data, "FRAM") + 20 * FRAME_BYTES))
    assert np.array_equal(read_frame(path, 15), stream.frames[15])
    with pytest.raises(StreamError, match="frames 16 to 31"):
        read_frame(path, 20)
    with pytest.raises(InputError, match="0 to 49; 50"):
        read_frame(path, 50)
    with pytest.raises(InputError):
        read_frame(path, -1)


def test_unknown_optional_parts_are_skipped_and_critical_ones_refused() -> None:
    parts = parts_of(FULL.to_bytes())
    assert Stream.from_bytes(container.join([*parts[:2], Part("newx", b"?" * 30), *parts[2:]])) == FULL
    with pytest.raises(StreamError, match="'Newx' that this program does not know"):
        Stream.from_bytes(container.join([*parts, Part("Newx", b"")]))


@pytest.mark.parametrize(
    "data, sentence",
    [
        (b"", "is empty"),
        (b"hello, this is a text file", "is not a .mien file"),
        (b"\x00" * 100, "is not a .mien file"),
        (make_stream().to_bytes()[:5], "is cut short"),
        (make_stream().to_bytes()[:-1], "is cut short: .* of its .* bytes are there"),
        (make_stream().to_bytes()[: len(make_stream().to_bytes()) // 2], "is cut short"),
        (make_stream().to_bytes() + b"x", "has 1 bytes after its end"),
        (make_stream().to_bytes().replace(b"\r\n", b"\n", 1), "as if it were text"),
        (flipped(make_stream().to_bytes(), 14), "checksum of its first bytes"),
        (make_stream().to_bytes()[:8] + b"\x02\x00" + make_stream().to_bytes()[10:], "is of version 2.0 of the format"),
        (flipped(make_stream().to_bytes(), 40), "checksum of its head"),
    ],
)
def test_a_bad_file_gets_one_sentence(data: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.mien"
    path.write_bytes(data)
    for use in (Stream.load, Stream.inspect, lambda p: read_frame(p, 0)):
        with pytest.raises(StreamError, match=sentence) as caught:
            use(path)
        assert str(caught.value).startswith(str(path)) and str(caught.value).count("\n") == 0
        assert str(caught.value).endswith(".")


def test_missing_files_folders_and_pipes(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="there is no such file"):
        Stream.load(tmp_path / "none.mien")
    with pytest.raises(StreamError, match="is not a file"):
        Stream.load(tmp_path)
    os.mkfifo(tmp_path / "pipe.mien")
    with pytest.raises(StreamError, match="is not a file"):
        Stream.load(tmp_path / "pipe.mien")


def test_wrong_pack() -> None:
    stream = make_stream()
    stream.require_pack(stream.pack.upper(), "tiny")
    with pytest.raises(StreamError, match="made with pack 'tiny-é' .* cannot be rendered with pack 'ffhq1024'"):
        stream.require_pack("ff" * 32, "ffhq1024")


def head_with(offset: int, kind: str, value: object):
    return lambda head: head[:offset] + struct.pack(kind, value) + head[offset + struct.calcsize(kind) :]


@pytest.mark.parametrize(
    "change, sentence",
    [
        (head_with(44, "<I", 0xFFFFFFFF), "claims 4,294,967,295 frames"),
        (head_with(44, "<I", 4_000_000), "'fcrc' has a wrong length|'FRAM' has a wrong length"),
        (head_with(44, "<I", 0), "claims 0 frames"),
        (head_with(48, "<H", 65535), "identity latent of 65535"),
        (head_with(50, "<H", 9), "'IDEN' has a wrong length"),
        (head_with(40, "<I", 0), "frame rate is not a number"),
        (head_with(36, "<I", 0), "0 frames a second is out of range"),
        (head_with(32, "<I", 1 << 30), "resolution 1073741824 is out of range"),
        (head_with(52, "<I", 5), "frame size is out of range"),
        (head_with(60, "<H", 31), "it has 31 channels"),
        (head_with(62, "<H", 60), "head has a wrong length"),
        (head_with(64, "<h", -1), "channel table"),
        (lambda head: head[:-2] + b"\xff\xff", "pack's name is not text"),
        (lambda head: head[:20], "head has a wrong length"),
    ],
)
def test_a_head_that_lies_is_refused(change, sentence: str) -> None:
    with pytest.raises(StreamError, match=sentence):
        Stream.from_bytes(replaced(make_stream().to_bytes(), "HEAD", change))


def test_a_tiny_file_cannot_ask_for_much() -> None:
    """Lengths are compared with what is there before anything is allocated or read."""
    head = parts_of(make_stream().to_bytes())[0]
    lying = Part("HEAD", head_with(44, "<I", 4_000_000)(head.payload))
    data = container.join([lying, Part("IDEN", b""), Part("FRAM", b"")])
    assert len(data) < 350
    with pytest.raises(StreamError, match="wrong length"):
        Stream.from_bytes(data)
    prologue = struct.pack("<8sHHQ", container.STREAM.magic, 1, 0, 1 << 40)
    with pytest.raises(StreamError, match="claims 1,099,511,627,776 bytes"):
        Stream.from_bytes(prologue + struct.pack("<I", zlib.crc32(prologue)))


@pytest.mark.parametrize("tag", ["HEAD", "IDEN", "FRAM"])
def test_a_needed_part_is_missing_or_there_twice(tag: str) -> None:
    parts = parts_of(FULL.to_bytes())
    with pytest.raises(StreamError, match="cannot be used: it (has no|does not begin)"):
        Stream.from_bytes(container.join([part for part in parts if part.tag != tag]))
    with pytest.raises(StreamError, match=f"two parts '{tag}'"):
        Stream.from_bytes(container.join([*parts, next(part for part in parts if part.tag == tag)]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e6])
@pytest.mark.parametrize("field", ["frames", "identity"])
def test_numbers_that_are_not_finite_are_refused_on_both_sides(field: str, value: float) -> None:
    array = np.array(getattr(FULL, field), dtype=np.float64)
    array[-1, -1] = value
    with pytest.raises(StreamError, match="not finite or too large"):
        dataclasses.replace(FULL, **{field: array})
    tag = {"frames": "FRAM", "identity": "IDEN"}[field]
    bits = struct.pack("<e", np.inf if value == 1e6 else value)
    data = replaced(FULL.to_bytes(), tag, lambda payload: payload[:-2] + bits)
    with pytest.raises(StreamError, match="not finite"):
        Stream.from_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"pack": "abc"},
        {"pack_name": "x" * 65},
        {"pack_name": "a\nb"},
        {"resolution": 0},
        {"fps": Fraction(0)},
        {"fps": Fraction(100_000)},
        {"channels": np.zeros((31, 2), int)},
        {"channels": np.full((32, 2), 40_000)},
        {"frames": np.zeros((4, 34))},
        {"frames": np.zeros((0, 35))},
        {"frames": np.zeros(35)},
        {"identity": np.zeros((65, 8))},
        {"placement": np.zeros((3, 3))},
        {"placement": np.full((40, 3), np.nan)},
        {"placement": np.full((40, 3), 4.0)},
        {"frame_size": (0, 4)},
    ],
)
def test_values_out_of_range_cannot_make_a_stream(change: dict) -> None:
    with pytest.raises(StreamError, match=r"the stream"):
        dataclasses.replace(make_stream(), **change)


def test_placement_keeps_a_hundredth_of_a_pixel() -> None:
    rng = np.random.default_rng(0)
    track = np.stack([0.4 + 0.2 * rng.random(40), 0.3 + 0.1 * rng.random(40), 0.3 + 0.02 * rng.random(40)], 1)
    stream = dataclasses.replace(FULL, placement=track)
    assert stream.placement is not None and np.abs(stream.placement - track).max() * 1920 < 0.01
    assert Stream.from_bytes(stream.to_bytes()) == stream
    again = dataclasses.replace(stream, placement=stream.placement[5:9], frames=stream.frames[5:9])
    assert np.array_equal(again.placement, stream.placement[5:9]), "cutting does not round again"


@pytest.mark.parametrize("header", [struct.pack("<3i3Bx", 1 << 30, 0, 0, 20, 20, 20), b"\0" * 12 + b"\x15\0\0\0"])
def test_a_placement_out_of_range_is_refused(header: bytes) -> None:
    data = replaced(FULL.to_bytes(), "plac", lambda payload: header + payload[16:])
    with pytest.raises(StreamError, match="placement"):
        Stream.from_bytes(data)


def test_arrays_are_copied_and_read_only() -> None:
    source = np.zeros((2, PARAMETERS), np.float16)
    stream = dataclasses.replace(make_stream(2), frames=source)
    source[0, 0] = 5
    assert stream.frames[0, 0] == 0
    with pytest.raises(ValueError):
        stream.frames[0, 0] = 1


def test_damaged_frames_are_named_and_cost_only_their_block(tmp_path: Path) -> None:
    path = tmp_path / "a.mien"
    stream = make_stream(100)
    data = stream.to_bytes()
    path.write_bytes(flipped(data, offset_of(data, "FRAM") + 40 * FRAME_BYTES))
    with pytest.raises(StreamError, match="checksum of frames 32 to 47 is wrong"):
        Stream.load(path)
    damage = Stream.inspect(path)["damage"]
    assert [(d["part"], d["first"], d["last"]) for d in damage] == [("FRAM", 32, 47)]
    back, damages = Stream.salvage(path)
    assert [(d.first, d.last) for d in damages] == [(32, 47)]
    expected = stream.frames.copy()
    expected[32:48] = expected[31]
    assert np.array_equal(back.frames, expected)


def test_salvage(tmp_path: Path) -> None:
    path = tmp_path / "a.mien"
    stream = make_stream(100, tuning=b"weights", placement=True)
    data = stream.to_bytes()
    path.write_bytes(data)
    assert Stream.salvage(path) == (stream, ())

    path.write_bytes(data[: offset_of(data, "FRAM") + 50 * FRAME_BYTES + 3])  # cut within frame 50
    back, damages = Stream.salvage(path)
    assert len(back) == 50 and np.array_equal(back.frames[:48], stream.frames[:48])
    assert [(d.part, d.first, d.last) for d in damages] == [("FRAM", 48, 99)]
    assert np.array_equal(back.placement, stream.placement[:50])

    path.write_bytes(flipped(data, offset_of(data, "tune")))
    back, damages = Stream.salvage(path)
    assert back == dataclasses.replace(stream, tuning=b"") and [d.part for d in damages] == ["tune"]

    path.write_bytes(flipped(flipped(data, offset_of(data, "fcrc")), offset_of(data, "FRAM")))
    with pytest.raises(StreamError, match="not one of its frames is left"):
        Stream.salvage(path)
    path.write_bytes(flipped(data, offset_of(data, "FRAM")))  # nothing before the first block to hold on to
    back, damages = Stream.salvage(path)
    assert np.array_equal(back.frames[:16], np.repeat(stream.frames[16:17], 16, axis=0))
    for tag in ("HEAD", "IDEN"):
        path.write_bytes(flipped(data, offset_of(data, tag)))
        with pytest.raises(StreamError, match="is damaged"):
            Stream.salvage(path)


def test_save_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mien"
    stream = make_stream()
    stream.save(path)
    before = path.read_bytes()

    for number, kind, sentence in ((28, MienError, "disk is full"), (5, OutputError, "input/output error")):

        def failing(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "replace", failing)
        with pytest.raises(kind, match=sentence):
            make_stream(seed=1).save(path)
        monkeypatch.undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.mien"]
    with pytest.raises(OutputError, match="does not exist"):
        stream.save(tmp_path / "none" / "a.mien")
    with pytest.raises(OutputError, match="is a folder"):
        stream.save(tmp_path)
