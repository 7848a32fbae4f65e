"""Two streams with bad stamps, gaps and odd blocks, and what the engine is given of them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE
from personaplex_cli.pipeline.canceller import Alignment, Canceller

MS = SAMPLE_RATE // 1000
BLOCK = 10 * MS
LIMIT_S = 10


@dataclass
class Streams:
    """Two devices on one clock, in blocks of 10 ms, and an alignment that is told of them."""

    output_ms: float = 20
    """From the writing of a sample until it is heard."""
    input_ms: float = 20
    """From the capture of a block's first sample until the block is delivered, less the block itself."""
    wander_ms: float = 0
    drift_ppm: float = 0
    """How much faster the output's clock runs than the input's, which is the true one."""
    alignment: Alignment = field(default_factory=Alignment)
    now_ms: float = 1000
    write_ms: float = 1000
    """When the output asks for its next block."""
    written: int = 0
    captured: int = 0
    moves: int = 0
    random: random.Random = field(default_factory=lambda: random.Random(7))

    def run(self, duration_ms: float, *, plays: bool = True) -> None:
        for _ in range(round(duration_ms / 10)):
            while self.write_ms <= self.now_ms:
                if plays:
                    self.alignment.played(self.written, self._stamp(self.write_ms + self.output_ms))
                    self.written += BLOCK
                self.write_ms += 10 / (1 + self.drift_ppm * 1e-6)
            self.now_ms += 10
            first, self.captured = self.captured, self.captured + BLOCK
            stamp_s = self._stamp(self.now_ms - 10 - self.input_ms)
            self.alignment.captured(first, self.captured, stamp_s, self.written)
            self.moves += self.alignment.update()

    def _stamp(self, true_ms: float) -> float:
        return (true_ms + self.random.uniform(-self.wander_ms, self.wander_ms)) / 1000

    @property
    def early_ms(self) -> float:
        """How much earlier than it is heard a sample is given to the engine, by the true clock."""
        assert self.alignment.offset is not None
        captured_at_ms = self.now_ms - self.input_ms  # of the sample after the last
        heard_at_ms = self.write_ms + self.output_ms  # of the sample to be written next
        behind = self.written - (self.captured + self.alignment.offset)
        return heard_at_ms - behind / MS - captured_at_ms


def test_before_there_are_stamps_the_reference_is_what_was_just_written() -> None:
    streams = Streams(output_ms=30, input_ms=15)
    streams.run(10)
    assert streams.moves == 1
    assert streams.early_ms == 30 + 15 - 10  # 10 ms in reserve
    assert streams.alignment.replacements == 0


def test_a_good_place_is_kept_though_stamps_wander() -> None:
    streams = Streams(wander_ms=15)
    streams.run(60_000)
    assert streams.moves == 1


@pytest.mark.parametrize("output_ms", [100, 300, 800])
def test_long_delays_are_taken_out_after_a_second_of_stamps(output_ms: float) -> None:
    streams = Streams(output_ms=output_ms, wander_ms=15)
    streams.run(990)
    assert streams.moves == 1
    streams.run(5000)
    assert streams.moves == 2
    assert streams.early_ms == pytest.approx(20, abs=6)


def test_the_first_stamps_of_an_output_may_be_wrong() -> None:
    streams = Streams(output_ms=100)
    for n, heard_at_ms in enumerate([0, 0, 19, 39]):
        streams.alignment.played(n * BLOCK, heard_at_ms / 1000)
    streams.written = 4 * BLOCK
    streams.now_ms = streams.write_ms = 1040
    streams.run(5000)
    assert streams.early_ms == pytest.approx(20, abs=1)


def test_the_reference_is_never_what_is_not_yet_written() -> None:
    streams = Streams(output_ms=2, input_ms=2)  # 20 ms early would be 16 ms before it is written
    streams.run(5000)
    assert streams.moves == 1
    assert streams.alignment.offset is not None
    assert streams.captured + streams.alignment.offset <= streams.written


def test_lost_capture_makes_the_reference_late_and_is_made_up_for() -> None:
    streams = Streams(output_ms=40, wander_ms=10)
    streams.run(3000)
    streams.now_ms += 60  # the input has lost 60 ms
    streams.run(10)
    assert streams.early_ms < 0
    streams.run(700)
    assert streams.alignment.replacements == 1
    assert streams.early_ms == pytest.approx(20, abs=6)
    streams.run(10_000)
    assert streams.alignment.replacements == 1


@pytest.mark.parametrize(("lost_ms", "replacements"), [(20, 0), (100, 1)])
def test_an_output_that_stood_still_makes_it_early_which_matters_only_past_50_ms(
    lost_ms: float, replacements: int
) -> None:
    streams = Streams(wander_ms=10)
    streams.run(3000)
    streams.write_ms += lost_ms
    streams.run(5000)
    assert streams.alignment.replacements == replacements
    assert 14 < streams.early_ms < 70


@pytest.mark.parametrize("ppm", [-500, 500])
def test_clocks_that_drift_apart_are_followed_and_the_reference_is_never_late(ppm: float) -> None:
    streams = Streams(drift_ppm=ppm)
    early_ms = []
    for _ in range(300):
        streams.run(1000)
        early_ms.append(streams.early_ms)
    assert min(early_ms) >= 4
    assert max(early_ms) <= 82  # 20, 50, and the block that is not yet due
    assert streams.alignment.replacements == pytest.approx(0.5 * 300 / (15 if ppm > 0 else 50), abs=3)


def test_an_output_that_stopped_is_placed_anew_at_once_when_it_goes_on() -> None:
    streams = Streams(output_ms=40)
    streams.run(3000)
    streams.run(2000, plays=False)
    streams.alignment.paused()
    streams.run(100, plays=False)
    assert streams.alignment.offset is None
    streams.run(10)
    assert streams.early_ms == 40 + 20 - 10
    streams.run(5000)
    assert streams.alignment.replacements == 1


@dataclass
class Engine:
    """Notes what it is given; gives back the reference, so that the test sees what belonged to what."""

    resets: int = 0
    captures: list[bytes] = field(default_factory=list)
    fails_at: int | None = None
    gate: threading.Event | None = None

    def process(self, capture: bytes, reference: bytes) -> bytes:
        if self.gate is not None:
            assert self.gate.wait(LIMIT_S)
        assert len(capture) == len(reference) == BLOCK * SAMPLE_BYTES
        self.captures.append(capture)
        if len(self.captures) == self.fails_at:
            raise RuntimeError("broken")
        return reference

    def reset(self) -> None:
        self.resets += 1


class Delivered:
    """What came of the captures: reference or, after a failure, capture; and when it was captured."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.times_s: list[float] = []
        self._more = threading.Condition()

    def add(self, pcm: bytes, captured_at_s: float) -> None:
        with self._more:
            self.blocks.append(pcm)
            self.times_s.append(captured_at_s)
            self._more.notify_all()

    def wait_for(self, n_blocks: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.blocks) >= n_blocks, LIMIT_S)


@contextmanager
def running(engine: Engine) -> Iterator[tuple[Canceller, Delivered]]:
    delivered = Delivered()
    canceller = Canceller(engine, delivered.add)
    try:
        yield canceller, delivered
    finally:
        if engine.gate is not None:
            engine.gate.set()
        canceller.close(LIMIT_S)


def numbered(first: int, n_samples: int) -> bytes:
    """PCM in which each sample is its own number, modulo 2¹⁶, and never 0 in the first second."""
    return b"".join((n + 1 & 0xFFFF).to_bytes(2, "little") for n in range(first, first + n_samples))


def distances(engine: Engine, delivered: Delivered) -> list[int | None]:
    """Of each captured block to its reference, in samples; None where that is silence."""
    return [
        (_number(capture) - _number(reference)) % 2**16 if any(reference) else None
        for capture, reference in zip(engine.captures, delivered.blocks, strict=True)
    ]


def _number(block: bytes) -> int:
    return int.from_bytes(block[-SAMPLE_BYTES:], "little")


@dataclass
class Devices:
    """Play and capture numbered samples, in blocks of any size, with latencies of 20 ms."""

    canceller: Canceller
    size: Callable[[], int] = lambda: BLOCK
    now: int = 0
    played: int = 0
    captured: int = 0

    def run(self, duration_ms: int, *, plays: bool = True, captures: bool = True) -> None:
        for now in range(self.now, self.now + duration_ms * MS, MS):
            while plays and self.played <= now:
                size = self.size()
                self.canceller.played(numbered(self.played, size), now / SAMPLE_RATE + 0.02)
                self.played += size
            while captures and self.captured + (size := self.size()) <= now:
                self.canceller.captured(numbered(self.captured, size), self.captured / SAMPLE_RATE - 0.02)
                self.captured += size
        self.now += duration_ms * MS


@pytest.mark.parametrize("sizes", [(240,), (480,), (221, 220), (97, 480, 1, 733)])
def test_capture_of_any_block_size_goes_to_the_engine_whole_and_in_order(sizes: tuple[int, ...]) -> None:
    engine = Engine()
    choose = random.Random(3)
    with running(engine) as (canceller, delivered):
        Devices(canceller, lambda: choose.choice(sizes)).run(90)
    whole = b"".join(engine.captures)
    assert whole == numbered(0, len(whole) // SAMPLE_BYTES)
    assert len(whole) > 50 * MS * SAMPLE_BYTES
    assert delivered.times_s == pytest.approx([n / 100 - 0.02 for n in range(len(engine.captures))])
    assert canceller.dropped_ms == 0


def test_the_engine_is_given_just_what_was_played_without_a_gap() -> None:
    engine = Engine()
    with running(engine) as (canceller, delivered):
        Devices(canceller).run(90)
    references = b"".join(delivered.blocks).lstrip(b"\0")
    assert references == numbered(0, len(references) // SAMPLE_BYTES)
    assert len(references) > 50 * MS * SAMPLE_BYTES
    assert engine.resets == 1


def test_without_an_output_the_reference_is_silence() -> None:
    with running(Engine()) as (canceller, delivered):
        Devices(canceller).run(90, plays=False)
    assert set(delivered.blocks) == {bytes(BLOCK * SAMPLE_BYTES)}


def test_an_output_that_stops_and_goes_on_is_followed() -> None:
    engine = Engine()
    with running(engine) as (canceller, delivered):
        devices = Devices(canceller)
        for plays in (True, False, True):
            devices.played = devices.now
            for _ in range(40):
                devices.run(10, plays=plays)
                delivered.wait_for(devices.captured // BLOCK)
    silent = [n for n, reference in enumerate(delivered.blocks) if not any(reference)]
    assert silent == list(range(silent[0], silent[0] + len(silent)))
    assert len(silent) == pytest.approx(40, abs=1)
    assert canceller.replacements == 1
    assert engine.resets == 2


@pytest.mark.parametrize(("gap_ms", "size"), [(3000, BLOCK), (1500, BLOCK // 2)])
def test_an_input_that_stops_and_goes_on_is_followed(gap_ms: int, size: int) -> None:
    engine = Engine()
    with running(engine) as (canceller, delivered):
        devices = Devices(canceller, lambda: size)
        for n in range(300):
            if n == 150:
                delivered.wait_for(devices.captured // BLOCK)
                devices.run(gap_ms, captures=False)
                devices.captured = devices.now
            devices.run(10)
            delivered.wait_for(n - 2)
    assert canceller.replacements == 1
    assert engine.resets == 2
    behind = distances(engine, delivered)
    usual, at_last = behind[1], behind[-1]
    assert usual is not None
    assert behind[1:140] == [usual] * 139
    assert behind[-90:] == [at_last] * 90
    assert at_last == pytest.approx(usual, abs=30 * MS)
    for meanwhile in set(behind) - {None, usual, at_last}:
        assert meanwhile == pytest.approx((usual + gap_ms * MS) % 2**16, abs=BLOCK)  # late, as it has to be


def test_a_worker_that_is_behind_drops_captures_together_with_what_was_played() -> None:
    engine = Engine(gate=threading.Event())
    assert engine.gate is not None
    with running(engine) as (canceller, delivered):
        devices = Devices(canceller, lambda: 221)
        devices.run(500)
        engine.gate.set()
        delivered.wait_for(10)
        devices.run(50)
    assert 370 <= canceller.dropped_ms <= 400
    behind = distances(engine, delivered)[1:]  # the first reaches back to before the output began
    assert len(behind) >= 13
    assert len(set(behind)) == 1
    for block in engine.captures:
        assert block == numbered(int.from_bytes(block[:2], "little") - 1, BLOCK)


def test_when_the_engine_fails_the_capture_goes_through_as_it_is() -> None:
    engine = Engine(fails_at=3)
    with running(engine) as (canceller, delivered):
        Devices(canceller).run(90)
    assert str(canceller.failure) == "broken"
    assert len(engine.captures) == 3
    assert b"".join(delivered.blocks[2:]) == numbered(2 * BLOCK, (len(delivered.blocks) - 2) * BLOCK)


def test_closing_leaves_an_engine_that_hangs_behind() -> None:
    engine = Engine(gate=threading.Event())
    with running(engine) as (canceller, delivered):
        canceller.captured(bytes(480), 0)
        canceller.close(0.01)
        assert not delivered.blocks
