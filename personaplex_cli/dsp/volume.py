"""How loud the agent is played: a gain for blocks of PCM that changes without a click, and a limit."""

from __future__ import annotations

from array import array
from itertools import chain, islice, repeat
from typing import Final

from personaplex_cli.pcm import samples, to_pcm

MAX_VOLUME_PERCENT: Final = 200

_UNITY: Final = 100**2
"""Gains are whole numbers, in units of which this is 1.0: so the square of a percentage is a gain."""

_SLOPE: Final = _UNITY // 200
"""The most that a gain changes from one sample to the next: 8.3 ms from silence to 100 %. It goes by samples
and not by blocks, because a device with a sample rate of its own may ask for a single one."""


class Volume:
    """For one stream of PCM, in blocks of any length.

    The gain is the square of the percentage, since equal steps of amplitude sound ever smaller: 50 % is
    -12 dB, 10 % is -40 dB, 200 % is +12 dB, 0 % is silence.
    """

    def __init__(self) -> None:
        self._percent = 100  # replaced whole by one thread, read once a block by another
        self._gain = _UNITY  # of the last sample; the callback's alone

    @property
    def percent(self) -> int:
        """What is wanted: 0 to `MAX_VOLUME_PERCENT`; beyond that is the nearest of these. Any one thread."""
        return self._percent

    @percent.setter
    def percent(self, percent: int) -> None:
        self._percent = max(0, min(percent, MAX_VOLUME_PERCENT))

    def applied(self, pcm: bytes) -> bytes:
        """`pcm`, as loud as is wanted; at 100 % the very same object. The speaker's callback: 20 µs for a
        block of 160 samples, 30 µs while the gain changes or samples are limited."""
        gain = self._percent**2
        if gain == self._gain == _UNITY:
            return pcm
        values = samples(pcm)
        if gain == self._gain:
            scaled = [value * gain // _UNITY for value in values]
        else:
            gains = self._gains_to(gain, len(values))
            scaled = [value * g // _UNITY for value, g in zip(values, gains, strict=True)]
        return to_pcm(saturated(scaled))

    def _gains_to(self, gain: int, n_samples: int) -> list[int]:
        """One for each of the next samples, on the way to `gain`, or there."""
        step = _SLOPE if gain > self._gain else -_SLOPE
        way = range(self._gain + step, gain, step)
        *_, self._gain = gains = [self._gain, *islice(chain(way, repeat(gain)), n_samples)]
        return gains[1:]


def saturated(values: list[int]) -> array[int]:
    """As samples: what does not fit into 16 bits is as loud as possible, instead of wrapping round."""
    try:
        return array("h", values)
    except OverflowError:  # cheaper than to look at every sample of every block
        return array("h", [32767 if v > 32767 else -32768 if v < -32768 else v for v in values])
