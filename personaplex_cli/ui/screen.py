"""The screen of a call: a listener that only takes note, and a thread that paints.

A terminal can be stopped (Ctrl-S) or slow, a pipe's reader can be busy: whoever writes there waits. So all
writing is done by one thread, which owns the state of the view, and the event loop never waits for it.
"""

from __future__ import annotations

import errno
import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Final, Protocol, TextIO, cast

from personaplex_cli.events import Event, Levels
from personaplex_cli.ui.keyboard import in_foreground
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.plain import PlainPainter
from personaplex_cli.wire.text import safe_text

_FULL_STREAM_PAUSE_S: Final = 0.02

MAX_WAITING_EVENTS: Final = 10_000
"""A quarter of an hour of lively talk that nobody takes: then the call ends rather than fill the memory."""

_PAINT_INTERVAL_S: Final = 1 / 12


class View(StrEnum):
    """How a call is shown."""

    LIVE = "live"
    PLAIN = "plain"
    JSON = "json"


class Painter(Protocol):
    """A way to show a call. Used by one thread only."""

    failure_ends_call: bool

    eager: bool
    """It is given each event at once, and not only when it is time to paint."""

    def update(self, events: Iterable[Event], now_s: float) -> None: ...

    def leave(self, lines: Iterable[str]) -> None: ...

    def finish(self, last_lines: Iterable[str]) -> None: ...

    def give_up(self, last_lines: Iterable[str]) -> None: ...


class Screen:
    """Shows a call, painting at most 12 times a second in a thread of its own, which it starts.

    `clock_s` gives the seconds since the call began: what the events' `at_s` is measured on. It is called in
    the thread, and `release` when the thread ends.
    """

    def __init__(
        self,
        painter: Painter,
        clock_s: Callable[[], float],
        release: Callable[[], object] = lambda: None,
    ) -> None:
        self._painter = painter
        self._clock_s = clock_s
        self._release = release
        self._failure: Exception | None = None
        self._failure_told = False
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._levels: Levels | None = None
        self._last_lines: Sequence[str] | None = None
        self._leaving: Sequence[str] | None = None  # what is said before the terminal is left to others
        self._left = threading.Event()
        # A daemon: a terminal that stays stopped must not keep the process.
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> Exception | None:
        """Why nothing is shown any more, or None."""
        return self._failure

    def listen(self, event: Event) -> None:
        """Take note of `event`; any thread, returns at once.

        However slow the stream is, every event is kept until it is shown, except levels: of those that wait,
        one is kept, the loudest. Raises OSError, once, when the reader of a plain transcript has gone away,
        and when `MAX_WAITING_EVENTS` wait; a terminal that has gone away raises nothing. Raises, once, what
        is a bug in showing: nobody would see how the call goes on.
        """
        with self._changed:
            if self._failure is not None:
                is_bug = not isinstance(self._failure, OSError)
                if (self._painter.failure_ends_call or is_bug) and not self._failure_told:
                    self._failure_told = True
                    raise self._failure
            elif isinstance(event, Levels):
                self._levels = event if self._levels is None else self._levels.or_louder(event)
            elif len(self._events) >= MAX_WAITING_EVENTS:
                raise BlockingIOError(errno.EAGAIN, "nobody takes what is shown")
            else:
                self._events.append(event)
                if self._painter.eager:
                    self._changed.notify()

    def suspend(self, lines: Sequence[str], timeout_s: float = 0.3) -> None:
        """Leave the terminal to others, with `lines` as the last that they see; what happens is kept and
        shown after `resume`. Returns after `timeout_s` seconds at the latest: a terminal can be stopped."""
        with self._changed:
            if self._leaving is not None:
                return
            self._leaving = lines
            self._left.clear()
            self._changed.notify()
        self._left.wait(timeout_s)

    def resume(self) -> None:
        with self._changed:
            self._leaving = None
            self._changed.notify()

    def close(self, timeout_s: float = 1.0, last_lines: Sequence[str] = ()) -> None:
        """Show what is left and then `last_lines`, leave the terminal in order, end the thread.

        Returns after `timeout_s` seconds at the latest; what a stopped terminal has not taken by then appears
        when it goes on, if the process still lives. Only the first call's `last_lines` are shown. Raises
        nothing: see `failure`.
        """
        with self._changed:
            if self._last_lines is None:
                self._last_lines = [safe_text(line) for line in last_lines]
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._paint_until_closed()
        except Exception as error:
            self._fail(error)
        finally:
            self._release()

    def _paint_until_closed(self) -> None:
        while True:
            self._stay_away()
            with self._changed:
                last_lines = self._last_lines
                events, self._events = self._events, []
                if self._levels is not None:
                    events.append(self._levels)
                    self._levels = None
            self._painter.update(events, self._clock_s())
            if last_lines is not None:
                self._painter.finish(last_lines)
                return
            with self._changed:
                self._changed.wait_for(self._wanted, _PAINT_INTERVAL_S)

    def _wanted(self) -> bool:
        told = self._painter.eager and bool(self._events)
        return told or self._last_lines is not None or self._leaving is not None

    def _stay_away(self) -> None:
        """While the screen is suspended."""
        with self._changed:
            lines = self._leaving
        if lines is None:
            return
        self._painter.leave(lines)
        self._left.set()
        with self._changed:
            self._changed.wait_for(lambda: self._leaving is None or self._last_lines is not None)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            self._events.clear()
            # The last lines may have another stream than the one that failed.
            self._changed.wait_for(lambda: self._last_lines is not None)
        self._painter.give_up(self._last_lines or ())


def fitting_view(stream: TextIO, *, plain: bool, json: bool) -> View:
    """The way to show a call on `stream` that was asked for, or else that fits it."""
    if json:
        return View.JSON
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return View.PLAIN if plain or dumb or not stream.isatty() else View.LIVE


def open_screen(
    stream: TextIO, status: TextIO, *, view: View, fixed: Fixed, clock_s: Callable[[], float]
) -> Screen:
    """A screen on `stream`; what is said about a plain transcript, or about lines of JSON, goes to `status`.

    While it is open nobody else may write to a terminal it draws on. Rich is imported only for the live view.
    Closing it is the caller's duty, on every way out.
    """
    owned = ExitStack()
    painter = _painter(view, _direct(stream, owned), lambda: _direct(status, owned), fixed)
    return Screen(painter, clock_s, owned.close)


def _painter(view: View, stream: TextIO, status: Callable[[], TextIO], fixed: Fixed) -> Painter:
    match view:
        case View.JSON:
            from personaplex_cli.ui.jsonl import JsonPainter

            return JsonPainter(stream, status())
        case View.PLAIN:
            return PlainPainter(stream, status())
        case View.LIVE:
            from personaplex_cli.ui.live import LivePainter, terminal_console

            fixed = replace(fixed, voice=safe_text(fixed.voice))
            return LivePainter(terminal_console(stream), fixed, partial(in_foreground, stream.fileno()))


class _DirectStream(io.TextIOBase):
    """Text written straight to a copy of a descriptor.

    `sys.stdout` is flushed under its lock when the interpreter ends; while a thread is held up in a write to
    it, that flush would wait or abort the process. This has neither lock nor buffer.
    """

    encoding: str = "utf-8"

    def __init__(self, fileno: int, encoding: str) -> None:
        # Not FileIO by name: on a Windows console this makes a stream that takes UTF-8.
        raw = open(os.dup(fileno), "wb", buffering=0)  # noqa: SIM115
        self._raw = cast(io.RawIOBase, raw)
        self.encoding = encoding

    def write(self, text: str, /) -> int:
        rest = memoryview(text.encode(self.encoding, "replace"))
        while rest:
            taken = self._raw.write(rest)
            if taken is None:  # another process has made the terminal non-blocking, and it is full
                time.sleep(_FULL_STREAM_PAUSE_S)
            else:
                rest = rest[taken:]
        return len(text)

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


def _direct(stream: TextIO, owned: ExitStack) -> TextIO:
    """`stream` without its buffer, to be closed with `owned`; or itself if it is one in memory."""
    try:
        fileno = stream.fileno()
    except io.UnsupportedOperation:
        return stream
    stream.flush()
    return cast(TextIO, owned.enter_context(closing(_DirectStream(fileno, stream.encoding))))
