"""The two ends of the data path: what a source and a sink are, and which of them an option names.

Nothing heavy is imported before it is known to be needed: without a sound device in the call PortAudio
need not be installed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from personaplex_cli.errors import PersonaplexError, UsageError
from personaplex_cli.events import Written
from personaplex_cli.pcm import SAMPLE_RATE, Block

if TYPE_CHECKING:
    from personaplex_cli.devices import Device

PIPE: Final = "-"
NOTHING: Final = "none"


class Source(Protocol):
    """The user's side. Event loop only."""

    @property
    def finished(self) -> bool:
        """The input is over; `read` goes on with silence."""

    @property
    def silence_inserted(self) -> int: ...

    @property
    def packets_dropped(self) -> int:
        """What was lost because nobody called `read`."""

    @property
    def device_flags(self) -> int: ...

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """Called at the handshake of each call. `on_failure` may be called from any thread. AudioError."""

    async def read(self) -> Block:
        """The next 20 ms, at real-time pace, for ever."""

    def close(self) -> None:
        """On any thread. May be called again."""


class Sink(Protocol):
    """The agent's side."""

    @property
    def written(self) -> Written | None:
        """What was written where, for the end line; None when nothing was."""

    @property
    def underruns(self) -> int: ...

    @property
    def dropped_ms(self) -> int: ...

    @property
    def device_flags(self) -> int: ...

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """Called before each connection. `on_failure` may be called from any thread. AudioError."""

    def write(self, pcm: bytes) -> None:
        """Playback thread. May raise PersonaplexError or OSError: the call ends then."""

    def close(self) -> None:
        """After the last `write`, on any thread. May be called again."""


def open_source(file: str | None, device: str | None) -> Source:
    """`file` is a path, "-" for standard input, or None for the microphone `device`.

    Raises UsageError, AudioError.
    """
    if file is None:
        from personaplex_cli.devices import find_device
        from personaplex_cli.pipeline.microphone import Microphone

        return Microphone(find_device(device, "input"))
    if file == PIPE:
        from personaplex_cli.pipeline.pipes import PipeSource

        return PipeSource(_standard_input())
    from personaplex_cli.pipeline.files import FileSource

    return FileSource(_path(file))


def open_sink(file: str | None, device: str | None) -> Sink:
    """`file` is a path, "-" for standard output, "none", or None for the speaker `device`.

    Raises UsageError, AudioError.
    """
    if file is None:
        from personaplex_cli.devices import find_device

        return SpeakerSink(find_device(device, "output"))
    if file in (NOTHING, PIPE):
        from personaplex_cli.pipeline.pipes import NullSink, PipeSink

        return NullSink() if file == NOTHING else PipeSink(_standard_output())
    from personaplex_cli.pipeline.files import FileSink

    return FileSink(_path(file))


def _path(file: str) -> Path:
    """Unlike pathlib's, this does not fail for the home of a user that does not exist."""
    return Path(os.path.expanduser(file))


class SpeakerSink:
    """Playout buffer and speaker: what `write` takes is heard a little later."""

    written: Written | None = None

    def __init__(self, device: Device) -> None:
        """Raises AudioError when the device cannot be opened."""
        from personaplex_cli.pipeline.playout import LIMIT_MS, Playout
        from personaplex_cli.pipeline.speaker import Speaker

        self._limit_samples = SAMPLE_RATE * LIMIT_MS // 1000
        self._new_playout = Playout
        self._playout = Playout()
        self._speaker = Speaker(device, lambda n_samples: self._playout.pull(n_samples))
        self._closed = False

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """An empty buffer for each call, with its margin and its counters. Raises AudioError."""
        self._playout = self._new_playout()
        self._speaker.start(on_failure)

    def write(self, pcm: bytes) -> None:
        """Playback thread."""
        self._playout.push(pcm)

    def close(self) -> None:
        """Blocks until what is held has been heard: at most the playout buffer's limit."""
        if not self._closed:
            self._closed = True
            # No longer than that, whatever is held: a device that hangs plays none of it.
            time.sleep(min(max(0, self._playout.held_samples), self._limit_samples) / SAMPLE_RATE)
            self._speaker.close()

    @property
    def underruns(self) -> int:
        return self._playout.underruns

    @property
    def dropped_ms(self) -> int:
        dropped = self._playout.dropped_samples + self._playout.refused_samples
        return dropped * 1000 // SAMPLE_RATE

    @property
    def device_flags(self) -> int:
        return self._speaker.device_flags


def _standard_input() -> BinaryIO:
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("Standard input is closed.", "--input - reads raw 24 kHz mono s16le from a pipe.")
    if sys.stdin.isatty():
        raise UsageError("Nothing is piped in.", "--input - reads raw 24 kHz mono s16le from a pipe.")
    return sys.stdin.buffer


def _standard_output() -> BinaryIO:
    if sys.stdout is None or sys.stdout.closed:
        raise UsageError("Standard output is closed.", "--output - writes raw 24 kHz mono s16le to a pipe.")
    if sys.stdout.isatty():
        raise UsageError("Standard output is a terminal.", "--output - writes raw audio: pipe it somewhere.")
    return sys.stdout.buffer
