"""Microphone and speaker, each with what stands between a device and the rest of the call.

    device → (echo canceller) → microphone → gate → call
    call → playout → volume → tones → device
    what the device plays → echo canceller, or whatever else is done about echo

They are opened for a conversation and outlive its calls.
"""

from __future__ import annotations

import time
from typing import Final

from personaplex_cli.devices.device import ROLE, Kind
from personaplex_cli.devices.stream import DeviceStream, Tell
from personaplex_cli.dsp.volume import Volume
from personaplex_cli.earcons import Earcon, Tones
from personaplex_cli.echo import Echo
from personaplex_cli.events import (
    DeviceCounters,
    DeviceState,
    EchoState,
    PlayoutCounters,
    Reports,
    Written,
)
from personaplex_cli.pcm import SAMPLE_RATE, Block
from personaplex_cli.pipeline.gate import Gate
from personaplex_cli.pipeline.microphone import Microphone
from personaplex_cli.pipeline.playout import Playout

LATE_SHARE: Final = 0.999
"""A callback's lateness is told as the one that all but one in a thousand stay below."""

TONES_LIMIT_MS: Final = 500
"""The longest that closing waits for tones to be heard."""

ALIVE_S: Final = 0.25
"""A speaker that has not asked for a block for so long plays none: a block lasts 6.7 ms, and the worst delay
measured on a loaded machine was 0.12 s."""


class MicrophoneSource:
    """The user's side."""

    finished = False

    def __init__(self, spec: str | None, channel: int | None, echo: Echo) -> None:
        """The device `spec` and its `channel` (counted from 1; None for what it gives by itself).
        Raises AudioError."""
        self._microphone = Microphone()
        self._echo = echo
        self.gate = Gate(echo.ducks)
        capture = echo.captures(self._microphone.captured)
        self._stream = DeviceStream("input", spec, capture, channel=channel, stamped=echo.needs_stamps)

    def start(self, reports: Reports) -> None:
        """Audio from before the call would only be lag. Raises AudioError."""
        self._microphone.start()
        self._echo.start(reports.notice)
        self._stream.start(_tell(reports), reports.failed)

    async def read(self) -> Block:
        block = await self._microphone.read()
        self._echo.heard(block)
        return self.gate.passed(block)

    def use_device(self, spec: str) -> None:
        """Go over to another microphone; what comes of it is told."""
        self._stream.change(spec)

    def close(self) -> None:
        self._microphone.close()
        self._stream.close()
        self._echo.close()

    @property
    def silence_inserted(self) -> int:
        return self._microphone.silence_inserted

    @property
    def packets_dropped(self) -> int:
        return self._microphone.packets_dropped

    @property
    def echo(self) -> EchoState:
        return self._echo.state

    @property
    def echo_blocks_dropped(self) -> int:
        return self._echo.blocks_dropped

    @property
    def device(self) -> DeviceCounters:
        return _device_counters(self._stream)


class SpeakerSink:
    """The agent's side: what `write` takes is heard a little later."""

    written: Written | None = None

    def __init__(self, spec: str | None, max_buffer_ms: int, echo: Echo) -> None:
        """`max_buffer_ms` is the most that is held against lateness. Raises AudioError."""
        self._max_buffer_ms = max_buffer_ms
        self._playout = Playout(max_buffer_ms=max_buffer_ms)
        self._echo = echo
        self.volume = Volume()
        """How loud the agent is played; the same in each call."""
        self._tones = Tones()
        self._pulled_s = float("-inf")  # when the device last asked for a block
        self._stream = DeviceStream("output", spec, self._play)
        self._closed = False

    def start(self, reports: Reports) -> None:
        """An empty buffer for each call, with its own target and counters. Raises AudioError."""
        self._playout = Playout(max_buffer_ms=self._max_buffer_ms)
        self._stream.start(_tell(reports), reports.failed)

    def _play(self, n_samples: int, heard_s: float) -> bytes:
        self._pulled_s = time.monotonic()
        agent = self._playout.pull(n_samples, self._pulled_s)
        pcm = self._tones.mixed(self.volume.applied(agent))
        # All of it, as it is heard: otherwise the microphone would hear what cannot be recognised as echo.
        self._echo.played(pcm, heard_s)
        return pcm

    def write(self, pcm: bytes, arrived_s: float) -> None:
        """Playback thread."""
        self._playout.push(pcm, arrived_s)

    def play_earcon(self, earcon: Earcon) -> None:
        """Over whatever the agent says, however loud that is. Any thread but the callback's."""
        self._tones.play(earcon)

    def use_device(self, spec: str) -> None:
        """Go over to another speaker; what comes of it is told."""
        self._stream.change(spec)

    def flush(self) -> None:
        """Skip what is held beyond what lateness demands."""
        self._playout.flush()

    def close(self) -> None:
        """Blocks until what is held has been heard: at most what the playout buffer may hold, or
        `TONES_LIMIT_MS` if there are tones."""
        if not self._closed:
            self._closed = True
            # No longer than that, whatever is held: a device that hangs plays none of it.
            time.sleep(max(min(self.lag_ms, self._max_buffer_ms), self._tones_lag_ms) / 1000)
            self._stream.close()

    @property
    def _tones_lag_ms(self) -> float:
        left_ms = self._tones.left_ms
        if not left_ms or time.monotonic() - self._pulled_s > ALIVE_S:
            return 0
        return min(left_ms + 1000 * self._stream.latency_s, TONES_LIMIT_MS)

    @property
    def lag_ms(self) -> float:
        """From here to the ear: what the playout buffer holds, and what the device does."""
        return 1000 * (max(0, self._playout.held_samples) / SAMPLE_RATE + self._stream.latency_s)

    @property
    def heard_ms(self) -> float:
        """What the device was given, without what is still on its way to the ear."""
        return 1000 * (self._playout.position_samples / SAMPLE_RATE - self._stream.latency_s)

    @property
    def heard_at_close_ms(self) -> float:
        return self.heard_ms + min(self.lag_ms, self._max_buffer_ms)

    def take_skipped_ms(self) -> list[tuple[float, float]]:
        skipped = self._playout.skipped
        spans = [skipped.popleft() for _ in range(len(skipped))]
        return [(begin * 1000 / SAMPLE_RATE, end * 1000 / SAMPLE_RATE) for begin, end in spans]

    @property
    def playout(self) -> PlayoutCounters:
        playout = self._playout
        return PlayoutCounters(
            underruns=playout.underruns,
            concealed_ms=_ms(playout.concealed_samples),
            silence_removed_ms=_ms(playout.removed_samples),
            speech_cut_ms=_ms(playout.cut_samples),
            dropped_ms=_ms(playout.dropped_samples + playout.refused_samples),
        )

    @property
    def device(self) -> DeviceCounters:
        return _device_counters(self._stream)


def _tell(reports: Reports) -> Tell:
    def tell(kind: Kind, state: DeviceState, name: str) -> None:
        reports.device(ROLE[kind], state, name)

    return tell


def _ms(n_samples: int) -> int:
    return n_samples * 1000 // SAMPLE_RATE


def _device_counters(stream: DeviceStream) -> DeviceCounters:
    return DeviceCounters(stream.timing.flagged, stream.restarts, stream.timing.late(LATE_SHARE))
