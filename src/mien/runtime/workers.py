"""Many jobs on several workers: processes of this machine here, a Ray cluster in `mien.apps.batch.cluster`.

A pool knows how to start workers, hand one a job and tell what came back. `run_all` is the rest, the same for every
pool: each job to the next free worker, a job whose worker died to another one.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import Any, Generic, Protocol, TypeVar

from mien.errors import MienError

Job = TypeVar("Job")
Work = Callable[[Any, str], Any]  # (job, device) -> what came of it; it must be importable by name

ATTEMPTS = 3


@dataclass(frozen=True)
class Returned:
    """What a pool tells of a worker. `value`: what the work returned. `error`: the work raised, in one sentence.
    `lost`: the worker died over it, and why."""

    slot: int
    value: Any = None
    error: str = ""
    lost: str = ""
    worker: str = ""  # host:process:device


@dataclass(frozen=True)
class Outcome(Generic[Job]):
    """A job that is over: `value`, or `error` in one sentence; after `attempts`, on `worker` (host:process:device)."""

    job: Job
    value: Any
    error: str
    attempts: int
    worker: str


class Pool(Protocol):
    """Workers that each do one job at a time."""

    def free(self) -> list[int]:
        """Slots whose worker can take a job now."""
        ...

    def submit(self, slot: int, job: Any) -> None:
        """Hand the worker in `slot` a job."""
        ...

    def wait(self) -> Returned | None:
        """Wait until a worker is done or lost; None where only a free slot is new. Raises MienError where no worker
        can be had at all."""
        ...

    def close(self) -> None:
        """End all workers, also those that are at work."""
        ...


def run_all(jobs: Sequence[Job], pool: Pool, attempts: int = ATTEMPTS) -> Iterator[Outcome[Job]]:
    """Run every job once; yields them as they end. A job that loses its worker is tried anew, `attempts` times in all.

    The pool is closed at the end, also where the caller stops early.
    """
    waiting = deque((job, 1) for job in jobs)
    busy: dict[int, tuple[Job, int]] = {}
    try:
        while waiting or busy:
            for slot in pool.free():
                if waiting:
                    busy[slot] = waiting.popleft()
                    pool.submit(slot, busy[slot][0])
            back = pool.wait()
            if back is None:
                continue
            job, attempt = busy.pop(back.slot)
            if back.lost and attempt < attempts:
                waiting.append((job, attempt + 1))
                continue
            error = f"its worker was lost {attempt} times: {back.lost}" if back.lost else back.error
            yield Outcome(job, back.value, error, attempt, back.worker)
    finally:
        pool.close()


def local_devices(device: str = "auto", jobs: int | None = None, *, gpus: int | None = None) -> list[str]:
    """A device for each worker of this machine: every CUDA device, or `cpu` once a core. `jobs` limits or sets it;
    `gpus`: how many CUDA devices there are, if not as PyTorch counts them."""
    if gpus is None:
        gpus = _cuda_devices()
    if device == "auto" and gpus:
        found = [f"cuda:{i}" for i in range(gpus)]
        return [found[i % len(found)] for i in range(jobs or len(found))]
    name = "cpu" if device == "auto" else device
    return [name] * (jobs or (1 if name != "cpu" else cores()))


def _cuda_devices() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_a_core() -> None:
    """Let PyTorch, and the decoders, which follow it, use one core less than there are, for what runs beside them."""
    import torch

    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores() - 1)))


class LocalPool:
    """Processes of this machine, one a device, each with one thread: on a CPU so many are faster than one with many."""

    def __init__(self, work: Work, devices: Sequence[str]) -> None:
        self._work, self._devices = work, list(devices)
        self._context = get_context("spawn")  # CUDA and OpenMP do not survive a fork
        self._workers: dict[int, tuple[Any, connection.Connection]] = {}
        self._busy: set[int] = set()

    def free(self) -> list[int]:
        return [slot for slot in range(len(self._devices)) if slot not in self._busy]

    def submit(self, slot: int, job: Any) -> None:
        if slot not in self._workers:
            self._workers[slot] = self._start(self._devices[slot])
        self._busy.add(slot)
        with suppress(OSError):  # it died while idle: `wait` finds its end of the pipe closed
            self._workers[slot][1].send(job)

    def wait(self) -> Returned:
        pipes = {self._workers[slot][1]: slot for slot in self._busy}
        pipe = connection.wait(list(pipes))[0]
        slot = pipes[pipe]  # type: ignore[index]
        process, _ = self._workers[slot]
        name = worker_name(process.pid, self._devices[slot])
        self._busy.discard(slot)
        try:
            value, error = self._workers[slot][1].recv()
        except (EOFError, OSError):
            process.join()
            self._workers.pop(slot)[1].close()
            return Returned(slot, lost=_how_it_ended(process.exitcode), worker=name)
        return Returned(slot, value, error, worker=name)

    def close(self) -> None:
        for process, pipe in self._workers.values():
            pipe.close()
            process.terminate()
        for process, _ in self._workers.values():
            process.join(10)
            if process.is_alive():
                process.kill()
        self._workers.clear()
        self._busy.clear()

    def _start(self, device: str) -> tuple[Any, connection.Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._work, device), daemon=True)
        process.start()
        theirs.close()
        return process, ours


def worker_name(pid: int, device: str) -> str:
    """How manifests name a worker: host:process:device."""
    return f"{socket.gethostname()}:{pid}:{device}"


def guarded(work: Work, job: Any, device: str) -> tuple[Any, str]:
    """(value, "") of the work, or (None, one sentence) where it raised."""
    try:
        return work(job, device), ""
    except MienError as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - one job's failure is a line of the report, not the end of the batch
        return None, f"unexpected failure: {type(error).__name__}: {' '.join(str(error).split())}"


def one_thread() -> None:
    """Keep this worker's arithmetic to one thread: told to the libraries before they are loaded, and after."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)


def _serve(pipe: connection.Connection, work: Work, device: str) -> None:
    """A worker's life: until its pipe closes, which it does too when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that half-written files go
    one_thread()
    with suppress(EOFError, OSError):
        while True:
            pipe.send(guarded(work, pipe.recv(), device))


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"it ended with code {code}"
