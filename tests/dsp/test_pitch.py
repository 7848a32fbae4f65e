"""Pitch periods of tones and of speech, and what is made of them."""

from __future__ import annotations

import math
import random
from array import array
from itertools import pairwise

import pytest
from speech import clip

from personaplex_cli.dsp.pitch import (
    MAX_PERIOD_SAMPLES,
    MIN_PERIOD_SAMPLES,
    SEARCHED_SAMPLES,
    continuation,
    cross_fade,
    pitch_period,
    splice,
)
from personaplex_cli.pcm import SAMPLE_RATE


def tone(period: float, n_samples: int, amplitude: int = 8000) -> array[int]:
    """Two harmonics, so that only the period itself fits."""
    angles = (2 * math.pi * i / period for i in range(n_samples))
    return array("h", (int(amplitude * (math.sin(a) + math.cos(2 * a)) / 2) for a in angles))


def steps(values: array[int]) -> list[int]:
    return [abs(b - a) for a, b in pairwise(values)]


@pytest.mark.parametrize("period", [61, 100, 163, 164, 165, 166, 240, 287])
def test_the_period_of_a_tone_is_found(period: int) -> None:
    found, likeness = pitch_period(tone(period, SEARCHED_SAMPLES))
    assert found % period == 0
    assert likeness > 0.99


def test_noise_and_silence_have_no_period() -> None:
    rng = random.Random(5)
    noise = array("h", (rng.randrange(-9000, 9000) for _ in range(SEARCHED_SAMPLES)))
    assert pitch_period(noise)[1] < 0.4
    period, likeness = pitch_period(array("h", [0]) * SEARCHED_SAMPLES)
    assert MIN_PERIOD_SAMPLES <= period <= MAX_PERIOD_SAMPLES and likeness <= 0


def test_vowels_are_periodic() -> None:
    speech = array("h", (int(value * 32767) for value in clip("greeting")))
    likenesses = [
        pitch_period(speech[at : at + SEARCHED_SAMPLES])[1] for at in range(1000, len(speech) - 1000, 997)
    ]
    assert sum(likeness > 0.8 for likeness in likenesses) > len(likenesses) / 2


def test_a_cross_fade_begins_with_one_and_ends_with_the_other() -> None:
    faded = cross_fade([1200] * 120, [-1200] * 120)
    assert faded[0] == 1180 and faded[-1] == -1200
    assert set(steps(faded)) == {20}
    assert cross_fade([1200] * 20, [-1200] * 20, 100, 120) == faded[100:]


def test_a_splice_jumps_either_way() -> None:
    values = array("h", range(1000))
    shorter = splice(values, 300, 400, 50)
    assert (shorter[:300], shorter[350:]) == (values[:300], values[450:])
    longer = splice(values, 400, 300, 50)
    assert (longer[:400], longer[450:]) == (values[:400], values[350:])


def test_a_period_cut_from_a_tone_leaves_the_tone() -> None:
    values = tone(200, 1000)
    shorter = splice(values, 300, 500, 200)
    assert max(abs(a - b) for a, b in zip(shorter, values, strict=False)) <= 1
    assert len(shorter) == 800


def test_a_tone_is_continued_and_faded() -> None:
    values = tone(150, 3000)
    made = continuation(values[:1000], 1440)
    assert len(made) == 1440
    expected = (value * (1440 - i) // 1440 for i, value in enumerate(values[1000:2440]))
    assert max(abs(a - b) for a, b in zip(made, expected, strict=True)) <= 2
    assert abs(made[-1]) <= 10


def test_speech_is_continued_without_a_step() -> None:
    speech = array("h", (int(value * 32767) for value in clip("greeting")))
    for at in range(1000, len(speech), 4801):
        history = speech[:at]
        made = continuation(history, 1440)
        around = max(steps(history[-2 * MAX_PERIOD_SAMPLES :]))
        assert max(steps(history[-1:] + made)) <= around + 100


def test_full_scale_does_not_overflow() -> None:
    history = array("h", [32767, -32768] * 150 + [-32768] * 277)
    assert len(continuation(history, SAMPLE_RATE // 10)) == SAMPLE_RATE // 10
