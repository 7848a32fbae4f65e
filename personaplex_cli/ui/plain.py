"""Lines for screen readers, and for what is no terminal: pipes, files, logs. Nothing but text, appended."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TextIO

from personaplex_cli.events import CallState, Event, StateChanged
from personaplex_cli.ui import view
from personaplex_cli.ui.lines import LineKind
from personaplex_cli.ui.prompt import Choice, Help, Prompt, PromptChanged, TypedLine
from personaplex_cli.ui.words import told_text
from personaplex_cli.wire.text import safe_text

_TRANSCRIPT: Final = frozenset({LineKind.AGENT, LineKind.USER, LineKind.NEW_CALL})

TYPE_NOW: Final = "Type a text, then Enter. An empty line sends nothing."
CHOOSE_NOW: Final = "A number or up and down, then Enter. Escape leaves."

MAX_HELD_LINES: Final = 200
"""So many lines wait while a text is typed; then they are shown in between."""


class PlainPainter:
    """Writes the transcript to one stream and all else to another, each line flushed at once.

    Everything is called on one thread. Any call may raise the OSError of a stream.
    """

    failure_ends_call = True
    """A reader that has gone away (`| head`) wants no more of the call."""

    eager = False

    def __init__(self, transcript: TextIO, status: TextIO) -> None:
        self._transcript = transcript
        self._status = status
        self._state = view.ViewState()
        self._held: list[tuple[TextIO, str]] = []

    def update(self, events: Iterable[Event], now_s: float) -> None:
        """Show `events`; `now_s` is seconds on the call's clock."""
        for event in events:
            before = self._state.prompt
            self._state = view.reduce(self._state, event)
            self._put_finished()
            # The end has a line of its own, see `finish`.
            if isinstance(event, StateChanged) and event.state is not CallState.ENDED:
                self._put(self._status, f"state: {event.state}")
            elif isinstance(event, PromptChanged):
                self._ask(before, event.prompt)
            elif told := told_text(event):
                self._put(self._status, f"note: {told}")
        self._state = view.tick(self._state, now_s)
        self._put_finished()

    def leave(self, lines: Iterable[str]) -> None:
        """Show `lines` before the terminal is left to others."""
        self._put_last(lines)

    def finish(self, last_lines: Iterable[str]) -> None:
        """Show what is left of the transcript, then `last_lines` on the status stream."""
        self._state = view.flush(self._state)
        self._put_finished()
        self._put_held()
        self._put_last(last_lines)

    def give_up(self, last_lines: Iterable[str]) -> None:
        """After a failure: `last_lines` on the status stream if that is still there. Never raises OSError."""
        with suppress(OSError):
            self._put_last(last_lines)

    def _ask(self, before: Prompt | None, prompt: Prompt | None) -> None:
        match prompt:
            case TypedLine() if not isinstance(before, TypedLine):
                _write(self._status, TYPE_NOW)
            case Choice(title, options) if not isinstance(before, Choice) or before.title != title:
                rows = [f"{number}: {safe_text(option)}" for number, option in enumerate(options, 1)]
                for row in (safe_text(title), *rows, CHOOSE_NOW):
                    self._put(self._status, row)
            case Choice(_, options, selected):
                self._put(self._status, f"{selected + 1}: {safe_text(options[selected])}")
            case Help(rows):
                for key, does in rows:
                    self._put(self._status, f"{key}: {safe_text(does)}")
            case None:
                self._put_held()

    def _put_last(self, last_lines: Iterable[str]) -> None:
        for line in last_lines:
            _write(self._status, line)

    def _put_finished(self) -> None:
        lines, self._state = view.take_finished(self._state)
        for line in lines:
            stream = self._transcript if line.kind in _TRANSCRIPT else self._status
            self._put(stream, f"{line.kind}: {''.join(text for text, _ in line.parts())}")

    def _put(self, stream: TextIO, line: str) -> None:
        """Not into a text that is being typed: the terminal shows that, letter by letter."""
        if isinstance(self._state.prompt, TypedLine) and len(self._held) < MAX_HELD_LINES:
            self._held.append((stream, line))
            return
        self._put_held()
        _write(stream, line)

    def _put_held(self) -> None:
        held, self._held = self._held, []
        for stream, line in held:
            _write(stream, line)


def _write(stream: TextIO, line: str) -> None:
    # A character the stream's encoding lacks must not end the call.
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
