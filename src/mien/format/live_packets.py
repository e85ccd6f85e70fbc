"""The 35 numbers of a frame as one datagram, for a line that loses some: `mien call` (docs/format.md, "Live packets").

A number is a whole number of its step. A datagram holds the differences from one frame that the receiver is known to
have, since it acknowledged it, so that what is lost after it is not needed: the next datagram that arrives shows its
frame. As long as it has acknowledged none, or none of the last 63, every eighth frame is a key frame, the numbers
themselves, and those between are differences from it, which are lost with it. Whole numbers are coded by the range coder
with models that do not learn from one datagram to the next.

    frame   uint16, little endian: the frame's number modulo 1024, plus 1024 times the distance to its reference (0: key
            frame); then the range coder's bytes
    acknowledgement   uint16, little endian: the number modulo 1024 of a frame that was read
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.errors import StreamError
from mien.format.limits import PARAMETERS
from mien.format.live_packet_models import DELTA, KEY, BitModels
from mien.format.range_coder import Bit, RangeDecoder, RangeEncoder

Array = NDArray[np.float64]

NUMBERS = 1024  # frames until numbers begin again
FURTHEST = NUMBERS // 16 - 1  # frames from a frame to its reference
MOST_BYTES = 192  # of a datagram: no frame needs so many
LARGEST = 1 << 12  # steps: no value lies further from zero
STEP_UNIT = 1 << 16  # steps are whole numbers of 1 / STEP_UNIT
USUAL_STEPS = 0.4  # of the size of a usual motion: about 43 dB between the pictures
KEY_AGAIN = 8  # frames after which another key frame is sent where none was acknowledged
_ROUND = 0.42  # of a step: differences are rounded a little towards 0, where they cost less
_UNARY = 14
_PREFIX = 12  # bits of the largest escaped magnitude
_HEAD = struct.Struct("<H")


class _FixedBit(Bit):
    """A model that stays as it is: a datagram cannot build on one that may be lost."""

    def learn(self, bit: int) -> None:
        del bit


def usual_steps(unit: NDArray[np.floating]) -> tuple[int, ...]:
    """The steps of the 35 numbers in 1 / STEP_UNIT for motions of the size `unit [35]`."""
    return tuple(int(v) for v in np.clip(np.rint(USUAL_STEPS * np.asarray(unit) * STEP_UNIT), 1, 1 << 24))


def check_steps(steps: Sequence[object]) -> tuple[int, ...]:
    """The steps themselves if they are 35 whole numbers of 1 to 2^24. Raises StreamError."""
    if len(steps) == PARAMETERS and all(type(s) is int and 1 <= s <= 1 << 24 for s in steps):
        return tuple(s for s in steps if isinstance(s, int))
    raise StreamError("the steps of the live packets are out of range.")


class PacketWriter:
    """`writer(number, row)` gives the datagram of a frame."""

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = np.array(check_steps(steps), np.float64) / STEP_UNIT
        self._sent: OrderedDict[int, list[int]] = OrderedDict()
        self._known = self._key = -NUMBERS

    def __call__(self, number: int, row: Array) -> bytes:
        """`number`: of the frame, larger than the one before; `row [35]`, finite."""
        reference = self._known if number - self._known <= FURTHEST else self._key
        near = FURTHEST if reference == self._known else KEY_AGAIN - 1
        key = number - reference > near or reference not in self._sent
        base = [0] * PARAMETERS if key else self._sent[reference]
        steps = np.clip(row / self._steps, 1 - LARGEST, LARGEST - 1)
        difference = steps - base
        whole = np.sign(difference) * np.floor(np.abs(difference) + _ROUND)
        values = np.clip(base + whole, 1 - LARGEST, LARGEST - 1).astype(int).tolist()
        self._sent[number] = values
        while len(self._sent) > 2 * FURTHEST:
            self._sent.popitem(last=False)
        if key:
            self._key = number
        coder = RangeEncoder()
        _code(coder, base, key, [v - b for v, b in zip(values, base, strict=True)])
        return _HEAD.pack(number % NUMBERS | (0 if key else number - reference) * NUMBERS) + coder.finish()

    def acknowledged(self, data: bytes) -> int | None:
        """Take account of an acknowledgement (`is_acknowledgement(data)`); the frame's number, None for none that is
        known."""
        low = _HEAD.unpack(data)[0]
        number = next((n for n in reversed(self._sent) if n % NUMBERS == low), None)
        if number is not None:
            self._known = max(self._known, number)
        return number


@dataclass(frozen=True)
class Received:
    """A frame's number and its 35 numbers."""

    number: int
    row: Array


class PacketReader:
    """`reader(data)` reads the datagrams of a `PacketWriter` with the same steps; they may come from anybody."""

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = np.array(check_steps(steps), np.float64) / STEP_UNIT
        self._read: OrderedDict[int, list[int]] = OrderedDict()

    def __call__(self, data: bytes, expected: int) -> Received | None:
        """The frame of a datagram; None where its reference is not here. `expected`: about the frame's number, to 500.

        Raises StreamError: it is no datagram of this kind, or a number is out of range.
        """
        if not _HEAD.size < len(data) <= MOST_BYTES:
            raise StreamError(f"a live packet has {_HEAD.size + 1} to {MOST_BYTES} bytes, not {len(data)}.")
        head = _HEAD.unpack_from(data)[0]
        number = expected + (head % NUMBERS - expected + NUMBERS // 2) % NUMBERS - NUMBERS // 2
        distance = head // NUMBERS
        base = [0] * PARAMETERS if distance == 0 else self._read.get(number - distance)
        if base is None or number < 0:
            return None
        differences = _code(RangeDecoder(data[_HEAD.size :]), base, distance == 0)
        values = [b + d for b, d in zip(base, differences, strict=True)]
        if any(abs(value) >= LARGEST for value in values):
            raise StreamError("a live packet holds a number out of range.")
        self._read[number] = values
        while len(self._read) > 2 * FURTHEST:
            self._read.popitem(last=False)
        return Received(number, np.array(values) * self._steps)


def acknowledgement(number: int) -> bytes:
    """The datagram that says that frame `number` was read."""
    return _HEAD.pack(number % NUMBERS)


def is_acknowledgement(data: bytes) -> bool:
    """Whether a datagram is an acknowledgement; else it is a frame."""
    return len(data) == _HEAD.size and _HEAD.unpack(data)[0] < NUMBERS


def _code(coder: RangeEncoder | RangeDecoder, base: list[int], key: bool, write: list[int] | None = None) -> list[int]:
    """Write 35 differences, or read them; returns them."""
    models = KEY if key else DELTA
    activity, out = models.start, []
    for channel in range(PARAMETERS):
        value = 0 if write is None else write[channel]
        value = _one(coder, models, models.context(activity), models.magnitude_class(base[channel]), value)
        out.append(value)
        activity = models.next_activity(activity, abs(value))
    return out


def _one(coder: RangeEncoder | RangeDecoder, models: BitModels, context: int, place: int, value: int) -> int:
    size = abs(value)
    if not coder.bit(_FixedBit(models.nonzero[context][place]), size != 0):
        return 0
    negative = not coder.plain(0 if value < 0 else 1)
    read = 1
    more = models.more[context]
    while read < _UNARY and coder.bit(_FixedBit(more[min(read, len(more)) - 1]), size > read):
        read += 1
    if read == _UNARY:
        for bit in range(_PREFIX, -1, -1):
            read += coder.plain(((size - _UNARY) >> bit) & 1) << bit
    return -read if negative else read
