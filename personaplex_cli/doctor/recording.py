"""Microphone and speaker for a few seconds, on the streams that calls use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from personaplex_cli.devices.device import ROLE, Kind
from personaplex_cli.devices.stream import DeviceStream
from personaplex_cli.doctor.timeline import Timeline
from personaplex_cli.errors import AudioError
from personaplex_cli.events import DeviceState
from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE, silence

PATIENCE_S: Final = 3.0
"""How much longer than it lasts a recording may take: devices begin late, and loaded machines are slow."""

SETTLE_S: Final = 0.3
"""Left out at the beginning: some microphones begin with zeros, others with a click."""


class Recorder:
    """Takes what a microphone captures, until it has enough; what comes then is not wanted, nor kept."""

    def __init__(self, n_samples: int) -> None:
        self._wanted_bytes = n_samples * SAMPLE_BYTES
        self._pcm = bytearray()
        self.timeline = Timeline()
        self.done = threading.Event()

    def captured(self, pcm: bytes, at_s: float) -> None:
        """Device's thread."""
        if not self.done.is_set():
            self.timeline.stamps.append((len(self._pcm) // SAMPLE_BYTES, at_s))
            self._pcm += pcm
            if len(self._pcm) >= self._wanted_bytes:
                self.done.set()

    @property
    def pcm(self) -> bytes:
        """When it is done."""
        return bytes(self._pcm[: self._wanted_bytes])


class Player:
    """Gives a speaker `pcm`, then silence."""

    def __init__(self, pcm: bytes) -> None:
        self._pcm = pcm
        self._taken_bytes = 0
        self.timeline = Timeline()

    def play(self, n_samples: int, at_s: float) -> bytes:
        """Device's thread."""
        begin = self._taken_bytes
        if begin >= len(self._pcm):
            return silence(n_samples)
        self.timeline.stamps.append((begin // SAMPLE_BYTES, at_s))
        self._taken_bytes += n_samples * SAMPLE_BYTES
        return self._pcm[begin : self._taken_bytes].ljust(n_samples * SAMPLE_BYTES, b"\0")


def record(spec: str | None, channel: int | None, duration_s: float) -> bytes:
    """PCM of the microphone `spec`. Blocks for `SETTLE_S` longer than that, `PATIENCE_S` more at most.
    Raises AudioError."""
    recorder = Recorder(round((SETTLE_S + duration_s) * SAMPLE_RATE))
    stream = DeviceStream("input", spec, recorder.captured, channel=channel, stamped=True)
    try:
        _run([stream], recorder, SETTLE_S + duration_s + PATIENCE_S)
    finally:
        stream.close()
    return recorder.pcm[round(SETTLE_S * SAMPLE_RATE) * SAMPLE_BYTES :]


def play_and_record(
    pcm: bytes, speaker: str | None, microphone: str | None, channel: int | None
) -> tuple[Recorder, Player]:
    """Plays `pcm`; what the microphone hears meanwhile, and for `SETTLE_S` more. Blocks for so long,
    `PATIENCE_S` more at most. Raises AudioError."""
    duration_s = len(pcm) / (SAMPLE_BYTES * SAMPLE_RATE) + SETTLE_S
    recorder, player = Recorder(round(duration_s * SAMPLE_RATE)), Player(pcm)
    # The speaker first, as in calls: what it plays before the microphone is there is silence.
    speaking = DeviceStream("output", speaker, player.play)
    try:
        listening = DeviceStream("input", microphone, recorder.captured, channel=channel, stamped=True)
        try:
            _run([listening, speaking], recorder, duration_s + PATIENCE_S)
        finally:
            listening.close()
    finally:
        speaking.close()
    if not player.timeline.stamps:
        raise AudioError("The speaker takes no audio.", "Choose another one with --output-device.")
    return recorder, player


def _run(streams: list[DeviceStream], recorder: Recorder, limit_s: float) -> None:
    """Until the recorder is done. Raises AudioError, or what a callback raised."""
    failures: list[Exception] = []

    def fail(error: Exception) -> None:
        failures.append(error)
        recorder.done.set()

    for stream in streams:
        stream.start(_lost(fail), fail)
    if not recorder.done.wait(limit_s):
        raise AudioError("The microphone gives no audio.", "Choose another one with --input-device.")
    if failures:
        raise failures[0]


def _lost(fail: Callable[[Exception], None]) -> Callable[[Kind, DeviceState, str], None]:
    def tell(kind: Kind, state: DeviceState, name: str) -> None:
        if state is DeviceState.LOST:
            fail(AudioError(f"The {ROLE[kind]} {name!r} went away, or does not answer any more."))

    return tell
