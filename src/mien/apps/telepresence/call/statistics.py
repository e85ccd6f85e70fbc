"""What a call did: frames that came, freezes, rates of face and sound."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Drawn:
    """A frame of the other end: its number, when its datagram came and when its picture was out, seconds of the clock;
    seconds of `draw`."""

    number: int
    came: float
    out: float
    draw: float


@dataclass
class RoundTrips:
    """Seconds from sending a frame to its acknowledgement: `sent` notes the one, `back` the other."""

    seconds: float = 0.0
    _sent: OrderedDict[int, float] = field(default_factory=OrderedDict)

    def sent(self, number: int) -> None:
        """Frame `number` is sent now."""
        self._sent[number] = time.monotonic()
        while len(self._sent) > 128:
            self._sent.popitem(last=False)

    def back(self, number: int | None) -> None:
        """Frame `number` was acknowledged; None: no frame that is known."""
        if number is not None and number in self._sent:
            measured = time.monotonic() - self._sent[number]
            self.seconds = measured if self.seconds == 0 else 0.875 * self.seconds + 0.125 * measured


@dataclass
class CallStatistics:
    """Counts of a call. Bytes of face and sound are payload; those of the line have what encryption adds.

    `frames`: that the other end had; `read`: datagrams of frames that could be used; `refused`: that were none;
    `not_sent`: own frames that the line did not take in time; `sound_seconds`: of sound that came; `gap`: the longest
    time, seconds, from one frame that could be used to the next: the line's part of the longest freeze.
    """

    drawn: list[Drawn] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)
    end: float = 0.0
    frames: int = 0
    read: int = 0
    refused: int = 0
    sent: int = 0
    not_sent: int = 0
    face_bytes: list[int] = field(default_factory=lambda: [0, 0])  # sent, received
    sound_bytes: int = 0
    sound_seconds: float = 0.0
    line_bytes: tuple[int, int] = (0, 0)
    trips: RoundTrips = field(default_factory=RoundTrips)
    gap: float = 0.0
    lately: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=300))  # time and bytes of datagrams

    @property
    def seconds(self) -> float:
        """Seconds since both ends were ready."""
        return max((self.end or time.monotonic()) - self.begin, 1e-3)

    @property
    def freeze(self) -> float:
        """The longest time, seconds, for which one picture stood."""
        outs = [d.out for d in self.drawn]
        return float(np.diff(outs).max()) if len(outs) > 1 else 0.0

    def as_json(self) -> dict[str, object]:
        """The counts as rates: kbit/s over the whole call."""
        delivered = self.drawn[-1].out - self.drawn[0].out if len(self.drawn) > 1 else 0.0
        rate = lambda count: round(8 * count / self.seconds / 1000, 3)
        waits = np.array([1000 * (d.out - d.came) for d in self.drawn] or [0.0])
        return {
            "seconds": round(self.seconds, 2),
            "video_seconds": round(delivered, 2),
            "fps": round((len(self.drawn) - 1) / delivered, 2) if delivered else 0.0,
            "longest_freeze_s": round(self.freeze, 3),
            "longest_gap_s": round(self.gap, 3),
            "frames": self.frames,
            "received": self.read,
            "shown": len(self.drawn),
            "refused": self.refused,
            "round_trip_ms": round(1000 * self.trips.seconds, 1),
            "shown_after_ms": {"p50": round(float(np.percentile(waits, 50)), 1), "p95": round(float(np.percentile(waits, 95)), 1)},
            "sent": {"frames": self.sent, "not_sent": self.not_sent, "face_kbit_s": rate(self.face_bytes[0]),
                     "sound_kbit_s": rate(self.sound_bytes), "line_kbit_s": rate(self.line_bytes[0])},
            "came": {"face_kbit_s": rate(self.face_bytes[1]), "line_kbit_s": rate(self.line_bytes[1]),
                     "sound_seconds": round(self.sound_seconds, 2)},
        }  # fmt: skip

    def line(self) -> str:
        """Say in one line how the last second went."""
        now = time.monotonic()
        drawn = [d for d in self.drawn[-120:] if d.out > now - 1]
        face = sum(size for at, size in self.lately if at > now - 1)
        if not drawn:
            return f"nothing came for {now - (self.drawn[-1].out if self.drawn else self.begin):.0f} s"
        wait = 1000 * float(np.mean([d.out - d.came for d in drawn]))
        return (
            f"{len(drawn)} frames/s, delay {1000 * self.trips.seconds / 2 + wait:.0f} ms (line "
            f"{1000 * self.trips.seconds / 2:.0f}, draw {wait:.0f}), face {8 * face / 1000:.1f} kbit/s"
        )
