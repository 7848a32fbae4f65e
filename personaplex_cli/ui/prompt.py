"""What a user is asked below the transcript: a text, a choice, or nothing but to look. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from personaplex_cli.events import Event


@dataclass(frozen=True, slots=True)
class TypedLine:
    """A line that is being typed."""

    text: str
    cursor: int
    """Before which character."""


@dataclass(frozen=True, slots=True)
class Choice:
    title: str
    options: tuple[str, ...]
    selected: int


@dataclass(frozen=True, slots=True)
class Help:
    rows: tuple[tuple[str, str], ...]
    """Keys and what they do."""


Prompt = TypedLine | Choice | Help


@dataclass(frozen=True, slots=True)
class PromptChanged(Event):
    """What is asked now. It goes to the screen alone: nothing has happened in the call."""

    prompt: Prompt | None
