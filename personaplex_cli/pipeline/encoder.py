"""Blocks from the source → pages for the socket. Runs on the event loop: 20 ms of Opus take 0.07 ms.

One page holds one packet of 20 ms; the four pages of a step go out together. The model takes no part of a
step, so nothing is gained by sending it what it has to wait for, and four messages cost four times as much.
"""

from __future__ import annotations

import random
from typing import Final

from personaplex_cli.codec.stream import StreamEncoder
from personaplex_cli.pacing import PACKET_S
from personaplex_cli.pcm import PACKET_SAMPLES, STEP_PACKETS, STEP_S, Block, silence

MAX_AGE_S: Final = 0.2
"""A step whose newest audio is older than this when the socket takes it is dropped: sent late, it would make
the whole rest of the conversation late (docs/protocol.md section 3)."""


class Encoder:
    """One logical Ogg stream, from BOS to EOS.

    This is the one place that decides what is dropped of the user's audio: whole steps, before they are
    encoded, so that neither the Opus stream nor the page numbers have a gap, and the server's steps go on
    beginning where ours do.
    """

    def __init__(self) -> None:
        self._stream = StreamEncoder(serial=random.getrandbits(31))
        self._step: list[bytes] = []  # pages that wait for the rest of their step
        self._dropping = False
        self.packets = 0
        self.dropped = 0
        """Blocks dropped because of their age."""

    def headers(self) -> tuple[bytes, bytes]:
        """The BOS page and the tags page. Call it once, first."""
        return self._stream.headers()

    def pages(self, block: Block, now_s: float) -> bytes:
        """The pages of the step that `block` completes; nothing before that, or if it was dropped."""
        if (self.packets + self.dropped) % STEP_PACKETS == 0:
            self._dropping = now_s - block.at_s > MAX_AGE_S + STEP_S - PACKET_S
        if self._dropping:
            self.dropped += 1
            return b""
        self.packets += 1
        self._step.append(self._stream.page(block.pcm))
        return self._take_step() if len(self._step) == STEP_PACKETS else b""

    def last_pages(self) -> bytes:
        """What waits for the rest of its step, and a packet of silence with the EOS flag, which also carries
        what the encoder still held back."""
        self.packets += 1
        self._step.append(self._stream.page(silence(PACKET_SAMPLES), eos=True))
        return self._take_step()

    def _take_step(self) -> bytes:
        pages = b"".join(self._step)
        self._step.clear()
        return pages
