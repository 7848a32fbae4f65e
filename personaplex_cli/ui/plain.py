"""Lines for what is not a terminal: pipes, files, logs. Nothing but text, appended."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TextIO

from personaplex_cli.events import CallState, Event, StateChanged
from personaplex_cli.ui import view

_TRANSCRIPT: Final = frozenset({view.LineKind.AGENT, view.LineKind.USER, view.LineKind.NEW_CALL})


class PlainPainter:
    """Writes the transcript to one stream and all else to another, each line flushed at once.

    Everything is called on one thread. Any call may raise the OSError of a stream.
    """

    failure_ends_call = True
    """A reader that has gone away (`| head`) wants no more of the call."""

    def __init__(self, transcript: TextIO, status: TextIO) -> None:
        self._transcript = transcript
        self._status = status
        self._state = view.ViewState()

    def update(self, events: Iterable[Event], now_s: float) -> None:
        """Show `events`; `now_s` is seconds on the call's clock."""
        for event in events:
            self._state = view.reduce(self._state, event)
            self._put_finished()
            # The end has a line of its own, see `finish`.
            if isinstance(event, StateChanged) and event.state is not CallState.ENDED:
                _put(self._status, f"state: {event.state}")
        self._state = view.tick(self._state, now_s)
        self._put_finished()

    def finish(self, last_lines: Iterable[str]) -> None:
        """Show what is left of the transcript, then `last_lines` on the status stream."""
        self._state = view.flush(self._state)
        self._put_finished()
        self._put_last(last_lines)

    def give_up(self, last_lines: Iterable[str]) -> None:
        """After a failure: `last_lines` on the status stream if that is still there. Never raises OSError."""
        with suppress(OSError):
            self._put_last(last_lines)

    def _put_last(self, last_lines: Iterable[str]) -> None:
        for line in last_lines:
            _put(self._status, line)

    def _put_finished(self) -> None:
        lines, self._state = view.take_finished(self._state)
        for line in lines:
            stream = self._transcript if line.kind in _TRANSCRIPT else self._status
            _put(stream, f"{line.kind}: {line.text}")


def _put(stream: TextIO, line: str) -> None:
    # A character the stream's encoding lacks must not end the call.
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
