"""The one sample format inside the program, and its units.

PCM here is always 24 kHz, mono, signed 16-bit little endian, in `bytes`: what the model works on, what
Opus takes, and what sound devices take without numpy. Files and devices convert at their edge.
"""

from __future__ import annotations

import math
import sys
from array import array
from dataclasses import dataclass, field
from operator import mul
from typing import Final

SAMPLE_RATE: Final = 24_000
"""Samples per second (docs/protocol.md section 3: the model's rate)."""

SAMPLE_BYTES: Final = 2

PACKET_MS: Final = 20
"""What one Opus packet of ours holds."""

PACKET_SAMPLES: Final = SAMPLE_RATE * PACKET_MS // 1000

PACKET_BYTES: Final = PACKET_SAMPLES * SAMPLE_BYTES

STEP_MS: Final = 80
"""The model's step: it takes, and gives, 80 ms at a time."""

STEP_S: Final = STEP_MS / 1000

STEP_SAMPLES: Final = SAMPLE_RATE * STEP_MS // 1000

STEP_PACKETS: Final = STEP_MS // PACKET_MS

SILENCE_DBFS: Final = -96.0
"""The level reported for digital silence (one step of 16 bits is -90.3 dBFS)."""

SPEECH_DBFS: Final = -45.0
"""A block whose level is above this counts as speech when a call decides whether anyone is talking.
Speech at a microphone lies at -30 to -15 dBFS, a quiet room's noise at -70 to -55."""


@dataclass(frozen=True, slots=True)
class Block:
    """PCM from a source, and when its last sample was captured (seconds, the event loop's clock)."""

    pcm: bytes = field(repr=False)
    at_s: float


def samples(pcm: bytes) -> array[int]:
    """`pcm` as an array of signed 16-bit samples (a copy)."""
    values = array("h")
    values.frombytes(pcm)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def to_pcm(values: array[int]) -> bytes:
    """The bytes of an array made by `samples`."""
    if sys.byteorder == "big":
        values = array("h", values)
        values.byteswap()
    return values.tobytes()


def duration_ms(pcm: bytes) -> float:
    return len(pcm) * 1000 / (SAMPLE_RATE * SAMPLE_BYTES)


def silence(n_samples: int) -> bytes:
    return bytes(n_samples * SAMPLE_BYTES)


def level_dbfs(pcm: bytes) -> float:
    """Root mean square of a block in dB relative to full scale, never below `SILENCE_DBFS`.

    Of 20 ms and more not every sample is looked at, which is a good estimate in a fraction of the time.
    """
    values = samples(pcm)
    if not values:
        return SILENCE_DBFS
    # An odd stride, so that no usual tone falls into step with it.
    values = values[:: 1 + 2 * (len(values) // 480)]
    mean_square = sum(map(mul, values, values)) / len(values)
    if mean_square == 0:
        return SILENCE_DBFS
    return max(SILENCE_DBFS, 10 * math.log10(mean_square / 32768**2))


def is_clipped(pcm: bytes) -> bool:
    """Whether a sample is as large as samples can be, in either direction."""
    return _holds(pcm, b"\xff\x7f") or _holds(pcm, b"\x00\x80")


def _holds(pcm: bytes, sample: bytes) -> bool:
    at = pcm.find(sample)
    while at >= 0 and at % SAMPLE_BYTES:  # the end of one and the beginning of the next
        at = pcm.find(sample, at + 1)
    return at >= 0
