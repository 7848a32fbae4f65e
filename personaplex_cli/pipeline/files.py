"""Files in place of microphone and speaker."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from personaplex_cli.errors import MissingLibraryError, UsageError
from personaplex_cli.events import DeviceCounters, EchoState, PlayoutCounters, Written
from personaplex_cli.pacing import Pacer
from personaplex_cli.pcm import PACKET_BYTES, SAMPLE_BYTES, SAMPLE_RATE, Block
from personaplex_cli.syslibs import install_hint

if TYPE_CHECKING:
    import numpy as np

MIN_RATE: Final = 1_000
MAX_RATE: Final = 768_000
"""Far around what recordings have; others come from damaged files."""

CLOSE_LIMIT_S: Final = 1.0
"""For a write that is under way to end."""


class FileSource:
    """An audio file: anything libsndfile reads, any rate, any number of channels (mixed to one).

    One block for each deadline of a `Pacer`, and silence for ever after its end: the server only speaks while
    it hears us. Unlike a microphone, a file waits when the network stalls, so that nothing of it is lost.
    """

    packets_dropped = echo_blocks_dropped = 0  # it waits for its reader
    echo = EchoState.OFF
    device = DeviceCounters()

    def __init__(self, path: Path) -> None:
        """Raises UsageError when the file is missing, unreadable, empty or not audio."""
        self._file = _open_to_read(path)
        self._rate = int(self._file.samplerate)
        self._resampler = _resampler(self._rate)
        self._pcm = bytearray()
        self._pacer = Pacer()
        self._read_all = False
        self.finished = False
        self.silence_inserted = 0

    def start(self, reports: object) -> None:
        """The file begins now, or goes on. Nothing is reported: a file that breaks off is over."""
        self._pacer.start()

    async def read(self) -> Block:
        await self._pacer.wait()
        while len(self._pcm) < PACKET_BYTES and not self._read_all:
            self._fill()
        pcm = bytes(self._pcm[:PACKET_BYTES])
        del self._pcm[:PACKET_BYTES]
        self.finished = self._read_all and not self._pcm
        # Dated now: a file has no time of its own, and nothing of it is to be dropped for being late.
        return Block(pcm.ljust(PACKET_BYTES, b"\0"), asyncio.get_running_loop().time())

    def close(self) -> None:
        self._file.close()

    def _fill(self) -> None:
        """Half a second at a time: a few milliseconds of work even where it must be decoded."""
        import numpy as np

        wanted = self._rate // 2
        try:
            mono = self._file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
        except RuntimeError:  # libsndfile cannot decode the rest
            mono = np.zeros(0, np.float32)
        self._read_all = len(mono) < wanted
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono, last=self._read_all)
        self._pcm += _to_int16(mono)


class FileSink:
    """The agent's side into an audio file, as it was received: no playout, nothing dropped.

    It is written beside the file, under a name that ends in `.part`, and takes its own name when the call is
    over, so a call that fails keeps what an earlier one wrote.
    """

    playout = PlayoutCounters()
    device = DeviceCounters()
    lag_ms = 0.0
    heard_ms = heard_at_close_ms = math.inf

    def __init__(self, path: Path) -> None:
        """Raises UsageError when the format is unknown or the file cannot be written."""
        self.path = path
        self._target = Path(os.path.realpath(path))  # a link stays one
        self._part = self._target.with_name(f"{self._target.name[:40]}.{secrets.token_hex(4)}.part")
        self._file = _open_to_write(path, self._part)
        self._writing = threading.Lock()  # libsndfile must not be closed under a write that hangs
        self._seconds = 0.0

    def start(self, reports: object) -> None:
        """Nothing to start; failures are raised by `write`."""

    def take_skipped_ms(self) -> list[tuple[float, float]]:
        return []

    def write(self, pcm: bytes, arrived_s: float) -> None:
        """Playback thread. Raises UsageError when the disk is full."""
        try:
            with self._writing:
                if self._file.closed:
                    return
                self._file.buffer_write(pcm, dtype="int16")
        except (OSError, RuntimeError, AssertionError) as error:  # the last is soundfile's for "not all"
            raise UsageError(f"Writing {self.path} failed: {error}", "Is the disk full?") from None
        self._seconds += len(pcm) / (SAMPLE_RATE * SAMPLE_BYTES)

    def close(self) -> None:
        """Completes the file, or removes it when nothing was received. May be called again.

        Raises UsageError."""
        if not self._writing.acquire(timeout=CLOSE_LIMIT_S):
            raise self._incomplete("the disk does not answer")
        with contextlib.ExitStack() as stack:
            stack.callback(self._writing.release)
            if self._file.closed:
                return
            try:
                self._file.close()
                if self._seconds:
                    self._part.replace(self._target)
                else:
                    self._part.unlink(missing_ok=True)
            except (OSError, RuntimeError) as error:
                raise self._incomplete(str(error)) from None

    def _incomplete(self, why: str) -> UsageError:
        hint = f"What there is of it lies in {self._part}."
        return UsageError(f"{self.path} could not be completed: {why}.", hint)

    @property
    def written(self) -> Written | None:
        return Written(str(self.path), self._seconds) if self._seconds else None


def _open_to_read(path: Path) -> Any:
    soundfile = _soundfile()
    try:
        path.stat()
    except FileNotFoundError:
        raise UsageError(
            f"There is no file {path}.", "--input takes an audio file, or - for standard input."
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not an audio file.")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, OSError, TypeError):  # the last for .raw, whose rate nobody knows
        if not os.access(path, os.R_OK):
            raise UsageError(f"{path} cannot be read: permission denied.") from None
        raise UsageError(
            f"{path} is not an audio file that can be read.", "WAV, FLAC, Ogg, Opus and MP3 can."
        ) from None
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        file.close()
        raise UsageError(f"{path} has a sample rate of {file.samplerate:,} Hz, which is not audio.")
    if file.frames == 0:
        file.close()
        raise UsageError(f"{path} holds no audio.")
    return file


def _open_to_write(path: Path, part: Path) -> Any:
    soundfile = _soundfile()
    suffix = path.suffix.lower()
    formats = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
    if suffix not in formats:
        raise UsageError(
            f"The format of {path} is not known.", "End its name in .wav, .flac or .ogg, or use - or none."
        )
    major, subtype = formats[suffix]
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is not a regular file.")
        if path.exists() and not os.access(path, os.W_OK):
            raise UsageError(f"{path} cannot be written: permission denied.")
        part.open("wb").close()  # libsndfile would only say "System error"
        return soundfile.SoundFile(part, "w", SAMPLE_RATE, 1, subtype, format=major)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
    except soundfile.LibsndfileError as error:
        raise UsageError(f"{path} cannot be written: {error}.") from None


def _soundfile() -> Any:
    try:
        import soundfile
    except OSError:  # a platform without a wheel that holds libsndfile
        raise MissingLibraryError(
            "The library libsndfile is not installed.", install_hint("sndfile")
        ) from None
    return soundfile


def _resampler(rate: int) -> Any:
    if rate == SAMPLE_RATE:
        return None
    import soxr

    return soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")


def _to_int16(mono: np.ndarray[Any, Any]) -> bytes:
    import numpy as np

    scaled = np.clip(np.rint(mono * 32768), -32768, 32767)
    return bytes(scaled.astype("<i2"))
