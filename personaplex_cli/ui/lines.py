"""Lines of a transcript that will not change any more, and where the agent's text makes such lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SENTENCE_MAX_CHARS: Final = 600
"""A sentence longer than this is cut, so that neither the state nor the time to draw it can grow."""

# A full stop ends a sentence only before white space, so "3.5" and "example.com" stay whole; Chinese and
# Japanese put none there. Further text must follow, because quotes and more dots may still come in the next
# piece. The quantifiers are possessive: "..." must not be taken for "." followed by text; and a run of dots
# is looked at once, from its first: a million of them would take minutes.
_CLOSING: Final = r"""["'”’»)\]」』）】]"""
_SENTENCE_END: Final = re.compile(
    rf"(?<![.!?…])[.!?…]++{_CLOSING}*+(?=\s+\S)|(?<![。！？])[。！？]++{_CLOSING}*+(?=\s*\S)"
)


class LineKind(StrEnum):
    """What a finished line is; the value is its label on the screen."""

    AGENT = "Agent"
    USER = "You"
    NOTICE = "note"
    ERROR = "error"
    NEW_CALL = "new call"


Spans = tuple[tuple[int, int], ...]
"""From which character to which, in order."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that will not change any more. `text` is not empty and holds no line break."""

    kind: LineKind
    text: str
    aside: bool = False
    """Not what was said, but about it."""
    unheard: Spans = ()
    """Where nobody heard it."""

    def parts(self) -> Iterator[tuple[str, bool]]:
        """The text in pieces, each with whether it was heard; what was not is marked as such."""
        at = 0
        for begin, end in self.unheard:
            lost = self.text[begin:end].strip()
            begin += self.text[begin:end].index(lost)  # spaces stand outside of the brackets
            yield self.text[at:begin], True
            if lost:
                yield f"[not heard: {lost}]", False
            at = begin + len(lost)
        yield self.text[at:], True


def sentences(text: str, n_chars: int) -> Iterator[int]:
    """How long each of the whole sentences is that `text` begins with, as far as `n_chars`. Of a longer part
    of a sentence than is waited for, all but the rest counts as such."""
    begin = 0
    for end in _SENTENCE_END.finditer(text):
        if end.end() > n_chars:
            break
        yield end.end() - begin
        begin = end.end()
    yield from map(len, cut(text[begin : max(begin, n_chars)])[:-1])


def joined(spans: Spans, begin: int, end: int) -> Spans:
    """`spans` and another one behind them, as one with the last if they touch."""
    if begin >= end:
        return spans
    if spans and spans[-1][1] == begin:
        return (*spans[:-1], (spans[-1][0], end))
    return (*spans, (begin, end))


def within(spans: Spans, begin: int, end: int) -> Spans:
    """What of `spans` lies from `begin` to `end`, counted from `begin`."""
    inside = ((max(a, begin) - begin, min(b, end) - begin) for a, b in spans)
    return tuple((a, b) for a, b in inside if a < b)


def cut(text: str) -> list[str]:
    """`text` in parts of at most `SENTENCE_MAX_CHARS`, cut at spaces where there are any."""
    parts: list[str] = []
    while len(text) > SENTENCE_MAX_CHARS:
        space = text.rfind(" ", 1, SENTENCE_MAX_CHARS)
        end = space if space > 0 else SENTENCE_MAX_CHARS
        parts.append(text[:end])
        text = text[end:]
    return [*parts, text] if text else parts
