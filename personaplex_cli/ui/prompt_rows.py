"""What is asked below the transcript → rows of a terminal. Pure."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from personaplex_cli.ui.editor import is_boundary
from personaplex_cli.ui.look import Glyphs
from personaplex_cli.ui.prompt import Choice, Help, Prompt, TypedLine
from personaplex_cli.wire.text import safe_text

_TYPED_LABEL: Final = "Type:  "
_TYPED_KEYS: Final = "Enter sends, Esc leaves"
_CHOICE_KEYS: Final = "Up and down, Enter takes, Esc leaves"
_HELP_KEYS: Final = "Any key goes on"


def prompt_rows(prompt: Prompt, console: Console, room: int, glyphs: Glyphs) -> list[Text]:
    """At most `room` rows; each may be wider than the console: what matters stands at its beginning."""
    match prompt:
        case TypedLine():
            return [_typed_row(prompt, console.width, glyphs), Text(_TYPED_KEYS, "dim")][:room]
        case Choice():
            return _choice_rows(prompt, room, glyphs)
        case Help(rows):
            return _help_rows(rows, console, room)


def _typed_row(prompt: TypedLine, width: int, glyphs: Glyphs) -> Text:
    """The part of the line around the cursor that there is room for."""
    text = safe_text(prompt.text)  # as long as before
    begin = prompt.cursor
    end = begin + 1
    while not is_boundary(text, end):
        end += 1
    before, at, after = text[:begin], text[begin:end], text[end:]
    room = max(1, width - len(_TYPED_LABEL) - max(1, cell_len(at)))
    if cell_len(before) > room:
        while before and cell_len(before) + len(glyphs.cut) > room:
            before = before[max(1, (cell_len(before) + len(glyphs.cut) - room) // 2) :]
        before = glyphs.cut + before
    return Text.assemble((_TYPED_LABEL, "bold"), before, (at or " ", "reverse"), after)


def _choice_rows(choice: Choice, room: int, glyphs: Glyphs) -> list[Text]:
    """The title, as many options around the selected one as there is room for, the keys."""
    around = room - 2 if room > 2 else room
    first = min(max(0, choice.selected - around // 2), max(0, len(choice.options) - around))
    digits = len(str(len(choice.options)))
    rows: list[Text] = []
    for number, option in list(enumerate(choice.options))[first : first + around]:
        selected = number == choice.selected
        mark = glyphs.selected if selected else " " * len(glyphs.selected)
        text = f"{mark}{number + 1:{digits}}  {safe_text(option)}"
        rows.append(Text(text, "bold" if selected else ""))
    return [Text(safe_text(choice.title), "bold"), *rows, Text(_CHOICE_KEYS, "dim")] if room > 2 else rows


def _help_rows(keys: tuple[tuple[str, str], ...], console: Console, room: int) -> list[Text]:
    """Each key with all that is said about it if there is room for that, else with the beginning of it."""
    wide = max(len(key) for key, _ in keys) + 2
    rows: list[Text] = []
    for key, does in keys:
        label = Text(key.ljust(wide), "bold")
        for line in Text(safe_text(does)).wrap(console, max(1, console.width - wide)):
            rows.append(Text.assemble(label, line))
            label = Text(" " * wide)
    if len(rows) >= room:
        rows = [Text.assemble((key.ljust(wide), "bold"), safe_text(does)) for key, does in keys]
    return [*rows[: room - 1], Text(_HELP_KEYS, "dim")]
