"""Ogg/Opus as a stream (RFC 7845): PCM → pages, and bytes cut anywhere → PCM."""

from __future__ import annotations

import struct
from typing import Final

from personaplex_cli.codec.library import load
from personaplex_cli.codec.ogg import Hole, Packet, PacketReader, PageWriter, StreamBegan
from personaplex_cli.codec.opus import OpusDecoder, OpusEncoder
from personaplex_cli.pcm import PACKET_BYTES, PACKET_SAMPLES, SAMPLE_BYTES, SAMPLE_RATE

_GRANULES_PER_SAMPLE: Final = 48_000 // SAMPLE_RATE
_MAX_CONCEALED_PACKETS: Final = 10
"""Longer holes are not filled: libopus fades to silence long before (RFC 6716 section 4.4)."""


def opus_head(pre_skip: int) -> bytes:
    """The identification header (RFC 7845 section 5.1); `pre_skip` in 48 kHz samples."""
    return struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, pre_skip, SAMPLE_RATE, 0, 0)


def opus_tags(vendor: bytes) -> bytes:
    """The comment header without comments (RFC 7845 section 5.2)."""
    return struct.pack(f"<8sI{len(vendor)}sI", b"OpusTags", len(vendor), vendor, 0)


class StreamEncoder:
    """PCM → one page for each 20 ms. Not thread-safe."""

    def __init__(self, serial: int) -> None:
        self._encoder = OpusEncoder()
        self._writer = PageWriter(serial)
        self._granule = 0

    def headers(self) -> tuple[bytes, bytes]:
        """The BOS page with OpusHead, and the page with OpusTags. Call it once, first."""
        pre_skip = self._encoder.lookahead_samples * _GRANULES_PER_SAMPLE
        vendor: bytes = load().opus.opus_get_version_string()
        return self._writer.page(opus_head(pre_skip), 0), self._writer.page(opus_tags(vendor), 0)

    def page(self, pcm: bytes, *, eos: bool = False) -> bytes:
        """The page of `pcm`, which lasts exactly 20 ms; `eos` marks it as the stream's last."""
        if len(pcm) != PACKET_BYTES:
            raise ValueError(f"{len(pcm)} bytes instead of {PACKET_BYTES}")
        self._granule += PACKET_SAMPLES * _GRANULES_PER_SAMPLE
        return self._writer.page(self._encoder.encode(pcm), self._granule, eos=eos)


class StreamDecoder:
    """Bytes of an Ogg/Opus stream, cut anywhere → PCM.

    The pre-skip is not cut off and granule positions are not looked at: the upstream servers write values
    that do not fit their own streams (docs/protocol.md). Holes and bad packets are concealed, so that one
    step comes out for each one sent. Not thread-safe. Never raises on input.
    """

    def __init__(self) -> None:
        self._reader = PacketReader()
        self._decoder = OpusDecoder()
        self._packet_samples = PACKET_SAMPLES
        self.streams = 0
        """Logical streams begun."""
        self.holes = 0
        """Places where pages were missing."""
        self.packets_bad = 0

    @property
    def resyncs(self) -> int:
        """Runs of bytes that belonged to no valid page."""
        return self._reader.resyncs

    def feed(self, data: bytes) -> bytes:
        """The PCM that `data` completes; may be empty."""
        parts = []
        for item in self._reader.feed(data):
            match item:
                case StreamBegan():
                    self.streams += 1
                    self._decoder = OpusDecoder()
                case Hole(packets):
                    self.holes += 1
                    parts += [self._conceal() for _ in range(min(packets, _MAX_CONCEALED_PACKETS))]
                case Packet(packet) if not packet.startswith((b"OpusHead", b"OpusTags")):
                    parts.append(self._decode(packet))
        return b"".join(parts)

    def _decode(self, packet: bytes) -> bytes:
        pcm = self._decoder.decode(packet)
        if pcm is None:
            self.packets_bad += 1
            return self._conceal()
        self._packet_samples = len(pcm) // SAMPLE_BYTES
        return pcm

    def _conceal(self) -> bytes:
        """As much as the last good packet held."""
        return self._decoder.conceal(self._packet_samples)
