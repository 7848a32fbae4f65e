from __future__ import annotations

import json
import socket
import threading
import urllib.request
from typing import Any

import pytest
from loopback_servers import CERTIFICATE, router, tls_server

from personaplex_cli import route
from personaplex_cli.doctor import reach
from personaplex_cli.doctor.check import Status
from personaplex_cli.doctor.reach import Address, Reach, proxy_for
from personaplex_cli.errors import ConnectError, UsageError
from personaplex_cli.wire.endpoint import Dialect


def to(server: str | None, **changes: Any) -> Reach:
    usual: dict[str, Any] = {
        "region": "yto-01",
        "dialect": Dialect.POLARGRID,
        "ca_file": None,
        "insecure": False,
        "timeout_s": 1.0,
    }
    return Reach(server=server, **{**usual, **changes})


def test_name_tcp_and_tls() -> None:
    with tls_server() as server:
        finding = to(f"wss://localhost:{server.port}", ca_file=CERTIFICATE).check()
    assert finding.status is Status.OK
    assert finding.text.startswith(f"localhost, port {server.port}: name ")
    assert finding.figures["tls_ms"] > 0 and finding.figures["proxy"] is None
    assert set(server.received) <= {b""}  # nothing is called
    json.dumps(finding.figures)


def test_a_server_without_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        finding = to(f"ws://127.0.0.1:{server.getsockname()[1]}", dialect=Dialect.MOSHI).check()
    assert finding.status is Status.OK and "TLS" not in finding.text


def test_a_certificate_that_is_not_trusted() -> None:
    with tls_server() as server:
        with pytest.raises(ConnectError, match="certificate: ") as caught:
            to(f"wss://localhost:{server.port}").check()
        assert "--ca-file" in str(caught.value.hint)
        finding = to(f"wss://localhost:{server.port}", insecure=True).check()
    assert "certificate not checked" in finding.text


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as was:
        port = was.getsockname()[1]
    with pytest.raises(ConnectError, match=f"127.0.0.1, port {port}: refused"):
        to(f"ws://127.0.0.1:{port}").check()


def test_a_region_whose_name_nobody_knows() -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "")

    with pytest.raises(ConnectError, match=r"api\.nyc-01\..*: no such name") as caught:
        to(None, region="nyc", resolve=unknown).check()
    assert "spelling" in str(caught.value.hint)


def test_a_dead_region_names_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as was:
        address = was.getsockname()
    monkeypatch.setattr(reach, "polargrid_server", lambda region: f"wss://127.0.0.1:{address[1]}")
    with pytest.raises(ConnectError, match="refused") as caught:
        to(None).check()
    assert "regions --probe" in str(caught.value.hint)


def test_a_resolver_that_hangs() -> None:
    forever = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        forever.wait()

    with pytest.raises(ConnectError, match=r"no answer within 0\.05 s"):
        to(None, resolve=hang, timeout_s=0.05).check()
    forever.set()


def test_a_region_that_the_router_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    route.routed_region.cache_clear()
    with router() as known, tls_server() as server:
        monkeypatch.setenv(route.ROUTE_URL_VARIABLE, known.url)
        monkeypatch.setattr(reach, "polargrid_server", lambda region: f"wss://localhost:{server.port}")
        finding = to(None, region="auto", ca_file=CERTIFICATE).check()
    route.routed_region.cache_clear()
    assert "region: nyc-01, by the router" in finding.text


@pytest.mark.parametrize(
    ("server", "changes"),
    [
        (None, {"region": "atlantis"}),
        (None, {"dialect": Dialect.MOSHI}),
        ("ftp://host", {}),
        ("ws://user:pass@host", {}),
    ],
)
def test_what_a_call_would_refuse_is_refused(server: str | None, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        to(server, **changes).check()


# --- proxies


FAR = Address("wss", "voice.example", 443)


def chosen(target: Address = FAR, /, **proxies: str) -> Address | None:
    return proxy_for(target, lambda: proxies, lambda host: host == "near.example:443")


def test_the_proxy_that_the_call_would_take() -> None:
    assert chosen() is None
    assert chosen(http="http://h:1") is None
    assert chosen(https="http://h:1", http="http://x:2") == Address("http", "h", 1)
    assert chosen(wss="http://w:3", https="http://h:1") == Address("http", "w", 3)
    assert chosen(Address("ws", "voice.example", 80), http="http://h:1") == Address("http", "h", 1)
    assert chosen(https="h:8080") == Address("http", "h", 8080)
    assert chosen(Address("wss", "near.example", 443), https="http://h:1") is None
    assert chosen(Address("wss", "127.0.0.1", 443), https="http://h:1") is None


def test_a_proxy_without_a_sensible_port() -> None:
    with pytest.raises(ConnectError, match="proxy settings") as caught:
        chosen(https="http://me:tulip@h:abc")
    assert "tulip" not in f"{caught.value} {caught.value.hint}"


def test_the_choice_is_that_of_the_library_which_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    from websockets.proxy import get_proxy
    from websockets.uri import parse_uri

    for known in (
        {"https": "http://h:1"},
        {"wss": "http://w:2", "https": "http://h:1"},
        {"http": "http://x:3"},
    ):
        monkeypatch.setattr(urllib.request, "getproxies", lambda known=known: known)
        monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: False)
        theirs = get_proxy(parse_uri("wss://voice.example"))
        ours = chosen(FAR, **known)
        assert (ours and f"{ours.scheme}://{ours.host}:{ours.port}") == theirs


def test_a_proxy_is_reached_and_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        port = proxy.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{port}")
        finding = to("wss://voice.example").check()
    assert f"By the proxy 127.0.0.1, port {port}" in finding.text and "voice.example" in finding.text
    assert finding.figures["proxy"] == f"127.0.0.1:{port}"
    assert "secret" not in repr(finding) and "me" not in finding.figures["proxy"]


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(ConnectError, match=r"The proxy 127\.0\.0\.1, port 1: refused"):
        to("wss://voice.example").check()


def test_socks_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(ConnectError, match="SOCKS"):
        to("wss://voice.example").check()
