"""Who speaks when: calls drawn as stretches of speech, noise from a seeded generator, and spoken clips."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import personaplex_cli.standin
from personaplex_cli.codec.stream import StreamDecoder
from personaplex_cli.pcm import PACKET_BYTES, SAMPLE_RATE, SILENCE_DBFS, level_dbfs, samples
from personaplex_cli.turns import Side, Turn, Turns, VoiceActivity

SPEECH, QUIET = -20.0, -60.0
LEVELS_PER_S = 50
TESTS = Path(__file__).parent
CLIPS = Path(personaplex_cli.standin.__file__).parent / "clips"

Stretches = Sequence[tuple[float, float]]
Told = tuple[str, float, float, str]
"""Side, start, end and kind of a turn."""


def drawn(stretches: Stretches, until_s: float) -> list[float]:
    """Levels of a side that speaks in these stretches (seconds, in steps of 0.02)."""
    levels = [QUIET] * round(until_s * LEVELS_PER_S)
    for start_s, end_s in stretches:
        for n in range(round(start_s * LEVELS_PER_S), round(min(end_s, until_s) * LEVELS_PER_S)):
            levels[n] = SPEECH
    return levels


def arriving(
    user: Sequence[float], agent: Sequence[float], late_s: float = 0
) -> Iterator[tuple[Side, float, float]]:
    """Both sides' levels in the order in which they come if the agent's are late, or early."""
    both = [(Side.USER, n, dbfs, 0.0) for n, dbfs in enumerate(user, 1)]
    both += [(Side.AGENT, n, dbfs, late_s) for n, dbfs in enumerate(agent, 1)]
    for side, n, dbfs, _ in sorted(both, key=lambda one: one[1] / LEVELS_PER_S + one[3]):
        yield side, n / LEVELS_PER_S, dbfs


def turns_of(levels: Iterable[tuple[Side, float, float]]) -> list[Turn]:
    turns = Turns()
    decided = [turn for side, at_s, dbfs in levels for turn in turns.level(side, at_s, dbfs)]
    return decided + turns.finish()


def told(turns: Iterable[Turn]) -> list[Told]:
    """In the order of their starts."""
    return sorted(
        ((str(t.side), round(t.start_s, 3), round(t.end_s, 3), str(t.kind)) for t in turns),
        key=lambda t: t[1],
    )


def talk(user: Stretches = (), agent: Stretches = (), until_s: float = 20, late_s: float = 0) -> list[Told]:
    return told(turns_of(arriving(drawn(user, until_s), drawn(agent, until_s), late_s)))


def talk_both_ways(one: Stretches, other: Stretches) -> list[Told]:
    """Of the user `one` and the agent `other`; the same must come of them with roles exchanged."""
    exchanged = {"user": "agent", "agent": "user"}
    turns, swapped = talk(user=one, agent=other), talk(user=other, agent=one)
    assert sorted((exchanged[side], *rest) for side, *rest in swapped) == sorted(turns)
    return turns


# Speech


def heard(
    levels: Iterable[float], begins_s: float = 0
) -> tuple[list[tuple[float, float]], list[float], VoiceActivity]:
    """Stretches of speech, and when each end was known."""
    voice, stretches, known = VoiceActivity(), [], []
    for n, dbfs in enumerate(levels, 1):
        at_s = begins_s + n / LEVELS_PER_S
        if voice.level(at_s, dbfs) is False:
            stretches.append((round(voice.started_s - begins_s, 3), round(voice.ended_s - begins_s, 3)))
            known.append(round(at_s - begins_s, 3))
    return stretches, known, voice


def test_speech_has_the_times_when_it_really_began_and_ended() -> None:
    voice = VoiceActivity()
    changes = [
        (n, changed)
        for n, dbfs in enumerate(drawn([(1, 2)], 3), 1)
        if (changed := voice.level(n / LEVELS_PER_S, dbfs)) is not None
    ]
    assert changes == [(53, True), (110, False)]  # 60 ms and 200 ms later
    assert [voice.started_s, voice.ended_s] == pytest.approx([1, 2])
    assert not voice.speaking


@pytest.mark.parametrize(("length_s", "speech"), [(0.02, False), (0.04, False), (0.06, True)])
def test_a_click_is_not_speech(length_s: float, speech: bool) -> None:
    assert bool(heard(drawn([(1, 1 + length_s)], 2))[0]) is speech


def test_clicks_on_both_sides_of_a_gap_are_not_speech() -> None:
    voice = VoiceActivity()
    assert [voice.level(at_s, SPEECH) for at_s in (1.0, 1.02, 2.0, 2.02)] == [None] * 4
    assert voice.level(2.04, SPEECH) and voice.started_s == pytest.approx(1.98)


@pytest.mark.parametrize(("gap_s", "stretches"), [(0.18, 1), (0.2, 2)])
def test_the_closure_in_a_word_does_not_end_a_stretch(gap_s: float, stretches: int) -> None:
    assert len(heard(drawn([(1, 2), (2 + gap_s, 3)], 4))[0]) == stretches


@pytest.mark.parametrize(("dbfs", "speech"), [(-45.0, False), (-44.9, True)])
def test_speech_begins_above_one_threshold(dbfs: float, speech: bool) -> None:
    assert bool(heard([QUIET] * 50 + [dbfs] * 10 + [QUIET] * 50)[0]) is speech


@pytest.mark.parametrize(("dbfs", "end_s"), [(-50.0, 1.6), (-50.1, 1.2)])
def test_and_ends_below_a_lower_one(dbfs: float, end_s: float) -> None:
    stretches, _, _ = heard([QUIET] * 50 + [SPEECH] * 10 + [dbfs] * 20 + [QUIET] * 50)
    assert stretches == [(1.0, end_s)]


# Noise


def noise(n_levels: int, dbfs: float = -38, spread_db: float = 2, seed: int = 1) -> list[float]:
    generator = random.Random(seed)
    return [generator.gauss(dbfs, spread_db) for _ in range(n_levels)]


def mixed(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [10 * math.log10(10 ** (a / 10) + 10 ** (b / 10)) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("dbfs", [-60, -48, -45, -42, -38])
@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_room_is_not_speech(dbfs: float, seed: int) -> None:
    stretches, known, voice = heard(noise(3000, dbfs, seed=seed))
    assert all(end_s == start_s for start_s, end_s in stretches)
    assert all(known_s < 1.5 for known_s in known)
    assert not voice.speaking


def test_a_fan_that_is_switched_on_is_taken_back() -> None:
    levels = noise(500, QUIET) + noise(1500, -36)
    stretches, known, voice = heard(levels)
    assert stretches == [(10, 10)] and 10.9 < known[0] < 11.5
    assert not voice.speaking
    quiet = noise(len(levels), QUIET, seed=2)
    assert turns_of(arriving(levels, quiet)) == turns_of(arriving(quiet, levels)) == []


def test_speech_ends_where_it_did_though_a_fan_starts_right_after_it() -> None:
    speech = [dbfs + 6 * math.sin(n) for n, dbfs in enumerate([SPEECH] * 100)]
    stretches, _, _ = heard([QUIET] * 50 + speech + noise(500))
    assert len(stretches) == 1
    assert stretches[0] == pytest.approx((1, 3), abs=0.1)


def test_a_fan_neither_prolongs_a_turn_nor_takes_one() -> None:
    speech = [dbfs + 6 * math.sin(n) for n, dbfs in enumerate([SPEECH] * 100)]
    user = [QUIET] * 50 + speech + [QUIET] * 25 + noise(500)
    assert told(turns_of(arriving(user, [QUIET] * len(user)))) == [("user", 1, 3, "turn")]
    fan = [QUIET] * 145 + noise(500)
    agent = drawn([(1, 3), (3.96, 5)], len(fan) / LEVELS_PER_S)
    assert told(turns_of(arriving(fan, agent))) == [("agent", 1, 5, "turn")]


def test_once_the_fan_is_off_speech_may_be_quiet_again() -> None:
    quiet_speech = [-38 + 6 * math.sin(n / 3) for n in range(50)]
    assert heard(noise(500) + noise(50, QUIET) + quiet_speech + noise(50, QUIET))[0][-1] == (11, 12)


@pytest.mark.parametrize("above_db", [15, 20])
def test_speech_over_noise_is_speech(above_db: float) -> None:
    room, speech = noise(1000), [SILENCE_DBFS] * 1000
    speech[600:700] = [-38.0 + above_db] * 100
    stretches, _, _ = heard(mixed(room, speech))
    (stretch,) = [stretch for stretch in stretches if stretch[0] > 2]
    assert stretch == pytest.approx((12, 14), abs=0.1)


def test_a_voice_without_pauses_does_not_raise_its_own_floor() -> None:
    """Everything quiet was cut out of the clip; then it goes on for 30 s."""
    for name in ("echo/far", "echo/near"):
        loud = [dbfs for dbfs in levels_of(pcm_of(TESTS / "fixtures" / f"{name}.opus")) if dbfs > -45]
        voice = [loud[n % len(loud)] for n in range(1500)]
        assert heard(voice + [QUIET] * 20)[0] == [(0, 30)]


@pytest.mark.parametrize("dbfs", [-30.0, -20.0, -3.0])
def test_nor_does_a_tone_that_is_held(dbfs: float) -> None:
    assert heard([QUIET] * 50 + [dbfs] * 500 + [QUIET] * 50)[0] == [(1, 11)]


@pytest.mark.parametrize("n_muted", [10, 23, 1000])
def test_a_noisy_room_is_known_when_its_microphone_is_no_longer_muted(n_muted: int) -> None:
    levels = noise(500) + [SILENCE_DBFS] * n_muted + noise(500, seed=3)
    assert all(known_s < 1.5 for known_s in heard(levels)[1])


def test_a_mute_from_the_first_says_nothing_about_the_room() -> None:
    stretches, known, _ = heard([SILENCE_DBFS] * 500 + noise(500))
    assert stretches == [(10, 10)] and known[0] < 11.5


# Turns


def test_turns_that_follow_each_other() -> None:
    assert talk_both_ways([(0, 1.5), (6, 7)], [(2, 5)]) == [
        ("user", 0, 1.5, "turn"),
        ("agent", 2, 5, "turn"),
        ("user", 6, 7, "turn"),
    ]


@pytest.mark.parametrize(("pause_s", "turns"), [(0.98, 1), (1.0, 2)])
def test_a_pause_of_a_second_ends_a_turn(pause_s: float, turns: int) -> None:
    assert len(talk_both_ways([(1, 2), (2 + pause_s, 4)], [])) == turns


def test_a_turn_ends_when_the_other_begins_in_its_pause() -> None:
    assert talk_both_ways([(1, 2), (2.9, 4)], [(2.3, 2.6)]) == [
        ("user", 1, 2, "turn"),
        ("agent", 2.3, 2.6, "turn"),
        ("user", 2.9, 4, "turn"),
    ]


def test_who_both_go_on_at_the_same_time_go_on() -> None:
    both = [(1.0, 2.0), (2.5, 3.0)]
    assert talk_both_ways(both, both) == [("user", 1, 3, "turn"), ("agent", 1, 3, "turn")]


def test_a_cough_in_a_pause_takes_no_turn() -> None:
    assert talk_both_ways([(1, 2), (2.8, 4)], [(2.3, 2.4)]) == [("user", 1, 4, "turn")]


def test_a_small_overlap_is_normal() -> None:
    """The other side waits until the answer was given: that is the end of its turn."""
    assert talk_both_ways([(1, 3), (3.6, 6)], [(2.8, 3.4)]) == [
        ("user", 1, 3, "turn"),
        ("agent", 2.8, 3.4, "turn"),
        ("user", 3.6, 6, "turn"),
    ]


def test_a_backchannel_shortly_before_a_pause_is_none_the_less() -> None:
    assert talk_both_ways([(1, 3), (3.3, 6)], [(2.8, 3.4)])[1] == ("agent", 2.8, 3.4, "backchannel")


@pytest.mark.parametrize(("left_s", "kind"), [(0.24, "turn"), (0.26, "interruption")])
def test_who_begins_earlier_interrupts(left_s: float, kind: str) -> None:
    assert talk_both_ways([(1, 5)], [(round(5 - left_s, 2), 8)])[1][3] == kind


def test_the_floor_is_taken() -> None:
    assert talk_both_ways([(1, 5)], [(4, 8)]) == [("user", 1, 5, "turn"), ("agent", 4, 8, "interruption")]


@pytest.mark.parametrize(
    ("goes_on_s", "length_s", "kind"),
    [
        (0.5, 0.5, "interruption"),
        (0.52, 0.5, "backchannel"),
        (0.52, 1.0, "backchannel"),
        (0.52, 1.02, "overlap"),
        (0.5, 1.02, "interruption"),
        (9, 0.5, "backchannel"),
        (9, 4, "overlap"),
    ],
)
def test_what_becomes_of_it_shows_in_who_goes_on(goes_on_s: float, length_s: float, kind: str) -> None:
    turns = talk_both_ways([(1, 3 + length_s + goes_on_s)], [(3, 3 + length_s)])
    assert turns[1] == ("agent", 3, round(3 + length_s, 3), kind)
    assert turns[0][3] == "turn"


def test_who_only_pauses_has_not_stopped() -> None:
    assert talk_both_ways([(1, 4.3), (4.8, 9)], [(3.5, 4)])[1][3] == "backchannel"
    assert talk_both_ways([(1, 4.4), (5.38, 9)], [(3.5, 4)])[1][3] == "backchannel"
    assert talk_both_ways([(1, 4.3), (5.4, 9)], [(3.5, 4)])[1][3] == "interruption"


@pytest.mark.parametrize(("length_s", "turns"), [(0.1, 0), (0.12, 1)])
def test_a_cough_is_no_turn(length_s: float, turns: int) -> None:
    assert len(talk_both_ways([(3, 3 + length_s)], [])) == turns
    assert len(talk_both_ways([(3, 3 + length_s)], [(1, 6)])) == 1 + turns


def test_coughs_together_may_be_one() -> None:
    assert talk_both_ways([(3, 3.06), (3.4, 3.46)], []) == [("user", 3, 3.46, "turn")]


def test_who_begins_during_a_cough_interrupts_nobody() -> None:
    assert talk_both_ways([(3, 3.1)], [(3.02, 5)]) == [("agent", 3.02, 5, "turn")]
    assert talk_both_ways([(3, 3.1), (3.6, 6)], [(3.02, 5)])[1] == ("agent", 3.02, 5, "turn")


def test_a_turn_says_for_how_long_both_spoke() -> None:
    turns = turns_of(arriving(drawn([(1, 5), (5.5, 8)], 12), drawn([(2, 2.5), (4.5, 6)], 12)))
    by_start = {(turn.side, round(turn.start_s, 2)): turn.overlap_s for turn in turns}
    assert by_start == {
        (Side.USER, 1): pytest.approx(1.5),
        (Side.AGENT, 2): pytest.approx(0.5),
        (Side.AGENT, 4.5): pytest.approx(1.0),
    }


# Live


def decided_at(user: Stretches, agent: Stretches, late_s: float = 0) -> dict[tuple[str, float], float]:
    """Side and start of a turn → the time of the level with which it was told."""
    turns, when = Turns(), {}
    for side, at_s, dbfs in arriving(drawn(user, 20), drawn(agent, 20), late_s):
        when.update({(str(t.side), round(t.start_s, 2)): at_s for t in turns.level(side, at_s, dbfs)})
    return when


def test_a_turn_is_told_soon() -> None:
    when = decided_at([(1, 3), (10, 14)], [(3.4, 5), (12, 12.5)])
    assert 3.4 < when["user", 1] <= 3.4 + 0.45  # the other side took its turn
    assert 6 < when["agent", 3.4] <= 6 + 0.45  # a second of silence
    assert 13 < when["agent", 12] <= 13.5 + 0.45  # the other side went on


def test_speaking_is_told_at_once() -> None:
    turns = Turns()
    for n in range(1, 4):
        assert not turns.speaking(Side.AGENT)
        turns.level(Side.AGENT, n / LEVELS_PER_S, SPEECH)
    assert turns.speaking(Side.AGENT) and not turns.speaking(Side.USER)


TIMELINES = st.lists(st.tuples(st.integers(1, 120), st.integers(1, 120)), max_size=8)
"""For how many levels a side is silent, and then speaks."""


def stretches_of(timeline: list[tuple[int, int]]) -> Stretches:
    at, stretches = 0, []
    for silent, loud in timeline:
        stretches.append(((at + silent) / LEVELS_PER_S, (at + silent + loud) / LEVELS_PER_S))
        at += silent + loud
    return stretches


@settings(derandomize=True, deadline=None, max_examples=12)
@given(TIMELINES, TIMELINES)
def test_the_order_in_which_levels_come_makes_no_difference(
    user: list[tuple[int, int]], agent: list[tuple[int, int]]
) -> None:
    sides = stretches_of(user), stretches_of(agent)
    expected = talk_both_ways(*sides)
    for late_s in (-0.3, -0.09, 0.09, 0.3):
        assert talk(*sides, late_s=late_s) == expected


def test_a_side_whose_levels_stall_is_silent_after_a_while() -> None:
    """The agent's levels end in the middle of speech; the user's go on."""
    levels = [
        one for one in arriving(drawn([(8, 9)], 20), drawn([(1, 9)], 20)) if one[0] is Side.USER or one[1] < 4
    ]
    turns = Turns()
    decided = [turn for one in levels if one[1] < 6 for turn in turns.level(*one)]
    assert told(decided) == [("agent", 1, 3.98, "turn")]
    assert not turns.speaking(Side.AGENT)
    assert told(turns_of(levels)) == [("agent", 1, 3.98, "turn"), ("user", 8, 9, "turn")]


def test_time_passes_without_any_levels() -> None:
    turns = Turns()
    for one in arriving(drawn([(1, 2)], 2), drawn([], 2)):
        assert turns.level(*one) == []
    assert turns.tick(2.5) == []
    assert turns.speaking(Side.USER)  # its levels may only be late
    assert turns.tick(2.7) == []
    assert not turns.speaking(Side.USER)
    assert told(turns.tick(4)) == [("user", 1, 2, "turn")]


@pytest.mark.parametrize("gap_s", [2, 300])
def test_a_program_that_was_suspended_ends_what_was_open(gap_s: float) -> None:
    before = list(arriving(drawn([(1, 4)], 4), drawn([(2, 4)], 4)))
    after = [(side, 4 + gap_s + at_s, dbfs) for side, at_s, dbfs in arriving([SPEECH] * 50, [QUIET] * 50)]
    assert told(turns_of(before + after)) == [
        ("user", 1, 4, "turn"),
        ("agent", 2, 4, "interruption"),
        ("user", 4 + gap_s, 5 + gap_s, "turn"),
    ]


def test_what_is_open_at_the_end_is_decided_as_it_stands() -> None:
    turns = Turns()
    for one in arriving(drawn([(5, 5.5)], 6), drawn([(1, 6)], 6)):
        assert turns.level(*one) == []
    finished = turns.finish()
    assert told(finished) == [("agent", 1, 6, "turn"), ("user", 5, 5.5, "interruption")]
    assert [turn.side for turn in finished] == [Side.AGENT, Side.USER]
    assert turns.finish() == []


def test_a_clock_that_goes_back_a_little_does_no_harm() -> None:
    wander = random.Random(4)
    levels = arriving(drawn([(1, 4)], 9), drawn([(5, 6)], 9))
    turns = turns_of((side, at_s + wander.uniform(-0.03, 0.03), dbfs) for side, at_s, dbfs in levels)
    assert [turn.side for turn in turns] == [Side.USER, Side.AGENT]
    times = [at_s for turn in turns for at_s in (turn.start_s, turn.end_s)]
    assert times == pytest.approx([1, 4, 5, 6], abs=0.05)


def talks_without_end(n: int) -> float:
    return SPEECH if n % 40 < 25 else QUIET


def stutters(n: int) -> float:
    return SPEECH if n % 14 < 3 else QUIET


def holds_on(n: int) -> float:
    return SPEECH


def interrupts(n: int) -> float:
    return SPEECH if n % 300 < 200 else QUIET


MANNERS = (talks_without_end, stutters, holds_on, interrupts)


@pytest.mark.parametrize(
    ("user", "agent", "clock_stands"),
    [*((*both, False) for both in product(MANNERS, repeat=2)), *((one, one, True) for one in MANNERS)],
)
def test_memory_is_bounded(
    user: Callable[[int], float], agent: Callable[[int], float], clock_stands: bool
) -> None:
    turns, sizes = Turns(), []
    for n in range(1, 4_001):
        at_s = 1.0 if clock_stands else n / LEVELS_PER_S
        turns.level(Side.USER, at_s, user(n))
        turns.level(Side.AGENT, at_s, agent(n + 157))
        if n % 200 == 0:
            sizes.append(len(pickle.dumps(turns)))
    assert max(sizes) < 10_000
    assert max(sizes[10:]) < max(sizes[:10]) + 100


LEVELS = st.lists(
    st.tuples(
        st.sampled_from(Side),
        st.sampled_from([0.0, 0.02, 0.02, 0.02, 0.06, -0.05, 0.7, 90.0]),
        st.floats(-120, 10) | st.sampled_from([SPEECH, QUIET, SILENCE_DBFS, math.inf, -math.inf, math.nan]),
        st.integers(1, 80),
    ),
    max_size=40,
)
"""A side, by how much its clock goes on with each level, the level, and how many such come."""


@settings(derandomize=True, deadline=None, max_examples=60)
@given(LEVELS)
def test_whatever_comes_the_turns_of_a_side_are_in_order(runs: list[tuple[Side, float, float, int]]) -> None:
    turns, decided = Turns(), []
    now_s = dict.fromkeys(Side, 0.0)
    for side, step_s, dbfs, count in runs:
        for _ in range(count):
            now_s[side] += step_s
            decided += turns.level(side, now_s[side], dbfs)
        decided += turns.tick(max(now_s.values()))
    decided += turns.finish()
    for side in Side:
        own = [turn for turn in decided if turn.side is side]
        assert all(turn.start_s < turn.end_s for turn in own)
        assert all(0 <= turn.overlap_s <= turn.end_s - turn.start_s + 1e-6 for turn in own)
        assert all(one.end_s <= next_one.start_s for one, next_one in zip(own, own[1:], strict=False))


# Real speech


@cache
def pcm_of(path: Path) -> bytes:
    return StreamDecoder().feed(path.read_bytes())


@cache
def levels_of(pcm: bytes) -> list[float]:
    return [
        level_dbfs(pcm[at : at + PACKET_BYTES]) for at in range(0, len(pcm) - PACKET_BYTES + 1, PACKET_BYTES)
    ]


@cache
def energy_of(pcm: bytes) -> tuple[float, float]:
    """When the first and the last sample come that are above -40 dBFS."""
    loud = [n for n, value in enumerate(samples(pcm)) if abs(value) > 328]
    return loud[0] / SAMPLE_RATE, loud[-1] / SAMPLE_RATE


SENTENCES = (
    CLIPS / "greeting.opus",
    CLIPS / "noted.opus",
    TESTS.parent / "examples" / "question.opus",
    TESTS / "fixtures" / "echo" / "near.opus",
    TESTS / "fixtures" / "echo" / "far.opus",
)


@pytest.mark.parametrize("path", SENTENCES, ids=lambda path: path.stem)
@pytest.mark.parametrize("room_dbfs", [SILENCE_DBFS, -60, -45])
def test_what_is_said_in_one_go_is_one_turn(path: Path, room_dbfs: float) -> None:
    pcm = pcm_of(path)
    levels = [SILENCE_DBFS] * 150 + levels_of(pcm) + [SILENCE_DBFS] * 150
    levels = mixed(levels, noise(len(levels), room_dbfs))
    start_s, end_s = energy_of(pcm)
    silent = [SILENCE_DBFS] * len(levels)
    for side, arrives in ((Side.USER, arriving(levels, silent)), (Side.AGENT, arriving(silent, levels))):
        (turn,) = turns_of(arrives)
        assert turn.side is side and turn.kind == "turn" and turn.overlap_s == 0
        assert turn.start_s == pytest.approx(3 + start_s, abs=0.1)
        assert turn.end_s == pytest.approx(3 + end_s, abs=0.1)
