from __future__ import annotations

import pytest

from personaplex_cli.events import (
    AudioDropped,
    DeviceChanged,
    DeviceState,
    EchoChanged,
    EchoState,
    Event,
    IdleCountdown,
    Lag,
    Levels,
    LimitNear,
    MicrophoneChanged,
    Speaking,
    VolumeChanged,
)
from personaplex_cli.turns import Side, Turn, TurnKind
from personaplex_cli.ui.words import device_text, dropped_text, elapsed_text, told_text, turn_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (5.9, "0:05"), (62, "1:02"), (754, "12:34"), (3599.9, "59:59"), (3723, "1:02:03")],
)
def test_elapsed_text(seconds: float, text: str) -> None:
    assert elapsed_text(seconds) == text


@pytest.mark.parametrize(
    ("side", "kind", "text"),
    [
        (Side.USER, TurnKind.TURN, "(1:01: spoke for 2.3 s)"),
        (Side.USER, TurnKind.INTERRUPTION, "(1:01: spoke for 2.3 s, interrupting the agent)"),
        (Side.USER, TurnKind.BACKCHANNEL, "(1:01: spoke for 2.3 s, a backchannel)"),
        (Side.USER, TurnKind.OVERLAP, "(1:01: spoke for 2.3 s, over the agent)"),
        (Side.AGENT, TurnKind.TURN, ""),
        (Side.AGENT, TurnKind.INTERRUPTION, "(interrupted you)"),
        (Side.AGENT, TurnKind.BACKCHANNEL, "(a backchannel, while you spoke)"),
        (Side.AGENT, TurnKind.OVERLAP, "(spoke for 2.3 s while you did)"),
    ],
)
def test_every_kind_of_turn_has_words(side: Side, kind: TurnKind, text: str) -> None:
    assert turn_text(Turn(side, 71.0, 73.3, kind, 0.4), live_since_s=10.0) == text


def test_a_turn_that_began_before_the_call_was_live_began_with_it() -> None:
    turn = Turn(Side.USER, 0.5, 2.0, TurnKind.TURN, 0.0)
    assert turn_text(turn, live_since_s=1.0) == "(0:00: spoke for 1.5 s)"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (MicrophoneChanged(0.0, True, False, False), "You are muted."),
        (MicrophoneChanged(0.0, True, True, True), "You are muted."),
        (MicrophoneChanged(0.0, False, False, False), "You are heard."),
        (MicrophoneChanged(0.0, False, True, False), "You are heard when you press the space key."),
        (MicrophoneChanged(0.0, False, True, True), "You are heard."),
        (VolumeChanged(0.0, 80), "The volume is 80 %."),
        (EchoChanged(0.0, EchoState.CANCELLED), "Echo is cancelled."),
        (EchoChanged(0.0, EchoState.RESTING), "There is no echo to cancel."),
        (IdleCountdown(100.0, 115.2), "Nobody speaks: the call ends in 15 s."),
        (IdleCountdown(100.0, None), "The call goes on."),
        (LimitNear(0.0, 60.0), "The time limit is reached in 60 s."),
        (Levels(0.0, -20.0, -20.0), ""),
        (Lag(0.0, 1.0, 1.0), ""),
        (Speaking(0.0, Side.USER, True), ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_those_are_told_who_see_no_status_line(event: Event, text: str) -> None:
    assert told_text(event) == text


@pytest.mark.parametrize("state", DeviceState)
@pytest.mark.parametrize("role", ["microphone", "speaker"])
def test_a_device_is_named_and_harmless(role: str, state: DeviceState) -> None:
    text = device_text(DeviceChanged(0.0, role, state, "Box\x1b[2J"))
    assert f"The {role} " in text
    assert "Box\ufffd[2J" in text


@pytest.mark.parametrize(("side", "whose"), [(Side.AGENT, "the agent's"), (Side.USER, "your")])
def test_whose_audio_was_dropped(side: Side, whose: str) -> None:
    assert dropped_text(AudioDropped(0.0, side, 1000)).startswith(f"1.0 s of {whose} ")
