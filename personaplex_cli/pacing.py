"""Real time in steps of one packet, by absolute deadlines."""

from __future__ import annotations

import asyncio
from typing import Final

from personaplex_cli.pcm import PACKET_MS

PACKET_S: Final = PACKET_MS / 1000

REANCHOR_S: Final = 0.2
"""When more than this behind, a schedule starts anew from now instead of catching up in a burst: faster
than real time only builds up lag on the server. Smaller delays are caught up, so the pace is exact."""


class Pacer:
    """One deadline each 20 ms, on the running loop's clock, which it reads when `start` is called."""

    def __init__(self) -> None:
        self._due_s = 0.0
        self.reanchored = 0
        """Times the schedule started anew because its user was late."""

    def start(self) -> None:
        """The first deadline is one packet from now: that long it takes to speak it."""
        self._due_s = asyncio.get_running_loop().time() + PACKET_S

    async def wait(self) -> float:
        """Waits for the next deadline and returns it (at once if it has passed)."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._due_s > REANCHOR_S:
            self._due_s = now_s
            self.reanchored += 1
        elif self._due_s > now_s:
            await asyncio.sleep(self._due_s - now_s)
        else:
            await asyncio.sleep(0)  # let others run even when late
        due_s = self._due_s
        self._due_s += PACKET_S
        return due_s
