"""Threads that each compute a share of a step, with arithmetic of one thread each.

PyTorch splits every operation over its threads, which meet, spinning, after each: on small maps two threads are hardly
faster than one, and several times slower as soon as another program holds a core. Shares of a batch meet once a step,
and wait without spinning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from threading import Lock
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class Team:
    """`size` threads. What they compute depends on the shares, never on which thread was first."""

    def __init__(self, size: int = 1, pool: ThreadPoolExecutor | None = None) -> None:
        self.size, self._pool = size, pool

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """`work` of each item, in their order, with the caller's gradient mode and autocast. Raises what the first of
        them raised."""
        if self._pool is None or len(items) < 2:
            return map(work, items)
        gradients, autocast = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu")

        def one(item: T) -> R:
            with torch.set_grad_enabled(gradients), torch.autocast("cpu", dtype, enabled=autocast):
                return work(item)

        return self._pool.map(one, items)

    def split(self, count: int, most: int) -> list[slice]:
        """`range(count)` in parts of at most `most`: for several threads of nearly equal length, and as many for
        each."""
        parts = -(-count // max(most, 1))
        if self.size == 1:
            return [slice(i * most, min((i + 1) * most, count)) for i in range(parts)]
        parts = min(-(-parts // self.size) * self.size, count)
        edges = [count * i // parts for i in range(parts + 1)] if parts else [0]
        return [slice(a, b) for a, b in pairwise(edges)]


ALONE = Team()

_lock = Lock()
_open = 0  # teams
_threads = 1  # PyTorch's own, outside of all teams


@contextmanager
def team(device: torch.device) -> Iterator[Team]:
    """A team of as many threads as PyTorch may use, whose own operations take one thread meanwhile; on a device that is
    not a CPU, a team of one that changes nothing."""
    global _open, _threads
    if device.type != "cpu":
        yield Team()
        return
    with _lock:
        if not _open:
            _threads = torch.get_num_threads()
            torch.set_num_threads(1)
        _open += 1
        size = _threads
    pool = ThreadPoolExecutor(size, "team") if size > 1 else None
    try:
        yield Team(size, pool)
    finally:
        if pool is not None:
            pool.shutdown()
        with _lock:
            _open -= 1
            if not _open:
                torch.set_num_threads(_threads)
