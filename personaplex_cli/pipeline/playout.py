"""The playout buffer: between the playback thread, which fills it step by step, and the speaker's
callback, which empties it block by block.

One thread pushes and one pulls, without a lock: `_pushed` is written by the pushing thread alone, all
else by the pulling one, and a deque's append and popleft are atomic. Playing starts a fixed margin after
the first audio, so that a step which comes late by up to the margin is still heard in time. What is held
beyond the limit is dropped by the next pull, oldest first. Every seam is smoothed: a fall to silence
decays, a start fades in, a drop cross-fades.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE, STEP_SAMPLES, samples, silence, to_pcm

MARGIN_MS: Final = 40
"""Start value of the adaptive policy this margin stands in for; covers the jitter of a wired network."""

LIMIT_MS: Final = 400
"""More than this is never held. Five steps: a stall as long as that is heard in full, then caught up."""

_SEAM_SAMPLES: Final = SAMPLE_RATE * 5 // 1000
"""Length of a fade: 5 ms is too short to hear and long enough not to click."""


class Playout:
    """24 kHz mono PCM in, in any portions; out, exactly as much as is asked for."""

    def __init__(self, margin_ms: int = MARGIN_MS, limit_ms: int = LIMIT_MS) -> None:
        self._margin_samples = SAMPLE_RATE * margin_ms // 1000
        self._limit_samples = SAMPLE_RATE * limit_ms // 1000
        self._keep_samples = self._margin_samples + STEP_SAMPLES
        self._blocks: deque[bytes] = deque()
        self._pushed = 0
        self._taken = 0
        self._waiting = self._margin_samples  # silence still to play before the first audio
        self._begun = False
        self._dry = True  # what was played last was not audio
        self._last_sample = 0
        self.underruns = 0
        """Times playing had to stop in the middle of the audio; counted when it goes on."""
        self.dropped_samples = 0
        """Audio dropped because more than the limit was held."""

    @property
    def held_samples(self) -> int:
        """Audio waiting to be played."""
        return self._pushed - self._taken

    def push(self, pcm: bytes) -> None:
        """Pushing thread only."""
        if pcm:
            self._blocks.append(pcm)
            self._pushed += len(pcm) // SAMPLE_BYTES

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
        if self.held_samples > self._limit_samples:
            audio = self._drop(self.held_samples - self._keep_samples, n_samples)
        else:
            audio = self._take(n_samples)
        if audio and self._dry:
            self.underruns += self._begun
            self._begun = True
            audio = _fade_in(audio)
        missing = n_samples - len(audio) // SAMPLE_BYTES
        if audio:
            self._dry = False
            self._last_sample = int.from_bytes(audio[-SAMPLE_BYTES:], "little", signed=True)
        if missing:
            audio += self._decay(missing)
            self._dry = True
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

    def _drop(self, n_dropped: int, n_samples: int) -> bytes:
        """Leave out `n_dropped` samples and return the next ones, cross-faded with what was left out."""
        old = self._take(min(_SEAM_SAMPLES, n_dropped))
        self._take(n_dropped - len(old) // SAMPLE_BYTES)
        self.dropped_samples += n_dropped
        return _cross_fade(old, self._take(n_samples))

    def _decay(self, n_samples: int) -> bytes:
        """From the last sample played to zero, then silence: audio that just stops would click."""
        if self._last_sample == 0:
            return silence(n_samples)
        length = min(_SEAM_SAMPLES, n_samples)
        tail = samples(silence(length))
        for i in range(length):
            tail[i] = self._last_sample * (length - 1 - i) // length
        self._last_sample = 0
        return to_pcm(tail) + silence(n_samples - length)


def _fade_in(pcm: bytes) -> bytes:
    values = samples(pcm[: _SEAM_SAMPLES * SAMPLE_BYTES])
    for i, value in enumerate(values):
        values[i] = value * i // len(values)
    return to_pcm(values) + pcm[_SEAM_SAMPLES * SAMPLE_BYTES :]


def _cross_fade(old: bytes, new: bytes) -> bytes:
    before, after = samples(old), samples(new[: len(old)])
    length = len(after)
    for i in range(length):
        after[i] = (before[i] * (length - i) + after[i] * i) // length
    return to_pcm(after) + new[len(old) :]
