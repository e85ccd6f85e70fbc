"""What the work tells the user while it runs: the stage, frames (or other units) a second, the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Tick = Callable[[int], None]


class Progress(Protocol):
    """Where long work reports to. `stage` opens a stage; the tick it gives takes the frames done since the last."""

    def stage(self, name: str, total: int | None, unit: str = "frames") -> AbstractContextManager[Tick]:
        """Open the stage `name` of `total` frames, or of another `unit` (None: not known)."""
        ...


def show(progress: Progress, name: str, frames: Callable[[], NDArray[np.uint8]]) -> None:
    """Offer pictures of the work so far, uint8 `[K, H, W, 3]`, to a `progress` that has a `picture(name, frames)`.

    They are made only where somebody looks.
    """
    picture = getattr(progress, "picture", None)
    if picture is not None:
        picture(name, frames())


def say(progress: Progress, sentence: str | Callable[[], str]) -> None:
    """Give a sentence to a `progress` that has a `say(sentence)`; one that has to be worked out only then."""
    output = getattr(progress, "say", None)
    if output is not None:
        output(sentence if isinstance(sentence, str) else sentence())


class NoProgress:
    """Says nothing: the default of the Python API."""

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str = "frames") -> Iterator[Tick]:
        yield lambda frames: None


class RichProgress:
    """Bars on stderr when it is a terminal, one line a finished stage when it is a pipe or a log."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    def say(self, sentence: str) -> None:
        """Print a sentence on stderr."""
        print(sentence, file=sys.stderr)

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str = "frames") -> Iterator[Tick]:
        if self._console.is_terminal:
            yield from self._bar(name, total, unit)
        else:
            yield from self._line(name, unit)

    def _bar(self, name: str, total: int | None, unit: str) -> Iterator[Tick]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        bars = Bars(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>12}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        with bars:
            task = bars.add_task(name, total=total, rate="")
            start, done = time.monotonic(), 0

            def tick(frames: int) -> None:
                nonlocal done
                done += frames
                rate = done / max(time.monotonic() - start, 1e-6)
                bars.update(task, advance=frames, rate=f"{rate:.1f} {unit}/s")

            yield tick

    def _line(self, name: str, unit: str) -> Iterator[Tick]:
        start, done = time.monotonic(), 0

        def tick(frames: int) -> None:
            nonlocal done
            done += frames

        yield tick
        seconds = time.monotonic() - start
        print(f"{name}: {done} {unit}, {seconds:.1f} s ({done / max(seconds, 1e-6):.1f} {unit}/s)", file=sys.stderr)
