"""The frame of a `.mien` or `.person` file: a prologue and tagged parts, each with its length and checksum
(docs/format.md).

    prologue   magic[8]  version u16 . u16  total length u64  CRC-32 of these 20 bytes u32
    part       tag[4]  length u32  CRC-32 of tag, length and payload u32  payload[length]
    ...        parts until the total length is used up

All numbers are little-endian. A tag is four ASCII letters; with a capital first letter the part is critical: a reader
that does not know it must refuse the file. Other unknown parts are skipped. This module knows nothing of what the parts
mean; `mien.format.sections` and `mien.format.person` do.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from mien.errors import OutputError, StreamError
from mien.format.limits import check_limit
from mien.runtime.files import write_bytes

VERSION = (1, 0)
MAX_TOTAL = 1 << 31  # bytes of a whole file
MAX_PARTS = 256

_PROLOGUE = struct.Struct("<8sHHQ")
_CRC = struct.Struct("<I")
_PART = struct.Struct("<4sII")
PROLOGUE_SIZE = _PROLOGUE.size + _CRC.size
PART_HEADER_SIZE = _PART.size


@dataclass(frozen=True)
class Kind:
    """A kind of file by its first eight bytes: no text, and changed by a transfer that rewrites line ends."""

    magic: bytes
    suffix: str


STREAM = Kind(b"\x89MIEN\r\n\x1a", ".mien")
PERSON = Kind(b"\x89PERS\r\n\x1a", ".person")


@dataclass(frozen=True)
class Part:
    """One part to be written: four ASCII letters and the payload."""

    tag: str
    payload: bytes


@dataclass(frozen=True)
class PartEntry:
    """Where a part lies in a file. `offset` is that of the payload; `present` < `length` when the file is cut short."""

    tag: str
    offset: int
    length: int
    crc: int
    present: int

    @property
    def critical(self) -> bool:
        """Whether a reader that does not know the tag must refuse the file."""
        return self.tag[0].isupper()

    @property
    def cut(self) -> bool:
        """Whether the file ends before the part does."""
        return self.present < self.length


@dataclass(frozen=True)
class Layout:
    """The prologue and the parts of a file, before any payload was read. `total` is what the prologue promises."""

    version: tuple[int, int]
    total: int
    size: int
    parts: tuple[PartEntry, ...]

    @property
    def cut(self) -> bool:
        """Whether the file is shorter than it says."""
        return self.size < self.total


def part_crc(tag: str, payload: bytes | memoryview) -> int:
    """CRC-32 (the polynomial of zlib, gzip and PNG) of tag, length and payload."""
    head = tag.encode("ascii") + _CRC.pack(len(payload))
    return zlib.crc32(payload, zlib.crc32(head))


def join(parts: Sequence[Part], kind: Kind = STREAM) -> bytes:
    """The bytes of a file made of `parts`, in this order.

    Raises:
        StreamError: the file would be larger than the format allows.
    """
    total = PROLOGUE_SIZE + sum(PART_HEADER_SIZE + len(part.payload) for part in parts)
    if total > MAX_TOTAL or len(parts) > MAX_PARTS:
        raise StreamError(f"the stream needs {total:,} bytes; a {kind.suffix} file holds at most {MAX_TOTAL:,}.")
    prologue = _PROLOGUE.pack(kind.magic, *VERSION, total)
    chunks = [prologue, _CRC.pack(zlib.crc32(prologue))]
    for part in parts:
        tag = part.tag.encode("ascii")
        chunks += [_PART.pack(tag, len(part.payload), part_crc(part.tag, part.payload)), part.payload]
    return b"".join(chunks)


def scan(file: BinaryIO, name: str, *, tolerant: bool = False, kind: Kind = STREAM) -> Layout:
    """Read the prologue and the part headers of an open file, and no payload.

    Args:
        file: seekable, opened for reading in binary.
        name: what to call the file in error messages.
        kind: what the file must be.
        tolerant: keep what lies before the cut of a file that is cut short, or before a part header that makes no
            sense, instead of refusing the file.

    Raises:
        StreamError: an empty or foreign file, another version, a damaged prologue, and unless `tolerant` a file that is
            cut short, has bytes after its end, or whose part headers make no sense.
    """
    size = file.seek(0, 2)
    file.seek(0)
    version, total = _read_prologue(file.read(PROLOGUE_SIZE), name, kind)
    if not tolerant:
        if size < total:
            raise StreamError(f"{name} is cut short: {size:,} of its {total:,} bytes are there.")
        if size > total:
            raise StreamError(f"{name} has {size - total:,} bytes after its end.")
    parts: list[PartEntry] = []
    at = PROLOGUE_SIZE
    while at < min(total, size):
        file.seek(at)
        entry = _read_part_header(file.read(PART_HEADER_SIZE), at, total, size)
        if entry is None or len(parts) >= MAX_PARTS:
            if tolerant:
                break
            raise StreamError(f"{name} is damaged: what follows byte {at:,} is not a part of a {kind.suffix} file.")
        parts.append(entry)
        at = entry.offset + entry.length
    return Layout(version, total, size, tuple(parts))


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, str]]:
    """An open file and what to call it in sentences.

    Raises:
        StreamError: it is no regular file, or cannot be read.
    """
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block, a folder is none
            raise StreamError(f"{name} is not a file.")
        with open(path, "rb") as file:
            yield file, name
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else (error.strerror or "").lower()
        raise StreamError(f"cannot read {name}: {reason}.") from error


def save(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file, whole or not at all; a file of that name is replaced only at the end.

    Raises:
        OutputError: it cannot be written there.
        MienError: the disk is full.
    """
    try:
        write_bytes(path, data)
    except OSError as error:
        raise OutputError(f"cannot write {os.fspath(path)}: {(error.strerror or str(error)).lower()}.") from error


def known_parts(layout: Layout, known: tuple[str, ...], name: str) -> dict[str, PartEntry]:
    """The parts whose tags are `known`, by tag.

    Raises:
        StreamError: an unknown critical part, a part that is there twice, or another part than `HEAD` at the beginning.
    """
    entries: dict[str, PartEntry] = {}
    for entry in layout.parts:
        if entry.tag not in known:
            check_limit(not entry.critical, f"it has a part '{entry.tag}' that this program does not know", name)
            continue
        check_limit(entry.tag not in entries, f"it has two parts '{entry.tag}'", name)
        entries[entry.tag] = entry
    check_limit(bool(layout.parts) and layout.parts[0].tag == "HEAD", "it does not begin with its head", name)
    return entries


def read_payload(file: BinaryIO, entry: PartEntry) -> bytes:
    """The payload of a part as far as it is there. Never more than the file holds."""
    file.seek(entry.offset)
    return file.read(entry.present)


def intact(entry: PartEntry, payload: bytes) -> bool:
    """Whether the payload is complete and agrees with its checksum."""
    return len(payload) == entry.length and part_crc(entry.tag, payload) == entry.crc


def _read_prologue(data: bytes, name: str, kind: Kind) -> tuple[tuple[int, int], int]:
    if not data:
        raise StreamError(f"{name} is empty.")
    if not data.startswith(kind.magic[: len(data)]):
        for other in (STREAM, PERSON):
            if data.startswith(other.magic):
                raise StreamError(f"{name} is a {other.suffix} file, not a {kind.suffix} file.")
        if data[1:5] == kind.magic[1:5]:
            raise StreamError(f"{name} was changed in transfer, as if it were text; copy it again as a binary file.")
        raise StreamError(f"{name} is not a {kind.suffix} file.")
    if len(data) < PROLOGUE_SIZE:
        raise StreamError(f"{name} is cut short: only {len(data)} bytes are there.")
    _, major, minor, total = _PROLOGUE.unpack_from(data)
    # The version comes before the checksum: another version may have another prologue.
    if major != VERSION[0]:
        raise StreamError(f"{name} is of version {major}.{minor} of the format; this program reads {VERSION[0]}.x.")
    if _CRC.unpack_from(data, _PROLOGUE.size)[0] != zlib.crc32(data[: _PROLOGUE.size]):
        raise StreamError(f"{name} is damaged: the checksum of its first bytes is wrong.")
    if not PROLOGUE_SIZE <= total <= MAX_TOTAL:
        raise StreamError(f"{name} claims {total:,} bytes; a {kind.suffix} file has at most {MAX_TOTAL:,}.")
    return (major, minor), total


def _read_part_header(data: bytes, at: int, total: int, size: int) -> PartEntry | None:
    if len(data) < PART_HEADER_SIZE:
        return None
    tag, length, crc = _PART.unpack(data)
    offset = at + PART_HEADER_SIZE
    if not tag.isalpha() or length > total - offset:  # bytes.isalpha is ASCII only
        return None
    return PartEntry(tag.decode("ascii"), offset, length, crc, max(0, min(length, size - offset)))
