"""How late audio comes: what the playout buffer's target is made of.

Lateness is the time of arrival less the duration of the audio that came before, in seconds: the same for all
messages of a perfect path, whatever its delay. At 12.5 messages a second a percentile over messages misses
stalls, as each makes one message very late and few others a little. What counts is the worst message of each
second; the worst of these seconds is forgiven, so that a single stall does not cost half a minute of delay.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 30.0
"""How long a second counts. Clocks that drift apart by 200 ppm move by 6 ms in that time."""

AHEAD_S: Final = 0.040
"""What comes earlier than the fastest by more than this is no luck: the server has been given audio that it
did not have to wait for, after a stall on the way to it, and is ahead from then on."""

AHEAD_MESSAGES: Final = 4
"""So many in a row, as early as each other, show where it is; a third of a second."""

AHEAD_MESSAGES_MAX: Final = 25
"""After so many, two seconds, it is taken to be where it is: the path is uneven as well."""


@dataclass(slots=True)
class _Second:
    begin_s: float
    earliest_s: float
    latest_s: float


class Lateness:
    """One thread's. `earliest_s` and `latest_s` may be asked for after the first `note`."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque()
        self._early: deque[tuple[float, float]] = deque(maxlen=AHEAD_MESSAGES_MAX)
        """The messages since one came too early to believe: when, and their lateness."""

    def note(self, arrived_s: float, position_s: float) -> None:
        """A message came at `arrived_s`, after messages with `position_s` of audio. Times never decrease."""
        lateness_s = arrived_s - position_s
        if self._early or (self._seconds and lateness_s < self.earliest_s - AHEAD_S):
            self._early.append((arrived_s, lateness_s))
            if len(self._early) >= AHEAD_MESSAGES:
                self._follow([late_s for _, late_s in self._early][-AHEAD_MESSAGES:])
        else:
            self._add(arrived_s, lateness_s)

    def _follow(self, newest_s: list[float]) -> None:
        """The server may be ahead: what came before is compared with where it is now, otherwise all of it
        would seem late, and be waited for."""
        settled = max(newest_s) - min(newest_s) < AHEAD_S or len(self._early) == self._early.maxlen
        ahead_s = max(0.0, self.earliest_s - (min(newest_s) if settled else max(newest_s)))
        for second in self._seconds:
            second.earliest_s -= ahead_s
            second.latest_s -= ahead_s
        if settled:
            for (arrived_s, _), late_s in zip(list(self._early)[-AHEAD_MESSAGES:], newest_s, strict=True):
                self._add(arrived_s, late_s)
            self._early.clear()

    def _add(self, arrived_s: float, lateness_s: float) -> None:
        # A second begins with the first message after the last one's end: what comes at once after a stall
        # falls into one.
        if not self._seconds or arrived_s >= self._seconds[-1].begin_s + 1:
            self._forget(arrived_s - WINDOW_S)
            self._seconds.append(_Second(arrived_s, lateness_s, lateness_s))
        else:
            second = self._seconds[-1]
            second.earliest_s = min(second.earliest_s, lateness_s)
            second.latest_s = max(second.latest_s, lateness_s)

    @property
    def earliest_s(self) -> float:
        """Lateness of the fastest message."""
        return min(second.earliest_s for second in self._seconds)

    @property
    def latest_s(self) -> float:
        """The second largest of what the seconds' latest messages were; the only one, if there is one."""
        return _second_largest(list(self._seconds))

    def _forget(self, before_s: float) -> None:
        while self._seconds and self._seconds[0].begin_s <= before_s:
            self._seconds.popleft()
        # When everything comes later than was worth waiting for, two seconds long, then the path or the
        # server has become slower for good: that is no jitter, and comparing with the past says nothing.
        past, recent = list(self._seconds)[:-2], list(self._seconds)[-2:]
        slower = past and min(second.earliest_s for second in recent) > _second_largest(past)
        if slower:
            self._seconds = deque(recent)


def _second_largest(seconds: list[_Second]) -> float:
    return sorted(second.latest_s for second in seconds)[-2:][0]
