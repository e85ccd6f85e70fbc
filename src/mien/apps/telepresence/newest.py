"""A place for one item between two threads: what is not taken before the next one comes is dropped, never queued."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Holds the newest item that was put. `dropped`: items that were replaced before anyone took them."""

    def __init__(self) -> None:
        self.dropped = 0
        self._item: T | None = None
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Put an item in the place of the one that waits, if any."""
        with self._changed:
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify_all()

    def take(self) -> T | None:
        """Wait for an item; None once the place is closed and empty. Raises what the other side closed it with."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            if item is None and self._error is not None:
                raise self._error
            return item

    def close(self, error: BaseException | None = None) -> None:
        """Nothing more comes; `error` is raised at the taker's."""
        with self._changed:
            self._closed, self._error = True, error
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed
