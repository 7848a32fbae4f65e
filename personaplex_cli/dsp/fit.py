"""Audio made shorter or longer where that is heard least: in silence first, then by whole pitch periods."""

from __future__ import annotations

from array import array
from operator import mul
from typing import Final

from personaplex_cli.dsp.pitch import (
    MAX_PERIOD_SAMPLES,
    MIN_PERIOD_SAMPLES,
    SEARCHED_SAMPLES,
    cross_fade,
    pitch_period,
    splice,
)
from personaplex_cli.pcm import SAMPLE_RATE, samples, to_pcm

SEAM_SAMPLES: Final = SAMPLE_RATE * 5 // 1000
"""Length of a cross-fade: 5 ms is too short to hear and long enough not to click."""

CUT_SHARE: Final = 0.15
"""The part of speech that cuts may take: about one period in 60 ms. More would sound hurried."""

QUIET_DBFS: Final = -50.0
"""What is below this level, over 20 ms, is silence: 30 dB below speech at its usual -20."""

_UNIT_SAMPLES: Final = SAMPLE_RATE * 20 // 1000
_QUIET_SQUARE: Final = 32768**2 * 10 ** (QUIET_DBFS / 10)

_STRIDE: Final = 5
"""Of so many samples one is looked at: enough to tell silence, and a third of the work of pushing a step."""

_SILENCE_DIVISOR: Final = 3
"""Silence runs at up to 1.5 times its speed: a third of it is taken out."""

_LACK_SAMPLES: Final = SAMPLE_RATE // 1000
"""As soon as this much is lacking, silence is put in."""


_MONOLOGUE_SAMPLES: Final = SAMPLE_RATE * 2
_PAUSE_WEIGHT: Final = 3
_MONOLOGUE_SLACKS: Final = 3
"""After so much speech, three times the slack is reason enough to cut. A pause takes back three times its
length: those within a sentence are too short to wait for."""

_LARGE_SAMPLES: Final = SAMPLE_RATE * 200 // 1000
"""This much is, at any time: turns get in each other's way."""

_VOICED: Final = 0.6
"""Below this likeness of two periods a cut would be heard (and is not made: noise has no period)."""


class Fit:
    """One thread's: it remembers how long there was no silence, and what has been cut lately."""

    def __init__(self) -> None:
        self._speech_samples = 0  # less what pauses took back
        self._allowance = 0.0  # what may be cut
        self.removed_samples = 0
        """Silence taken out."""
        self.cut_samples = 0
        """Speech taken out."""
        self.inserted_samples = 0
        """Silence put in."""

    def fit(self, pcm: bytes, surplus_samples: int, slack_samples: int) -> bytes:
        """`pcm`, shorter by up to `surplus_samples` if they are more than `slack_samples`; longer by up to so
        many if they are negative."""
        values = samples(pcm)
        out = array("h")
        at = 0
        while at < len(values):
            unit = values[at : at + _UNIT_SAMPLES]
            looked_at = unit[::_STRIDE]
            if sum(map(mul, looked_at, looked_at)) < _QUIET_SQUARE * len(looked_at):
                fitted = self._fit_silence(unit, surplus_samples, slack_samples)
            else:
                unit, fitted = self._fit_speech(values, at, surplus_samples, slack_samples)
            at += len(unit)
            surplus_samples -= len(unit) - len(fitted)
            out += fitted
        return to_pcm(out)

    def _fit_silence(self, unit: array[int], surplus_samples: int, slack_samples: int) -> array[int]:
        self._speech_samples = max(0, self._speech_samples - _PAUSE_WEIGHT * len(unit))
        most = min(len(unit) // _SILENCE_DIVISOR, len(unit) - SEAM_SAMPLES)
        change = max(-most, min(most, surplus_samples))
        if -_LACK_SAMPLES < surplus_samples < slack_samples or most <= 0:
            return unit
        if change > 0:
            self.removed_samples += change
            return splice(unit, 0, change, SEAM_SAMPLES)
        self.inserted_samples -= change
        leave = len(unit) - SEAM_SAMPLES
        return splice(unit, leave, leave + change, SEAM_SAMPLES)

    def _fit_speech(
        self, values: array[int], at: int, surplus_samples: int, slack_samples: int
    ) -> tuple[array[int], array[int]]:
        """What is used of `values` from `at` on, and what becomes of it."""
        monologue = self._speech_samples == _MONOLOGUE_SAMPLES
        enough = _MONOLOGUE_SLACKS * slack_samples if monologue else _LARGE_SAMPLES
        period = self._cut_samples(values, at, surplus_samples) if surplus_samples > enough else 0
        used = values[at : at + (2 * period or _UNIT_SAMPLES)]
        self._speech_samples = min(_MONOLOGUE_SAMPLES, self._speech_samples + len(used))
        self._allowance = min(MAX_PERIOD_SAMPLES, self._allowance + CUT_SHARE * len(used))
        if not period:
            return used, used
        self._allowance -= period
        self.cut_samples += period
        return used, cross_fade(used[:period], used[period:])

    def _cut_samples(self, values: array[int], at: int, surplus_samples: int) -> int:
        """The period that may be cut at `at`; 0: none."""
        most = min(surplus_samples, self._allowance)
        if most < MIN_PERIOD_SAMPLES or len(values) - at < SEARCHED_SAMPLES:
            return 0
        period, likeness = pitch_period(values[at : at + SEARCHED_SAMPLES])
        return period if period <= most and likeness >= _VOICED else 0
