"""Compact coding of tuned weights: low-rank differences to the pack's generator, quantised and range coded.

The difference of a convolution's weights `[out, in, k, k]`, seen as a matrix of out*k rows (the kernel's y within) and
in*k columns (x within), is

    D = (B^T (S + A)) / sqrt(r)        B [r, out*k], A [r, in*k], S [r, in*k] fixed signs

so that B alone gives r random directions of change, and A turns them where that pays. Tensors that r numbers a row and
column would not make smaller (biases, the constant, ToRGB) are written whole. All of B, A and the whole tensors are
integers times one step each. What the steps are is the encoder's business (`mien.personalize.generator_params`).

docs/format.md, "Compact tuned weights", specifies the bytes ("MTL1").
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.errors import StreamError
from mien.format.magnitudes import decode_magnitudes, encode_magnitudes

MAGIC = b"MTL1"
MAX_RANK = 1024
MAX_SHIFT = 15
_HEADER = struct.Struct("<HII")  # rank, bytes of the range coder's part, symbols that are not zero


@dataclass(frozen=True)
class Piece:
    """One array of numbers: `tensor` is the index among the tunable tensors, `factor` "B", "A" or "" (the whole
    tensor), `shape` its shape (rank first for factors)."""

    tensor: int
    factor: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def pieces(shapes: Sequence[tuple[int, ...]], rank: int) -> tuple[Piece, ...]:
    """The arrays that differences of tensors of these shapes take at a rank, in the order of the file."""
    found: list[Piece] = []
    for index, shape in enumerate(shapes):
        if len(shape) == 4 and shape[2] == shape[3]:
            rows, columns = shape[0] * shape[2], shape[1] * shape[3]
            if rank * (rows + columns) < math.prod(shape):
                found += [Piece(index, "B", (rank, rows)), Piece(index, "A", (rank, columns))]
                continue
        found.append(Piece(index, "", tuple(shape)))
    return tuple(found)


def rank_for(shapes: Sequence[tuple[int, ...]], numbers: float) -> int:
    """The largest rank whose pieces hold at most so many numbers, at least 1. Those of planes `[H, W]`, the noise
    constants, count a fifth: most of them stay near zero and take few bits."""
    low, high = 1, MAX_RANK
    while low < high:
        middle = (low + high + 1) // 2
        if sum(p.size / (5 if len(p.shape) == 2 and not p.factor else 1) for p in pieces(shapes, middle)) <= numbers:
            low = middle
        else:
            high = middle - 1
    return low


def signs(tensor: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """S of one tensor: +1 and -1, the bits (lowest first) of SHAKE-256 over "mien" and the tensor's number (u16)."""
    count = math.prod(shape)
    data = hashlib.shake_256(b"mien" + struct.pack("<H", tensor)).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count, bitorder="little")
    return (bits.astype(np.float32) * 2 - 1).reshape(shape)


def sign_tensors(plan: Sequence[Piece], device: torch.device) -> dict[int, Tensor]:
    """S of every tensor that has factors, by the tensor's number."""
    return {p.tensor: torch.from_numpy(signs(p.tensor, p.shape)).to(device) for p in plan if p.factor == "A"}


def difference(b: Tensor, turned: Tensor, shape: Sequence[int]) -> Tensor:
    """D of a tensor of `shape` `[O, I, k, k]`, from its factors B `[r, O * k]` and S + A `[r, I * k]`."""
    rows, columns, k, _ = shape
    product = (b / math.sqrt(len(b))).T @ turned
    return product.view(rows, k, columns, k).transpose(1, 2)


def factor_gradients(gradient: Tensor, b: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients for B and for A, from that for D and what `difference` was given."""
    rows, columns, k, _ = gradient.shape
    flat = gradient.transpose(1, 2).reshape(rows * k, columns * k)
    scale = 1 / math.sqrt(len(b))
    return (turned * scale) @ flat.T, (b * scale) @ flat


def compose(
    base: Sequence[Tensor], plan: Sequence[Piece], values: Sequence[Tensor], fixed: dict[int, Tensor]
) -> list[Tensor]:
    """The weights: `base` plus the differences that `values` (one array a piece) stand for."""
    out = [b for b in base]
    left: Tensor | None = None
    for piece, value in zip(plan, values, strict=True):
        before = base[piece.tensor]
        if piece.factor == "":
            out[piece.tensor] = before + value
        elif piece.factor == "B":
            left = value
        else:
            assert left is not None
            out[piece.tensor] = before + difference(left, fixed[piece.tensor] + value, before.shape)
    return out


def step_table() -> NDArray[np.float64]:
    """The 256 steps that a byte names: eight to the octave, from 2^-21; 0 stands for a piece of zeros."""
    code = np.arange(256)
    table = (8 + (code & 7)) * np.exp2((code >> 3) - 24.0)
    table[0] = 0.0
    return table


STEPS = step_table()


def nearest_codes(steps: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The code of the step that is nearest in proportion, 1 to 255."""
    distance = np.abs(np.log(STEPS[1:])[None] - np.log(np.maximum(np.asarray(steps, np.float64), 1e-12))[:, None])
    return (distance.argmin(1) + 1).astype(np.uint8)


def pack_numbers(rank: int, codes: NDArray[np.uint8], symbols: Sequence[NDArray[np.integer]]) -> bytes:
    """The bytes of the integers `symbols` (one array a piece, of any shape) with their step codes."""
    shifts = bytearray()
    magnitudes: list[NDArray[np.int64]] = []
    negative: list[NDArray[np.bool_]] = []
    low_bits: list[NDArray[np.uint8]] = []
    nonzero = 0
    for code, array in zip(codes.tolist(), symbols, strict=True):
        if code == 0:
            shifts.append(0)
            continue
        flat = np.asarray(array, np.int64).ravel()
        magnitude = np.abs(flat)
        shift = _shift(magnitude)
        shifts.append(shift)
        magnitudes.append(magnitude >> shift)
        if shift:
            low_bits.append(((magnitude[:, None] >> np.arange(shift)) & 1).astype(np.uint8).ravel())
        negative.append(flat[flat != 0] < 0)
        nonzero += int(np.count_nonzero(flat))
    coded = encode_magnitudes(magnitudes)
    plain = np.packbits(np.concatenate([*negative, *low_bits]) if negative else np.zeros(0, bool), bitorder="little")
    return b"".join(
        [MAGIC, _HEADER.pack(rank, len(coded), nonzero), codes.astype(np.uint8).tobytes(), bytes(shifts), coded,
         plain.tobytes()]
    )  # fmt: skip


def unpack_numbers(
    shapes: Sequence[tuple[int, ...]], blob: bytes
) -> tuple[tuple[Piece, ...], list[NDArray[np.float32]]]:
    """The plan and the numbers (integers times steps) in the bytes that `pack_numbers` wrote.

    The work is bounded by the generator's size, whatever the bytes say. Raises StreamError where they do not fit.
    """
    damaged = "the tuned weights in this stream are damaged"
    if len(blob) < 4 + _HEADER.size or blob[:4] != MAGIC:
        raise StreamError(damaged)
    rank, coded_size, nonzero = _HEADER.unpack_from(blob, 4)
    if not 1 <= rank <= MAX_RANK:
        raise StreamError(f"the tuned weights in this stream have the rank {rank}; 1 to {MAX_RANK} are allowed")
    plan = pieces(shapes, rank)
    at = 4 + _HEADER.size
    codes = np.frombuffer(blob[at : at + len(plan)], np.uint8)
    shifts = np.frombuffer(blob[at + len(plan) : at + 2 * len(plan)], np.uint8)
    at += 2 * len(plan)
    if len(shifts) != len(plan) or (shifts > MAX_SHIFT).any() or (shifts[codes == 0] != 0).any():
        raise StreamError("the tuned weights in this stream belong to another generator")
    low_count = int(sum(p.size * int(s) for p, s in zip(plan, shifts.tolist(), strict=True)))
    if len(blob) != at + coded_size + -(-(nonzero + low_count) // 8):
        raise StreamError("the tuned weights in this stream belong to another generator")
    lengths = [piece.size for piece, code in zip(plan, codes.tolist(), strict=True) if code]
    coded = iter(decode_magnitudes(blob[at : at + coded_size], lengths))
    bits = np.unpackbits(np.frombuffer(blob, np.uint8, offset=at + coded_size), bitorder="little")
    sign_at, low_at = 0, nonzero
    values: list[NDArray[np.float32]] = []
    for piece, code, shift in zip(plan, codes.tolist(), shifts.tolist(), strict=True):
        if code == 0:
            values.append(np.zeros(piece.shape, np.float32))
            continue
        magnitude = next(coded) << shift
        if shift:
            low = bits[low_at : low_at + piece.size * shift].reshape(piece.size, shift)
            magnitude |= (low.astype(np.int64) << np.arange(shift)).sum(1)
            low_at += piece.size * shift
        places = np.flatnonzero(magnitude)
        if sign_at + len(places) > nonzero:
            raise StreamError(damaged)
        flip = bits[sign_at : sign_at + len(places)].astype(np.int64)
        sign_at += len(places)
        magnitude[places] *= 1 - 2 * flip
        values.append((magnitude.astype(np.float64) * STEPS[code]).astype(np.float32).reshape(piece.shape))
    if sign_at != nonzero:
        raise StreamError(damaged)
    if not all(bool(np.isfinite(v).all()) for v in values):
        raise StreamError("the tuned weights in this stream are not finite")
    return plan, values


def _shift(magnitude: NDArray[np.int64]) -> int:
    """How many low bits go beside the coder: those below the usual magnitude, which are as often 0 as 1."""
    mean = float(magnitude.mean()) if len(magnitude) else 0.0
    return int(min(max(math.floor(math.log2(mean / 0.7)), 0), MAX_SHIFT)) if mean > 0.7 else 0
