"""Servers on this machine: one that only shakes hands, and one that says where to call."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

CERTIFICATE = Path(__file__).parent / "fixtures" / "tls" / "loopback.pem"
"""For localhost and 127.0.0.1."""


@dataclass
class TlsServer:
    port: int
    received: list[bytes | None] = field(default_factory=list)
    """What came after each handshake; None for a handshake that failed."""


@contextmanager
def tls_server(*, connections: int | None = None) -> Iterator[TlsServer]:
    """Shakes hands and waits for the client to hang up; after so many `connections` nobody listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_suffix(".key"))
    context.num_tickets = 0  # a client that closes with one unread resets the connection
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = TlsServer(listener.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(listener, context, server, connections))
        thread.start()
        yield server
        with suppress(OSError):  # closed already
            listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        thread.join()


def _serve(
    listener: socket.socket, context: ssl.SSLContext, server: TlsServer, connections: int | None
) -> None:
    while len(server.received) != connections:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        if len(server.received) + 1 == connections:
            listener.close()
        with plain:
            plain.settimeout(5)
            server.received.append(_received(plain, context))


def _received(plain: socket.socket, context: ssl.SSLContext) -> bytes | None:
    try:
        with context.wrap_socket(plain, server_side=True) as connection:
            return connection.recv(100)
    except OSError:
        return None


@dataclass
class Router:
    """Answers every GET alike."""

    url: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    silent_until: threading.Event | None = None
    """Set: no answer before this."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers (names in lower case) of each request."""

    def answers(self, **fields: object) -> None:
        """With JSON: the usual, with these changes."""
        usual = {
            "region": "nyc-01",
            "endpoint": "https://api.nyc-01.edge.polargrid.ai",
            "name": "New York",
            "ttl": 300,
        }
        self.body = json.dumps({**usual, **fields}).encode()


@contextmanager
def router() -> Iterator[Router]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            if known.silent_until:
                known.silent_until.wait()
            self.send_response(known.status)
            for name, value in known.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(known.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that have hung up

    with Server(("127.0.0.1", 0), Handler) as server:
        known = Router(f"http://127.0.0.1:{server.server_port}/v1/route")
        known.answers()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield known
        if known.silent_until:
            known.silent_until.set()
        server.shutdown()
        thread.join()
