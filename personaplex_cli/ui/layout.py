"""View state → rows of a terminal. Pure: the console is only asked for its width, height and encoding.

Colours are left to the terminal's own sixteen, and few of them, so that light and dark backgrounds both do;
what a colour says is said by a character too. Texts are `Text` objects throughout: nothing is read as markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.text import Text

from personaplex_cli.ui.view import Line, LineKind, ViewState, elapsed_text

_LABEL_CELLS: Final = 7
_HANGING_MIN_CELLS: Final = 40
"""In narrower windows the room beside a hanging indent is too small to read in."""

_RUNNING_MAX_ROWS: Final = 3
_METER_MAX_CELLS: Final = 24
_MARK_CELLS: Final = 2
_METER_FLOOR_DBFS: Final = -60.0
"""An empty meter: a quiet room."""

_STYLES: Final = {
    LineKind.AGENT: "bold magenta",
    LineKind.USER: "bold",
    LineKind.NOTICE: "dim",
    LineKind.ERROR: "bold red",
    LineKind.NEW_CALL: "bold",
}


@dataclass(frozen=True, slots=True)
class _Glyphs:
    full: str
    empty: str
    speaks: str
    dot: str
    cut: str


_UNICODE: Final = _Glyphs(full="━", empty="─", speaks="●", dot=" · ", cut="…")
_ASCII: Final = _Glyphs(full="=", empty="-", speaks="*", dot=" - ", cut="...")


def line_rows(line: Line, console: Console) -> list[Text]:
    """A finished line, wrapped to the console's width."""
    return _labelled(line.kind, line.text, console)


def area_rows(state: ViewState, now_s: float, voice: str, console: Console) -> list[Text]:
    """The live area at `now_s` (the call's clock): the running sentence, the meters, the status.

    As many rows as the window has room for, less one, so that the area can be drawn over; at least one.
    """
    glyphs = _ASCII if console.options.ascii_only else _UNICODE
    rows = _running_rows(state.running.strip(), console, glyphs) if state.running.strip() else []
    if state.live_since_s is not None:
        rows.append(_meter_row(state, now_s, console.width, glyphs))
    rows.append(_status_row(state, now_s, voice, glyphs))
    for row in rows:
        row.truncate(console.width)
    return rows[-max(1, console.height - 1) :]


def _running_rows(text: str, console: Console, glyphs: _Glyphs) -> list[Text]:
    rows = _labelled(LineKind.AGENT, text, console)
    if len(rows) <= _RUNNING_MAX_ROWS:
        return rows
    rows = rows[-_RUNNING_MAX_ROWS:]
    # A row of its own width may be full: the sign that the beginning is above takes the place of its first
    # characters, which are seen again when the sentence is finished.
    rows[0] = Text.assemble((glyphs.cut, "dim"), rows[0][len(glyphs.cut) :])
    return rows


def _labelled(kind: LineKind, text: str, console: Console) -> list[Text]:
    label = Text(f"{kind}: ", style=_STYLES[kind])
    body = Text(text, style="dim" if kind is LineKind.NOTICE else "")
    if console.width < _HANGING_MIN_CELLS:
        return list(Text.assemble(label, body).wrap(console, console.width, overflow="fold"))
    label.pad_right(_LABEL_CELLS - len(label))
    indent = Text(" " * _LABEL_CELLS)
    lines = body.wrap(console, console.width - _LABEL_CELLS, overflow="fold")
    return [Text.assemble(label if i == 0 else indent, line) for i, line in enumerate(lines)]


def _meter_row(state: ViewState, now_s: float, width: int, glyphs: _Glyphs) -> Text:
    # Meters begin where texts do, when there is room for that.
    user_label = "you:".ljust(_LABEL_CELLS if width >= _HANGING_MIN_CELLS else len("you: "))
    gap = "  "
    beside_meters = len(user_label) + _MARK_CELLS + len(gap) + len("agent: ") + _MARK_CELLS
    cells = max(1, min(_METER_MAX_CELLS, (width - beside_meters) // 2))
    return Text.assemble(
        *_meter(user_label, LineKind.USER, state.user_dbfs, state.user_speaks(now_s), cells, glyphs),
        gap,
        *_meter("agent: ", LineKind.AGENT, state.agent_dbfs, state.agent_speaks(now_s), cells, glyphs),
    )


def _meter(
    label: str, kind: LineKind, dbfs: float, speaks: bool, cells: int, glyphs: _Glyphs
) -> list[tuple[str, str]]:
    full = round(cells * min(1.0, max(0.0, 1 - dbfs / _METER_FLOOR_DBFS)))
    style = _STYLES[kind] if speaks else "dim"
    return [
        (label, style),
        (glyphs.full * full, style),
        (glyphs.empty * (cells - full), "dim"),
        ((f" {glyphs.speaks}" if speaks else "").ljust(_MARK_CELLS), style),
    ]


def _status_row(state: ViewState, now_s: float, voice: str, glyphs: _Glyphs) -> Text:
    rest = [elapsed_text(state.elapsed_s(now_s)), *([voice] if voice else [])]
    return Text.assemble(str(state.state), (glyphs.dot + glyphs.dot.join(rest), "dim"))
