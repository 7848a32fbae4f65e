"""The microphone: PortAudio's callback → 20 ms blocks on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from personaplex_cli.devices import BLOCK_SAMPLES, Device, DeviceStream
from personaplex_cli.errors import PersonaplexError
from personaplex_cli.pacing import PACKET_S
from personaplex_cli.pcm import (
    PACKET_SAMPLES,
    Block,
    silence,
)

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
        self._due_s = 0.0
        self._stalled = False
        self._overrun_blocks = 0
        self.finished = False
        self.silence_inserted = 0
        self._stream = DeviceStream("input", device, self._capture)

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """Starts capturing. `on_failure` is called on PortAudio's thread when the device is lost.
        Raises AudioError."""
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + PACKET_S
        self._blocks.clear()  # a call before may have left some
        self._stream.start(on_failure)

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

    @property
    def device_flags(self) -> int:
        return self._stream.flags

    def close(self) -> None:
        self._loop = None  # nothing is captured any more
        self._stream.close()

    def _take(self) -> Block | None:
        if len(self._blocks) < BLOCKS_PER_PACKET:
            return None
        while self._stalled and len(self._blocks) >= 2 * BLOCKS_PER_PACKET:
            self._blocks.popleft()
        self._stalled = False
        taken = [self._blocks.popleft() for _ in range(BLOCKS_PER_PACKET)]
        return Block(b"".join(pcm for pcm, _ in taken), taken[-1][1])

    def _capture(self, buffer: Any, n_samples: int) -> None:
        """PortAudio's thread: copy, count, wake the loop."""
        loop = self._loop
        if loop is not None:
            self._overrun_blocks += len(self._blocks) == BUFFER_BLOCKS
            self._blocks.append((bytes(buffer), loop.time()))
            with contextlib.suppress(RuntimeError):  # the loop is closed, we are about to be
                loop.call_soon_threadsafe(self._arrived.set)
