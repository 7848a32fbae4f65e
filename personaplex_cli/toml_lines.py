"""In which line of a TOML text each key stands, which tomllib does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

Place: TypeAlias = tuple[str, ...]
"""A key with the tables that it is in: ("profiles", "work", "voice")."""

_WORK_LIMIT_CHARS: Final = 2_000_000
"""Parsed at most. A value of n lines is tried n times, so an absurd one would take for ever."""


def lines_of_keys(text: str) -> dict[Place, int]:
    """For each key and table of `text`, which is valid TOML, the line (from 1) in which it begins. Where the
    text is absurdly long, some are missing.

    Statements are told apart by trying: from where one begins, the first lines that are TOML by themselves
    are the whole of it.
    """
    found: dict[Place, int] = {}
    table: Place = ()
    statement, begin, work = "", 1, 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        statement += f"{line}\n"
        work += len(statement)
        if work > _WORK_LIMIT_CHARS:
            break
        try:
            said = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:  # it goes on in the next line
            continue
        is_header = statement.lstrip().startswith("[")
        places = list(_places(said))
        for place in places:
            found.setdefault(place if is_header else table + place, begin)
        table = places[-1] if is_header else table
        statement, begin = "", number + 1
    return found


def _places(table: Mapping[str, Any]) -> Iterator[Place]:
    for key, value in table.items():
        yield (key,)
        inner = value[0] if isinstance(value, list) and value else value  # [[key]] is a list of tables
        if isinstance(inner, Mapping):
            yield from ((key, *place) for place in _places(inner))
