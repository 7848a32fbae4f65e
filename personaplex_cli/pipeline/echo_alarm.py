"""Does the microphone hear the speaker? Told by loudness alone: it rises and falls as what was played did.

Pure, and cheap enough for the event loop: levels of 20 ms come in, and once a second they are compared.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import repeat
from operator import mul
from typing import Final

from personaplex_cli.pcm import PACKET_MS

SLOT_S: Final = PACKET_MS / 1000

LAGS: Final = range(-60 // PACKET_MS, 500 // PACKET_MS + 1)
"""How many slots later an echo may be heard (over Bluetooth 0.3 s); a little below 0, since stamps are not
exact."""

STRETCH: Final = 3000 // PACKET_MS
"""Slots that are compared at a time: a dozen syllables."""

PAUSE: Final = 1000 // PACKET_MS
"""Slots until the next comparison."""

STRETCHES: Final = 3

LIKENESS: Final = 0.75
"""Least correlation of two envelopes in dB over a stretch. Of eight voices in a synthetic room an echo has
0.8 to 0.95; independent speech, at the best of all lags, 0.58 in the 99th percentile and never 0.7."""

SAME_LAG: Final = 2
"""By how many slots the lags of three stretches may differ. That of a chance likeness is any."""

FLOOR_DBFS: Final = -55.0
"""Quieter counts as this: noise of rooms and microphones."""

LEAST_SPREAD_DB: Final = 4.0
"""Standard deviation of a stretch worth comparing. Steady noise has less than 1 dB, speech 8 dB."""

JITTER: Final = 3
"""Slots without a level that only a stamp that wanders has left out."""

_PLAYED_AHEAD: Final = 1000 // PACKET_MS
"""Slots by which a level may be told before what it is of is heard."""


class EchoAlarm:
    """For one thread. A call takes 1 µs, once a second half a millisecond."""

    def __init__(self) -> None:
        self._played = _Envelope(STRETCH + LAGS[-1] + _PLAYED_AHEAD)
        self._captured = _Envelope(STRETCH)
        self._next: int | None = None  # when to compare again
        self._lags: list[int] = []

    def played(self, level_dbfs: float, heard_at_s: float) -> None:
        """20 ms that are heard at that time; silence too."""
        self._played.add(level_dbfs, heard_at_s)

    def captured(self, level_dbfs: float, captured_at_s: float) -> bool:
        """20 ms of the microphone, on the same clock. True once: three separate stretches of it have followed
        what was played, each as much later."""
        self._captured.add(level_dbfs, captured_at_s)
        end = self._captured.end
        if self._next is None:
            self._next = end + STRETCH - 1
        if end < self._next or len(self._lags) == STRETCHES:
            return False
        lag = self._best_lag(end - STRETCH)
        self._next = end + (PAUSE if lag is None else STRETCH)
        if lag is not None:
            self._lags = [*(other for other in self._lags if abs(other - lag) <= SAME_LAG), lag]
        return len(self._lags) == STRETCHES

    def _best_lag(self, first: int) -> int | None:
        """How many slots later the stretch from `first` follows what was played; None if it does not."""
        captured = self._captured.part(first, STRETCH)
        mean = sum(captured) / STRETCH
        captured = [level - mean for level in captured]
        spread = sum(map(mul, captured, captured))
        played = self._played.part(first - LAGS[-1], STRETCH + len(LAGS) - 1)
        best = (LIKENESS, -1)
        for at in range(len(LAGS)):
            best = max(best, (_correlation(captured, spread, played[at : at + STRETCH]), at))
        return LAGS[-1] - best[1] if best[1] >= 0 else None


def _correlation(centred: list[float], spread: float, levels: list[float]) -> float:
    """Pearson's, of a stretch with mean 0 and sum of squares `spread`, and of another; 0 where one of them
    hardly changes."""
    total = sum(levels)
    other_spread: float = sum(map(mul, levels, levels)) - total * total / STRETCH
    if min(spread, other_spread) < LEAST_SPREAD_DB**2 * STRETCH:
        return 0.0
    return float(sum(map(mul, centred, levels))) / math.sqrt(spread * other_spread)


class _Envelope:
    """The last levels, one for each 20 ms of the clock."""

    def __init__(self, n_slots: int) -> None:
        self._levels: deque[float] = deque(repeat(FLOOR_DBFS, n_slots), n_slots)
        self.end = 0
        """The slot after the last one."""

    def add(self, level_dbfs: float, at_s: float) -> None:
        level_dbfs = max(level_dbfs, FLOOR_DBFS)
        left_out = round(at_s / SLOT_S) - self.end
        if left_out >= 0:
            between = level_dbfs if left_out <= JITTER else FLOOR_DBFS
            self._levels.extend(repeat(between, min(left_out, len(self._levels))))
            self._levels.append(level_dbfs)
            self.end += left_out + 1
        elif -left_out <= JITTER:
            self._levels[left_out] = max(level_dbfs, self._levels[left_out])

    def part(self, first: int, n_slots: int) -> list[float]:
        """`FLOOR_DBFS` for slots that are not known."""
        start = first - self.end + len(self._levels)
        known = list(self._levels)[max(0, start) : max(0, start + n_slots)]
        before = [FLOOR_DBFS] * min(n_slots, max(0, -start))
        return before + known + [FLOOR_DBFS] * (n_slots - len(before) - len(known))
