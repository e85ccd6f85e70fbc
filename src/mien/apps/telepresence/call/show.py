"""The other end's face: drawn in a thread of its own, the newest frame first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.apps.telepresence.call.statistics import CallStatistics, Drawn
from mien.apps.telepresence.newest import Newest
from mien.apps.telepresence.outputs import Output
from mien.errors import MienError
from mien.format.live_packets import Received

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Waiting:
    """A frame to be drawn, and when it came, seconds of the clock."""

    frame: Received
    came: float


class Show:
    """Draws frames with `paint` and hands them to the outputs, whose clock is the sender's frames.

    Frames that are not drawn before the next one comes, or come after a later one, are dropped.
    """

    def __init__(
        self, paint: Callable[[NDArray[np.float64]], Image], outputs: Sequence[Output], statistics: CallStatistics
    ) -> None:
        self._paint, self._outputs, self._statistics = paint, outputs, statistics
        self._place: Newest[Waiting] = Newest()
        self._error: BaseException | None = None
        self._last = -1
        self._thread = threading.Thread(target=self._work, daemon=True, name="mien-draw")
        self._thread.start()

    def put(self, frame: Received) -> None:
        """Show a frame next."""
        self._place.put(Waiting(frame, time.monotonic()))

    @property
    def failed(self) -> bool:
        """Whether an output, or drawing, failed: `close` raises it."""
        return self._error is not None

    def close(self, frames: int) -> None:
        """End, where the sender had `frames` in all. Raises what an output raised, once all are closed; a window that was
        closed is none."""
        self._place.close()
        self._thread.join()
        errors: list[BaseException | None] = [self._error]
        for output in self._outputs:
            try:
                output.close(max(frames - self._last - 1, 0) if self._last >= 0 else 0)
            except (MienError, OSError) as failure:
                errors.append(failure)
        for error in errors:
            if error is not None and not isinstance(error, BrokenPipeError):
                raise error

    def _work(self) -> None:
        try:
            while (waiting := self._place.take()) is not None:
                self._show(waiting)
        except BaseException as error:  # noqa: BLE001 - raised in `close`
            self._error = error

    def _show(self, waiting: Waiting) -> None:
        number, row = waiting.frame.number, waiting.frame.row
        if number <= self._last:
            return
        start = time.monotonic()
        picture = self._paint(row)
        drawn = time.monotonic()
        for output in self._outputs:
            output.show(picture, row, number - self._last - 1)
        self._last = number
        self._statistics.drawn.append(Drawn(number, waiting.came, time.monotonic(), drawn - start))
