"""How the results of `personaplex doctor` look: on a terminal, in a pipe, to a screen reader, as JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TextIO

from rich.console import Console
from rich.text import Text

from personaplex_cli.cli.output import print_text
from personaplex_cli.doctor.check import Result, Status, exit_code
from personaplex_cli.errors import ExitCode
from personaplex_cli.wire.text import safe_text

JSON_VERSION: Final = 1
"""Raised when a program that reads the JSON has to change; new checks and figures are no such change."""

MAX_WIDTH: Final = 100
TITLE_WIDTH: Final = 17
SPACIOUS: Final = 60
"""Columns from which titles stand beside their texts."""

MARKS: Final = {Status.OK: "✓", Status.WARNING: "!", Status.FAILURE: "✗", Status.SKIPPED: "-"}
ASCII_MARKS: Final = {Status.OK: "+", Status.WARNING: "!", Status.FAILURE: "x", Status.SKIPPED: "-"}
WORDS: Final = {
    Status.OK: "ok:",
    Status.WARNING: "warning:",
    Status.FAILURE: "problem:",
    Status.SKIPPED: "skipped:",
}
"""For screen readers."""

_STYLES: Final = {
    Status.OK: "green",
    Status.WARNING: "yellow",
    Status.FAILURE: "red",
    Status.SKIPPED: "dim",
}
_NOT_FOR_LOCAL: Final = {"configuration", "key", "token", "clock", "server"}
"""Checks that a call with --local does without."""


def painter(stream: TextIO, plain: bool) -> Callable[[Result], None]:
    """Prints one result: on a terminal in columns, folded to fit; elsewhere each line as it is."""
    columns = None if plain else _columns(stream)
    marks = WORDS if plain else _marks(stream)

    def show(result: Result) -> None:
        finding, title = result.finding, result.check.title
        lines = [safe_text(finding.text), *map(safe_text, finding.hint.splitlines())]
        if columns is not None:
            _print_folded(stream, marks[finding.status], finding.status, title, lines, columns)
        else:
            hints = [f"  {line}" for line in lines[1:]]
            print_text("\n".join([f"{marks[finding.status]} {title}: {lines[0]}", *hints]))

    return show


def described(results: Sequence[Result]) -> dict[str, Any]:
    """For JSON."""
    code = exit_code(results)
    return {
        "version": JSON_VERSION,
        "ready": code is ExitCode.OK,
        "exit_code": int(code),
        "checks": [
            {
                "check": result.check.name,
                "status": str(result.finding.status),
                "text": safe_text(result.finding.text),
                "hint": "\n".join(map(safe_text, result.finding.hint.splitlines())) or None,
                "figures": result.finding.figures,
            }
            for result in results
        ],
    }


def summary(results: Sequence[Result]) -> str:
    """The last lines."""
    failed = [result.check for result in results if result.finding.status is Status.FAILURE]
    if not failed:
        return "\nA call would work."
    titles = ", ".join(check.title for check in failed)
    text = f"\nA call would not work yet. {'Problem' if len(failed) == 1 else 'Problems'}: {titles}."
    if {check.name for check in failed} <= _NOT_FOR_LOCAL:
        text += "\nThis works now, without key and server: personaplex talk --local"
    return text


def _print_folded(
    stream: TextIO, mark: str, status: Status, title: str, lines: Sequence[str], columns: int
) -> None:
    """What is too wide goes on below its own beginning, so that marks stand by themselves."""
    console = Console(file=stream, width=columns, highlight=False)
    style = "" if os.environ.get("NO_COLOR") else _STYLES[status]
    beside = columns >= SPACIOUS
    margin = 2 + (TITLE_WIDTH if beside else 0)
    head = Text.assemble((mark, style), f" {title.ljust(TITLE_WIDTH)}" if beside else " ")
    if not beside:
        lines = [f"{title}: {lines[0]}", *lines[1:]]
    for number, (indent, row) in enumerate(_folded(console, lines, min(columns, MAX_WIDTH) - margin)):
        begin = head if number == 0 else Text(" " * (margin + indent))
        console.print(Text.assemble(begin, row), soft_wrap=True)


def _folded(console: Console, lines: Sequence[str], width: int) -> Iterator[tuple[int, Text]]:
    """Each row with how far it is indented: the lines after the first one, hints, are."""
    for number, line in enumerate(lines):
        indent = 2 if number else 0
        for row in Text(line).wrap(console, max(10, width - indent)):
            row.rstrip()
            yield indent, row


def _columns(stream: TextIO) -> int | None:
    """None where it is no terminal."""
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _marks(stream: TextIO) -> dict[Status, str]:
    try:
        "".join(MARKS.values()).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_MARKS
    return MARKS
