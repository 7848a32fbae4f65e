"""A call with a server that is not ours: moshi's shape, written with sphn.

Source and sink are fakes, so that a call takes a fraction of its time; encoder, socket and decoder are real.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

import pytest
import speech
from fakes import FakeSink
from moshi_server import TRANSCRIPT, Heard, MoshiServer
from ogg_pages import RATE, STEP, Samples, likeness, packet_ms, to_pcm, to_samples

from personaplex_cli.call import Call, Opening
from personaplex_cli.errors import ConnectError, ServerError
from personaplex_cli.events import (
    AgentText,
    CallEnded,
    CallState,
    DeviceCounters,
    EchoState,
    EndReason,
    Event,
    StateChanged,
    UserText,
)
from personaplex_cli.limits import Limits
from personaplex_cli.pcm import PACKET_BYTES, PACKET_SAMPLES, Block
from personaplex_cli.pipeline.websocket import VoiceSocket
from personaplex_cli.wire.endpoint import Dialect, build_endpoint

PERSONA = "You are a Wörterbuch & more."
PACE_S = 0.001
"""Between two blocks of 20 ms."""


class QuickSource:
    """A question, up to twenty times as fast as it was spoken, then silence."""

    silence_inserted = packets_dropped = echo_blocks_dropped = 0
    echo = EchoState.OFF
    device = DeviceCounters()

    def __init__(self, question: Samples) -> None:
        self._pcm = to_pcm(question)
        self.n_blocks = -(-len(self._pcm) // PACKET_BYTES)

    @property
    def finished(self) -> bool:
        return not self._pcm

    def start(self, reports: object) -> None: ...

    async def read(self) -> Block:
        await asyncio.sleep(PACE_S)
        pcm, self._pcm = self._pcm[:PACKET_BYTES], self._pcm[PACKET_BYTES:]
        return Block(pcm.ljust(PACKET_BYTES, b"\0"), asyncio.get_running_loop().time())

    def close(self) -> None: ...


@dataclass
class Result:
    ended: CallEnded
    heard: Heard
    events: list[Event]
    sink: FakeSink
    n_blocks: int
    """Of the question."""

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, AgentText))


def call(
    server: MoshiServer,
    *,
    opening: Opening | None = None,
    limits: Limits | None = None,
    hang_up_at: CallState | None = None,
    question: Samples | None = None,
) -> Result:
    """Until the input's end, or until we hang up: as soon as the call is in this state."""

    async def main() -> Result:
        async with server:
            endpoint = build_endpoint(Dialect.MOSHI, server.url, voice="NATF0", persona=PERSONA)
            events: list[Event] = []
            source, sink = QuickSource(speech.question() if question is None else question), FakeSink()

            def listen(event: Event) -> None:
                events.append(event)
                if isinstance(event, StateChanged) and event.state is hang_up_at:
                    one.hang_up()

            one = Call(
                lambda: VoiceSocket.connect(endpoint),
                source,
                sink,
                listen,
                limits=limits or Limits(tail_s=0.4),
                opening=opening or Opening(),
            )
            ended = await one.run()
            heard = await server.until(lambda heard: heard.close_code is not None)
            return Result(ended, heard, events, sink, source.n_blocks)

    return asyncio.run(main())


@pytest.fixture(scope="module")
def kyutai() -> Result:
    """A whole call: two texts, a bos marker, a handshake that takes a moment."""
    opening = Opening(("Good morning.", "Grüße ♥"), bos_marker=True)
    return call(MoshiServer(handshake_delay_s=0.2), opening=opening)


def test_ends_as_asked(kyutai: Result) -> None:
    assert kyutai.ended.reason is EndReason.INPUT_ENDED
    assert kyutai.ended.error is None


def test_address_and_parameters(kyutai: Result) -> None:
    assert kyutai.heard.path == (
        "/api/chat?voice_prompt=NATF0.pt&text_prompt=You%20are%20a%20W%C3%B6rterbuch%20%26%20more."
    )
    assert kyutai.heard.subprotocols == ""


def test_nothing_is_sent_before_the_handshake(kyutai: Result) -> None:
    assert kyutai.heard.n_before_handshake == 0


def test_first_the_marker_then_the_headers_then_the_texts_then_audio(kyutai: Result) -> None:
    pages = kyutai.heard.pages
    assert kyutai.heard.messages[:6] == [
        b"\x03bos",
        b"\x01" + pages[0].whole,
        b"\x01" + pages[1].whole,
        b"\x02Good morning.",
        "\x02Grüße ♥".encode(),
        b"\x01" + b"".join(page.whole for page in pages[2:6]),  # all of a step
    ]
    said = [event.text for event in kyutai.events if isinstance(event, UserText)]
    assert said == ["Good morning.", "Grüße ♥"]


def test_the_first_page_is_exactly_opus_head(kyutai: Result) -> None:
    head, tags = kyutai.heard.pages[:2]
    assert head.flags == 2 and tags.flags == 0
    assert head.granule == tags.granule == 0
    [packet] = head.packets
    magic, version, channels, pre_skip, rate, gain, mapping = struct.unpack("<8sBBHIhB", packet)
    assert (magic, version, channels, rate, gain, mapping) == (b"OpusHead", 1, 1, 24_000, 0, 0)
    assert 0 < pre_skip < 960  # the encoder's look-ahead: less than a packet
    assert tags.packets[0].startswith(b"OpusTags")


def test_then_a_page_for_each_packet_of_20_ms(kyutai: Result) -> None:
    pages = kyutai.heard.pages
    assert all(page.sound for page in pages)
    assert [page.number for page in pages] == list(range(len(pages)))
    assert len({page.serial for page in pages}) == 1
    audio = pages[2:]
    assert {len(page.packets) for page in audio} == {1}
    assert {packet_ms(page.packets[0]) for page in audio} == {20}
    assert [page.granule for page in audio] == [960 * (n + 1) for n in range(len(audio))]
    assert [page.eos for page in audio] == [False] * (len(audio) - 1) + [True]
    assert len(audio) == kyutai.ended.counters.packets_sent > kyutai.n_blocks


def test_what_we_say_is_understood(kyutai: Result) -> None:
    score, at_s = likeness(speech.question(), kyutai.heard.said)
    assert score > 0.8
    assert at_s < 0.02
    assert len(kyutai.heard.said) == kyutai.ended.counters.packets_sent * PACKET_SAMPLES


def test_what_the_server_says_is_heard(kyutai: Result) -> None:
    heard = to_samples(bytes(kyutai.sink.heard))
    assert likeness(speech.question(), heard)[0] > 0.8
    assert len(heard) == kyutai.heard.n_steps * STEP
    counters = kyutai.ended.counters
    assert (counters.streams, counters.holes, counters.packets_bad, counters.messages_skipped) == (1, 0, 0, 0)
    assert counters.packets_dropped == counters.payloads_dropped == 0


def test_the_transcript_is_put_together(kyutai: Result) -> None:
    rounds, rest = divmod(kyutai.heard.n_steps, 8)
    assert kyutai.text.startswith(TRANSCRIPT * rounds)
    assert rounds >= 1
    assert len(kyutai.text) <= len(TRANSCRIPT) * (rounds + bool(rest))


def test_says_goodbye_in_order(kyutai: Result) -> None:
    kyutai.heard.check_end()


@pytest.mark.parametrize("handshake", [b"\x00\x00", b"\x00" + struct.pack("<II", 1, 7)])
def test_nvidia(handshake: bytes) -> None:
    server = MoshiServer(handshake=handshake, handshake_delay_s=0.1, early_headers=True, strict=True)
    question = speech.question()[: RATE // 2]
    result = call(server, question=question)
    assert result.ended.error is None
    assert result.heard.n_before_handshake == 0
    assert result.heard.messages[0] == b"\x01" + result.heard.pages[0].whole
    assert likeness(question, to_samples(bytes(result.sink.heard)))[0] > 0.8
    result.heard.check_end()


def test_hanging_up_at_once() -> None:
    result = call(MoshiServer(), hang_up_at=CallState.LIVE)
    assert result.ended.reason is EndReason.HUNG_UP
    assert result.ended.error is None
    result.heard.check_end()


def test_hanging_up_before_the_handshake_sends_nothing_but_the_close() -> None:
    result = call(MoshiServer(handshake=None), hang_up_at=CallState.WAITING)
    assert result.ended.reason is EndReason.HUNG_UP
    assert (result.heard.messages, result.heard.close_code) == ([], 1000)


def test_a_handshake_that_never_comes() -> None:
    result = call(MoshiServer(handshake=None), limits=Limits(handshake_s=0.2))
    assert isinstance(result.ended.error, ConnectError)
    assert (result.heard.messages, result.heard.close_code) == ([], 1000)


def test_a_server_that_closes_soon_did_not_like_our_audio() -> None:
    result = call(MoshiServer(closes_after_steps=2))
    assert result.ended.reason is EndReason.SERVER_CLOSED
    assert isinstance(result.ended.error, ServerError)
    assert len(result.sink.heard) == 2 * STEP * 2
