from __future__ import annotations

import json
from dataclasses import replace

import pytest

from personaplex_cli.doctor.check import Status
from personaplex_cli.doctor.machine import Place
from personaplex_cli.doctor.trial import Impression, call_finding
from personaplex_cli.errors import ExitCode
from personaplex_cli.events import (
    CallEnded,
    Counters,
    DeviceCounters,
    EchoChanged,
    EchoState,
    EndReason,
    Levels,
    PlayoutCounters,
)

LINUX = Place("Linux")
ENDED = CallEnded(
    10.1, EndReason.MAX_DURATION, "10 s", None, lasted_s=10.1, live_s=10.0, counters=Counters(lag_local_ms=45)
)


def seen(user_dbfs: float = -25.0, agent_dbfs: float = -18.0) -> Impression:
    impression = Impression()
    for event in (Levels(1.0, -80.0, agent_dbfs), Levels(2.0, user_dbfs, -90.0), ENDED):
        impression.listen(event)
    return impression


def test_a_good_call() -> None:
    impression = seen()
    assert impression.ended is ENDED
    finding = call_finding(impression, ENDED, LINUX)
    assert finding.status is Status.OK
    text = "10 s with the stand-in: greeting played, 45 ms behind, you at -25 dBFS, underruns: 0."
    assert finding.text == text
    assert json.loads(json.dumps(finding.figures))["echo"] == "off"


@pytest.mark.parametrize(
    ("impression", "ended", "words", "code"),
    [
        (seen(), replace(ENDED, reason=EndReason.SERVER_CLOSED), "ended early", ExitCode.SERVER),
        (seen(agent_dbfs=-90), ENDED, "never got to the speaker", ExitCode.AUDIO),
        (Impression(agent_dbfs=-18), ENDED, "Nothing came from the microphone", ExitCode.AUDIO),
    ],
)
def test_a_call_that_would_not_do(
    impression: Impression, ended: CallEnded, words: str, code: ExitCode
) -> None:
    finding = call_finding(impression, ended, LINUX)
    assert (finding.status, finding.exit_code) == (Status.FAILURE, code)
    assert words in finding.text


def test_a_machine_that_is_too_busy() -> None:
    counters = Counters(playout=PlayoutCounters(underruns=2), speaker=DeviceCounters(flagged=2))
    finding = call_finding(seen(), replace(ENDED, counters=counters), LINUX)
    assert finding.status is Status.WARNING and "underruns: 4" in finding.text
    assert "busy" in finding.hint


def test_an_echo_in_the_call() -> None:
    impression = seen()
    impression.listen(EchoChanged(5.0, EchoState.HEARD))
    finding = call_finding(impression, ENDED, LINUX)
    assert finding.status is Status.WARNING and "hears the speaker" in finding.text
