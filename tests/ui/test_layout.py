from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from personaplex_cli.events import (
    AgentText,
    CallState,
    Event,
    Levels,
    Speaking,
    StateChanged,
    TextHeard,
)
from personaplex_cli.turns import Side
from personaplex_cli.ui import layout, view
from personaplex_cli.ui.lines import Line, LineKind
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.prompt import Choice, Help, Prompt, PromptChanged, TypedLine

LIVE = StateChanged(1.0, CallState.LIVE)
LONG = " ".join(f"word{n}" for n in range(60))
HOSTILE = [
    LONG,
    "[bold]not bold[/bold] [/foo] :smile:",
    "x" * 10_000,
    "你好世界" * 100,
    "👩‍👩‍👧‍👦🇩🇪e\u0301" * 50,
    "שלום עולם " * 30,
    "\u202eevil\x00\r\n\b",
    "\x1b[2J\x1b]0;title\x07",
    "\u200d" * 500,
    "a" + "\u0301" * 500,
]
PROMPTS: list[Prompt] = [
    *(TypedLine(text, cursor) for text in HOSTILE for cursor in {0, len(text) // 2, len(text)}),
    *(Choice(text[:100], tuple(HOSTILE), n) for n, text in enumerate(HOSTILE)),
    Help((("space", LONG), ("m", "Mutes."))),
]
KEYS = Fixed("NATF0", keys=(("m", "mute"), ("t", "type"), ("q", "hang up"), ("?", "help")))


def rows(
    columns: int,
    *events: Event,
    now_s: float = 1.0,
    height: int = 24,
    fixed: Fixed = KEYS,
    encoding: str = "utf-8",
) -> list[Text]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=stream, width=columns, height=height, color_system=None)
    state = view.ViewState()
    for event in events:
        state = view.reduce(state, event)
    return layout.area_rows(state, now_s, fixed, console)


def area(columns: int, *events: Event, now_s: float = 1.0, height: int = 24) -> list[str]:
    """Without the keys."""
    fixed = Fixed("NATF0")
    return [row.plain.rstrip() for row in rows(columns, *events, now_s=now_s, height=height, fixed=fixed)]


def finished(columns: int, line: Line) -> list[Text]:
    return layout.line_rows(line, Console(file=io.StringIO(), width=columns, color_system=None))


def dim(row: Text) -> str:
    """What of it is dim."""
    return "".join(
        char
        for at, char in enumerate(row.plain)
        if any("dim" in str(s.style) and s.start <= at < s.end for s in row.spans)
    )


def test_before_the_call_is_live_only_the_status_shows() -> None:
    assert area(80, StateChanged(0.2, CallState.CONNECTING), now_s=4.0) == ["connecting · 0:04 · NATF0"]


def test_meters_and_status() -> None:
    events = [LIVE, Levels(63.0, -30.0, -60.0), Speaking(63.0, Side.USER, True)]
    assert area(80, *events, now_s=63.0) == [
        "You:   ━━━━━━━━━━━━──────────── ●  Agent: ────────────────────────",
        "live · 1:02 · NATF0",
    ]
    assert area(40, *events, now_s=63.0)[0] == "You:   ━━━━━───── ●  Agent: ──────────"
    both = [LIVE, Levels(1.0, 0.0, 0.0), *(Speaking(1.0, side, True) for side in Side)]
    assert area(20, *both) == ["You: ━ ●  Agent: ━ ●", "live · 0:00 · NATF0"]


@pytest.mark.parametrize(("dbfs", "full"), [(-96.0, 0), (-60.0, 0), (-45.0, 6), (0.0, 24), (3.0, 24)])
def test_meter_scale(dbfs: float, full: int) -> None:
    assert area(80, LIVE, Levels(1.0, dbfs, -96.0))[0].count("━") == full


def test_too_high_a_level_has_a_mark() -> None:
    clipped = [
        LIVE,
        Speaking(1.0, Side.USER, True),
        Levels(1.0, 0.0, -20.0, True, True),
        Levels(1.1, -60.0, -60.0),
    ]
    assert area(60, *clipped, now_s=1.9)[0] == f"You:   {'─' * 20} !  Agent: {'─' * 20} !"
    assert area(60, *clipped, now_s=2.1)[0] == f"You:   {'─' * 20} ●  Agent: {'─' * 20}"


def test_the_agents_text_is_dim_when_it_comes_and_bright_when_it_was_heard() -> None:
    text = AgentText(1.0, " Hello there my friend")
    arrived = rows(80, LIVE, text)[0]
    assert (arrived.plain, dim(arrived)) == ("Agent: Hello there my friend", "Hello there my friend")
    half = rows(80, LIVE, text, TextHeard(1.1, 6, True))[0]
    assert dim(half).strip() == "there my friend"
    assert dim(rows(80, LIVE, text, TextHeard(1.1, 22, True))[0]) == ""
    skipped = rows(
        80, LIVE, text, TextHeard(1.1, 6, True), TextHeard(1.1, 12, False), TextHeard(1.1, 22, True)
    )[0]
    assert dim(skipped).strip() == "there"


def test_what_was_skipped_across_the_end_of_a_sentence_is_dim_in_the_next_from_its_beginning() -> None:
    [row, *_] = rows(
        80,
        LIVE,
        AgentText(1.0, "Oh no. Not you again, please"),
        TextHeard(1.1, 10, False),
        TextHeard(1.2, 28, True),
    )
    assert (row.plain, dim(row).strip()) == ("Agent: Not you again, please", "Not")


def test_lines_that_are_not_speech_are_dim_and_so_is_what_was_not_heard() -> None:
    line = Line(LineKind.AGENT, "One two three", unheard=((4, 7),))
    [row] = finished(80, line)
    assert (row.plain, dim(row)) == ("Agent: One [not heard: two] three", "[not heard: two]")
    [row] = finished(80, Line(LineKind.USER, "(0:01: spoke for 2.3 s)", aside=True))
    assert dim(row) == "(0:01: spoke for 2.3 s)"
    [row] = finished(80, Line(LineKind.USER, "Hello"))
    assert (row.plain, dim(row)) == ("You:   Hello", "")


@pytest.mark.parametrize("kind", LineKind)
def test_a_finished_line_never_is_wider_than_the_window(kind: LineKind) -> None:
    for columns in (*range(8, 70, 3), 57, 120):
        shown = finished(columns, Line(kind, f"{LONG} 你好世界世界"))
        assert max(row.cell_len for row in shown) <= columns
        assert "".join("".join(row.plain for row in shown).split()).endswith("word59你好世界世界")


def test_running_sentence_is_wrapped_and_its_end_shown() -> None:
    shown = area(80, LIVE, AgentText(1.0, LONG))
    assert len(shown) == 5
    assert shown[0].startswith("…      ")
    assert shown[2].endswith("word59")
    assert area(80, LIVE, AgentText(1.0, "Hello there"))[0] == "Agent: Hello there"
    assert area(20, LIVE, AgentText(1.0, "Hello there, you"))[:2] == ["Agent: Hello there,", "you"]


@pytest.mark.parametrize(
    ("columns", "height"), [(1, 4), (5, 1), (20, 24), (20, 4), (40, 2), (80, 24), (120, 4)]
)
def test_the_area_is_never_wider_or_higher_than_the_window(columns: int, height: int) -> None:
    for text in HOSTILE:
        shown = rows(columns, LIVE, AgentText(1.0, text), height=height)
        assert 1 <= len(shown) <= max(1, height - 1)
        assert all(cell_len(row.plain) <= columns for row in shown)


@pytest.mark.parametrize(
    ("columns", "height"), [(20, 24), (20, 2), (40, 5), (60, 12), (80, 24), (120, 4), (120, 24)]
)
def test_prompts_never_are_wider_or_higher_than_the_window(columns: int, height: int) -> None:
    for prompt in PROMPTS:
        shown = rows(columns, LIVE, AgentText(1.0, LONG), PromptChanged(1.0, prompt), height=height)
        assert 1 <= len(shown) <= height - 1
        assert all(cell_len(row.plain) <= columns for row in shown)
        assert not any(char in row.plain for row in shown for char in "\x00\x07\x08\r\n\x1b\u202e")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_unicode_gets_ascii(encoding: str) -> None:
    choice = PromptChanged(1.0, Choice("Devices", ("one", "two"), 1))
    typed = PromptChanged(1.0, TypedLine("x" * 300, 200))
    for prompt in (None, choice, typed):
        events = [LIVE, AgentText(1.0, LONG), Levels(1.0, -10.0, 0.0, True), *([prompt] if prompt else [])]
        assert all(row.plain.isascii() for row in rows(80, *events, encoding=encoding))


def test_the_keys_stand_below_as_many_as_there_is_room_for() -> None:
    assert rows(80, LIVE)[-1].plain == "m mute · t type · q hang up · ? help"
    assert rows(35, LIVE)[-1].plain == "m mute · t type · q hang up"
    assert rows(20, LIVE)[-1].plain == "m mute · t type"


@pytest.mark.parametrize("height", [layout.KEYS_MIN_ROWS - 1, 3])
def test_a_low_window_has_no_row_for_the_keys(height: int) -> None:
    assert rows(80, LIVE, height=layout.KEYS_MIN_ROWS)[-1].plain.startswith("m mute")
    assert rows(80, LIVE, height=height)[-1].plain == "live · 0:00 · NATF0"


def test_what_is_asked_stands_in_place_of_the_keys() -> None:
    shown = [row.plain for row in rows(80, LIVE, PromptChanged(1.0, TypedLine("Hi", 2)))]
    assert shown[-2:] == ["Type:  Hi ", "Enter sends, Esc leaves"]
    assert not any("m mute" in row for row in shown)
    assert rows(80, LIVE, PromptChanged(1.0, TypedLine("Hi", 2)), PromptChanged(1.0, None)) == rows(80, LIVE)
