from __future__ import annotations

import pytest

from personaplex_cli.events import EndReason
from personaplex_cli.limits import Limits, LimitWatch

OPENED = 500.0
NEVER = float("-inf")
NOBODY = {"user_spoke_s": NEVER, "agent_spoke_s": NEVER}


class Watched:
    """A watch whose call is live from the start, with the times counted from there."""

    def __init__(self, limits: Limits) -> None:
        self.watch = LimitWatch(limits, OPENED)
        self.user_s = self.agent_s = NEVER

    def __call__(
        self,
        at_s: float,
        *,
        user: bool = False,
        agent: bool = False,
        finished: bool = False,
    ) -> EndReason | None:
        """`user` and `agent`: who speaks."""
        now_s = OPENED + at_s
        self.user_s = now_s if user else self.user_s
        self.agent_s = now_s if agent else self.agent_s
        over = self.watch.live(
            now_s, user_spoke_s=self.user_s, agent_spoke_s=self.agent_s, input_finished=finished
        )
        return over[0] if over else None


def test_idle_counts_from_the_last_speech_of_either_side() -> None:
    look = Watched(Limits(idle_s=60))
    assert look(59.9) is None
    assert look(59.9, user=True) is None
    assert look(119.8) is None
    assert look(119.8, agent=True) is None
    assert look(179.7) is None
    assert look(179.8) is EndReason.IDLE


def test_speech_that_was_none_after_all_puts_nothing_off() -> None:
    look = Watched(Limits(idle_s=60))
    assert look(50.0, user=True) is None
    assert look.watch.idle_end_s is None
    look.user_s = NEVER
    assert look(59.9) is None
    assert look.watch.idle_end_s == OPENED + 60
    assert look(60.0) is EndReason.IDLE


def test_the_end_says_the_limit() -> None:
    idle = LimitWatch(Limits(idle_s=2.5), 0)
    assert idle.live(9, **NOBODY, input_finished=False) == (EndReason.IDLE, "for 2.5 s")
    long = LimitWatch(Limits(max_duration_s=5), 0)
    assert long.live(9, **NOBODY, input_finished=False) == (EndReason.MAX_DURATION, "5 s")


def test_speech_in_the_very_moment_of_the_limit_counts() -> None:
    look = Watched(Limits(idle_s=1))
    assert look(1.0, user=True) is None


@pytest.mark.parametrize("at_s", [3600.0, 1e9])
def test_without_limits_a_call_goes_on(at_s: float) -> None:
    assert Watched(Limits(idle_s=None, max_duration_s=None))(at_s) is None


def test_the_longest_duration_counts_from_the_opening_whoever_speaks() -> None:
    look = Watched(Limits(max_duration_s=10, idle_s=None))
    assert look(9.9, user=True, agent=True) is None
    assert look(10.0, user=True, agent=True) is EndReason.MAX_DURATION


def test_the_tail_counts_from_the_input_s_end() -> None:
    look = Watched(Limits(tail_s=3))
    assert look(5.0) is None
    assert look(7.9, finished=True) is None
    assert look(8.0, finished=True) is EndReason.INPUT_ENDED


def test_the_tail_counts_from_the_agent_s_last_speech_if_that_is_later() -> None:
    look = Watched(Limits(tail_s=3))
    assert look(5.0) is None
    assert look(7.0, agent=True, finished=True) is None
    assert look(9.9, finished=True) is None
    assert look(10.0, finished=True) is EndReason.INPUT_ENDED


def test_the_tail_begins_after_the_input_although_the_agent_spoke_before() -> None:
    look = Watched(Limits(tail_s=3))
    assert look(1.0, agent=True) is None
    assert look(50.0) is None
    assert look(52.9, finished=True) is None
    assert look(53.0, finished=True) is EndReason.INPUT_ENDED


def test_the_user_s_own_level_does_not_prolong_the_tail() -> None:
    """The last blocks of a file may still be loud when it is over."""
    look = Watched(Limits(tail_s=1))
    assert look(5.0, user=True) is None
    assert look(6.0, user=True, finished=True) is EndReason.INPUT_ENDED


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
    assert watch.live(OPENED + 61.9, **NOBODY, input_finished=True) is None
    assert watch.live(OPENED + 62, **NOBODY, input_finished=True) == (EndReason.INPUT_ENDED, "")
    assert watch.live(OPENED + 69, **NOBODY, input_finished=False) == (EndReason.IDLE, "for 10 s")


def test_waiting_for_the_model_is_paid_for() -> None:
    watch = LimitWatch(Limits(max_duration_s=20), OPENED)
    assert watch.waiting(OPENED + 19.9) is None
    assert watch.waiting(OPENED + 20) == (EndReason.MAX_DURATION, "20 s")


# --- what is told before


def test_the_end_by_idleness_is_told_30_s_before() -> None:
    look = Watched(Limits(idle_s=60))
    assert look(29.9) is None and look.watch.idle_end_s is None
    assert look(30.0) is None and look.watch.idle_end_s == OPENED + 60
    assert look(59.9) is None and look.watch.idle_end_s == OPENED + 60
    assert look(60.0) is EndReason.IDLE


def test_a_short_idle_limit_is_told_in_its_second_half() -> None:
    look = Watched(Limits(idle_s=10))
    assert look(4.9) is None and look.watch.idle_end_s is None
    assert look(5.0) is None and look.watch.idle_end_s == OPENED + 10


@pytest.mark.parametrize("who", ["user", "agent"])
def test_who_speaks_stops_the_countdown(who: str) -> None:
    look = Watched(Limits(idle_s=60))
    look(40.0)
    assert look(45.0, user=who == "user", agent=who == "agent") is None and look.watch.idle_end_s is None
    assert look(104.9) is None and look.watch.idle_end_s == OPENED + 105
    assert look(105.0) is EndReason.IDLE


def test_a_user_who_does_something_stops_the_countdown() -> None:
    look = Watched(Limits(idle_s=60))
    look(59.9)
    look.watch.put_off_idle(OPENED + 59.9)
    assert look(60.0) is None and look.watch.idle_end_s is None
    assert look(119.8) is None
    assert look(119.9) is EndReason.IDLE


def test_what_the_user_does_prolongs_nothing_else() -> None:
    look = Watched(Limits(max_duration_s=10, tail_s=3))
    look(5.0)
    look.watch.put_off_idle(OPENED + 7)
    assert look(8.0, finished=True) is EndReason.INPUT_ENDED
    assert look(10.0) is EndReason.MAX_DURATION


def test_without_an_idle_limit_there_is_no_countdown() -> None:
    look = Watched(Limits(idle_s=None))
    assert look(1e6) is None and look.watch.idle_end_s is None


def test_the_time_limit_is_told_at_a_fifth_a_minute_and_ten_seconds() -> None:
    watch = LimitWatch(Limits(max_duration_s=600), OPENED)
    for at_s, left in [
        (479.9, []),
        (480.0, [120.0]),
        (480.1, []),
        (539.9, []),
        (540.0, [60.0]),
        (589.9, []),
        (590.0, [10.0]),
        (599.9, []),
        (700.0, []),
    ]:
        assert watch.take_warnings(OPENED + at_s) == left, at_s


@pytest.mark.parametrize(
    ("limit_s", "told_s"),
    [
        (600.0, [120.0, 60.0, 10.0]),
        (300.0, [60.0, 10.0]),  # a fifth of it is a minute
        (120.0, [60.0, 24.0, 10.0]),
        (119.0, [23.8, 10.0]),  # a minute before the end would be in the first half
        (20.0, [10.0, 4.0]),
        (19.0, [3.8]),
        (1.0, [0.2]),
        (None, []),
    ],
)
def test_nothing_is_told_before_half_of_the_time_is_over(limit_s: float | None, told_s: list[float]) -> None:
    watch = LimitWatch(Limits(max_duration_s=limit_s), OPENED)
    looks = (OPENED + tenths / 10 for tenths in range(round(10 * (limit_s or 1000)) + 1))
    assert [left_s for at_s in looks for left_s in watch.take_warnings(at_s)] == pytest.approx(told_s)


def test_the_time_limit_counts_what_earlier_calls_took() -> None:
    watch = LimitWatch(Limits(max_duration_s=600, spent_s=530), OPENED)
    assert watch.take_warnings(OPENED) == []  # 70 s are left: "a minute" would be told at once
    assert watch.take_warnings(OPENED + 59.9) == []
    assert watch.take_warnings(OPENED + 60) == [10.0]
    assert watch.waiting(OPENED + 69.9) is None
    assert watch.live(OPENED + 70, **NOBODY, input_finished=False) == (EndReason.MAX_DURATION, "600 s")


def test_of_what_became_due_at_once_the_least_is_told() -> None:
    """A process that was stopped goes on."""
    watch = LimitWatch(Limits(max_duration_s=600), OPENED)
    assert watch.take_warnings(OPENED + 550) == [60.0]
    assert watch.take_warnings(OPENED + 551) == []


def test_time_reckoned_from_a_budget_ends_as_the_budget() -> None:
    watch = LimitWatch(Limits(max_duration_s=90, budget=1.5), OPENED)
    assert watch.take_warnings(OPENED + 72) == [18.0]
    assert watch.waiting(OPENED + 89.9) is None
    assert watch.live(OPENED + 90, **NOBODY, input_finished=False) == (EndReason.BUDGET, "1.5")


def test_a_call_that_begins_with_little_time_left_is_warned_all_the_same() -> None:
    watch = LimitWatch(Limits(max_duration_s=600, spent_s=585), OPENED)
    assert watch.take_warnings(OPENED + 4.9) == []
    assert watch.take_warnings(OPENED + 5) == [10.0]
