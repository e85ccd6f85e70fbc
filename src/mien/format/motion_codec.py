"""The coded mode of frames: predictive coding of 35 slowly changing curves (docs/format.md, "Coded frames").

Closed-loop prediction: every parameter is predicted from what the decoder already has (its own past and the parameters
before it in the same frame, weighted by an adaptive filter), the prediction error is rounded to a whole number of
steps, and an adaptive binary range coder writes it. Every `key_interval` frames a key frame begins a block that needs
nothing from before it: one can seek to it, and damage ends there.

All that both sides must agree on is integer arithmetic, so a file decodes to the same halves on every machine. Values
inside are in 1/256 of the channel's step ("fine units"); a step is a whole number of 2^-24.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mien.errors import InputError, StreamError
from mien.format.motion_prediction import FINE_BITS, LARGEST_STEPS, LIMIT, PARAMETERS, UNARY, Predictor, ResidualCoder
from mien.format.range_coder import RangeDecoder, RangeEncoder

DEFAULT_KEY_INTERVAL = 120
MAX_KEY_INTERVAL = 512
STEP_CODES = 256
VERSION = 1

_HEADER = struct.Struct("<BBHII35s")
_BLOCK = struct.Struct("<II")
_CRC = struct.Struct("<I")

_STEP_BITS = 24

_LAMBDA = 0.1  # squared steps a bit is worth to the encoder
_MOST_AIM = 2 << FINE_BITS  # how far from its value a parameter may aim to make up for others


@dataclass(frozen=True)
class CodedInfo:
    """What the header of coded frames says. `blocks` holds offset, length and CRC-32 of each block."""

    frames: int
    key_interval: int
    crc: int
    steps: np.ndarray
    blocks: tuple[tuple[int, int, int], ...]

    @property
    def size(self) -> int:
        """Bytes of the whole payload."""
        return self.blocks[-1][0] + self.blocks[-1][1]

    def span(self, block: int) -> tuple[int, int]:
        """First frame of a block and the one after its last."""
        first = block * self.key_interval
        return first, min(first + self.key_interval, self.frames)


def check_key_interval(key_interval: int) -> None:
    """Raise InputError where key frames cannot be so far apart."""
    if not 1 <= key_interval <= MAX_KEY_INTERVAL:
        raise InputError(f"the key interval must be 1 to {MAX_KEY_INTERVAL} frames, not {key_interval}.")


def encode_frames(
    frames: np.ndarray, steps: np.ndarray, key_interval: int = DEFAULT_KEY_INTERVAL,
    feedback: np.ndarray | None = None, tick: Callable[[int], None] = lambda frames: None,
) -> bytes:  # fmt: skip
    """Code the curves.

    Args:
        frames: float16 [T, 35], finite.
        steps: float [35], greater than 0: the quantiser's step of each parameter in its own unit. The nearest step that
            the format has is used (within 6 %), a larger one where a curve would need more than 32,768 steps.
        key_interval: frames from one key frame to the next, 1 to 512.
        feedback: float [35, 35] or None. Parameter c aims at its value minus feedback[c, :c] @ (the errors of the
            parameters before it in the same frame), so that errors can make up for each other in the image.
        tick: called with the number of frames done since the last call.

    Returns:
        The payload of the part `CODE`.

    Raises:
        InputError: a shape or value out of range.
    """
    values = np.asarray(frames, np.float64)
    if values.ndim != 2 or values.shape[1] != PARAMETERS or not len(values) or not np.isfinite(values).all():
        raise InputError(f"frames must be finite numbers of shape [T, {PARAMETERS}], not {values.shape}.")
    check_key_interval(key_interval)
    peaks = np.abs(values).max(axis=0)
    codes = _step_codes(np.asarray(steps, np.float64), peaks)
    units = _step_units(codes)
    if (peaks + 4.0 * units / (1 << _STEP_BITS) > 65504).any():  # a decoded value may lie up to 3.5 steps off
        raise InputError("a parameter or its step is too large for the coded mode.")
    fine = np.rint(values * (1 << (_STEP_BITS + FINE_BITS)) / units).astype(np.int64)
    shaping = None if feedback is None else np.tril(feedback, -1) * units[None] / units[:, None]
    decoded = np.empty((len(values), PARAMETERS), np.int64)
    index, blocks = [], []
    for first in range(0, len(fine), key_interval):
        span = slice(first, min(first + key_interval, len(fine)))
        data, decoded[span] = _encode_block(fine[span], shaping)
        index.append(_BLOCK.pack(len(data), zlib.crc32(data)))
        blocks.append(data)
        tick(span.stop - first)
    crc = zlib.crc32(_halves(decoded, units).astype("<f2").tobytes())
    head = _HEADER.pack(VERSION, 0, key_interval, len(fine), crc, bytes(codes.tolist())) + b"".join(index)
    return head + _CRC.pack(zlib.crc32(head)) + b"".join(blocks)


def decode_frames(data: bytes) -> np.ndarray:
    """Decode the payload of a part `CODE`, bit for bit the same on every machine.

    Returns:
        float16 [T, 35].

    Raises:
        StreamError: damaged, or of a codec version that this program does not know.
    """
    info = read_info(data)
    frames = np.concatenate([decode_block(data, info, number) for number in range(len(info.blocks))])
    if zlib.crc32(frames.astype("<f2").tobytes()) != info.crc:
        raise StreamError("the coded frames decode to other numbers than were coded.")
    return frames


def salvage_frames(data: bytes, info: CodedInfo) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Decode what is left of damaged or cut coded frames.

    Returns:
        float16 [T, 35], zero where lost, and the runs of lost frames (first, last).
    """
    frames = np.zeros((info.frames, PARAMETERS), np.float16)
    bad = []
    for number in range(len(info.blocks)):
        first, stop = info.span(number)
        try:
            frames[first:stop] = decode_block(data, info, number)
        except StreamError:
            bad.append((first, stop - 1))
    return frames, _runs(bad)


def wrong_blocks(data: bytes, info: CodedInfo) -> list[tuple[int, int]]:
    """The runs of frames (first, last) whose blocks are cut short or disagree with their checksums; decodes nothing."""
    bad = []
    for number, (offset, length, crc) in enumerate(info.blocks):
        block = data[offset : offset + length]
        if len(block) != length or zlib.crc32(block) != crc:
            first, stop = info.span(number)
            bad.append((first, stop - 1))
    return _runs(bad)


def decode_block(data: bytes, info: CodedInfo, number: int) -> np.ndarray:
    """The frames from one key frame to the next: float16 [at most key_interval, 35].

    Raises:
        StreamError: the block is damaged.
    """
    first, stop = info.span(number)
    offset, length, crc = info.blocks[number]
    block = data[offset : offset + length]
    if len(block) != length or zlib.crc32(block) != crc:
        raise StreamError(f"the coded frames {first} to {stop - 1} are damaged.")
    return _halves(_decode_block(block, stop - first), info.steps)


def read_info(data: bytes) -> CodedInfo:
    """The header of coded frames. `data` may be cut anywhere after it.

    Raises:
        StreamError: damaged, or of a codec version that this program does not know.
    """
    if len(data) < _HEADER.size:
        raise StreamError("the coded frames are cut short.")
    version, reserved, key_interval, frames, crc, codes = _HEADER.unpack_from(data)
    if version != VERSION or reserved:
        raise StreamError(f"the coded frames are of version {version}; this program reads version {VERSION}.")
    if not 1 <= key_interval <= MAX_KEY_INTERVAL or not frames:
        raise StreamError("the header of the coded frames is damaged.")
    count = -(-frames // key_interval)
    head = _HEADER.size + count * _BLOCK.size
    if len(data) < head + _CRC.size:
        raise StreamError("the coded frames are cut short.")
    if _CRC.unpack_from(data, head)[0] != zlib.crc32(data[:head]):
        raise StreamError("the header of the coded frames is damaged.")
    blocks = []
    offset = head + _CRC.size
    for number in range(count):
        length, block_crc = _BLOCK.unpack_from(data, _HEADER.size + number * _BLOCK.size)
        # A block holds at least one byte a frame, so the work of decoding is bounded by the size of the file.
        if length < min(key_interval, frames - number * key_interval):
            raise StreamError("the header of the coded frames is damaged.")
        blocks.append((offset, length, block_crc))
        offset += length
    return CodedInfo(frames, key_interval, crc, _step_units(np.frombuffer(codes, np.uint8)), tuple(blocks))


def _encode_block(fine: np.ndarray, shaping: np.ndarray | None) -> tuple[bytes, np.ndarray]:
    coder, predictor, residuals = RangeEncoder(), Predictor(), ResidualCoder()
    decoded = np.empty_like(fine)
    errors = np.zeros(PARAMETERS)

    def aim(channel: int, value: int) -> int:
        if shaping is None or not channel:
            return value
        return value - round(min(max(float(shaping[channel, :channel] @ errors[:channel]), -_MOST_AIM), _MOST_AIM))

    for number, frame in enumerate(fine.tolist()):
        residuals.begin()
        if number == 0:
            for channel, value in enumerate(frame):
                steps = residuals.code(coder, channel, True, (aim(channel, value) + 128) >> FINE_BITS)
                predictor.set_key(channel, steps << FINE_BITS)
                errors[channel] = (steps << FINE_BITS) - value
        else:
            predictor.begin()
            for channel, value in enumerate(frame):
                prediction = predictor.predict(channel)
                residual = _choose(residuals, channel, aim(channel, value) - prediction)
                residuals.code(coder, channel, False, residual)
                predictor.learn(channel, prediction + (residual << FINE_BITS), residual)
                errors[channel] = prediction + (residual << FINE_BITS) - value
        decoded[number] = predictor.end(number == 0)
    data = coder.finish()
    return data.ljust(len(fine), b"\0"), decoded


def _choose(residuals: ResidualCoder, channel: int, error: int) -> int:
    """The residual whose squared error plus price in bits is least: the nearest one, or the next nearer to zero."""
    nearest = (error + 128) >> FINE_BITS
    if nearest == 0 or abs(nearest) >= UNARY:
        return nearest
    smaller = nearest - 1 if nearest > 0 else nearest + 1

    def price(residual: int) -> float:
        return ((error - (residual << FINE_BITS)) / (1 << FINE_BITS)) ** 2 + _LAMBDA * residuals.bits(channel, residual)

    return smaller if price(smaller) < price(nearest) else nearest


def _decode_block(data: bytes, count: int) -> np.ndarray:
    coder, predictor, residuals = RangeDecoder(data), Predictor(), ResidualCoder()
    decoded = np.empty((count, PARAMETERS), np.int64)
    for number in range(count):
        residuals.begin()
        if number == 0:
            for channel in range(PARAMETERS):
                predictor.set_key(channel, _in_range(residuals.code(coder, channel, True) << FINE_BITS))
        else:
            predictor.begin()
            for channel in range(PARAMETERS):
                prediction = predictor.predict(channel)
                residual = residuals.code(coder, channel, False)
                predictor.learn(channel, _in_range(prediction + (residual << FINE_BITS)), residual)
        decoded[number] = predictor.end(number == 0)
    return decoded


def _runs(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Joins spans (first, last) that follow on each other."""
    runs: list[tuple[int, int]] = []
    for first, last in spans:
        if runs and runs[-1][1] == first - 1:
            runs[-1] = (runs[-1][0], last)
        else:
            runs.append((first, last))
    return runs


def _in_range(value: int) -> int:
    if abs(value) > 2 * LIMIT:
        raise StreamError("the coded frames hold a number out of range.")
    return value


def _step_units(codes: np.ndarray) -> np.ndarray:
    """Steps in units of 2^-24 from their codes: three bits of mantissa, five of exponent. uint8 [35] -> int64 [35]."""
    wide = codes.astype(np.int64)
    return (8 + (wide & 7)) << (wide >> 3)


def _step_codes(steps: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    if steps.shape != (PARAMETERS,) or not np.isfinite(steps).all() or (steps <= 0).any():
        raise InputError(f"the steps must be {PARAMETERS} finite numbers above 0.")
    table = _step_units(np.arange(STEP_CODES)) / (1 << _STEP_BITS)
    nearest = np.abs(np.log(table[None]) - np.log(steps[:, None])).argmin(axis=1)
    least = np.searchsorted(table, peaks / (LARGEST_STEPS - 4))  # the first step that is large enough
    return np.maximum(nearest, least).astype(np.uint8)


def _halves(fine: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Fine units to half floats: the exact product, rounded once. int64 [T, 35] -> float16 [T, 35]."""
    limit = 65504 << (_STEP_BITS + FINE_BITS)
    if (np.abs(fine) > limit // units).any():
        raise StreamError("the coded frames hold a number out of range.")
    exact = (fine * units).astype(np.float64)  # below 2^48, so exact
    return (exact / (1 << (_STEP_BITS + FINE_BITS))).astype(np.float16)
