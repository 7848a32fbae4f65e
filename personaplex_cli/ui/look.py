"""What the live view looks like, apart from what happens in a call. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Glyphs:
    full: str
    empty: str
    speaks: str
    clipped: str
    dot: str
    cut: str
    selected: str


UNICODE: Final = Glyphs(full="━", empty="─", speaks="●", clipped="!", dot=" · ", cut="…", selected="❯ ")
ASCII: Final = Glyphs(full="=", empty="-", speaks="*", clipped="!", dot=" - ", cut="...", selected="> ")


@dataclass(frozen=True, slots=True)
class Fixed:
    """What does not change in a call."""

    voice: str = ""
    rate_per_minute: float | None = None
    """What a minute costs; None where nobody said so."""
    keys: tuple[tuple[str, str], ...] = ()
    """Keys that are read, the most wanted first, each with a word for what it does."""
    live_text: str = ""
    """What the status line says in place of "live"."""
    other_side: str = "Agent"
    """Whose the second meter is."""
