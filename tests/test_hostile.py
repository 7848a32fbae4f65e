"""Servers that mean harm, machines that fail: what attacking the program has found stays found."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import html
import json
import struct
import threading
from pathlib import Path

import pytest
from fakes import FakeSink, FakeSocket, FakeSource, Heard, run_virtual

from personaplex_cli.call import MAX_TEXT_CHARS, MAX_USELESS, Call, Opening
from personaplex_cli.codec.stream import StreamEncoder
from personaplex_cli.echo import Echo
from personaplex_cli.errors import ServerError, UsageError
from personaplex_cli.events import AgentText, CallEnded, EndReason, Event, Notice
from personaplex_cli.limits import Limits
from personaplex_cli.pcm import PACKET_SAMPLES, SAMPLE_RATE, STEP_SAMPLES, silence
from personaplex_cli.pipeline.files import FileSource
from personaplex_cli.pipeline.playback import QUEUE_BYTES, Playback
from personaplex_cli.pipeline.playout import UNHEARD_SAMPLES, Playout
from personaplex_cli.pipeline.websocket import SocketClosed, VoiceSocket
from personaplex_cli.soundcard import SpeakerSink
from personaplex_cli.threads import in_thread
from personaplex_cli.ui import view
from personaplex_cli.ui.screen import MAX_WAITING_EVENTS, Screen
from personaplex_cli.wire.endpoint import Dialect, build_endpoint
from personaplex_cli.wire.session import MAX_WORDS_CHARS, SESSION_S, Session
from personaplex_cli.wire.text import redact, safe_text

HANDSHAKE = b"\x00"
PERSONA = 'You are "Secret Bob"\nand like café & cake, more than you would ever say.'


def call_with(socket: FakeSocket, events: list[Event]) -> Call:
    async def connect() -> FakeSocket:
        return socket

    return Call(connect, FakeSource(), FakeSink(), events.append, limits=Limits(), opening=Opening())


def hold(socket: FakeSocket, *, hang_up_after_s: float) -> tuple[CallEnded, list[Event]]:
    events: list[Event] = []

    async def main() -> CallEnded:
        call = call_with(socket, events)
        asyncio.get_running_loop().call_later(hang_up_after_s, call.hang_up)
        return await call.run()

    return run_virtual(main()), events


# --- floods


def test_a_million_dots_are_a_sentence_like_any_other() -> None:
    state = view.ViewState()
    for _ in range(10):
        state = view.reduce(state, AgentText(0.0, "." * 100_000))
    lines, _ = view.take_finished(view.flush(state))
    assert sum(len(line.text) for line in lines) == 1_000_000


def test_a_long_text_reaches_listeners_in_parts() -> None:
    socket = FakeSocket()
    for message in (HANDSHAKE, b"\x02" + b"x" * 10_000):
        socket.say(message)
    _, events = hold(socket, hang_up_after_s=1)
    texts = [event.text for event in events if isinstance(event, AgentText)]
    assert "".join(texts) == "x" * 10_000 and max(map(len, texts)) == MAX_TEXT_CHARS


@pytest.mark.parametrize("message", [b"", b"\x7f", b"\x05e", "text"])
def test_messages_of_no_use_end_the_call_some_time(message: bytes | str) -> None:
    socket = FakeSocket()
    socket.say(HANDSHAKE)
    for _ in range(2 * MAX_USELESS):
        socket.say(message)
    ended, events = hold(socket, hang_up_after_s=60)
    assert ended.reason is EndReason.SERVER_ERROR
    assert isinstance(ended.error, ServerError) and "of no use" in str(ended.error)
    assert len([event for event in events if isinstance(event, Notice)]) <= 1


def test_a_flood_does_not_keep_the_loop_to_itself() -> None:
    class Flood(FakeSocket):
        async def receive(self) -> bytes | str:
            return HANDSHAKE if not self.aborted else await super().receive()  # never waits

        async def close(self) -> None:
            self.closed = True

    socket = Flood()
    events: list[Event] = []

    async def main() -> CallEnded:
        call = call_with(socket, events)
        asyncio.get_running_loop().call_soon(call.hang_up)
        return await call.run()

    assert asyncio.run(main()).reason in (EndReason.HUNG_UP, EndReason.SERVER_ERROR)


def test_what_waits_for_a_screen_is_bounded() -> None:
    class Stopped:
        failure_ends_call = True
        eager = False
        goes_on = threading.Event()

        def update(self, events: object, now_s: float) -> None:
            self.goes_on.wait()

        def leave(self, lines: object) -> None: ...

        def finish(self, last_lines: object) -> None: ...

        def give_up(self, last_lines: object) -> None: ...

    screen = Screen(Stopped(), lambda: 0.0)
    with pytest.raises(BlockingIOError):
        for _ in range(MAX_WAITING_EVENTS + 2):
            screen.listen(AgentText(0.0, "x"))
    Stopped.goes_on.set()
    screen.close(10)


def test_the_playback_queue_is_bounded_in_bytes() -> None:
    goes_on = threading.Event()

    def write(pcm: bytes, arrived_s: float) -> None:
        goes_on.wait()

    playback = Playback(write, lambda error: None)
    encoder = StreamEncoder(1)
    for page in (*encoder.headers(), encoder.page(silence(PACKET_SAMPLES))):
        playback.feed(page, 0.0)
    for _ in range(10):
        playback.feed(bytes(QUEUE_BYTES // 4), 0.0)
    assert 5 <= playback.payloads_dropped <= 9
    goes_on.set()
    assert playback.close(10)


# --- what the server echoes


@pytest.mark.parametrize(
    "echo",
    [
        json.dumps({"input": PERSONA}),
        json.dumps({"input": PERSONA}, ensure_ascii=False),
        html.escape(safe_text(PERSONA)),
        PERSONA[:40],
        PERSONA[20:],
        f"bad: {PERSONA[5:30]}…",
    ],
)
def test_no_form_or_part_of_a_secret_is_shown(echo: str) -> None:
    shown = redact(echo, (PERSONA,))
    for at in range(len(PERSONA) - 16):
        assert PERSONA[at : at + 16] not in shown
    assert "[hidden]" in shown and "Secret" not in shown


def test_an_error_message_is_cut() -> None:
    session = Session()
    session.receive(HANDSHAKE, 0.0)
    message = session.receive(b"\x05" + b"no " * 100_000, 0.0)
    assert len(getattr(message, "text")) == MAX_WORDS_CHARS  # noqa: B009


def test_marks_without_end_on_one_letter_are_cut_short() -> None:
    shown = safe_text("a" + "\u0301" * 1000)
    assert shown.count("\u0301") == 8 and len(shown) == 1001


# --- how a server may end


@pytest.mark.parametrize(
    ("code", "live_s", "reason"),
    [
        (1005, 60.0, EndReason.SERVER_CLOSED),
        (1006, SESSION_S, EndReason.SERVER_CLOSED),
        (1006, SESSION_S - 60, EndReason.CONNECTION_LOST),
    ],
)
def test_ends_that_are_none_of_an_error(code: int, live_s: float, reason: EndReason) -> None:
    session = Session()
    session.opened(0.0)
    session.receive(HANDSHAKE, 1.0)
    session.pack_audio(b"OggS", 1.0)
    story = session.explain_close(code, "", 1.0 + live_s)
    assert story.reason is reason
    assert (story.error is None) == (reason is EndReason.SERVER_CLOSED)


async def _lingering_server(last_bytes: bytes) -> tuple[asyncio.Server, int]:
    """Upgrades, sends `last_bytes`, and keeps the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line for line in request.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        guid = key.split(": ")[1] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(guid.encode()).digest()).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
            + last_bytes
        )
        with contextlib.suppress(ConnectionError):
            await reader.read()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("last_bytes", "code"),
    [
        (b"\x88\x08" + struct.pack(">H", 4401) + b"stale!", 4401),
        (b"\x88\x00", 1005),
        (b"\x83\x00", 1002),  # an opcode that RFC 6455 reserves
    ],
)
def test_a_server_that_closes_and_stays_is_left_soon(last_bytes: bytes, code: int) -> None:
    async def main() -> int:
        server, port = await _lingering_server(last_bytes)
        endpoint = build_endpoint(Dialect.MOSHI, f"ws://127.0.0.1:{port}", voice="NATF0", persona=None)
        voice = await VoiceSocket.connect(endpoint)
        with pytest.raises(SocketClosed) as closed:
            async with asyncio.timeout(5):  # websockets alone would wait for 10 s
                await voice.receive()
        voice.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)  # for the server's side of the connection to end
        return closed.value.code

    assert asyncio.run(main()) == code


# --- what fails on this side


def test_a_hang_up_before_the_headers_are_out_sends_no_broken_stream() -> None:
    class Slow(FakeSocket):
        async def send(self, message: bytes) -> None:
            await asyncio.sleep(0.5)
            await super().send(message)

    socket = Slow()
    socket.say(HANDSHAKE)
    ended, _ = hold(socket, hang_up_after_s=0.7)
    assert ended.reason is EndReason.HUNG_UP
    assert len(socket.sent) == 1 and socket.closed  # the BOS page, and nothing that could not follow it


def test_a_fault_of_the_decoder_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = []
    playback = Playback(lambda pcm, arrived_s: None, failures.append)

    def broken(data: bytes) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(playback.decoder, "feed", broken)
    playback.feed(b"OggS", 0.0)
    assert playback.close(10)
    assert [type(error) for error in failures] == [ZeroDivisionError]


@pytest.mark.parametrize("rate", [1, 2, 2**31 - 1])
def test_a_sample_rate_that_cannot_be_is_refused(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    data = bytes(2000)
    fields = struct.pack("<HHIIHH", 1, 1, rate, min(rate * 2, 2**32 - 1), 2, 16)
    path.write_bytes(
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + fields
        + b"data" + struct.pack("<I", len(data)) + data
    )  # fmt: skip
    with pytest.raises(UsageError, match="sample rate"):
        FileSource(path)


def test_work_in_a_thread_gives_its_result_or_its_error() -> None:
    def fail() -> None:
        raise UsageError("no")

    async def main() -> int:
        with pytest.raises(UsageError):
            await in_thread(fail, name="test")
        return await in_thread(lambda: 42, name="test")

    assert asyncio.run(main()) == 42


def test_work_in_a_thread_that_hangs_can_be_left() -> None:
    goes_on = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await in_thread(goes_on.wait, name="test")

    asyncio.run(main())
    goes_on.set()  # what it comes to after the loop is closed is thrown away


def test_a_device_that_hangs_fills_no_memory_and_what_is_old_is_not_heard_later() -> None:
    playout = Playout()
    for step in range(1000):  # eighty seconds that nobody pulls
        playout.push(silence(STEP_SAMPLES), 0.08 * step)
    assert playout.held_samples <= UNHEARD_SAMPLES
    assert playout.pushed_samples + playout.refused_samples == 1000 * STEP_SAMPLES
    playout.pull(STEP_SAMPLES, 80.0)
    playout.pull(STEP_SAMPLES, 80.08)
    assert playout.held_samples < SAMPLE_RATE / 2  # it goes on with what is new


@pytest.mark.usefixtures("card")
def test_closing_a_speaker_that_hangs_waits_for_no_more_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    sink = SpeakerSink(None, 300, Echo())
    sink.start(Heard().reports)
    for step in range(1000):
        sink.write(silence(STEP_SAMPLES), 0.08 * step)
    monkeypatch.setattr("personaplex_cli.soundcard.time.sleep", slept.append)
    sink.close()
    sink.close()
    assert slept == [0.3]
    assert sink.playout.dropped_ms > 60_000
