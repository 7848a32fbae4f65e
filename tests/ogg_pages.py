"""Ogg pages read by hand (RFC 3533 section 6), and how alike two recordings are. Uses no codec."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

RATE = 24_000
STEP = 1920
"""Samples of one step of the model."""

_HEADER = struct.Struct("<4sBBqIIIB")
_CHECKSUM = slice(22, 26)


@dataclass(frozen=True)
class Page:
    flags: int
    granule: int
    serial: int
    number: int
    packets: list[bytes]
    whole: bytes
    """All of its bytes."""
    sound: bool
    """The checksum is right."""

    @property
    def bos(self) -> bool:
        return bool(self.flags & 2)

    @property
    def eos(self) -> bool:
        return bool(self.flags & 4)


def read_pages(data: bytes) -> list[Page]:
    """`data` holds whole pages, and no packet goes over the end of one."""
    pages = []
    while data:
        magic, version, flags, granule, serial, number, checksum, n_segments = _HEADER.unpack_from(data)
        assert (magic, version) == (b"OggS", 0)
        lacing = data[_HEADER.size : _HEADER.size + n_segments]
        at = _HEADER.size + n_segments
        end = at + sum(lacing)
        assert len(data) >= end, "a torn page"
        packets = [b""]
        for length in lacing:
            packets[-1] += data[at : at + length]
            at += length
            if length < 255:
                packets.append(b"")
        assert packets.pop() == b"", "a packet goes on in the next page"
        whole = data[:end]
        pages.append(Page(flags, granule, serial, number, packets, whole, _crc(whole) == checksum))
        data = data[end:]
    return pages


def spoil(page: bytes) -> bytes:
    """A page whose checksum is wrong."""
    return page[:-1] + bytes((page[-1] ^ 0xFF,))


def make_page(packet: bytes, *, number: int, granule: int = 0, flags: int = 0, serial: int = 42) -> bytes:
    """One page with one packet of fewer than 255 bytes."""
    page = bytearray(_HEADER.pack(b"OggS", 0, flags, granule, serial, number, 0, 1))
    page += bytes((len(packet),)) + packet
    page[_CHECKSUM] = struct.pack("<I", _crc(bytes(page)))
    return bytes(page)


def packet_ms(packet: bytes) -> float:
    """How long an Opus packet lasts, by its first bytes (RFC 6716 section 3.1)."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        part_ms: float = (10, 20, 40, 60)[config & 3]
    elif config < 16:
        part_ms = (10, 20)[config & 1]
    else:
        part_ms = (2.5, 5, 10, 20)[config & 3]
    return part_ms * (1, 2, 2, packet[1] & 0x3F if len(packet) > 1 else 0)[code]


def likeness(speech: Samples, recording: Samples) -> tuple[float, float]:
    """Where in `recording` it is most like `speech`: the correlation there (1 is equal up to loudness), and
    the place in seconds."""
    recording = np.concatenate([recording, np.zeros(max(0, len(speech) - len(recording)), np.float32)])
    size = 1 << (len(speech) + len(recording)).bit_length()  # others can be slow
    spectrum = np.fft.rfft(recording, size) * np.conj(np.fft.rfft(speech, size))
    products = np.fft.irfft(spectrum, size)[: len(recording) - len(speech) + 1]
    energy = np.concatenate([[0.0], np.cumsum(recording.astype(np.float64) ** 2)])
    windows = np.maximum(energy[len(speech) :] - energy[: len(energy) - len(speech)], 1e-3)
    scores: NDArray[Any] = products / np.sqrt(windows * np.sum(speech.astype(np.float64) ** 2))
    best = int(scores.argmax())
    return float(scores[best]), best / RATE


def to_samples(pcm: bytes) -> Samples:
    """s16le → floats."""
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)


def to_pcm(samples: Samples) -> bytes:
    """Floats → s16le."""
    return bytes((np.clip(samples, -1, 1) * 32767).astype("<i2"))


def rms_dbfs(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-12))


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ 0x04C11DB7 if value & 0x8000_0000 else value << 1
        table.append(value & 0xFFFF_FFFF)
    return table


_CRC_TABLE = _crc_table()


def _crc(page: bytes) -> int:
    """Of a page, with its checksum taken as zero."""
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value = ((value << 8) & 0xFFFF_FFFF) ^ _CRC_TABLE[(value >> 24) ^ byte]
    return value
