"""A chirp that the speaker plays and the microphone may hear: how much later, and how loud. Pure.

A linear sweep is like nothing but itself: a correlation finds it where an ear would not, in noise as loud as
the echo; and noise or speech is not taken for one that comes three times, equally late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from personaplex_cli.pcm import SAMPLE_RATE

CHIRP_S: Final = 0.2
LOW_HZ: Final = 500.0
HIGH_HZ: Final = 4000.0
"""What the smallest speakers play and the poorest microphones hear."""

PEAK: Final = 10 ** (-17 / 20)
"""Of full scale: the sweep's RMS is -20 dBFS, as loud as an agent that speaks up."""

RAMP_S: Final = 0.02

BEGINS_S: Final = (0.5, 1.4, 2.43)
"""When each chirp begins. First a while in which streams settle and the noise is heard; then distances that
differ, so that an echo later than `LATEST_S`, taken for that of the next chirp, is not found twice."""

EARLIEST_S: Final = -0.03
LATEST_S: Final = 0.5
"""When an echo may begin: over Bluetooth 0.3 s. By wrong stamps it may seem to come early."""

DURATION_S: Final = BEGINS_S[-1] + LATEST_S + CHIRP_S + 0.1

APART_S: Final = 0.05
"""A second peak so near to the first one is the room's."""

LIKE: Final = 0.16
STANDS_OUT: Final = 1.5
"""A match counts that is as like the chirp as `LIKE`, and so much more than the second best elsewhere.
Of a thousand stretches of noise 0.15 and 1.5 was the most, of speech 0.15 and 2.9; an echo as loud as the
noise, in a synthetic room that reverberates, has 0.20 and 1.9 at least."""

FIRST_SHARE: Final = 0.6
"""What comes straight may be weaker than a reflection; a match so good is no side lobe of the sweep."""

AGREE_S: Final = 0.01
"""Stamps wander by some milliseconds; of places where a match may be found by chance that is a fiftieth."""

BAND_MARGIN_HZ: Final = 100.0

TAIL_S: Final = 0.05
"""How long a room rings on, as far as it counts for the level."""

NOISE_S: Final = 0.1
"""The noise is what is heard in so long before a chirp; the latest echo of the one before is over by then."""

FloatArray: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Heard:
    """What one chirp came to."""

    delay_s: float
    level_db: float
    """Of what the microphone had, against what the speaker was given; in the chirp's band, without noise."""
    likeness: float
    """Of the best match: 0 to 1."""
    stands_out: float
    """The best match against the second best one."""

    @property
    def clear(self) -> bool:
        return self.likeness >= LIKE and self.stands_out >= STANDS_OUT


@dataclass(frozen=True, slots=True)
class EchoPath:
    """From the speaker to the microphone."""

    heard: bool
    """At least two chirps were heard, equally late."""
    delay_ms: float
    level_db: float
    confidence: float
    """The second largest `Heard.stands_out`: what at least two chirps reach."""


def sweep() -> FloatArray:
    """The chirp, -1 to 1: its frequency rises evenly, its loudness begins and ends like half a cosine."""
    t = np.arange(round(CHIRP_S * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * (LOW_HZ * t + (HIGH_HZ - LOW_HZ) / (2 * CHIRP_S) * t**2)
    rise = np.minimum(1, np.minimum(t, t[::-1]) / RAMP_S)
    chirp: FloatArray = PEAK * np.sin(phase) * (1 - np.cos(np.pi * rise)) / 2
    return chirp


def chirps() -> bytes:
    """PCM of `DURATION_S`: what the speaker is to play."""
    values = np.zeros(round(DURATION_S * SAMPLE_RATE))
    for begin_s in BEGINS_S:
        begin = round(begin_s * SAMPLE_RATE)
        values[begin : begin + round(CHIRP_S * SAMPLE_RATE)] = sweep()
    return np.round(values * 32767).astype("<i2").tobytes()


def find(captured: bytes, expected: Sequence[int]) -> EchoPath:
    """Looks for the chirps in `captured` (PCM). `expected`: for each, the sample that would be its first if
    it were heard the very moment it is played; outside of what was captured it counts as not heard."""
    values = np.frombuffer(captured, "<i2") / 32768
    found = [heard for begin in expected if (heard := _find(values, begin)) is not None]
    clear = [heard for heard in found if heard.clear]
    middle_s = median(heard.delay_s for heard in clear) if clear else 0.0
    agreed = [heard for heard in clear if abs(heard.delay_s - middle_s) <= AGREE_S]
    ranks = sorted((heard.stands_out for heard in found), reverse=True)
    confidence = ranks[1] if len(ranks) > 1 else 0.0
    if len(agreed) < 2:
        return EchoPath(False, 0.0, 0.0, confidence)
    return EchoPath(
        True,
        1000 * median(heard.delay_s for heard in agreed),
        median(heard.level_db for heard in agreed),
        confidence,
    )


def _find(values: FloatArray, begin: int) -> Heard | None:
    """None where a part of what has to be looked at was not captured."""
    chirp = sweep()
    quiet = begin + round(EARLIEST_S * SAMPLE_RATE)
    n_noise = round(NOISE_S * SAMPLE_RATE)
    first = quiet - n_noise
    last = begin + round(LATEST_S * SAMPLE_RATE) + len(chirp) + round(TAIL_S * SAMPLE_RATE)
    if first < 0 or last > len(values):
        return None
    window = _in_band(values[first:last])
    likeness = _likeness(window[n_noise:], chirp)
    at = int(np.argmax(likeness))
    apart = round(APART_S * SAMPLE_RATE)
    others = np.concatenate([likeness[: max(0, at - apart)], likeness[at + apart :]])
    second = float(others.max())
    peak = float(likeness[at])
    before = max(0, at - apart)
    at = before + int(np.argmax(likeness[before : at + 1] >= FIRST_SHARE * peak))
    return Heard(
        delay_s=at / SAMPLE_RATE + EARLIEST_S,
        level_db=_level_db(window, n_noise + at, chirp),
        likeness=peak,
        stands_out=peak / second if second > 0 else (math.inf if peak > 0 else 0.0),
    )


def _in_band(values: FloatArray) -> FloatArray:
    """Without what is below and above the chirp: hum and hiss say nothing about it."""
    spectrum = np.fft.rfft(values)
    hz = np.fft.rfftfreq(len(values), 1 / SAMPLE_RATE)
    spectrum[(hz < LOW_HZ - BAND_MARGIN_HZ) | (hz > HIGH_HZ + BAND_MARGIN_HZ)] = 0
    kept: FloatArray = np.fft.irfft(spectrum, len(values))
    return kept


def _likeness(values: FloatArray, chirp: FloatArray) -> FloatArray:
    """For each place in `values` how like the chirp it is from there on: 0 to 1, whatever the loudness."""
    size = 1 << (len(values) + len(chirp)).bit_length()
    product: Any = np.fft.rfft(values, size) * np.fft.rfft(chirp, size).conj()
    n_places = len(values) - len(chirp) + 1
    likeness: FloatArray = np.abs(np.fft.irfft(product, size)[:n_places])
    sums = np.concatenate([[0.0], np.cumsum(values**2)])
    energies = np.maximum(sums[len(chirp) :] - sums[: -len(chirp)], 1e-12)
    normalised: FloatArray = likeness / np.sqrt(energies * float(np.dot(chirp, chirp)))
    return normalised


def _level_db(window: FloatArray, at: int, chirp: FloatArray) -> float:
    """By energy, which also counts what comes by way of the walls; without that of the noise before."""
    length = len(chirp) + round(TAIL_S * SAMPLE_RATE)
    noise = float((window[: round(NOISE_S * SAMPLE_RATE)] ** 2).mean())
    energy = float((window[at : at + length] ** 2).sum()) - noise * length
    matched = float(np.dot(window[at : at + len(chirp)], chirp)) ** 2 / float(np.dot(chirp, chirp))
    return 10 * math.log10(max(energy, matched, 1e-12) / float(np.dot(chirp, chirp)))
