"""One line of text that is being typed, as a value, and the lines that were typed before it."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from personaplex_cli.ui.keys import Char, Key, Paste, Pressed

MAX_LINE_CHARS: Final = 4096
MAX_HISTORY: Final = 100

_JOINER: Final = "\u200d"
_REGIONAL: Final = "".join(map(chr, range(0x1F1E6, 0x1F200)))
_LINE_BREAKS: Final = re.compile("\n+")


@dataclass(frozen=True, slots=True)
class Line:
    """`cursor` counts code points from the start of `text` and is never within a unit, see `is_boundary`."""

    text: str = ""
    cursor: int = 0


def press(line: Line, key: Pressed) -> Line:
    """`line` after `key`; unchanged by a key that has no meaning here (Enter, Up, …).

    A line holds at most `MAX_LINE_CHARS`: what does not fit is refused, and what stood there stays.
    """
    match key:
        case Char(text=text):
            return _inserted(line, text)
        case Paste(text=text):
            return _inserted(line, _LINE_BREAKS.sub(" ", text.strip("\n")))
        case Key():
            action = _ACTIONS.get(key)
            return line if action is None else action(line)


def is_boundary(text: str, at: int) -> bool:
    """Whether a unit, what a reader takes for one character, begins or ends at `at`.

    Simpler than Unicode's rule (UAX #29): a mark, a variation selector, a skin tone and a zero-width joiner
    belong to what is before them, whatever follows a joiner belongs to it, and regional indicators make a
    flag two by two.
    """
    if not 0 < at < len(text):
        return True
    before, char = text[at - 1], text[at]
    if char in _REGIONAL:
        indicators = at - len(text[:at].rstrip(_REGIONAL))
        return indicators % 2 == 0 and before != _JOINER
    return not (before == _JOINER or _belongs_to_the_one_before(char))


def _belongs_to_the_one_before(char: str) -> bool:
    is_mark = unicodedata.category(char).startswith("M")  # the variation selectors are marks, too
    return is_mark or char == _JOINER or "\U0001f3fb" <= char <= "\U0001f3ff"


def _left(text: str, at: int) -> int:
    at = max(0, at - 1)
    while not is_boundary(text, at):
        at -= 1
    return at


def _right(text: str, at: int) -> int:
    at = min(len(text), at + 1)
    while not is_boundary(text, at):
        at += 1
    return at


def _inserted(line: Line, text: str) -> Line:
    text = text[: max(0, MAX_LINE_CHARS - len(line.text))]
    before, after = line.text[: line.cursor], line.text[line.cursor :]
    return _line(before + text, after)


def _without(line: Line, start: int, end: int) -> Line:
    return _line(line.text[:start], line.text[end:])


def _line(before: str, after: str) -> Line:
    """What is now side by side may have become one unit: then the cursor goes behind it."""
    text, at = before + after, len(before)
    return Line(text, at if is_boundary(text, at) else _right(text, at))


def _word_start(line: Line) -> int:
    words = line.text[: line.cursor].split()
    return line.text.rindex(words[-1], 0, line.cursor) if words else 0


_ACTIONS: Final[dict[Key, Callable[[Line], Line]]] = {
    Key.LEFT: lambda line: Line(line.text, _left(line.text, line.cursor)),
    Key.RIGHT: lambda line: Line(line.text, _right(line.text, line.cursor)),
    Key.BACKSPACE: lambda line: _without(line, _left(line.text, line.cursor), line.cursor),
    Key.DELETE: lambda line: _without(line, line.cursor, _right(line.text, line.cursor)),
    Key.HOME: lambda line: Line(line.text, 0),
    Key.CTRL_A: lambda line: Line(line.text, 0),
    Key.END: lambda line: Line(line.text, len(line.text)),
    Key.CTRL_E: lambda line: Line(line.text, len(line.text)),
    Key.CTRL_K: lambda line: _without(line, line.cursor, len(line.text)),
    Key.CTRL_U: lambda line: _without(line, 0, line.cursor),
    Key.CTRL_W: lambda line: _without(line, _word_start(line), line.cursor),
}


class History:
    """The last `MAX_HISTORY` lines that were entered, and the way through them. Not thread-safe."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MAX_HISTORY)
        self._back = 0  # how many lines up
        self._unfinished = Line()

    def add(self, text: str) -> None:
        """`text` was entered: the next way up begins with it. Neither nothing nor the same again is kept."""
        if text and (not self._lines or self._lines[-1] != text):
            self._lines.append(text)
        self._back = 0

    def earlier(self, current: Line) -> Line:
        """The line before, its cursor at the end; `current` if there is none. On the first step `current` is
        kept to come back to; what is changed in an earlier line is not."""
        if self._back == len(self._lines):
            return current
        if self._back == 0:
            self._unfinished = current
        self._back += 1
        return self._recalled()

    def later(self, current: Line) -> Line:
        """The line after, at last the one left with `earlier`; `current` if that is it."""
        if self._back == 0:
            return current
        self._back -= 1
        return self._recalled() if self._back else self._unfinished

    def _recalled(self) -> Line:
        text = self._lines[-self._back]
        return Line(text, len(text))
