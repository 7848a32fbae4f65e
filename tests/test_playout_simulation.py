"""The playout buffer against the web client's, and against the delays that an adaptive buffer is known to
reach, on simulated networks. Seeded: the figures are always the same (scripts/bench_playout.py)."""

from __future__ import annotations

import pytest
from playout_simulation import (
    STEP_S,
    Content,
    Ours,
    Queue,
    Result,
    Web,
    delayed,
    dialogue,
    monologue,
    run,
    traces,
)

DURATION_S = 60.0
PHASE_S = 0.0037
TRACES = {trace.name: trace for trace in traces(DURATION_S)}

DELAYS_MS = {
    "constant": 15,
    "gauss10": 45,
    "gauss30": 104,
    "wifi": 147,
    "stalls": 392,
    "rare stalls": 68,
    "one stall": 41,
    "clock +200": 56,
    "clock -200": 56,
    "+200, quiet": 31,
    "-200, quiet": 31,
}
"""Means, of an adaptive buffer with blocks of 20 ms that waits for the second-worst second of the last
thirty; less where there is no jitter."""


@pytest.mark.parametrize("name", TRACES)
def test_no_more_gaps_and_less_lost_than_the_web_client_at_a_bounded_delay(name: str) -> None:
    ours = run(Ours(dialogue(), DURATION_S), TRACES[name], PHASE_S)
    web = run(Web(dialogue(), DURATION_S), TRACES[name], PHASE_S)
    assert_no_worse(ours, web)
    assert ours.mean_ms <= DELAYS_MS[name]
    if name != "one stall":
        assert ours.dropped_speech_s == ours.dropped_silence_s == 0


@pytest.mark.parametrize("name", ["rare stalls", "one stall"])
def test_the_same_when_there_is_hardly_a_pause(name: str) -> None:
    ours = run(Ours(monologue(), DURATION_S), TRACES[name], PHASE_S)
    web = run(Web(monologue(), DURATION_S), TRACES[name], PHASE_S)
    assert_no_worse(ours, web)
    assert ours.dropped_speech_s < web.dropped_speech_s
    assert ours.mean_ms <= DELAYS_MS[name]


def assert_no_worse(ours: Result, web: Result) -> None:
    assert ours.underruns <= web.underruns
    assert ours.dropped_speech_s <= web.dropped_speech_s


@pytest.mark.parametrize("content", [dialogue(), monologue()], ids=lambda content: content.name)
@pytest.mark.parametrize(("begin_s", "block"), [(4.0, 240), (4.5, 441), (5.23, 480), (6.01, 240), (6.7, 64)])
def test_after_a_stall_of_two_seconds_the_delay_is_back_within_three(
    content: Content, begin_s: float, block: int
) -> None:
    end_s = begin_s + 2
    delays_s = [end_s - i * STEP_S if begin_s < i * STEP_S < end_s else 0.0 for i in range(200)]
    result = run(Ours(content, 16, block), delayed("stall", delays_s), PHASE_S)
    before_ms = [ms for at_s, ms in zip(result.at_s, result.delays_ms, strict=True) if at_s < begin_s]
    after_ms = [ms for at_s, ms in zip(result.at_s, result.delays_ms, strict=True) if at_s > end_s + 3]
    assert max(after_ms) <= before_ms[-1] + 20
    assert result.underruns == 1


def test_a_queue_keeps_the_delay_of_its_worst_stall() -> None:
    """What the two others are for; and the simulation can tell."""
    result = run(Queue(dialogue(), DURATION_S), TRACES["one stall"], PHASE_S)
    assert result.delays_ms[-1] > 1900
