"""The gauge, told what a call would tell it: what was sent and came, step by step."""

from __future__ import annotations

import pytest

from personaplex_cli.lag import CALIBRATED_AFTER_S, REPORT_S, LagGauge

STEP_S = 0.08
Reading = tuple[float | None, float]


def hold(
    gauge: LagGauge, seconds: float, *, remote_ms: float, ahead_ms: float = 0.0, local_ms: float = 50.0
) -> list[Reading]:
    """A server that answers each step so late, and begins `ahead_ms` before it has heard anything."""
    readings = []
    for step in range(1, round(seconds / STEP_S)):
        now_s = 100.0 + step * STEP_S
        received_ms = 80.0 * step
        gauge.arrived(now_s, max(0.0, received_ms + remote_ms - ahead_ms))
        gauge.look(now_s + 0.01, now_s, received_ms, local_ms)
        if reading := gauge.take(now_s + 0.01):
            readings.append(reading)
    return readings


def test_nothing_is_told_before_there_is_anything() -> None:
    assert LagGauge().take(100.0) is None
    assert LagGauge().medians() == (None, None)


def test_what_is_not_answered_is_on_its_way() -> None:
    gauge = LagGauge()
    readings = hold(gauge, 5, remote_ms=400)
    assert readings == [(400.0, 50.0)] * len(readings)
    assert gauge.medians() == (400.0, 50.0)


def test_two_readings_a_second() -> None:
    assert len(hold(LagGauge(), 10, remote_ms=400)) == pytest.approx(10 / REPORT_S, abs=4)


def test_before_the_first_answer_only_our_own_lag_is_known() -> None:
    gauge = LagGauge()
    gauge.look(100.0, float("-inf"), 0.0, 30.0)
    assert gauge.take(100.0) == (None, 30.0)
    assert gauge.medians() == (None, 30.0)


def test_what_a_server_says_before_it_has_heard_as_much_is_no_answer() -> None:
    """It greets with a second of its own. What it is ahead by is taken off, but not what comes later."""
    gauge = LagGauge()
    readings = hold(gauge, CALIBRATED_AFTER_S + 1, remote_ms=300, ahead_ms=1000)
    assert [remote_ms for remote_ms, _ in readings] == [0.0] * len(readings)
    gauge.take(150.0)
    gauge.arrived(200.0, 10_000.0 - 700.0 + 250.0)
    gauge.look(200.0, 200.0, 10_000.0, 50.0)
    assert gauge.take(200.0) == (250.0, 50.0)


def test_what_a_server_is_ahead_by_later_is_not_taken_off() -> None:
    """Audio that was lost on the way to it, for example."""
    gauge = LagGauge()
    hold(gauge, CALIBRATED_AFTER_S + 1, remote_ms=300)
    gauge.take(150.0)
    for number, (unanswered_ms, remote_ms) in enumerate([(-500.0, 0.0), (200.0, 200.0)]):
        at_s = 200.0 + number
        gauge.arrived(at_s, 10_000.0 + unanswered_ms)
        gauge.look(at_s, at_s, 10_000.0, 50.0)
        assert gauge.take(at_s) == (remote_ms, 50.0)


def test_a_server_that_becomes_slower_is_noticed() -> None:
    gauge = LagGauge()
    hold(gauge, 4, remote_ms=300)
    gauge.take(150.0)
    gauge.arrived(200.0, 10_000.0 + 900.0)
    gauge.look(200.0, 200.0, 10_000.0, 50.0)
    assert gauge.take(200.0) == (900.0, 50.0)


def test_the_least_since_the_last_reading_is_told() -> None:
    """In between a step is being collected, and a block being played."""
    gauge = LagGauge()
    for number, (unanswered_ms, local_ms) in enumerate([(380, 70), (300, 60), (340, 90)]):
        at_s = 100.0 + 0.1 * number
        gauge.arrived(at_s, 1000.0 + unanswered_ms)
        gauge.look(at_s, at_s, 1000.0, local_ms)
    assert gauge.take(100.5) == (300.0, 60.0)


def test_what_is_not_yet_decoded_is_compared_when_it_is() -> None:
    gauge = LagGauge()
    gauge.arrived(100.0, 500.0)
    gauge.arrived(100.1, 580.0)
    gauge.look(100.2, 100.0, 100.0, 0.0)
    assert gauge.take(100.2) == (400.0, 0.0)
    gauge.look(101.0, 100.1, 180.0, 0.0)
    assert gauge.take(101.0) == (400.0, 0.0)


def test_a_reading_without_an_answer_since_the_last_says_so() -> None:
    gauge = LagGauge()
    gauge.arrived(100.0, 500.0)
    gauge.look(100.0, 100.0, 100.0, 20.0)
    assert gauge.take(100.0) == (400.0, 20.0)
    gauge.look(100.6, 100.0, 100.0, 20.0)
    assert gauge.take(100.6) == (None, 20.0)
    assert gauge.medians() == (400.0, 20.0)


def test_the_median_does_not_mind_a_stall() -> None:
    gauge = LagGauge()
    for number in range(20):
        at_s = 100.0 + number
        gauge.arrived(at_s, 1000.0 + (5000.0 if number == 7 else 200.0))
        gauge.look(at_s, at_s, 1000.0, 800.0 if number == 9 else 40.0)
        gauge.take(at_s)
    assert gauge.medians() == (200.0, 40.0)
