"""The times of a video's frames, on one clock that neither starts again nor jumps.

Files that were joined start their clock anew, and a recorder that was interrupted leaves a hole of hours. The stretches in
between are *parts*: each follows on the one before it, the picture and the sound alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

LONGEST_STILL = 10.0  # seconds between two frames that are one picture held; what is longer is a hole in the clock
BACKWARD = 0.1  # seconds that a clock goes back where it starts again
SLACK = 0.25  # seconds by which sound may begin before a part's picture, or end after it

STANDARD_RATES = [Fraction(n) for n in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)]
STANDARD_RATES += [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)]


@dataclass(frozen=True)
class Stamp:
    """A packet's times in seconds: when it is `shown`, for how long (0: unknown); and whether it begins anew (`key`)."""

    shown: float
    length: float
    key: bool


@dataclass(frozen=True)
class Part:
    """A stretch of a file's clock, from `start` to `end` in its own seconds; `shift` is added to them."""

    start: float
    end: float
    shift: float


@dataclass(frozen=True)
class Timeline:
    """`times` of all frames in seconds, in order, on the clock that goes through; `end` of the last one; the `parts`."""

    times: tuple[float, ...]
    end: float
    parts: tuple[Part, ...]

    @staticmethod
    def of(stamps: Sequence[Stamp]) -> Timeline:
        """From the packets of a stream in the file's order, at least one."""
        stretches = _stretches(stamps)
        steps = np.diff(np.sort([s.shown for s in stamps]))
        usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.04
        parts: list[Part] = []
        times: list[float] = []
        for stretch in stretches:
            shown = sorted(s.shown for s in stretch)
            last = max(stretch, key=lambda s: s.shown)
            length = last.length if 0 < last.length < LONGEST_STILL else usual if len(stretches) > 1 else 0.0
            begin = parts[-1].end + parts[-1].shift if parts else shown[0]
            parts.append(Part(shown[0], shown[-1] + length, begin - shown[0]))
            times += [t + parts[-1].shift for t in shown]
        return Timeline(tuple(times), parts[-1].end + parts[-1].shift, tuple(parts))

    def breaks(self) -> list[str]:
        """Sentences that say where the file's clock starts again or jumps."""
        said = []
        for before, after in zip(self.parts, self.parts[1:], strict=False):
            at = after.start + after.shift - self.parts[0].start
            gap = after.start - before.end
            what = "starts again" if gap < 0 else f"jumps by {gap:,.1f} s"
            said.append(f"the clock {what} after {at:.2f} s: the parts are joined there without a gap")
        return said


def _stretches(stamps: Sequence[Stamp]) -> list[list[Stamp]]:
    """Runs without a restart or a hole, each in the order of presentation."""
    runs = [[stamps[0]]]
    latest = stamps[0].shown
    for stamp in stamps[1:]:
        # Nothing that is stored before a key frame is shown after it, unless the clock began anew.
        if stamp.key and stamp.shown < latest - BACKWARD:
            runs.append([])
            latest = stamp.shown
        runs[-1].append(stamp)
        latest = max(latest, stamp.shown)
    stretches = []
    for run in runs:
        ordered = sorted(run, key=lambda s: s.shown)
        stretches.append(ordered[:1])
        for before, stamp in pairwise(ordered):
            if stamp.shown - before.shown > LONGEST_STILL:
                stretches.append([])
            stretches[-1].append(stamp)
    return stretches


def read_timeline(container: Any, stream: Any) -> tuple[Timeline | None, float]:
    """The times of all frames of a video stream (None: it has none); and when the last stream ends, by the file's own clock."""
    stamps: list[Stamp | None] = []
    others = [0.0]
    unit = float(stream.time_base)
    for packet in container.demux():
        if packet.size == 0 or packet.is_discard:
            continue
        shown = packet.pts if packet.pts is not None else packet.dts
        if packet.stream_index != stream.index:
            others.append(0.0 if shown is None else float((shown + (packet.duration or 0)) * packet.time_base))
        elif shown is None:
            stamps.append(None)
        else:
            stamps.append(Stamp(shown * unit, (packet.duration or 0) * unit, packet.is_keyframe))
    if not stamps:
        return None, 0.0
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) < len(stamps):  # a raw stream without a clock
        step = 1 / float(stream.guessed_rate or stream.average_rate or 25)
        known = [Stamp(i * step, step, False) for i in range(len(stamps))]
    timeline = Timeline.of(known)
    return timeline, max(timeline.end, *others)


class Clock:
    """`clock(time)`: a stream's own time, times given in the order of decoding, on the clock that goes through.

    None for what lies in a hole between two parts, as sound may that went on while the picture did not.
    """

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts, self._at = parts, 0
        self._last: float | None = None

    def __call__(self, time: float) -> float | None:
        if len(self._parts) > 1:
            back = self._last is not None and time < self._last - BACKWARD
            if self._at + 1 < len(self._parts) and (back or self._later(time)):
                self._at += 1
            self._last = time
            part = self._parts[self._at]
            before_hole = self._at + 1 < len(self._parts) and time > part.end + SLACK
            if before_hole or (self._at > 0 and time < part.start - SLACK):
                return None
        return time + (self._parts[self._at].shift if self._parts else 0.0)

    def _later(self, time: float) -> bool:
        """Is the time that of the next part, whose clock is ahead of this one's?"""
        now, following = self._parts[self._at], self._parts[self._at + 1]
        return following.start > now.end and time >= following.start - SLACK


def slot(time: float, origin: float, fps: Fraction) -> int:
    """Number of the frame of the constant-rate grid that a presentation time is nearest to."""
    return int(np.floor((time - origin) * float(fps) + 0.5))


def frame_rate(times: Sequence[float], stated: tuple[Fraction | None, ...]) -> tuple[Fraction, bool]:
    """Frames a second, and whether every frame has its own place on that grid (a constant rate)."""
    if len(times) == 1:
        rate = next((r for r in stated if r and 1 <= r <= 240), Fraction(25))
        return _snap(rate), True
    offsets = np.array(times) - times[0]
    steps = np.diff(offsets)
    median = Fraction(1 / max(float(np.median(steps)), 1e-3)).limit_denominator(1001)
    mean = Fraction((len(times) - 1) / max(float(offsets[-1]), 1e-3)).limit_denominator(1001)
    for rate in [r for s in (*stated, mean, median) if s for r in (_snap(Fraction(s)), Fraction(s))]:
        if np.abs(offsets * float(rate) - np.arange(len(times))).max() < 0.5:
            return rate.limit_denominator(100_000), True
    # Variable: the rate of most frames if there is one (some were dropped), else the mean.
    usual = np.abs(steps - np.median(steps)) < 0.3 * np.median(steps)
    nominal = median if usual.mean() > 0.6 else mean
    return _snap(min(nominal, Fraction(120)), 0.02), False


def _snap(rate: Fraction, tolerance: float = 0.0004) -> Fraction:
    nearest = min(STANDARD_RATES, key=lambda r: abs(r - rate))
    return nearest if abs(nearest - rate) <= tolerance * rate else rate
