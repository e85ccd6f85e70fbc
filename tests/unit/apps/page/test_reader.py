"""The page's reader of .mien and .person files, in JavaScript, against the package's: the same numbers, the same refusals."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from factories import GOLDEN
from factories.mutations import blind
from factories.node import needs_node, read_with_the_page
from factories.streams import make_stream, parts_of
from mien.errors import StreamError
from mien.format import container, limits, motion_codec
from mien.format.container import Part
from mien.format.person import Person
from mien.format.stream import Stream

pytestmark = needs_node
MUTANTS = int(os.environ.get("MIEN_FUZZ", "600"))


def coded_stream(frames: int = 90) -> Stream:
    curves = np.cumsum(np.random.RandomState(3).randint(-40, 41, (frames, 35)), axis=0) / 128
    coded = motion_codec.encode_frames(curves.astype(np.float16), np.full(35, 0.02), 30)
    base = make_stream(frames, placement=True)
    return Stream(**{k: getattr(base, k) for k in base.__dataclass_fields__} | {
        "frames": motion_codec.decode_frames(coded), "coded": coded, "person": "ab" * 32, "person_name": "Ada",
    })  # fmt: skip


def assert_same(read: dict[str, Any], stream: Stream) -> None:
    assert read["pack"] == stream.pack and read["packName"] == stream.pack_name
    assert (read["resolution"], read["frames"]) == (stream.resolution, len(stream))
    assert read["fps"][0] / read["fps"][1] == float(stream.fps)
    assert read["channels"] == stream.channels.tolist() and tuple(read["frameSize"]) == (stream.frame_size or (0, 0))
    assert read["identity"] == stream.identity.astype(float).ravel().tolist()
    assert read["motion"] == zlib.crc32(limits.half_bytes(stream.frames))
    assert read["first"] == stream.frames[0].astype(float).tolist()
    assert (read["tuning"], read["sound"]) == (zlib.crc32(stream.tuning), zlib.crc32(stream.audio))
    assert (read["person"], read["personName"]) == (stream.person, stream.person_name)
    if stream.placement is None:
        assert read["placement"] is None
    else:
        assert read["placement"] == stream.placement.astype(float).ravel().tolist()


def test_golden_files_hold_the_same_numbers_in_both_readers(tmp_path: Path) -> None:
    golden = [(GOLDEN / f"{name}.mien").read_bytes() for name in ("plain", "full")]
    for read, data in zip(read_with_the_page(golden, tmp_path), golden, strict=True):
        assert_same(read, Stream.from_bytes(data))


def test_golden_coded_frames_decode_to_the_same_bytes(tmp_path: Path) -> None:
    coded, halves = (GOLDEN / "coded.bin").read_bytes(), (GOLDEN / "coded.f2").read_bytes()
    base = make_stream(len(halves) // 70)
    parts = [p for p in parts_of(base.to_bytes()) if p.tag not in ("FRAM", "fcrc")]
    (read,) = read_with_the_page([container.join([*parts, Part("CODE", coded)])], tmp_path)
    assert read["motion"] == zlib.crc32(halves)


def test_coded_streams_and_persons_are_read_alike(tmp_path: Path) -> None:
    stream = coded_stream()
    person = Person("Ada", "cd" * 32, "tiny", 64, stream.identity, b"MTL1 and so on", stream.frames[:2])
    first, second = read_with_the_page([stream.to_bytes(), person.to_bytes()], tmp_path)
    assert_same(first, stream)
    assert (second["name"], second["pack"], second["packName"]) == (person.name, person.pack, person.pack_name)
    assert second["identity"] == person.identity.astype(float).ravel().tolist()
    assert second["tuning"] == zlib.crc32(person.tuning)


def test_mutated_files_are_read_alike_or_refused_by_both(tmp_path: Path) -> None:
    """`MIEN_FUZZ=10000` for more."""
    files = list(blind(MUTANTS, seed=5))
    accepted = 0
    for number, (read, data) in enumerate(zip(read_with_the_page(files, tmp_path), files, strict=True)):
        assert not read.get("fault"), (number, read["fault"])
        try:
            stream = Stream.from_bytes(data)
        except StreamError as error:
            assert "refused" in read, (number, str(error), read)
            continue
        assert "refused" not in read, (number, read)
        assert_same(read, stream)
        accepted += 1
    print(f"{len(files)} mutated files: {accepted} read alike, {len(files) - accepted} refused by both")
    assert 0 < accepted < len(files)
