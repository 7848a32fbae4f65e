"""Servers that the key exchange does not reach, or must not trust."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from personaplex_cli.auth import exchange
from personaplex_cli.errors import ConnectError, ExitCode, UsageError
from personaplex_cli.tls import tls_context

if TYPE_CHECKING:
    from conftest import TokenServer

KEY = "pg_secret_0123456789"
CERTIFICATE = Path(__file__).parent / "fixtures" / "tls" / "loopback.pem"


def clock() -> float:
    return 1_800_000_000.0


def unreached(url: str, timeout_s: float = 5) -> ConnectError:
    """The error of an exchange that must not succeed. Nothing it shows holds the key."""
    with pytest.raises(ConnectError) as caught:
        exchange(KEY, url, timeout_s=timeout_s, now=clock)
    assert caught.value.exit_code == ExitCode.CONNECTION
    assert KEY not in "".join(traceback.format_exception(caught.value)) + (caught.value.hint or "")
    return caught.value


def test_a_name_that_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    assert "name auth.example cannot be found" in str(unreached("https://auth.example/"))


def test_a_port_nobody_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "refused the connection" in str(unreached(f"http://127.0.0.1:{port}/"))


def test_an_unreachable_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    assert "Network is unreachable" in str(unreached("https://auth.example/"))


def test_a_server_that_says_nothing(token_server: TokenServer) -> None:
    token_server.silent_until = threading.Event()
    error = unreached(token_server.url, timeout_s=0.05)
    assert "did not answer within 0.05 s" in str(error)


def test_a_server_that_does_not_speak_http() -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"220 mail.example ESMTP\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        error = unreached(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()
    assert "without a usable answer" in str(error)


def test_a_proxy_that_refuses(token_server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", token_server.url)
    assert "proxy refused the connection to auth.example" in str(unreached("https://auth.example/"))
    assert token_server.requests == []


def test_a_server_without_tls(token_server: TokenServer) -> None:
    error = unreached(token_server.url.replace("http:", "https:"))
    assert "No encrypted connection" in str(error) and "--insecure" in (error.hint or "")


@pytest.fixture
def tls_server_url() -> Iterator[str]:
    """A token server with a certificate that only the test's own CA file vouches for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"token": "over.tls"}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.HTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # handshakes fail here on purpose

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_suffix(".key"))
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_an_unknown_certificate_is_refused(tls_server_url: str) -> None:
    error = unreached(tls_server_url)
    assert "not trusted" in str(error)
    assert "--ca-file" in (error.hint or "") and "--insecure" in (error.hint or "")


@pytest.mark.parametrize("options", [{"ca_file": CERTIFICATE}, {"insecure": True}])
def test_an_own_ca_or_no_check_lets_it_pass(tls_server_url: str, options: dict[str, Any]) -> None:
    assert exchange(KEY, tls_server_url, timeout_s=5, now=clock, **options).value == "over.tls"


def test_a_ca_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        tls_context(tmp_path / "missing.pem", insecure=False)
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="no certificate in PEM form"):
        tls_context(tmp_path / "text.pem", insecure=False)
