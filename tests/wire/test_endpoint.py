"""Where a call connects: URL and subprotocol, and what they must not give away."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from personaplex_cli.errors import PersonaplexError, UsageError
from personaplex_cli.wire.endpoint import (
    MOSHI_DEFAULT_PERSONA,
    PATHS,
    URL_LIMIT_BYTES,
    Dialect,
    Endpoint,
    TokenIn,
    build_endpoint,
    is_loopback,
    polargrid_server,
)

EXPLORE = settings(derandomize=True, deadline=None, max_examples=50)
TOKEN = "eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl"
PERSONA = "A pirate captain with a secret"
SERVER = "wss://api.yto-01.edge.polargrid.ai"


def polargrid(server: str = SERVER, persona: str | None = None, **more: Any) -> Endpoint:
    return build_endpoint(Dialect.POLARGRID, server, voice="NATF0", persona=persona, **more)


def moshi(server: str = "ws://localhost:8998", persona: str | None = None, **more: Any) -> Endpoint:
    return build_endpoint(Dialect.MOSHI, server, voice="NATF0", persona=persona, **more)


def refusal(**arguments: Any) -> PersonaplexError:
    with pytest.raises(UsageError) as refused:
        polargrid(**arguments)
    assert refused.value.hint
    return refused.value


def query(endpoint: Endpoint) -> dict[str, list[str]]:
    return parse_qs(urlsplit(endpoint.url).query, strict_parsing=True, errors="strict")


def test_the_address_of_a_region() -> None:
    assert polargrid_server("yto-01") == SERVER


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (polargrid(), f"{SERVER}/v1/voice/personaplex?voice=NATF0"),
        (polargrid(persona="Be kind"), f"{SERVER}/v1/voice/personaplex?voice=NATF0&persona=Be%20kind"),
        (
            moshi(persona="Be kind"),
            "ws://localhost:8998/api/chat?voice_prompt=NATF0.pt&text_prompt=Be%20kind",
        ),
        (
            moshi(),  # the parameter is needed
            "ws://localhost:8998/api/chat?voice_prompt=NATF0.pt"
            "&text_prompt=You%20enjoy%20having%20a%20good%20conversation.",
        ),
    ],
)
def test_the_url_of_each_dialect(endpoint: Endpoint, url: str) -> None:
    assert endpoint.url == url
    assert endpoint.subprotocol is None


@pytest.mark.parametrize(
    ("server", "url", "address"),
    [
        ("http://localhost", "ws://localhost{path}?", "ws://localhost"),
        ("https://host", "wss://host{path}?", "wss://host"),
        ("WSS://Host", "wss://Host{path}?", "wss://Host"),
        ("wss://host/", "wss://host{path}?", "wss://host"),
        ("wss://host//", "wss://host{path}?", "wss://host"),
        ("wss://host:8443", "wss://host:8443{path}?", "wss://host:8443"),
        ("wss://host/a/b", "wss://host/a/b?", "wss://host"),
        ("wss://host/a/", "wss://host/a/?", "wss://host"),
        ("wss://host?x=1&y=a%20b", "wss://host{path}?x=1&y=a%20b&", "wss://host"),
        ("wss://host/a?x=", "wss://host/a?x=&", "wss://host"),
        ("ws://127.0.0.1:8998", "ws://127.0.0.1:8998{path}?", "ws://127.0.0.1:8998"),
        ("ws://[::1]:8998", "ws://[::1]:8998{path}?", "ws://[::1]:8998"),
        ("wss://[2001:db8::1]/a", "wss://[2001:db8::1]/a?", "wss://[2001:db8::1]"),
        ("wss://host/a#part", "wss://host/a?", "wss://host"),
    ],
)
def test_the_server_s_own_parts_are_kept(server: str, url: str, address: str) -> None:
    for dialect in Dialect:
        endpoint = build_endpoint(dialect, server, voice="NATM1", persona=None)
        assert endpoint.url.startswith(url.format(path=PATHS[dialect]) + "voice")
        assert endpoint.address == address
        assert endpoint.tls == address.startswith("wss:")


@EXPLORE
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=200).filter(str.strip))
@example("a&token=b#c?d=%20+;\x00/\\\n")
@example("\u4f60\u597d \U0001f600")
def test_any_persona_arrives_as_it_was_written(persona: str) -> None:
    assert query(polargrid(persona=persona)) == {"voice": ["NATF0"], "persona": [persona]}
    assert query(moshi(persona=persona)) == {"voice_prompt": ["NATF0.pt"], "text_prompt": [persona]}
    url = polargrid(persona=persona).url
    assert url.isascii() and url.isprintable() and " " not in url


def test_without_a_persona_moshi_gets_a_default() -> None:
    assert query(moshi())["text_prompt"] == [MOSHI_DEFAULT_PERSONA]
    assert moshi().secrets == ()


def test_the_token_goes_into_the_header_unless_told_otherwise() -> None:
    endpoint = polargrid(token=TOKEN)
    assert endpoint.subprotocol == f"bearer.{TOKEN}"
    assert TOKEN not in endpoint.url


def test_the_token_can_go_into_the_query() -> None:
    endpoint = polargrid(token="a+b/c=&", token_in=TokenIn.QUERY)
    assert endpoint.subprotocol is None
    assert query(endpoint) == {"voice": ["NATF0"], "token": ["a+b/c=&"]}


@pytest.mark.parametrize("token_in", TokenIn)
def test_an_endpoint_does_not_show_its_secrets(token_in: TokenIn) -> None:
    endpoint = polargrid(persona=PERSONA, token=TOKEN, token_in=token_in)
    assert endpoint.secrets == (TOKEN, PERSONA)
    for shown in (repr(endpoint), str(endpoint), f"{endpoint}"):
        assert TOKEN not in shown
        assert "pirate" not in shown
        assert SERVER in shown


@pytest.mark.parametrize("token_in", TokenIn)
@pytest.mark.parametrize("server", ["ws://host", "http://192.168.0.2:8998", "ws://127.0.0.1.example"])
def test_a_token_does_not_travel_unencrypted(server: str, token_in: TokenIn) -> None:
    error = refusal(server=server, persona=PERSONA, token=TOKEN, token_in=token_in)
    assert "unencrypted" in str(error)
    assert TOKEN not in f"{error}{error.hint}"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1:80", "[::1]:8998", "LOCALHOST"])
def test_within_this_machine_it_may(host: str) -> None:
    assert polargrid(f"ws://{host}", token=TOKEN).subprotocol == f"bearer.{TOKEN}"


@pytest.mark.parametrize(
    "host", ["", "example.com", "localhost.example", "10.0.0.1", "::2", "128.0.0.1", "127.1"]
)
def test_other_hosts_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


def test_without_a_token_plain_ws_is_fine() -> None:
    assert polargrid("ws://192.168.0.2:8998").tls is False


@pytest.mark.parametrize(
    "server",
    [
        "",
        "host",
        "host:8998",
        "localhost:8998",
        "//host",
        "ftp://host",
        "wss:host",
        "wss://",
        "wss://:8998",
        "wss:///path",
        "wss://host:port",
        "wss://host:65536",
        "wss://host:-1",
        "wss://[::1",
        "wss://host/a b",
        "wss://host\n/a",
        "wss://host/\x1b[31m",
        "wss://h\u00f6st",
        "wss://host\u2100",  # urlsplit: contains invalid characters under NFKC normalisation
        " wss://host",
    ],
)
def test_what_is_no_usable_address(server: str) -> None:
    error = refusal(server=server, persona=PERSONA, token=TOKEN)
    assert "\x1b" not in str(error)


@pytest.mark.parametrize("user", ["me@", "me:hunter2@", ":hunter2@", "@", ":@"])
def test_user_names_and_passwords_are_refused_and_not_repeated(user: str) -> None:
    error = refusal(server=f"wss://{user}host")
    assert "user name or password" in str(error)
    assert "hunter2" not in f"{error}{error.hint}"


@pytest.mark.parametrize("persona", ["", " ", "\n\t\u3000"])
@pytest.mark.parametrize("dialect", Dialect)
def test_an_empty_persona_is_refused(dialect: Dialect, persona: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        build_endpoint(dialect, SERVER, voice="NATF0", persona=persona)


def test_a_persona_that_is_no_utf_8_is_refused() -> None:
    error = refusal(persona=f"{PERSONA}\udcff")
    assert "pirate" not in f"{error}{error.hint}"
    assert error.__suppress_context__  # the exception behind it holds the persona


def test_the_longest_url_is_8192_bytes() -> None:
    room = URL_LIMIT_BYTES - len(polargrid(persona="x").url)
    endpoint = polargrid(persona="x" + "x" * room)
    assert len(endpoint.url) == URL_LIMIT_BYTES
    error = refusal(persona="x" + "x" * room + "x")
    assert "8,193" in str(error) and "8,192" in str(error)
    assert "xxx" not in f"{error}{error.hint}"


@pytest.mark.parametrize(("character", "bytes_each"), [("a", 1), (" ", 3), ("\u00e9", 6), ("\U0001f600", 12)])
def test_the_limit_counts_bytes_as_they_travel(character: str, bytes_each: int) -> None:
    room = (URL_LIMIT_BYTES - len(polargrid(persona="x").url)) // bytes_each
    polargrid(persona="x" + character * room)
    refusal(persona="x" + character * (room + 1))


def test_a_token_in_the_query_counts_too() -> None:
    error = refusal(persona=PERSONA, token="t" * URL_LIMIT_BYTES, token_in=TokenIn.QUERY)
    assert "ttt" not in f"{error}{error.hint}"
