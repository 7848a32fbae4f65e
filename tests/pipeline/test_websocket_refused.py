"""Connections that are never made: each in words, of the right class, without a secret."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from personaplex_cli.errors import (
    ConnectError,
    CredentialsError,
    ExitCode,
    PersonaplexError,
    ServerError,
)
from personaplex_cli.pipeline import websocket as station
from personaplex_cli.pipeline.websocket import VoiceSocket
from personaplex_cli.tls import tls_context
from personaplex_cli.wire.endpoint import Dialect, Endpoint, TokenIn, build_endpoint

TOKEN = "header.claims.signature-0123456789"
PERSONA = "You are Ada & know everything."
CERTIFICATE = Path(__file__).parents[1] / "fixtures" / "tls" / "loopback.pem"
LIMIT_S = 10.0

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def endpoint(server: str, token_in: TokenIn = TokenIn.QUERY) -> Endpoint:
    return build_endpoint(
        Dialect.POLARGRID, server, voice="NATF0", persona=PERSONA, token=TOKEN, token_in=token_in
    )


async def fail_to_connect(where: Endpoint, tls: ssl.SSLContext | None = None) -> PersonaplexError:
    """The error. Nothing that can be shown of it holds a secret or an escape sequence."""
    with pytest.raises(PersonaplexError) as caught:
        async with asyncio.timeout(LIMIT_S):
            await VoiceSocket.connect(where, tls)
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + (error.hint or "")
    for secret in (TOKEN, PERSONA, "Ada", "persona=", "\x1b", "\x07", "\n\n"):
        assert secret not in shown
    return error


@asynccontextmanager
async def serving(answer: Answer, **options: Any) -> AsyncIterator[int]:
    """A server that does `answer`. The port; nothing of it is left afterwards."""
    tasks: list[asyncio.Task[Any] | None] = []

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            try:
                await answer(reader, writer)
            finally:
                writer.close()
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    # What goes wrong in the handshake is the client's to tell.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with await asyncio.start_server(answered, "127.0.0.1", 0, **options) as server:
        yield server.sockets[0].getsockname()[1]
        for task in filter(None, tasks):
            await task


def refused(answer: Answer, *, tls: ssl.SSLContext | None = None, **options: Any) -> PersonaplexError:
    """How a connection to a server that does `answer` fails, with TLS if `tls` says how it is checked."""

    async def main() -> PersonaplexError:
        async with serving(answer, **options) as port:
            return await fail_to_connect(endpoint(f"ws{'s' if tls else ''}://127.0.0.1:{port}"), tls)

    return asyncio.run(main())


async def request(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def http(status: int, body: bytes, headers: str = "") -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        head = f"HTTP/1.1 {status} Anything\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


ECHO = f"\x1b[31mNo!\x1b]0;owned\x07 token={TOKEN}\n persona={PERSONA}&{Endpoint.__name__}".encode()


@pytest.mark.parametrize(
    ("status", "kind", "words", "hint"),
    [
        (400, ServerError, "did not understand the request", None),
        (401, CredentialsError, "the token was refused", "get a new one"),
        (403, CredentialsError, "the token does not allow this", "get a new one"),
        (404, ServerError, "there is no voice endpoint", "--server"),
        (405, ServerError, "does not take WebSocket connections", None),
        (407, ServerError, "the proxy wants credentials", None),
        (410, ServerError, "no longer at this address", "--server"),
        (418, ServerError, "the server refused", None),
        (421, ServerError, "belongs to another server", None),
        (422, ServerError, "did not accept a parameter", None),
        (426, ServerError, "wants another protocol", None),
        (429, ServerError, "too many sessions or requests", "again in a while"),
        (500, ServerError, "the server failed", "again in a while"),
        (502, ServerError, "the gateway has no server behind it", "again in a while"),
        (503, ServerError, "the server is not available", "again in a while"),
        (504, ServerError, "the gateway got no answer in time", "again in a while"),
        (599, ServerError, "the server failed", "again in a while"),
    ],
)
def test_each_http_status_has_its_words(
    status: int, kind: type[PersonaplexError], words: str, hint: str | None
) -> None:
    error = refused(http(status, ECHO.replace(b"persona=", b"text ")))
    assert type(error) is kind
    assert error.exit_code == (ExitCode.CREDENTIALS if kind is CredentialsError else ExitCode.SERVER)
    assert words in str(error) and f"(HTTP {status}). It says: " in str(error)
    assert str(error).count("[hidden]") == 2
    assert "\n" not in str(error)
    assert hint in (error.hint or "") if hint else error.hint is None


def test_a_status_without_a_body() -> None:
    assert str(refused(http(503, b""))).endswith("the server is not available (HTTP 503).")


def test_a_long_body_is_cut() -> None:
    error = refused(http(400, b"a" * 5000))
    assert "a" * 200 in str(error) and "a" * 201 not in str(error)


def test_a_secret_at_the_cut_is_not_shown_in_part() -> None:
    error = refused(http(400, b"a" * 190 + TOKEN.encode()))
    assert TOKEN[:6] not in str(error)


def test_a_body_that_is_no_text() -> None:
    error = refused(http(400, bytes(range(256))))
    assert "(HTTP 400)" in str(error)
    assert str(error).isprintable()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    visited: list[str] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visited.append("elsewhere")

    async def main() -> PersonaplexError:
        async with serving(elsewhere) as other:
            location = f"Location: ws://127.0.0.1:{other}/{TOKEN}\r\n"
            async with serving(http(status, b"", location)) as port:
                return await fail_to_connect(endpoint(f"ws://127.0.0.1:{port}"))

    error = asyncio.run(main())
    assert type(error) is ServerError and f"redirects elsewhere (HTTP {status})" in str(error)
    assert "the token would go along" in (error.hint or "")
    assert visited == []


def test_a_port_nobody_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = asyncio.run(fail_to_connect(endpoint(f"ws://127.0.0.1:{port}")))
    assert type(error) is ConnectError and error.exit_code == ExitCode.CONNECTION
    assert str(error) == f"ws://127.0.0.1:{port} refused the connection."


def resolves_to(monkeypatch: pytest.MonkeyPatch, *outcome: Any) -> None:
    """Names resolve to these addresses, or fail with this error."""

    async def getaddrinfo(self: object, *args: object, **kwargs: object) -> Any:
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in outcome]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


def test_a_name_with_two_addresses_that_both_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """As localhost has: asyncio makes one error of two then, of another class."""
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        addresses = [a.getsockname(), b.getsockname()]
    resolves_to(monkeypatch, *addresses)
    error = asyncio.run(fail_to_connect(endpoint("ws://localhost:8998")))
    assert "refused the connection" in str(error)


def test_a_name_that_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    error = asyncio.run(fail_to_connect(endpoint("wss://api.nowhere.invalid")))
    assert type(error) is ConnectError
    assert str(error) == "The name in wss://api.nowhere.invalid cannot be found (DNS)."


@pytest.mark.parametrize("host", ["api..example.invalid", "a" * 64 + ".invalid"])
def test_a_name_that_cannot_be(host: str) -> None:
    error = asyncio.run(fail_to_connect(endpoint(f"wss://{host}")))
    assert "(DNS)" in str(error)


def test_a_network_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, OSError(errno.ENETUNREACH, "Network is unreachable"))
    error = asyncio.run(fail_to_connect(endpoint("wss://api.example.invalid")))
    assert type(error) is ConnectError and "cannot be reached: Network is unreachable" in str(error)


def test_what_nobody_thought_of(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, OSError(f"something with {TOKEN}"))
    error = asyncio.run(fail_to_connect(endpoint("wss://api.example.invalid")))
    assert str(error) == "wss://api.example.invalid cannot be reached (OSError)."


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "CONNECT_TIMEOUT_S", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    error = refused(silent)
    assert type(error) is ConnectError and "did not answer within 0.1 s" in str(error)


@pytest.mark.parametrize(
    "garbage",
    [
        b"220 mail.example ESMTP\r\n\r\n",
        b"\x16\x03\x01" + bytes(200),
        b"HTTP/1.1 101\r\n",
        b"HTTP/1.1 \x1b[31m OK\r\n\r\n",
        b"",
    ],
)
def test_a_server_that_answers_something_else_or_nothing(garbage: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(garbage)
        await writer.drain()

    error = refused(answer)
    assert type(error) is ConnectError and "without a valid answer" in str(error)


def test_a_server_that_hangs_up_at_once() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    assert type(refused(answer)) is ConnectError


@pytest.mark.parametrize(
    "headers",
    [
        "",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n",
        f"Upgrade: {TOKEN}\r\nConnection: Upgrade\r\n",
    ],
)
def test_an_upgrade_that_is_none(headers: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n".encode())
        await writer.drain()

    error = refused(answer)
    assert type(error) is ServerError and "not as a WebSocket server does" in str(error)


# --- TLS


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_suffix(".key"))
    return context


@pytest.mark.parametrize("given", [True, False])
def test_a_certificate_that_nobody_vouches_for(given: bool) -> None:
    async def main() -> PersonaplexError:
        async with serving(http(503, b""), ssl=server_tls()) as port:
            tls = tls_context(None, insecure=False) if given else None
            return await fail_to_connect(endpoint(f"wss://127.0.0.1:{port}"), tls)

    error = asyncio.run(main())
    assert type(error) is ConnectError and "certificate" in str(error) and "not trusted" in str(error)
    assert "--ca-file" in (error.hint or "") and "--insecure" in (error.hint or "")


@pytest.mark.parametrize(
    "options", [{"ca_file": CERTIFICATE, "insecure": False}, {"ca_file": None, "insecure": True}]
)
def test_an_own_authority_or_no_check_lets_it_pass(options: dict[str, Any]) -> None:
    error = refused(http(503, b""), ssl=server_tls(), tls=tls_context(**options))
    assert "(HTTP 503)" in str(error)


def test_a_certificate_for_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> PersonaplexError:
        async with serving(http(503, b""), ssl=server_tls()) as port:
            resolves_to(monkeypatch, ("127.0.0.1", port))
            tls = tls_context(CERTIFICATE, insecure=False)
            return await fail_to_connect(endpoint("wss://another.example"), tls)

    error = asyncio.run(main())
    assert "Hostname mismatch" in str(error)


def test_tls_to_a_server_without_it() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    error = refused(answer, tls=tls_context(CERTIFICATE, insecure=False))
    assert type(error) is ConnectError and "No TLS connection" in str(error)
    assert "ws://" in (error.hint or "")


def test_no_tls_to_a_server_with_it() -> None:
    error = refused(http(503, b""), ssl=server_tls())
    assert type(error) is ConnectError and "right about TLS" in (error.hint or "")


# --- proxies in the environment


@pytest.mark.parametrize("proxy", ["http://user:secret@127.0.0.1:{port}", "ftp://127.0.0.1:{port}", "no url"])
def test_a_proxy_that_does_not_work(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    async def main() -> PersonaplexError:
        answer = http(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, b"")
        async with serving(answer) as port:
            monkeypatch.setenv("HTTPS_PROXY", proxy.format(port=port))
            return await fail_to_connect(endpoint("wss://api.example.invalid"))

    error = asyncio.run(main())
    assert type(error) is ConnectError and "proxy in the environment cannot be used" in str(error)
    assert "secret" not in str(error)


def test_a_socks_proxy_needs_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    for name in ("python_socks", "python_socks.async_", "python_socks.async_.asyncio"):
        monkeypatch.setitem(sys.modules, name, None)
    error = asyncio.run(fail_to_connect(endpoint("wss://api.example.invalid")))
    assert type(error) is ConnectError and "SOCKS is not supported" in (error.hint or "")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.0.0.1:1", "[::1]:1"])
def test_no_proxy_is_asked_for_loopback(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Whatever fails here, it is not the proxy."""
    monkeypatch.setenv("HTTPS_PROXY", "no url")
    monkeypatch.setenv("HTTP_PROXY", "no url")
    resolves_to(monkeypatch, OSError(errno.ENETUNREACH, "Network is unreachable"))
    error = asyncio.run(fail_to_connect(endpoint(f"wss://{host}")))
    assert "proxy" not in str(error)
