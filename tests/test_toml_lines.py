from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli.toml_lines import lines_of_keys

FILE = '''\
# first

voice = "NATM1"  # a comment
persona = """
[not a table]
voice = "nor a key"
"""
list = [
  1, # ]
  2,
]
"quoted key" = 1
profiles.work.voice = 'x'

[profiles.home]  # [profiles.none]
voice = "y"
inline = {a = 1, b = {c = 2}}

  [ profiles . "odd one" ]
max_buffer = 1

[[many]]
one = 1
[[many]]
two = 2
'''


def test_each_key_is_found_where_it_begins() -> None:
    assert lines_of_keys(FILE) == {
        ("voice",): 3,
        ("persona",): 4,
        ("list",): 8,
        ("quoted key",): 12,
        ("profiles",): 13,
        ("profiles", "work"): 13,
        ("profiles", "work", "voice"): 13,
        ("profiles", "home"): 15,
        ("profiles", "home", "voice"): 16,
        ("profiles", "home", "inline"): 17,
        ("profiles", "home", "inline", "a"): 17,
        ("profiles", "home", "inline", "b"): 17,
        ("profiles", "home", "inline", "b", "c"): 17,
        ("profiles", "odd one"): 19,
        ("profiles", "odd one", "max_buffer"): 20,
        ("many",): 22,
        ("many", "one"): 23,
        ("many", "two"): 25,
    }


def test_line_breaks_of_windows_count_once() -> None:
    assert lines_of_keys(FILE.replace("\n", "\r\n")) == lines_of_keys(FILE)


@pytest.mark.parametrize("text", ["", "\n\n# nothing\n"])
def test_nothing_is_nowhere(text: str) -> None:
    assert lines_of_keys(text) == {}


def test_an_absurd_value_takes_no_absurd_time() -> None:
    text = 'first = 1\nlong = """\n' + "word\n" * 40_000 + '"""\nlast = 1\n'
    began_s = time.monotonic()
    assert lines_of_keys(text) == {("first",): 1}
    assert time.monotonic() - began_s < 10  # it would be many minutes


KEYS = st.sampled_from(["a", "b", "c d", "#", "[x]", 'e"f', "é", "1"])
VALUES = st.one_of(
    st.integers(-5, 5),
    st.booleans(),
    st.sampled_from(["x", "# no comment", "[t]", "two\nlines\n[a]\nb = 1", '"""', "'''", "\\"]),
    st.lists(st.integers(0, 3), max_size=3),
)
TABLES = st.dictionaries(
    KEYS, st.one_of(VALUES, st.dictionaries(KEYS, VALUES, min_size=1, max_size=3)), max_size=5
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(TABLES, st.integers(0, 3))
def test_whatever_is_written_is_found(table: dict[str, Any], n_blank: int) -> None:
    """What stands up to the line before has not got the key yet, and what stands from there on begins with
    it."""
    text = "\n" * n_blank + tomlkit.dumps(table)
    lines = text.split("\n")
    found = lines_of_keys(text)
    assert set(found) == set(places(tomllib.loads(text)))
    for place, line in found.items():
        before = tomllib.loads("\n".join(lines[: line - 1]))
        assert place not in set(places(before))


def places(table: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        yield (key,)
        if isinstance(value, Mapping):
            yield from ((key, *place) for place in places(value))
