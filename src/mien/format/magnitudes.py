"""Whole numbers from 0 up through the range coder, those near zero in the fewest bits.

Models are new for each array (docs/format.md, "Compact tuned weights"). `magnitudes.c` does the same forty times as
fast; what is here stands in for it where there is no C compiler, and is what tests hold it against.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mien.errors import StreamError
from mien.format.range_coder import Bit, RangeDecoder, RangeEncoder
from mien.runtime.compiled import compiled_library

Integers = NDArray[np.int64]

_UNARY = 12  # magnitudes from here on are written as an escape
_PREFIX = 18  # most bits of an escape
_DAMAGED = "the tuned weights in this stream are damaged"
_TOO_LARGE = "a number is too large for its step"


def encode_magnitudes(arrays: Sequence[Integers]) -> bytes:
    """The bytes of arrays `[n]`. Raises ValueError where a number is 2^18 + 11 or more."""
    library = _library()
    if library is None:
        coder = RangeEncoder()
        for array in arrays:
            _write(coder, array.tolist())
        return coder.finish()
    numbers = np.concatenate([np.zeros(0, np.int64), *arrays])
    lengths = np.array([len(array) for array in arrays], np.int64)
    room = 1024 + len(numbers)
    while True:
        out = np.empty(room, np.uint8)
        size = library.write_magnitudes(numbers.ctypes, lengths.ctypes, len(lengths), out.ctypes, room)
        if size < 0:
            raise ValueError(_TOO_LARGE)
        if size <= room:
            return out[:size].tobytes()
        room = size


def decode_magnitudes(data: bytes, lengths: Sequence[int]) -> list[Integers]:
    """The arrays in what `encode_magnitudes` gave. Raises StreamError where the bytes are damaged, if that shows."""
    library = _library()
    if library is None:
        coder = RangeDecoder(data)
        return [np.array(_read(coder, length), np.int64) for length in lengths]
    numbers = np.empty(sum(lengths), np.int64)
    counts = np.array(lengths, np.int64)
    if library.read_magnitudes(data, len(data), counts.ctypes, len(counts), numbers.ctypes):
        raise StreamError(_DAMAGED)
    return np.split(numbers, np.cumsum(counts)[:-1])[: len(counts)]


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    found = compiled_library("mien.format", "magnitudes")
    if found is None:
        return None
    pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    found.write_magnitudes.restype, found.write_magnitudes.argtypes = size, [pointer, pointer, integer, pointer, size]
    found.read_magnitudes.restype = integer
    found.read_magnitudes.argtypes = [ctypes.c_char_p, size, pointer, integer, pointer]
    return found


class _BitModels:
    """New for every piece: is it zero, and is it larger, by what the two numbers before were."""

    def __init__(self) -> None:
        self.nonzero = [Bit(start) for start in (9000, 24000, 34000, 44000, 50000)]
        self.more = [[Bit(20000) for _ in range(_UNARY)] for _ in range(3)]
        self.prefix = [Bit() for _ in range(_PREFIX + 1)]


def _write(coder: RangeEncoder, magnitudes: list[int]) -> None:
    models = _BitModels()
    last = before = 0
    for magnitude in magnitudes:
        context = min(last, 2) + min(before, 2)
        before, last = last, magnitude
        if not coder.bit(models.nonzero[context], magnitude > 0):
            continue
        more = models.more[(context + 1) // 2]
        value = 1
        while value < _UNARY and coder.bit(more[value], magnitude > value):
            value += 1
        if value == _UNARY:
            rest = magnitude - _UNARY + 1
            width = rest.bit_length() - 1
            if width >= _PREFIX:
                raise ValueError(_TOO_LARGE)
            for length in range(width):
                coder.bit(models.prefix[length], True)
            coder.bit(models.prefix[width], False)
            for place in range(width - 1, -1, -1):
                coder.plain((rest >> place) & 1)


def _read(coder: RangeDecoder, count: int) -> list[int]:
    models = _BitModels()
    out: list[int] = []
    last = before = 0
    for _ in range(count):
        context = min(last, 2) + min(before, 2)
        value = 0
        if coder.bit(models.nonzero[context]):
            more = models.more[(context + 1) // 2]
            value = 1
            while value < _UNARY and coder.bit(more[value]):
                value += 1
            if value == _UNARY:
                width = 0
                while coder.bit(models.prefix[width]):
                    width += 1
                    if width >= _PREFIX:
                        raise StreamError(_DAMAGED)
                rest = 1
                for _ in range(width):
                    rest = rest << 1 | coder.plain()
                value = rest + _UNARY - 1
        before, last = last, value
        out.append(value)
    return out
