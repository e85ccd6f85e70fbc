"""Editing a stream: its 35 curves are numbers that have names, so a performance can be bent like a sound track.

    from mien.editing.operations import Offset, Scale, Smooth, edit

    stronger = edit(stream, [Scale("mouth", 1.4), Offset("yaw", 10.0, start=0.5, end=1.5), Smooth("pose", 0.3)])

Operations are small frozen values, applied in order; the result is an ordinary `Stream`. `mien.editing.recipe` reads
them from a file. What they work on is named: a curve (`roll`, `yaw`, `pitch`, `mouth.1`, ...), an attribute of the
pack's channels (`mouth`, `jaw`, `eyes`, `brows`, `gaze`), `pose` (roll, yaw, pitch), `expression` (all 32) or `all`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mien.editing.curves import (
    NO_ATTRIBUTE,
    POSE,
    Array,
    MotionCurves,
    Selection,
    curves_of,
    principal_motion,
    smoothed,
)
from mien.errors import InputError, PackError
from mien.format.limits import PARAMETERS
from mien.format.stream import Stream
from mien.media.sound import keep_spans
from mien.method.avatar import channel_offset_for_identity
from mien.packs.resolve import pack_for

if TYPE_CHECKING:
    from mien.packs.pack import Pack

MOST = 1000.0  # no number of an edited stream may be larger: degrees, or units of a channel


@dataclass(frozen=True)
class Operation:
    """Base of all operations. Times are seconds of the stream as the operation finds it."""


@dataclass(frozen=True)
class Scale(Operation):
    """Strengthen or weaken: values move away from `about` by `factor` (0 freezes, 1 changes nothing, -1 mirrors).

    `about`: "mean", the curve's own mean over the clip, or "zero": facing the camera, and the identity's own face.
    """

    what: Selection
    factor: float
    about: str = "mean"
    start: float = 0.0
    end: float | None = None
    ease: float = 0.1


@dataclass(frozen=True)
class Offset(Operation):
    """Shift: `amount` is in degrees for roll, yaw and pitch, and for one channel in its unit, which is the pack's
    (`mien.nets.stylespace.Channel.scale`): without the pack no channel can be shifted.

    A whole attribute moves along its own principal motion in this clip, in that motion's standard deviations: positive
    is the rarer side, as an open mouth in a clip where it is mostly closed (`principal_motion`).
    """

    what: Selection
    amount: float
    start: float = 0.0
    end: float | None = None
    ease: float = 0.1


@dataclass(frozen=True)
class Smooth(Operation):
    """Smooth over time with a Gaussian whose full width at half maximum is `seconds`."""

    what: Selection
    seconds: float
    start: float = 0.0
    end: float | None = None
    ease: float = 0.1


@dataclass(frozen=True)
class Copy(Operation):
    """Write the curves' stretch from `start` to `end` over those at `to`."""

    what: Selection
    start: float
    end: float
    to: float
    ease: float = 0.1


@dataclass(frozen=True)
class Mix(Operation):
    """Mix with another stream: `weight` 0 leaves the curves, 1 takes the other's.

    The other stream's second `at` meets `start`; it is brought to this stream's frame rate. Where the other ends before
    `end`, so does the mix. Of another person the channels' values are taken, as puppeteering does; where the pack's
    channels are not absolute, their offsets from that person's own face.
    """

    what: Selection
    other: Stream
    weight: float = 0.5
    at: float = 0.0
    start: float = 0.0
    end: float | None = None
    ease: float = 0.1


@dataclass(frozen=True)
class Cut(Operation):
    """Take the stretch from `start` to `end` out, with its sound. Over `ease` seconds on either side of the seam the
    curves lean towards each other, so that the face does not jump."""

    start: float
    end: float
    ease: float = 0.1


@dataclass(frozen=True)
class Keep(Operation):
    """Keep only the stretch from `start` to `end`, with its sound."""

    start: float
    end: float


OPERATIONS: dict[str, type[Operation]] = {
    "scale": Scale, "offset": Offset, "smooth": Smooth, "copy": Copy, "mix": Mix, "cut": Cut, "keep": Keep,
}  # fmt: skip


def edit(stream: Stream, operations: Iterable[Operation], *, pack: str | Pack | None = None) -> Stream:
    """Apply operations to a stream, in order. `pack` as in `curves_of`.

    What is not edited stays: identity, tuning, placement, and the sound but for what is cut out. Coded frames become
    plain ones.

    Raises InputError for a name, a time or an amount that does not fit the stream; PackError, StreamError.
    """
    curves = curves_of(stream, pack)
    for number, operation in enumerate(operations, 1):
        try:
            stream = _apply(stream, operation, curves, pack)
        except PackError:
            raise
        except InputError as error:
            raise InputError(f"edit {number} ({type(operation).__name__.lower()}): {error}") from error
    return stream


def _apply(stream: Stream, operation: Operation, curves: MotionCurves, pack: str | Pack | None) -> Stream:
    if isinstance(operation, Cut | Keep):
        return _cut(stream, operation)
    numbers = np.asarray(stream.frames, np.float32).copy()
    fps = stream.fps
    match operation:
        case Scale(what, factor, about, start, end, ease):
            ids = curves.select(what)
            centres = {"mean": numbers[:, ids].mean(0), "zero": np.zeros(len(ids), np.float32)}
            if about not in centres:
                raise InputError(f"a curve is scaled about 'mean' or 'zero', not {about!r}.")
            centre = centres[about]
            new = centre + _number(factor, "factor") * (numbers[:, ids] - centre)
            weight = _window(stream, start, end, ease)
        case Offset(what, amount, start, end, ease):
            ids = curves.select(what)
            new = numbers[:, ids] + _number(amount, "amount") * _shift(numbers, ids, what, curves)
            weight = _window(stream, start, end, ease)
        case Smooth(what, seconds, start, end, ease):
            ids = curves.select(what)
            if _number(seconds, "seconds") < 0:
                raise InputError("a curve is smoothed over 0 seconds or more.")
            new = smoothed(numbers[:, ids], seconds, fps)
            weight = _window(stream, start, end, ease)
        case Copy(what, start, end, to, ease):
            ids = curves.select(what)
            first, last = _span(stream, start, end)
            place = _frame(stream, to, "the place to copy to")
            count = min(last - first, len(numbers) - place)
            if count < 1:
                raise InputError(f"nothing can be copied to {to:g} s: the stream ends there.")
            new = numbers[:, ids].copy()
            new[place : place + count] = numbers[first : first + count, ids]
            weight = _ramps(len(numbers), place, place + count, ease, fps)
        case Mix(what, other, share, at, start, end, ease):
            ids = curves.select(what)
            taken = _brought(stream, other, _number(at, "at"), pack)
            first, last = _span(stream, start, end)
            last = min(last, first + len(taken))
            new = numbers[:, ids].copy()
            new[first:last] += _number(share, "weight") * (taken[: last - first, ids] - new[first:last])
            weight = _ramps(len(numbers), first, last, ease, fps)
        case _:
            raise InputError(f"{type(operation).__name__} is not an operation.")
    numbers[:, ids] += weight[:, None] * (new - numbers[:, ids])
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > max(MOST, float(np.abs(stream.frames).max())):
        raise InputError(f"the edit makes numbers that are too large (over {MOST:g}).")
    return replace(stream, frames=numbers.astype(np.float16), coded=b"")


def _shift(numbers: Array, ids: list[int], what: Selection, curves: MotionCurves) -> Array:
    """Return one unit of `Offset` for each of the curves `ids`, `[len(ids)]`.

    Raises InputError for channels whose unit is not known, and for an attribute of `what` that does not move.
    """
    names = (what,) if isinstance(what, str) else what
    step = np.zeros(PARAMETERS, np.float32)
    step[:3] = 1.0
    for attribute, members in curves.groups.items():
        wanted = [i for i in members if i in ids]
        if attribute in POSE or not wanted:
            continue
        if attribute == NO_ATTRIBUTE:
            raise InputError(
                "the unit of a channel is its pack's: without the pack only roll, yaw and pitch are shifted."
            )
        if all(curves.names[i] in names for i in wanted):  # curves named one by one
            step[wanted] = curves.scales[wanted]
            continue
        motion = principal_motion(numbers[:, members], curves.scales[members])
        if not motion.any():
            if attribute in names:
                single = curves.names[members[0]]
                raise InputError(
                    f"{attribute} does not move in this stream, so it cannot be shifted along its motion; "
                    f"shift single curves, as {single}."
                )
            continue
        step[members] = motion
    return step[ids]


def _brought(stream: Stream, other: Stream, at: float, pack: str | Pack | None) -> Array:
    """Return the other stream's numbers `[T, 35]` from second `at`, at this one's rate, its channels as offsets of this
    identity. Raises InputError where it is of another pack or has no such second."""
    if other.pack != stream.pack or not np.array_equal(other.channels, stream.channels):
        raise InputError("two streams can be mixed only when the same pack made both.")
    numbers = np.asarray(other.frames, np.float32).copy()
    if not np.array_equal(stream.identity, other.identity):
        found = pack_for(stream, pack)
        if found.channels_absolute:  # as in `mien.reenact.retarget`: other values mean nothing on another face
            numbers[:, 3:] += channel_offset_for_identity(found, other, stream.identity)
    if not 0 <= at < other.seconds:
        raise InputError(f"the other stream has no second {at:g}; it is {other.seconds:.2f} s long.")
    if other.fps == stream.fps:
        return numbers[round(at * float(other.fps)) :]
    times = at + np.arange(math.floor((other.seconds - at) * float(stream.fps) + 1e-6)) / float(stream.fps)
    places = np.clip(times * float(other.fps), 0, len(numbers) - 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, len(numbers) - 1)
    share = (places - low)[:, None].astype(np.float32)
    return (1 - share) * numbers[low] + share * numbers[high]


def _cut(stream: Stream, operation: Cut | Keep) -> Stream:
    """Take a stretch out of frames, placement and sound, or keep it alone."""
    count, fps = len(stream), float(stream.fps)
    first, last = _span(stream, operation.start, operation.end)
    kept = np.ones(count, bool)
    kept[first:last] = False
    spans = [(0.0, first / fps), (last / fps, count / fps)]
    if isinstance(operation, Keep):
        kept, spans = ~kept, [(first / fps, last / fps)]
    if not kept.any():
        raise InputError("the cut leaves no frame.")
    numbers = np.asarray(stream.frames, np.float32)[kept]
    if isinstance(operation, Cut) and 0 < first < last < count:
        reach = min(round(_number(operation.ease, "ease") * fps), first, count - last)
        jump = numbers[first] - numbers[first - 1]
        for i in range(reach):
            lean = 0.5 * (1 - i / reach) * jump
            numbers[first - 1 - i] += lean
            numbers[first + i] -= lean
    return replace(
        stream,
        frames=numbers.astype(np.float16),
        placement=None if stream.placement is None else np.asarray(stream.placement)[kept],
        audio=keep_spans(stream.audio, [span for span in spans if span[1] > span[0]]) if stream.audio else b"",
        coded=b"",
    )


def _number(value: float, name: str) -> float:
    if not math.isfinite(value) or abs(value) > 1e6:
        raise InputError(f"{name} must be an ordinary number, not {value}.")
    return value


def _frame(stream: Stream, second: float, name: str) -> int:
    if not 0 <= _number(second, name) <= stream.seconds + 1e-6:
        raise InputError(f"{name}, {second:g} s, is outside the stream, which is {stream.seconds:.2f} s long.")
    return min(round(second * float(stream.fps)), len(stream))


def _span(stream: Stream, start: float, end: float | None) -> tuple[int, int]:
    first = _frame(stream, start, "the start")
    last = len(stream) if end is None else _frame(stream, end, "the end")
    if last <= first:
        raise InputError(f"the stretch from {start:g} s to {stream.seconds if end is None else end:g} s has no frame.")
    return first, last


def _window(stream: Stream, start: float, end: float | None, ease: float) -> Array:
    return _ramps(len(stream), *_span(stream, start, end), ease, stream.fps)


def _ramps(count: int, first: int, last: int, ease: float, fps: Fraction) -> Array:
    """Return how strongly an edit acts on each frame `[T]`.

    1 inside, eased in and out over `ease` seconds within the stretch; not at the clip's own ends, where there is
    nothing to ease to.
    """
    if _number(ease, "ease") < 0:
        raise InputError("an edit is eased over 0 seconds or more.")
    frames = np.arange(count, dtype=np.float64)
    steps = min(ease * float(fps), (last - first) / 2)
    weight = np.where((frames >= first) & (frames < last), 1.0, 0.0)
    if steps > 0:
        up = np.ones(count) if first == 0 else np.clip((frames - first + 1) / (steps + 1), 0, 1)
        down = np.ones(count) if last == count else np.clip((last - frames) / (steps + 1), 0, 1)
        ramp = np.minimum(up, down)
        weight *= ramp * ramp * (3 - 2 * ramp)
    return weight.astype(np.float32)
