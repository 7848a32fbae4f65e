"""The microphone: PortAudio's callback → 20 ms blocks on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from personaplex_cli.devices import Device, close_stream, open_stream, start_stream
from personaplex_cli.errors import AudioError, PersonaplexError
from personaplex_cli.pacing import PACKET_S
from personaplex_cli.pcm import (
    PACKET_SAMPLES,
    SAMPLE_RATE,
    Block,
    silence,
)

BLOCK_SAMPLES: Final = SAMPLE_RATE * 10 // 1000
"""10 ms: half a packet, so that a packet waits for at most one more block."""

BLOCKS_PER_PACKET: Final = PACKET_SAMPLES // BLOCK_SAMPLES

BUFFER_BLOCKS: Final = 100
"""One second. While the network stalls nobody reads, and the oldest goes when it is full, counted; of the
rest the encoder drops what is too old."""

GRACE_S: Final = 2 * PACKET_S
"""How late the device may be before silence is sent in its place: the server must not wait for audio."""


class Microphone:
    """One input device. The device is opened here and starts with the call, so that its first block is
    captured at the handshake: audio from before would only be lag."""

    def __init__(self, device: Device) -> None:
        """Raises AudioError when the device cannot be opened."""
        self._blocks: deque[tuple[bytes, float]] = deque(maxlen=BUFFER_BLOCKS)
        self._arrived = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_failure: Callable[[PersonaplexError], None] | None = None
        self._closing = False
        self._due_s = 0.0
        self._stalled = False
        self.finished = False
        self.silence_inserted = 0
        self.device_flags = 0
        self._overrun_blocks = 0
        self._stream = open_stream(
            "input",
            device,
            block_samples=BLOCK_SAMPLES,
            callback=self._callback,
            finished_callback=self._finished,
        )

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """Starts capturing. `on_failure` is called on PortAudio's thread when the device is lost.
        Raises AudioError."""
        self._loop = asyncio.get_running_loop()
        self._on_failure = on_failure
        self._due_s = self._loop.time() + PACKET_S
        self._blocks.clear()  # a call before may have left some
        if not self._stream.active:
            start_stream(self._stream, "input")

    async def read(self) -> Block:
        """The next 20 ms, as soon as they are captured; silence when the device is more than the grace
        late. After such silence only the newest block is taken: what it stood in for is too old."""
        loop = asyncio.get_running_loop()
        while (block := self._take()) is None:
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(self._due_s + GRACE_S):
                    await self._arrived.wait()
            except TimeoutError:
                self._due_s += PACKET_S
                self.silence_inserted += 1
                self._stalled = True
                return Block(silence(PACKET_SAMPLES), self._due_s)
        self._due_s = loop.time() + PACKET_S
        return block

    @property
    def packets_dropped(self) -> int:
        """What the bounded buffer lost while nobody read it, as packets."""
        return self._overrun_blocks // BLOCKS_PER_PACKET

    def close(self) -> None:
        self._closing = True
        close_stream(self._stream)

    def _take(self) -> Block | None:
        if len(self._blocks) < BLOCKS_PER_PACKET:
            return None
        while self._stalled and len(self._blocks) >= 2 * BLOCKS_PER_PACKET:
            self._blocks.popleft()
        self._stalled = False
        taken = [self._blocks.popleft() for _ in range(BLOCKS_PER_PACKET)]
        return Block(b"".join(pcm for pcm, _ in taken), taken[-1][1])

    def _callback(self, indata: Any, n_samples: int, times: Any, status: Any) -> None:
        """PortAudio's thread: copy, count, wake the loop."""
        if status:
            self.device_flags += 1
        if self._loop is not None and not self._closing:
            self._overrun_blocks += len(self._blocks) == BUFFER_BLOCKS
            self._blocks.append((bytes(indata), self._loop.time()))
            with contextlib.suppress(RuntimeError):  # the loop is closed, we are about to be
                self._loop.call_soon_threadsafe(self._arrived.set)

    def _finished(self) -> None:
        """PortAudio's thread: the stream ended. Unless we closed it, the device is gone."""
        if not self._closing and self._on_failure is not None:
            self._on_failure(
                AudioError("The microphone is gone.", "Connect it again, or choose another one.")
            )
