"""Small streams for the tests, and files that were changed on purpose."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from mien.format import container
from mien.format.container import Part
from mien.format.limits import PARAMETERS
from mien.format.stream import Stream


def make_stream(frames: int = 40, *, tuning: bytes = b"", placement: bool = False, seed: int = 0) -> Stream:
    # Integers over powers of two: the same halves on every machine, whatever its numpy.
    rng = np.random.RandomState(seed)
    curves = rng.randint(-2000, 2000, (frames, PARAMETERS)) / 128
    return Stream(
        pack=bytes(range(32)).hex(),
        pack_name="tiny-é",
        resolution=64,
        fps=Fraction(30000, 1001),
        channels=np.stack([np.arange(32) % 7, np.arange(32) * 15], axis=1),
        identity=rng.randint(-300, 300, (4, 8)) / 64,
        frames=curves,
        tuning=tuning,
        placement=rng.randint(-8192, 16384, (frames, 3)) / 8192 if placement else None,
        frame_size=(1920, 1080) if placement else None,
        audio=b"sound" if placement else b"",
    )


def parts_of(data: bytes) -> list[Part]:
    layout = container.scan(io.BytesIO(data), "x")
    return [Part(entry.tag, data[entry.offset : entry.offset + entry.length]) for entry in layout.parts]


def replaced(data: bytes, tag: str, change: Callable[[bytes], bytes]) -> bytes:
    """The file with one part's payload changed and all checksums made right again."""
    return container.join([Part(p.tag, change(p.payload)) if p.tag == tag else p for p in parts_of(data)])


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def offset_of(data: bytes, tag: str) -> int:
    return next(entry.offset for entry in container.scan(io.BytesIO(data), "x").parts if entry.tag == tag)
