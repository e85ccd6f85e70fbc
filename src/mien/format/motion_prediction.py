"""The model of coded motion: an adaptive linear predictor and context-coded residuals, in integer arithmetic.

Both sides of the codec run it in the same way, so decoded numbers are the same on every machine. Values are in 1/256 of
the channel's step ("fine units").
"""

from __future__ import annotations

import numpy as np

from mien.errors import StreamError
from mien.format.range_coder import Bit, RangeDecoder, RangeEncoder, cost

PARAMETERS = 35
FINE_BITS = 8  # bits of a fine unit below the step
LARGEST_STEPS = 1 << 15  # no value lies further from zero
LIMIT = LARGEST_STEPS << FINE_BITS

# The adaptive filter: normalised least mean squares in fixed point.
_TAPS = PARAMETERS + 3
_WEIGHT_BITS = 16
_WEIGHT_LIMIT = 1 << 18
_INPUT_LIMIT = 1 << 13
_RATE = 1966  # 0.03 in 1/65536
_MEAN_SHIFT = 4

# The residual's contexts: how large the channel's residuals are of late, and how active this frame is so far.
_SCALES = (8, 16, 32, 56, 90, 128, 180, 256, 400, 640, 1024, 2048, 4096)
_SCALE_SHIFT = 4
_SCALE_START = 256
UNARY = 14
_KEY = len(_SCALES) + 1  # the context of key frames
_PREFIX = 18  # longest prefix of an escaped magnitude
_NONZERO_START = (655, 1966, 3277, 6554, 10486, 16384, 22938, 29491, 36045, 42598, 49152, 55705, 58982, 62259, 55705)
_MORE_START = 20000


class Predictor:
    """Predicts each parameter of a frame from the block's past and from the parameters before it."""

    def __init__(self) -> None:
        self._weights = np.zeros((PARAMETERS, _TAPS), np.int64)
        self._history = np.zeros((3, PARAMETERS), np.int64)  # the last three frames, newest first
        self._mean = np.zeros(PARAMETERS, np.int64)
        self._now = np.zeros(PARAMETERS, np.int64)
        self._inputs = np.zeros((PARAMETERS, _TAPS), np.int64)
        self._change = np.zeros(PARAMETERS, np.int64)

    def begin(self) -> None:
        """Starts a frame that is not the key frame."""
        last, before, earlier = self._history
        slopes = np.stack([last - before, before - earlier, last - self._mean], axis=1)
        self._inputs[:, PARAMETERS:] = np.clip(slopes, -_INPUT_LIMIT, _INPUT_LIMIT)
        self._change[:] = 0

    def predict(self, channel: int) -> int:
        """The prediction in fine units."""
        inputs = self._inputs[channel]
        inputs[:channel] = self._change[:channel]
        change = int(self._weights[channel] @ inputs) >> _WEIGHT_BITS
        return min(max(int(self._history[0, channel]) + change, -LIMIT), LIMIT)

    def learn(self, channel: int, value: int, residual: int) -> None:
        """Takes in the decoded value; `residual` (steps) says how wrong the prediction was."""
        self._now[channel] = value
        self._change[channel] = min(max(value - int(self._history[0, channel]), -_INPUT_LIMIT), _INPUT_LIMIT)
        if residual:
            inputs = self._inputs[channel]
            error = min(max(residual << FINE_BITS, -_INPUT_LIMIT), _INPUT_LIMIT)
            norm = 65536 + ((5 * int(inputs @ inputs)) >> 6)
            gain = (error * _RATE << 8) // norm
            weights = self._weights[channel]
            weights += (gain * inputs) >> 8
            np.clip(weights, -_WEIGHT_LIMIT, _WEIGHT_LIMIT, out=weights)

    def end(self, key: bool) -> np.ndarray:
        """Ends a frame and returns it, int64 [35] in fine units."""
        if key:
            self._history[:] = self._now
            self._mean[:] = self._now
        else:
            self._history[1:] = self._history[:-1].copy()
            self._history[0] = self._now
            self._mean += (self._now - self._mean) >> _MEAN_SHIFT
        return self._now.copy()

    def set_key(self, channel: int, value: int) -> None:
        """Takes in a value of the key frame."""
        self._now[channel] = value


class ResidualCoder:
    """Writes and reads residuals: is it zero, its sign, its magnitude in unary, and an escape for large ones."""

    def __init__(self) -> None:
        contexts = range(len(_SCALES) + 2)
        self._nonzero = [[Bit(_NONZERO_START[context]) for _ in range(4)] for context in contexts]
        self._more = [[Bit(_MORE_START) for _ in range(UNARY)] for _ in contexts]
        self._sign = [Bit() for _ in range(3)]
        self._prefix = [Bit() for _ in range(_PREFIX + 1)]
        self._scale = [_SCALE_START] * PARAMETERS
        self._last_sign = [0] * PARAMETERS
        self._seen = self._expected = self._count = 0

    def begin(self) -> None:
        """Starts a frame."""
        self._seen = self._expected = self._count = 0

    def code(self, coder: RangeEncoder | RangeDecoder, channel: int, key: bool, residual: int = 0) -> int:
        """Writes `residual` with an encoder, or ignores it and reads one with a decoder; returns the residual."""
        context, activity = (_KEY, 0) if key else self._context(channel)
        magnitude = abs(residual)
        if not coder.bit(self._nonzero[context][activity], magnitude != 0):
            value = 0
        else:
            negative = coder.bit(self._sign[self._last_sign[channel]], residual < 0)
            value = 1
            more = self._more[context]
            while value < UNARY and coder.bit(more[value], magnitude > value):
                value += 1
            if value == UNARY:
                value += self._escape(coder, magnitude - UNARY)
            value = -value if negative else value
        if not key:
            self._adapt(channel, abs(value))
            self._last_sign[channel] = 0 if value == 0 else 2 if value < 0 else 1
        return value

    def bits(self, channel: int, residual: int) -> float:
        """About what `residual` would cost now; small magnitudes only."""
        context, activity = self._context(channel)
        magnitude = abs(residual)
        bits = cost(self._nonzero[context][activity], magnitude != 0)
        if magnitude:
            bits += cost(self._sign[self._last_sign[channel]], residual < 0)
            for value in range(1, min(magnitude + 1, UNARY)):
                bits += cost(self._more[context][value], magnitude > value)
        return bits

    def _context(self, channel: int) -> tuple[int, int]:
        scale = self._scale[channel]
        context = 0
        while context < len(_SCALES) and scale > _SCALES[context]:
            context += 1
        if self._count < 3:
            return context, 3
        if 2 * self._seen > 3 * self._expected + 64:
            return context, 2
        return context, 1 if 3 * self._seen < 2 * self._expected else 0

    def _adapt(self, channel: int, magnitude: int) -> None:
        scale, size = self._scale[channel], magnitude << FINE_BITS
        self._seen += min(size, 2048)
        self._expected += min(scale, 2048)
        self._count += 1
        self._scale[channel] = scale + ((size - scale) >> _SCALE_SHIFT)

    def _escape(self, coder: RangeEncoder | RangeDecoder, rest: int) -> int:
        """Exponential Golomb: how many bits `rest + 1` has, in unary, then the bits below the first."""
        width = (rest + 1).bit_length() - 1 if rest >= 0 else 0
        length = 0
        while coder.bit(self._prefix[length], length < width):
            length += 1
            if length == _PREFIX:
                raise StreamError("the coded frames hold a number out of range.")
        value = 1
        for place in range(length - 1, -1, -1):
            value = value << 1 | coder.plain(((rest + 1) >> place) & 1)
        return value - 1
