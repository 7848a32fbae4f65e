from __future__ import annotations

import io
import re
from itertools import accumulate

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli.events import (
    AgentText,
    CalledAgain,
    CallState,
    DeviceChanged,
    DeviceState,
    Event,
    Levels,
    Metadata,
    Notice,
    ServerSaidError,
    Speaking,
    StateChanged,
    TextHeard,
    TurnEnded,
    UserText,
)
from personaplex_cli.turns import Side, Turn, TurnKind
from personaplex_cli.ui.live import LivePainter, terminal_console
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.prompt import Choice, Help, PromptChanged, TypedLine

OURS = r"\x1b\[(\?(25|7|2004)[hl]|2K|1A|[0-9;]*m)"
"""What is written to move the cursor and to colour."""

FIXED = Fixed("NATF0")
LIVE = StateChanged(1.0, CallState.LIVE)
HOSTILE = {
    "markup": "[bold]not bold[/bold] [/foo] :smile:",
    "long": "x" * 10_000,
    "wide": "你好世界" * 100,
    "emoji": "👩‍👩‍👧‍👦🇩🇪e\u0301" * 50,
    "right-to-left": "שלום עולם",
    "override": "\u202eevil\u2066\u200b",
    "escapes": "\x1b[2J\x1b]0;title\x07\x9b31m\x1bP\x00\r\n\b",
}


def told_by_anyone(text: str) -> list[Event]:
    """Every event that brings a text from outside."""
    return [
        AgentText(1.0, text),
        TextHeard(1.0, len(text) // 2, True),
        TextHeard(1.0, len(text), False),
        UserText(1.0, text),
        Notice(1.0, text),
        ServerSaidError(1.0, text),
        Metadata(1.0, {text: text}),
        *(DeviceChanged(1.0, "speaker", state, text) for state in DeviceState),
        PromptChanged(1.0, TypedLine(text, len(text) // 2)),
        PromptChanged(1.0, Choice(text, (text, text), 0)),
        PromptChanged(1.0, Choice(text, (text, text), 1)),
        PromptChanged(1.0, Help((("m", text),))),
        PromptChanged(1.0, None),
    ]


class Terminal:
    """A painter on a terminal of a given size, and what can be seen there."""

    def __init__(self, columns: int, rows: int = 24, fixed: Fixed = FIXED) -> None:
        self.written = io.StringIO()
        self.console = terminal_console(self.written)
        self.console.size = (columns, rows)
        self.painter = LivePainter(self.console, fixed)
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


def heard(*pieces: str, at_s: float = 1.0) -> list[Event]:
    """The agent's first words in a call, each heard as it comes."""
    ends = accumulate(len(piece) for piece in pieces)
    return [
        event
        for piece, end in zip(pieces, ends, strict=True)
        for event in (AgentText(at_s, piece), TextHeard(at_s, end, True))
    ]


@pytest.mark.parametrize("columns", [120, 80])
def test_finished_lines_stand_above_the_live_area(columns: int) -> None:
    terminal = Terminal(columns)
    rows = terminal.update(
        StateChanged(0.0, CallState.CONNECTING), LIVE, *heard(" Hello. How"), UserText(1.0, "Fine.")
    )
    assert rows[:3] == ["Agent: Hello.", "You:   Fine.", "Agent: How"]
    assert rows[3].startswith("You:   ───")
    assert rows[4:] == ["live · 0:00 · NATF0"]
    rows = terminal.update(Notice(1.1, "Muted."), ServerSaidError(1.1, "busy"), AgentText(1.1, " are"))
    assert rows[2:5] == ["note:  Muted.", "error: busy", "Agent: How are"]
    assert terminal.cursor_hidden
    assert terminal.finish("Call ended.") == [
        "Agent: Hello.",
        "You:   Fine.",
        "note:  Muted.",
        "error: busy",
        "Agent: How are",
        "Call ended.",
    ]
    assert not terminal.cursor_hidden
    assert terminal.wraps


def test_everything_stays_in_the_scrollback() -> None:
    terminal = Terminal(40, rows=6)
    sentences = [f"Sentence number {n}." for n in range(30)]
    for n, event in enumerate(heard(*(f" {sentence}" for sentence in sentences))):
        terminal.update(LIVE, event, now_s=1.0 + n / 1000)
    assert terminal.finish() == [f"Agent: {sentence}" for sentence in sentences]


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


@pytest.mark.parametrize("columns", [20, 60, 80, 120])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_harmless(columns: int, text: str) -> None:
    terminal = Terminal(columns)
    for event in told_by_anyone(text):
        terminal.painter.update([LIVE, event], 1.0)
    terminal.painter.finish([])
    written = terminal.written.getvalue()
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l")
    left = re.sub(OURS, "", written)
    assert not any(forbidden in left for forbidden in "\x1b\x07\x00\b\x9b\u202e\u2066\u200b")
    shown = re.sub(r"\s", "", left)
    if text.isascii() and text.isprintable():
        assert text.replace(" ", "") in shown


@settings(deadline=None, max_examples=12)
@given(st.lists(st.text(max_size=30), max_size=5), st.integers(1, 130))
def test_no_text_stops_the_painter(pieces: list[str], columns: int) -> None:
    terminal = Terminal(columns)
    for piece in pieces:
        terminal.painter.update([LIVE, AgentText(1.0, piece), Notice(1.0, piece)], 1.0)
    terminal.painter.finish(pieces)
    assert terminal.written.getvalue().rfind("\x1b[?25h") > terminal.written.getvalue().rfind("\x1b[?25l")


def test_what_arrives_is_dim_and_what_was_heard_is_bright(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal(80)
    terminal.painter.update([LIVE, AgentText(1.0, " Hello there")], 1.0)
    assert "\x1b[2mHello there\x1b[0m" in terminal.written.getvalue()
    terminal.look()
    terminal.painter.update([TextHeard(1.1, 6, True)], 1.1)
    assert re.search(r"Agent: \x1b\[0mHello\x1b\[2m there\x1b\[0m", terminal.written.getvalue())
    terminal.look()
    terminal.painter.update([TextHeard(1.2, 12, False)], 1.2)
    assert terminal.finish() == ["Agent: Hello [not heard: there]"]


def test_sentences_and_turns_stand_in_the_order_in_which_they_were_spoken() -> None:
    terminal = Terminal(60)
    terminal.update(LIVE, *heard(" How are you?"))
    terminal.update(Speaking(1.1, Side.USER, True))
    terminal.update(TurnEnded(2.0, Turn(Side.USER, 1.1, 1.9, TurnKind.TURN, 0.0)), now_s=2.0)
    terminal.update(AgentText(2.1, " Good. Then"), TextHeard(2.1, 24, True), now_s=2.1)
    assert terminal.finish() == [
        "Agent: How are you?",
        "You:   (0:00: spoke for 0.8 s)",
        "Agent: Good.",
        "Agent: Then",
    ]


def test_a_new_call_is_told_in_between() -> None:
    terminal = Terminal(60)
    rows = terminal.update(LIVE, *heard(" Hello"), CalledAgain(5.0), now_s=8.0)
    assert rows == [
        "Agent: Hello",
        "new call: the agent remembers nothing of what was said",
        "       before",
        "connecting · 0:03 · NATF0",
    ]


# --- a paste, and the terminal in others' hands


def test_pasted_text_comes_marked_exactly_while_there_is_a_live_area() -> None:
    terminal = Terminal(80, fixed=Fixed(keys=(("m", "mute"),)))
    for _ in range(2):
        terminal.painter.update([LIVE], 1.0)
        terminal.painter.update([], 5.0)
        terminal.painter.leave(["Suspended."])
        terminal.painter.leave([])
    terminal.painter.update([], 9.0)
    terminal.painter.finish(["Call ended."])
    terminal.painter.give_up([])
    switches = re.findall("\x1b\\[\\?(2004[hl]|25[hl])", terminal.written.getvalue())
    assert [switch for switch in switches if switch.startswith("2004")] == ["2004h", "2004l"] * 3
    assert switches[-1] == "25h"


def test_where_no_keys_are_read_a_paste_is_left_alone() -> None:
    terminal = Terminal(80)
    terminal.painter.update([LIVE], 1.0)
    terminal.painter.finish([])
    assert "2004" not in terminal.written.getvalue()


def test_leaving_takes_the_live_area_away_and_coming_back_shows_it_again() -> None:
    terminal = Terminal(80)
    terminal.update(LIVE, *heard(" One. Two"))
    terminal.painter.leave(["Suspended."])
    assert terminal.look() == ["Agent: One.", "Suspended."]
    assert not terminal.cursor_hidden
    rows = terminal.update(Notice(1.1, "Meanwhile."))
    assert rows[:4] == ["Agent: One.", "Suspended.", "note:  Meanwhile.", "Agent: Two"]
    assert rows[-1] == "live · 0:00 · NATF0"
    assert terminal.cursor_hidden


@pytest.mark.parametrize(("columns", "rows"), [(120, 30), (60, 24), (20, 6), (80, 2), (81, 24)])
def test_after_a_resize_the_area_fits_the_window(columns: int, rows: int) -> None:
    terminal = Terminal(80)
    terminal.update(LIVE, AgentText(1.0, "A sentence of some length that fills more than half of a row."))
    terminal.console.size = (columns, rows)
    terminal.painter.update([], 1.0)
    drawn = re.sub(OURS, "", terminal.written.getvalue()).replace("\r", "").split("\n")
    assert 1 <= len(drawn) <= max(1, rows - 1)
    assert all(len(row) <= columns for row in drawn)


def test_a_choice_is_drawn_below_the_call_and_taken_away() -> None:
    terminal = Terminal(60)
    rows = terminal.update(LIVE, PromptChanged(1.0, Choice("Devices", ("one", "two"), 1)))
    assert rows[2:] == ["Devices", "  1  one", "❯ 2  two", "Up and down, Enter takes, Esc leaves"]
    assert len(terminal.update(PromptChanged(1.1, None))) == 2


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
    painter = LivePainter(terminal_console(_Gone()), Fixed("NATF0"))
    with pytest.raises(BrokenPipeError, match="has gone"):
        painter.update([LIVE], 1.0)
    painter.give_up(["Call ended."])
