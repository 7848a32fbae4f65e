"""A server of the protocol that answers each step of 80 ms with the same step, at once: what a client adds to
a conversation can be measured against it. It shares nothing with the program: websockets and sphn.

    python scripts/echo_server.py

It takes a free port of 127.0.0.1 and tells on standard output, line by line and with the seconds of
`time.monotonic` (one clock for all processes of a machine): `port N`, then for each call, at the client's
first audio, `audio SECONDS`.

SIGUSR1 stalls the way to the server, and that way only: for 2 s nothing is read, while a step of silence goes
out every 80 ms. What was on its way is echoed afterwards, at once. The kernel's receive buffer is small, so
that a client's socket fills up as it does when a network stalls; a large one would take in seconds of Opus,
unseen. (A model's server would say nothing while it hears nothing; what comes on the way back then is as if
it had been stopped. Silence is harder on a client, which cannot tell by what it hears.)
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from contextlib import suppress

import numpy as np
import sphn
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

RATE = 24_000
STEP = 1920
"""Samples of one step of the model."""
STEP_S = STEP / RATE
STALL_S = 2.0
RECEIVE_BUFFER_BYTES = 4096
"""Linux doubles it, and counts each message with what it costs to keep: about ten of 20 ms."""

HANDSHAKE = b"\x00"
AUDIO = b"\x01"


def tell(what: str, value: object) -> None:
    print(what, value, flush=True)


class Conversation:
    """One connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._reader = sphn.OpusStreamReader(RATE)
        self._writer = sphn.OpusStreamWriter(RATE)
        self._waiting: NDArray[np.float32] = np.zeros(0, np.float32)

    async def run(self) -> None:
        await self._connection.send(HANDSHAKE)
        told = False
        async for message in self._connection:
            if not isinstance(message, bytes) or message[:1] != AUDIO:
                continue
            if not told:
                tell("audio", time.monotonic())
                told = True
            await self._echo(message[1:])

    async def _echo(self, payload: bytes) -> None:
        self._waiting = np.concatenate([self._waiting, self._reader.append_bytes(payload)])
        while len(self._waiting) >= STEP:
            step, self._waiting = self._waiting[:STEP], self._waiting[STEP:]
            await self._say(step)

    async def _say(self, step: NDArray[np.float32]) -> None:
        await self._connection.send(AUDIO + self._writer.append_pcm(step))

    async def stall(self) -> None:
        """Deaf for `STALL_S`, and not silent."""
        transport = self._connection.transport
        transport.pause_reading()
        begin_s = time.monotonic()
        with suppress(ConnectionClosed):
            for step in range(1, round(STALL_S / STEP_S) + 1):
                await self._say(np.zeros(STEP, np.float32))
                await asyncio.sleep(begin_s + step * STEP_S - time.monotonic())
        transport.resume_reading()


def listening_socket() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)  # connections inherit it
    listener.bind(("127.0.0.1", 0))
    return listener


async def main() -> None:
    conversations: list[Conversation] = []
    stalls: set[asyncio.Task[None]] = set()

    async def converse(connection: ServerConnection) -> None:
        conversation = Conversation(connection)
        conversations.append(conversation)
        with suppress(ConnectionClosed):  # the client leaves whenever it likes
            await conversation.run()
        conversations.remove(conversation)

    def stall_all() -> None:
        for conversation in conversations:
            task = asyncio.create_task(conversation.stall())
            stalls.add(task)
            task.add_done_callback(stalls.discard)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, stall_all)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    listener = listening_socket()
    async with serve(converse, sock=listener, ping_interval=None, compression=None, close_timeout=0.1):
        tell("port", listener.getsockname()[1])
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
