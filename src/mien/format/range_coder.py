"""An adaptive binary range coder in integer arithmetic (docs/format.md, "Range coder").

A `Bit` is the coder's adaptive model of one kind of decision: a quick and a slow estimate of how often it is 1,
averaged. The coder narrows an interval of 32 bits by that model; carries are resolved by holding back the last byte and
any 0xFF after it, as in Martin's range encoder.
"""

from __future__ import annotations

import math

_TOP = 1 << 24
_MASK = 0xFFFFFFFF
_ONE = 65535
_LEAST, _MOST = 64, 32704  # the probability of a 1, in 1/32768


class Bit:
    """An adaptive estimate of the probability of a 1 for one kind of decision, in 1/65536; it learns fast at first."""

    __slots__ = ("count", "quick", "slow")

    def __init__(self, start: int = 32768) -> None:
        self.quick = self.slow = start
        self.count = 5

    def chance(self) -> int:
        """The probability of a 1, in 1/32768."""
        return min(max((self.quick + self.slow) >> 2, _LEAST), _MOST)

    def learn(self, bit: int) -> None:
        """Takes in what the decision was."""
        target = _ONE if bit else 0
        count = self.count
        self.quick += (target - self.quick) // min(count, 24)
        self.slow += (target - self.slow) // count
        if count < 120:
            self.count = count + 1


def cost(model: Bit, bit: bool) -> float:
    """Bits that the decision would take; for the encoder's choices only, since it is floating point."""
    chance = model.chance()
    return -math.log2((chance if bit else 32768 - chance) / 32768)


class RangeEncoder:
    """Writes decisions; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._low = 0
        self._range = _MASK
        self._held = -1  # the byte held back; -1 before the first
        self._pending = 0  # how many 0xFF follow it
        self._out = bytearray()

    def bit(self, model: Bit, bit: int | bool) -> bool:
        """Writes one decision and learns from it."""
        bound = (self._range >> 15) * model.chance()
        if bit:
            self._range = bound
        else:
            self._low += bound
            self._range -= bound
        model.learn(bit)
        while self._range < _TOP:
            self._range = (self._range << 8) & _MASK
            self._shift()
        return bool(bit)

    def plain(self, bit: int) -> int:
        """Writes one bit that is as often 0 as 1."""
        self._range >>= 1
        if not bit:
            self._low += self._range
        while self._range < _TOP:
            self._range = (self._range << 8) & _MASK
            self._shift()
        return bit

    def finish(self) -> bytes:
        """The bytes; zeros at the end are left out, since the decoder reads zeros beyond it."""
        # Any number within the interval will do: the one with the most zeros at its end.
        for bits in range(32, -1, -1):
            value = (self._low + (1 << bits) - 1) >> bits << bits
            if value < self._low + self._range:
                self._low = value
                break
        for _ in range(5):
            self._shift()
        return bytes(self._out).rstrip(b"\0")

    def _shift(self) -> None:
        """Moves the top byte of `low` out, once no carry can reach it."""
        if self._low < 0xFF000000 or self._low > _MASK:
            carry = self._low >> 32
            if self._held >= 0:  # no carry goes beyond the first byte: the interval lies within [0, 1)
                self._out.append((self._held + carry) & 0xFF)
            self._out += bytes([(0xFF + carry) & 0xFF]) * self._pending
            self._pending = 0
            self._held = (self._low >> 24) & 0xFF
        else:
            self._pending += 1
        self._low = (self._low << 8) & _MASK


class RangeDecoder:
    """Reads decisions from bytes, and zeros beyond their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 4
        self._range = _MASK
        self._code = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def bit(self, model: Bit, bit: int | bool = 0) -> bool:
        """Reads one decision and learns from it. The second argument is there for the encoder's sake."""
        bound = (self._range >> 15) * model.chance()
        if self._code < bound:
            self._range = bound
            read = True
        else:
            self._code -= bound
            self._range -= bound
            read = False
        model.learn(read)
        if self._range < _TOP:
            self._fill()
        return read

    def plain(self, bit: int = 0) -> int:
        """Reads one bit that is as often 0 as 1."""
        self._range >>= 1
        read = int(self._code < self._range)
        if not read:
            self._code -= self._range
        if self._range < _TOP:
            self._fill()
        return read

    def _fill(self) -> None:
        while self._range < _TOP:
            self._range = (self._range << 8) & _MASK
            byte = self._data[self._at] if self._at < len(self._data) else 0
            self._code = ((self._code << 8) | byte) & _MASK
            self._at += 1
