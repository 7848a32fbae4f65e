"""The playout buffer: between the playback thread, which fills it step by step, and the speaker's
callback, which empties it block by block.

How far play-out should run behind the fastest messages is the *target*: what their lateness asks for, and one
block of the device. Pushing, audio is made shorter or longer towards it, in silence where that will do
(`dsp.fit`). Pulling plays; what is a second or more beyond the target, it drops, oldest first. When there is
nothing to play, the audio is continued by its own last period and faded; playing goes on as soon as there is
something: it then runs exactly as much later as was needed. Every seam is a cross-fade from what would have
come to what comes: a jump would click.

One thread pushes and one pulls, without a lock: each attribute is written by one of them alone (below, in two
groups), numbers are replaced whole, and a deque's append and popleft are atomic. Times are in seconds of one
clock, the caller's.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from personaplex_cli.dsp.device_clock import DeviceClock
from personaplex_cli.dsp.fit import QUIET_DBFS, SEAM_SAMPLES, Fit
from personaplex_cli.dsp.lateness import Lateness
from personaplex_cli.dsp.pitch import SEARCHED_SAMPLES, continuation, cross_fade
from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE, level_dbfs, samples, silence, to_pcm

MAX_BUFFER_MS: Final = 400
"""The target's limit (--max-buffer). Waiting longer than that costs a conversation more than a gap does."""

UNHEARD_SAMPLES: Final = 10 * SAMPLE_RATE
"""Never more than this is held, even when nobody pulls: a device that hangs. What comes then is not taken;
when pulling goes on, the rule for a second of surplus decides about the rest."""

_START_S: Final = 0.020
"""The target for the first audio, of whose lateness nothing is known: two blocks of 10 ms."""

_MARGIN_S: Final = 0.002
"""For a callback that comes early, and for the time that decoding takes."""

_SLACK_SAMPLES: Final = SAMPLE_RATE * 5 // 1000
_SLACK_DIVISOR: Final = 20
"""So much beyond the target is let be, and this part of the target: the more messages jitter, the more
it pays. Simulated with Gaussian jitter: half the underruns for 5 to 8 % more delay."""

_DROP_SAMPLES: Final = SAMPLE_RATE
"""As much surplus as this is dropped: to play it faster would take seven seconds of speech."""

_KEPT_SAMPLES: Final = SAMPLE_RATE * 150 // 1000
"""The part of it that is not dropped: within 3 s it has gone otherwise, without a word lost."""

SKIPS: Final = 200
"""How many stretches left out are kept for whoever asks; 16 s of steps that were refused."""

_CONCEALED_SAMPLES: Final = SAMPLE_RATE * 60 // 1000
"""A repeated period sounds like a machine if it goes on for longer."""

_HISTORY_BYTES: Final = (SEARCHED_SAMPLES + 1) * SAMPLE_BYTES
_SEAM_BYTES: Final = SEAM_SAMPLES * SAMPLE_BYTES
_AUDIBLE_BYTES: Final = SAMPLE_RATE * 10 // 1000 * SAMPLE_BYTES


class Playout:
    """24 kHz mono PCM in, in any portions; out, exactly as much as is asked for.

    At any time, pushed = played + held + removed + cut + dropped - concealed - inserted.
    """

    def __init__(self, *, max_buffer_ms: int = MAX_BUFFER_MS) -> None:
        self._blocks: deque[tuple[bytes, int]] = deque()
        """Audio as it was fitted, and up to which sample of what came in it goes."""
        self.skipped: deque[tuple[int, int]] = deque(maxlen=SKIPS)
        """From which sample to which of what came in nothing will ever be played; in order, unless nobody
        pulls. For a third thread to take."""
        self._flush = False  # set by any thread, taken back by the pulling one

        # Written by the pushing thread.
        self._max_buffer_s = max_buffer_ms / 1000
        self._lateness = Lateness()
        self._fit = Fit()
        self._arrived_s = float("-inf")  # the last message's time
        self._queued_samples = 0  # what was pushed, as it was fitted
        self._target_s = _START_S
        self._aim_s = float("inf")
        """When the first sample of all would have to be played for what is pushed next to be on target."""
        self.pushed_samples = 0
        self.refused_samples = 0
        """Audio not taken because nobody pulled for so long; not among the pushed."""

        # Written by the pulling thread.
        self._device = DeviceClock()
        self._begun = False
        self._lag_s = 0.0
        """When the first sample of all would have been played, for what is played now to be played now."""
        self._missed_s = float("-inf")  # when a pull last found too little
        self._taken_samples = 0
        self.position_samples = 0
        """How far into what came in playing has got; what was skipped is behind it, too."""
        self._dry = True  # what was pulled last did not end with audio
        self._patch = b""  # what still conceals that there is none
        self._fading = b""  # what still goes on under the audio
        self._history = silence(SEARCHED_SAMPLES + 1)
        self.played_samples = 0
        """Audio given out, the concealing included."""
        self.concealed_samples = 0
        """Made up where there was nothing to play."""
        self.underruns = 0
        """Times playing had to stop in the middle of the audio; counted when it goes on."""
        self.dropped_samples = 0
        """Dropped because of a second of surplus, or by `flush`."""

    @property
    def _came_samples(self) -> int:
        return self.pushed_samples + self.refused_samples

    @property
    def held_samples(self) -> int:
        """Audio waiting to be played."""
        return max(0, self._queued_samples - self._taken_samples)

    @property
    def target_samples(self) -> int:
        """How far play-out should run behind the fastest messages."""
        return round(self._target_s * SAMPLE_RATE)

    @property
    def audible(self) -> bool:
        """Whether the last 10 ms that were pulled are louder than silence. Any thread."""
        return level_dbfs(self._history[-_AUDIBLE_BYTES:]) > QUIET_DBFS

    @property
    def removed_samples(self) -> int:
        """Silence taken out."""
        return self._fit.removed_samples

    @property
    def cut_samples(self) -> int:
        """Speech taken out, by whole pitch periods."""
        return self._fit.cut_samples

    @property
    def inserted_samples(self) -> int:
        """Silence put in, before there is an underrun."""
        return self._fit.inserted_samples

    def flush(self) -> None:
        """Drop what is beyond the target, at the next pull. Any thread."""
        self._flush = True

    def push(self, pcm: bytes, arrived_s: float) -> None:
        """Pushing thread only. `arrived_s` is when the message came that `pcm` was in; what has the same
        time counts as one message."""
        n_samples = len(pcm) // SAMPLE_BYTES
        if not n_samples:
            return
        if arrived_s != self._arrived_s:
            self._note(arrived_s)
        if self.held_samples + n_samples > UNHEARD_SAMPLES:
            self.skipped.append((self._came_samples, self._came_samples + n_samples))
            self.refused_samples += n_samples
            return
        slack_samples = _SLACK_SAMPLES + self.target_samples // _SLACK_DIVISOR
        fitted = self._fit.fit(pcm, self._surplus_samples() if self._begun else 0, slack_samples)
        self._blocks.append((fitted, self._came_samples + n_samples))
        self._queued_samples += len(fitted) // SAMPLE_BYTES
        self.pushed_samples += n_samples
        self._aim()

    def _note(self, arrived_s: float) -> None:
        self._arrived_s = arrived_s
        position_s = self._came_samples / SAMPLE_RATE
        # What a pull has missed was later than that pull, whatever kept it since it arrived.
        self._lateness.note(max(arrived_s, self._missed_s), position_s)
        jitter_s = self._lateness.latest_s - self._lateness.earliest_s
        block_s = self._device.block_samples / SAMPLE_RATE
        least_s = 0.0 if self._begun else _START_S
        self._target_s = min(max(jitter_s + block_s + _MARGIN_S, least_s), self._max_buffer_s)
        self._aim()

    def _aim(self) -> None:
        shorter_samples = self._came_samples - self._queued_samples
        self._aim_s = self._lateness.earliest_s + self._target_s + shorter_samples / SAMPLE_RATE

    def _surplus_samples(self) -> int:
        """By how much what is pushed next would be played later than it should; negative: too early.

        Never more than is held without what the next pull needs: after a pause of the server, only time
        tells whether it has become slower or is about to catch up.
        """
        late_samples = round((self._lag_s - self._aim_s) * SAMPLE_RATE)
        return min(late_samples, max(0, self.held_samples - self._device.block_samples))

    def pull(self, n_samples: int, now_s: float) -> bytes:
        """Exactly `n_samples`, silence where there is no audio. Pulling thread only."""
        self._lag_s = self._device.due_s(now_s, n_samples) - self._taken_samples / SAMPLE_RATE
        waiting = 0 if self._begun else self._wait(n_samples)
        if self._begun:
            self._drop_surplus()
        n_samples -= waiting
        audio = self._take(n_samples)
        got = len(audio) // SAMPLE_BYTES
        if got:
            audio = self._join(audio)
        if got < n_samples and self._begun:
            self._missed_s = now_s
            audio += self._conceal(audio, n_samples - got)
        self.played_samples += got
        pcm = silence(waiting) + audio if waiting else audio
        self._history = (self._history + pcm)[-_HISTORY_BYTES:]
        return pcm

    def _wait(self, n_samples: int) -> int:
        """How many samples of silence still come before the first audio, of the next `n_samples`."""
        if not self._blocks:
            return n_samples
        waiting = min(n_samples, max(0, round((self._aim_s - self._lag_s) * SAMPLE_RATE)))
        self._begun = waiting < n_samples
        return waiting

    def _drop_surplus(self) -> None:
        if not self._blocks or self._fading:  # one seam at a time
            return
        surplus = self._surplus_samples()
        if surplus > _DROP_SAMPLES or (self._flush and surplus > SEAM_SAMPLES):
            before = self.position_samples
            dropped = self._take(surplus if self._flush else surplus - _KEPT_SAMPLES)
            self.dropped_samples += len(dropped) // SAMPLE_BYTES
            self.skipped.append((before, self.position_samples))
            if not self._dry:
                self._fading = dropped[:_SEAM_BYTES]
        self._flush = False

    def _take(self, n_samples: int) -> bytes:
        parts = []
        wanted = n_samples * SAMPLE_BYTES
        while wanted and self._blocks:
            block, end = self._blocks.popleft()
            if len(block) > wanted:
                self._blocks.appendleft((block[wanted:], end))
                end -= (len(block) - wanted) // SAMPLE_BYTES
                block = block[:wanted]
            self.position_samples = max(self.position_samples, end)  # silence put in is no way back
            wanted -= len(block)
            parts.append(block)
        pcm = b"".join(parts)
        self._taken_samples += len(pcm) // SAMPLE_BYTES
        return pcm

    def _join(self, audio: bytes) -> bytes:
        """`audio` as it is played, after what was played last."""
        if self._dry:
            self._dry = False
            self.underruns += self.played_samples > 0
            self._fading = self._patch[:_SEAM_BYTES].ljust(_SEAM_BYTES, b"\0")
            self._patch = b""
        if not self._fading:
            return audio
        fading, self._fading = self._fading[: len(audio)], self._fading[len(audio) :]
        begin = SEAM_SAMPLES - (len(fading) + len(self._fading)) // SAMPLE_BYTES
        faded = cross_fade(samples(fading), samples(audio[: len(fading)]), begin, SEAM_SAMPLES)
        return to_pcm(faded) + audio[len(fading) :]

    def _conceal(self, audio: bytes, n_samples: int) -> bytes:
        """What comes for `n_samples` after `audio`, which is all there is."""
        if not self._dry:
            self._dry = True
            self._fading = b""
            history = samples((self._history + audio)[-_HISTORY_BYTES:])
            self._patch = to_pcm(continuation(history, _CONCEALED_SAMPLES))
        made, self._patch = self._patch[: n_samples * SAMPLE_BYTES], self._patch[n_samples * SAMPLE_BYTES :]
        self.concealed_samples += len(made) // SAMPLE_BYTES
        self.played_samples += len(made) // SAMPLE_BYTES
        return made.ljust(n_samples * SAMPLE_BYTES, b"\0")
