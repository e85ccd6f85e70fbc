"""`Stream`: one identity latent and 35 numbers a frame, and its file, `.mien` (docs/format.md is the specification).

A frame is 35 half floats in the order R, Y, P, alpha_0..alpha_31: roll, yaw and pitch in degrees, then the offsets of the
32 StyleSpace channels (the paper, Sec. 3; 70 bytes a frame). `mien.container` frames the parts, this module says what is
in them and checks it.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from . import container
from .container import Layout, Part, PartEntry
from .errors import InputError, OutputError, StreamError
from .files import write_bytes

PARAMETERS = 35  # R, Y, P and 32 alphas
CHANNELS = 32
FRAME_BYTES = 2 * PARAMETERS
CHECK_FRAMES = 16  # frames under one checksum of the table `fcrc`

# Limits, in the specification too. They bound what a small file can make a reader allocate or a renderer compute.
MAX_FRAMES = 1 << 22
MAX_NUM_WS = 64
MAX_W_DIM = 4096
MAX_RESOLUTION = 8192
MAX_FRAME_SIDE = 1 << 16
MAX_NAME_BYTES = 64
MAX_FPS = 1000
_U32 = 1 << 32

_HEAD = struct.Struct("<32sIIIIHHIIHH")
_KNOWN = ("HEAD", "IDEN", "tune", "plac", "audi", "fcrc", "FRAM")


@dataclass(frozen=True)
class Damage:
    """What is wrong with one part of a file. `first` and `last` are the frames it costs, None where it costs none."""

    part: str
    sentence: str
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, eq=False)
class Stream:
    """A talking-head clip as the paper sends it: L_ID, 32 channels V, and [R_t, Y_t, P_t, alpha_t] for each frame.

    Arrays are checked, copied and made read-only. Two streams are equal when their files are.

    Attributes:
        pack: SHA-256 fingerprint of the pack whose networks render it, 64 hexadecimal digits.
        pack_name: that pack's name, for people.
        resolution: side of the generator's images, pixels.
        fps: frames a second.
        channels: int16 [32, 2], the StyleSpace channels V as (layer, index).
        identity: float16 [num_ws, w_dim], the identity latent L_ID in W+.
        frames: float16 [T, 35], R, Y, P in degrees and alpha_0..31 in the units of the channels.
        tuning: the tuned weights as their own codec wrote them; empty when there are none.
        placement: float16 [T, 3] or None: centre x, centre y and side of the crop in the clip's frame, as fractions of
            the frame's width, height and width.
        frame_size: width and height in pixels of the clip's frames, or None.
        audio: the clip's sound as `mien.sound.extract_audio` gives it (an MP4 without picture); empty when there is none.

    Raises:
        StreamError: a shape, a limit or a number that the format does not allow (non-finite ones among them).
    """

    pack: str
    pack_name: str
    resolution: int
    fps: Fraction
    channels: np.ndarray
    identity: np.ndarray
    frames: np.ndarray
    tuning: bytes = b""
    placement: np.ndarray | None = None
    frame_size: tuple[int, int] | None = None
    audio: bytes = b""

    def __post_init__(self) -> None:
        fix = object.__setattr__
        fix(self, "pack", _checked_fingerprint(self.pack))
        _check(isinstance(self.pack_name, str) and self.pack_name.isprintable(), "its pack's name is not printable")
        _check(len(self.pack_name.encode("utf-8", "replace")) <= MAX_NAME_BYTES, "its pack's name is too long")
        _check(4 <= self.resolution <= MAX_RESOLUTION, f"the resolution {self.resolution} is out of range")
        fix(self, "fps", _checked_fps(self.fps))
        fix(self, "channels", _checked_channels(self.channels))
        identity = _halves(self.identity, "identity latent", 2)
        _check(1 <= identity.shape[0] <= MAX_NUM_WS and 1 <= identity.shape[1] <= MAX_W_DIM,
               f"an identity latent of shape {identity.shape} is out of range")
        fix(self, "identity", identity)
        frames = _halves(self.frames, "frames", 2)
        _check(frames.shape[1] == PARAMETERS, f"a frame has {PARAMETERS} parameters, not {frames.shape[1]}")
        _check(1 <= len(frames) <= MAX_FRAMES, f"it has {len(frames):,} frames; 1 to {MAX_FRAMES:,} are allowed")
        fix(self, "frames", frames)
        fix(self, "tuning", bytes(self.tuning))
        fix(self, "audio", bytes(self.audio))
        if self.placement is not None:
            placement = _halves(self.placement, "placement track", 2)
            _check(placement.shape == (len(frames), 3), f"a placement track of shape {placement.shape} does not fit")
            fix(self, "placement", placement)
        if self.frame_size is not None:
            width, height = (int(side) for side in self.frame_size)
            _check(0 < width < MAX_FRAME_SIDE and 0 < height < MAX_FRAME_SIDE, "the clip's frame size is out of range")
            fix(self, "frame_size", (width, height))

    def __eq__(self, other: object) -> bool:
        return self.to_bytes() == other.to_bytes() if isinstance(other, Stream) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return float(len(self.frames) / self.fps)

    def require_pack(self, fingerprint: str, name: str) -> None:
        """Makes sure that the stream was made with the pack of this fingerprint.

        Raises:
            StreamError: it was made with another one.
        """
        if self.pack != fingerprint.lower():
            raise StreamError(
                f"the stream was made with pack '{self.pack_name}' ({self.pack[:8]}), "
                f"and cannot be rendered with pack '{name}' ({fingerprint[:8]})."
            )

    def to_bytes(self) -> bytes:
        """The `.mien` file as bytes: the same stream always gives the same bytes."""
        return container.join(self._parts())

    @classmethod
    def from_bytes(cls, data: bytes) -> Stream:
        """The stream in the bytes of a `.mien` file.

        Raises:
            StreamError: see `load`.
        """
        return _read(io.BytesIO(data), "the stream")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the `.mien` file, whole or not at all; a file of that name is replaced only at the end.

        Raises:
            OutputError: it cannot be written there.
            MienError: the disk is full.
        """
        try:
            write_bytes(path, self.to_bytes())
        except OSError as error:
            raise OutputError(f"cannot write {os.fspath(path)}: {(error.strerror or str(error)).lower()}.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Stream:
        """Reads a `.mien` file. Every length is checked before it is used and every part against its checksum.

        Raises:
            StreamError: no such file, an empty, foreign, truncated or damaged one, another version of the format, an
                unknown critical part, or a value out of range.
        """
        with _opened(path) as (file, name):
            return _read(file, name)

    @classmethod
    def salvage(cls, path: str | os.PathLike[str]) -> tuple[Stream, tuple[Damage, ...]]:
        """Reads what is left of a damaged `.mien` file, and says what is lost.

        A damaged frame gets the values of the last good one before it (the first good one where there is none before),
        so that time stays right. Frames beyond the end of a file that was cut short are left out. Damaged optional parts
        are dropped.

        Returns:
            The stream, and one `Damage` for each thing that is wrong; none for a sound file.

        Raises:
            StreamError: the prologue, the head or the identity latent is damaged, or no frame is left.
        """
        with _opened(path) as (file, name):
            return _salvage(file, name)

    @staticmethod
    def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
        """What is in a `.mien` file, damaged parts included, as values that JSON can hold (for `mien info`).

        Keys: `version`, `pack`, `pack_name`, `resolution`, `fps` (text, a rational), `frames`, `seconds`, `coding`,
        `num_ws`, `w_dim`, `channels`, `frame_size`, `bytes` (see `accounting`), `rate` (see `rates`), `parts` (list of
        `tag`, `offset`, `length`, `critical`, `known`, `intact`), `damage` (list of `part`, `sentence`, `first`, `last`).

        Raises:
            StreamError: as `salvage`, and for a file that is cut short.
        """
        with _opened(path) as (file, name):
            layout = container.scan(file, name)
            stream, damages = _salvage(file, name)
            parts = [_part_facts(file, entry) for entry in layout.parts]
        return {
            "version": ".".join(map(str, layout.version)),
            "pack": stream.pack,
            "pack_name": stream.pack_name,
            "resolution": stream.resolution,
            "fps": str(stream.fps),
            "frames": len(stream),
            "seconds": stream.seconds,
            "coding": "raw",
            "num_ws": stream.identity.shape[0],
            "w_dim": stream.identity.shape[1],
            "channels": stream.channels.tolist(),
            "frame_size": list(stream.frame_size) if stream.frame_size else None,
            "bytes": _accounting(parts, len(stream), layout.size),
            "rate": _rates(_accounting(parts, len(stream), layout.size), stream.seconds),
            "parts": parts,
            "damage": [vars(damage) for damage in damages],
        }

    def accounting(self) -> dict[str, Any]:
        """Bytes of the file, every one in exactly one of the first six.

        Returns:
            `header` (prologue, part headers, head, checksums), `identity`, `tuning`, `placement`, `audio`, `frames`; then
            `per_frame` (70 in a raw file) and `total`.
        """
        parts = self._parts()
        facts = [{"tag": part.tag, "length": len(part.payload)} for part in parts]
        total = container.PROLOGUE_SIZE + sum(container.PART_HEADER_SIZE + len(part.payload) for part in parts)
        return _accounting(facts, len(self), total)

    def rates(self) -> dict[str, float]:
        """Bits per second at the clip's rate: `frames` alone, `with_identity`, `with_tuning`, and the `total` file."""
        return _rates(self.accounting(), self.seconds)

    def _parts(self) -> list[Part]:
        name = self.pack_name.encode()
        width, height = self.frame_size or (0, 0)
        num_ws, w_dim = self.identity.shape
        fixed = _HEAD.pack(
            bytes.fromhex(self.pack), self.resolution, self.fps.numerator, self.fps.denominator, len(self.frames),
            num_ws, w_dim, width, height, CHANNELS, len(name),
        )  # fmt: skip
        parts = [
            Part("HEAD", fixed + self.channels.astype("<i2").tobytes() + name),
            Part("IDEN", _half_bytes(self.identity)),
        ]
        if self.tuning:
            parts.append(Part("tune", self.tuning))
        if self.placement is not None:
            parts.append(Part("plac", _half_bytes(self.placement)))
        if self.audio:
            parts.append(Part("audi", self.audio))
        frames = _half_bytes(self.frames)
        return [*parts, Part("fcrc", _check_table(frames)), Part("FRAM", frames)]


def read_frame(path: str | os.PathLike[str], index: int) -> np.ndarray:
    """Frame `index` of a `.mien` file, without reading the others.

    Of the frames it reads the one, or with its checksum's block at most 16.

    Returns:
        float16 [35]: R, Y, P, alpha_0..31.

    Raises:
        InputError: the file has no such frame.
        StreamError: as `Stream.load`, for what was read.
    """
    with _opened(path) as (file, name):
        entries = _entries(container.scan(file, name), name)
        head = _Head.read(file, entries["HEAD"], name)
        if not 0 <= index < head.frames:
            raise InputError(f"{name} has the frames 0 to {head.frames - 1}; {index} is not one of them.")
        _check(entries["FRAM"].length == head.frames * FRAME_BYTES, "its frames do not have the length it says", name)
        first, stop = index, index + 1
        if "fcrc" in entries:
            first = index - index % CHECK_FRAMES
            stop = min(first + CHECK_FRAMES, head.frames)
        file.seek(entries["FRAM"].offset + first * FRAME_BYTES)
        block = file.read((stop - first) * FRAME_BYTES)
        if "fcrc" in entries:
            _check_table_size(entries["fcrc"].length, head.frames, name)
            file.seek(entries["fcrc"].offset + 4 * (index // CHECK_FRAMES))
            if file.read(4) != struct.pack("<I", zlib.crc32(block)):
                raise StreamError(f"{name} is damaged: the checksum of frames {first} to {stop - 1} is wrong.")
        frame = np.frombuffer(block, "<f2").reshape(-1, PARAMETERS)[index - first]
        return _halves(frame, f"frame {index}", 1, name)


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
        _check(fixed + table <= entry.length <= fixed + table + MAX_NAME_BYTES, "its head has a wrong length", name)
        data = container.read_payload(file, entry)
        if not container.intact(entry, data):
            raise StreamError(f"{name} is damaged: the checksum of its head is wrong.")
        (pack, resolution, numerator, denominator, frames, num_ws, w_dim, width, height, channels, name_bytes) = (
            _HEAD.unpack_from(data)
        )
        _check(channels == CHANNELS, f"it has {channels} channels, not {CHANNELS}", name)
        _check(entry.length == fixed + table + name_bytes, "its head has a wrong length", name)
        _check(0 < frames <= MAX_FRAMES, f"it claims {frames:,} frames; 1 to {MAX_FRAMES:,} are allowed", name)
        _check(1 <= num_ws <= MAX_NUM_WS and 1 <= w_dim <= MAX_W_DIM,
               f"it claims an identity latent of {num_ws} x {w_dim}", name)
        _check(denominator > 0, "its frame rate is not a number", name)
        _check((width == 0) == (height == 0), "the clip's frame size is out of range", name)
        try:
            pack_name = data[fixed + table :].decode()
        except UnicodeDecodeError as error:
            raise StreamError(f"{name} cannot be used: its pack's name is not text.") from error
        return cls(
            pack.hex(), pack_name, resolution, _checked_fps(Fraction(numerator, denominator), name), frames,
            (num_ws, w_dim), (width, height) if width else None,
            np.frombuffer(data, "<i2", 2 * CHANNELS, fixed).reshape(CHANNELS, 2),
        )  # fmt: skip

    def stream(self, identity: np.ndarray, frames: np.ndarray, tuning: bytes, placement: np.ndarray | None,
               audio: bytes, name: str) -> Stream:
        try:
            return Stream(self.pack, self.pack_name, self.resolution, self.fps, self.channels, identity, frames, tuning,
                          placement, self.frame_size, audio)
        except StreamError as error:
            raise StreamError(str(error).replace("the stream cannot", f"{name} cannot", 1)) from error


def _read(file: BinaryIO, name: str) -> Stream:
    layout = container.scan(file, name)
    entries = _entries(layout, name)
    head = _Head.read(file, entries["HEAD"], name)
    _check_lengths(entries, head, name)
    payloads = {tag: container.read_payload(file, entry) for tag, entry in entries.items()}
    damages = _damages(entries, payloads, head)
    if damages:
        raise StreamError(f"{name} is damaged: {damages[0].sentence}.")
    return head.stream(_as_halves(payloads["IDEN"], head.identity[1]), _as_halves(payloads["FRAM"], PARAMETERS),
                       payloads.get("tune", b""),
                       _as_halves(payloads["plac"], 3) if "plac" in payloads else None,
                       payloads.get("audi", b""), name)


def _salvage(file: BinaryIO, name: str) -> tuple[Stream, tuple[Damage, ...]]:
    layout = container.scan(file, name, tolerant=True)
    entries = _entries(layout, name)
    head = _Head.read(file, entries["HEAD"], name)
    _check_lengths(entries, head, name)
    payloads = {tag: container.read_payload(file, entry) for tag, entry in entries.items()}
    if not container.intact(entries["IDEN"], payloads["IDEN"]):
        raise StreamError(f"{name} is damaged: the checksum of its identity latent is wrong, and nothing can replace it.")
    damages = _damages(entries, payloads, head)
    whole = len(payloads["FRAM"]) // FRAME_BYTES
    _check(whole > 0, "not one of its frames is left", name)
    frames = _as_halves(payloads["FRAM"][: whole * FRAME_BYTES], PARAMETERS).copy()
    good = np.isfinite(frames).all(axis=1)
    for damage in damages:
        if damage.part == "FRAM" and damage.first is not None and damage.last is not None:
            good[damage.first : damage.last + 1] = False
    _check(bool(good.any()), "not one of its frames is left", name)
    frames = frames[_last_good(good)]
    broken = {damage.part for damage in damages}
    placement = None
    if "plac" in payloads and "plac" not in broken:
        placement = _as_halves(payloads["plac"], 3)[:whole]
    tuning = b"" if "tune" in broken else payloads.get("tune", b"")
    audio = b"" if "audi" in broken else payloads.get("audi", b"")
    identity = _as_halves(payloads["IDEN"], head.identity[1])
    return head.stream(identity, frames, tuning, placement, audio, name), tuple(damages)


def _entries(layout: Layout, name: str) -> dict[str, PartEntry]:
    """The known parts by tag; refuses what the format does not allow or needs and lacks."""
    entries: dict[str, PartEntry] = {}
    for entry in layout.parts:
        if entry.tag not in _KNOWN:
            _check(not entry.critical, f"it has a part '{entry.tag}' that this program does not know", name)
            continue
        _check(entry.tag not in entries, f"it has two parts '{entry.tag}'", name)
        entries[entry.tag] = entry
    _check(bool(layout.parts) and layout.parts[0].tag == "HEAD", "it does not begin with its head", name)
    for tag, what in (("IDEN", "identity latent"), ("FRAM", "frames")):
        _check(tag in entries, f"it has no {what}", name)
    return entries


def _check_lengths(entries: dict[str, PartEntry], head: _Head, name: str) -> None:
    expected = {
        "IDEN": 2 * head.identity[0] * head.identity[1],
        "plac": 6 * head.frames,
        "FRAM": FRAME_BYTES * head.frames,
    }
    for tag, length in expected.items():
        if tag in entries:
            _check(entries[tag].length == length, f"its part '{tag}' has a wrong length", name)
    if "fcrc" in entries:
        _check_table_size(entries["fcrc"].length, head.frames, name)


def _damages(entries: dict[str, PartEntry], payloads: dict[str, bytes], head: _Head) -> list[Damage]:
    """What disagrees with its checksum; for the frames, which ones."""
    damages = []
    for tag, entry in entries.items():
        if container.intact(entry, payloads[tag]):
            continue
        if tag != "FRAM":
            damages.append(Damage(tag, f"the checksum of its part '{tag}' is wrong"))
            continue
        table = payloads.get("fcrc", b"")
        if "fcrc" not in entries or not container.intact(entries["fcrc"], table):
            damages.append(Damage(tag, f"the checksum of frames 0 to {head.frames - 1} is wrong", 0, head.frames - 1))
            continue
        damages += [
            Damage(tag, f"the checksum of frames {first} to {last} is wrong", first, last)
            for first, last in _wrong_blocks(payloads[tag], table, head.frames)
        ]
        if not damages:  # every block is right and the whole is not: the part header itself was hit
            damages.append(Damage(tag, "the checksum in the header of its frames is wrong"))
    return damages


def _wrong_blocks(frames: bytes, table: bytes, count: int) -> Iterator[tuple[int, int]]:
    """Runs of frames, first and last, whose blocks are cut short or disagree with the table."""
    size = CHECK_FRAMES * FRAME_BYTES
    actual = _check_table(frames)
    run: tuple[int, int] | None = None
    for number, first in enumerate(range(0, count, CHECK_FRAMES)):
        last = min(first + CHECK_FRAMES, count) - 1
        at = slice(4 * number, 4 * number + 4)
        right = len(frames) >= min((number + 1) * size, count * FRAME_BYTES) and actual[at] == table[at]
        if right:
            if run:
                yield run
            run = None
        else:
            run = (run[0] if run else first, last)
    if run:
        yield run


def _check_table(frames: bytes) -> bytes:
    """One CRC-32 for each 16 frames."""
    size = CHECK_FRAMES * FRAME_BYTES
    view = memoryview(frames)
    return b"".join(struct.pack("<I", zlib.crc32(view[at : at + size])) for at in range(0, len(frames), size))


def _check_table_size(length: int, frames: int, name: str) -> None:
    _check(length == 4 * -(-frames // CHECK_FRAMES), "its part 'fcrc' has a wrong length", name)


def _last_good(good: np.ndarray) -> np.ndarray:
    """For each frame the index of the last good one up to it, or of the first good one. bool [T] -> int [T]."""
    index = np.maximum.accumulate(np.where(good, np.arange(len(good)), -1))
    return np.where(index < 0, int(np.argmax(good)), index)


def _part_facts(file: BinaryIO, entry: PartEntry) -> dict[str, Any]:
    return {
        "tag": entry.tag,
        "offset": entry.offset,
        "length": entry.length,
        "critical": entry.critical,
        "known": entry.tag in _KNOWN,
        "intact": container.intact(entry, container.read_payload(file, entry)),
    }


def _accounting(parts: list[dict[str, Any]], frames: int, total: int) -> dict[str, Any]:
    sizes = {part["tag"]: part["length"] for part in parts}
    counted = {
        "identity": sizes["IDEN"],
        "tuning": sizes.get("tune", 0),
        "placement": sizes.get("plac", 0),
        "audio": sizes.get("audi", 0),
        "frames": sizes["FRAM"],
    }
    per_frame = counted["frames"] / frames
    return {
        "header": total - sum(counted.values()),
        **counted,
        "per_frame": int(per_frame) if per_frame.is_integer() else round(per_frame, 3),
        "total": total,
    }


def _rates(sizes: dict[str, Any], seconds: float) -> dict[str, float]:
    frames, identity, tuning = sizes["frames"], sizes["identity"], sizes["tuning"]
    sums = {
        "frames": frames,
        "with_identity": frames + identity,
        "with_tuning": frames + identity + tuning,
        "total": sizes["total"],
    }
    return {key: round(8 * size / seconds, 1) for key, size in sums.items()}


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, str]]:
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block, a folder is none
            raise StreamError(f"{name} is not a file.")
        with open(path, "rb") as file:
            yield file, name
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else (error.strerror or "").lower()
        raise StreamError(f"cannot read {name}: {reason}.") from error


def _check(condition: bool, what: str, name: str = "the stream") -> None:
    if not condition:
        raise StreamError(f"{name} cannot be used: {what}.")


def _checked_fingerprint(pack: str) -> str:
    _check(isinstance(pack, str) and len(pack) == 64 and not set(pack.lower()) - set("0123456789abcdef"),
           "its pack's fingerprint is not 64 hexadecimal digits")
    return pack.lower()


def _checked_fps(fps: Fraction, name: str = "the stream") -> Fraction:
    fps = Fraction(fps)
    _check(fps.numerator < _U32 and fps.denominator < _U32 and Fraction(1, MAX_FPS) <= fps <= MAX_FPS,
           f"{float(fps):g} frames a second is out of range", name)
    return fps


def _checked_channels(channels: np.ndarray) -> np.ndarray:
    values = np.array(channels)
    _check(values.shape == (CHANNELS, 2) and values.dtype.kind in "iu", "its channel table is not 32 integer pairs")
    _check(bool(((values >= 0) & (values < 1 << 15)).all()), "its channel table has a value out of range")
    return _frozen(values.astype(np.int16))


def _halves(values: np.ndarray, what: str, dims: int, name: str = "the stream") -> np.ndarray:
    array = np.asarray(values)
    _check(array.ndim == dims and array.dtype.kind == "f", f"its {what} is not an array of {dims} dimensions")
    with np.errstate(over="ignore"):
        array = array.astype(np.float16)  # a copy, native byte order
    _check(bool(np.isfinite(array).all()), f"its {what} has a number that is not finite or too large", name)
    return _frozen(array)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _half_bytes(array: np.ndarray) -> bytes:
    return array.astype("<f2").tobytes()


def _as_halves(payload: bytes, columns: int) -> np.ndarray:
    return np.frombuffer(payload, "<f2").reshape(-1, columns)
