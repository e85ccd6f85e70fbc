"""What a live run did: rates, delays by stage, frames dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Shown:
    """A frame that was shown: its number in the source, when it was captured and when it was out, in seconds of the
    clock; seconds of `track` and `draw`; whether the face was seen; bytes that its numbers take as a live packet."""

    index: int
    captured: float
    out: float
    track: float
    draw: float
    seen: bool
    size: int = 0

    @property
    def delay(self) -> float:
        """Seconds from the source's frame to the frame out."""
        return self.out - self.captured


@dataclass
class LiveStatistics:
    """Counts of a run; `fps` of the source, 0 until it is known. `cpu`: seconds of all threads while it ran."""

    fps: float = 0.0
    shown: list[Shown] = field(default_factory=list)
    source_frames: int = 0
    cpu: float = 0.0
    kbit_s: float = 0.0

    @property
    def rate(self) -> float:
        """Frames shown a second, from the first to the last."""
        if len(self.shown) < 2:
            return 0.0
        return (len(self.shown) - 1) / max(self.shown[-1].out - self.shown[0].out, 1e-6)

    def as_json(self) -> dict[str, object]:
        """`fps`, `delay_ms`, `kbit_s`, `dropped` and what they are made of. What a source does not give of the rate that it
        says counts as dropped too."""
        delays = np.array([1000 * s.delay for s in self.shown] or [0.0])
        percentile = lambda values, p: round(float(np.percentile(values, p)), 1)
        stages = {name: [1000 * getattr(s, name) for s in self.shown] or [0.0] for name in ("track", "draw")}
        return {
            "fps": round(self.rate, 2),
            "delay_ms": {"p50": percentile(delays, 50), "p95": percentile(delays, 95)},
            "kbit_s": round(self.kbit_s, 3),
            "dropped": self.source_frames - len(self.shown),
            "frames": self.source_frames,
            "source_fps": round(self.fps, 3),
            "without_face": sum(not s.seen for s in self.shown),
            "stage_ms": {name: {"p50": percentile(v, 50), "p95": percentile(v, 95)} for name, v in stages.items()},
            "cpu_ms_per_frame": round(1000 * self.cpu / max(len(self.shown), 1), 1),
        }

    def line(self, seconds: float = 1.0) -> str:
        """Say in one line how the last `seconds` went."""
        last = recent(self.shown, seconds)
        if not last:
            return "no frames yet"
        mean = lambda name: 1000 * float(np.mean([getattr(s, name) for s in last]))
        dropped = last[-1].index - last[0].index + 1 - len(last)
        waited = mean("delay") - mean("track") - mean("draw")
        lost = "" if last[-1].seen else ", no face in sight"
        return (
            f"{len(last) / seconds:.1f} frames/s, delay {mean('delay'):.0f} ms (track {mean('track'):.0f}, "
            f"draw {mean('draw'):.0f}, wait {waited:.0f}), {8 * sum(s.size for s in last) / seconds / 1000:.1f} kbit/s, "
            f"{dropped} dropped{lost}"
        )


FASTER, SLOWER = 0.85, 1.08  # of the stride: smaller changes are left alone


def recent(shown: Sequence[Shown], seconds: float) -> list[Shown]:
    """Those that were out within the last `seconds` before the last one."""
    found: list[Shown] = []
    for item in reversed(shown):
        if item.out < shown[-1].out - seconds:
            break
        found.append(item)
    return found[::-1]


class RateLimiter:
    """Which frames of the source to take, where the machine is too slow for all: one in `stride`, not a whole number.

    `interval`: seconds from one frame of the source to the next. The slowest stage of the last seconds decides; it
    takes a clear change, so that the rate does not go to and fro.
    """

    def __init__(self, interval: float, every: float = 2.0) -> None:
        self.stride = 1.0
        self._interval, self._every, self._next_check, self._next_index = interval, every, -np.inf, 0.0

    def takes(self, index: int) -> bool:
        """Whether frame `index` of the source is to be worked on."""
        if index + 1e-6 < self._next_index:
            return False
        self._next_index = max(self._next_index, index - 1.0) + self.stride
        return True

    def update(self, shown: Sequence[Shown]) -> bool:
        """Look at what was shown; whether `stride` changed."""
        if not shown or shown[-1].out < self._next_check:
            return False
        first, self._next_check = self._next_check == -np.inf, shown[-1].out + self._every
        if first:  # the first frames are slower than all others
            return False
        last = recent(shown, self._every)
        busy = max(float(np.median([getattr(s, name) for s in last])) for name in ("track", "draw"))
        wanted = max(busy / self._interval, 1.0)
        changed = not FASTER * self.stride <= wanted <= SLOWER * self.stride or (wanted == 1.0 != self.stride)
        if changed:
            self.stride = wanted
        return changed
