"""The view of a call on a terminal: finished lines scroll up and stay, a few rows below them are redrawn.

Rich makes the rows; they are put in place here rather than by `rich.live`, because that one loses its place
when a window made narrower has wrapped the rows it drew, and when a terminal finds a character wider than
Rich does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.segment import ControlType, Segment
from rich.text import Text

from personaplex_cli.events import Event
from personaplex_cli.ui import view
from personaplex_cli.ui.keys import PASTE_OFF, PASTE_ON
from personaplex_cli.ui.layout import area_rows, line_rows
from personaplex_cli.ui.look import Fixed

# A row that turns out wider than the window is cut at its edge: wrapped, it would be two and counted as one.
_NO_WRAP: Final = Segment("\x1b[?7l", None, [])
_WRAP: Final = Segment("\x1b[?7h", None, [])

# What is pasted comes between marks, so that it is not taken for keys.
_PASTE_ON: Final = Segment(PASTE_ON, None, [])
_PASTE_OFF: Final = Segment(PASTE_OFF, None, [])


class _TerminalConsole(Console):
    def on_broken_pipe(self) -> None:
        # Rich would end the process; whoever draws wants to know.
        raise


def terminal_console(stream: TextIO) -> Console:
    """A console for `stream`, a terminal that moves its cursor; colours as TERM and NO_COLOR say."""
    console = _TerminalConsole(file=stream, force_terminal=True, markup=False, emoji=False, highlight=False)
    # Rich reads its table of widths when it first needs it, which keeps sound waiting: now, not in the call.
    cell_len("♪")
    if console.width < 1:  # COLUMNS=0 in the environment
        console.width = 80
    return console


class LivePainter:
    """Draws a call on `console`.

    Everything is called on one thread. Any call may raise the OSError of a terminal that has gone away.
    """

    failure_ends_call = False
    """Talking goes on when nobody can look."""

    eager = False

    def __init__(
        self, console: Console, fixed: Fixed, in_foreground: Callable[[], bool] = lambda: True
    ) -> None:
        """`in_foreground`: whether the terminal is ours to draw on, and no other job's."""
        self._console = console
        self._in_foreground = in_foreground
        self._fixed = fixed
        self._state = view.ViewState()
        self._drawn: list[Text] = []
        self._drawn_width = console.width

    def update(self, events: Iterable[Event], now_s: float) -> None:
        """Show `events` as they look at `now_s` (seconds on the call's clock); draw only what has changed."""
        for event in events:
            self._state = view.reduce(self._state, event)
        self._state = view.tick(self._state, now_s)
        if not self._in_foreground():
            self._drawn = []  # others write there now, and what was drawn has scrolled anywhere
            return
        above = self._take_rows()
        rows = area_rows(self._state, now_s, self._fixed, self._console)
        if above or rows != self._drawn or self._console.width != self._drawn_width:
            self._draw(above, rows)

    def leave(self, lines: Iterable[str]) -> None:
        """Take the live area away, show `lines`, and leave the terminal to others until the next `update`."""
        self._draw(_wrapped(lines, self._console), [])

    def finish(self, last_lines: Iterable[str]) -> None:
        """Take the live area away, show what is left of the transcript and `last_lines`, show the cursor."""
        self._state = view.flush(self._state)
        self._draw([*self._take_rows(), *_wrapped(last_lines, self._console)], [])

    def give_up(self, last_lines: Iterable[str]) -> None:
        """After a failure: try once more to leave the terminal in order. Never raises OSError."""
        with suppress(OSError):
            self._draw(_wrapped(last_lines, self._console), [])

    def _take_rows(self) -> list[Text]:
        lines, self._state = view.take_finished(self._state)
        return [row for line in lines for row in line_rows(line, self._console)]

    def _draw(self, above: Sequence[Text], rows: list[Text]) -> None:
        """In one write: take away what was drawn, put `above` there for good and `rows` below it."""
        taken = _rows_taken(self._drawn, self._console.width)
        change = _Change(taken, above, rows, keys=bool(self._fixed.keys))
        self._drawn, self._drawn_width = rows, self._console.width
        self._console.print(change, end="", crop=False)


class _Change:
    """What is written at once. The cursor ends hidden behind the last row; without rows, shown below."""

    def __init__(self, taken: int, above: Sequence[Text], rows: Sequence[Text], *, keys: bool) -> None:
        self._taken = taken
        self._keys = keys
        self._above = above
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        erase = (ControlType.ERASE_IN_LINE, 2)
        yield Control(ControlType.HIDE_CURSOR, ControlType.CARRIAGE_RETURN, erase).segment
        for _ in range(self._taken - 1):
            yield Control((ControlType.CURSOR_UP, 1), erase).segment
        for row in self._above:
            yield from row.render(console, end="\n")
        if self._keys and bool(self._rows) != bool(self._taken):
            yield _PASTE_ON if self._rows else _PASTE_OFF
        if not self._rows:
            yield Control(ControlType.SHOW_CURSOR).segment
            return
        yield _NO_WRAP
        for row in self._rows[:-1]:
            yield from row.render(console, end="\n")
        yield from self._rows[-1].render(console)
        yield _WRAP


def _rows_taken(drawn: Iterable[Text], width: int) -> int:
    """How many rows of a window `width` cells wide `drawn` takes now: a terminal that was made narrower has
    wrapped what stood on it."""
    return sum(max(1, -(-row.cell_len // max(1, width))) for row in drawn)


def _wrapped(lines: Iterable[str], console: Console) -> list[Text]:
    return [row for line in lines for row in Text(line).wrap(console, console.width, overflow="fold")]
