"""The agent's audio as the server sends it: steps of PCM → payloads of audio messages."""

from __future__ import annotations

from typing import Final

from personaplex_cli.codec.ogg import PageWriter
from personaplex_cli.codec.opus import OpusEncoder
from personaplex_cli.codec.stream import opus_head, opus_tags
from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE
from personaplex_cli.standin.faults import Faults

SERIAL: Final = 42
"""What moshi's servers use for every stream."""

PRE_SKIP: Final = 3840
"""What they write into OpusHead: 80 ms, though their encoder looks ahead 6.5 ms."""


class VoiceStream:
    """One session's Ogg/Opus stream, in the shapes that servers send it."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._packet_samples = int(SAMPLE_RATE * faults.packet_ms / 1000)
        self._granules_per_sample = 1 if faults.granules_24k else 2
        self._carry = b""
        self._begin()

    def _begin(self) -> None:
        self._encoder = OpusEncoder()
        self._writer = PageWriter(SERIAL)
        self._granule = 0

    def headers(self) -> list[bytes]:
        """The payloads with the BOS page and the tags page."""
        pages = [self._writer.page(opus_head(PRE_SKIP), 0), self._writer.page(opus_tags(b"stand-in"), 0)]
        return self._messages(pages)

    def new_stream(self) -> list[bytes]:
        """A chained stream begins: its headers."""
        self._begin()
        return self.headers()

    def step(self, pcm: bytes, *, damaged: bool) -> list[bytes]:
        """The payloads of one step; `damaged` spoils its first page."""
        size = self._packet_samples * SAMPLE_BYTES
        pages = []
        for at in range(0, len(pcm), size):
            self._granule += self._packet_samples * self._granules_per_sample
            pages.append(self._writer.page(self._encoder.encode(pcm[at : at + size]), self._granule))
        if damaged:
            pages[0] = pages[0][:-1] + bytes((pages[0][-1] ^ 0xFF,))
        return self._messages(pages)

    def _messages(self, pages: list[bytes]) -> list[bytes]:
        if self._faults.single_pages:
            return pages
        data = self._carry + b"".join(pages)
        self._carry = b""
        if self._faults.split_pages:
            cut = len(data) - len(pages[-1]) // 2
            data, self._carry = data[:cut], data[cut:]
        return [data]
