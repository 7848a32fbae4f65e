from __future__ import annotations

import pytest
from rich.cells import cell_len

from personaplex_cli.events import (
    CallState,
    EchoChanged,
    EchoState,
    Event,
    IdleCountdown,
    Lag,
    LimitNear,
    MicrophoneChanged,
    StateChanged,
    VolumeChanged,
)
from personaplex_cli.ui import view
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.status import status_row

BEGIN = [StateChanged(0.0, CallState.WAITING), StateChanged(2.0, CallState.LIVE)]
USUAL = [*BEGIN, Lag(5.0, 412.3, 73.4), EchoChanged(5.0, EchoState.CANCELLED)]
MUTED = MicrophoneChanged(5.0, muted=True, push_to_talk=False, talking=False)
IDLE = IdleCountdown(50.0, 70.0)
LIMIT = LimitNear(50.0, 72.0)
ALL = [*USUAL, MUTED, IDLE, LIMIT, VolumeChanged(5.0, 80)]
FIXED = Fixed("NATF0", rate_per_minute=0.06)


def status(*events: Event, columns: int = 200, now_s: float = 62.0, fixed: Fixed = FIXED) -> str:
    state = view.ViewState()
    for event in events:
        state = view.reduce(state, event)
    return status_row(state, now_s, fixed, columns, " · ").plain


def test_all_that_there_is() -> None:
    assert status(*ALL) == (
        "live · 1:00 · 1:00 left · cost 0.06 · muted · silent, ends in 8 s · lag 73 / 412 ms"
        " · echo cancelled · volume 80 % · NATF0"
    )


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (80, "live · 1:00 · cost 0.06 · lag 73 / 412 ms · echo cancelled · NATF0"),
        (60, "live · 1:00 · cost 0.06 · lag 73 / 412 ms · echo cancelled"),
        (40, "live · 1:00 · lag 73 / 412 ms · NATF0"),
        (20, "live · 1:00 · NATF0"),
        (5, "live"),
    ],
)
def test_what_is_left_out_in_a_narrow_window(columns: int, text: str) -> None:
    assert status(*USUAL, columns=columns) == text


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (80, "live · 1:00 · 1:00 left · muted · silent, ends in 8 s · lag 73 / 412 ms · NATF0"),
        (60, "live · 1:00 · 1:00 left · muted · silent, ends in 8 s"),
        (40, "live · muted · silent, ends in 8 s"),
        (20, "live · 1:00 · muted"),
    ],
)
def test_what_the_user_must_know_is_left_out_last(columns: int, text: str) -> None:
    assert status(*ALL, columns=columns) == text


def test_it_never_is_wider_than_the_window() -> None:
    for columns in range(4, 160, 3):
        text = status(*ALL, columns=columns, fixed=Fixed("女声" * 5, 0.06))
        assert text.startswith("live")
        assert cell_len(text) <= columns


@pytest.mark.parametrize(
    ("muted", "push_to_talk", "talking", "text"),
    [
        (False, False, False, ""),
        (True, True, True, " · muted"),
        (False, True, False, " · space to talk"),
        (False, True, True, " · you are heard"),
        (False, False, True, " · you are heard"),
    ],
)
def test_the_microphone(muted: bool, push_to_talk: bool, talking: bool, text: str) -> None:
    event = MicrophoneChanged(5.0, muted, push_to_talk, talking)
    assert status(*BEGIN, event, fixed=Fixed()) == f"live · 1:00{text}"
    assert status(*BEGIN, event, fixed=FIXED, columns=20).endswith(text)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (EchoState.OFF, ""),
        (EchoState.CANCELLED, " · echo cancelled"),
        (EchoState.RESTING, " · no echo"),
        (EchoState.FAILED, " · echo canceller failed"),
        (EchoState.HALF_DUPLEX, " · half-duplex"),
        (EchoState.HEARD, " · echo heard"),
    ],
)
def test_echo(state: EchoState, text: str) -> None:
    assert status(*BEGIN, EchoChanged(5.0, state), fixed=Fixed()) == f"live · 1:00{text}"


def test_echo_that_is_heard_is_told_before_what_is_only_good_to_know() -> None:
    heard = EchoChanged(6.0, EchoState.HEARD)
    assert status(*USUAL, heard, columns=40) == "live · 1:00 · cost 0.06 · echo heard"
    assert status(*USUAL, heard, columns=20) == "live · echo heard"


def test_before_the_call_is_live() -> None:
    assert status(StateChanged(0.0, CallState.CONNECTING), now_s=4.0) == "connecting · 0:04 · NATF0"
    assert status(StateChanged(1.0, CallState.WAITING), now_s=4.0) == (
        "waiting for the model · 0:04 · cost 0.00 · NATF0"
    )


def test_lag_is_of_a_call_that_lives_and_half_of_it_may_be_unknown() -> None:
    unknown = [*BEGIN, Lag(5.0, None, 73.0)]
    assert status(*unknown, fixed=Fixed()) == "live · 1:00 · lag 73 / ? ms"
    assert status(*unknown, StateChanged(6.0, CallState.CLOSING), fixed=Fixed()) == "closing · 1:00"


def test_countdowns_count_and_do_not_go_below_zero() -> None:
    for now_s, text in (
        (50.0, "1:12 left · silent, ends in 20 s"),
        (200.0, "0:00 left · silent, ends in 0 s"),
    ):
        assert status(*BEGIN, IDLE, LIMIT, now_s=now_s, fixed=Fixed()).endswith(text)
    assert "silent" not in status(*BEGIN, IDLE, IdleCountdown(55.0, None))
