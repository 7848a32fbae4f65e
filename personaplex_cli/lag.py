"""How late the conversation is, by counting samples. Pure: time comes in as an argument.

These servers answer each sample with one of their own, so what was sent and is not yet answered is on its
way: on the network, or in the model. That needs no ping and no common clock.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import Final

CALIBRATED_AFTER_S: Final = 3.0
"""A server may speak before it has heard as much; what it is ahead by until then is no answer."""

REPORT_S: Final = 0.5
"""How often a reading is made. It takes the least of that time: in between a step is being collected."""

MAX_READINGS: Final = 10_000
"""The last hour and a half."""


class LagGauge:
    """One call's. Event loop only; milliseconds of audio, and seconds of one clock."""

    def __init__(self) -> None:
        self._sent_ms: deque[tuple[float, float]] = deque(maxlen=100)  # when each payload arrived
        self._first_s: float | None = None
        self._ahead_ms = 0.0
        self._remote_ms: float | None = None
        self._local_ms: float | None = None
        self._due_s = 0.0
        self._readings: deque[tuple[float | None, float]] = deque(maxlen=MAX_READINGS)

    def arrived(self, now_s: float, sent_ms: float) -> None:
        """Audio came from the server when so much had been sent."""
        if self._first_s is None:
            self._first_s = now_s
        self._sent_ms.append((now_s, sent_ms))

    def look(self, now_s: float, arrived_s: float, received_ms: float, local_ms: float) -> None:
        """Of what came up to `arrived_s`, `received_ms` have been decoded; `local_ms` have not been heard."""
        while self._sent_ms and self._sent_ms[0][0] <= arrived_s:
            at_s, sent_ms = self._sent_ms.popleft()
            if at_s == arrived_s:
                self._compare(now_s, sent_ms - received_ms)
        self._local_ms = local_ms if self._local_ms is None else min(self._local_ms, local_ms)

    def _compare(self, now_s: float, unanswered_ms: float) -> None:
        assert self._first_s is not None
        if now_s - self._first_s < CALIBRATED_AFTER_S:
            self._ahead_ms = max(self._ahead_ms, -unanswered_ms)
        remote_ms = max(0.0, unanswered_ms + self._ahead_ms)
        self._remote_ms = remote_ms if self._remote_ms is None else min(self._remote_ms, remote_ms)

    def take(self, now_s: float) -> tuple[float | None, float] | None:
        """The least remote and local lag since the last reading, if one is due."""
        if now_s < self._due_s or self._local_ms is None:
            return None
        self._due_s = now_s + REPORT_S
        reading = (self._remote_ms, self._local_ms)
        self._remote_ms = self._local_ms = None
        self._readings.append(reading)
        return reading

    def medians(self) -> tuple[float | None, float | None]:
        """Remote and local, over the whole call; None where there was no reading."""
        remote = [remote for remote, _ in self._readings if remote is not None]
        local = [local for _, local in self._readings]
        return (statistics.median(remote) if remote else None, statistics.median(local) if local else None)
