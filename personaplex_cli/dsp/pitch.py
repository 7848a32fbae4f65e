"""Pitch periods: found, taken out, repeated. Samples are arrays of 16-bit values (`pcm.samples`)."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Final

from personaplex_cli.pcm import SAMPLE_RATE

MIN_PERIOD_SAMPLES: Final = SAMPLE_RATE // 400
"""Of 400 Hz: above most voices; a shorter period is not worth a cut."""

MAX_PERIOD_SAMPLES: Final = SAMPLE_RATE * 12 // 1000
"""Of 83 Hz, a low voice."""

SEARCHED_SAMPLES: Final = 2 * MAX_PERIOD_SAMPLES
"""What `pitch_period` looks at."""

_COARSE: Final = 4
"""The search goes over sums of so many samples, then over samples near the best: a tenth of the work."""


def pitch_period(values: Sequence[int]) -> tuple[int, float]:
    """The shift by which the beginning of `values` is most like itself, and how much (1: equal).

    Takes `SEARCHED_SAMPLES` values, in either direction of time. Costs about 0.3 ms.
    """
    exact = [float(value) for value in values]  # multiplied in half the time of integers
    coarse = list(map(sum, zip(*(exact[i::_COARSE] for i in range(_COARSE)), strict=True)))
    longest = MAX_PERIOD_SAMPLES // _COARSE
    near, _ = _best_shift(coarse, range(MIN_PERIOD_SAMPLES // _COARSE, longest + 1), longest)
    first = max(MIN_PERIOD_SAMPLES, near * _COARSE - _COARSE + 1)
    last = min(MAX_PERIOD_SAMPLES, near * _COARSE + _COARSE - 1)
    return _best_shift(exact, range(first, last + 1), MAX_PERIOD_SAMPLES)


def _best_shift(values: Sequence[float], shifts: range, length: int) -> tuple[int, float]:
    """Of `shifts`, the one with the largest normalised correlation over `length` values, and that."""
    head = values[:length]
    energies = list(accumulate(map(mul, values, values), initial=0))
    best, best_likeness = shifts[0], -1.0
    for shift in shifts:
        energy = math.sqrt(energies[length] * (energies[shift + length] - energies[shift]))
        if (
            energy
            and (likeness := sum(map(mul, head, values[shift : shift + length])) / energy) > best_likeness
        ):
            best, best_likeness = shift, likeness
    return best, best_likeness


def cross_fade(old: Sequence[int], new: Sequence[int], begin: int = 0, length: int = 0) -> array[int]:
    """From `old` to `new`, of equal length: a whole fade, or the part from `begin` on of one of `length`."""
    length = length or len(old)
    mixed = (a * (length - i) + b * i for i, (a, b) in enumerate(zip(old, new, strict=True), begin + 1))
    return array("h", [value // length for value in mixed])


def splice(values: array[int], leave: int, enter: int, fade: int) -> array[int]:
    """`values` with a jump from sample `leave` to sample `enter`, cross-faded over `fade` samples."""
    joint = cross_fade(values[leave : leave + fade], values[enter : enter + fade])
    return values[:leave] + joint + values[enter + fade :]


def continuation(history: array[int], n_samples: int) -> array[int]:
    """How `history`, of at least `SEARCHED_SAMPLES` + 1 values, might go on: its last period, repeated and
    fading to silence.

    No step at a joint is much larger than those within the period. Costs about 0.5 ms.
    """
    period, _ = pitch_period(history[: -SEARCHED_SAMPLES - 1 : -1])
    smooth = period // 4
    # Towards its end the period turns into the one before, whose end is what precedes the period itself.
    last = history[-period:]
    last[-smooth:] = cross_fade(last[-smooth:], history[-period - smooth : -period])
    values = (last * (n_samples // period + 1))[:n_samples]
    jump = history[-1] - history[-period - 1]  # from where history ends to what precedes the period
    for i in range(min(smooth, n_samples)):
        values[i] = max(-32768, min(32767, values[i] + jump * (smooth - i) // smooth))
    fading = map(mul, values, range(n_samples, 0, -1))
    return array("h", [value // n_samples for value in fading])
