"""Playout policies on the same simulated networks: ours (the real class, on a virtual clock), that of the web
client of kyutai-labs/moshi (its audio-processor.ts, modelled), and a queue that never drops (moshi's Python
client).

Steps of 80 ms come in order, as over TCP: a late one holds up those behind it. The delay is that of a sample
heard, compared with a path without jitter on which each step is played the moment it comes. Times in seconds
of the listener's clock.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from statistics import fmean, quantiles
from typing import Protocol

import numpy as np
from speech import clip, question

from personaplex_cli.pcm import SAMPLE_RATE, STEP_SAMPLES, level_dbfs
from personaplex_cli.pipeline.playout import Playout

STEP_S = STEP_SAMPLES / SAMPLE_RATE
UNIT_SAMPLES = 480
QUIET_DBFS = -50.0


@dataclass(frozen=True)
class Trace:
    """When each step comes."""

    name: str
    arrivals_s: Sequence[float]
    step_s: float = STEP_S
    """The server's step by the listener's clock."""


def delayed(name: str, delays_s: Sequence[float], step_s: float = STEP_S) -> Trace:
    arrivals_s = accumulate((i * step_s + delay_s for i, delay_s in enumerate(delays_s)), max)
    return Trace(name, list(arrivals_s), step_s)


def _stalls(
    rng: random.Random, duration_s: float, pause_s: tuple[float, float]
) -> Iterator[tuple[float, float]]:
    """(begin, end) of stalls of 200 to 500 ms, with pauses between them."""
    at_s = rng.uniform(*pause_s)
    while at_s < duration_s:
        end_s = at_s + rng.uniform(0.2, 0.5)
        yield at_s, end_s
        at_s = end_s + rng.uniform(*pause_s)


def _stalled(rng: random.Random, n_steps: int, stalls: Iterator[tuple[float, float]]) -> list[float]:
    """Delays of steps on a wired network, and what waits for the end of a stall."""
    delays_s = [abs(rng.gauss(0, 0.002)) for _ in range(n_steps)]
    for begin_s, end_s in stalls:
        for i in range(int(begin_s / STEP_S) + 1, min(n_steps, int(end_s / STEP_S) + 1)):
            delays_s[i] = end_s - i * STEP_S
    return delays_s


def traces(duration_s: float, seed: int = 1) -> list[Trace]:
    """The networks of the comparison; jitter is around the mean delay, stalls and spikes come on top."""
    n_steps = int(duration_s / STEP_S)
    rng = random.Random(seed)

    def gauss(sd_s: float) -> list[float]:
        return [rng.gauss(0, sd_s) for _ in range(n_steps)]

    wifi = [
        rng.expovariate(1 / 0.006) + (rng.uniform(0.040, 0.150) if rng.random() < 0.02 else 0)
        for _ in range(n_steps)
    ]
    once = iter([(duration_s / 3, duration_s / 3 + 2)])
    return [
        delayed("constant", [0.0] * n_steps),
        delayed("gauss10", gauss(0.010)),
        delayed("gauss30", gauss(0.030)),
        delayed("wifi", wifi),
        delayed("stalls", _stalled(rng, n_steps, _stalls(rng, duration_s, (2, 6)))),
        delayed("rare stalls", _stalled(rng, n_steps, _stalls(rng, duration_s, (20, 40)))),
        delayed("one stall", _stalled(rng, n_steps, once)),
        delayed("clock +200", gauss(0.010), STEP_S * (1 - 200e-6)),
        delayed("clock -200", gauss(0.010), STEP_S * (1 + 200e-6)),
        delayed("+200, quiet", [0.0] * n_steps, STEP_S * (1 - 200e-6)),
        delayed("-200, quiet", [0.0] * n_steps, STEP_S * (1 + 200e-6)),
    ]


@dataclass(frozen=True)
class Content:
    """What the agent says, over and over, in steps."""

    name: str
    steps: list[bytes]
    quiet: list[bool]
    """Of each 20 ms: is it silence."""

    def silence_s(self, begin: int, end: int) -> float:
        """How much of the samples `begin` to `end` is silence."""
        units = range(begin // UNIT_SAMPLES, -(-end // UNIT_SAMPLES))
        shares = (
            min(end, (unit + 1) * UNIT_SAMPLES) - max(begin, unit * UNIT_SAMPLES)
            for unit in units
            if self.quiet[unit % len(self.quiet)]
        )
        return sum(shares) / SAMPLE_RATE


@cache
def dialogue() -> Content:
    """Turns of 2 to 4 s, with as much silence between them."""
    pauses = [np.zeros(int(s * SAMPLE_RATE), np.float32) for s in (2.0, 1.2, 3.0)]
    spoken = [clip("greeting"), question(), np.concatenate([clip("noted"), question()])]
    return _content("dialogue", [part for pair in zip(spoken, pauses, strict=True) for part in pair])


@cache
def monologue() -> Content:
    """Speech without a pause longer than those between sentences."""
    return _content("monologue", [clip("greeting"), question(), clip("noted")])


def _content(name: str, parts: list[np.ndarray[tuple[int], np.dtype[np.float32]]]) -> Content:
    values = (np.concatenate(parts) * 32767).astype("<i2")
    pcm = values[: len(values) // STEP_SAMPLES * STEP_SAMPLES].tobytes()
    steps = [pcm[at : at + 2 * STEP_SAMPLES] for at in range(0, len(pcm), 2 * STEP_SAMPLES)]
    units = [pcm[at : at + 2 * UNIT_SAMPLES] for at in range(0, len(pcm), 2 * UNIT_SAMPLES)]
    return Content(name, steps, [level_dbfs(unit) < QUIET_DBFS for unit in units])


@dataclass
class Result:
    """What a listener gets; rates are by the minute."""

    duration_s: float
    delays_ms: list[float] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    """When each of these was measured: at each pull that got audio."""
    underruns: int = 0
    gap_s: float = 0.0
    dropped_speech_s: float = 0.0
    dropped_silence_s: float = 0.0
    cut_speech_s: float = 0.0
    """By pitch periods."""
    removed_silence_s: float = 0.0
    inserted_s: float = 0.0

    @property
    def mean_ms(self) -> float:
        return fmean(self.delays_ms)

    @property
    def p95_ms(self) -> float:
        return quantiles(self.delays_ms, n=20)[-1]

    def per_min(self, amount: float) -> float:
        return amount * 60 / self.duration_s


class Policy(Protocol):
    """Positions are those of the audio as it was sent."""

    result: Result
    block_samples: int

    def push(self, step: int, now_s: float) -> None: ...

    def pull(self, now_s: float) -> float | None:
        """Plays a block; the position of the next sample in seconds, None if there is a gap."""


def run(policy: Policy, trace: Trace, phase_s: float = 0.0) -> Result:
    """Pulls begin at `phase_s` and follow each other at the pace of the samples."""
    pull_s = phase_s
    n_pulls = 0
    for step, arrived_s in enumerate(trace.arrivals_s):
        while pull_s < arrived_s:
            position_s = policy.pull(pull_s)
            if position_s is not None:
                sent_s = position_s / STEP_S * trace.step_s
                policy.result.delays_ms.append((pull_s - sent_s) * 1000)
                policy.result.at_s.append(pull_s)
            n_pulls += 1
            pull_s = phase_s + n_pulls * policy.block_samples / SAMPLE_RATE
        policy.push(step, arrived_s)
    return policy.result


class Ours:
    """The real playout buffer."""

    def __init__(self, content: Content, duration_s: float, block_samples: int = 240) -> None:
        self.result = Result(duration_s)
        self.block_samples = block_samples
        self.playout = Playout()
        self._content = content
        self._marks: deque[tuple[int, int]] = deque([(0, 0)])
        """Where pushes end: in the audio as it is queued, and in the audio as it was sent."""

    def push(self, step: int, now_s: float) -> None:
        playout = self.playout
        playout.push(self._content.steps[step % len(self._content.steps)], now_s)
        shorter = playout.removed_samples + playout.cut_samples - playout.inserted_samples
        self._marks.append((playout.pushed_samples - shorter, playout.pushed_samples))

    def pull(self, now_s: float) -> float | None:
        playout, result = self.playout, self.result
        concealed, dropped = playout.concealed_samples, playout.dropped_samples
        played = playout.played_samples
        queued = self._marks[-1][0]
        position = self._sent(queued - playout.held_samples)
        playout.pull(self.block_samples, now_s)
        if playout.dropped_samples > dropped:
            end = self._sent(queued - playout.held_samples - (playout.played_samples - played))
            # What was taken out of it before is counted already.
            silence_s = self._content.silence_s(position, end)
            share = silence_s * SAMPLE_RATE / (end - position)
            dropped_s = (playout.dropped_samples - dropped) / SAMPLE_RATE
            result.dropped_silence_s += dropped_s * share
            result.dropped_speech_s += dropped_s * (1 - share)
            position = end
        real = playout.played_samples - played - (playout.concealed_samples - concealed)
        if played:
            result.gap_s += (self.block_samples - real) / SAMPLE_RATE
        result.underruns = playout.underruns
        result.cut_speech_s = playout.cut_samples / SAMPLE_RATE
        result.removed_silence_s = playout.removed_samples / SAMPLE_RATE
        result.inserted_s = playout.inserted_samples / SAMPLE_RATE
        return position / SAMPLE_RATE if real == self.block_samples else None

    def _sent(self, taken: int) -> int:
        """The position in what was sent of the position `taken` in what was queued."""
        while len(self._marks) > 1 and self._marks[1][0] <= taken:
            self._marks.popleft()
        begin, sent = self._marks[0]
        if len(self._marks) == 1:
            return sent
        end, sent_end = self._marks[1]
        return sent + (taken - begin) * (sent_end - sent) // (end - begin)


class Queue:
    """moshi's Python client: a queue, blocks of a step, and nothing is ever dropped."""

    block_samples = STEP_SAMPLES

    def __init__(self, content: Content, duration_s: float) -> None:
        self.result = Result(duration_s)
        self._pushed = self._played = 0
        self._gap = False

    def push(self, step: int, now_s: float) -> None:
        self._pushed += 1

    def pull(self, now_s: float) -> float | None:
        if self._played == self._pushed:
            self.result.underruns += self._played > 0 and not self._gap
            self.result.gap_s += STEP_S if self._played else 0
            self._gap = True
            return None
        self._gap = False
        self._played += 1
        return (self._played - 1) * STEP_S


class Web:
    """moshi's web client, in a browser that plays 48 kHz in portions of 128: 64 samples of ours.

    It waits for a step and `partial` more, drops down to a step and `partial` when it holds `most` more than
    that, and lets `partial` grow with each gap it notices, `most` with each drop, by 5 ms up to 80 ms. A gap
    that begins between two portions it does not notice, so it does not wait then.
    """

    block_samples = 64

    def __init__(self, content: Content, duration_s: float) -> None:
        self.result = Result(duration_s)
        self._content = content
        self._position = self._end = 0
        self._started = self._playing = False
        self._partial = self._most = SAMPLE_RATE * 10 // 1000
        self._waiting = 0

    def push(self, step: int, now_s: float) -> None:
        for _ in range(2):  # its decoder passes on 40 ms at a time
            self._end += STEP_SAMPLES // 2
            if not self._started and self._end - self._position >= STEP_SAMPLES:
                self._started = True
                self._waiting = self._partial
            keep = STEP_SAMPLES + self._partial
            if self._end - self._position >= keep + self._most:
                self._drop(self._end - keep)
                self._most = _grown(self._most)

    def pull(self, now_s: float) -> float | None:
        begin = self._position
        if self._started and self._waiting <= 0:
            self._position = min(begin + self.block_samples, self._end)
        else:
            self._waiting -= self.block_samples
        played = self._position - begin
        if 0 < played < self.block_samples:
            self._partial = _grown(self._partial)
            self._started = False
        full = played == self.block_samples
        self.result.underruns += self._playing and not full
        self.result.gap_s += (self.block_samples - played) / SAMPLE_RATE if self._position else 0
        self._playing = full
        return begin / SAMPLE_RATE if full else None

    def _drop(self, position: int) -> None:
        silence_s = self._content.silence_s(self._position, position)
        self.result.dropped_silence_s += silence_s
        self.result.dropped_speech_s += (position - self._position) / SAMPLE_RATE - silence_s
        self._position = position


def _grown(samples: int) -> int:
    return min(samples + SAMPLE_RATE * 5 // 1000, SAMPLE_RATE * 80 // 1000)


POLICIES: dict[str, Callable[[Content, float], Policy]] = {"ours": Ours, "web client": Web, "queue": Queue}
