"""The socket: one WebSocket connection, with every way it can fail in words."""

from __future__ import annotations

import asyncio
import errno
import logging
import select
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from personaplex_cli.errors import (
    ConnectError,
    CredentialsError,
    PersonaplexError,
    ServerError,
)
from personaplex_cli.wire.endpoint import Endpoint, is_loopback
from personaplex_cli.wire.text import redact, safe_text

CONNECT_TIMEOUT_S: Final = 10.0
"""For DNS, TCP, TLS and the upgrade together; the handshake message has a limit of its own."""

CLOSE_TIMEOUT_S: Final = 1.0
"""For the server to end the connection after the last message."""

SEND_BUFFER_BYTES: Final = 8192
"""The kernel's buffer where the system cannot tell what has left it: about one second of our audio. The
default would hide minutes of it, and a stall would be noticed only when all of it is old."""

DRAIN_POLL_S: Final = 0.005
"""How often a stalled socket is looked at. asyncio lets nobody else wait for its sockets."""

_KEEPALIVE_IDLE_S: Final = 10
_MAX_SERVER_WORDS: Final = 200

_HTTP_WORDS: Final = {
    400: "the server did not understand the request",
    401: "the token was refused",
    402: "payment is required",
    403: "the token does not allow this",
    404: "there is no voice endpoint at this address",
    405: "the address does not take WebSocket connections",
    407: "the proxy wants credentials",
    410: "the voice endpoint is no longer at this address",
    421: "the address belongs to another server",
    422: "the server did not accept a parameter",
    426: "the server wants another protocol",
    429: "too many sessions or requests",
    500: "the server failed",
    502: "the gateway has no server behind it",
    503: "the server is not available",
    504: "the gateway got no answer in time",
}


class SocketClosed(Exception):
    """The connection is gone: `code` is the server's close code, 1006 when there was none (RFC 6455)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


class _Connect(connect):
    """Redirects are not followed: the token would go to wherever they point."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Connection(ClientConnection):
    """A server that says it closes, or breaks RFC 6455, and then keeps the connection is not waited for:
    the library would go on waiting, and the call be billed."""

    _leaving = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.close_expected() and not self._leaving:
            self._leaving = True
            self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)


class VoiceSocket:
    """Sends and receives messages; event loop only."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._socket: socket.socket = connection.transport.get_extra_info("socket")
        _tune(self._socket)

    @classmethod
    async def connect(cls, endpoint: Endpoint, tls: ssl.SSLContext | None = None) -> VoiceSocket:
        """`tls` says how a wss server's certificate is checked; None is the usual way.

        Raises ConnectError, CredentialsError or ServerError; none of them holds a secret.
        """
        host = urlsplit(endpoint.address).hostname or ""
        try:
            connection = await _Connect(
                endpoint.url,
                subprotocols=[Subprotocol(endpoint.subprotocol)] if endpoint.subprotocol else None,
                ssl=(tls or True) if endpoint.tls else None,
                # Opus does not compress, and trying costs time.
                compression=None,
                # PolarGrid's runtime does not answer pings: they would end the call.
                ping_interval=None,
                open_timeout=CONNECT_TIMEOUT_S,
                create_connection=_Connection,
                # send() waits until everything has left; see there. Not 0: over TLS asyncio would take
                # an empty buffer for a full one, and go on only when the server sends something.
                write_limit=1,
                proxy=None if is_loopback(host) else True,
                logger=_silent_logger(),
            )
        except (OSError, EOFError, WebSocketException, ValueError, ImportError) as error:
            raise _explain(error, endpoint) from None
        return cls(connection)

    async def send(self, message: bytes) -> None:
        """Returns when the message is on its way to the server, not only in a buffer of this machine, so
        that a stall is seen at once. Raises SocketClosed."""
        try:
            await self._connection.send(message)
        except ConnectionClosed as closed:
            raise _closed(closed) from None
        while not self._drained():
            await asyncio.sleep(DRAIN_POLL_S)

    def _drained(self) -> bool:
        """Whether the kernel has sent everything that asyncio gave it, apart from what waits for its
        acknowledgement (or the socket is closed: whoever uses it next learns that)."""
        return self._socket.fileno() < 0 or _writable(self._socket)

    async def receive(self) -> bytes | str:
        """The next message. Raises SocketClosed."""
        try:
            return await self._connection.recv()
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def close(self) -> None:
        """The closing handshake with code 1000. The caller limits the time and calls `abort` after it."""
        await self._connection.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._connection.transport.abort()


def _silent_logger() -> logging.Logger:
    """The library logs request headers, and so tokens, when somebody turns on debug logging."""
    logger = logging.getLogger("personaplex.websockets")
    logger.disabled = True
    return logger


def _closed(closed: ConnectionClosed) -> SocketClosed:
    """The server's code; or ours, when what the server sent was against RFC 6455."""
    if closed.rcvd:
        return SocketClosed(closed.rcvd.code, closed.rcvd.reason)
    if closed.sent and closed.sent.code != CloseCode.NORMAL_CLOSURE:
        return SocketClosed(closed.sent.code, closed.sent.reason)
    return SocketClosed(CloseCode.ABNORMAL_CLOSURE, "")


def _writable(sock: socket.socket) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([], [sock], [], 0)[1])
    poll = select.poll()  # unlike select, takes any descriptor
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(0))


def _tune(sock: socket.socket) -> None:
    """TCP_NODELAY is set by asyncio already. What a system does not have, or not allow, is left out."""
    # Writable then means: all that was written has been sent. A small SO_SNDBUF would instead limit what is
    # on its way, to fewer packets than a distant server needs (a quarter was dropped at 600 ms).
    if not _set_option(sock, socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", 1):
        _set_option(sock, socket.SOL_SOCKET, "SO_SNDBUF", SEND_BUFFER_BYTES)
    _set_option(sock, socket.SOL_SOCKET, "SO_KEEPALIVE", 1)
    # macOS has the latter name.
    if not _set_option(sock, socket.IPPROTO_TCP, "TCP_KEEPIDLE", _KEEPALIVE_IDLE_S):
        _set_option(sock, socket.IPPROTO_TCP, "TCP_KEEPALIVE", _KEEPALIVE_IDLE_S)


def _set_option(sock: socket.socket, level: int, name: str, value: int) -> bool:
    try:
        sock.setsockopt(level, getattr(socket, name), value)
    except (AttributeError, OSError):
        return False
    return True


def _explain(error: Exception, endpoint: Endpoint) -> PersonaplexError:
    where = endpoint.address
    match error:
        case TimeoutError():
            return ConnectError(
                f"{where} did not answer within {CONNECT_TIMEOUT_S:g} s.",
                "Check the network, the address, and whether a firewall is in the way.",
            )
        case socket.gaierror() | UnicodeError():  # the latter for "a..b"
            return ConnectError(
                f"The name in {where} cannot be found (DNS).", "Check the spelling and the network."
            )
        case OSError() if _refused(error):
            return ConnectError(f"{where} refused the connection.", "Is the server running, on that port?")
        case ssl.SSLCertVerificationError():
            return ConnectError(
                f"The certificate of {where} is not trusted ({safe_text(error.verify_message)}).",
                "For a self-signed server give its certificate with --ca-file, "
                "or switch the check off with --insecure.",
            )
        case ssl.SSLError():
            return ConnectError(
                f"No TLS connection with {where} could be made ({safe_text(error.reason or 'TLS error')}).",
                "Does the server speak TLS on that port? Without TLS the address begins with ws://.",
            )
        case InvalidStatus():
            return _explain_status(error, endpoint)
        case InvalidProxy() | ProxyError() | ImportError():  # the last for SOCKS
            return ConnectError(
                "The proxy in the environment cannot be used.",
                "Check HTTPS_PROXY and NO_PROXY; SOCKS is not supported.",
            )
        case InvalidMessage() | EOFError() | ConnectionResetError():
            return ConnectError(
                f"{where} closed the connection without a valid answer.",
                "Is it a voice server, and is the address right about TLS (ws:// or wss://)?",
            )
        case InvalidHandshake():
            return ServerError(f"{where} answered, but not as a WebSocket server does.")
        case OSError() if error.strerror:
            return ConnectError(f"{where} cannot be reached: {error.strerror}.")
    return ConnectError(f"{where} cannot be reached ({type(error).__name__}).")


def _refused(error: OSError) -> bool:
    """asyncio puts the errors of a name with several addresses, like localhost, into one text."""
    return isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error)


def _explain_status(error: InvalidStatus, endpoint: Endpoint) -> PersonaplexError:
    status = error.response.status_code
    if status in range(300, 400):
        return ServerError(
            f"{endpoint.address} redirects elsewhere (HTTP {status}).",
            "Redirects are not followed, since the token would go along: give the final address.",
        )
    body = bytes(error.response.body or b"").decode("utf-8", "replace")
    words = redact(safe_text(body[: 2 * _MAX_SERVER_WORDS]).strip(), endpoint.secrets)[:_MAX_SERVER_WORDS]
    meaning = _HTTP_WORDS.get(status, "the server failed" if status >= 500 else "the server refused")
    text = f"{endpoint.address}: {meaning} (HTTP {status})" + (f". It says: {words}" if words else ".")
    if status in (401, 403):
        return CredentialsError(text, "Tokens live for a short time: get a new one and call again.")
    if status in (404, 410):
        return ServerError(text, "Check --server, --dialect and --region.")
    return ServerError(text, "Try again in a while." if status == 429 or status >= 500 else None)
