"""What ends a call by itself: time, idleness, the end of the input. Pure: time comes in as an argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from personaplex_cli.events import EndReason

WARN_SHARE: Final = 0.2
WARN_LEFT_S: Final = (60.0, 10.0)
"""It is told that the time limit is near when a fifth of it is left, a minute, and ten seconds."""

COUNTDOWN_S: Final = 30.0
"""The end by idleness is told so long before; before its second half there is none to tell of."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds; None means no limit."""

    handshake_s: float = 60.0
    max_duration_s: float | None = None
    """From the upgrade, when billing begins; for all calls of a conversation together."""
    budget: float | None = None
    """The money that this time was reckoned from, if it was."""
    spent_s: float = 0.0
    """What earlier calls of the conversation took of it."""
    idle_s: float | None = 60.0
    """Without speech of either side, once live."""
    tail_s: float = 3.0
    """Without speech of the agent, after the input's end."""

    def used_up(self, connected_s: float = 0.0) -> tuple[EndReason, str] | None:
        """The end's reason and detail if there is no time left, after so many seconds of this call."""
        if self.max_duration_s is None or self.spent_s + connected_s < self.max_duration_s:
            return None
        if self.budget is not None:
            return EndReason.BUDGET, f"{self.budget:g}"
        return EndReason.MAX_DURATION, f"{self.max_duration_s:g} s"


class LimitWatch:
    """Keeps what the limits count from. Times in seconds of one clock."""

    def __init__(self, limits: Limits, opened_s: float) -> None:
        self._limits = limits
        self._opened_s = opened_s
        self._present_s = opened_s  # when the call became live, or the user last did something
        self._input_s = opened_s  # when the input was last known to go on
        self._warnings_s = _warnings_s(limits.max_duration_s, limits.spent_s)
        self.idle_end_s: float | None = None
        """When the call will end because nobody speaks, once that is near; else None."""

    def waiting(self, now_s: float) -> tuple[EndReason, str] | None:
        """To be asked before the call is live, which is when idleness begins to count."""
        self._present_s = self._input_s = now_s
        return self._too_long(now_s)

    def live(
        self, now_s: float, *, user_spoke_s: float, agent_spoke_s: float, input_finished: bool
    ) -> tuple[EndReason, str] | None:
        """To be asked often, with when each side last spoke as far as is known by now: what was taken for
        speech and was none may be taken back. The end's reason and detail, or None."""
        if not input_finished:
            self._input_s = now_s
        if over := self._too_long(now_s):
            return over
        if now_s - max(self._input_s, agent_spoke_s) >= self._limits.tail_s:
            return EndReason.INPUT_ENDED, ""
        return self._idle(now_s, max(self._present_s, user_spoke_s, agent_spoke_s))

    def put_off_idle(self, now_s: float) -> None:
        """The user is there, though nobody speaks."""
        self._present_s = now_s

    def take_warnings(self, now_s: float) -> list[float]:
        """How many seconds are left of the time limit, at the moments when that is to be told."""
        if self._limits.max_duration_s is None:
            return []
        left_s = self._left_s(now_s, self._limits.max_duration_s)
        due = [at_s for at_s in self._warnings_s if at_s >= left_s]
        self._warnings_s = [at_s for at_s in self._warnings_s if at_s < left_s]
        return due[-1:]

    def _idle(self, now_s: float, active_s: float) -> tuple[EndReason, str] | None:
        limit_s = self._limits.idle_s
        if limit_s is None:
            return None
        end_s = active_s + limit_s
        near = end_s - now_s <= min(COUNTDOWN_S, limit_s / 2)
        self.idle_end_s = end_s if near else None
        return (EndReason.IDLE, f"for {limit_s:g} s") if now_s >= end_s else None

    def _too_long(self, now_s: float) -> tuple[EndReason, str] | None:
        return self._limits.used_up(now_s - self._opened_s)

    def _left_s(self, now_s: float, limit_s: float) -> float:
        return limit_s - (self._limits.spent_s + now_s - self._opened_s)


def _warnings_s(limit_s: float | None, spent_s: float) -> list[float]:
    """How much time will be left when it is told, most first; nothing that is not a while after the start."""
    if limit_s is None:
        return []
    wanted_s = sorted({WARN_SHARE * limit_s, *WARN_LEFT_S}, reverse=True)
    left_s = limit_s - spent_s
    return [one_s for one_s in wanted_s if one_s <= left_s / 2] or [
        one_s for one_s in wanted_s if one_s < left_s
    ][-1:]
