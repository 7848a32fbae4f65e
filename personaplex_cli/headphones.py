"""Headphones found by measurement: the microphone stays quiet, however loud the agent is."""

from __future__ import annotations

from typing import Final

from personaplex_cli.aec import BLOCK_SAMPLES, EchoCanceller
from personaplex_cli.pcm import SAMPLE_RATE, SILENCE_DBFS, level_dbfs
from personaplex_cli.pipeline.echo_alarm import EchoAlarm

BLOCK_S: Final = BLOCK_SAMPLES / SAMPLE_RATE

LOUD_DBFS: Final = -40.0
"""What is played counts from here on. The agent speaks at -30 to -15 dBFS."""

UNHEARD_DBFS: Final = -60.0
"""A microphone quieter than this hears nothing of it that matters. (One that gives only zeros is switched
off, and nothing is known.)"""

LOUD_BLOCKS: Final = 1000
"""How much of the agent is listened to before it is decided: 10 s of speech."""

QUIET_SHARE: Final = 0.9
"""The user may say something meanwhile."""


class UnlessHeadphones:
    """An engine that rests when there is no echo, which saves its work and its 9 ms; and begins again when
    there is one after all, since headphones can be unplugged. For one thread at a time."""

    def __init__(self, engine: EchoCanceller) -> None:
        self._engine = engine
        self._loud = self._quiet = 0
        self._alarm: EchoAlarm | None = None
        self._blocks = 0

    @property
    def resting(self) -> bool:
        return self._alarm is not None

    def process(self, capture: bytes, reference: bytes) -> bytes:
        played_dbfs, captured_dbfs = level_dbfs(reference), level_dbfs(capture)
        if self._alarm is None:
            self._measure(played_dbfs, captured_dbfs)
        else:
            self._listen(self._alarm, played_dbfs, captured_dbfs)
        return capture if self.resting else self._engine.process(capture, reference)

    def reset(self) -> None:
        self._engine.reset()

    def _measure(self, played_dbfs: float, captured_dbfs: float) -> None:
        if played_dbfs > LOUD_DBFS:
            self._loud += 1
            self._quiet += SILENCE_DBFS < captured_dbfs < UNHEARD_DBFS
        if self._loud == LOUD_BLOCKS:
            if self._quiet >= QUIET_SHARE * LOUD_BLOCKS:
                self._alarm = EchoAlarm()
            self._loud = self._quiet = 0

    def _listen(self, alarm: EchoAlarm, played_dbfs: float, captured_dbfs: float) -> None:
        at_s = self._blocks * BLOCK_S
        self._blocks += 1
        alarm.played(played_dbfs, at_s)
        if alarm.captured(captured_dbfs, at_s):
            self._alarm = None
            self._engine.reset()
