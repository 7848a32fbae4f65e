"""The playout buffer on a virtual clock. Samples that are their own positions tell where what is heard comes
from; a constant tells how much of it there is, since only what is played is not zero."""

from __future__ import annotations

import math
import random
import threading
import time
from array import array
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli.pcm import SAMPLE_RATE, STEP_SAMPLES, samples, silence, to_pcm
from personaplex_cli.pipeline.playout import MAX_BUFFER_MS, SKIPS, UNHEARD_SAMPLES, Playout

MS = SAMPLE_RATE // 1000
BLOCK = 10 * MS
SEAM = 5 * MS
START = 20 * MS
CONCEALED = 60 * MS
STEP_S = STEP_SAMPLES / SAMPLE_RATE
LOUD = 5000


def constant(value: int, n_samples: int) -> bytes:
    return to_pcm(array("h", [value]) * n_samples)


def ramp(first: int, n_samples: int) -> bytes:
    return to_pcm(array("h", range(first, first + n_samples)))


def tone(begin: int, n_samples: int) -> bytes:
    """120 Hz, half of full scale: no step is larger than 515."""
    angles = (2 * math.pi * i / 200 for i in range(begin, begin + n_samples))
    return to_pcm(array("h", (int(16_384 * math.sin(angle)) for angle in angles)))


def largest_step(values: Iterable[int]) -> int:
    return max(abs(b - a) for a, b in pairwise(values))


class Device:
    """Pulls blocks at its own pace, on a clock that begins at zero."""

    def __init__(self, playout: Playout, block: int = BLOCK, begin_s: float = 0.0) -> None:
        self.playout = playout
        self.block = block
        self.begin_s = begin_s
        self.heard: list[int] = []

    @property
    def now_s(self) -> float:
        return self.begin_s + len(self.heard) / SAMPLE_RATE

    def pull(self, n_blocks: int = 1) -> list[int]:
        before = len(self.heard)
        for _ in range(n_blocks):
            block = samples(self.playout.pull(self.block, self.now_s))
            assert len(block) == self.block
            self.heard += block
        return self.heard[before:]

    def until(self, time_s: float) -> list[int]:
        """All blocks that are asked for before `time_s`."""
        before = len(self.heard)
        while self.now_s < time_s - 1e-9:
            self.pull()
        return self.heard[before:]


def converse(device: Device, n_steps: int, value: int = LOUD) -> float:
    """Steps come when they should, from time zero; the time of the next one."""
    for step in range(n_steps):
        device.until(step * STEP_S)
        device.playout.push(constant(value, STEP_SAMPLES), step * STEP_S)
    return n_steps * STEP_S


def balance(playout: Playout) -> int:
    """What `pushed_samples` is made of."""
    gone = playout.removed_samples + playout.cut_samples + playout.dropped_samples
    made = playout.concealed_samples + playout.inserted_samples
    return playout.played_samples + playout.held_samples + gone - made


def test_nothing_pushed_is_silence() -> None:
    playout = Playout()
    assert playout.pull(BLOCK, 0) == silence(BLOCK)
    assert playout.pull(0, 0.01) == b""
    playout.push(b"", 0.01)
    assert playout.pull(BLOCK, 10) == silence(BLOCK)
    assert (playout.underruns, playout.played_samples, playout.concealed_samples) == (0, 0, 0)


@pytest.mark.parametrize("arrived_ms", [0, 3, 9.5, 10, 1234])
@pytest.mark.parametrize("block", [64, 240, 441, 480])
def test_the_first_audio_is_heard_in_full_20_ms_after_it_came(arrived_ms: float, block: int) -> None:
    device = Device(Playout(), block)
    device.until(arrived_ms / 1000)
    device.playout.push(ramp(2000, STEP_SAMPLES), arrived_ms / 1000)
    device.until(arrived_ms / 1000 + 0.12)
    begin = round((arrived_ms + 20) * MS)
    # It may have to wait for the next block, when blocks are longer than that.
    first = next(i for i, value in enumerate(device.heard) if value)
    assert begin <= first <= max(begin + 1, len(device.heard[: begin // block * block]) + block)
    assert device.heard[first + SEAM - 1 : first + STEP_SAMPLES] == list(
        range(2000 + SEAM - 1, 2000 + STEP_SAMPLES)
    )


def test_regular_steps_are_heard_as_they_were_sent() -> None:
    device = Device(Playout())
    for step in range(15):
        device.until(step * STEP_S)
        device.playout.push(ramp(2000 + step * STEP_SAMPLES, STEP_SAMPLES), step * STEP_S)
    device.until(15 * STEP_S)
    heard = device.heard[START + SEAM - 1 :]
    assert heard == list(range(2000 + SEAM - 1, 2000 + SEAM - 1 + len(heard)))
    assert device.playout.underruns == 0


@pytest.mark.parametrize("block", [64, 240, 441])
def test_on_a_quiet_path_the_delay_goes_down_to_a_block_and_a_little(block: int) -> None:
    """In the first silence."""
    playout = Playout()
    device = Device(playout, block, 0.004)
    for step in range(100):
        device.until(step * STEP_S)
        playout.push(silence(STEP_SAMPLES), step * STEP_S)
    device.until(100 * STEP_S)
    delay = round(device.now_s * SAMPLE_RATE) - (playout.pushed_samples - playout.held_samples)
    assert playout.target_samples == pytest.approx(block + 2 * MS, abs=2)
    assert playout.target_samples - MS <= delay <= playout.target_samples + 6 * MS
    assert playout.underruns == 0


def test_the_end_is_concealed_and_no_underrun() -> None:
    device = Device(Playout())
    device.playout.push(constant(LOUD, STEP_SAMPLES), 0)
    device.pull(50)
    end = START + STEP_SAMPLES
    faded = device.heard[end : end + CONCEALED]
    assert faded == [LOUD * (CONCEALED - i) // CONCEALED for i in range(CONCEALED)]
    assert not any(device.heard[end + CONCEALED :])
    assert device.playout.underruns == 0
    assert device.playout.concealed_samples == CONCEALED


@pytest.mark.parametrize("late_ms", [1, 9, 35, 59, 61, 300])
def test_a_late_step_is_heard_at_once(late_ms: int) -> None:
    device = Device(Playout())
    device.playout.push(tone(0, STEP_SAMPLES), 0)
    arrived_s = STEP_S + 0.02 + late_ms / 1000  # that much after what there was has been played
    device.until(arrived_s)
    dry = len(device.heard)
    device.playout.push(tone(STEP_SAMPLES, STEP_SAMPLES), arrived_s)
    device.pull(8)
    assert device.playout.underruns == 1
    assert (
        device.heard[dry + SEAM : dry + STEP_SAMPLES]
        == list(samples(tone(STEP_SAMPLES, STEP_SAMPLES)))[SEAM:]
    )
    assert device.playout.concealed_samples == min(CONCEALED, dry - START - STEP_SAMPLES)
    assert largest_step(device.heard) < 515 + 2 * 16_384 // SEAM


def test_what_was_missed_counts_as_late_whatever_its_stamp() -> None:
    """Decoding takes 30 ms now and then: more than any jitter that the messages' times show."""
    device = Device(Playout())
    for step in range(400):
        device.until(step * STEP_S + (0.030 if step % 7 == 0 else 0.001))
        pcm = silence(STEP_SAMPLES) if step % 3 else constant(LOUD, STEP_SAMPLES)
        device.playout.push(pcm, step * STEP_S)
        if step == 50:
            before = device.playout.underruns
    assert device.playout.underruns - before <= 3


def test_after_a_second_of_surplus_the_oldest_goes() -> None:
    """Two seconds come at once: most of it is dropped, the rest runs off faster."""
    device = Device(Playout())
    back_s = converse(device, 10) + 2
    device.until(back_s)
    for _ in range(26):
        device.playout.push(constant(-LOUD, STEP_SAMPLES), back_s)
    heard = device.pull(5)
    assert heard[SEAM - 1 :] == [-LOUD] * (5 * BLOCK - SEAM + 1)
    # All but 150 ms of what is too much; less what was cut before.
    gone = device.playout.dropped_samples + device.playout.cut_samples
    assert gone == pytest.approx(1850 * MS, abs=30 * MS)
    assert device.playout.held_samples < 300 * MS
    assert device.playout.underruns == 1


def test_less_than_a_second_of_surplus_is_not_dropped() -> None:
    device = Device(Playout())
    back_s = converse(device, 10) + 0.8
    device.until(back_s)
    device.playout.push(constant(-LOUD, 11 * STEP_SAMPLES), back_s)
    device.pull(150)
    assert device.playout.dropped_samples == 0
    assert device.playout.held_samples == 0


def test_a_flush_drops_what_is_beyond_the_target() -> None:
    device = Device(Playout())
    back_s = converse(device, 50) + 0.6
    device.until(back_s)
    for _ in range(8):
        device.playout.push(constant(-LOUD, STEP_SAMPLES), back_s)
    device.pull(10)
    held = device.playout.held_samples
    device.playout.flush()
    device.pull()
    assert device.playout.dropped_samples > 350 * MS
    assert device.playout.held_samples + device.playout.dropped_samples == held - BLOCK
    # A step comes every 80 ms: what is held for that is not too much.
    assert device.playout.held_samples <= STEP_SAMPLES + device.playout.target_samples
    dropped = device.playout.dropped_samples
    device.pull(3)
    assert device.playout.dropped_samples == dropped


def test_a_flush_drops_nothing_when_all_is_on_target() -> None:
    device = Device(Playout())
    converse(device, 20)
    device.playout.flush()
    device.pull()
    dropped = device.playout.dropped_samples
    assert dropped <= START - device.playout.target_samples  # what the start was too careful by
    for step in range(20, 40):
        device.until(step * STEP_S)
        device.playout.push(constant(LOUD, STEP_SAMPLES), step * STEP_S)
        device.playout.flush()
    assert device.playout.dropped_samples == dropped


@pytest.mark.parametrize("block", [64, 240, 600])
def test_a_drop_is_cross_faded(block: int) -> None:
    """Amid a tone, to another phase of it; with short blocks, when the tone is still being faded in."""
    device = Device(Playout(), block)
    converse(device, 40, 0)
    back_s = 40 * STEP_S + 0.45
    device.until(back_s)
    device.playout.push(tone(0, 6 * STEP_SAMPLES), back_s)
    device.pull()
    device.playout.flush()
    device.pull(9600 // block)
    assert device.playout.dropped_samples > 200 * MS
    assert largest_step(device.heard) < 515 + 2 * 16_384 // SEAM


def test_no_more_is_held_than_ten_seconds() -> None:
    """A device that hangs. What comes then is refused; when it goes on, the conversation does, too."""
    playout = Playout()
    device = Device(playout)
    for step in range(250):
        if step < 25:
            device.until(step * STEP_S)
        playout.push(constant(LOUD, STEP_SAMPLES), step * STEP_S)
    assert UNHEARD_SAMPLES - STEP_SAMPLES < playout.held_samples <= UNHEARD_SAMPLES
    assert playout.pushed_samples + playout.refused_samples == 250 * STEP_SAMPLES
    device.begin_s = 250 * STEP_S - len(device.heard) / SAMPLE_RATE
    for step in range(250, 290):
        device.until(step * STEP_S)
        playout.push(constant(LOUD, STEP_SAMPLES), step * STEP_S)
    assert playout.held_samples < 220 * MS
    assert balance(playout) == playout.pushed_samples
    assert playout.underruns == 0


def test_a_server_that_pauses_leaves_no_lag() -> None:
    """It goes on three seconds later, where it was: nothing may be lost, and nothing piles up."""
    device = Device(Playout())
    playout = device.playout
    for step in range(200):
        arrived_s = step * STEP_S + (3 if step >= 50 else 0)
        device.until(arrived_s)
        playout.push(constant(LOUD, STEP_SAMPLES) if step % 5 else silence(STEP_SAMPLES), arrived_s)
    assert playout.underruns == 1
    assert playout.dropped_samples == playout.cut_samples == 0
    assert playout.held_samples <= STEP_SAMPLES + playout.target_samples + 6 * MS
    assert playout.target_samples <= 13 * MS


def test_the_target_is_no_more_than_the_largest_buffer() -> None:
    for limit_ms in (100, MAX_BUFFER_MS):
        playout = Playout(max_buffer_ms=limit_ms)
        device = Device(playout)
        for step in range(100):
            arrived_s = step * STEP_S + (0.6 if step % 10 == 0 else 0)
            device.until(arrived_s)
            playout.push(silence(STEP_SAMPLES), arrived_s)
        assert playout.target_samples == limit_ms * MS


def test_callbacks_in_bursts_do_not_run_dry() -> None:
    """A host with a buffer of 40 ms asks for four blocks at a time."""
    playout = Playout()
    n_pulls = 0
    for step in range(300):
        while n_pulls // 4 * 0.04 < step * STEP_S + 0.003:
            playout.pull(BLOCK, n_pulls // 4 * 0.04)
            n_pulls += 1
        playout.push(
            silence(STEP_SAMPLES) if step % 4 else constant(LOUD, STEP_SAMPLES), step * STEP_S + 0.003
        )
        if step == 20:
            before = playout.underruns
    assert playout.underruns == before
    assert playout.held_samples < STEP_SAMPLES + 60 * MS


def test_what_is_heard_is_audible() -> None:
    device = Device(Playout())
    assert not device.playout.audible
    device.playout.push(constant(LOUD, STEP_SAMPLES) + silence(STEP_SAMPLES), 0)
    device.until(0.05)
    assert device.playout.audible
    device.until(0.15)
    assert not device.playout.audible


MOVES = st.one_of(
    st.tuples(st.just("loud"), st.sampled_from([1, 60, 480, 960, 1920, 2880, 24_000])),
    st.tuples(st.just("quiet"), st.sampled_from([1, 60, 480, 1920, 9600])),
    st.tuples(st.just("pull"), st.one_of(st.integers(0, 50), st.sampled_from([240, 441, 480, 1000, 4800]))),
    st.tuples(st.just("wait"), st.sampled_from([1, 10, 200])),
    st.tuples(st.just("flush"), st.just(0)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(MOVES, max_size=60), st.sampled_from([20, 400]))
def test_counts_add_up(moves: list[tuple[str, int]], max_buffer_ms: int) -> None:
    playout = Playout(max_buffer_ms=max_buffer_ms)
    now_s = 0.0
    heard = array("h")
    pushed = quiet = 0
    for move, amount in [*moves, *[("pull", 480)] * 20]:
        if move in ("loud", "quiet"):
            playout.push(constant(LOUD if move == "loud" else 1, amount), now_s)
            pushed += amount
            quiet += amount if move == "quiet" else 0
        elif move == "pull":
            block = samples(playout.pull(amount, now_s))
            assert len(block) == amount
            heard += block
            now_s += amount / SAMPLE_RATE
        elif move == "wait":
            now_s += amount / 1000
        else:
            playout.flush()
        assert pushed == playout.pushed_samples + playout.refused_samples
        assert balance(playout) == playout.pushed_samples
        assert playout.concealed_samples <= CONCEALED * (playout.underruns + 1)
        assert 0 <= playout.target_samples <= max_buffer_ms * MS
    # What is not zero has been played; quiet audio, and what conceals, may become zero.
    audible = len(heard) - heard.count(0)
    assert audible <= playout.played_samples
    if not quiet:
        assert audible >= playout.played_samples - playout.concealed_samples
        assert playout.removed_samples == playout.inserted_samples == 0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 120)), max_size=10),
    st.sampled_from([64, 240, 441]),
)
def test_nothing_is_reordered(pushes: list[tuple[int, int]], block: int) -> None:
    """Outside the seams each sample follows the one before; a seam leads from one such run to a later one."""
    device = Device(Playout(), block)
    position = 1000
    arrived_s = 0.0
    for n_samples, later_ms in pushes:
        arrived_s += later_ms / 1000
        device.until(arrived_s)
        device.playout.push(ramp(position, n_samples), arrived_s)
        position += n_samples
    device.pull(3000 // block)
    starts = [0, *(i for i, (a, b) in enumerate(pairwise(device.heard), 1) if b != a + 1), len(device.heard)]
    runs = [device.heard[begin:end] for begin, end in pairwise(starts) if end - begin > SEAM]
    firsts = [run[0] for run in runs]
    assert firsts == sorted(firsts)
    assert all(before[-1] < after[0] for before, after in pairwise(runs))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=5, max_size=30), st.sampled_from([64, 240, 441, 1000]))
def test_no_seam_clicks(late_ms: list[int], block: int) -> None:
    device = Device(Playout(), block)
    arrived_s = 0.0
    for step, late in enumerate(late_ms):
        arrived_s = max(arrived_s, step * STEP_S + late / 1000)
        device.until(arrived_s)
        device.playout.push(tone(step * STEP_SAMPLES, STEP_SAMPLES), arrived_s)
    device.pull(8000 // block)
    assert largest_step(device.heard) < 515 + 2 * 16_384 // SEAM


def test_audio_that_comes_while_it_is_looked_at_drops_no_more_than_is_there() -> None:
    """The pushing thread may come in between any two looks at what is held."""

    class Interrupted(Playout):
        pushing = False

        @property
        def held_samples(self) -> int:
            held = super().held_samples
            if self.pushed_samples < 10 * SAMPLE_RATE and not self.pushing:
                self.pushing = True  # pushing looks at what is held, too
                self.push(constant(LOUD, 4800), self.pushed_samples / SAMPLE_RATE / 100)
                self.pushing = False
            return held

    device = Device(Interrupted())
    device.playout.push(constant(LOUD, 480), 0)
    device.pull(300)
    assert device.playout.dropped_samples > SAMPLE_RATE
    assert device.playout.held_samples == 0
    assert balance(device.playout) == device.playout.pushed_samples


def test_two_threads_keep_the_count() -> None:
    playout = Playout()

    def push() -> None:
        for i in range(1500):
            playout.push(constant(LOUD, 480) if i % 3 else silence(480), time.monotonic())

    pushing = threading.Thread(target=push)
    pushing.start()
    heard = []
    while pushing.is_alive() or playout.held_samples:
        heard.append(playout.pull(240, time.monotonic()))
    assert all(len(block) == 480 for block in heard)
    assert playout.pushed_samples + playout.refused_samples == 1500 * 480
    assert balance(playout) == playout.pushed_samples


# --- where playing has got to


@settings(max_examples=60, deadline=None)
@given(st.lists(MOVES, max_size=60), st.sampled_from([20, 400]))
def test_the_position_never_goes_back_and_ends_where_what_came_ends(
    moves: list[tuple[str, int]], max_buffer_ms: int
) -> None:
    """And what was skipped lies behind it, in whole: no sample of it is counted twice."""
    playout = Playout(max_buffer_ms=max_buffer_ms)
    now_s = 0.0
    came = taken = position = 0
    for move, amount in [*moves, *[("pull", 480)] * 20, *[("pull", UNHEARD_SAMPLES)]]:
        if move in ("loud", "quiet"):
            refused = playout.refused_samples
            playout.push(constant(LOUD if move == "loud" else 1, amount), now_s)
            came += amount
            taken = came if playout.refused_samples == refused else taken
        elif move == "pull":
            playout.pull(amount, now_s)
            now_s += amount / SAMPLE_RATE
        elif move == "wait":
            now_s += amount / 1000
        else:
            playout.flush()
        assert position <= playout.position_samples <= came
        position = playout.position_samples
    assert playout.held_samples == 0
    assert position == taken
    spans = list(playout.skipped)
    assert all(0 <= begin <= end <= came for begin, end in spans)
    ordered = sorted(spans)
    assert all(before[1] <= after[0] for before, after in pairwise(ordered))


def test_silence_that_is_put_in_does_not_set_the_position_back() -> None:
    """When a network begins to jitter."""
    rng = random.Random(3)
    device = Device(Playout(), 64)
    arrived_s, positions = 0.0, [0]
    for step in range(200):
        late_s = abs(rng.gauss(0, 0.04)) if step > 60 else 0
        arrived_s = max(arrived_s, step * STEP_S + late_s)
        while device.now_s < arrived_s:
            device.pull()
            positions.append(device.playout.position_samples)
        pcm = silence(STEP_SAMPLES) if step % 3 else constant(LOUD, STEP_SAMPLES)
        device.playout.push(pcm, arrived_s)
    assert device.playout.inserted_samples > 200
    assert positions == sorted(positions)


@pytest.mark.parametrize("block", [64, 240, 441])
def test_the_position_is_that_of_the_samples_that_were_played(block: int) -> None:
    device = Device(Playout(), block)
    device.playout.push(ramp(1000, STEP_SAMPLES), 0)
    while device.now_s < 0.09:
        device.pull()
        played = max(device.heard)
        if played >= 1000 + SEAM:  # before, it is being faded in
            assert device.playout.position_samples == played - 999
    device.until(0.12)
    assert device.playout.position_samples == STEP_SAMPLES


def test_what_is_left_out_or_put_in_to_fit_is_passed_over_little_by_little() -> None:
    """The position goes by what came in, also where that is played in another length."""
    device = Device(Playout())
    for step in range(100):
        device.until(step * STEP_S)
        device.playout.push(
            silence(STEP_SAMPLES) if step % 2 else constant(LOUD, STEP_SAMPLES), step * STEP_S
        )
    device.until(100 * STEP_S)
    playout = device.playout
    assert playout.removed_samples > 0 and not playout.skipped
    behind = 100 * STEP_SAMPLES - playout.position_samples
    assert behind == pytest.approx(playout.held_samples, abs=playout.removed_samples)
    device.pull(20)
    assert playout.position_samples == 100 * STEP_SAMPLES


def test_a_surplus_that_is_dropped_is_told_as_skipped() -> None:
    device = Device(Playout())
    back_s = converse(device, 10) + 2
    device.until(back_s)
    assert device.playout.position_samples == 10 * STEP_SAMPLES and not device.playout.skipped
    for _ in range(26):
        device.playout.push(constant(-LOUD, STEP_SAMPLES), back_s)
    device.pull()
    [(begin, end)] = device.playout.skipped
    assert begin == 10 * STEP_SAMPLES
    # As it came: what is left of it was cut before.
    assert 0 <= end - begin - device.playout.dropped_samples <= device.playout.cut_samples
    assert end <= device.playout.position_samples <= end + BLOCK + device.playout.cut_samples
    device.pull(60)
    assert len(device.playout.skipped) == 1
    assert device.playout.position_samples == 36 * STEP_SAMPLES


def test_what_a_flush_drops_is_told_as_skipped() -> None:
    device = Device(Playout())
    back_s = converse(device, 50) + 0.6
    device.until(back_s)
    for _ in range(8):
        device.playout.push(constant(-LOUD, STEP_SAMPLES), back_s)
    device.pull(10)
    before = device.playout.position_samples
    assert not device.playout.skipped
    device.playout.flush()
    device.pull()
    [(begin, end)] = device.playout.skipped
    assert begin == before
    assert end - begin >= device.playout.dropped_samples > 350 * MS
    assert device.playout.position_samples > end


def test_what_is_refused_is_told_as_skipped_before_it_is_passed() -> None:
    playout = Playout()
    device = Device(playout)
    n_taken = UNHEARD_SAMPLES // STEP_SAMPLES
    for step in range(n_taken + 2):
        playout.push(constant(LOUD, STEP_SAMPLES), step * STEP_S)
    end = n_taken * STEP_SAMPLES
    assert list(playout.skipped) == [
        (end, end + STEP_SAMPLES),
        (end + STEP_SAMPLES, end + 2 * STEP_SAMPLES),
    ]
    assert playout.position_samples == 0
    device.begin_s = (n_taken + 2) * STEP_S
    device.pull()
    playout.push(constant(LOUD, STEP_SAMPLES), device.begin_s)
    device.pull(300)
    assert playout.position_samples == end + 3 * STEP_SAMPLES


def test_of_skipped_stretches_that_nobody_takes_the_latest_are_kept() -> None:
    playout = Playout()
    for step in range(UNHEARD_SAMPLES // STEP_SAMPLES + 2 * SKIPS):
        playout.push(constant(LOUD, STEP_SAMPLES), step * STEP_S)
    assert len(playout.skipped) == SKIPS
    assert playout.skipped[-1][1] == playout.pushed_samples + playout.refused_samples
