"""A server like moshi's that shares nothing with the program: websockets and sphn. It echoes each step."""

from __future__ import annotations

import asyncio
import http
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sphn
from ogg_pages import RATE, STEP, Page, Samples, read_pages
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

PIECES = (" An", " echo", ":", " caf", "é", " <0xE2>", "<0x99>", "<0xAB>")
"""Sent in turn, one with each step."""

TRANSCRIPT = " An echo: café ♫"


@dataclass
class Heard:
    """One connection, as the server saw it."""

    path: str
    subprotocols: str
    # (No repr, which would take seconds: `asyncio.run` has the main task's made, result included.)
    messages: list[bytes | str] = field(default_factory=list, repr=False)
    pages: list[Page] = field(default_factory=list, repr=False)
    n_before_handshake: int = 0
    """Of the messages."""
    close_code: int | None = None
    """Once the client has left; 1006 when it said no word."""
    samples: list[Samples] = field(default_factory=list, repr=False)
    n_steps: int = 0
    """Sent."""

    @property
    def said(self) -> Samples:
        """What the client said, as sphn understands it."""
        return np.concatenate(self.samples)

    def check_end(self) -> None:
        """A page with the EOS flag, control `eos`, close 1000: the last of all, in this order."""
        last_audio, goodbye = self.messages[-2:]
        assert isinstance(last_audio, bytes) and last_audio.endswith(self.pages[-1].whole)
        assert goodbye == b"\x03eos"
        assert [page.eos for page in self.pages[-2:]] == [False, True]
        assert self.close_code == 1000


class MoshiServer:
    """`async with MoshiServer() as server:` serves on `server.url`, any path. As it is, it is Kyutai's."""

    def __init__(
        self,
        *,
        handshake: bytes | None = b"\x00",
        handshake_delay_s: float = 0.0,
        early_headers: bool = False,
        strict: bool = False,
        closes_after_steps: int | None = None,
        deaf_after_steps: int | None = None,
        refusal: tuple[int, str] | None = None,
    ) -> None:
        """`handshake` None sends none. NVIDIA's server has `early_headers` (right after the handshake, not
        with the first audio) and is `strict` (closes with 1000 at a second BOS page or a bad checksum). A
        deaf one stops reading; so it does not answer when it is told goodbye."""
        self._handshake = handshake
        self._handshake_delay_s = handshake_delay_s
        self._early_headers = early_headers
        self._strict = strict
        self._closes_after_steps = closes_after_steps
        self._deaf_after_steps = deaf_after_steps
        self._refusal = refusal
        self._server: Server | None = None
        self.calls: list[Heard] = []
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> MoshiServer:
        self._server = await serve(
            self._talk,
            "127.0.0.1",
            0,
            process_request=self._process_request,
            ping_interval=None,
            close_timeout=0.1,
        )
        return self

    async def __aexit__(self, *_: Any) -> None:
        assert self._server
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def until(self, true: Callable[[Heard], bool], timeout_s: float = 30.0) -> Heard:
        """The first call, when it is true of it."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: bool(self.calls) and true(self.calls[0]))
        return self.calls[0]

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        if self._refusal:
            status, words = self._refusal
            return connection.respond(http.HTTPStatus(status), words)
        return None

    async def _talk(self, connection: ServerConnection) -> None:
        assert connection.request
        heard = Heard(connection.request.path, connection.request.headers.get("Sec-WebSocket-Protocol", ""))
        self.calls.append(heard)
        try:
            await self._tell()
            if self._handshake is None:
                await self._listen(connection, heard, answer=lambda payload: asyncio.sleep(0))
            try:
                async with asyncio.timeout(self._handshake_delay_s):
                    await self._listen(connection, heard, answer=lambda payload: asyncio.sleep(0))
            except TimeoutError:
                heard.n_before_handshake = len(heard.messages)
            await connection.send(self._handshake or b"")
            await self._tell()
            await self._listen(connection, heard, await self._echo(connection, heard))
        except ConnectionClosed as closed:
            heard.close_code = closed.rcvd.code if closed.rcvd else 1006
            await self._tell()

    async def _listen(
        self, connection: ServerConnection, heard: Heard, answer: Callable[[bytes], Awaitable[None]]
    ) -> None:
        while True:
            message = await connection.recv()
            heard.messages.append(message)
            if isinstance(message, bytes) and message[:1] == b"\x01":
                await answer(message[1:])
            await self._tell()

    async def _echo(self, connection: ServerConnection, heard: Heard) -> Callable[[bytes], Awaitable[None]]:
        reader, writer = sphn.OpusStreamReader(RATE), sphn.OpusStreamWriter(RATE)
        waiting = np.zeros(0, np.float32)
        if self._early_headers:
            # sphn gives the headers with the first samples, and a packet only when it has 40 ms.
            await connection.send(b"\x01" + writer.append_pcm(np.zeros(480, np.float32)))

        async def answer(payload: bytes) -> None:
            nonlocal waiting
            for page in read_pages(payload):
                heard.pages.append(page)
                if self._strict and (not page.sound or page.bos != (len(heard.pages) == 1)):
                    await connection.close()
            samples = reader.append_bytes(payload)
            heard.samples.append(samples)
            waiting = np.concatenate([waiting, samples])
            while len(waiting) >= STEP:
                step, waiting = waiting[:STEP], waiting[STEP:]
                # When the client has left, what it had said before is still to be read.
                with suppress(ConnectionClosed):
                    await connection.send(b"\x01" + writer.append_pcm(step))
                    heard.n_steps += 1
                    await connection.send(b"\x02" + PIECES[(heard.n_steps - 1) % len(PIECES)].encode())
                if heard.n_steps == self._closes_after_steps:
                    await connection.close()
                if heard.n_steps == self._deaf_after_steps:
                    connection.transport.pause_reading()
                    await self._tell()
                    await connection.wait_closed()

        return answer

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
