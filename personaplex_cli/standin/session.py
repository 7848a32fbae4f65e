"""One call as the stand-in holds it: the user's audio in, step by step; the agent's audio and text out."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Final

from websockets.asyncio.server import ServerConnection

from personaplex_cli import __version__
from personaplex_cli.codec.ogg import Packet, PacketReader, StreamBegan
from personaplex_cli.codec.opus import OpusDecoder
from personaplex_cli.pcm import STEP_MS
from personaplex_cli.standin.behaviours import STEP_BYTES, Agent, Mute, Parrot, Step
from personaplex_cli.standin.faults import At, Faults
from personaplex_cli.standin.voice import VoiceStream
from personaplex_cli.wire.messages import Audio, Tag, Text, pack_audio, pack_text, parse

ERROR_TEXT: Final = "The stand-in was asked to report an error."


class Refused(Exception):
    """The client broke the protocol: the call is closed with code 1000, as the real servers do."""


class StandInSession:
    def __init__(self, connection: ServerConnection, faults: Faults) -> None:
        self._connection = connection
        self._faults = faults
        self._agent: Agent = Mute() if faults.silent else Parrot()
        self._hearing = Hearing()
        self._voice = VoiceStream(faults)
        self._steps = 0
        self._held: list[bytes] = []  # messages of a burst

    async def run(self) -> None:
        """Until the client leaves (ConnectionClosed), breaks the protocol, or a fault ends it."""
        await self._send_metadata()
        for payload in self._voice.headers():
            await self._send(pack_audio(payload))
        if self._faults.odd_messages:
            await self._send_odd_messages()
        try:
            while True:
                match parse(await self._connection.recv()):
                    case Audio(payload):
                        for heard in self._hearing.feed(payload):
                            await self._step(heard)
                    case Text(payload):
                        self._agent.read(payload.decode("utf-8", "replace"))
        except Refused:
            await self._connection.close()

    async def _step(self, heard: bytes) -> None:
        faults = self._faults
        if faults.stall and self._is_now(faults.stall):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(faults.stall.value):
                    await self._connection.wait_closed()
        if self._is_now(faults.drop):
            self._connection.transport.abort()
        if faults.close and self._is_now(faults.close):
            await self._connection.close(int(faults.close.value) or 1000)
        if self._is_now(faults.error):
            await self._send(bytes((Tag.ERROR,)) + ERROR_TEXT.encode())
        if self._is_now(faults.second_bos):
            for payload in self._voice.new_stream():
                await self._send(pack_audio(payload))
        step: Step = self._agent.step(heard)
        for payload in self._voice.step(step.pcm, damaged=self._is_now(faults.garbage)):
            await self._send(pack_audio(payload))
        for piece in step.pieces:
            await self._send(pack_text(piece))
        self._steps += 1

    def _is_now(self, moment: At | None) -> bool:
        return moment is not None and self._steps == _step(moment.at_s)

    async def _send(self, message: bytes) -> None:
        """At once, or at the end of a burst's silence."""
        burst = self._faults.burst
        if burst and _step(burst.at_s) <= self._steps < _step(burst.at_s + burst.value):
            self._held.append(message)
            return
        for held in (*self._held, message):
            await self._connection.send(held)
        self._held.clear()

    async def _send_metadata(self) -> None:
        about = {"server": "personaplex stand-in", "version": __version__}
        await self._send(bytes((Tag.METADATA,)) + json.dumps(about).encode())

    async def _send_odd_messages(self) -> None:
        await self._connection.send(b"\x7fwhat is this?")
        await self._connection.send(b"")
        await self._connection.send("a message of type text")
        await self._connection.send(bytes((Tag.PING,)))


def _step(at_s: float) -> int:
    """The number of the step that begins then."""
    return round(at_s * 1000 / STEP_MS)


class Hearing:
    """The client's audio stream → steps of PCM. As strict as NVIDIA's server: the stream begins with a BOS
    page that holds OpusHead, there is one such page, and no page is damaged."""

    def __init__(self) -> None:
        self._reader = PacketReader()
        self._decoder = OpusDecoder()
        self._packets = 0
        self._began = False
        self._pcm = b""

    def feed(self, payload: bytes) -> list[bytes]:
        """The steps that `payload` completes. Raises Refused."""
        for item in self._reader.feed(payload):
            match item:
                case StreamBegan() if not self._began:
                    self._began = True
                case Packet(data) if self._began:
                    self._pcm += self._decode(data)
                case _:
                    raise Refused
        if self._reader.resyncs or not self._began:
            raise Refused
        n_steps = len(self._pcm) // STEP_BYTES
        steps = [self._pcm[i * STEP_BYTES : (i + 1) * STEP_BYTES] for i in range(n_steps)]
        self._pcm = self._pcm[n_steps * STEP_BYTES :]
        return steps

    def _decode(self, packet: bytes) -> bytes:
        self._packets += 1
        if self._packets <= 2:
            if not packet.startswith((b"OpusHead", b"OpusTags")[self._packets - 1]):
                raise Refused
            return b""
        pcm = self._decoder.decode(packet)
        if pcm is None:
            raise Refused
        return pcm
