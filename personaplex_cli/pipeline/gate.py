"""The gate: what of the microphone is sent, and what is replaced by true silence.

The Opus stream goes on while the gate is shut, since the server is driven by it. When a key opens the gate,
what was spoken just before is let out first: people begin to speak while they still press. From there on the
microphone is late by as much, until the speaker pauses: silence is then left out instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from personaplex_cli.pcm import PACKET_MS, PACKET_SAMPLES, SPEECH_DBFS, Block, level_dbfs, silence

PRE_ROLL_PACKETS: Final = 300 // PACKET_MS
"""What is kept while the gate is shut: 300 ms."""


class Gate:
    """Takes and gives one block each time. Event loop only."""

    def __init__(self, ducked: Callable[[], bool] = lambda: False) -> None:
        """`ducked` says whether the agent is heard, where the microphone must not hear it (half-duplex)."""
        self._ducked = ducked
        self._kept: deque[Block] = deque(maxlen=PRE_ROLL_PACKETS)  # while shut: what was spoken last
        self._late: deque[Block] = (
            deque()
        )  # while open: what is still to be let out, PRE_ROLL_PACKETS at most
        self.muted = False
        """The gate is shut, and nothing is kept of what is or was spoken."""
        self.push_to_talk = False
        """The gate is shut unless `talking`."""
        self.talking = False
        """The key is held: the gate is open, also while the agent is heard."""

    @property
    def open(self) -> bool:
        if self.muted:
            return False
        return self.talking or not (self.push_to_talk or self._ducked())

    def passed(self, block: Block) -> Block:
        """What is to be sent now that `block` has been captured."""
        if self.muted:
            self._kept.clear()
            self._late.clear()
        elif self.open:
            self._late.extend(self._kept)
            self._late.append(block)
            self._kept.clear()
        elif self._ducked():  # it would be the agent's own voice
            self._kept.clear()
        else:
            self._kept.append(block)
        return self._next(block.at_s)

    def _next(self, at_s: float) -> Block:
        while len(self._late) > 1 and level_dbfs(self._late[0].pcm) < SPEECH_DBFS:
            self._late.popleft()
        pcm = self._late.popleft().pcm if self._late else silence(PACKET_SAMPLES)
        # Dated like the newest: this lateness is wanted, and no reason to drop the block.
        return Block(pcm, at_s)
