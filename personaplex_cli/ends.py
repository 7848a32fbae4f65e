"""The two ends of the data path: what a source and a sink are, and which of them an option names.

Nothing heavy is imported before it is known to be needed: without a sound device in the call PortAudio
need not be installed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, runtime_checkable

from personaplex_cli.errors import UsageError
from personaplex_cli.events import DeviceCounters, EchoState, PlayoutCounters, Reports, Written
from personaplex_cli.pcm import Block

if TYPE_CHECKING:
    from personaplex_cli.dsp.volume import Volume
    from personaplex_cli.earcons import Earcon
    from personaplex_cli.echo import Echo
    from personaplex_cli.pipeline.gate import Gate

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
    def echo_blocks_dropped(self) -> int: ...

    @property
    def echo(self) -> EchoState: ...

    @property
    def device(self) -> DeviceCounters: ...

    def start(self, reports: Reports) -> None:
        """Called at the handshake of each call. AudioError."""

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
    def playout(self) -> PlayoutCounters: ...

    @property
    def device(self) -> DeviceCounters: ...

    @property
    def lag_ms(self) -> float:
        """How much of what was written has not been heard."""

    @property
    def heard_ms(self) -> float:
        """How far into what was written since `start` has been heard, or passed over; infinite where writing
        is all there is."""

    @property
    def heard_at_close_ms(self) -> float:
        """The same when it will have been closed, if that is now."""

    def take_skipped_ms(self) -> list[tuple[float, float]]:
        """From where to where in what was written nothing will ever be heard, as far as not yet taken."""

    def start(self, reports: Reports) -> None:
        """Called before each connection. AudioError."""

    def write(self, pcm: bytes, arrived_s: float) -> None:
        """Playback thread: PCM, and when it came from the server (event loop's clock). May raise
        PersonaplexError or OSError: the call ends then."""

    def close(self) -> None:
        """After the last `write`, on any thread. May be called again."""


@runtime_checkable
class MicrophoneEnd(Source, Protocol):
    """A source with a device that a user can steer. Event loop only."""

    gate: Gate

    def use_device(self, spec: str) -> None:
        """Go over to another one; what comes of it is told by `Reports.device`."""


@runtime_checkable
class SpeakerEnd(Sink, Protocol):
    """A sink with a device that a user can steer."""

    volume: Volume

    def use_device(self, spec: str) -> None:
        """Go over to another one; what comes of it is told by `Reports.device`."""

    def flush(self) -> None:
        """Skip what is held beyond what lateness demands."""

    def play_earcon(self, earcon: Earcon) -> None: ...


def open_source(file: str | None, device: str | None, channel: int | None, echo: Echo) -> Source:
    """`file` is a path, "-" for standard input, or None for `channel` of the microphone `device`, which may
    be "none".

    Raises UsageError, AudioError.
    """
    if file is None and is_nothing(device):
        from personaplex_cli.pipeline.pipes import NullSource

        return NullSource()
    if file is None:
        from personaplex_cli.soundcard import MicrophoneSource

        return MicrophoneSource(device, channel, echo)
    if file == PIPE:
        from personaplex_cli.pipeline.pipes import PipeSource

        return PipeSource(_standard_input())
    from personaplex_cli.pipeline.files import FileSource

    return FileSource(_path(file))


def open_sink(file: str | None, device: str | None, max_buffer_ms: int, echo: Echo) -> Sink:
    """`file` is a path, "-" for standard output, "none", or None for the speaker `device`, which may be
    "none" as well.

    Raises UsageError, AudioError.
    """
    if file == NOTHING or (file is None and is_nothing(device)):
        from personaplex_cli.pipeline.pipes import NullSink

        return NullSink()
    if file is None:
        from personaplex_cli.soundcard import SpeakerSink

        return SpeakerSink(device, max_buffer_ms, echo)
    if file == PIPE:
        from personaplex_cli.pipeline.pipes import PipeSink

        return PipeSink(_standard_output())
    from personaplex_cli.pipeline.files import FileSink

    return FileSink(_path(file))


def is_nothing(device: str | None) -> bool:
    return device is not None and device.strip().casefold() == NOTHING


def _path(file: str) -> Path:
    """Unlike pathlib's, this does not fail for the home of a user that does not exist."""
    return Path(os.path.expanduser(file))


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
