"""Signals during a conversation: the first ends it in order, a second Ctrl-C at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """While the block runs, SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, so that the way out
    tidies up. For the time before there is a loop for `Interrupts`. Main thread only."""
    before = {}
    for name in _REASONS:
        number = getattr(signal, name)
        if signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupts:
    """While the block runs, signals call `hang_up`; where there is nothing to hang up, and with a second
    SIGINT, they cancel the task that entered the block.

    A second SIGHUP or SIGTERM changes nothing: a terminal that closes can send several. What the process was
    told to ignore (nohup) stays ignored. Event loop's thread, which must be the main thread.
    """

    def __init__(self) -> None:
        self.hang_up: Callable[[EndReason], None] | None = None
        self.asked = False
        """A signal has come."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for name, reason in _REASONS.items():
            number = getattr(signal, name)
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None):  # None: set by other than Python, not ours to replace
                self._before[number] = before
                signal.signal(number, self._handler(reason))
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handler(self, reason: EndReason) -> Callable[[int, FrameType | None], None]:
        # Not loop.add_signal_handler, which Windows does not have. The loop is woken by call_soon_threadsafe.
        def handle(number: int, frame: FrameType | None) -> None:
            self._loop.call_soon_threadsafe(self.interrupt, reason)

        return handle

    def interrupt(self, reason: EndReason) -> None:
        """As a signal would."""
        again = self.asked and reason is EndReason.HUNG_UP
        self.asked = True
        if self.hang_up is not None and not again:
            self.hang_up(reason)
        elif self._task is not None:
            self._task.cancel()


async def until_interrupted() -> None:
    """Returns with the first signal."""
    interrupted = asyncio.Event()
    with Interrupts() as interrupts:
        interrupts.hang_up = lambda reason: interrupted.set()
        await interrupted.wait()
