"""When a stream's callbacks come: how late, and whether at all."""

from __future__ import annotations

from typing import Final

LONGEST_MS: Final = 100


class CallbackTiming:
    """Written by the thread of the callbacks, read by any. Costs about a microsecond a callback.

    A callback is late by as much as it comes after the end of the block before it.
    """

    def __init__(self) -> None:
        self.flagged = 0
        """Blocks before which the host says something was lost: overflow, underflow."""
        self._late_ms = [0] * (LONGEST_MS + 1)
        self._last_s: float | None = None
        self._due_s = 0.0

    def called(self, now_s: float, block_s: float, flagged: bool) -> None:
        if flagged:
            self.flagged += 1
        if self._last_s is not None:
            late_ms = int(1000 * (now_s - self._due_s))
            self._late_ms[min(max(late_ms, 0), LONGEST_MS)] += 1
        self._last_s = now_s
        self._due_s = now_s + block_s

    def restarted(self, now_s: float) -> None:
        """A stream has been started: from now on callbacks are awaited."""
        self._last_s = None
        self._due_s = now_s

    def silent_s(self, now_s: float) -> float:
        """How long there has been no callback, though one was due."""
        return now_s - self._due_s

    def late(self, share: float) -> int:
        """So many milliseconds late, or less, is the given share of all callbacks (0.999); `LONGEST_MS` also
        stands for more."""
        rest = (1 - share) * sum(self._late_ms)
        for late_ms in range(LONGEST_MS, 0, -1):
            rest -= self._late_ms[late_ms]
            if rest < 0:
                return late_ms
        return 0
