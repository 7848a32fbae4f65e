"""Blocks from the source → pages for the socket. Runs on the event loop: 20 ms of Opus take 0.2 ms."""

from __future__ import annotations

import random
from typing import Final

from personaplex_cli.codec.stream import StreamEncoder
from personaplex_cli.pcm import PACKET_SAMPLES, Block, silence

MAX_AGE_S: Final = 0.2
"""Audio older than this when the socket takes it is dropped: sent late, it would make the whole rest of
the conversation late (docs/protocol.md section 3)."""


class Encoder:
    """One logical Ogg stream, from BOS to EOS.

    This is the one place that decides what is dropped of the user's audio: whole blocks, before they are
    encoded, so that neither the Opus stream nor the page numbers have a gap.
    """

    def __init__(self) -> None:
        self._stream = StreamEncoder(serial=random.getrandbits(31))
        self.packets = 0
        self.dropped = 0
        """Blocks dropped because of their age."""

    def headers(self) -> tuple[bytes, bytes]:
        """The BOS page and the tags page. Call it once, first."""
        return self._stream.headers()

    def page(self, block: Block, now_s: float) -> bytes | None:
        """The block's page, or None if it was dropped."""
        if now_s - block.at_s > MAX_AGE_S:
            self.dropped += 1
            return None
        self.packets += 1
        return self._stream.page(block.pcm)

    def last_page(self) -> bytes:
        """A packet of silence with the EOS flag; it also carries what the encoder still held back."""
        self.packets += 1
        return self._stream.page(silence(PACKET_SAMPLES), eos=True)
