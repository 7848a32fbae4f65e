"""The microphone: what a device captures, whenever and in any portions → 20 ms blocks on the event loop.

The loop wakes up for a step of the model, which is four blocks: nothing of it is sent before (`encoder`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from typing import Final

from personaplex_cli.pacing import PACKET_S, REANCHOR_S
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
"""One second of blocks of 10 ms, eight of whole steps. While the network stalls nobody reads, and the oldest
goes when it is full, counted; of the rest the encoder drops what is too old."""

GRACE_S: Final = 2 * PACKET_S
"""How late the device may be before silence is sent in its place: the server must not wait for audio."""


class Microphone:
    """`captured` is for one thread, that of the device or of what stands behind it; all else is for the event
    loop. Its clock has to be `time.monotonic`, as asyncio's is."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, bytes, float]] = deque(maxlen=BUFFER_BLOCKS)
        """Number of the first sample, PCM, and when the last one came."""
        self._n_captured = 0  # written by the device's thread
        self._arrival = _Arrival()
        self._n_taken = 0  # the sample that is to come, written by the loop's thread as all that follows
        self._pcm = bytearray()  # taken, and less than a step
        self._end_s = 0.0  # when its last sample came
        self._step: deque[Block] = deque()  # of the current step, what is still to be given
        self._arrived = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due_s = 0.0
        self._stood_in_s = -math.inf  # silence stands in for what came until then
        self._overrun_samples = 0
        self.silence_inserted = 0

    def start(self) -> None:
        """From now on what is captured is kept; what came before would only be lag."""
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + STEP_S
        self._stood_in_s = -math.inf
        self._blocks.clear()
        self._n_taken = self._n_captured
        self._pcm.clear()
        self._step.clear()
        self._overrun_samples = self.silence_inserted = 0

    def captured(self, pcm: bytes, at_s: float) -> None:
        """Device's thread: `pcm`, whose first sample was captured at `at_s`. Wakes the loop when there is
        enough for a step, not for each block."""
        loop = self._loop
        if loop is None:
            return
        first, n_samples = self._n_captured, len(pcm) // SAMPLE_BYTES
        end_s = self._arrival.of(at_s + n_samples / SAMPLE_RATE, loop.time(), n_samples)
        self._blocks.append((first, pcm, end_s))
        self._n_captured = first + n_samples
        if self._n_captured - self._n_taken + len(self._pcm) // SAMPLE_BYTES >= STEP_SAMPLES:
            with contextlib.suppress(RuntimeError):  # the loop is closed, we are about to be
                loop.call_soon_threadsafe(self._arrived.set)

    async def read(self) -> Block:
        """The next 20 ms, as soon as their step is there; silence when the device is more than the grace
        late. What it stood in for is thrown away if it comes after all: all that follows would be late."""
        loop = asyncio.get_running_loop()
        while not self._step and not self._take(loop.time()):
            late_s = self._due_s + GRACE_S
            if loop.time() >= late_s:
                self._stand_in(loop.time())
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
        not_yet_seen = self._blocks[0][0] - self._n_taken if self._blocks else 0
        return (self._overrun_samples + not_yet_seen) // PACKET_SAMPLES

    def close(self) -> None:
        self._loop = None  # nothing is captured any more

    def _take(self, now_s: float) -> bool:
        """The next step, if all of it is there."""
        while len(self._pcm) < STEP_SAMPLES * SAMPLE_BYTES:
            if not self._blocks:
                return False
            self._take_block()
        for _ in range(STEP_PACKETS):
            pcm = bytes(self._pcm[:PACKET_BYTES])
            del self._pcm[:PACKET_BYTES]
            self._step.append(Block(pcm, self._end_s - len(self._pcm) / (SAMPLE_BYTES * SAMPLE_RATE)))
        self._due_s = now_s + STEP_S
        return True

    def _take_block(self) -> None:
        first, pcm, end_s = self._blocks.popleft()
        self._overrun_samples += first - self._n_taken
        self._n_taken = first + len(pcm) // SAMPLE_BYTES
        if end_s > self._stood_in_s:
            self._pcm += pcm
            self._end_s = end_s

    def _stand_in(self, now_s: float) -> None:
        """A step of silence; but after a pause of our own only for now, not for all of it."""
        if now_s - self._due_s > GRACE_S + REANCHOR_S:
            self._due_s = now_s
        for _ in range(STEP_PACKETS):
            self._step.append(Block(silence(PACKET_SAMPLES), self._due_s))
        self._stood_in_s = self._due_s
        self._pcm.clear()
        self._due_s += STEP_S
        self.silence_inserted += STEP_PACKETS


class _Arrival:
    """When audio should have come, by when it was captured: later by as much as this device always takes.
    That is part of no age: a headset may take 0.2 s, and some drivers' stamps are wrong by as much."""

    def __init__(self) -> None:
        self._least_s = self._before_s = math.inf  # of this window and the one before
        self._samples = 0

    def of(self, end_s: float, now_s: float, n_samples: int) -> float:
        self._samples += n_samples
        if self._samples > _WINDOW_SAMPLES:
            self._samples = 0
            self._before_s, self._least_s = self._least_s, math.inf
        self._least_s = min(self._least_s, now_s - end_s)
        return end_s + min(self._least_s, self._before_s)


_WINDOW_SAMPLES: Final = 2 * SAMPLE_RATE
