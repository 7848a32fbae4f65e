from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TextIO

import pytest

from personaplex_cli.events import AgentText, CallState, Event, Levels, Notice, StateChanged, UserText
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.screen import Screen, View, fitting_view, open_screen

needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")

LIVE = StateChanged(1.0, CallState.LIVE)
FLOOD = [AgentText(1.0, f" {'word ' * 100}. Next") for _ in range(300)]
"""150 kB: more than any pipe or terminal holds back."""


def clock_s() -> float:
    return 1.0


def wait_until(condition: Callable[[], bool]) -> None:
    """The test's time limit ends a wait in vain."""
    while not condition():
        time.sleep(0.001)


class FakePainter:
    """Takes down what it is given. It can be held up, and it can fail."""

    def __init__(
        self, failure: Exception | None = None, failure_ends_call: bool = False, eager: bool = False
    ) -> None:
        self.failure_ends_call = failure_ends_call
        self.eager = eager
        self.updates = 0
        self.left_with: list[list[str]] = []
        self.failure = failure
        self.events: list[Event] = []
        self.last_lines: list[str] | None = None
        self.gave_up_with: list[str] | None = None
        self.painting = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def update(self, events: Iterable[Event], now_s: float) -> None:
        self.painting.set()
        self.may_go_on.wait()
        if self.failure is not None:
            raise self.failure
        self.updates += 1
        self.events += events

    def leave(self, lines: Iterable[str]) -> None:
        self.may_go_on.wait()
        self.left_with.append(list(lines))

    def finish(self, last_lines: Iterable[str]) -> None:
        self.last_lines = list(last_lines)

    def give_up(self, last_lines: Iterable[str]) -> None:
        self.gave_up_with = list(last_lines)


def test_everything_is_shown_in_order_before_close_returns() -> None:
    painter = FakePainter()
    released = threading.Event()
    screen = Screen(painter, clock_s, released.set)
    events = [Notice(1.0, str(n)) for n in range(1000)]
    for event in events:
        screen.listen(event)
    screen.close(30.0, ["last\x07"])
    assert painter.events == events
    assert painter.last_lines == ["last\ufffd"]
    assert released.is_set()
    assert screen.failure is None
    screen.close(30.0, ["too late"])
    assert painter.last_lines == ["last\ufffd"]


def test_of_levels_that_wait_the_loudest_is_kept_and_of_the_rest_all() -> None:
    painter = FakePainter()
    painter.may_go_on.clear()
    screen = Screen(painter, clock_s)
    painter.painting.wait()
    for n in range(1000):
        screen.listen(Levels(n / 10, -20.0 if n == 500 else -60.0, -30.0 if n == 600 else -70.0))
        screen.listen(UserText(n / 10, str(n)))
    painter.may_go_on.set()
    screen.close(30.0)
    assert [event for event in painter.events if isinstance(event, Levels)] == [Levels(99.9, -20.0, -30.0)]
    assert [event.text for event in painter.events if isinstance(event, UserText)] == [
        str(n) for n in range(1000)
    ]


@pytest.mark.parametrize("ends_call", [False, True])
def test_a_failure_is_remembered_and_told_once_if_it_ends_the_call(ends_call: bool) -> None:
    painter = FakePainter(OSError("gone"), ends_call)
    screen = Screen(painter, clock_s)
    wait_until(lambda: screen.failure is not None)
    if ends_call:
        with pytest.raises(OSError, match="gone"):
            screen.listen(LIVE)
    for _ in range(3):
        screen.listen(LIVE)
    screen.close(30.0, ["last"])
    assert screen.failure is painter.failure
    assert painter.gave_up_with == ["last"]
    assert painter.last_lines is None


def test_a_bug_is_told_to_who_tells_events_and_the_last_lines_are_tried() -> None:
    painter = FakePainter(KeyError("bug"))
    released = threading.Event()
    screen = Screen(painter, clock_s, released.set)
    wait_until(lambda: screen.failure is not None)
    with pytest.raises(KeyError, match="bug"):
        screen.listen(LIVE)
    screen.listen(LIVE)  # once is enough
    screen.close(30.0, ["Call ended."])
    assert painter.gave_up_with == ["Call ended."]
    assert released.is_set()


# --- how often


def test_an_eager_painter_is_given_each_event_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplex_cli.ui.screen._PAINT_INTERVAL_S", 1000.0)
    painter = FakePainter(eager=True)
    screen = Screen(painter, clock_s)
    for n in range(10):
        screen.listen(Notice(1.0, str(n)))
        wait_until(lambda n=n: len(painter.events) > n)  # type: ignore[misc]
    screen.close(30.0)


def test_a_painter_that_is_not_paints_twelve_times_a_second_at_most() -> None:
    painter = FakePainter()
    begun_s = time.monotonic()
    screen = Screen(painter, clock_s)
    while time.monotonic() - begun_s < 0.2:
        screen.listen(LIVE)
        time.sleep(0.001)
    updates, lasted_s = painter.updates, time.monotonic() - begun_s
    screen.close(30.0)
    assert 1 <= updates <= lasted_s * 12 + 1


# --- the terminal in others' hands


def test_while_suspended_nothing_is_painted_and_after_it_all() -> None:
    painter = FakePainter(eager=True)
    screen = Screen(painter, clock_s)
    screen.listen(LIVE)
    wait_until(lambda: bool(painter.events))
    screen.suspend(["Suspended."], 30.0)
    assert painter.left_with == [["Suspended."]]
    screen.suspend(["Again."], 30.0)
    updates = painter.updates
    notices = [Notice(1.0, str(n)) for n in range(100)]
    for notice in notices:
        screen.listen(notice)
    time.sleep(0.15)  # longer than from one picture to the next
    assert (painter.updates, painter.left_with) == (updates, [["Suspended."]])
    screen.resume()
    screen.resume()
    wait_until(lambda: painter.events == [LIVE, *notices])
    screen.suspend(["Once more."], 30.0)
    assert painter.left_with == [["Suspended."], ["Once more."]]
    screen.close(30.0)


def test_a_suspended_screen_can_be_closed() -> None:
    painter = FakePainter()
    screen = Screen(painter, clock_s)
    screen.suspend([], 30.0)
    screen.listen(LIVE)
    screen.close(30.0, ["last"])
    assert (painter.events, painter.last_lines) == ([LIVE], ["last"])


def test_a_stopped_terminal_does_not_hold_up_who_suspends() -> None:
    painter = FakePainter()
    painter.may_go_on.clear()
    screen = Screen(painter, clock_s)
    painter.painting.wait()
    screen.suspend(["Suspended."], 0.05)  # returns, or the test's time limit ends it
    assert painter.left_with == []
    screen.resume()
    painter.may_go_on.set()
    screen.close(30.0, ["last"])
    assert painter.last_lines == ["last"]


def test_a_screen_that_has_failed_can_be_suspended() -> None:
    screen = Screen(FakePainter(OSError("gone")), clock_s)
    wait_until(lambda: screen.failure is not None)
    screen.suspend(["Suspended."], 0.01)
    screen.resume()
    screen.close(30.0)


# --- real streams


class _Window(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("term", "is_terminal", "plain", "json", "view"),
    [
        ("xterm", True, False, False, View.LIVE),
        ("", True, False, False, View.LIVE),
        ("dumb", True, False, False, View.PLAIN),
        ("unknown", True, False, False, View.PLAIN),
        ("xterm", False, False, False, View.PLAIN),
        ("xterm", True, True, False, View.PLAIN),
        ("xterm", True, False, True, View.JSON),
        ("dumb", False, True, True, View.JSON),
    ],
)
def test_the_view_fits_the_stream(
    term: str, is_terminal: bool, plain: bool, json: bool, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    stream = _Window() if is_terminal else io.StringIO()
    assert fitting_view(stream, plain=plain, json=json) is view


def opened(stream: TextIO, status: TextIO, *, plain: bool = False, json: bool = False) -> Screen:
    view = fitting_view(stream, plain=plain, json=json)
    return open_screen(stream, status, view=view, fixed=Fixed("NATF0"), clock_s=clock_s)


def test_streams_in_memory_get_lines() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    screen = opened(stdout, stderr)
    screen.listen(LIVE)
    screen.listen(AgentText(1.0, "Hello"))
    screen.close(30.0, ["Call ended."])
    assert stdout.getvalue() == "Agent: Hello\n"
    assert stderr.getvalue() == "state: live\nCall ended.\n"


def test_one_stream_can_carry_all() -> None:
    """Standard output carries audio then."""
    stderr = io.StringIO()
    screen = opened(stderr, stderr)
    screen.listen(LIVE)
    screen.listen(UserText(1.0, "Hello"))
    screen.close(30.0, ["Call ended."])
    assert stderr.getvalue() == "state: live\nYou: Hello\nCall ended.\n"


def test_lines_of_json_come_at_once() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    screen = opened(stdout, stderr, json=True)
    screen.listen(LIVE)
    wait_until(lambda: "\n" in stdout.getvalue())
    screen.close(30.0, ["Call ended."])
    assert stdout.getvalue().startswith("{")
    assert stderr.getvalue() == "Call ended.\n"


def test_a_reader_that_has_gone_ends_the_call() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stdout:
        stderr = io.StringIO()
        screen = opened(stdout, stderr)
        screen.listen(UserText(1.0, "Hello"))
        wait_until(lambda: screen.failure is not None)
        with pytest.raises(BrokenPipeError):
            screen.listen(LIVE)
        screen.close(30.0, ["Call ended."])
    assert stderr.getvalue() == "Call ended.\n"


def test_a_reader_that_does_not_read_holds_nobody_up() -> None:
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stdout:
        screen = opened(stdout, io.StringIO())
        for event in FLOOD:
            screen.listen(event)
        screen.close(0.1)
        os.close(reader)
        screen.close(30.0)
    assert isinstance(screen.failure, BrokenPipeError)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, io.TextIOWrapper]]:
    """A pseudo-terminal: the side that a window has, and the side that a program has."""
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    with open(theirs, "w", encoding="utf-8") as stream, closing(open(ours, "rb", buffering=0)) as window:
        yield window.fileno(), stream


def read_until(window: int, end: bytes) -> bytes:
    shown = b""
    while end not in shown:
        shown += os.read(window, 100_000)
    return shown


@needs_pty
def test_a_terminal_gets_the_live_view(terminal: tuple[int, io.TextIOWrapper]) -> None:
    window, stream = terminal
    other = io.StringIO()
    screen = opened(stream, other)
    screen.close(30.0)
    assert read_until(window, b"\x1b[?25h").count(b"NATF0") == 1
    assert other.getvalue() == ""


@needs_pty
def test_a_dumb_terminal_gets_lines(
    terminal: tuple[int, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    window, stream = terminal
    screen = opened(stream, stream)
    screen.listen(LIVE)
    screen.listen(UserText(1.0, "Hello"))
    screen.close(30.0)
    assert read_until(window, b"Hello\r\n") == b"state: live\r\nYou: Hello\r\n"


@needs_pty
@pytest.mark.parametrize("blocking", [True, False])
def test_a_stopped_terminal_holds_nobody_up(terminal: tuple[int, io.TextIOWrapper], blocking: bool) -> None:
    window, stream = terminal
    os.set_blocking(stream.fileno(), blocking)
    screen = opened(stream, stream)
    for event in FLOOD:
        screen.listen(event)
    screen.close(0.1, ["Call ended."])
    # It goes on: all of it is there after all.
    shown = read_until(window, b"Call ended.")
    screen.close(30.0)
    assert screen.failure is None
    assert shown.count(b"Next") >= len(FLOOD)
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")


@needs_pty
def test_a_terminal_that_goes_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:
        screen = opened(stream, stream)
        os.close(ours)
        screen.listen(LIVE)
        wait_until(lambda: screen.failure is not None)
        screen.listen(LIVE)
        screen.close(30.0)
    assert isinstance(screen.failure, OSError)


STOPPED = """
import sys
from personaplex_cli.events import AgentText
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.screen import View, open_screen
screen = open_screen(sys.stdout, sys.stderr, view=View.LIVE, fixed=Fixed(), clock_s=lambda: 0.0)
for n in range(300):
    screen.listen(AgentText(0.0, f" {'word ' * 100}. Next"))
screen.close(0.1)
"""


@needs_pty
def test_a_process_can_end_while_its_terminal_is_stopped() -> None:
    ours, theirs = os.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", STOPPED],
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm"},
        )
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, b"")
    finally:
        os.close(theirs)
        os.close(ours)
