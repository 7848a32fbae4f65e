"""Short tones that tell the user what has happened, and how they get into what the speaker plays.

They are calculated, once each, on the thread that asks for them: the speaker's callback only adds them.
"""

from __future__ import annotations

import contextlib
import math
import threading
from array import array
from collections import deque
from enum import StrEnum
from functools import cache
from operator import add
from typing import Final

from personaplex_cli.dsp.volume import saturated
from personaplex_cli.events import (
    CallState,
    Event,
    IdleCountdown,
    LimitNear,
    MicrophoneChanged,
    StateChanged,
)
from personaplex_cli.pcm import SAMPLE_RATE, samples, to_pcm

MAX_WAITING: Final = 4
"""Tones that wait while another sounds. Of more, the oldest is dropped: the newest says how things stand."""

PEAK: Final = 32768 * 10 ** (-18 / 20)
"""-18 dBFS: about as loud as speech, and too little to distort with it."""

_RAMP_SAMPLES: Final = SAMPLE_RATE * 10 // 1000
"""In which a note rises and falls: shorter, it would click."""


class Earcon(StrEnum):
    CONNECTED = "connected"
    MUTED = "muted"
    UNMUTED = "unmuted"
    WARNING = "warning"
    """A limit is near."""
    ENDED = "ended"


_NOTES: Final[dict[Earcon, tuple[tuple[int, int], ...]]] = {
    Earcon.CONNECTED: ((587, 80), (880, 140)),
    Earcon.MUTED: ((440, 120),),
    Earcon.UNMUTED: ((659, 120),),
    Earcon.WARNING: ((988, 80), (0, 60), (988, 80)),
    Earcon.ENDED: ((880, 80), (587, 140)),
}
"""Hz and milliseconds of each note, 0 Hz for none: from 440 Hz on, which the smallest speaker can play."""


@cache
def tone(earcon: Earcon) -> bytes:
    """Its PCM, 120 to 220 ms that begin and end with silence. Takes up to 2 ms, the first time."""
    notes = (_note(hz, SAMPLE_RATE * ms // 1000) for hz, ms in _NOTES[earcon])
    return to_pcm(array("h", [value for note in notes for value in note]))


def _note(hz: int, n_samples: int) -> list[int]:
    """A sine that rises and falls like half a period of a cosine."""
    rise = [PEAK * (1 - math.cos(math.pi * i / _RAMP_SAMPLES)) / 2 for i in range(_RAMP_SAMPLES)]
    loudness = [*rise, *[PEAK] * (n_samples - 2 * _RAMP_SAMPLES), *reversed(rise)]
    step = math.tau * hz / SAMPLE_RATE
    return [round(peak * math.sin(step * i)) for i, peak in enumerate(loudness)]


class Tones:
    """Asked for on any thread, mixed into the speaker's blocks on that of its callback, one after the other.

    No lock is held where they are mixed: a deque's append and popleft are atomic, and each number is written
    by one side alone.
    """

    def __init__(self) -> None:
        self._waiting: deque[array[int]] = deque()
        self._asking = threading.Lock()  # between those who ask
        self._asked_samples = 0
        self.dropped = 0
        """Tones not heard because too many were waiting."""

        # The callback's.
        self._sounding: array[int] = array("h")
        self._played_samples = 0

    def play(self, earcon: Earcon) -> None:
        """After those that wait already; see `MAX_WAITING`. Any thread but the callback's."""
        values = samples(tone(earcon))
        with self._asking:
            if len(self._waiting) == MAX_WAITING:
                with contextlib.suppress(IndexError):  # they may just have been taken to be played
                    self._asked_samples -= len(self._waiting.popleft())
                    self.dropped += 1
            self._asked_samples += len(values)
            self._waiting.append(values)

    def mixed(self, pcm: bytes) -> bytes:
        """`pcm` and what is to sound meanwhile; the very same object if that is nothing. The speaker's
        callback: 18 µs for a block of 160 samples."""
        if not self._sounding and not self._waiting:
            return pcm
        values = samples(pcm)
        tones = self._next(len(values))
        values[: len(tones)] = saturated(list(map(add, values, tones)))
        self._played_samples += len(tones)
        return to_pcm(values)

    def _next(self, n_samples: int) -> array[int]:
        """So much of the tones, or what is left of them."""
        taken: array[int] = array("h")
        while len(taken) < n_samples and (self._sounding or self._waiting):
            if not self._sounding:
                # Never empty here: who drops a tone leaves three others.
                self._sounding = self._waiting.popleft()
            missing = n_samples - len(taken)
            taken += self._sounding[:missing]
            self._sounding = self._sounding[missing:]
        return taken

    @property
    def left_ms(self) -> float:
        """What the callback has still to take. Any thread."""
        return (self._asked_samples - self._played_samples) * 1000 / SAMPLE_RATE


class Announcer:
    """Which tone goes with what happens. Event loop only."""

    def __init__(self) -> None:
        self._muted = False

    def earcon(self, event: Event) -> Earcon | None:
        match event:
            case StateChanged(state=CallState.LIVE):
                return Earcon.CONNECTED
            case StateChanged(state=CallState.ENDED):
                return Earcon.ENDED
            case MicrophoneChanged(muted=muted) if muted != self._muted:
                self._muted = muted
                return Earcon.MUTED if muted else Earcon.UNMUTED
            case LimitNear() | IdleCountdown(ends_at_s=float()):
                return Earcon.WARNING
        return None
