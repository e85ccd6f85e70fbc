"""Mutated `.mien` files, and what may come of reading them."""

from __future__ import annotations

import dataclasses
import io
import random
import struct
import time
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from mien.errors import InputError, StreamError
from mien.format import container, motion_codec, sections
from mien.format.container import Part
from mien.format.stream import Stream

SECONDS = 1.0  # of processor time that an answer may take
NUMBERS = (0, 1, 2, 31, 32, 33, 35, 70, 127, 128, 255, 256, 512, 513, 1 << 15, 65535)
NUMBERS += (1 << 22, (1 << 22) + 1, 1 << 31, (1 << 32) - 1)


def seeds() -> list[bytes]:
    """Small sound files of every kind."""
    rng = np.random.RandomState(0)
    frames = np.cumsum(rng.randint(-2, 3, (20, 35)), axis=0) / 8
    plain = Stream(
        pack="ab" * 32, pack_name="mini", resolution=64, fps=Fraction(25), channels=np.ones((32, 2), np.int16),
        identity=rng.randint(-9, 9, (2, 4)) / 8, frames=frames,
    )  # fmt: skip
    full = dataclasses.replace(
        plain, tuning=b"weights" * 4, placement=rng.randint(0, 999, (20, 3)) / 8192, frame_size=(640, 480), audio=b"mp4"
    )
    streams = [plain, full]
    for interval in (6, 20):
        data = motion_codec.encode_frames(plain.frames, np.full(35, 0.2), interval)
        streams.append(dataclasses.replace(full, frames=motion_codec.decode_frames(data), coded=data))
    return [stream.to_bytes() for stream in streams]


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four changes of bytes, fields, lengths or parts; half of the time the checksums are made right after."""
    try:
        layout = container.scan(io.BytesIO(data), "x")
        pieces = [Part(entry.tag, data[entry.offset : entry.offset + entry.length]) for entry in layout.parts]
    except StreamError:
        pieces = []
    if pieces and rng.random() < 0.5:
        for _ in range(rng.randint(1, 3)):
            _mutate_parts(pieces, rng)
        try:
            data = container.join(pieces)
        except StreamError:
            return data
        return data if rng.random() < 0.8 else mutate_bytes(data, others, rng)
    for _ in range(rng.randint(1, 4)):
        data = mutate_bytes(data, others, rng)
    return data


def _mutate_parts(pieces: list[Part], rng: random.Random) -> None:
    place = rng.randrange(len(pieces))
    part = pieces[place]
    kind = rng.randrange(8)
    if kind == 0:
        pieces.insert(rng.randrange(len(pieces) + 1), part)
    elif kind == 1 and len(pieces) > 1:
        del pieces[place]
    elif kind == 2:
        tag = rng.choice([*sections.KNOWN, "newx", "Newx", "head", "code"])
        pieces[place] = Part(tag, part.payload)
    elif kind == 3:
        rng.shuffle(pieces)
    else:
        payload = mutate_bytes(part.payload, [piece.payload for piece in pieces], rng)
        if part.tag == "CODE" and rng.random() < 0.8:
            payload = _mend_coded(payload)
        pieces[place] = Part(part.tag, payload)


def _mend_coded(payload: bytes) -> bytes:
    """Make the checksums of the blocks and of the header right, so that the decoder gets to see the damage."""
    if len(payload) < 51:
        return payload
    _, _, interval, frames = struct.unpack_from("<BBHI", payload)
    count = -(-frames // interval) if interval else 0
    end = 47 + 8 * count
    if count > 100 or len(payload) < end + 4:
        return payload
    head, offset = bytearray(payload[:end]), end + 4
    for number in range(count):
        length = struct.unpack_from("<I", head, 47 + 8 * number)[0]
        struct.pack_into("<I", head, 51 + 8 * number, zlib.crc32(payload[offset : offset + length]))
        offset += length
    return bytes(head) + struct.pack("<I", zlib.crc32(bytes(head))) + payload[end + 4 :]


def mutate_bytes(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One change of a byte, a number, the end, a stretch, or what follows."""
    if not data:
        return rng.randbytes(rng.randrange(40))
    changed = bytearray(data)
    at = rng.randrange(len(changed))
    kind = rng.randrange(8)
    if kind == 0:
        changed[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        changed[at] = rng.randrange(256)
    elif kind == 2:
        form = rng.choice(["<B", "<H", "<I", "<Q"])
        number = rng.choice(NUMBERS) % (1 << (8 * struct.calcsize(form)))
        if at + struct.calcsize(form) <= len(changed):
            struct.pack_into(form, changed, at, number)
    elif kind == 3:
        del changed[at:]
    elif kind == 4:
        del changed[at : at + rng.choice([1, 2, 4, 12, 70])]
    elif kind == 5:
        changed[at:at] = rng.randbytes(rng.choice([1, 2, 4, 12, 70]))
    elif kind == 6:
        other = rng.choice(others)
        start = rng.randrange(len(other) + 1)
        changed[at:] = other[start:]
    else:
        stop = min(at + rng.randint(1, 16), len(changed))
        changed[at:stop] = rng.randbytes(stop - at)
    return bytes(changed)


def use(data: bytes, path: Path | None = None, seconds: float = SECONDS) -> str:
    """Read `data` in every way there is; "" where each way gave numbers or an InputError within `seconds` of processor
    time, else what went wrong."""

    def load() -> None:
        stream = Stream.from_bytes(data)
        assert np.isfinite(stream.frames).all(), "loaded numbers that are not finite"
        assert Stream.from_bytes(stream.to_bytes()) == stream, "what was loaded does not survive saving"

    def salvage() -> None:
        contents, _ = sections.salvage(io.BytesIO(data), "x")
        assert np.isfinite(Stream(**vars(contents)).frames).all(), "salvaged numbers that are not finite"

    def seek() -> None:
        for index in (0, 19):
            assert np.isfinite(sections.read_frame(io.BytesIO(data), "x", index)).all(), "sought a number not finite"

    def inspect() -> None:
        if path is not None:
            path.write_bytes(data)
            Stream.inspect(path)

    for way in (load, salvage, seek, inspect):
        begun = time.process_time()
        try:
            way()
        except InputError as error:
            if "\n" in str(error) or not str(error).endswith("."):
                return f"{way.__name__}: not a sentence: {error!r}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            return f"{way.__name__}: {type(error).__name__}: {error}"
        if time.process_time() - begun > seconds:
            return f"{way.__name__}: took {time.process_time() - begun:.1f} s"
    return ""


def blind(count: int, seed: int) -> Iterator[bytes]:
    """Yield `count` mutations of the seeds."""
    rng = random.Random(seed)
    corpus = seeds()
    for _ in range(count):
        yield mutate(rng.choice(corpus), corpus, rng)
