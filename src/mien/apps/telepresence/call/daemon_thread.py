"""Work that may never end, such as reading what the user answers, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """What `work()` returns, or raises. It runs in a daemon thread, which does not keep the process from ending: asyncio
    waits for the threads of its executor, so that one that reads from a terminal would hold it until somebody types."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def set_unless_cancelled(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failure = None, None
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            failure = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(set_unless_cancelled, value, failure)

    threading.Thread(target=run, daemon=True, name="mien-daemon").start()
    return await result
