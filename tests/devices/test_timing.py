from __future__ import annotations

import pytest

from personaplex_cli.devices.timing import LONGEST_MS, CallbackTiming

BLOCK_S = 0.01


def timing_of(*late_ms: float) -> CallbackTiming:
    """Of callbacks that are so late, each."""
    timing = CallbackTiming()
    now_s = 100.0
    timing.called(now_s, BLOCK_S, False)
    for late in late_ms:
        now_s += BLOCK_S + late / 1000 + 1e-6
        timing.called(now_s, BLOCK_S, False)
    return timing


def test_callbacks_in_time_are_not_late() -> None:
    assert timing_of(*[0.0] * 100).late(0.999) == 0


def test_nothing_is_late_before_there_was_a_callback() -> None:
    assert CallbackTiming().late(0.999) == 0


def test_a_callback_that_comes_early_is_not_late() -> None:
    assert timing_of(*[-9.0] * 10).late(0.999) == 0


@pytest.mark.parametrize(
    ("n_late", "share", "late_ms"),
    [(1, 0.99, 0), (2, 0.99, 30), (20, 0.99, 30), (1, 0.999, 30), (50, 0.5, 0)],
)
def test_the_lateness_that_a_share_stays_below(n_late: int, share: float, late_ms: int) -> None:
    """Of 100 callbacks, some 30 ms late."""
    timing = timing_of(*[0.0] * (100 - n_late), *[30.0] * n_late)
    assert timing.late(share) == late_ms


def test_more_than_the_longest_counts_as_the_longest() -> None:
    assert timing_of(5000.0).late(0.999) == LONGEST_MS


def test_lateness_is_counted_from_the_end_of_the_block_before() -> None:
    timing = CallbackTiming()
    timing.called(100.0, 0.04, False)
    timing.called(100.0415, BLOCK_S, False)
    timing.called(100.0720, BLOCK_S, False)
    assert (timing.late(0.4), timing.late(0.999)) == (1, 20)


def test_what_the_host_says_is_counted() -> None:
    timing = CallbackTiming()
    for flagged in (False, True, True, False):
        timing.called(100.0, BLOCK_S, flagged)
    assert timing.flagged == 2


def test_silence_begins_when_a_callback_is_due() -> None:
    timing = CallbackTiming()
    timing.restarted(100.0)
    assert timing.silent_s(101.5) == pytest.approx(1.5)
    timing.called(102.0, BLOCK_S, False)
    assert timing.silent_s(102.005) < 0
    assert timing.silent_s(103.01) == pytest.approx(1.0)


def test_the_first_callback_after_a_restart_is_not_late() -> None:
    timing = timing_of(0.0, 0.0)
    timing.restarted(200.0)
    timing.called(200.9, BLOCK_S, False)
    assert timing.late(0.999) == 0
