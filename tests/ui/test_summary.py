from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from personaplex_cli.errors import ConnectError
from personaplex_cli.events import CallEnded, Counters, DeviceCounters, EndReason, PlayoutCounters, Written
from personaplex_cli.ui.summary import LATE_MS, dropped_lines, end_lines

UNTROUBLED = {"packets_sent", "messages_received", "streams", "received_ms", "lag_remote_ms", "lag_local_ms"}
NESTED = {"playout": PlayoutCounters, "microphone": DeviceCounters, "speaker": DeviceCounters}
ALL = [
    *({field.name: 3} for field in fields(Counters) if field.name not in NESTED),
    *({name: kind(**{field.name: 30})} for name, kind in NESTED.items() for field in fields(kind)),
]
"""Every counter there is, one at a time."""


def ended(
    reason: EndReason = EndReason.HUNG_UP,
    detail: str = "",
    whole_s: float = 62.4,
    live_s: float = 62.0,
    counters: Counters | None = None,
) -> CallEnded:
    return CallEnded(whole_s, reason, detail, ConnectError("gone"), whole_s, live_s, counters or Counters())


def test_why_how_long_and_what() -> None:
    written = [Written("answer.wav", 58.9), Written("transcript.txt")]
    assert end_lines(ended(), written) == [
        "Call ended: you hung up, after 1:02. Wrote answer.wav (0:58), transcript.txt."
    ]


def test_detail_and_the_time_it_took_to_connect() -> None:
    lines = end_lines(ended(EndReason.SERVER_CLOSED, "code 1011: internal", 70.0, 62.0))
    assert lines == [
        "Call ended: the server closed the call (code 1011: internal), after 1:02 (1:10 in all)."
    ]


def test_a_call_that_never_was_live() -> None:
    assert end_lines(ended(EndReason.NEVER_LIVE, whole_s=7.0, live_s=0.0)) == [
        "Call ended: the call never began, after 0:07."
    ]


def test_troubles_in_plain_words() -> None:
    counters = Counters(
        packets_sent=500,
        packets_dropped=1,
        silence_inserted=40,
        playout=PlayoutCounters(underruns=2, concealed_ms=40, dropped_ms=1230),
        microphone=DeviceCounters(restarts=1, late_ms=45),
        speaker=DeviceCounters(flagged=3),
    )
    assert end_lines(ended(counters=counters))[1] == (
        "Along the way: 1 block of your voice not sent in time; 0.80 s of silence sent while your side had "
        "nothing; the speaker ran dry 2 times; 0.04 s of late audio concealed; 1.23 s of the agent's audio "
        "dropped to catch up; the microphone was opened again 1 time; the microphone's callbacks were up to "
        "45 ms late (99.9 %); the speaker was late or overrun 3 times."
    )


@pytest.mark.parametrize("counted", ALL, ids=str)
def test_each_counter_that_tells_of_trouble_is_shown(counted: dict[str, Any]) -> None:
    lines = end_lines(ended(counters=Counters(**counted)))
    assert len(lines) == (1 if counted.keys() <= UNTROUBLED else 2)


def test_callbacks_that_are_a_little_late_are_no_trouble() -> None:
    assert len(end_lines(ended(counters=Counters(speaker=DeviceCounters(late_ms=LATE_MS - 1))))) == 1


@pytest.mark.parametrize(
    ("remote_ms", "local_ms", "text"),
    [
        (412, 73, " Lag: ours 73 ms, network and model 412 ms."),
        (None, 73, " Lag: ours 73 ms."),
        (412, 0, ""),  # a file: it has no lag of its own
        (None, None, ""),
    ],
)
def test_the_lag_is_told_where_there_was_a_speaker(
    remote_ms: int | None, local_ms: int | None, text: str
) -> None:
    [line] = end_lines(ended(counters=Counters(lag_remote_ms=remote_ms, lag_local_ms=local_ms)))
    assert line == f"Call ended: you hung up, after 1:02.{text}"


def test_a_dropped_call_still_says_what_it_wrote() -> None:
    assert dropped_lines() == ["Call dropped at once."]
    assert dropped_lines([Written("answer.wav", 58.9)]) == ["Call dropped at once. Wrote answer.wav (0:58)."]
