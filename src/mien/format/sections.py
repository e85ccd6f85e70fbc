"""The parts of a `.mien` file: what each holds, and what is left of it when the file is damaged (docs/format.md).

`mien.format.container` finds the parts; here they become numbers, after their lengths and checksums were checked.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from mien.errors import InputError, StreamError
from mien.format import container, limits, motion_codec
from mien.format.container import Layout, Part, PartEntry
from mien.format.limits import CHANNELS, FRAME_BYTES, PARAMETERS, check_limit

CHECK_FRAMES = 16  # frames under one checksum of the table `fcrc`
KNOWN = ("HEAD", "IDEN", "PERS", "tune", "plac", "soun", "fcrc", "FRAM", "CODE")

_HASH = 32  # bytes of a SHA-256
_HEAD = struct.Struct("<32sIIIIHHIIHH")


@dataclass(frozen=True)
class Damage:
    """What is wrong with one part of a file. `first` and `last` are the frames it costs, None where it costs none."""

    part: str
    sentence: str
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds, before it was checked; `mien.Stream`, which is it after the check, documents the fields."""

    pack: str
    pack_name: str
    resolution: int
    fps: Fraction
    channels: np.ndarray
    identity: np.ndarray
    frames: np.ndarray
    person: str = ""
    person_name: str = ""
    tuning: bytes = b""
    placement: np.ndarray | None = None
    frame_size: tuple[int, int] | None = None
    audio: bytes = b""
    coded: bytes = b""


def write(contents: Contents) -> list[Part]:
    """The parts of a file in the order of the specification."""
    name = contents.pack_name.encode()
    width, height = contents.frame_size or (0, 0)
    num_ws, w_dim = contents.identity.shape
    fixed = _HEAD.pack(
        bytes.fromhex(contents.pack), contents.resolution, contents.fps.numerator, contents.fps.denominator,
        len(contents.frames), num_ws, w_dim, width, height, CHANNELS, len(name),
    )  # fmt: skip
    parts = [
        Part("HEAD", fixed + contents.channels.astype("<i2").tobytes() + name),
        Part("IDEN", limits.half_bytes(contents.identity)),
    ]
    if contents.person:
        parts.append(Part("PERS", bytes.fromhex(contents.person) + contents.person_name.encode()))
    if contents.tuning:
        parts.append(Part("tune", contents.tuning))
    if contents.placement is not None:
        parts.append(Part("plac", limits.placement_bytes(contents.placement)))
    if contents.audio:
        parts.append(Part("soun", contents.audio))
    if contents.coded:
        return [*parts, Part("CODE", contents.coded)]
    frames = limits.half_bytes(contents.frames)
    return [*parts, Part("fcrc", _check_table(frames)), Part("FRAM", frames)]


def read(file: BinaryIO, name: str) -> Contents:
    """Everything in a sound file.

    Raises:
        StreamError: the file is not sound; the sentence names it and what is wrong.
    """
    contents, damages = _read(file, name, tolerant=False)
    if damages:
        raise StreamError(f"{name} is damaged: {damages[0].sentence}.")
    return contents


def salvage(file: BinaryIO, name: str) -> tuple[Contents, list[Damage]]:
    """Read what is left of a damaged file; see `mien.Stream.salvage`.

    Raises:
        StreamError: the prologue, the head or the identity latent is damaged, or no frame is left.
    """
    return _read(file, name, tolerant=True)


def read_frame(file: BinaryIO, name: str, index: int) -> np.ndarray:
    """Frame `index` as float16 [35], read with a seek.

    Raises:
        InputError: the file has no such frame.
        StreamError: what was read is damaged.
    """
    entries = _entries(container.scan(file, name), name)
    head = _Head.read(file, entries["HEAD"], name)
    if not 0 <= index < head.frames:
        raise InputError(f"{name} has the frames 0 to {head.frames - 1}; {index} is not one of them.")
    if "CODE" in entries:
        data = container.read_payload(file, entries["CODE"])
        info = _coded_info(data, entries["CODE"], head, name)
        block, place = divmod(index, info.key_interval)
        return limits.float16_array(
            _named(name, motion_codec.decode_block, data, info, block)[place], f"frame {index}", 1, name
        )
    _check_lengths(entries, head, name)
    first, stop = index, index + 1
    if "fcrc" in entries:
        first = index - index % CHECK_FRAMES
        stop = min(first + CHECK_FRAMES, head.frames)
    file.seek(entries["FRAM"].offset + first * FRAME_BYTES)
    block_bytes = file.read((stop - first) * FRAME_BYTES)
    if "fcrc" in entries:
        file.seek(entries["fcrc"].offset + 4 * (index // CHECK_FRAMES))
        if file.read(4) != struct.pack("<I", zlib.crc32(block_bytes)):
            raise StreamError(f"{name} is damaged: the checksum of frames {first} to {stop - 1} is wrong.")
    return limits.float16_array(_as_halves(block_bytes, PARAMETERS)[index - first], f"frame {index}", 1, name)


def facts(file: BinaryIO, entry: PartEntry) -> dict[str, Any]:
    """One part as `mien info` lists it."""
    return {
        "tag": entry.tag,
        "offset": entry.offset,
        "length": entry.length,
        "critical": entry.critical,
        "known": entry.tag in KNOWN,
        "intact": container.intact(entry, container.read_payload(file, entry)),
    }


def accounting(lengths: dict[str, int], frames: int, total: int) -> dict[str, Any]:
    """Bytes by purpose, from the length of each part's payload; see `mien.Stream.accounting`."""
    counted = {
        "identity": lengths["IDEN"],
        "tuning": lengths.get("tune", 0),
        "placement": lengths.get("plac", 0),
        "audio": lengths.get("soun", 0),
        "frames": lengths.get("FRAM", 0) + lengths.get("CODE", 0),
    }
    per_frame = counted["frames"] / frames
    return {
        "header": total - sum(counted.values()),
        **counted,
        "per_frame": int(per_frame) if per_frame.is_integer() else round(per_frame, 3),
        "total": total,
    }


@dataclass(frozen=True)
class _Head:
    """The part HEAD: everything that says how large the other parts must be."""

    pack: str
    pack_name: str
    resolution: int
    fps: Fraction
    frames: int
    identity: tuple[int, int]
    frame_size: tuple[int, int] | None
    channels: np.ndarray

    @classmethod
    def read(cls, file: BinaryIO, entry: PartEntry, name: str) -> _Head:
        fixed, table = _HEAD.size, 4 * CHANNELS
        whole = fixed + table
        check_limit(whole <= entry.length <= whole + limits.MAX_NAME_BYTES, "its head has a wrong length", name)
        data = container.read_payload(file, entry)
        if not container.intact(entry, data):
            raise StreamError(f"{name} is damaged: the checksum of its head is wrong.")
        (pack, resolution, numerator, denominator, frames, num_ws, w_dim, width, height, channels, name_bytes) = (
            _HEAD.unpack_from(data)
        )
        check_limit(channels == CHANNELS, f"it has {channels} channels, not {CHANNELS}", name)
        check_limit(entry.length == whole + name_bytes, "its head has a wrong length", name)
        check_limit(
            0 < frames <= limits.MAX_FRAMES,
            f"it claims {frames:,} frames; 1 to {limits.MAX_FRAMES:,} are allowed",
            name,
        )
        limits.latent_shape(num_ws, w_dim, name)
        check_limit(denominator > 0, "its frame rate is not a number", name)
        check_limit((width == 0) == (height == 0), "the clip's frame size is out of range", name)
        try:
            pack_name = data[whole:].decode()
        except UnicodeDecodeError as error:
            raise StreamError(f"{name} cannot be used: its pack's name is not text.") from error
        channel_table = np.frombuffer(data, "<i2", 2 * CHANNELS, fixed).reshape(CHANNELS, 2)
        return cls(
            pack.hex(), pack_name, resolution, limits.frame_rate(Fraction(numerator, denominator), name), frames,
            (num_ws, w_dim), (width, height) if width else None, channel_table,
        )  # fmt: skip


def _read(file: BinaryIO, name: str, *, tolerant: bool) -> tuple[Contents, list[Damage]]:
    entries = _entries(container.scan(file, name, tolerant=tolerant), name)
    head = _Head.read(file, entries["HEAD"], name)
    _check_lengths(entries, head, name)
    payloads = {tag: container.read_payload(file, entry) for tag, entry in entries.items()}
    if not container.intact(entries["IDEN"], payloads["IDEN"]):
        raise StreamError(f"{name} is damaged: the checksum of its identity latent is wrong.")
    damages = [
        Damage(tag, f"the checksum of its part '{tag}' is wrong")
        for tag, entry in entries.items()
        if tag in ("PERS", "tune", "plac", "soun", "fcrc") and not container.intact(entry, payloads[tag])
    ]
    broken = {damage.part for damage in damages}
    coded = "CODE" in entries
    if coded:
        frames, lost = _coded_frames(entries["CODE"], payloads["CODE"], head, name, tolerant=tolerant)
    else:
        table = payloads["fcrc"] if "fcrc" in entries and "fcrc" not in broken else None
        frames, lost = _raw_frames(entries["FRAM"], payloads["FRAM"], table, head)
    if lost and not tolerant:
        return _contents(head, payloads, broken, frames, name), lost
    good = np.isfinite(frames).all(axis=1)
    for damage in lost:
        if damage.first is not None and damage.last is not None:
            good[damage.first : damage.last + 1] = False
    if tolerant:
        check_limit(bool(good.any()), "not one of its frames is left", name)
        frames = frames[_last_good(good)]
    sound = coded and not lost
    contents = _contents(head, payloads, broken, frames, name, coded=payloads["CODE"] if sound else b"")
    return contents, lost + damages


def _contents(
    head: _Head, payloads: dict[str, bytes], broken: set[str], frames: np.ndarray, name: str, coded: bytes = b""
) -> Contents:
    placement = None
    if "plac" in payloads and "plac" not in broken:
        placement = limits.placement_from_bytes(payloads["plac"], head.frames, name)[: len(frames)]
    person = b"" if "PERS" in broken else payloads.get("PERS", b"")
    try:
        person_name = person[_HASH:].decode()
    except UnicodeDecodeError as error:
        raise StreamError(f"{name} cannot be used: its person's name is not text.") from error
    return Contents(
        pack=head.pack,
        pack_name=head.pack_name,
        resolution=head.resolution,
        fps=head.fps,
        channels=head.channels,
        identity=_as_halves(payloads["IDEN"], head.identity[1]),
        frames=frames,
        person=person[:_HASH].hex(),
        person_name=person_name,
        tuning=b"" if "tune" in broken else payloads.get("tune", b""),
        placement=placement,
        frame_size=head.frame_size,
        audio=b"" if "soun" in broken else payloads.get("soun", b""),
        coded=coded,
    )


def _raw_frames(entry: PartEntry, data: bytes, table: bytes | None, head: _Head) -> tuple[np.ndarray, list[Damage]]:
    """The frames that are there at all, float16 [at most T, 35], and which of the T are lost."""
    frames = _as_halves(data[: len(data) // FRAME_BYTES * FRAME_BYTES], PARAMETERS)
    if container.intact(entry, data):
        return frames, []
    if table is None:
        return frames, [_lost("FRAM", 0, head.frames - 1)]
    runs = [_lost("FRAM", first, last) for first, last in _wrong_blocks(data, table, head.frames)]
    # With every block right it was the part header that was hit.
    return frames, runs or [Damage("FRAM", "the checksum in the header of its frames is wrong")]


def _coded_frames(
    entry: PartEntry, data: bytes, head: _Head, name: str, *, tolerant: bool
) -> tuple[np.ndarray, list[Damage]]:
    """As `_raw_frames`, for coded ones; where not `tolerant`, a damaged file is not decoded."""
    info = _coded_info(data, entry, head, name)
    whole = container.intact(entry, data)
    if whole and not tolerant:
        return _named(name, motion_codec.decode_frames, data), []
    wrong = motion_codec.wrong_blocks(data, info)
    if wrong and not tolerant:
        return np.zeros((0, PARAMETERS), np.float16), [_lost("CODE", first, last) for first, last in wrong]
    frames, bad = motion_codec.salvage_frames(data, info)
    if entry.cut and bad:
        frames = frames[: bad[-1][0]]
    runs = [_lost("CODE", first, last) for first, last in bad]
    if not runs and not whole:
        runs.append(Damage("CODE", "the checksum in the header of its frames is wrong"))
    return frames, runs


def _coded_info(data: bytes, entry: PartEntry, head: _Head, name: str) -> motion_codec.CodedInfo:
    info = _named(name, motion_codec.read_info, data)
    check_limit(info.frames == head.frames, "its head and its coded frames disagree about their number", name)
    check_limit(info.size == entry.length, "its part 'CODE' has a wrong length", name)
    return info


def _lost(tag: str, first: int, last: int) -> Damage:
    return Damage(tag, f"the checksum of frames {first} to {last} is wrong", first, last)


def _entries(layout: Layout, name: str) -> dict[str, PartEntry]:
    """The known parts by tag; refuses what the format does not allow or needs and lacks."""
    entries = container.known_parts(layout, KNOWN, name)
    check_limit("IDEN" in entries, "it has no identity latent", name)
    check_limit("FRAM" in entries or "CODE" in entries, "it has no frames", name)
    check_limit(
        not ("PERS" in entries and "tune" in entries), "it has tuned weights twice, its own and a person's", name
    )
    if "PERS" in entries:
        least = _HASH + 1
        check_limit(
            least <= entries["PERS"].length <= _HASH + limits.MAX_NAME_BYTES, "its person has a wrong length", name
        )
    check_limit(not ("FRAM" in entries and "CODE" in entries), "it has its frames twice, plain and coded", name)
    return entries


def _check_lengths(entries: dict[str, PartEntry], head: _Head, name: str) -> None:
    expected = {
        "IDEN": 2 * head.identity[0] * head.identity[1],
        "FRAM": FRAME_BYTES * head.frames,
        "fcrc": 4 * -(-head.frames // CHECK_FRAMES),
    }
    for tag, length in expected.items():
        if tag in entries:
            check_limit(entries[tag].length == length, f"its part '{tag}' has a wrong length", name)
    if "plac" in entries:
        right = entries["plac"].length == limits.placement_length(head.frames)
        check_limit(right, "its part 'plac' has a wrong length", name)


def _wrong_blocks(frames: bytes, table: bytes, count: int) -> Iterator[tuple[int, int]]:
    """Runs of frames, first and last, whose checksum blocks are cut short or disagree with the table."""
    actual = _check_table(frames)
    run: tuple[int, int] | None = None
    for number, first in enumerate(range(0, count, CHECK_FRAMES)):
        stop = min(first + CHECK_FRAMES, count)
        at = slice(4 * number, 4 * number + 4)
        if len(frames) >= stop * FRAME_BYTES and actual[at] == table[at]:
            if run:
                yield run
            run = None
        else:
            run = (run[0] if run else first, stop - 1)
    if run:
        yield run


def _check_table(frames: bytes) -> bytes:
    """One CRC-32 for each 16 frames."""
    size = CHECK_FRAMES * FRAME_BYTES
    view = memoryview(frames)
    return b"".join(struct.pack("<I", zlib.crc32(view[at : at + size])) for at in range(0, len(frames), size))


def _last_good(good: np.ndarray) -> np.ndarray:
    """For each frame the index of the last good one up to it, or of the first good one. bool [T] -> int [T]."""
    index = np.maximum.accumulate(np.where(good, np.arange(len(good)), -1))
    return np.where(index < 0, int(np.argmax(good)), index)


def _as_halves(payload: bytes, columns: int) -> np.ndarray:
    return np.frombuffer(payload, "<f2").reshape(-1, columns)


def _named(name: str, work: Any, *arguments: Any) -> Any:
    """Call `work`; its `StreamError` then names the file."""
    try:
        return work(*arguments)
    except StreamError as error:
        raise StreamError(f"{name} is damaged: {error}") from error
