"""How late messages come, and what of that counts."""

from __future__ import annotations

import random

import pytest

from personaplex_cli.dsp.lateness import AHEAD_MESSAGES, WINDOW_S, Lateness

STEP_S = 0.08


def noted(latenesses_s: list[float], lateness: Lateness | None = None, first: int = 0) -> Lateness:
    """One message for each step, in order, so that none comes before the one ahead of it."""
    lateness = lateness or Lateness()
    arrived_s = 0.0
    for i, late_s in enumerate(latenesses_s, first):
        arrived_s = max(arrived_s, i * STEP_S + late_s)
        lateness.note(arrived_s, i * STEP_S)
    return lateness


def test_a_perfect_path_is_as_late_as_its_delay() -> None:
    lateness = noted([0.3] * 100)
    assert lateness.earliest_s == pytest.approx(0.3)
    assert lateness.latest_s == pytest.approx(0.3)


def test_the_first_message_is_all_that_is_known() -> None:
    lateness = noted([0.7])
    assert lateness.earliest_s == lateness.latest_s == 0.7


def test_the_worst_second_is_forgiven_and_the_next_counts() -> None:
    late = [0.0] * 200
    late[100] = 0.050
    assert noted(late).latest_s == pytest.approx(0)
    late[150] = 0.030
    assert noted(late).latest_s == pytest.approx(0.030)


@pytest.mark.parametrize("at", range(95, 110))
def test_a_stall_is_one_second_wherever_it_ends(at: int) -> None:
    """Two seconds of audio come at once: a burst is not two bad seconds."""
    late = [0.0] * at + [2 - i * STEP_S for i in range(25)] + [0.0] * 50
    assert noted(late).latest_s == pytest.approx(0)


def test_a_second_counts_for_half_a_minute() -> None:
    late = [0.0] * 1000
    late[30] = late[60] = 0.1
    steps = int(WINDOW_S / STEP_S)
    assert noted(late[: 30 + steps - 20]).latest_s == pytest.approx(0.1)
    assert noted(late[: 30 + steps + 20]).latest_s == pytest.approx(0)


def test_jitter_is_measured_from_its_fastest_to_nearly_its_slowest() -> None:
    rng = random.Random(7)
    lateness = noted([rng.uniform(0.2, 0.3) for _ in range(375)])
    assert lateness.earliest_s == pytest.approx(0.2, abs=0.002)
    assert lateness.latest_s == pytest.approx(0.3, abs=0.005)


def test_a_path_that_becomes_longer_for_good_is_no_jitter() -> None:
    rng = random.Random(8)
    before = [rng.uniform(0, 0.02) for _ in range(200)]
    after = [rng.uniform(3, 3.02) for _ in range(70)]
    lateness = noted(before + after)
    assert lateness.latest_s - lateness.earliest_s < 0.02


def test_a_path_that_becomes_shorter_counts_at_once() -> None:
    assert noted([0.3] * 100 + [0.1] * 10).earliest_s == pytest.approx(0.1)


@pytest.mark.parametrize("steps", [1, 5, 10, 60])
def test_a_server_that_is_given_more_audio_is_ahead_and_what_was_before_is_not_late(steps: int) -> None:
    rng = random.Random(steps)
    jitter = [rng.random() * 0.010 for _ in range(200)]
    lateness = Lateness()
    position_s = 0.0
    for i, late_s in enumerate(jitter):
        for _ in range(1 + steps * (i == 100)):  # at once: what had been stuck on its way to the server
            lateness.note(i * STEP_S + late_s, position_s)
            position_s += STEP_S
        if i >= 100 + AHEAD_MESSAGES:
            assert lateness.latest_s - lateness.earliest_s < 0.020
    assert lateness.earliest_s == pytest.approx(-steps * STEP_S, abs=0.001)


def test_a_single_message_that_comes_early_is_not_believed() -> None:
    lateness = noted([0.1] * 50)
    lateness.note(50 * STEP_S + 0.02, 50 * STEP_S)
    noted([0.1] * 40 + [0.15] + [0.1] * 40 + [0.15], lateness, 51)
    assert (lateness.earliest_s, lateness.latest_s) == pytest.approx((0.1, 0.15))


def test_a_flood_is_never_taken_for_jitter_for_long() -> None:
    lateness = Lateness()
    for i in range(1000):
        lateness.note(i * 0.001, i * STEP_S)
        assert lateness.earliest_s < i * 0.001 - i * STEP_S + (AHEAD_MESSAGES + 1) * STEP_S
