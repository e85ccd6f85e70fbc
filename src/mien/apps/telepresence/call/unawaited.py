"""Questions to the user, which may never be answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def unawaited(question: Callable[[], T]) -> T:
    """What `question()` returns, or raises, in a thread that nobody waits for at the end: asyncio waits for those of
    its executor, so one that reads from a terminal would hold the process until somebody types."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def ask() -> None:
        put: Callable[[], None]
        try:
            value = question()
            put = lambda: None if answer.done() else answer.set_result(value)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            failure = error
            put = lambda: None if answer.done() else answer.set_exception(failure)
        with suppress(RuntimeError):  # the loop is gone: so is who asked
            loop.call_soon_threadsafe(put)

    threading.Thread(target=ask, daemon=True, name="mien-ask").start()
    return await answer
