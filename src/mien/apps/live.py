"""Playback in real time: a thread renders ahead, a bounded queue holds what is ready.

Where a machine renders too slowly, it says so, and either leaves frames out, so that time stays right, or shows them
all and takes longer.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError

if TYPE_CHECKING:
    from mien.format.stream import Stream
    from mien.packs.pack import Pack

T = TypeVar("T")
DELAY = 0.2  # seconds of frames that are held ready
FRAMES_AHEAD = 8  # where frames are rendered while others are coded
LATE = ("drop", "slow")


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> float:
        """Seconds, from any origin."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class RealClock:
    """The clock of the machine."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Report:
    """How a playback went. `shown` and `dropped` frames; `latest`: seconds by which the latest frame was behind its
    time; `slowed`: seconds that the whole took longer; `render_rate`: frames a second of the rendering alone."""

    fps: float
    shown: int
    dropped: int
    latest: float
    slowed: float
    render_rate: float

    @property
    def kept_up(self) -> bool:
        """Whether every frame was shown, none later than by its own length."""
        return self.dropped == 0 and self.slowed < 1 / self.fps and self.latest <= 1 / self.fps

    def sentence(self) -> str:
        """Say in one sentence how it went."""
        if self.kept_up:
            return (
                f"{self.shown} frames shown at {self.fps:g} a second, none more than {1000 * self.latest:.0f} ms late."
            )
        lost = f"{self.dropped} of {self.shown + self.dropped} frames were left out" if self.dropped else ""
        longer = f"it took {self.slowed:.1f} s longer" if self.slowed >= 1 / self.fps else ""
        what = " and ".join(part for part in (lost, longer) if part) or f"frames were {self.latest:.2f} s late"
        return f"this machine renders {self.render_rate:.1f} frames a second here, not {self.fps:g}: {what}."


class FramePacer:
    """Decides which frame to render next and when to show it. Frame i is due i / fps seconds after the first was shown.

    `late`: "drop" leaves out frames that cannot be ready in time, "slow" moves all that follow.
    """

    def __init__(self, fps: Fraction | float, count: int, late: str = "drop", clock: Clock | None = None) -> None:
        if late not in LATE:
            raise InputError(f"frames that are late can be {' or '.join(LATE)}, not {late!r}.")
        self._fps, self._count, self._late, self._clock = float(fps), count, late, clock or RealClock()
        self._origin: float | None = None
        self._render_time = 0.0  # a running mean, seconds a frame
        self._rendered, self._spent = 0, 0.0
        self._shown, self._next, self._dropped, self._latest, self._slowed = 0, 0, 0, 0.0, 0.0

    def next_to_render(self, after: int) -> int:
        """Return the frame to render after frame `after` (-1 at the start); the number of frames where none is left."""
        following = after + 1
        if self._origin is None or self._late == "slow":
            return min(following, self._count)
        ready = self._clock.now() + self._render_time - self._origin
        # Late by less than its own length is not too late.
        return min(max(following, int(np.ceil(ready * self._fps - 1))), self._count)

    def rendered(self, seconds: float, frames: int = 1) -> None:
        """Account for the time that rendering took."""
        self._rendered, self._spent = self._rendered + frames, self._spent + seconds
        self._render_time += (seconds / frames - self._render_time) * (0.2 if self._rendered > frames else 1.0)

    def show(self, index: int) -> None:
        """Wait until frame `index` is due, and count it as shown."""
        now = self._clock.now()
        if self._origin is None:
            self._origin = now - index / self._fps
        due = self._origin + index / self._fps
        if now < due:
            self._clock.sleep(due - now)
        elif self._late == "slow" and now - due > 0:
            self._origin += now - due
            self._slowed += now - due
        else:
            self._latest = max(self._latest, now - due)
        self._dropped += index - self._next
        self._next = index + 1
        self._shown += 1

    def report(self) -> Report:
        """Report how it went so far."""
        rate = self._rendered / self._spent if self._spent > 0 else float("inf")
        return Report(self._fps, self._shown, self._dropped, self._latest, self._slowed, rate)

    def ended(self) -> None:
        """All frames are over: those after the last one that was shown were left out."""
        self._dropped += self._count - self._next
        self._next = self._count


class Live:
    """Iterator over (index, frame), each yielded when it is due; `report()` says how it goes.

    `render(index)` gives a frame and runs in a thread of its own, at most `delay` seconds of frames ahead.
    """

    def __init__(
        self, render: Callable[[int], NDArray[np.uint8]], count: int, fps: Fraction | float, *, delay: float = DELAY,
        late: str = "drop", clock: Clock | None = None,
    ) -> None:  # fmt: skip
        if not 0 <= delay <= 60:
            raise InputError(f"the delay is 0 to 60 seconds, not {delay}.")
        self._render, self._count = render, count
        self._clock = clock or RealClock()
        self._pacer = FramePacer(fps, count, late, self._clock)
        self._depth = max(1, round(delay * float(fps)))

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for index, frame in prefetch(self._rendered(), self._depth):
            self._pacer.show(index)
            yield index, frame
        self._pacer.ended()

    def report(self) -> Report:
        """Report how it went so far."""
        return self._pacer.report()

    def _rendered(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        index = self._pacer.next_to_render(-1)
        while index < self._count:
            begin = self._clock.now()
            frame = self._render(index)
            self._pacer.rendered(self._clock.now() - begin)
            yield index, frame
            index = self._pacer.next_to_render(index)


def live(
    stream: Stream,
    *,
    pack: str | Pack | None = None,
    person: Any = None,
    device: str = "auto",
    delay: float = DELAY,
    late: str = "drop",
) -> Live:
    """Render a stream in real time: iterate over (index, uint8 RGB `[H, W, 3]`); `report()` then says how it went.

    `delay`: seconds of frames held ready, which is the lag behind a sender; `late`: "drop" frames that are late or
    "slow" down. `pack`, `person`, `device` as `mien.render`. Raises InputError, PackError, StreamError.
    """
    from mien.method.stage6_render.render import FrameRenderer

    renderer = FrameRenderer.of(stream, pack=pack, person=person, device=device, int16=True)
    return Live(lambda i: renderer(i, i + 1)[0], len(stream), stream.fps, delay=delay, late=late)


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yield `items` as a thread of their own produces them, at most `depth` ahead; what that raises is raised here.

    Where the caller stops early, the thread stops after the item that it is at.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def hand_over(kind: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not hand_over("item", item):
                    return
            hand_over("end", None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised at the caller's
            hand_over("error", error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join()
