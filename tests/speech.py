"""The spoken clips, as samples."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from ogg_pages import RATE, Samples

import personaplex_cli.standin

_EXAMPLES = Path(__file__).parent.parent / "examples"
_CLIPS = Path(personaplex_cli.standin.__file__).parent / "clips"


@cache
def question() -> Samples:
    """1.2 s of speech, without the silence before it."""
    samples = _read(_EXAMPLES / "question.opus")
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    return samples[loud[0] :][: RATE * 6 // 5]


@cache
def clip(name: str) -> Samples:
    """What the stand-in says."""
    return _read(_CLIPS / f"{name}.opus")


@cache
def words(name: str) -> list[tuple[int, str]]:
    """When (ms) which word of a clip is said."""
    lines = (_CLIPS / f"{name}.txt").read_text("utf-8").splitlines()
    return [(int(start_ms), word) for start_ms, _, word in (line.partition("\t") for line in lines)]


def _read(path: Path) -> Samples:
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    result: Samples = samples
    return result
