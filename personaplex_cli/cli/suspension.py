"""Ctrl-Z during a call: the terminal is given back before the process stops, and taken again after."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class Suspension:
    """While the block runs, SIGTSTP calls `leave` and then stops the process, and SIGCONT calls `come_back`.

    What the process was told to ignore stays ignored. Does nothing where there is no job control (Windows).
    Event loop's thread, which must be the main thread; `leave` and `come_back` are called on the loop.
    """

    def __init__(self, leave: Callable[[], object], come_back: Callable[[], object]) -> None:
        """`come_back` may be called twice, and without `leave` (after SIGSTOP)."""
        self._leave = leave
        self._come_back = come_back
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Suspension:
        self._loop = asyncio.get_running_loop()
        if sys.platform != "win32" and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            for number, act in ((signal.SIGTSTP, self._suspend), (signal.SIGCONT, self._come_back)):
                self._before[number] = signal.signal(number, self._on_loop(act))
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _on_loop(self, act: Callable[[], object]) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            self._loop.call_soon_threadsafe(act)

        return handle

    def _suspend(self) -> None:
        if sys.platform == "win32":
            return
        self._leave()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here everything stops, until somebody continues us.
        signal.signal(signal.SIGTSTP, handler)
        self._come_back()
