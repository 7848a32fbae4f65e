"""What commands print: results on stdout, everything that is said about them on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from personaplex_cli.errors import PersonaplexError, UsageError
from personaplex_cli.wire.text import safe_text


def print_text(text: str) -> None:
    """`text` and a line break, at once. Raises UsageError if stdout cannot be written.

    BrokenPipeError is let through: whoever read has gone, and Typer ends the program without a word.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        # The interpreter writes what is left when it exits, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UsageError(f"Standard output cannot be written: {error.strerror}.") from None


def print_json(value: Any) -> None:
    """`value` as ASCII, so that no terminal or pipe can spoil it."""
    import json

    print_text(json.dumps(value, indent=2))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """`rows`, at least one and all of equally many cells, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    print_text("\n".join(line.rstrip() for line in lines))


def print_note(text: str) -> None:
    _say("note", text)


def print_warning(text: str) -> None:
    _say("warning", text)


def print_error(error: PersonaplexError) -> None:
    _say("error", str(error))
    for line in (error.hint or "").splitlines():
        print(f"  {safe_text(line)}", file=sys.stderr)


def _say(label: str, text: str) -> None:
    """Made harmless: texts hold names of files, which can hold anything."""
    print(f"{label}: {safe_text(text)}", file=sys.stderr)
