"""Workers on a Ray cluster, one actor a device (the extra `cluster`; nothing else imports Ray).

Clips, streams and packs are files that every machine of the cluster sees under the same path; only jobs and reports
travel through Ray.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from mien.errors import InputError, MienError
from mien.runtime.workers import Returned, Work, guarded, one_thread, worker_name

START_TIME = 120.0  # seconds to wait for the first worker


class RayPool:
    """Actors on a Ray cluster: one a GPU where the cluster has any, else one a CPU core, with one thread each.

    An actor takes jobs only once it has answered, so that a job never waits for a machine that has gone.
    """

    def __init__(self, work: Work, address: str, jobs: int | None = None) -> None:
        """`address`: host:port or ray://host:port of a running cluster, `auto` for the one of this machine, `local`
        to start one here; a connection that this process has already is used and left open. `jobs`: at most so many
        actors. Raises InputError, MienError."""
        self._ray, self._own = _connect(address)
        resources = self._ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        self._device = "cuda" if gpus else "cpu"
        count = gpus or int(resources.get("CPU", 1))
        self._actor = self._ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=0)(_Actor)
        self._work = work
        self._actors: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self._starting: dict[Any, int] = {}
        self._running: dict[Any, int] = {}
        self._failed_starts = 0
        for slot in range(max(1, min(count, jobs or count))):
            self._start(slot)

    def free(self) -> list[int]:
        taken = {*self._starting.values(), *self._running.values()}
        return [slot for slot in self._actors if slot not in taken]

    def submit(self, slot: int, job: Any) -> None:
        self._running[self._actors[slot].run.remote(job)] = slot

    def wait(self) -> Returned | None:
        begin = time.monotonic()
        while True:
            ready, _ = self._ray.wait([*self._running, *self._starting], num_returns=1, timeout=1.0)
            if ready:
                break
            if not self._running and time.monotonic() - begin > START_TIME:
                raise MienError(f"no worker of the Ray cluster answered within {START_TIME:.0f} s.")
        reference = ready[0]
        if reference in self._starting:
            self._started(reference)
            return None
        slot = self._running.pop(reference)
        try:
            value, error = self._ray.get(reference)
        except self._ray.exceptions.RayError as failure:
            name = self._names.get(slot, "")
            with suppress(self._ray.exceptions.RayError):  # it may only be out of reach: it must not go on
                self._ray.kill(self._actors[slot])
            self._start(slot)
            return Returned(slot, lost=_first_line(failure), worker=name)
        return Returned(slot, value, error, worker=self._names.get(slot, ""))

    def close(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        if self._own:
            self._ray.shutdown()

    def _start(self, slot: int) -> None:
        self._actors[slot] = self._actor.remote(self._work, self._device)
        self._starting[self._actors[slot].name.remote()] = slot

    def _started(self, reference: Any) -> None:
        slot = self._starting.pop(reference)
        try:
            self._names[slot] = self._ray.get(reference)
            self._failed_starts = 0
        except self._ray.exceptions.RayError as failure:
            self._failed_starts += 1
            if self._failed_starts > 2 * len(self._actors) + 2:
                raise MienError(
                    f"the workers of the Ray cluster do not start (is mien installed there?): {_first_line(failure)}"
                ) from failure
            self._start(slot)


class _Actor:
    """What runs on the cluster."""

    def __init__(self, work: Work, device: str) -> None:
        one_thread()
        self._work, self._device = work, device

    def name(self) -> str:
        return worker_name(os.getpid(), self._device)

    def run(self, job: Any) -> tuple[Any, str]:
        return guarded(self._work, job, self._device)


def _connect(address: str) -> tuple[Any, bool]:
    """Ray, connected, and whether the connection is new."""
    # For a cluster that is started here: no reports to Ray's makers, no workers that yield to everything else.
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness"):
        os.environ.setdefault(name, "0")
    try:
        import ray
    except ImportError as error:
        raise InputError("--ray needs Ray: pip install 'mien[cluster]'.") from error
    if ray.is_initialized():
        return ray, False
    import logging

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        if address == "local":
            from mien.runtime.workers import cores

            ray.init(address="local", num_cpus=cores(), include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, OSError) as error:
        raise InputError(f"there is no Ray cluster to be reached at {address!r}: {_first_line(error)}") from error
    return ray, True


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
