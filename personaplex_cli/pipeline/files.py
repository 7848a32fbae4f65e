"""Files and pipes in place of microphone and speaker.

Sources give one 20 ms block for each deadline of a `Pacer`, and silence for ever after their end: the
server only speaks while it hears us. Unlike a microphone, a file waits when the network stalls, so that
nothing of it is lost.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from personaplex_cli.errors import MissingLibraryError, PersonaplexError, UsageError
from personaplex_cli.events import Written
from personaplex_cli.pacing import PACKET_S, Pacer
from personaplex_cli.pcm import PACKET_BYTES, PACKET_SAMPLES, SAMPLE_BYTES, SAMPLE_RATE, Block, silence
from personaplex_cli.syslibs import install_hint

if TYPE_CHECKING:
    import numpy as np

PIPE_BUFFER_BYTES: Final = 10 * PACKET_BYTES
"""What is read ahead from a pipe: 200 ms. A faster writer has to wait, and loses nothing."""

PIPE_GRACE_S: Final = 2 * PACKET_S
"""How late a pipe may be before silence is sent in its place."""


class FileSource:
    """An audio file: anything libsndfile reads, any rate, any number of channels (mixed to one)."""

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
        self.device_flags = 0

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """The file begins now, or goes on. `on_failure` is never called: a file that breaks off is over."""
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


class PipeSource:
    """Raw s16le, 24 kHz, mono from a pipe, read ahead by a thread of its own."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._pcm = bytearray()
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self._pacer = Pacer()
        self.finished = False
        self.silence_inserted = 0
        self.device_flags = 0

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """Begins to read, or goes on. `on_failure` is never called: a pipe that breaks is over."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._read_ahead, name="stdin", daemon=True).start()
        self._pacer.start()

    async def read(self) -> Block:
        at_s = await self._pacer.wait()
        if not self._ready():
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(at_s + PIPE_GRACE_S):
                    await self._arrived.wait()
            except TimeoutError:
                self.silence_inserted += 1
                return Block(silence(PACKET_SAMPLES), at_s)
        with self._changed:
            pcm = bytes(self._pcm[:PACKET_BYTES])
            del self._pcm[:PACKET_BYTES]
            self.finished = self._ended and len(self._pcm) < SAMPLE_BYTES
            self._changed.notify()
        if len(pcm) % SAMPLE_BYTES:  # a torn last sample
            pcm = pcm[:-1]
        return Block(pcm.ljust(PACKET_BYTES, b"\0"), asyncio.get_running_loop().time())

    def close(self) -> None:
        """The thread ends with its next read; it is a daemon, so a silent pipe cannot hold up the exit."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _ready(self) -> bool:
        with self._changed:
            return self._ended or len(self._pcm) >= PACKET_BYTES

    def _read_ahead(self) -> None:
        while not self._ended:
            try:
                data = os.read(self._pipe.fileno(), PIPE_BUFFER_BYTES)
            except (OSError, ValueError):  # closed under us
                data = b""
            with self._changed:
                self._pcm += data
                self._ended = not data
                if self._ended or len(self._pcm) >= PACKET_BYTES:
                    self._wake()
                self._changed.wait_for(lambda: self._closed or len(self._pcm) < PIPE_BUFFER_BYTES)
                if self._closed:
                    return

    def _wake(self) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the call is over and the loop closed
            self._closed = True


class FileSink:
    """The agent's side into an audio file, as it was received: no playout, nothing dropped.

    It is written beside the file, under a name that ends in `.part`, and takes its own name when the call is
    over, so a call that fails keeps what an earlier one wrote.
    """

    underruns = dropped_ms = device_flags = 0

    def __init__(self, path: Path) -> None:
        """Raises UsageError when the format is unknown or the file cannot be written."""
        self.path = path
        self._part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        self._file = _open_to_write(path, self._part)
        self._seconds = 0.0

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """Nothing to start; failures are raised by `write`."""

    def write(self, pcm: bytes) -> None:
        """Playback thread. Raises UsageError when the disk is full."""
        try:
            self._file.buffer_write(pcm, dtype="int16")
        except (OSError, RuntimeError, AssertionError) as error:  # the last is soundfile's for "not all"
            raise UsageError(f"Writing {self.path} failed: {error}", "Is the disk full?") from None
        self._seconds += len(pcm) / (SAMPLE_RATE * SAMPLE_BYTES)

    def close(self) -> None:
        """Completes the file; removes it when nothing was received. Raises UsageError."""
        if self._file.closed:
            return
        try:
            self._file.close()
            if self._seconds:
                self._part.replace(self.path)
            else:
                self._part.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:
            raise UsageError(f"{self.path} could not be completed: {error}") from None

    @property
    def written(self) -> Written | None:
        return Written(str(self.path), self._seconds) if self._seconds else None


class PipeSink:
    """Raw s16le, 24 kHz, mono to a pipe, as it was received."""

    written: Written | None = None
    underruns = dropped_ms = device_flags = 0

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """Nothing to start; failures are raised by `write`."""

    def write(self, pcm: bytes) -> None:
        """Playback thread. Raises BrokenPipeError when nobody reads any more."""
        try:
            self._pipe.write(pcm)
            self._pipe.flush()
        except OSError:
            # The interpreter writes what is left when it exits, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._pipe.fileno())
            raise

    def close(self) -> None:
        """The pipe belongs to the process."""


class NullSink:
    """Hears nothing."""

    written: Written | None = None
    underruns = dropped_ms = device_flags = 0

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None: ...

    def write(self, pcm: bytes) -> None: ...

    def close(self) -> None: ...


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
