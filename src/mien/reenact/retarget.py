"""How a puppet takes over a driver's motion."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from mien.editing.curves import Array, MotionCurves, smoothed
from mien.errors import InputError


def check_direction(strength: float, smoothing: float) -> None:
    """Raises InputError unless `directed` takes these."""
    if not 0 <= strength <= 3:
        raise InputError(f"the strength must lie between 0 and 3, not {strength:g}.")
    if not 0 <= smoothing <= 10:
        raise InputError(f"the smoothing must lie between 0 and 10 seconds, not {smoothing:g}.")


def directed(
    numbers: Array, curves: MotionCurves, fps: Fraction, *, strength: float, smoothing: float, blink: bool, gaze: bool
) -> Array:
    """How a puppet takes over a driver's numbers `[T, 35]` (already offsets of the puppet's own identity).

    `strength` (0 to 3) scales all motion about the curves' medians, the driver's usual pose and expression: 0 holds
    that still, 1 is the driver's motion. `smoothing` in seconds as in `Smooth`. Without `blink` the lids, and without
    `gaze` the eyes' direction, stay those of the puppet's own identity.

    Raises InputError for a value out of range.
    """
    check_direction(strength, smoothing)
    rest = np.median(numbers, axis=0)
    numbers = smoothed(numbers, smoothing, fps)
    if strength != 1:
        numbers = rest + strength * (numbers - rest)
    own = [name for name, wanted in (("eyes", blink), ("gaze", gaze)) if not wanted]
    still = [i for i, attribute in enumerate(curves.attributes) if attribute in own]
    numbers = numbers.astype(np.float32, copy=True)
    numbers[:, still] = 0
    return numbers
