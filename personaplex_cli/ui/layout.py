"""View state → rows of a terminal. Pure: the console is only asked for its width, height and encoding.

Colours are left to the terminal's own sixteen, and few of them, so that light and dark backgrounds both do;
what a colour says is said by a character too. Texts are `Text` objects throughout: nothing is read as markup.
"""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.text import Text

from personaplex_cli.ui.lines import Line, LineKind
from personaplex_cli.ui.look import ASCII, UNICODE, Fixed, Glyphs
from personaplex_cli.ui.prompt_rows import prompt_rows
from personaplex_cli.ui.status import status_row
from personaplex_cli.ui.view import Meter, ViewState

_LABEL_CELLS: Final = 7
_HANGING_MIN_CELLS: Final = 40
"""In narrower windows the room beside a hanging indent is too small to read in."""

_RUNNING_MAX_ROWS: Final = 3
_METER_MAX_CELLS: Final = 24
_MARK_CELLS: Final = 2
_METER_FLOOR_DBFS: Final = -60.0
"""An empty meter: a quiet room."""

KEYS_MIN_ROWS: Final = 12
"""In lower windows the transcript has more need of the row than the keys."""

_STYLES: Final = {
    LineKind.AGENT: "bold magenta",
    LineKind.USER: "bold",
    LineKind.NOTICE: "dim",
    LineKind.ERROR: "bold red",
    LineKind.NEW_CALL: "bold",
}


def line_rows(line: Line, console: Console) -> list[Text]:
    """A finished line, wrapped to the console's width."""
    dim = line.kind is LineKind.NOTICE or line.aside
    parts = ((text, "" if heard and not dim else "dim") for text, heard in line.parts())
    return _labelled(line.kind, Text.assemble(*parts), console)


def area_rows(state: ViewState, now_s: float, fixed: Fixed, console: Console) -> list[Text]:
    """The live area at `now_s` (the call's clock): the running sentence, the meters, the status, and what is
    asked or the keys.

    As many rows as the window has room for, less one, so that the area can be drawn over; at least one.
    """
    glyphs = ASCII if console.options.ascii_only else UNICODE
    room = max(1, console.height - 1)
    rows = _running_rows(state, console, glyphs)
    if state.live_since_s is not None:
        rows.append(_meter_row(state, now_s, fixed.other_side, console.width, glyphs))
    rows.append(status_row(state, now_s, fixed, console.width, glyphs.dot))
    if state.prompt is not None:
        rows += prompt_rows(state.prompt, console, max(1, room - 2), glyphs)
    elif fixed.keys and console.height >= KEYS_MIN_ROWS:
        rows.append(_keys_row(fixed.keys, console.width, glyphs))
    for row in rows:
        row.truncate(console.width)
    return rows[-room:]


def _running_rows(state: ViewState, console: Console, glyphs: Glyphs) -> list[Text]:
    """What was heard is bright, what has only arrived is dim."""
    if not state.running.strip():
        return []
    text = Text(state.running)
    text.stylize("dim", state.heard_chars)
    for begin, end in state.unheard:
        text.stylize("dim", max(0, begin - state.running_from), end - state.running_from)
    text = text[len(state.running) - len(state.running.lstrip()) :]
    rows = _labelled(LineKind.AGENT, text, console)
    if len(rows) <= _RUNNING_MAX_ROWS:
        return rows
    rows = rows[-_RUNNING_MAX_ROWS:]
    # A row of its own width may be full: the sign that the beginning is above takes the place of its first
    # characters, which are seen again when the sentence is finished.
    rows[0] = Text.assemble((glyphs.cut, "dim"), rows[0][len(glyphs.cut) :])
    return rows


def _labelled(kind: LineKind, body: Text, console: Console) -> list[Text]:
    label = Text(f"{kind}: ", style=_STYLES[kind])
    if console.width < _HANGING_MIN_CELLS:
        return list(Text.assemble(label, body).wrap(console, console.width, overflow="fold"))
    cells = max(_LABEL_CELLS, len(label))
    label.pad_right(cells - len(label))
    indent = Text(" " * _LABEL_CELLS)
    lines = body.wrap(console, console.width - cells, overflow="fold")
    return [Text.assemble(label if i == 0 else indent, line) for i, line in enumerate(lines)]


def _meter_row(state: ViewState, now_s: float, other_side: str, width: int, glyphs: Glyphs) -> Text:
    # Meters begin where texts do, when there is room for that.
    user_label = "You:".ljust(_LABEL_CELLS if width >= _HANGING_MIN_CELLS else len("You: "))
    other_label = f"{other_side}: "
    gap = "  "
    beside_meters = len(user_label) + _MARK_CELLS + len(gap) + len(other_label) + _MARK_CELLS
    cells = max(1, min(_METER_MAX_CELLS, (width - beside_meters) // 2))
    return Text.assemble(
        *_meter(user_label, LineKind.USER, state.user, now_s, cells, glyphs),
        gap,
        *_meter(other_label, LineKind.AGENT, state.agent, now_s, cells, glyphs),
    )


def _meter(
    label: str, kind: LineKind, meter: Meter, now_s: float, cells: int, glyphs: Glyphs
) -> list[tuple[str, str]]:
    full = round(cells * min(1.0, max(0.0, 1 - meter.dbfs / _METER_FLOOR_DBFS)))
    style = _STYLES[kind] if meter.speaks else "dim"
    clipped = meter.clipped(now_s)
    mark = glyphs.clipped if clipped else glyphs.speaks if meter.speaks else ""
    return [
        (label, style),
        (glyphs.full * full, style),
        (glyphs.empty * (cells - full), "dim"),
        (f" {mark}".ljust(_MARK_CELLS), "bold red" if clipped else style),
    ]


def _keys_row(keys: tuple[tuple[str, str], ...], width: int, glyphs: Glyphs) -> Text:
    """As many as there is room for."""
    row = Text()
    for key, does in keys:
        one = Text.assemble((glyphs.dot if row else "", "dim"), key, (f" {does}", "dim"))
        if row.cell_len + one.cell_len > width:
            break
        row.append_text(one)
    return row
