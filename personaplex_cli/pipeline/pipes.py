"""Pipes in place of microphone and speaker: raw s16le, 24 kHz, mono.

Behind a pipe there may be a file, of which nothing is to be lost, or a microphone (`rec | personaplex`),
whose audio from before the call would be lag for as long as the call lasts. They are told apart by how fast
it comes.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable
from typing import BinaryIO, Final

from personaplex_cli.events import DeviceCounters, EchoState, PlayoutCounters, Written
from personaplex_cli.pacing import PACKET_S, Pacer
from personaplex_cli.pcm import (
    PACKET_BYTES,
    PACKET_SAMPLES,
    SAMPLE_BYTES,
    SAMPLE_RATE,
    Block,
    silence,
)

PIPE_BUFFER_BYTES: Final = 10 * PACKET_BYTES
"""What is read ahead from a pipe: 200 ms. A faster writer has to wait, and loses nothing."""

EARLY_BYTES: Final = 3 * SAMPLE_RATE * SAMPLE_BYTES
"""What is read before the call is live, at most: three seconds. A file fills that at once, and then waits."""

JUDGED_AFTER_S: Final = 1.0
BACKLOG_S: Final = 0.1
LIVE_FACTOR: Final = 1.3
LIVE_BYTES: Final = 2 * PACKET_BYTES
"""What comes no faster than speech, by this factor and after what had piled up before, is live. It is judged
after a second; a decoder that is slower than 1.3 times real time is unheard of. Of what is live, the newest
40 ms are kept until the call is."""

PIPE_GRACE_S: Final = 2 * PACKET_S
"""How late a pipe may be before silence is sent in its place."""


class LiveJudge:
    """Whether what comes through a pipe is live."""

    def __init__(self) -> None:
        self._first_s: float | None = None
        self._n_bytes = 0

    def came(self, n_bytes: int, now_s: float) -> bool:
        """So much came now; True if by all that came it is live."""
        if self._first_s is None:
            self._first_s = now_s
        since_s = now_s - self._first_s - BACKLOG_S
        if since_s > 0:
            self._n_bytes += n_bytes
        in_time = LIVE_FACTOR * since_s * SAMPLE_RATE * SAMPLE_BYTES
        return since_s >= JUDGED_AFTER_S and self._n_bytes <= in_time


class PipeSource:
    """A pipe, read ahead by a thread of its own, from now on. Like a file it waits when the network stalls,
    and gives silence for ever after its end."""

    packets_dropped = echo_blocks_dropped = 0
    echo = EchoState.OFF
    device = DeviceCounters()

    def __init__(self, pipe: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._pipe = pipe
        self._clock = clock
        self._pcm = bytearray()
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self._pacer = Pacer()
        self.finished = False
        self.silence_inserted = 0
        threading.Thread(target=self._read_ahead, name="stdin", daemon=True).start()

    def start(self, reports: object) -> None:
        """The call takes it from now on. Nothing is reported: a pipe that breaks is over."""
        with self._changed:
            self._loop = asyncio.get_running_loop()
            self._changed.notify()
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
        judge = LiveJudge()
        while not self._ended:
            try:
                data = os.read(self._pipe.fileno(), PIPE_BUFFER_BYTES)
            except (OSError, ValueError):  # closed under us
                data = b""
            with self._changed:
                self._pcm += data
                self._ended = not data
                if self._loop is None and judge.came(len(data), self._clock()):
                    del self._pcm[: -LIVE_BYTES - len(self._pcm) % SAMPLE_BYTES]
                if self._ended or len(self._pcm) >= PACKET_BYTES:
                    self._wake()
                self._changed.wait_for(lambda: self._closed or len(self._pcm) < self._room_bytes)
                if self._closed:
                    return

    @property
    def _room_bytes(self) -> int:
        return EARLY_BYTES if self._loop is None else PIPE_BUFFER_BYTES

    def _wake(self) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the call is over and the loop closed
            self._closed = True


class NullSource:
    """Says nothing, at real-time pace: for those who only listen."""

    packets_dropped = echo_blocks_dropped = silence_inserted = 0
    echo = EchoState.OFF
    device = DeviceCounters()
    finished = False

    def __init__(self) -> None:
        self._pacer = Pacer()

    def start(self, reports: object) -> None:
        self._pacer.start()

    async def read(self) -> Block:
        return Block(silence(PACKET_SAMPLES), await self._pacer.wait())

    def close(self) -> None: ...


class PipeSink:
    """The agent's side into a pipe, as it was received."""

    written: Written | None = None
    playout = PlayoutCounters()
    device = DeviceCounters()
    lag_ms = 0.0
    heard_ms = heard_at_close_ms = math.inf

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe

    def start(self, reports: object) -> None:
        """Nothing to start; failures are raised by `write`."""

    def take_skipped_ms(self) -> list[tuple[float, float]]:
        return []

    def write(self, pcm: bytes, arrived_s: float) -> None:
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
    playout = PlayoutCounters()
    device = DeviceCounters()
    lag_ms = 0.0
    heard_ms = heard_at_close_ms = math.inf

    def start(self, reports: object) -> None: ...

    def take_skipped_ms(self) -> list[tuple[float, float]]:
        return []

    def write(self, pcm: bytes, arrived_s: float) -> None: ...

    def close(self) -> None: ...
