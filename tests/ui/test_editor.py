from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli.ui.editor import MAX_HISTORY, MAX_LINE_CHARS, History, Line, is_boundary, press
from personaplex_cli.ui.keys import Char, Key, Paste, Pressed

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
ACCENTED = "e\u0301\u0323"
HEART = "\u2764\ufe0f"
THUMB = "\U0001f44d\U0001f3fd"
GERMANY, FRANCE = "\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7"
UNITS = [FAMILY, ACCENTED, HEART, THUMB, GERMANY, FRANCE, "नि", "x"]


def typed(keys: Iterable[Pressed], line: Line | None = None) -> Line:
    line = line or Line()
    for key in keys:
        line = press(line, key)
    return line


def chars(text: str) -> list[Pressed]:
    return [Char(char) for char in text]


def marked(text: str) -> Line:
    """ "ab|c" → the cursor behind the b."""
    before, _, after = text.partition("|")
    return Line(before + after, len(before))


def test_typing() -> None:
    assert typed(chars("Grüße 😀")) == marked("Grüße 😀|")
    assert typed([*chars("ac"), Key.LEFT, Char("b")]) == marked("ab|c")


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        ("ab|c", Key.LEFT, "a|bc"),
        ("|abc", Key.LEFT, "|abc"),
        ("ab|c", Key.RIGHT, "abc|"),
        ("abc|", Key.RIGHT, "abc|"),
        ("ab|c", Key.HOME, "|abc"),
        ("ab|c", Key.CTRL_A, "|abc"),
        ("a|bc", Key.END, "abc|"),
        ("a|bc", Key.CTRL_E, "abc|"),
        ("ab|c", Key.BACKSPACE, "a|c"),
        ("|abc", Key.BACKSPACE, "|abc"),
        ("a|bc", Key.DELETE, "a|c"),
        ("abc|", Key.DELETE, "abc|"),
        ("ab|c", Key.CTRL_K, "ab|"),
        ("ab|c", Key.CTRL_U, "|c"),
        ("say hello  wor|ld", Key.CTRL_W, "say hello  |ld"),
        ("say hello  |world", Key.CTRL_W, "say |world"),
        ("  |world", Key.CTRL_W, "|world"),
        ("|", Key.CTRL_W, "|"),
        *[("ab|c", key, "ab|c") for key in (Key.UP, Key.DOWN, Key.ENTER, Key.ESCAPE, Key.TAB)],
    ],
)
def test_keys(before: str, key: Key, after: str) -> None:
    assert press(marked(before), key) == marked(after)


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_seen_as_one_is_stepped_over_and_deleted_as_one(unit: str) -> None:
    line = typed(chars(f"a{unit}b"))
    left = typed([Key.LEFT, Key.LEFT], line)
    assert left == marked(f"a|{unit}b")
    assert press(left, Key.RIGHT) == marked(f"a{unit}|b")
    assert press(left, Key.DELETE) == marked("a|b")
    assert press(marked(f"a{unit}|b"), Key.BACKSPACE) == marked("a|b")


def test_flags_go_by_pairs() -> None:
    line = typed(chars(GERMANY + FRANCE))
    assert press(line, Key.LEFT) == marked(f"{GERMANY}|{FRANCE}")
    assert press(line, Key.BACKSPACE) == marked(f"{GERMANY}|")


def test_a_paste_is_put_in_at_once() -> None:
    assert press(marked("a|d"), Paste("bc")) == marked("abc|d")
    assert press(marked("|"), Paste("\none\n\ntwo\nthree\n")) == marked("one two three|")


def test_a_full_line_refuses_what_does_not_fit() -> None:
    line = press(Line("a" * (MAX_LINE_CHARS - 2), 1), Paste("bcd"))
    assert line == Line("abc" + "a" * (MAX_LINE_CHARS - 3), 3)
    assert press(line, Char("x")) == line
    assert press(line, Paste("x")) == line
    assert press(press(line, Key.BACKSPACE), Char("x")).text[1:4] == "bxa"


KEYS = st.one_of(
    st.sampled_from(list(Key)),
    st.sampled_from([*"ab ", *FAMILY, *ACCENTED, *HEART, *THUMB, *GERMANY]).map(Char),
    st.sampled_from([*UNITS, "\n", "two words"]).map(Paste),
)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(KEYS, max_size=40))
def test_the_cursor_is_never_within_a_unit(keys: list[Pressed]) -> None:
    line = Line()
    for key in keys:
        line = press(line, key)
        assert 0 <= line.cursor <= len(line.text)
        assert is_boundary(line.text, line.cursor)
        assert "\n" not in line.text


def test_going_back_and_forth_in_history() -> None:
    history = History()
    for text in ("one", "two"):
        history.add(text)
    unfinished = marked("th|ree")
    assert (line := history.earlier(unfinished)) == marked("two|")
    assert (line := history.earlier(line)) == marked("one|")
    assert history.earlier(line) == line
    assert (line := history.later(line)) == marked("two|")
    assert (line := history.later(line)) == unfinished
    assert history.later(line) == line


def test_an_empty_history() -> None:
    history = History()
    assert history.earlier(marked("a|b")) == marked("a|b")
    assert history.later(marked("a|b")) == marked("a|b")


def test_what_was_entered_is_the_first_to_come_back() -> None:
    history = History()
    for text in ("one", "two", "two", "", "one"):
        history.add(text)
    line = history.earlier(history.earlier(Line()))
    assert line == marked("two|")
    history.add("two")
    seen = [line := history.earlier(line) for _ in range(4)]
    assert [line.text for line in seen] == ["two", "one", "two", "one"]


def test_history_is_bounded() -> None:
    history = History()
    for number in range(MAX_HISTORY + 5):
        history.add(str(number))
    line = Line()
    for _ in range(MAX_HISTORY + 5):
        line = history.earlier(line)
    assert line.text == "5"
