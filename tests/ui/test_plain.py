from __future__ import annotations

import io
from collections.abc import Sequence

from personaplex_cli.events import (
    AgentText,
    CallEnded,
    CallState,
    Counters,
    EndReason,
    Event,
    Levels,
    Notice,
    ServerSaidError,
    StateChanged,
    UserText,
)
from personaplex_cli.ui.plain import PlainPainter

CALL: Sequence[Event] = [
    StateChanged(0.0, CallState.CONNECTING),
    StateChanged(0.5, CallState.WAITING),
    StateChanged(1.0, CallState.LIVE),
    AgentText(1.1, " Hello there."),
    Levels(1.1, -20.0, -20.0),
    AgentText(1.2, " How"),
    UserText(1.3, "Fine\x1b[31m"),
    Notice(1.4, "The microphone is silent."),
    ServerSaidError(1.5, "[bold]overloaded[/foo] :smile:"),
    StateChanged(2.0, CallState.CLOSING),
    AgentText(2.1, " Bye"),
    CallEnded(2.2, EndReason.HUNG_UP, "", None, 2.2, 1.2, Counters()),
    StateChanged(2.2, CallState.ENDED),
]


def test_transcript_and_status_are_kept_apart() -> None:
    transcript, status = io.StringIO(), io.StringIO()
    painter = PlainPainter(transcript, status)
    for event in CALL:
        painter.update([event], event.at_s)
    painter.finish(["Call ended: you hung up, after 0:01."])
    assert transcript.getvalue() == ("agent: Hello there.\nagent: How\nyou: Fine\ufffd[31m\nagent: Bye\n")
    assert status.getvalue() == (
        "state: connecting\nstate: waiting for the model\nstate: live\nnote: The microphone is silent.\n"
        "error: [bold]overloaded[/foo] :smile:\nstate: closing\nCall ended: you hung up, after 0:01.\n"
    )


def test_a_sentence_shows_as_soon_as_it_is_finished() -> None:
    transcript = io.StringIO()
    painter = PlainPainter(transcript, io.StringIO())
    painter.update([AgentText(1.0, "Well")], 1.0)
    assert transcript.getvalue() == ""
    painter.update([], 2.3)
    assert transcript.getvalue() == "agent: Well\n"


def test_what_runs_is_shown_at_the_end() -> None:
    transcript = io.StringIO()
    painter = PlainPainter(transcript, io.StringIO())
    painter.update([AgentText(1.0, "Unfinished")], 1.0)
    painter.finish([])
    assert transcript.getvalue() == "agent: Unfinished\n"


def test_a_character_the_stream_lacks_becomes_a_question_mark() -> None:
    raw = io.BytesIO()
    painter = PlainPainter(io.TextIOWrapper(raw, "latin-1"), io.StringIO())
    painter.update([UserText(0.0, "Tür 你")], 0.0)
    assert raw.getvalue() == "you: Tür ?\n".encode("latin-1")


class _Gone(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError("the reader has gone")


def test_giving_up_still_says_how_the_call_ended() -> None:
    status = io.StringIO()
    PlainPainter(_Gone(), status).give_up(["Call ended."])
    assert status.getvalue() == "Call ended.\n"
    PlainPainter(_Gone(), _Gone()).give_up(["Call ended."])
