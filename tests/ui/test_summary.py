from __future__ import annotations

from dataclasses import fields

import pytest

from personaplex_cli.errors import ConnectError
from personaplex_cli.events import CallEnded, Counters, EndReason, Written
from personaplex_cli.ui.summary import dropped_lines, end_lines

UNTROUBLED = {"packets_sent", "messages_received", "streams", "received_ms"}


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
        packets_sent=500, packets_dropped=1, silence_inserted=40, underruns=2, playout_dropped_ms=1230
    )
    assert end_lines(ended(counters=counters))[1] == (
        "Along the way: 1 block of your voice not sent in time; 0.80 s of silence sent while your side had "
        "nothing; the speaker ran dry 2 times; 1.23 s of the agent's audio skipped to catch up."
    )


@pytest.mark.parametrize("name", [field.name for field in fields(Counters)])
def test_each_counter_that_tells_of_trouble_is_shown(name: str) -> None:
    lines = end_lines(ended(counters=Counters(**{name: 3})))
    assert len(lines) == (1 if name in UNTROUBLED else 2)


def test_a_dropped_call_still_says_what_it_wrote() -> None:
    assert dropped_lines() == ["Call dropped at once."]
    assert dropped_lines([Written("answer.wav", 58.9)]) == ["Call dropped at once. Wrote answer.wav (0:58)."]
