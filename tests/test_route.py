from __future__ import annotations

import json
import ssl
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_servers import Router, router, tls_server

from personaplex_cli import route
from personaplex_cli.catalog import Resolved
from personaplex_cli.errors import UsageError
from personaplex_cli.route import ROUTE_URL_VARIABLE, find_region
from personaplex_cli.tokens import cache_path

NOW = 1_800_000_000.0
DAY_S = 86_400

BY_ROUTER = Resolved("nyc-01", "region: nyc-01, by the router")


@pytest.fixture
def asked() -> Iterator[Router]:
    with router() as running:
        yield running


@pytest.fixture
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading them takes a while, and nobody is reached."""
    monkeypatch.setattr(route, "tls_context", lambda *_: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def find(url: str, *, at_s: float = NOW, timeout_s: float = 5) -> Resolved[str]:
    return find_region(url, timeout_s=timeout_s, now=lambda: at_s)


def default(url: str, *, timeout_s: float = 5) -> str:
    """Why the default region was taken."""
    found = find(url, timeout_s=timeout_s)
    note = found.note or ""
    assert found.value == "yto-01"
    assert note.startswith("region: yto-01, the default: the router ") and "\n" not in note
    assert not kept_file().exists()
    return note.removeprefix("region: yto-01, the default: the router ")


def kept_file() -> Path:
    return cache_path().parent / "route.json"


# --- the question and its answer


def test_the_router_chooses(asked: Router) -> None:
    assert find(asked.url) == BY_ROUTER
    [(path, headers)] = asked.requests
    assert path == "/v1/route"
    assert "authorization" not in headers


def test_the_router_of_the_environment(asked: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROUTE_URL_VARIABLE, asked.url)
    assert find_region() == BY_ROUTER


def test_a_region_that_is_not_in_the_list_is_taken(asked: Router) -> None:
    asked.answers(region="ams-07", endpoint=None)
    assert find(asked.url) == Resolved("ams-07", "region: ams-07, by the router")


def test_a_proxy_is_not_used_on_this_machine(asked: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert find(asked.url) == BY_ROUTER


HOST = "api.nyc-01.edge.polargrid.ai"


@pytest.mark.parametrize("endpoint", [HOST, f"https://{HOST}/v1", f"wss://{HOST}:443", None])
def test_the_region_s_own_address_needs_no_remark(asked: Router, endpoint: str | None) -> None:
    asked.answers(endpoint=endpoint)
    assert find(asked.url) == BY_ROUTER


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://voice.evil.example",
        f"https://{HOST}.evil.example",
        f"https://{HOST}@evil.example/",
        f"https://{HOST}:444",
        f"http://{HOST}",
        f"https://evil.example/{HOST}",
        "https://api.sfo-01.edge.polargrid.ai",
        "",
        5,
        [HOST],
    ],
)
def test_another_address_is_not_used_and_not_kept_quiet(asked: Router, endpoint: object) -> None:
    asked.answers(endpoint=endpoint)
    for _ in range(2):
        found = find(asked.url)
        assert found.value == "nyc-01"
        assert found.note is not None and "not this region's: not used" in found.note
        assert "evil" not in found.note
    assert not kept_file().exists()


# --- what is no answer


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not understood"),
        (b"<html>", "not understood"),
        (b"\xff\xfe\xff", "not understood"),
        (b"[" * 60_000, "not understood"),
        (b'["nyc-01"]', "not understood"),
        (b'"nyc-01"', "not understood"),
        (b"{}", "not understood"),
        (b'{"region": "nyc-01"}', "not understood"),
        (b" " * 70_000, "endless"),
    ],
)
def test_a_body_that_is_no_answer(asked: Router, body: bytes, said: str) -> None:
    asked.body = body
    assert said in default(asked.url)


@pytest.mark.parametrize(
    "region",
    ["", "auto", "nyc", "NYC-01", "nyc-01\n", "nyc-٠١", "evil.example/", "nyc-01.evil.example", 5, None],
)
def test_a_region_of_an_impossible_form(asked: Router, region: object) -> None:
    asked.answers(region=region)
    assert default(asked.url) == "named something that cannot be a region"


@pytest.mark.parametrize("ttl", [-1, True, "300", None, 1e12, float("nan"), float("inf")])
def test_an_absurd_lifetime(asked: Router, ttl: object) -> None:
    asked.answers(ttl=ttl)
    assert "no sensible lifetime" in default(asked.url)


@pytest.mark.parametrize("status", [204, 301, 302, 307, 401, 404, 429, 500])
def test_any_other_status_also_a_redirect(asked: Router, status: int) -> None:
    asked.status, asked.headers = status, {"Location": f"{asked.url}/other"}
    assert default(asked.url) == f"answered with HTTP {status}"
    assert len(asked.requests) == 1


def test_an_answer_that_cannot_be_decompressed(asked: Router) -> None:
    asked.headers = {"Content-Encoding": "gzip"}
    assert default(asked.url) == "cannot be reached"


def test_a_router_that_is_silent(asked: Router) -> None:
    asked.silent_until = threading.Event()
    assert default(asked.url, timeout_s=0.05) == "did not answer within 0.05 s"


@pytest.mark.usefixtures("no_certificates")
def test_a_name_that_takes_too_long_to_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: over.wait() and [])
    try:
        assert "did not answer within 0.2 s" in default("https://router.example/", timeout_s=0.2)
    finally:
        over.set()


def test_a_router_whose_certificate_is_not_trusted() -> None:
    with tls_server() as server:
        assert default(f"https://127.0.0.1:{server.port}/v1/route") == "cannot be reached"


@pytest.mark.usefixtures("no_certificates")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://router.example/v1/route", "begins with https://"),
        ("http://127.0.0.1.example/", "begins with https://"),
        ("ftp://127.0.0.1/", "begins with https://"),
        ("router.example", "begins with https://"),
        ("https://router.example:port/", "cannot be reached"),
        ("https://" + "a" * 70 + ".example/", "cannot be reached"),
        ("https://", "cannot be reached"),
        ("http://127.0.0.1:1/", "cannot be reached"),
    ],
)
def test_an_address_that_cannot_be(url: str, said: str) -> None:
    assert said in default(url)


@pytest.mark.usefixtures("no_certificates")
@pytest.mark.parametrize("proxy", ["nonsense://proxy.example", "socks5://proxy.example"])
def test_proxy_settings_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    assert default("https://router.example/") == "cannot be reached"


def test_a_ca_file_that_is_none_is_the_user_s_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="CA file"):
        find_region("https://router.example/", ca_file=tmp_path / "missing.pem")


# --- what is kept


def test_the_answer_holds_for_its_lifetime(asked: Router) -> None:
    find(asked.url)
    asked.answers(region="sfo-01", endpoint=None)
    assert find(asked.url, at_s=NOW + 299) == BY_ROUTER
    assert len(asked.requests) == 1
    assert find(asked.url, at_s=NOW + 301).value == "sfo-01"


def test_it_holds_for_a_day_at_most(asked: Router) -> None:
    asked.answers(ttl=30 * DAY_S)
    find(asked.url)
    find(asked.url, at_s=NOW + DAY_S - 1)
    assert len(asked.requests) == 1
    find(asked.url, at_s=NOW + DAY_S + 1)
    assert len(asked.requests) == 2


def test_a_clock_that_was_wrong_does_not_keep_it_for_years(asked: Router) -> None:
    find(asked.url, at_s=NOW + 1000 * DAY_S)
    find(asked.url)
    assert len(asked.requests) == 2


def test_what_another_router_said_does_not_count(asked: Router) -> None:
    find(asked.url)
    find(asked.url + "?other")
    assert len(asked.requests) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_the_file_is_the_user_s_alone_and_nothing_lies_about(asked: Router) -> None:
    find(asked.url)
    assert [path.name for path in kept_file().parent.iterdir()] == ["route.json"]
    assert stat.S_IMODE(kept_file().stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "change",
    [
        {"region": "evil.example/"},
        {"region": 5},
        {"region": None},
        {"expires_at": "soon"},
        {"expires_at": None},
        {"url": None},
    ],
)
def test_a_file_with_a_wrong_value_is_none(asked: Router, change: dict[str, object]) -> None:
    find(asked.url)
    entry = json.loads(kept_file().read_bytes())
    kept_file().write_text(json.dumps({**entry, **change}))
    assert find(asked.url) == BY_ROUTER
    assert len(asked.requests) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"5", b"\xff", b"[" * 60_000])
def test_a_damaged_file_is_none(asked: Router, content: bytes) -> None:
    kept_file().parent.mkdir()
    kept_file().write_bytes(content)
    assert find(asked.url) == BY_ROUTER
    assert find(asked.url) == BY_ROUTER
    assert len(asked.requests) == 1


def test_a_full_disk_is_no_error_and_nothing_is_left(asked: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)
    assert find(asked.url) == BY_ROUTER
    assert list(kept_file().parent.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_no_error(asked: Router, own_home: Path) -> None:
    (own_home / "cache").touch()
    assert find(asked.url) == BY_ROUTER
