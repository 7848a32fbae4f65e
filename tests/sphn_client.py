"""A client of the protocol that shares nothing with the program: websockets and sphn.

It speaks as fast as the socket takes it: the server is driven by what it hears, so seconds of conversation
take a fraction of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import sphn
from ogg_pages import RATE, STEP, Samples
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

PATIENCE_S = 20.0
"""For anything that must happen; a loaded machine is slow."""

VOICE_PATH = "/v1/voice/personaplex?voice=NATF0"
MOSHI_PATH = "/api/chat"


@dataclass(frozen=True)
class Piece:
    """A piece of the transcript, and how much audio (samples) had come before it."""

    text: str
    at: int


@dataclass
class SphnClient:
    connection: ClientConnection
    messages: list[bytes | str] = field(default_factory=list)
    """All that came, in order."""
    pieces: list[Piece] = field(default_factory=list)
    close_code: int | None = None
    """Once the connection is closed; 1006 when there was no closing message."""

    def __post_init__(self) -> None:
        self._writer = sphn.OpusStreamWriter(RATE)
        self._reader = sphn.OpusStreamReader(RATE)
        self._heard: list[Samples] = []
        self.n_heard = 0
        """Samples decoded."""
        self._changed = asyncio.Condition()

    @property
    def heard(self) -> Samples:
        return np.concatenate(self._heard) if self._heard else np.zeros(0, np.float32)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def payloads(self) -> list[bytes]:
        """Of the audio messages."""
        return self.tagged(0x01)

    def tagged(self, tag: int) -> list[bytes]:
        return [m[1:] for m in self.messages if isinstance(m, bytes) and m[:1] == bytes((tag,))]

    async def until(self, true: Callable[[], bool]) -> None:
        """Waits until it is true, or the connection is closed."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: true() or self.close_code is not None)

    async def ready(self) -> None:
        """The handshake has come."""
        await self.until(lambda: bool(self.tagged(0x00)))
        assert self.close_code is None

    async def closed(self) -> int:
        await self.until(lambda: False)
        assert self.close_code is not None
        return self.close_code

    async def say(self, samples: Samples) -> None:
        """In steps of 80 ms, as moshi's own clients do; the last one is filled up. Ends early, without an
        error, when the server closes."""
        for at in range(0, len(samples), STEP):
            step = samples[at : at + STEP]
            payload = self._writer.append_pcm(np.pad(step, (0, STEP - len(step))))
            if not await self.send(b"\x01" + payload):
                return

    async def talk(self, samples: Samples) -> None:
        """`say`, and hear as much as was said."""
        wanted = self.n_heard + -(-len(samples) // STEP) * STEP
        await self.say(samples)
        await self.heard_at_least(wanted)

    async def heard_at_least(self, n_samples: int) -> None:
        await self.until(lambda: self.n_heard >= n_samples)

    async def send(self, message: bytes | str) -> bool:
        try:
            await self.connection.send(message)
        except ConnectionClosed:
            return False
        return True

    async def listen(self) -> None:
        try:
            while True:
                self._take(await self.connection.recv())
                async with self._changed:
                    self._changed.notify_all()
        except ConnectionClosed as closed:
            async with self._changed:
                self.close_code = closed.rcvd.code if closed.rcvd else 1006
                self._changed.notify_all()

    def _take(self, message: bytes | str) -> None:
        self.messages.append(message)
        match message:
            case bytes() if message[:1] == b"\x01":
                samples = self._reader.append_bytes(message[1:])
                self._heard.append(samples)
                self.n_heard += len(samples)
            case bytes() if message[:1] == b"\x02":
                self.pieces.append(Piece(message[1:].decode(), self.n_heard))


@asynccontextmanager
async def calling(url: str, *, bearer: str | None = None) -> AsyncIterator[SphnClient]:
    """A connection that was accepted; raises `websockets.exceptions.InvalidStatus` if it was not."""
    subprotocols = [Subprotocol(f"bearer.{bearer}")] if bearer else None
    async with connect(
        url,
        subprotocols=subprotocols,
        ping_interval=None,
        proxy=None,
        open_timeout=PATIENCE_S,
        close_timeout=1,
    ) as connection:
        client = SphnClient(connection)
        listening = asyncio.create_task(client.listen())
        try:
            yield client
        finally:
            await connection.close()
            await listening


def quiet(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)
