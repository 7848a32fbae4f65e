"""The playout buffer: between the playback thread, which fills it step by step, and the speaker's
callback, which empties it block by block.

One thread pushes and one pulls, without a lock: `_pushed` is written by the pushing thread alone, all
else by the pulling one, and a deque's append and popleft are atomic. Playing starts a fixed margin after
the first audio, so that a step which comes late by up to the margin is still heard in time. What is held
beyond the limit is dropped by the next pull, oldest first. Every seam (a start, a fall to silence, a drop)
is a ramp from the sample played last to what comes next: a jump would click.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE, STEP_SAMPLES, samples, silence, to_pcm

MARGIN_MS: Final = 40
"""Start value of the adaptive policy this margin stands in for; covers the jitter of a wired network."""

LIMIT_MS: Final = 400
"""More than this is never held. Five steps: a stall as long as that is heard in full, then caught up."""

UNHEARD_SAMPLES: Final = 10 * SAMPLE_RATE
"""Never more than this, even when nobody pulls: a device that hangs enforces no limit. What comes then is not
taken; when pulling goes on, the limit above decides about the rest."""

_SEAM_SAMPLES: Final = SAMPLE_RATE * 5 // 1000
"""Length of a fade: 5 ms is too short to hear and long enough not to click."""


class Playout:
    """24 kHz mono PCM in, in any portions; out, exactly as much as is asked for."""

    def __init__(self, margin_ms: int = MARGIN_MS, limit_ms: int = LIMIT_MS) -> None:
        self._margin_samples = SAMPLE_RATE * margin_ms // 1000
        self._keep_samples = self._margin_samples + STEP_SAMPLES
        self._limit_samples = max(SAMPLE_RATE * limit_ms // 1000, self._keep_samples)
        self._blocks: deque[bytes] = deque()
        self._pushed = 0
        self._taken = 0
        self._waiting = self._margin_samples  # silence still to play before the first audio
        self._begun = False
        self._dry = True  # what was played last was not audio
        self._last_sample = 0  # what was played last
        self._ramp_from = 0
        self._ramped = _SEAM_SAMPLES  # how much of the ramp has been played: all, so there is none
        self.underruns = 0
        """Times playing had to stop in the middle of the audio; counted when it goes on."""
        self.dropped_samples = 0
        """Audio dropped because more than the limit was held; the pulling thread counts."""
        self.refused_samples = 0
        """Audio not taken because nobody pulled for so long; the pushing thread counts."""

    @property
    def held_samples(self) -> int:
        """Audio waiting to be played."""
        return self._pushed - self._taken

    def push(self, pcm: bytes) -> None:
        """Pushing thread only."""
        n_samples = len(pcm) // SAMPLE_BYTES
        if self.held_samples + n_samples > UNHEARD_SAMPLES:
            self.refused_samples += n_samples
        elif pcm:
            self._blocks.append(pcm)
            self._pushed += n_samples

    def pull(self, n_samples: int) -> bytes:
        """Exactly `n_samples`, silence where there is no audio. Pulling thread only."""
        parts = []
        if self._waiting and self.held_samples:
            wait = min(self._waiting, n_samples)
            self._waiting -= wait
            n_samples -= wait
            parts.append(silence(wait))
        if n_samples and not self._waiting:
            parts.append(self._play(n_samples))
        elif n_samples:
            parts.append(silence(n_samples))
        return b"".join(parts)

    def _play(self, n_samples: int) -> bytes:
        held = self.held_samples  # looked at once: it grows meanwhile
        if held > self._limit_samples:
            surplus = held - self._keep_samples
            self._take(surplus)
            self.dropped_samples += surplus
            self._begin_ramp()
        audio = self._take(n_samples)
        if audio:
            if self._dry:
                self.underruns += self._begun
                self._begun = True
                self._dry = False
                self._begin_ramp()
            audio = self._ramp(audio)
        missing = n_samples - len(audio) // SAMPLE_BYTES
        if missing:
            if not self._dry:
                self._dry = True
                self._begin_ramp()
            audio += self._ramp(silence(missing))
        return audio

    def _take(self, n_samples: int) -> bytes:
        parts = []
        wanted = n_samples * SAMPLE_BYTES
        while wanted and self._blocks:
            block = self._blocks.popleft()
            if len(block) > wanted:
                self._blocks.appendleft(block[wanted:])
                block = block[:wanted]
            wanted -= len(block)
            parts.append(block)
        pcm = b"".join(parts)
        self._taken += len(pcm) // SAMPLE_BYTES
        return pcm

    def _begin_ramp(self) -> None:
        self._ramp_from = self._last_sample
        self._ramped = 0

    def _ramp(self, pcm: bytes) -> bytes:
        """`pcm` as it is played: as long as a ramp lasts, mixed with the sample that it comes from."""
        if self._ramped < _SEAM_SAMPLES:
            n_bytes = (_SEAM_SAMPLES - self._ramped) * SAMPLE_BYTES
            values = samples(pcm[:n_bytes])
            for i, value in enumerate(values):
                self._ramped += 1
                rest = _SEAM_SAMPLES - self._ramped
                values[i] = (value * self._ramped + self._ramp_from * rest) // _SEAM_SAMPLES
            pcm = to_pcm(values) + pcm[n_bytes:]
        self._last_sample = int.from_bytes(pcm[-SAMPLE_BYTES:], "little", signed=True)
        return pcm
