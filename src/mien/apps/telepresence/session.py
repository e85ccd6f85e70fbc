"""The loop of a live run: newest frame -> mesh -> 35 numbers -> picture -> outputs, each stage in its own thread.

Between the threads lies one item at most (`Newest`): a frame that is not taken before the next one comes is dropped, so
that the delay cannot grow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mien.apps.telepresence.face import LiveFace
from mien.apps.telepresence.marks import Marker, Marks
from mien.apps.telepresence.newest import Newest
from mien.apps.telepresence.outputs import Output
from mien.apps.telepresence.packet_sizes import PacketSizes
from mien.apps.telepresence.same_person import PersonCheck
from mien.apps.telepresence.sources import Captured, Source, feed
from mien.apps.telepresence.statistics import LiveStatistics, RateLimiter, Shown
from mien.method.live_motion import LossEasing, OneEuroFilter, RestShape
from mien.method.stage1_align.tracking import FaceTracker

Array = NDArray[np.float64]
CALIBRATION_S = 3.0  # of a driver who is not the person shown


@dataclass(frozen=True)
class LiveOptions:
    """`calibrate`: seconds at the start in which the driver's face at rest is learned; 0: the driver is the person
    shown, whose face at rest is known; None: as the first frame looks (`PersonCheck`), 0 or three. `marks`: what
    every picture bears."""

    calibrate: float | None = None
    marks: Marks = field(default_factory=Marks)


@dataclass(frozen=True)
class Tracked:
    """What a frame shows, `row [35]`, and how long it took, seconds."""

    captured: Captured
    row: Array
    seen: bool
    seconds: float


class MotionTracker:
    """`tracker(captured)` gives a frame's 35 numbers, from it and the frames before it. Used by one thread."""

    def __init__(self, face: LiveFace, options: LiveOptions) -> None:
        self._face, self._calibrate = face, options.calibrate
        self._check = PersonCheck(face.paint(face.neutral)) if options.calibrate is None else None
        self._rest = RestShape(CALIBRATION_S if options.calibrate is None else options.calibrate)
        self._filter, self._easing = OneEuroFilter(face.unit), LossEasing(face.neutral)
        self._tracker = FaceTracker()
        self._tracker(np.zeros((256, 256, 3), np.uint8))  # the first call sets the networks up
        self._tracker.forget()

    def __call__(self, captured: Captured) -> Tracked:
        begin = time.monotonic()
        mesh, read = self._tracker(captured.frame), None
        if mesh is not None:
            if self._calibrate is None and self._check is not None:
                self._calibrate = 0.0 if self._check(captured.frame, mesh) else CALIBRATION_S
            if self._calibrate:
                self._rest.add(mesh, captured.time)
            rest = self._face.reader.rest if self._rest.shape is None else self._rest.shape
            read = self._filter(self._face.reader(mesh, rest), captured.time)
        else:
            self._filter.reset()
        row = self._easing(read, captured.time)
        return Tracked(captured, row, mesh is not None, time.monotonic() - begin)

    def close(self) -> None:
        """Release the networks of the mesh."""
        self._tracker.close()


class LiveSession:
    """A run: `run()` until the source ends or `stop()`.

    `tick` is called once a second with the statistics so far, `notify` with a sentence when something changes.
    """

    def __init__(
        self, source: Source, face: LiveFace, outputs: Sequence[Output], options: LiveOptions,
        tick: Callable[[LiveStatistics], None], notify: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._source, self._face, self._outputs, self._options = source, face, outputs, options
        self._tick, self._notify = tick, notify
        self._frames: Newest[Captured] = Newest()
        self._rows: Newest[Tracked] = Newest()
        self._stop = threading.Event()
        self._last_index = -1
        self._limiter = RateLimiter(1 / float(source.fps))
        self.statistics = LiveStatistics(float(source.fps))

    def stop(self) -> None:
        """End the run after the frame at hand."""
        self._stop.set()

    def run(self) -> LiveStatistics:
        """Run; returns what it did. Raises what the source, the tracker or an output raises."""
        paint, mark = self._face.paint, Marker(self._face.still, self._options.marks)
        for _ in range(2):  # the first picture sets the decoder's buffers up
            paint(self._face.neutral)
        tracker = MotionTracker(self._face, self._options)
        begin = time.process_time()
        threads = [threading.Thread(target=self._track, args=(tracker,), daemon=True, name="mien-track"),
                   feed(self._source, self._frames, self._stop)]  # fmt: skip
        threads[0].start()
        shown_at, statistics = time.monotonic(), self.statistics
        last, packets, ended = -1, PacketSizes(self._face.unit), False
        try:
            while not self._stop.is_set():
                tracked = self._rows.take()
                if tracked is None:
                    ended = True
                    break
                start = time.monotonic()
                picture = mark(paint(tracked.row))
                end, index = time.monotonic(), tracked.captured.index
                for output in self._outputs:
                    output.show(picture, tracked.row, index - last - 1)
                out, last = time.monotonic(), index
                packet_size = packets(index, tracked.row)
                statistics.shown.append(
                    Shown(index, tracked.captured.time, out, tracked.seconds, end - start, tracked.seen, packet_size)
                )
                if self._limiter.update(statistics.shown):
                    self._say_rate()
                if out - shown_at >= 1:
                    shown_at = out
                    self._tick(statistics)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
            tracker.close()
            statistics.cpu = time.process_time() - begin
            count = self._source.count if ended else None  # of a run that was stopped, what came until then
            statistics.source_frames = count if count is not None else max(self._last_index, last) + 1
            for output in self._outputs:
                output.close(max(statistics.source_frames - last - 1, 0) if last >= 0 else 0)
        return statistics

    def _track(self, tracker: MotionTracker) -> None:
        try:
            while not self._stop.is_set() and (captured := self._frames.take()) is not None:
                self._last_index = captured.index
                if self._limiter.takes(captured.index):
                    self._rows.put(tracker(captured))
            self._rows.close()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised in `run`
            self._rows.close(error)

    def _say_rate(self) -> None:
        fps, stride = float(self._source.fps), self._limiter.stride
        if stride == 1:
            self._notify(f"this machine keeps up again: all {fps:.4g} frames/s are shown.")
        else:
            self._notify(f"this machine cannot keep up with {fps:.4g} frames/s: now {fps / stride:.3g} are shown.")
