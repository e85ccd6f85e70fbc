"""The 35 curves of a stream by name, and what is done to curves: smoothing, principal motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError, PackError
from mien.format.limits import CHANNELS, PARAMETERS
from mien.format.stream import Stream
from mien.packs.resolve import pack_for, stream_channels

if TYPE_CHECKING:
    from mien.nets.stylespace import Channel
    from mien.packs.pack import Pack

Array = NDArray[np.float32]
Selection = str | tuple[str, ...]

POSE = ("roll", "yaw", "pitch")
NO_ATTRIBUTE = "channel"  # of a channel whose pack is not here
MIN_SPREAD = 1e-3  # of a motion over time, in units of its channels; less counts as none


@dataclass(frozen=True)
class MotionCurves:
    """The names of the 35 curves of a stream.

    `names` of the curves, `attributes` that each belongs to, and the `scales [35]` of their units: 1 degree for the
    pose, for the rest the channel's own in the pack (`Channel.scale`).
    """

    names: tuple[str, ...]
    attributes: tuple[str, ...]
    scales: Array

    @classmethod
    def of(cls, channels: Sequence[Channel] | None) -> MotionCurves:
        """Name the curves by the pack's channels in the stream's order.

        Without them the channels are `channel.1` and so on, and their units are not known: 1 stands in `scales`.
        """
        kinds = [c.attribute for c in channels] if channels else [NO_ATTRIBUTE] * CHANNELS
        seen: dict[str, int] = {}
        names = []
        for kind in kinds:
            seen[kind] = seen.get(kind, 0) + 1
            names.append(f"{kind}.{seen[kind]}")
        scales = [c.scale for c in channels] if channels else [1.0] * CHANNELS
        return cls((*POSE, *names), (*POSE, *kinds), np.array([1.0, 1.0, 1.0, *scales], np.float32))

    @property
    def groups(self) -> dict[str, list[int]]:
        """Curves by attribute, pose first, in the order of the stream."""
        found: dict[str, list[int]] = {}
        for i, name in enumerate(self.attributes):
            found.setdefault(name, []).append(i)
        return found

    def select(self, what: Selection) -> list[int]:
        """Return the indices of the curves that are named.

        Raises InputError for a name that this stream does not have.
        """
        chosen: set[int] = set()
        groups = self.groups
        wider = {"pose": range(3), "expression": range(3, PARAMETERS), "all": range(PARAMETERS)}
        for name in (what,) if isinstance(what, str) else what:
            if name in wider:
                chosen.update(wider[name])
            elif name in groups:
                chosen.update(groups[name])
            elif name in self.names:
                chosen.add(self.names.index(name))
            else:
                known = ", ".join([*groups, *wider])
                raise InputError(f"the stream has no curve {name!r}: take {known}, or one curve as {self.names[3]}.")
        if not chosen:
            raise InputError("an edit must name at least one curve.")
        return sorted(chosen)


def curves_of(stream: Stream, pack: str | Pack | None = None) -> MotionCurves:
    """Name the stream's curves by its pack (a name, a path or a loaded pack; by default the one it names).

    A pack that is not here leaves the channels without attributes; a `pack` that is given must be the stream's.
    Raises PackError, StreamError.
    """
    try:
        found = pack_for(stream, pack)
    except PackError:
        if pack is not None:
            raise
        return MotionCurves.of(None)
    return MotionCurves.of(stream_channels(stream, found))


def principal_motion(values: Array, scales: Array) -> Array:
    """Return the direction `[K]`, one standard deviation long, in which an attribute's curves `[T, K]` move together.

    The first principal axis over time in units of `scales [K]`; positive is the side with the longer tail, where the
    face is more rarely (an open mouth, a closed eye). Zeros where nothing moves.
    """
    x = values.astype(np.float64) / scales
    x = x - x.mean(0)
    spread = np.linalg.svd(x, full_matrices=False)[2][0]
    along = x @ spread
    if along.std() < MIN_SPREAD:
        return np.zeros(values.shape[1], np.float32)
    skew = float((along**3).mean()) / float(along.std()) ** 3
    largest = float(spread[np.argmax(np.abs(spread))])
    sign = math.copysign(1.0, skew if abs(skew) > 0.05 else largest)
    return (sign * along.std() * spread * scales).astype(np.float32)


def smoothed(values: Array, seconds: float, fps: Fraction) -> Array:
    """Smooth curves `[T, K]` by a Gaussian over time of full width at half maximum `seconds`; ends are mirrored."""
    sigma = seconds * float(fps) / (2 * math.sqrt(2 * math.log(2)))
    reach = min(math.ceil(3 * sigma), 10_000)
    if reach < 1 or sigma < 0.05 or len(values) < 2:
        return values
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    window /= window.sum()
    padded = np.pad(values.astype(np.float64), ((reach, reach), (0, 0)), mode="symmetric")
    return np.stack([np.convolve(column, window, "valid") for column in padded.T], 1).astype(np.float32)
