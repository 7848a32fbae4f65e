"""The playout buffer. Most tests push a ramp whose values are their own positions, so that what comes out
tells where it was."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli.pcm import SAMPLE_RATE, STEP_SAMPLES, samples, silence, to_pcm
from personaplex_cli.pipeline.playout import LIMIT_MS, MARGIN_MS, Playout

BLOCK = 240
SEAM = 120
MARGIN = SAMPLE_RATE * MARGIN_MS // 1000
LIMIT = SAMPLE_RATE * LIMIT_MS // 1000
KEEP = MARGIN + STEP_SAMPLES


def constant(value: int, n_samples: int) -> bytes:
    return to_pcm(array("h", [value]) * n_samples)


def ramp(first: int, n_samples: int) -> bytes:
    return to_pcm(array("h", range(first, first + n_samples)))


def pulled(playout: Playout, sizes: Iterable[int]) -> list[int]:
    heard: list[int] = []
    for size in sizes:
        block = samples(playout.pull(size))
        assert len(block) == size
        heard += block
    return heard


def largest_step(values: Iterable[int], before: int = 0) -> int:
    largest = 0
    for value in values:
        largest = max(largest, abs(value - before))
        before = value
    return largest


def without_margin() -> Playout:
    return Playout(margin_ms=0)


def test_nothing_pushed_is_silence() -> None:
    playout = Playout()
    assert playout.pull(BLOCK) == silence(BLOCK)
    assert playout.pull(0) == b""
    assert (playout.underruns, playout.dropped_samples, playout.held_samples) == (0, 0, 0)


def test_the_margin_is_silence_before_the_first_audio_only() -> None:
    playout = Playout()
    assert pulled(playout, [BLOCK] * 3) == [0] * 720  # does not count: nothing is there yet
    playout.push(constant(1000, 2 * STEP_SAMPLES))
    heard = pulled(playout, [BLOCK] * 20)
    assert heard[:MARGIN] == [0] * MARGIN
    assert heard[MARGIN + SEAM : MARGIN + 2 * STEP_SAMPLES] == [1000] * (2 * STEP_SAMPLES - SEAM)
    playout.push(constant(1000, STEP_SAMPLES))
    assert pulled(playout, [BLOCK])[SEAM:] == [1000] * SEAM


def test_an_empty_push_starts_nothing() -> None:
    playout = Playout()
    playout.push(b"")
    pulled(playout, [MARGIN])
    playout.push(constant(1000, BLOCK))
    assert pulled(playout, [MARGIN]) == [0] * MARGIN


def test_the_end_is_no_underrun_but_going_on_after_it_is() -> None:
    playout = without_margin()
    playout.push(constant(1000, BLOCK))
    pulled(playout, [BLOCK] * 50)
    assert playout.underruns == 0
    for expected in (1, 2):
        playout.push(constant(1000, BLOCK))
        pulled(playout, [BLOCK] * 3)
        assert playout.underruns == expected


def test_audio_that_comes_just_in_time_is_no_underrun() -> None:
    playout = without_margin()
    for position in range(0, 2400, BLOCK):
        playout.push(ramp(position, BLOCK))
        assert pulled(playout, [BLOCK])[SEAM:] == list(range(position + SEAM, position + BLOCK))
    assert playout.underruns == 0


def test_as_much_as_the_limit_is_held() -> None:
    playout = without_margin()
    playout.push(ramp(0, LIMIT))
    pulled(playout, [BLOCK])
    assert playout.dropped_samples == 0
    assert playout.held_samples == LIMIT - BLOCK


def test_beyond_the_limit_the_oldest_goes_and_margin_and_a_step_stay() -> None:
    playout = Playout()
    playout.push(ramp(0, STEP_SAMPLES))
    pulled(playout, [MARGIN])
    playout.push(ramp(STEP_SAMPLES, 11_000))
    end = STEP_SAMPLES + 11_000
    heard = pulled(playout, [BLOCK] * 12)
    assert playout.dropped_samples == end - KEEP
    assert heard[SEAM : KEEP - BLOCK] == list(range(end - KEEP + SEAM, end - BLOCK))
    assert playout.underruns == 0


def test_a_start_and_a_fall_are_ramps_of_five_milliseconds() -> None:
    playout = without_margin()
    playout.push(constant(12_000, BLOCK))
    heard = pulled(playout, [BLOCK, BLOCK])
    assert heard[:SEAM] == [12_000 * (i + 1) // SEAM for i in range(SEAM)]
    assert heard[BLOCK : BLOCK + SEAM] == [12_000 * (SEAM - 1 - i) // SEAM for i in range(SEAM)]
    assert heard[BLOCK + SEAM :] == [0] * SEAM


def test_a_fall_is_taken_up_where_it_is_when_audio_comes_back() -> None:
    playout = without_margin()
    playout.push(constant(12_000, BLOCK))
    pulled(playout, [BLOCK, 60])
    playout.push(constant(12_000, BLOCK))
    heard = pulled(playout, [BLOCK])
    assert heard[0] == pytest.approx(6050, abs=2)
    assert heard[SEAM - 1 :] == [12_000] * (BLOCK - SEAM + 1)


@pytest.mark.parametrize("block", [1, 7, 64, 240, 1000])
@pytest.mark.parametrize("value", [32_767, -32_768])
def test_no_seam_has_a_step_larger_than_its_ramp_allows(block: int, value: int) -> None:
    """Starts, falls in the middle of a start, drops from one extreme to the other: full scale throughout."""
    playout = without_margin()
    heard: list[int] = []
    for n_samples in (50, 500, LIMIT + 3000):
        playout.push(constant(value, n_samples))
        playout.push(constant(-value - 1, KEEP if n_samples > LIMIT else 0))
        heard += pulled(playout, [block] * (1200 // block + 1))
    assert playout.dropped_samples > 0 and playout.underruns == 2
    assert largest_step(heard) <= 2 * 32_768 // SEAM + 1


@st.composite
def schedules(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Pushes and pulls of any sizes; together the pushes fit into the range of a sample's values."""
    moves = draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("push"), st.sampled_from([0, 1, 60, 480, 960, 1920, 2880])),
                st.tuples(st.just("pull"), st.one_of(st.integers(0, 50), st.sampled_from([240, 480, 1000]))),
            ),
            max_size=60,
        )
    )
    room = 32_000
    kept = []
    for move, size in moves:
        if move == "push":
            size = min(size, room)
            room -= size
        kept.append((move, size))
    return kept


@settings(max_examples=40, deadline=None)
@given(schedules(), st.sampled_from([0, 10, 40]), st.sampled_from([100, 400]))
def test_in_order_nothing_twice_and_all_accounted_for(
    schedule: list[tuple[str, int]], margin_ms: int, limit_ms: int
) -> None:
    playout = Playout(margin_ms, limit_ms)
    heard: list[int] = []
    pushed = audible = 0
    for move, size in schedule:
        if move == "push":
            playout.push(ramp(pushed + 1, size))
            pushed += size
        else:
            before = playout.held_samples + playout.dropped_samples
            heard += pulled(playout, [size])
            audible += before - playout.held_samples - playout.dropped_samples
        assert pushed == audible + playout.held_samples + playout.dropped_samples
    pulls = [size for move, size in schedule if move == "pull"]
    assert len(heard) == sum(pulls)
    assert sum(value != 0 for value in heard) <= audible + SEAM * (playout.underruns + 1)
    assert largest_step(heard) <= 32_768 // SEAM + 2
    # Outside the seams each sample follows the one before; a seam leads from one such run to a later one.
    runs = [(a, b) for a, b in zip(heard, heard[1:], strict=False) if a and b == a + 1]
    firsts = [a for a, _ in _long_runs(runs)]
    assert firsts == sorted(firsts)


def _long_runs(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs of consecutive positions that are longer than any seam, so they are audio as it was pushed."""
    runs: list[tuple[int, int]] = []
    for a, b in pairs:
        if runs and runs[-1][1] == a:
            runs[-1] = (runs[-1][0], b)
        else:
            runs.append((a, b))
    return [(first, last) for first, last in runs if last - first > SEAM]


def test_outside_seams_the_output_is_the_input() -> None:
    """Steps of odd sizes, always enough held: one seam at the start, then all positions in order."""
    playout = Playout(margin_ms=10)
    position = 1
    heard: list[int] = []
    for size in (1920, 480, 1, 60, 2880, 333) * 5:
        playout.push(ramp(position, size))
        position += size
        while playout.held_samples >= 480:
            heard += pulled(playout, [79])
    start = BLOCK  # the margin
    assert heard[start + SEAM - 1 :] == list(range(SEAM, heard[-1] + 1))
    assert playout.underruns == playout.dropped_samples == 0


def test_two_threads_lose_nothing() -> None:
    """What is held never reaches the limit: the pushing thread waits for the other one."""
    playout = without_margin()
    sizes = [1 + (37 * i) % 700 for i in range(500)]
    finished = threading.Event()

    def push() -> None:
        for size in sizes:
            while playout.held_samples > 4000:
                time.sleep(0)
            playout.push(constant(1000, size))
        finished.set()

    pusher = threading.Thread(target=push)
    pusher.start()
    blocks = []
    for _ in range(1_000_000):
        if playout.held_samples:
            blocks.append(playout.pull(97))
        elif finished.is_set():
            break
        else:
            time.sleep(0)
    pusher.join(10)
    assert finished.is_set() and playout.held_samples == 0 and playout.dropped_samples == 0
    heard = samples(b"".join(blocks))
    assert sum(sizes) - 2 * SEAM * (playout.underruns + 1) <= heard.count(1000) <= sum(sizes)
    assert largest_step(heard) <= 1000 // SEAM + 1


def test_audio_that_comes_while_the_limit_is_looked_at_drops_no_more_than_is_there() -> None:
    """The pushing thread may come in between any two looks at what is held."""

    class Interrupted(Playout):
        pushing = False

        @property
        def held_samples(self) -> int:
            held = self._pushed - self._taken
            if self._pushed < 24_000 and not self.pushing:
                self.pushing = True  # pushing looks at what is held, too
                self.push(constant(5000, 4800))
                self.pushing = False
            return held

    playout = Interrupted(margin_ms=0, limit_ms=100)
    for _ in range(100):
        playout.pull(240)
    assert playout._taken == playout._pushed >= 24_000
    assert playout.dropped_samples < 24_000


def test_two_threads_keep_the_count_when_the_limit_is_passed() -> None:
    playout = Playout(margin_ms=0, limit_ms=100)

    def push() -> None:
        for _ in range(3000):
            playout.push(constant(5000, 480))

    pushing = threading.Thread(target=push)
    pushing.start()
    heard = []
    while pushing.is_alive():
        heard.append(playout.pull(240))
    taken = 3000 * 480 - playout.held_samples - playout.dropped_samples - playout.refused_samples
    assert all(len(block) == 480 for block in heard)
    assert 0 <= taken <= 240 * len(heard)
    pulled(playout, [240] * 30)
    assert playout.held_samples == 0
