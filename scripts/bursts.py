"""Tone bursts for measuring a delay: made at irregular intervals, and found again in a recording.

A burst is a sweep of 30 ms, which (unlike a plain tone) fits a recording at one place only. There are four
kinds, played in turn, so that a delay of up to `MAX_DELAY_S` cannot be taken for that of the burst before.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

RATE = 48_000
INTERVAL_S = (0.9, 1.3)
"""Between two bursts; irregular, so that they fall on all phases of the 80 ms step."""
BURST_S = 0.03
SWEEPS_HZ = ((500, 1500), (2200, 1000), (1400, 3000), (3800, 2400))
"""From and to, for each kind: what a voice codec carries well at any bit rate."""
MAX_DELAY_S = 3.4
"""The shortest time until a kind comes again is 3.6 s."""
ALIKE = 0.5
"""Correlation from which on a burst counts as found: with silence or another kind it stays below 0.3."""


@dataclass(frozen=True)
class Burst:
    kind: int
    at: int
    """First sample."""


def make(seconds: float, seed: int) -> tuple[Samples, list[Burst]]:
    """A signal with its bursts, silent for the first and the last second."""
    chance = random.Random(seed)
    signal = np.zeros(round(seconds * RATE), np.float32)
    bursts: list[Burst] = []
    at_s = 1.0
    while at_s < seconds - 1:
        burst = Burst(len(bursts) % len(SWEEPS_HZ), round(at_s * RATE))
        shape = sweep(burst.kind)
        signal[burst.at : burst.at + len(shape)] = shape
        bursts.append(burst)
        at_s += chance.uniform(*INTERVAL_S)
    return signal, bursts


def sweep(kind: int) -> Samples:
    low_hz, high_hz = SWEEPS_HZ[kind]
    t_s = np.arange(round(BURST_S * RATE)) / RATE
    phase = 2 * np.pi * (low_hz * t_s + (high_hz - low_hz) * t_s**2 / (2 * BURST_S))
    edge = np.minimum(1, np.minimum(t_s, BURST_S - t_s) / 0.001)  # 1 ms: sharp, and no click
    return (0.5 * edge * np.sin(phase)).astype(np.float32)


def find(kind: int, recording: Samples, begin: int, end: int) -> int | None:
    """The sample in [begin, end) where a burst of this kind begins; None when there is none."""
    shape = sweep(kind).astype(np.float64)
    begin = max(0, begin)
    part = recording[begin : max(begin, end) + len(shape) - 1].astype(np.float64)
    if len(part) < len(shape):
        return None
    size = 1 << (len(part) + len(shape)).bit_length()
    product = np.fft.irfft(np.fft.rfft(part, size) * np.conj(np.fft.rfft(shape, size)), size)
    product = product[: len(part) - len(shape) + 1]
    energy = np.concatenate([[0.0], np.cumsum(part**2)])
    around = np.maximum(energy[len(shape) :] - energy[: -len(shape)], 0.02 * np.sum(shape**2))
    alike = product / np.sqrt(around * np.sum(shape**2))
    best = int(alike.argmax())
    return begin + best if alike[best] >= ALIKE else None
