"""Which sample belongs to which moment, by the stamps that blocks came with. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from personaplex_cli.pcm import SAMPLE_RATE

NEAR_S: Final = 0.3
"""How far around a moment stamps count. Single stamps wander by 15 ms, and after a block that was lost all
are different: the median of some dozen near ones is right on both accounts."""


@dataclass(slots=True)
class Timeline:
    """For one thread at a time."""

    stamps: list[tuple[int, float]] = field(default_factory=list)
    """Number of a block's first sample, and when that was captured or will be heard (seconds)."""

    def time_s(self, sample: int) -> float:
        """When `sample` was captured, or heard. There has to be a stamp."""
        near = [s for s in self.stamps if abs(s[0] - sample) <= NEAR_S * SAMPLE_RATE]
        return _zero_s(near or self.stamps) + sample / SAMPLE_RATE

    def sample(self, at_s: float) -> int:
        """The sample of that moment; may lie before the first or after the last."""
        near = [s for s in self.stamps if abs(s[1] - at_s) <= NEAR_S]
        return round((at_s - _zero_s(near or self.stamps)) * SAMPLE_RATE)


def _zero_s(stamps: Sequence[tuple[int, float]]) -> float:
    """When sample 0 would have been, if all went as it goes there."""
    return median(at_s - sample / SAMPLE_RATE for sample, at_s in stamps)
