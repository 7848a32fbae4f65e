from __future__ import annotations

import pytest

from personaplex_cli.events import EndReason
from personaplex_cli.limits import Limits, LimitWatch
from personaplex_cli.pcm import SILENCE_DBFS, SPEECH_DBFS

OPENED = 500.0
SPEECH = SPEECH_DBFS + 0.1


class Watched:
    """A watch whose call is live from the start, with the times counted from there."""

    def __init__(self, limits: Limits) -> None:
        self.watch = LimitWatch(limits, OPENED)

    def __call__(
        self,
        at_s: float,
        user_dbfs: float = SILENCE_DBFS,
        agent_dbfs: float = SILENCE_DBFS,
        *,
        finished: bool = False,
    ) -> EndReason | None:
        over = self.watch.live(
            OPENED + at_s, user_dbfs=user_dbfs, agent_dbfs=agent_dbfs, input_finished=finished
        )
        return over[0] if over else None


def test_idle_counts_from_the_last_speech_of_either_side() -> None:
    look = Watched(Limits(idle_s=60))
    assert look(59.9) is None
    assert look(59.9, user_dbfs=SPEECH) is None
    assert look(119.8) is None
    assert look(119.8, agent_dbfs=SPEECH) is None
    assert look(179.7) is None
    assert look(179.8) is EndReason.IDLE


def test_the_end_says_the_limit() -> None:
    idle = LimitWatch(Limits(idle_s=2.5), 0)
    assert idle.live(9, user_dbfs=-90, agent_dbfs=-90, input_finished=False) == (EndReason.IDLE, "for 2.5 s")
    long = LimitWatch(Limits(max_duration_s=5), 0)
    assert long.live(9, user_dbfs=-90, agent_dbfs=-90, input_finished=False) == (
        EndReason.MAX_DURATION,
        "5 s",
    )


def test_noise_at_the_threshold_is_not_speech() -> None:
    look = Watched(Limits(idle_s=1))
    assert look(0.9, user_dbfs=SPEECH_DBFS, agent_dbfs=SPEECH_DBFS) is None
    assert look(1.0) is EndReason.IDLE


def test_speech_in_the_very_moment_of_the_limit_counts() -> None:
    look = Watched(Limits(idle_s=1))
    assert look(1.0, user_dbfs=SPEECH) is None


@pytest.mark.parametrize("at_s", [3600.0, 1e9])
def test_without_limits_a_call_goes_on(at_s: float) -> None:
    assert Watched(Limits(idle_s=None, max_duration_s=None))(at_s) is None


def test_the_longest_duration_counts_from_the_opening_whoever_speaks() -> None:
    look = Watched(Limits(max_duration_s=10, idle_s=None))
    assert look(9.9, SPEECH, SPEECH) is None
    assert look(10.0, SPEECH, SPEECH) is EndReason.MAX_DURATION


def test_the_tail_counts_from_the_input_s_end() -> None:
    look = Watched(Limits(tail_s=3))
    assert look(5.0) is None
    assert look(7.9, finished=True) is None
    assert look(8.0, finished=True) is EndReason.INPUT_ENDED


def test_the_tail_counts_from_the_agent_s_last_speech_if_that_is_later() -> None:
    look = Watched(Limits(tail_s=3))
    assert look(5.0) is None
    assert look(7.0, agent_dbfs=SPEECH, finished=True) is None
    assert look(9.9, finished=True) is None
    assert look(10.0, finished=True) is EndReason.INPUT_ENDED


def test_the_tail_begins_after_the_input_although_the_agent_spoke_before() -> None:
    look = Watched(Limits(tail_s=3))
    assert look(1.0, agent_dbfs=SPEECH) is None
    assert look(50.0) is None
    assert look(52.9, finished=True) is None
    assert look(53.0, finished=True) is EndReason.INPUT_ENDED


def test_the_user_s_own_level_does_not_prolong_the_tail() -> None:
    """The last blocks of a file may still be loud when it is over."""
    look = Watched(Limits(tail_s=1))
    assert look(5.0, user_dbfs=SPEECH) is None
    assert look(6.0, user_dbfs=SPEECH, finished=True) is EndReason.INPUT_ENDED


def test_a_tail_of_zero_ends_with_the_input() -> None:
    look = Watched(Limits(tail_s=0))
    assert look(5.0, finished=True) is EndReason.INPUT_ENDED


def test_a_long_input_of_silence_is_idle_first() -> None:
    look = Watched(Limits(idle_s=60, tail_s=3))
    assert look(60.0) is EndReason.IDLE


def test_the_time_limit_goes_before_the_others() -> None:
    look = Watched(Limits(max_duration_s=3, idle_s=3, tail_s=3))
    assert look(3.0, finished=True) is EndReason.MAX_DURATION


def test_waiting_for_the_model_is_not_idling() -> None:
    watch = LimitWatch(Limits(idle_s=10, tail_s=3), OPENED)
    assert watch.waiting(OPENED + 59) is None
    silent = {"user_dbfs": SILENCE_DBFS, "agent_dbfs": SILENCE_DBFS}
    assert watch.live(OPENED + 61.9, **silent, input_finished=True) is None
    assert watch.live(OPENED + 62, **silent, input_finished=True) == (EndReason.INPUT_ENDED, "")
    assert watch.live(OPENED + 69, **silent, input_finished=False) == (EndReason.IDLE, "for 10 s")


def test_waiting_for_the_model_is_paid_for() -> None:
    watch = LimitWatch(Limits(max_duration_s=20), OPENED)
    assert watch.waiting(OPENED + 19.9) is None
    assert watch.waiting(OPENED + 20) == (EndReason.MAX_DURATION, "20 s")
