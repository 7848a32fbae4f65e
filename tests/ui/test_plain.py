from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from personaplex_cli.events import (
    AgentText,
    Bookmark,
    CalledAgain,
    CallEnded,
    CallState,
    Counters,
    DeviceChanged,
    DeviceState,
    EchoChanged,
    EchoState,
    EndReason,
    Event,
    IdleCountdown,
    Lag,
    Levels,
    LimitNear,
    Metadata,
    MicrophoneChanged,
    Notice,
    ServerSaidError,
    StateChanged,
    TextHeard,
    TurnEnded,
    UserText,
    VolumeChanged,
)
from personaplex_cli.turns import Side, Turn, TurnKind
from personaplex_cli.ui.plain import CHOOSE_NOW, MAX_HELD_LINES, TYPE_NOW, PlainPainter
from personaplex_cli.ui.prompt import Choice, Help, PromptChanged, TypedLine
from personaplex_cli.wire.text import safe_text

CALL: Sequence[Event] = [
    StateChanged(0.0, CallState.CONNECTING),
    StateChanged(0.5, CallState.WAITING),
    StateChanged(1.0, CallState.LIVE),
    AgentText(1.1, " Hello there."),
    TextHeard(1.1, 13, True),
    Levels(1.1, -20.0, -20.0),
    AgentText(1.2, " How"),
    TextHeard(1.2, 17, True),
    UserText(1.3, "Fine\x1b[31m"),
    Notice(1.4, "The microphone is silent."),
    ServerSaidError(1.5, "[bold]overloaded[/foo] :smile:"),
    StateChanged(2.0, CallState.CLOSING),
    AgentText(2.1, " Bye"),
    TextHeard(2.2, 21, False),
    CallEnded(2.2, EndReason.HUNG_UP, "", None, 2.2, 1.2, Counters()),
    StateChanged(2.2, CallState.ENDED),
]


def test_transcript_and_status_are_kept_apart() -> None:
    transcript, status = io.StringIO(), io.StringIO()
    painter = PlainPainter(transcript, status)
    for event in CALL:
        painter.update([event], event.at_s)
    painter.finish(["Call ended: you hung up, after 0:01."])
    assert transcript.getvalue() == "Agent: Hello there.\nYou: Fine\ufffd[31m\nAgent: How [not heard: Bye]\n"
    assert status.getvalue() == (
        "state: connecting\nstate: waiting for the model\nstate: live\nnote: The microphone is silent.\n"
        "error: [bold]overloaded[/foo] :smile:\nstate: closing\nCall ended: you hung up, after 0:01.\n"
    )


def test_a_sentence_shows_as_soon_as_it_is_finished() -> None:
    transcript = io.StringIO()
    painter = PlainPainter(transcript, io.StringIO())
    painter.update([AgentText(1.0, "Well"), TextHeard(1.0, 4, True)], 1.0)
    assert transcript.getvalue() == ""
    painter.update([], 2.3)
    assert transcript.getvalue() == "Agent: Well\n"


def test_a_sentence_that_was_not_heard_yet_is_not_shown() -> None:
    transcript = io.StringIO()
    painter = PlainPainter(transcript, io.StringIO())
    painter.update([AgentText(1.0, "Well. So")], 9.0)
    assert transcript.getvalue() == ""
    painter.update([TextHeard(9.1, 5, True)], 9.1)
    assert transcript.getvalue() == "Agent: Well.\n"


def test_what_runs_is_shown_at_the_end() -> None:
    transcript = io.StringIO()
    painter = PlainPainter(transcript, io.StringIO())
    painter.update([AgentText(1.0, "Unfinished")], 1.0)
    painter.finish([])
    assert transcript.getvalue() == "Agent: Unfinished\n"


def test_a_character_the_stream_lacks_becomes_a_question_mark() -> None:
    raw = io.BytesIO()
    painter = PlainPainter(io.TextIOWrapper(raw, "latin-1"), io.StringIO())
    painter.update([UserText(0.0, "Tür 你")], 0.0)
    assert raw.getvalue() == "You: Tür ?\n".encode("latin-1")


def plain(*events: Event) -> list[str]:
    """Every line, on one stream."""
    stream = io.StringIO()
    painter = PlainPainter(stream, stream)
    for event in events:
        painter.update([event], event.at_s)
    painter.finish([])
    return stream.getvalue().splitlines()


def test_what_a_status_line_shows_is_said_in_words() -> None:
    assert plain(
        MicrophoneChanged(1.0, True, False, False),
        VolumeChanged(1.0, 80),
        EchoChanged(1.0, EchoState.CANCELLED),
        IdleCountdown(1.0, 16.0),
        IdleCountdown(1.0, None),
        LimitNear(1.0, 60.0),
        Bookmark(1.0, 2),
        Lag(1.0, 1.0, 1.0),
        Levels(1.0, -1.0, -1.0, True, True),
    ) == [
        "note: You are muted.",
        "note: The volume is 80 %.",
        "note: Echo is cancelled.",
        "note: Nobody speaks: the call ends in 15 s.",
        "note: The call goes on.",
        "note: The time limit is reached in 60 s.",
        "note: Bookmark 2, at 0:01.",
    ]


def test_turns_and_a_new_call() -> None:
    assert plain(
        AgentText(1.0, "Hello"),
        TextHeard(1.0, 5, True),
        TurnEnded(2.0, Turn(Side.AGENT, 1.0, 1.5, TurnKind.INTERRUPTION, 0.1)),
        TurnEnded(2.0, Turn(Side.USER, 1.0, 1.5, TurnKind.TURN, 0.1)),
        CalledAgain(3.0),
    ) == [
        "Agent: Hello",
        "Agent: (interrupted you)",
        "You: (0:01: spoke for 0.5 s)",
        "new call: the agent remembers nothing of what was said before",
    ]


# --- what is asked


def test_while_a_text_is_typed_no_line_comes_in_between() -> None:
    transcript, status = io.StringIO(), io.StringIO()
    painter = PlainPainter(transcript, status)
    painter.update([PromptChanged(1.0, TypedLine("", 0))], 1.0)
    assert status.getvalue() == f"{TYPE_NOW}\n"
    painter.update([Notice(1.1, "one"), UserText(1.2, "two"), VolumeChanged(1.3, 90)], 1.3)
    painter.update([PromptChanged(1.4, TypedLine("a", 1)), Notice(1.4, "three")], 1.4)
    assert (transcript.getvalue(), status.getvalue()) == ("", f"{TYPE_NOW}\n")
    painter.update([PromptChanged(1.5, None)], 1.5)
    assert transcript.getvalue() == "You: two\n"
    notes = ["one", "The volume is 90 %.", "three"]
    assert status.getvalue().splitlines() == [TYPE_NOW, *(f"note: {note}" for note in notes)]


def test_who_types_for_ever_is_shown_what_waits_now_and_then() -> None:
    stream = io.StringIO()
    painter = PlainPainter(stream, stream)
    painter.update([PromptChanged(1.0, TypedLine("", 0))], 1.0)
    painter.update([Notice(1.0, str(n)) for n in range(MAX_HELD_LINES)], 1.0)
    assert stream.getvalue() == f"{TYPE_NOW}\n"
    painter.update([Notice(1.0, "over"), Notice(1.0, "next")], 1.0)
    shown = [f"note: {n}" for n in range(MAX_HELD_LINES)]
    assert stream.getvalue().splitlines() == [TYPE_NOW, *shown, "note: over"]
    painter.finish(["Call ended."])
    assert stream.getvalue().splitlines()[-2:] == ["note: next", "Call ended."]


def test_a_choice_is_listed_once_and_then_what_is_selected() -> None:
    one, two = (Choice("Devices", ("Headset", "Box"), selected) for selected in (0, 1))
    assert plain(PromptChanged(1.0, one), PromptChanged(1.1, two), PromptChanged(1.2, None)) == [
        "Devices",
        "1: Headset",
        "2: Box",
        CHOOSE_NOW,
        "2: Box",
    ]


def test_help_is_a_list() -> None:
    assert plain(PromptChanged(1.0, Help((("m", "Mutes."), ("q", "Hangs up."))))) == [
        "m: Mutes.",
        "q: Hangs up.",
    ]


def test_lines_said_before_the_terminal_is_left_to_others() -> None:
    transcript, status = io.StringIO(), io.StringIO()
    PlainPainter(transcript, status).leave(["Suspended."])
    assert (transcript.getvalue(), status.getvalue()) == ("", "Suspended.\n")


@pytest.mark.parametrize(
    "text",
    [
        "[bold]not bold[/bold] [/foo] :smile:",
        "x" * 10_000,
        "你好世界" * 100,
        "👩‍👩‍👧‍👦🇩🇪e\u0301" * 50,
        "שלום עולם",
        "\u202eevil\u2066\u200b",
        "\x1b[2J\x1b]0;title\x07\x9b31m\x1bP\x00\r\n\b",
    ],
    ids=["markup", "long", "wide", "emoji", "right-to-left", "override", "escapes"],
)
def test_no_text_gets_through_that_a_terminal_would_act_on(text: str) -> None:
    shown = plain(
        *(AgentText(1.0, text), TextHeard(1.0, len(text), False)),
        *(UserText(1.0, text), Notice(1.0, text), ServerSaidError(1.0, text), Metadata(1.0, {text: text})),
        *(DeviceChanged(1.0, "speaker", state, text) for state in DeviceState),
        *(PromptChanged(1.0, TypedLine(text, at)) for at in (0, len(text))),
        *(PromptChanged(1.0, Choice(text, (text, text), selected)) for selected in (0, 1)),
        PromptChanged(1.0, Help((("m", text),))),
    )
    assert all(safe_text(line) == line for line in shown)
    user = [line for line in shown if line.startswith("You: ")]
    assert user == [f"You: {safe_text(text).strip()}"]


class _Gone(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError("the reader has gone")


def test_giving_up_still_says_how_the_call_ended() -> None:
    status = io.StringIO()
    PlainPainter(_Gone(), status).give_up(["Call ended."])
    assert status.getvalue() == "Call ended.\n"
    PlainPainter(_Gone(), _Gone()).give_up(["Call ended."])
