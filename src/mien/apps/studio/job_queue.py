"""One heavy job at a time: a queue in which a visitor sees their place, and a job that can be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.apps.studio.sessions import Session
from mien.errors import InputError, MienError
from mien.runtime.progress import Tick

LONGEST = 20  # jobs that may wait
POLL = 0.4  # seconds between looks at a running job


class JobStopped(MienError):
    """The visitor stopped the work, or left."""


@dataclass
class JobStage:
    """A stage of the work: how much is done of how much (None: not known), and when it began and ended."""

    name: str
    total: int | None
    begun: float
    done: int = 0
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken so far, or took."""
        return (self.ended or time.monotonic()) - self.begun


@dataclass
class JobState:
    """What the page shows of a job: `ahead` (jobs before it; 0 when it runs), its stages, sentences, and pictures by
    name."""

    ahead: int = 0
    stages: list[JobStage] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # [K, H, W, 3]
    changes: int = 0


class JobQueue:
    """First come, first served; one at a time."""

    def __init__(self) -> None:
        self._waiting: list[object] = []
        self._lock = threading.Lock()

    def enter(self, job: object) -> None:
        """Put a job at the end. Raises InputError when the queue is full."""
        with self._lock:
            if len(self._waiting) >= LONGEST:
                raise InputError(f"{LONGEST} jobs are waiting already; come back in a few minutes.")
            self._waiting.append(job)

    def ahead(self, job: object) -> int:
        """How many jobs come before this one; 0 when it is its turn."""
        with self._lock:
            return self._waiting.index(job) if job in self._waiting else 0

    def leave(self, job: object) -> None:
        """Take a job out, wherever it stands."""
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)


class StudioJob:
    """A piece of work in a thread of its own.

    It reports as a `mien.runtime.progress.Progress`, and stops at its next tick.
    """

    def __init__(self, queue: JobQueue, session: Session, work: Callable[[StudioJob], Any]) -> None:
        self.state = JobState()
        self.result: Any = None
        self.error: Exception | None = None
        self._queue, self._session, self._work = queue, session, work
        self._stopped = threading.Event()

    def run(self) -> Iterator[JobState]:
        """Wait in the queue, then work; yields the state whenever there is news.

        The result is in `result` afterwards.

        Raises what the work raised, `JobStopped` when it was cancelled, InputError when the session is busy or the
        queue is full. When the generator is closed the work is cancelled.
        """
        with self._session.lock:
            if self._session.job is not None:
                raise InputError("This page is at work already: wait for it, or stop it.")
            self._queue.enter(self)
            self._session.job = self
        thread: threading.Thread | None = None
        try:
            while (ahead := self._queue.ahead(self)) > 0 and not self._stopped.is_set():
                if ahead != self.state.ahead:
                    self.state.ahead = ahead
                    yield self.state
                self._session.used = time.monotonic()  # who waits in line is here
                time.sleep(POLL)
            self.state.ahead = 0
            self.check()
            thread = threading.Thread(target=self._thread, daemon=True)
            thread.start()
            seen = -1
            while thread.is_alive():
                if self.state.changes != seen:
                    seen = self.state.changes
                    self._session.used = time.monotonic()
                    yield self.state
                thread.join(POLL)
            if self.error is not None:
                raise self.error
        finally:
            self.cancel()
            if thread is None:
                self._end()

    def cancel(self) -> None:
        """Ask the work to stop; it does at its next tick."""
        self._stopped.set()

    def check(self) -> None:
        """Raise JobStopped when the work is to stop."""
        if self._stopped.is_set():
            raise JobStopped("Stopped.")

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str = "frames") -> Iterator[Tick]:
        """Begin a stage of `total` units; yields what counts them. Raises JobStopped."""
        self.check()
        stage = JobStage(name, total, time.monotonic())
        self.state.stages.append(stage)
        self.state.changes += 1

        def tick(count: int) -> None:
            self.check()
            stage.done += count
            self.state.changes += 1

        yield tick
        stage.ended = time.monotonic()
        self.state.changes += 1

    def picture(self, name: str, frames: NDArray[np.uint8]) -> None:
        """Show frames `[K, H, W, 3]` of what has been found so far."""
        self.state.pictures[name] = frames
        self.state.changes += 1

    def say(self, sentence: str) -> None:
        """Show a sentence below the stages."""
        self.state.said.append(sentence)
        self.state.changes += 1

    def _thread(self) -> None:
        try:
            self.result = self._work(self)
        except Exception as error:
            self.error = error
        finally:
            self._end()

    def _end(self) -> None:
        with self._session.lock:
            self._session.job = None
        self._queue.leave(self)
