"""The time by which a sound device asks for samples, without the hurry and delay of single callbacks."""

from __future__ import annotations

from typing import Final

from personaplex_cli.pcm import SAMPLE_RATE

_SPAN_SAMPLES: Final = SAMPLE_RATE // 4
"""Callbacks are compared over this time up to twice it: longer than a host's buffer, through which they come
in bursts; short enough to notice soon that a device was suspended."""


class DeviceClock:
    """One thread's: the callback's."""

    def __init__(self) -> None:
        self._asked_samples = 0
        self._span_end = 0
        self._offset_s = self._before_s = float("inf")  # of now and of the span before
        self._largest = self._largest_before = 0
        self.block_samples = 0
        """The largest block asked for lately."""

    def due_s(self, now_s: float, n_samples: int) -> float:
        """A callback at `now_s` asks for `n_samples`: when it should have come, by the earliest lately."""
        offset_s = now_s - self._asked_samples / SAMPLE_RATE
        if self._asked_samples >= self._span_end:
            self._span_end = self._asked_samples + _SPAN_SAMPLES
            self._before_s, self._offset_s = self._offset_s, offset_s
            self._largest_before, self._largest = self._largest, n_samples
        elif offset_s < self._offset_s:
            self._offset_s = offset_s
        self._largest = max(self._largest, n_samples)
        self.block_samples = max(self._largest, self._largest_before)
        due_s = min(self._offset_s, self._before_s) + self._asked_samples / SAMPLE_RATE
        self._asked_samples += n_samples
        return due_s
