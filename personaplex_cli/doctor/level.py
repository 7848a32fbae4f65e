"""What a microphone gives, judged by its samples. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from personaplex_cli.pcm import PACKET_SAMPLES, SILENCE_DBFS, SPEECH_DBFS

DEAD_STEPS: Final = 2
"""A microphone whose samples differ by no more than this gives nothing, whatever its offset: the noise of a
real one, in a quiet room and turned down, is a few steps of 16 bits."""

CLIPPED_SAMPLES: Final = 8
"""So many samples at the end of the range, a third of a millisecond, are no coincidence."""

QUIET_SHARE: Final = 0.1
"""The quietest tenth of the blocks is the noise of room and microphone; speech has that many pauses."""

LOUD_SHARE: Final = 0.95
"""What the loudest twentieth of the blocks reaches: a syllable, not a click."""


class Verdict(StrEnum):
    DEAD = "dead"
    """Nothing but zeros, or one and the same value."""
    CLIPPED = "clipped"
    QUIET = "quiet"
    """No speech in it: nobody spoke, or it is turned down."""
    NOISY = "noisy"
    """The noise alone is as loud as speech."""
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Level:
    """In dB relative to full scale, never below `SILENCE_DBFS`."""

    verdict: Verdict
    peak_dbfs: float
    rms_dbfs: float
    """Of all of it."""
    noise_dbfs: float
    """Of its quietest blocks of 20 ms."""
    speech_dbfs: float
    """Of its loudest ones."""
    clipped_samples: int


def judge(pcm: bytes) -> Level:
    """`pcm`: at least 20 ms of 24 kHz mono s16le. A few milliseconds."""
    values = np.frombuffer(pcm, "<i2").astype(np.float64)
    blocks = values[: len(values) // PACKET_SAMPLES * PACKET_SAMPLES].reshape(-1, PACKET_SAMPLES)
    rms = np.sqrt((blocks**2).mean(axis=1))
    clipped = int(np.count_nonzero((values >= 32767) | (values <= -32768)))
    noise_dbfs, speech_dbfs = (_dbfs(float(np.quantile(rms, share))) for share in (QUIET_SHARE, LOUD_SHARE))
    if float(np.ptp(values)) <= DEAD_STEPS:
        verdict = Verdict.DEAD
    elif clipped >= CLIPPED_SAMPLES:
        verdict = Verdict.CLIPPED
    elif speech_dbfs < SPEECH_DBFS:
        verdict = Verdict.QUIET
    else:
        verdict = Verdict.NOISY if noise_dbfs > SPEECH_DBFS else Verdict.GOOD
    return Level(
        verdict=verdict,
        peak_dbfs=_dbfs(float(np.abs(values).max())),
        rms_dbfs=_dbfs(math.sqrt(float((values**2).mean()))),
        noise_dbfs=noise_dbfs,
        speech_dbfs=speech_dbfs,
        clipped_samples=clipped,
    )


def _dbfs(steps: float) -> float:
    return max(SILENCE_DBFS, 20 * math.log10(steps / 32768)) if steps else SILENCE_DBFS
