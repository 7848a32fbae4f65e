"""Signals during a call: the first ends it in order, the second at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from personaplex_cli.events import EndReason

_REASONS: Final = {
    name: reason
    for name, reason in (
        ("SIGINT", EndReason.HUNG_UP),
        ("SIGTERM", EndReason.TERMINATED),
        ("SIGHUP", EndReason.TERMINATED),  # the terminal was closed
        ("SIGBREAK", EndReason.TERMINATED),  # Windows: Ctrl-Break, and the console being closed
    )
    if hasattr(signal, name)
}


async def until_interrupted() -> None:
    """Returns with the first signal."""
    interrupted = asyncio.Event()
    with Interrupts(None, lambda reason: interrupted.set()):
        await interrupted.wait()


class Interrupts:
    """While the block runs: SIGINT, SIGTERM and SIGHUP call `hang_up`; a second one cancels `task`.

    Event loop's thread, which must be the main thread.
    """

    def __init__(self, task: asyncio.Task[Any] | None, hang_up: Callable[[EndReason], None]) -> None:
        self._task = task
        self._hang_up = hang_up
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        for name, reason in _REASONS.items():
            number = getattr(signal, name)
            self._before[number] = signal.signal(number, self._handler(reason))

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handler(self, reason: EndReason) -> Callable[[int, FrameType | None], None]:
        # Not loop.add_signal_handler, which Windows does not have. The loop is woken by call_soon_threadsafe.
        def handle(number: int, frame: FrameType | None) -> None:
            self._loop.call_soon_threadsafe(self._interrupt, reason)

        return handle

    def _interrupt(self, reason: EndReason) -> None:
        if self._asked and self._task is not None:
            self._task.cancel()
        self._asked = True
        self._hang_up(reason)
