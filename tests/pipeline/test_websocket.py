"""The socket on loopback: what is sent, how it ends, how much it holds. `test_websocket_refused.py` has the
connections that are never made."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from personaplex_cli.pipeline import websocket as station
from personaplex_cli.pipeline.websocket import SocketClosed, VoiceSocket
from personaplex_cli.tls import tls_context
from personaplex_cli.wire.endpoint import Dialect, Endpoint, TokenIn, build_endpoint

TOKEN = "header.claims.signature-0123456789"
PERSONA = "You are Ada & know everything."
CERTIFICATE = Path(__file__).parents[1] / "fixtures" / "tls" / "loopback.pem"
LIMIT_S = 10.0

Handler = Callable[[ServerConnection], Awaitable[None]]


def endpoint(server: str, token_in: TokenIn = TokenIn.HEADER) -> Endpoint:
    return build_endpoint(
        Dialect.POLARGRID, server, voice="NATF0", persona=PERSONA, token=TOKEN, token_in=token_in
    )


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_suffix(".key"))
    return context


@asynccontextmanager
async def listening(handler: Handler, **options: Any) -> AsyncIterator[str]:
    """A server that picks our subprotocol, as PolarGrid's does, and offers pings and compression."""
    options.setdefault("select_subprotocol", lambda connection, offered: offered[0] if offered else None)
    logger = logging.getLogger("tests.silent")
    logger.disabled = True
    scheme = "wss" if "ssl" in options else "ws"
    async with serve(handler, "127.0.0.1", 0, ping_interval=None, logger=logger, **options) as server:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def run(
    test: Callable[[VoiceSocket], Awaitable[None]],
    handler: Handler,
    *,
    token_in: TokenIn = TokenIn.HEADER,
    **options: Any,
) -> None:
    """The test with a socket that is connected to the handler."""

    async def main() -> None:
        tls = tls_context(CERTIFICATE, insecure=False) if "ssl" in options else None
        async with asyncio.timeout(LIMIT_S), listening(handler, **options) as url:
            voice_socket = await VoiceSocket.connect(endpoint(url, token_in), tls)
            try:
                await test(voice_socket)
            finally:
                voice_socket.abort()

    asyncio.run(main())


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.mark.parametrize("tls", [False, True])
def test_messages_go_both_ways(tls: bool) -> None:
    async def test(voice_socket: VoiceSocket) -> None:
        for message in (b"\1page", b"", b"x" * 100_000):
            await voice_socket.send(message)
            assert await voice_socket.receive() == message
        await voice_socket.close()

    if tls:
        run(test, echo, ssl=server_tls())
    else:
        run(test, echo)


def test_a_text_message_is_a_str() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("hello")
        await connection.wait_closed()

    async def test(voice_socket: VoiceSocket) -> None:
        assert await voice_socket.receive() == "hello"

    run(test, handler)


@pytest.mark.parametrize("token_in", [TokenIn.HEADER, TokenIn.QUERY])
def test_what_the_server_gets_to_see(token_in: TokenIn) -> None:
    seen: list[Any] = []

    async def handler(connection: ServerConnection) -> None:
        seen.append(connection.request)

    async def test(voice_socket: VoiceSocket) -> None:
        with pytest.raises(SocketClosed):
            await voice_socket.receive()

    run(test, handler, token_in=token_in)
    [request] = seen
    path = "/v1/voice/personaplex?voice=NATF0&persona=You%20are%20Ada%20%26%20know%20everything."
    if token_in is TokenIn.HEADER:
        assert request.path == path
        assert request.headers["Sec-WebSocket-Protocol"] == f"bearer.{TOKEN}"
    else:
        assert request.path == f"{path}&token={TOKEN}"
        assert "Sec-WebSocket-Protocol" not in request.headers
    assert "Sec-WebSocket-Extensions" not in request.headers  # no compression is offered
    assert "Authorization" not in request.headers


def test_a_server_that_does_not_choose_the_subprotocol_is_fine() -> None:
    async def test(voice_socket: VoiceSocket) -> None:
        await voice_socket.send(b"\1")
        assert await voice_socket.receive() == b"\1"

    run(test, echo, select_subprotocol=lambda connection, offered: None)


def test_the_token_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(voice_socket: VoiceSocket) -> None:
        await voice_socket.send(b"\1")
        await voice_socket.receive()

    run(test, echo)
    assert TOKEN not in caplog.text and "persona=" not in caplog.text


# --- the end


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1000, "bye"), (1001, ""), (1008, "policy"), (1011, "error"), (4321, "x")],
)
def test_the_server_s_close_code_and_reason(code: int, reason: str) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.close(code, reason)

    async def test(voice_socket: VoiceSocket) -> None:
        for use in (voice_socket.receive(), voice_socket.send(b"late"), voice_socket.receive()):
            with pytest.raises(SocketClosed) as caught:
                await use
            assert (caught.value.code, caught.value.reason) == (code, reason)

    run(test, handler)


def test_a_drop_without_a_word_is_1006() -> None:
    async def handler(connection: ServerConnection) -> None:
        connection.transport.abort()

    async def test(voice_socket: VoiceSocket) -> None:
        with pytest.raises(SocketClosed) as caught:
            await voice_socket.receive()
        assert (caught.value.code, caught.value.reason) == (1006, "")

    run(test, handler)


def test_closing_says_1000_and_receiving_ends() -> None:
    closes: list[tuple[int | None, str | None]] = []

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        closes.append((connection.close_code, connection.close_reason))

    async def test(voice_socket: VoiceSocket) -> None:
        await voice_socket.close()
        await voice_socket.close()
        with pytest.raises(SocketClosed) as caught:
            await voice_socket.receive()
        assert caught.value.code == 1000

    run(test, handler)
    assert closes == [(1000, "")]


def test_what_the_server_says_while_we_close_is_not_lost() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(b"last words")
        await connection.wait_closed()

    async def test(voice_socket: VoiceSocket) -> None:
        await voice_socket.send(b"eos")
        await asyncio.sleep(0.05)
        await voice_socket.close()
        assert await voice_socket.receive() == b"last words"
        with pytest.raises(SocketClosed):
            await voice_socket.receive()

    run(test, handler)


def test_aborting_frees_whoever_waits() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async def test(voice_socket: VoiceSocket) -> None:
        receiving = asyncio.ensure_future(voice_socket.receive())
        await asyncio.sleep(0)
        voice_socket.abort()
        with pytest.raises(SocketClosed) as caught:
            await receiving
        assert caught.value.code == 1006
        with pytest.raises(SocketClosed):
            await voice_socket.send(b"late")
        voice_socket.abort()

    run(test, handler)


# --- servers that do not read: raw sockets, so that nothing but the kernel takes what is sent


class RawServer:
    """Upgrades one connection, then does nothing more than a test tells it."""

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._listener, self._tls = listener, tls
        self.connection: Any = None
        self.upgraded = threading.Event()
        self.url = f"ws{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}"

    def accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(LIMIT_S)
        self.connection = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += self.connection.recv(65536)
        key = next(
            line.split(b":")[1].strip()
            for line in request.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key:")
        )
        accept = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n"
        )
        self.upgraded.set()


@contextmanager
def raw_server(*, tls: bool) -> Iterator[RawServer]:
    """Its kernel holds as little as it can be told to: what it acknowledges has left our machine, whoever
    reads it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = RawServer(listener, server_tls() if tls else None)
        thread = threading.Thread(target=server.accept)
        thread.start()
        try:
            yield server
        finally:
            thread.join(LIMIT_S)
            if server.connection:
                server.connection.close()


def with_raw_server(
    test: Callable[[VoiceSocket, RawServer], Awaitable[None]], *, tls: bool, limit_s: float = LIMIT_S
) -> None:
    async def main(server: RawServer) -> None:
        context = tls_context(CERTIFICATE, insecure=False) if tls else None
        async with asyncio.timeout(limit_s):
            voice_socket = await VoiceSocket.connect(endpoint(server.url), context)
            try:
                await test(voice_socket, server)
            finally:
                voice_socket.abort()

    with raw_server(tls=tls) as server:
        asyncio.run(main(server))


async def send_until_it_blocks(voice_socket: VoiceSocket, message: bytes, limit_bytes: int) -> int:
    """How many bytes of messages were taken; stops beyond the limit."""
    taken = 0
    while taken < limit_bytes:
        try:
            async with asyncio.timeout(0.3):
                await voice_socket.send(message)
        except TimeoutError:
            break
        taken += len(message)
    return taken


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_server_that_does_not_read_stops_us_soon(tls: bool) -> None:
    """16 kB would be three seconds of our audio. What is taken lies in the server's kernel, not in ours."""

    async def test(voice_socket: VoiceSocket, server: RawServer) -> None:
        taken = await send_until_it_blocks(voice_socket, b"x" * 100, 64_000)
        assert 0 < taken < 16_000

    with_raw_server(test, tls=tls)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_sending_goes_on_when_the_server_reads_again(tls: bool) -> None:
    async def test(voice_socket: VoiceSocket, server: RawServer) -> None:
        await send_until_it_blocks(voice_socket, b"x" * 100, 64_000)
        sending = asyncio.ensure_future(voice_socket.send(b"more"))
        await asyncio.sleep(0.02)
        assert not sending.done()
        server.connection.settimeout(0.02)
        while not sending.done():
            with suppress(TimeoutError):
                await asyncio.to_thread(server.connection.recv, 4096)
        await sending

    with_raw_server(test, tls=tls)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_sending_does_not_wait_for_an_answer(tls: bool) -> None:
    """A server speaks only after some steps of ours: the first packets have to leave without a word of it."""

    async def test(voice_socket: VoiceSocket, server: RawServer) -> None:
        for _ in range(20):
            await voice_socket.send(b"x" * 100)

    with_raw_server(test, tls=tls)


def test_aborting_frees_a_send_that_waits() -> None:
    async def test(voice_socket: VoiceSocket, server: RawServer) -> None:
        await send_until_it_blocks(voice_socket, b"x" * 100, 64_000)
        sending = asyncio.ensure_future(voice_socket.send(b"x" * 100_000))
        await asyncio.sleep(0.02)
        assert not sending.done()
        voice_socket.abort()
        with suppress(SocketClosed):
            await sending

    with_raw_server(test, tls=False)


def test_a_drop_while_a_send_waits_for_the_kernel_is_told_by_the_next_one() -> None:
    async def test(voice_socket: VoiceSocket, server: RawServer) -> None:
        sending = asyncio.ensure_future(send_until_it_blocks(voice_socket, b"x" * 100, 64_000))
        await asyncio.sleep(0.05)
        voice_socket.abort()
        with pytest.raises(SocketClosed):
            await sending

    with_raw_server(test, tls=False)


def test_no_ping_is_ever_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that the server gets, every byte is accounted for. The library's own interval of 20 s, were it
    on, passes: its clock is the loop's, which is put forward."""

    async def test(voice_socket: VoiceSocket, server: RawServer) -> None:
        loop = asyncio.get_running_loop()
        await voice_socket.send(b"one")
        await asyncio.sleep(0.01)  # such a task would have begun
        real = loop.time
        monkeypatch.setattr(loop, "time", lambda: real() + 100)
        await asyncio.sleep(0.05)
        await voice_socket.send(b"two")
        monkeypatch.undo()
        received = b""
        while len(received) < 2 * (2 + 4 + 3):
            received += await asyncio.to_thread(server.connection.recv, 4096)
        assert received[:2] == received[9:11] == b"\x82\x83"  # binary, masked, three bytes
        assert len(received) == 18

    with_raw_server(test, tls=False, limit_s=1000)


# --- the options of the socket


def test_the_socket_is_kept_alive_and_holds_nothing_unsent() -> None:
    async def test(voice_socket: VoiceSocket) -> None:
        sock = voice_socket._socket
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 1

    run(test, echo)


def test_systems_without_such_options_get_a_small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TCP_NOTSENT_LOWAT", "TCP_KEEPIDLE", "TCP_KEEPALIVE"):
        monkeypatch.delattr(socket, name, raising=False)

    async def test(voice_socket: VoiceSocket) -> None:
        size = voice_socket._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert station.SEND_BUFFER_BYTES <= size <= 2 * station.SEND_BUFFER_BYTES
        await voice_socket.send(b"\1")
        assert await voice_socket.receive() == b"\1"

    run(test, echo)


def test_a_proxy_in_the_environment_is_not_used_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def test(voice_socket: VoiceSocket) -> None:
        await voice_socket.send(b"\1")
        assert await voice_socket.receive() == b"\1"

    run(test, echo)


def test_subprotocols_are_sent_as_they_are() -> None:
    assert endpoint("ws://127.0.0.1:1").subprotocol == Subprotocol(f"bearer.{TOKEN}")
