"""What watches a long computation: progress, timing, and the results of stages that are kept to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mien.runtime.progress import NoProgress, Progress, Tick, show
from mien.runtime.resumable_loop import NO_CHECKPOINT, Checkpoint
from mien.runtime.stage_cache import NullCache

T = TypeVar("T")


def _ignore(done: int) -> None:
    """The tick that nobody counts."""


@dataclass(frozen=True)
class StageMonitor:
    """What one stage reports to. `tick(n)`: n more frames or steps are done; `checkpoint`: where its training loop
    keeps its state; `seconds`: how long that loop may take, None for as long as it needs."""

    tick: Tick = _ignore
    checkpoint: Checkpoint = NO_CHECKPOINT
    seconds: float | None = None


UNWATCHED = StageMonitor()


class Monitor:
    """Runs stages: shows their progress, measures their seconds, and takes results of an earlier run from `cache`.

    `limits`: seconds that a stage's training loop may take, by stage. `seconds`: by stage. `resumed`: the stages and
    loops that an earlier run had done, whose seconds are not counted again.
    """

    def __init__(self, progress: Progress | None = None, cache: NullCache | None = None) -> None:
        self._progress: Progress = progress or NoProgress()
        self.limits: Mapping[str, float] = {}
        self._cache = cache or NullCache()
        self.seconds: dict[str, float] = {}

    @property
    def resumed(self) -> list[str]:
        return self._cache.resumed

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "frames") -> Iterator[StageMonitor]:
        """Open a stage of `total` frames, or of another `unit` (None: not known), whose result is not kept."""
        begin = time.perf_counter()
        try:
            with self._progress.stage(name, total, unit) as tick:
                yield StageMonitor(tick, self._cache.loop(name), self.limits.get(name))
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def run(
        self,
        name: str,
        kind: type[T],
        function: Callable[..., T],
        *arguments: Any,
        total: int | None = None,
        unit: str = "frames",
    ) -> T:
        """The result of `function(*arguments, monitor=...)`, which is a `kind` as `StageCache.stage` can keep it."""
        with self.stage(name, total, unit) as watch:
            return self._cache.stage(name, kind, lambda: function(*arguments, monitor=watch))

    def show(self, name: str, frames: Callable[[], NDArray[np.uint8]]) -> None:
        """Offer pictures of the work so far, uint8 `[K, H, W, 3]`; they are made only where somebody looks."""
        show(self._progress, name, frames)
