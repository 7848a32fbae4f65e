"""Where a conversation meets its user's terminal: the screen, the keys, and Ctrl-Z."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from personaplex_cli.cli.suspension import Suspension
from personaplex_cli.events import Event
from personaplex_cli.ui.keyboard import Keyboard, keyboard_for
from personaplex_cli.ui.keys import Pressed
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.screen import View, fitting_view, open_screen

SCREEN_LIMIT_S: Final = 1.0
"""For the last lines to reach the terminal or pipe; the socket is closed by then."""

SUSPENDED: Final = "Suspended. The call stays open and is billed: fg goes on with it."


class Terminal:
    """As a context: open, and left in order. Event loop only."""

    def __init__(
        self,
        *,
        plain: bool,
        json: bool,
        stdout_carries_audio: bool,
        stdin_is_free: bool,
        suspended: str = SUSPENDED,
    ) -> None:
        """`stdin_is_free`: nothing else than keys comes from there. `suspended` is said at Ctrl-Z."""
        # None: the descriptor was closed when we were started.
        stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
        self._status = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
        self._stream = self._status if stdout_carries_audio else stdout
        self.view = fitting_view(self._stream, plain=plain, json=json)
        # Lines of JSON are for a program, which cannot see what a key asks.
        self._stdin = sys.stdin if stdin_is_free and self.view is not View.JSON else None
        self._suspended = suspended
        self.last_lines: list[str] = []
        self._keyboard: Keyboard | None = None
        self._on_keys: Callable[[list[Pressed]], object] = lambda keys: None
        self._suspension = Suspension(self._leave, self._come_back)

    @property
    def reads_keys(self) -> bool:
        return self._stdin is not None and not self._stdin.closed and self._stdin.isatty()

    def open(self, fixed: Fixed, clock_s: Callable[[], float]) -> Terminal:
        # First, so that what is pressed as soon as something is seen is not echoed into it.
        self._take_keyboard()
        self._screen = open_screen(self._stream, self._status, view=self.view, fixed=fixed, clock_s=clock_s)
        return self

    def __enter__(self) -> Terminal:
        self._suspension.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._keyboard is not None:
            self._keyboard.close()
        self._screen.close(SCREEN_LIMIT_S, self.last_lines)
        self._suspension.__exit__()

    def read_keys(self, on_keys: Callable[[list[Pressed]], None]) -> None:
        """From now on `on_keys` is called with what is pressed."""
        self._on_keys = on_keys

    def by_lines(self, on: bool) -> None:
        """A text is typed now, or no more: without a live area the terminal itself shows it."""
        if self._keyboard is not None and self.view is View.PLAIN:
            self._keyboard.cooked(on)

    def listen(self, event: Event) -> None:
        """Raises OSError when nobody can be shown anything any more."""
        self._screen.listen(event)

    def say_last(self, lines: Sequence[str]) -> None:
        """What is shown at the end, after all else."""
        self.last_lines += lines

    def _take_keyboard(self) -> None:
        loop = asyncio.get_running_loop()
        if self.reads_keys:
            self._keyboard = keyboard_for(
                self._stdin, lambda keys: loop.call_soon_threadsafe(self._press, keys)
            )

    def _press(self, keys: list[Pressed]) -> None:
        self._on_keys(keys)

    def _leave(self) -> None:
        self._screen.suspend([self._suspended])
        if self._keyboard is not None:
            self._keyboard.suspend()

    def _come_back(self) -> None:
        if self._keyboard is not None:
            self._keyboard.resume()
        self._screen.resume()
