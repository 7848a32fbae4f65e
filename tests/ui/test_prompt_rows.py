from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from personaplex_cli.cli.bindings import help_rows
from personaplex_cli.ui.editor import is_boundary
from personaplex_cli.ui.look import UNICODE
from personaplex_cli.ui.prompt import Choice, Help, Prompt, TypedLine
from personaplex_cli.ui.prompt_rows import prompt_rows

WIDTHS = [20, 40, 60, 80, 120]
FAMILY = "👩\u200d👩\u200d👧"


def rows(prompt: Prompt, columns: int, room: int = 20) -> list[Text]:
    shown = prompt_rows(prompt, Console(file=io.StringIO(), width=columns), room, UNICODE)
    assert len(shown) <= room
    return shown


def cursor(row: Text) -> tuple[str, int, int]:
    """What stands under the cursor, and the cells before it and up to its end."""
    [span] = [span for span in row.spans if "reverse" in str(span.style)]
    return row.plain[span.start : span.end], row[: span.start].cell_len, row[: span.end].cell_len


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize(
    "text",
    ["你好世界" * 40, "word " * 60, "e\u0301" * 100, FAMILY * 40, "a你" * 80],
    ids=["wide", "words", "marks", "joined", "mixed"],
)
def test_the_cursor_is_in_the_window_wherever_it_is_in_the_line(columns: int, text: str) -> None:
    for at in [at for at in range(len(text) + 1) if is_boundary(text, at)][::5]:
        shown, before, end = cursor(rows(TypedLine(text, at), columns)[0])
        assert len("Type:  ") <= before < end <= columns
        assert shown == " " if at == len(text) else shown[0] == text[at]


def test_as_much_of_the_line_as_fits_is_shown_before_the_cursor() -> None:
    assert rows(TypedLine("Hello", 5), 40)[0].plain == "Type:  Hello "
    assert rows(TypedLine("x" * 100, 100), 40)[0].plain == f"Type:  …{'x' * 31} "
    wide = rows(TypedLine("你" * 100, 100), 40)[0]
    assert wide.plain == f"Type:  …{'你' * 15} "
    assert cursor(rows(TypedLine("Hello", 1), 40)[0])[0] == "e"


def test_the_cursor_takes_in_all_of_a_character() -> None:
    assert cursor(rows(TypedLine(f"a{FAMILY}b", 1), 40)[0])[0] == FAMILY
    assert cursor(rows(TypedLine("e\u0301a", 0), 40)[0])[0] == "e\u0301"


def test_what_is_typed_is_made_harmless() -> None:
    assert rows(TypedLine("a\x1b[2J\u202eb", 3), 40)[0].plain == "Type:  a\ufffd[2J\ufffdb"
    assert rows(TypedLine("[bold]", 6), 40)[0].plain == "Type:  [bold] "


def choice(n_options: int, selected: int) -> Choice:
    return Choice("Devices", tuple(f"Device {n}" for n in range(1, n_options + 1)), selected)


def test_a_short_choice() -> None:
    assert [row.plain for row in rows(choice(3, 1), 40)] == [
        "Devices",
        "  1  Device 1",
        "❯ 2  Device 2",
        "  3  Device 3",
        "Up and down, Enter takes, Esc leaves",
    ]


@pytest.mark.parametrize("room", range(1, 12))
def test_the_selected_option_is_shown_however_long_the_list(room: int) -> None:
    for selected in range(30):
        shown = [row.plain for row in rows(choice(30, selected), 40, room)]
        assert [row for row in shown if row.startswith("❯")] == [f"❯ {selected + 1:2}  Device {selected + 1}"]
        assert len(shown) == room
        assert ("Devices" in shown) == (room > 2)


def test_help_says_all_that_there_is_room_for() -> None:
    keys = help_rows({"microphone", "speaker", "device"})
    for columns, room in ((80, 20), (60, 20), (120, 13), (40, 30)):
        shown = [row.plain for row in rows(Help(keys), columns, room)]
        assert max(len(row) for row in shown) <= columns
        words = " ".join(" ".join(shown).split())
        assert all(" ".join(does.split()[-1:]) in words for _, does in keys)
        assert shown[-1] == "Any key goes on"


@pytest.mark.parametrize("columns", WIDTHS)
def test_help_in_a_low_window_shows_the_beginning_of_every_key(columns: int) -> None:
    keys = help_rows({"microphone", "speaker", "device"})
    shown = [row.plain for row in rows(Help(keys), columns, len(keys) + 1)]
    assert [row[:5].strip() for row in shown[:-1]] == [key for key, _ in keys]
    assert len(rows(Help(keys), columns, 4)) == 4
