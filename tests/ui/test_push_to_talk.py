from __future__ import annotations

import pytest

from personaplex_cli.ui.push_to_talk import RELEASE_S, TalkKey

TICK_S = 0.05
REPEATS = {  # initial delay and interval
    "X11": (0.660, 0.040),
    "GNOME": (0.500, 0.030),
    "Windows": (0.500, 0.033),
    "Windows, slow": (1.000, 0.033),
    "macOS": (0.500, 0.090),
    "macOS, fast": (0.225, 0.030),
    "Linux console": (0.250, 0.092),
}


def held(start_s: float, end_s: float, repeat: str = "X11") -> list[float]:
    """When a terminal sends a key that is held down."""
    delay_s, interval_s = REPEATS[repeat]
    count = max(0, int((end_s - start_s - delay_s) / interval_s) + 1) if end_s - start_s >= delay_s else 0
    return [start_s, *(start_s + delay_s + number * interval_s for number in range(count))]


def talks(presses: list[float], until_s: float) -> list[tuple[float, bool]]:
    """When talking begins and ends, looked at with every press and each 50 ms."""
    key = TalkKey()
    ticks = [number * TICK_S for number in range(int(until_s / TICK_S) + 1)]
    changes: list[tuple[float, bool]] = []
    for now_s, is_press in sorted([(s, True) for s in presses] + [(s, False) for s in ticks]):
        before = key.talking
        if is_press:
            key.pressed(now_s)
        else:
            key.tick(now_s)
        if key.talking is not before:
            changes.append((now_s, key.talking))
    return changes


def test_silent_at_first() -> None:
    assert not TalkKey().talking
    assert talks([], 3.0) == []


def test_a_tap_switches_on_for_as_long_as_one_likes() -> None:
    assert talks([1.0], 600.0) == [(1.0, True)]


@pytest.mark.parametrize("gap_s", [0.13, 0.15, 0.19, 0.71, 1.0, 5.0, 300.0])
def test_a_second_tap_switches_off_at_once(gap_s: float) -> None:
    assert talks([1.0, 1.0 + gap_s], 310.0) == [(1.0, True), (1.0 + gap_s, False)]


@pytest.mark.parametrize("gap_s", [0.03, 0.1, 0.21, 0.25, 0.4, 0.5, 0.66, 0.69])
def test_a_second_tap_that_could_be_a_repeat_switches_off_soon(gap_s: float) -> None:
    (on_s, on), (off_s, off) = talks([1.0, 1.0 + gap_s], 10.0)
    assert (on_s, on, off) == (1.0, True, False)
    assert RELEASE_S <= off_s - (1.0 + gap_s) <= RELEASE_S + 2 * TICK_S


@pytest.mark.parametrize("repeat", [name for name in REPEATS if name != "Windows, slow"])
@pytest.mark.parametrize("held_s", [0.8, 3.0, 60.0])
def test_held_down_it_talks_until_it_is_let_go(repeat: str, held_s: float) -> None:
    presses = held(1.0, 1.0 + held_s, repeat)
    (on_s, on), (off_s, off) = talks(presses, 70.0)
    assert (on_s, on, off) == (1.0, True, False)
    assert RELEASE_S <= off_s - presses[-1] <= RELEASE_S + 2 * TICK_S


@pytest.mark.parametrize("lost", [5, 20, 21])
def test_a_repeat_may_be_lost(lost: int) -> None:
    presses = held(1.0, 4.0, "macOS")
    del presses[lost]
    assert len(talks(presses, 10.0)) == 2


def test_repeats_that_a_slow_network_sends_at_once() -> None:
    presses = [1.0, 1.5, 1.64, 1.64, 1.64, 1.64, 1.8, 1.8, 1.8]
    assert [on for _, on in talks(presses, 10.0)] == [True, False]


def test_a_stall_in_between_interrupts_but_does_not_leave_it_on() -> None:
    presses = [1.0, 1.5, 1.54, 1.58, 2.5, 2.5, 2.5, 2.5, 2.54, 2.58]
    changes = talks(presses, 10.0)
    assert [on for _, on in changes] == [True, False, True, False]
    assert changes[-1][0] < 3.0


def test_with_a_long_initial_delay_only_a_moment_is_lost() -> None:
    on, off, on_again, off_at_last = talks(held(1.0, 4.0, "Windows, slow"), 10.0)
    assert (on[1], off[1], on_again[1], off_at_last[1]) == (True, False, True, False)
    assert on_again[0] - off[0] < 0.05
    assert 4.0 < off_at_last[0] < 4.35


def test_held_twice() -> None:
    changes = talks(held(1.0, 3.0) + held(3.5, 6.0), 10.0)
    assert [on for _, on in changes] == [True, False, True, False]
    assert changes[2][0] == 3.5


def test_tapped_after_it_was_held() -> None:
    changes = talks([*held(1.0, 3.0), 4.0], 10.0)
    assert [on for _, on in changes] == [True, False, True]
    assert changes[-1] == (4.0, True)


def test_held_after_a_tap_it_ends_up_off() -> None:
    changes = talks([1.0, *held(5.0, 8.0)], 20.0)
    assert changes[:3] == [(1.0, True), (5.0, False), (5.66, True)]
    assert len(changes) == 4
    assert not changes[-1][1] and changes[-1][0] < 8.35


def test_on_off_on() -> None:
    assert talks([1.0, 1.15, 1.6], 10.0) == [(1.0, True), (1.15, False), (1.6, True)]
    assert talks([1.0, 3.0, 3.3], 10.0) == [(1.0, True), (3.0, False), (3.3, True)]


def test_a_press_ends_what_no_tick_has_ended() -> None:
    key = TalkKey()
    for press_s in held(1.0, 3.0):
        key.pressed(press_s)
    key.pressed(9.0)
    assert key.talking
    key.pressed(11.0)
    assert not key.talking
