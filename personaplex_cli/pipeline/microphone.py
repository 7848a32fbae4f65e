"""The microphone: what a device captures, whenever and in any portions → 20 ms blocks on the event loop.

The loop wakes up for a step of the model, which is four blocks: nothing of it is sent before (`encoder`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Final

from personaplex_cli.pacing import PACKET_S
from personaplex_cli.pcm import (
    PACKET_BYTES,
    PACKET_SAMPLES,
    SAMPLE_BYTES,
    SAMPLE_RATE,
    STEP_PACKETS,
    STEP_S,
    STEP_SAMPLES,
    Block,
    silence,
)

BUFFER_BLOCKS: Final = 100
"""One second, or two, as the device's blocks are. While the network stalls nobody reads, and the oldest goes
when it is full, counted; of the rest the encoder drops what is too old."""

GRACE_S: Final = 2 * PACKET_S
"""How late the device may be before silence is sent in its place: the server must not wait for audio."""


class Microphone:
    """`captured` is for one thread, that of the device or of what stands behind it; all else is for the event
    loop. Its clock has to be `time.monotonic`, as asyncio's is."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[bytes, float]] = deque(maxlen=BUFFER_BLOCKS)
        self._pcm = bytearray()  # taken from there, and less than a step
        self._end_s = 0.0  # when its last sample was captured
        # Each number is written by one thread only.
        self._captured_samples = self._overrun_samples = self._used_samples = 0
        self._step: deque[Block] = deque()  # of the current step, what is still to be given
        self._arrived = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due_s = 0.0
        self._stalled = False
        self.silence_inserted = 0

    def start(self) -> None:
        """From now on what is captured is kept; what came before would only be lag."""
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + STEP_S
        self._step.clear()
        while self._blocks:
            self._take_block()
        self._use(len(self._pcm))

    def captured(self, pcm: bytes, at_s: float) -> None:
        """Device's thread: `pcm`, whose first sample was captured at `at_s`. Wakes the loop when there is
        enough for a step, not for each block."""
        loop = self._loop
        if loop is None:
            return
        n_samples = len(pcm) // SAMPLE_BYTES
        if len(self._blocks) == BUFFER_BLOCKS:
            self._overrun_samples += len(self._blocks[0][0]) // SAMPLE_BYTES
        self._blocks.append((pcm, at_s + n_samples / SAMPLE_RATE))
        self._captured_samples += n_samples
        if self._waiting_samples >= STEP_SAMPLES:
            with contextlib.suppress(RuntimeError):  # the loop is closed, we are about to be
                loop.call_soon_threadsafe(self._arrived.set)

    async def read(self) -> Block:
        """The next 20 ms, as soon as their step is captured; silence when the device is more than the grace
        late. After such silence only the newest step is taken: what it stood in for is too old."""
        loop = asyncio.get_running_loop()
        while not self._step and not self._take(loop.time()):
            late_s = self._due_s + GRACE_S
            if loop.time() >= late_s:
                self._stand_in()
                break
            self._arrived.clear()
            # A timer of the loop's costs a third of what asyncio.timeout_at does.
            timer = loop.call_at(late_s, self._arrived.set)
            try:
                await self._arrived.wait()
            finally:
                timer.cancel()
        return self._step.popleft()

    @property
    def packets_dropped(self) -> int:
        """What the bounded buffer lost while nobody read it, as packets."""
        return self._overrun_samples // PACKET_SAMPLES

    def close(self) -> None:
        self._loop = None  # nothing is captured any more

    @property
    def _waiting_samples(self) -> int:
        """What is captured and not yet part of a step."""
        return self._captured_samples - self._overrun_samples - self._used_samples

    def _take(self, now_s: float) -> bool:
        """The next step, if all of it is captured."""
        while self._stalled and self._blocks and self._waiting_samples >= 2 * STEP_SAMPLES:
            self._use(len(self._pcm))
            self._take_block()
        while len(self._pcm) < STEP_SAMPLES * SAMPLE_BYTES:
            if not self._blocks:
                return False
            self._take_block()
        self._stalled = False
        for _ in range(STEP_PACKETS):
            pcm = bytes(self._pcm[:PACKET_BYTES])
            self._use(PACKET_BYTES)
            self._step.append(Block(pcm, self._end_s - len(self._pcm) / (SAMPLE_BYTES * SAMPLE_RATE)))
        self._due_s = now_s + STEP_S
        return True

    def _stand_in(self) -> None:
        """A step of silence."""
        for _ in range(STEP_PACKETS):
            self._due_s += PACKET_S
            self._step.append(Block(silence(PACKET_SAMPLES), self._due_s))
        self.silence_inserted += STEP_PACKETS
        self._stalled = True

    def _take_block(self) -> None:
        pcm, self._end_s = self._blocks.popleft()
        self._pcm += pcm

    def _use(self, n_bytes: int) -> None:
        del self._pcm[:n_bytes]
        self._used_samples += n_bytes // SAMPLE_BYTES
