from __future__ import annotations

import io

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from personaplex_cli.events import (
    AgentText,
    CallState,
    Event,
    Levels,
    Notice,
    ServerSaidError,
    StateChanged,
    UserText,
)
from personaplex_cli.ui import layout, view
from personaplex_cli.ui.live import LivePainter, terminal_console

LIVE = StateChanged(1.0, CallState.LIVE)
LONG = " ".join(f"word{n}" for n in range(60))
HOSTILE = [
    "[bold]not bold[/bold]",
    "[/foo]",
    ":smile:",
    "x" * 1500,
    "你好世界" * 100,
    "👩‍👩‍👧‍👦🇩🇪e\u0301" * 50,
    "שלום עולם",
    "\u202eevil",
    "\x1b[2J\x1b]0;title\x07\x00\r\n\b",
]


class Terminal:
    """A painter on a terminal of a given size, and what can be seen there."""

    def __init__(self, columns: int, rows: int = 24) -> None:
        self.written = io.StringIO()
        self.console = terminal_console(self.written)
        self.console.size = (columns, rows)
        self.painter = LivePainter(self.console, "NATF0")
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.Stream(self._screen)

    def update(self, *events: Event, now_s: float = 1.0) -> list[str]:
        self.painter.update(events, now_s)
        return self.look()

    def finish(self, *last_lines: str) -> list[str]:
        self.painter.finish(last_lines)
        return self.look()

    def look(self) -> list[str]:
        """The rows, those scrolled away included, without blank ones at the end."""
        self._stream.feed(self.written.getvalue().replace("\n", "\r\n"))
        self.written.seek(0)
        self.written.truncate()
        above = [
            "".join(row[column].data for column in range(self._screen.columns)).rstrip()
            for row in self._screen.history.top
        ]
        rows = above + [row.rstrip() for row in self._screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def cursor_hidden(self) -> bool:
        return bool(self._screen.cursor.hidden)

    @property
    def wraps(self) -> bool:
        return pyte.modes.DECAWM in self._screen.mode

    @property
    def title(self) -> str:
        return str(self._screen.title)


def area(columns: int, *events: Event, now_s: float = 1.0, rows: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=columns, height=rows, color_system=None)
    state = view.ViewState()
    for event in events:
        state = view.reduce(state, event)
    return [row.plain.rstrip() for row in layout.area_rows(state, now_s, "NATF0", console)]


def test_before_the_call_is_live_only_the_status_shows() -> None:
    assert area(80, StateChanged(0.2, CallState.WAITING), now_s=4.0) == [
        "waiting for the model · 0:04 · NATF0"
    ]


def test_meters_and_status() -> None:
    levels = Levels(63.0, -30.0, -60.0)
    assert area(80, LIVE, levels, now_s=63.0) == [
        "you:   ━━━━━━━━━━━━──────────── ●  agent: ────────────────────────",
        "live · 1:02 · NATF0",
    ]
    assert area(40, LIVE, levels, now_s=63.0)[0] == "you:   ━━━━━───── ●  agent: ──────────"
    assert area(20, LIVE, Levels(1.0, 0.0, 0.0)) == ["you: ━ ●  agent: ━ ●", "live · 0:00 · NATF0"]


@pytest.mark.parametrize(("dbfs", "full"), [(-96.0, 0), (-60.0, 0), (-45.0, 6), (0.0, 24), (3.0, 24)])
def test_meter_scale(dbfs: float, full: int) -> None:
    assert area(80, LIVE, Levels(1.0, dbfs, -96.0))[0].count("━") == full


def test_running_sentence_is_wrapped_and_its_end_shown() -> None:
    rows = area(80, LIVE, AgentText(1.0, LONG))
    assert len(rows) == 5
    assert rows[0].startswith("…      ")
    assert rows[2].endswith("word59")
    assert area(80, LIVE, AgentText(1.0, "Hello there"))[0] == "agent: Hello there"
    assert area(20, LIVE, AgentText(1.0, "Hello there, you"))[:2] == ["agent: Hello there,", "you"]


@pytest.mark.parametrize("columns", [1, 5, 20, 40, 80, 120])
def test_the_area_is_never_wider_or_higher_than_the_window(columns: int) -> None:
    for text in [LONG, *HOSTILE]:
        rows = area(columns, LIVE, AgentText(1.0, text), rows=4)
        assert 1 <= len(rows) <= 3
        assert all(cell_len(row) <= columns for row in rows)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), "latin-1"), width=80, height=24)
    state = view.reduce(view.reduce(view.ViewState(), LIVE), AgentText(1.0, LONG))
    rows = layout.area_rows(state, 1.0, "NATF0", console)
    assert all(row.plain.isascii() for row in rows)


@pytest.mark.parametrize("columns", [120, 80])
def test_finished_lines_stand_above_the_live_area(columns: int) -> None:
    terminal = Terminal(columns)
    rows = terminal.update(
        StateChanged(0.0, CallState.CONNECTING), LIVE, AgentText(1.0, " Hello. How"), UserText(1.0, "Fine.")
    )
    assert rows[:3] == ["agent: Hello.", "agent: How", "you:   Fine."]
    assert rows[3].startswith("you:   ───")
    assert rows[4:] == ["live · 0:00 · NATF0"]
    rows = terminal.update(Notice(1.1, "Muted."), ServerSaidError(1.1, "busy"), AgentText(1.1, " are"))
    assert rows[3:6] == ["note:  Muted.", "error: busy", "agent: are"]
    assert terminal.cursor_hidden
    assert terminal.finish("Call ended.") == [
        "agent: Hello.",
        "agent: How",
        "you:   Fine.",
        "note:  Muted.",
        "error: busy",
        "agent: are",
        "Call ended.",
    ]
    assert not terminal.cursor_hidden
    assert terminal.wraps


def test_everything_stays_in_the_scrollback() -> None:
    terminal = Terminal(40, rows=6)
    sentences = [f"Sentence number {n}." for n in range(30)]
    for n, sentence in enumerate(sentences):
        terminal.update(LIVE, AgentText(n / 10, f" {sentence}"), now_s=n / 10)
    assert terminal.finish() == [f"agent: {sentence}" for sentence in sentences]


def test_nothing_is_written_when_nothing_changed() -> None:
    terminal = Terminal(80)
    terminal.painter.update([LIVE, AgentText(1.0, "Hello")], 1.0)
    size = len(terminal.written.getvalue())
    terminal.painter.update([], 1.1)
    terminal.painter.update([Levels(1.1, -95.0, -95.0)], 1.2)
    assert len(terminal.written.getvalue()) == size
    terminal.painter.update([], 2.0)
    assert len(terminal.written.getvalue()) > size


def test_a_narrower_window_leaves_nothing_behind() -> None:
    """Rows that were drawn wide have been wrapped by the terminal: all of that is taken away."""
    terminal = Terminal(80)
    terminal.update(LIVE, AgentText(1.0, "A sentence of some length that fills more than half of a row."))
    terminal.look()
    terminal.console.size = (40, 24)
    terminal.painter.update([], 1.0)
    # 68 cells, 66 cells and 19 cells: two rows, two rows and one.
    assert terminal.written.getvalue().count("\x1b[1A") == 4


def test_a_character_wider_than_expected_does_not_move_the_rows() -> None:
    terminal = Terminal(20)
    terminal.painter.update([LIVE], 1.0)
    drawn = terminal.written.getvalue()
    assert drawn.index("\x1b[?7l") < drawn.index("live") < drawn.index("\x1b[?7h")


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_hostile_text_is_harmless(columns: int, text: str) -> None:
    terminal = Terminal(columns)
    events = [AgentText(1.0, text), UserText(1.0, text), Notice(1.0, text), ServerSaidError(1.0, text)]
    for event in events:
        terminal.painter.update([LIVE, event], 1.0)
    terminal.painter.finish([])
    written = terminal.written.getvalue()
    assert not any(forbidden in written for forbidden in ("\x1b]", "\x07", "\x00", "\b", "\u202e"))
    shown = "".join(terminal.look()).replace(" ", "")
    if text.isascii() and text.isprintable():
        assert text.replace(" ", "") in shown.replace("agent:", "")
    assert terminal.title == ""
    assert not terminal.cursor_hidden


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(max_size=30), max_size=5), st.integers(1, 130))
def test_no_text_stops_the_painter(pieces: list[str], columns: int) -> None:
    terminal = Terminal(columns)
    for piece in pieces:
        terminal.painter.update([LIVE, AgentText(1.0, piece), Notice(1.0, piece)], 1.0)
    terminal.painter.finish(pieces)
    assert terminal.written.getvalue().rfind("\x1b[?25h") > terminal.written.getvalue().rfind("\x1b[?25l")


def test_colours_are_the_terminals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    events = [LIVE, UserText(1.0, "me"), AgentText(1.0, "it"), ServerSaidError(1.0, "no")]
    coloured = Terminal(80)
    coloured.painter.update(events, 1.0)
    assert "\x1b[1;35m" in coloured.written.getvalue()
    assert "38;" not in coloured.written.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal(80)
    plain.painter.update(events, 1.0)
    assert "35m" not in plain.written.getvalue()
    assert "31m" not in plain.written.getvalue()


class _Gone(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError("the terminal has gone")


def test_a_terminal_that_has_gone_is_an_error_once() -> None:
    painter = LivePainter(terminal_console(_Gone()), "NATF0")
    with pytest.raises(BrokenPipeError, match="has gone"):
        painter.update([LIVE], 1.0)
    painter.give_up(["Call ended."])
