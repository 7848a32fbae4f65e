"""Blocking work beside the event loop, in threads that hold up nobody's exit.

asyncio's own executor is joined when the loop and when the interpreter end; a sound server or a resolver
that hangs would keep the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(action: Callable[[], T], *, name: str) -> T:
    """What `action` returns or raises, run in a daemon thread. When this is cancelled the thread is left to
    itself and what it comes to is thrown away."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # T may itself be None

    def work() -> None:
        result, error = None, None
        try:
            result = action()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await outcome
