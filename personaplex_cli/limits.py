"""What ends a call by itself: time, idleness, the end of the input. Pure: time comes in as an argument."""

from __future__ import annotations

from dataclasses import dataclass

from personaplex_cli.events import EndReason
from personaplex_cli.pcm import SPEECH_DBFS


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds; None means no limit."""

    handshake_s: float = 60.0
    max_duration_s: float | None = None
    """From the upgrade, when billing begins; for all calls of a conversation together."""
    spent_s: float = 0.0
    """What earlier calls of the conversation took of it."""
    idle_s: float | None = 60.0
    """Without speech of either side, once live."""
    tail_s: float = 3.0
    """Without speech of the agent, after the input's end."""


class LimitWatch:
    """Keeps when each side last spoke. Times in seconds of one clock."""

    def __init__(self, limits: Limits, opened_s: float) -> None:
        self._limits = limits
        self._opened_s = opened_s
        self._speech_s = opened_s
        self._agent_speech_s = opened_s
        self._input_s = opened_s  # when the input was last known to go on

    def waiting(self, now_s: float) -> tuple[EndReason, str] | None:
        """To be asked before the call is live, which is when idleness begins to count."""
        self._speech_s = self._agent_speech_s = now_s
        return self._too_long(now_s)

    def live(
        self, now_s: float, *, user_dbfs: float, agent_dbfs: float, input_finished: bool
    ) -> tuple[EndReason, str] | None:
        """To be asked often, with the loudest level of each side since the last time. The end's reason
        and detail, or None."""
        if agent_dbfs > SPEECH_DBFS:
            self._agent_speech_s = self._speech_s = now_s
        if user_dbfs > SPEECH_DBFS:
            self._speech_s = now_s
        if not input_finished:
            self._input_s = now_s
        if over := self._too_long(now_s):
            return over
        if now_s - max(self._input_s, self._agent_speech_s) >= self._limits.tail_s:
            return EndReason.INPUT_ENDED, ""
        if self._limits.idle_s is not None and now_s - self._speech_s >= self._limits.idle_s:
            return EndReason.IDLE, f"for {self._limits.idle_s:g} s"
        return None

    def _too_long(self, now_s: float) -> tuple[EndReason, str] | None:
        limit_s = self._limits.max_duration_s
        if limit_s is None or self._limits.spent_s + now_s - self._opened_s < limit_s:
            return None
        return EndReason.MAX_DURATION, f"{limit_s:g} s"
