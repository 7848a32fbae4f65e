from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from personaplex_cli.auth import exchange, get_token
from personaplex_cli.errors import (
    CredentialsError,
    PersonaplexError,
    ServerError,
    UsageError,
)
from personaplex_cli.tokens import Token, cache_path

if TYPE_CHECKING:
    from conftest import TokenServer

NOW = 1_800_000_000.0
KEY = "pg_secret_0123456789"


def clock() -> float:
    return NOW


def make_jwt(**claims: Any) -> str:
    return jwt.encode(claims, "0" * 32, algorithm="HS256")


def refused(expected: type[PersonaplexError], url: str) -> PersonaplexError:
    """The error of an exchange that must fail. Nothing it shows holds the key."""
    with pytest.raises(PersonaplexError) as caught:
        exchange(KEY, url, timeout_s=5, now=clock)
    error = caught.value
    assert type(error) is expected
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert KEY not in shown + (error.hint or "")
    assert "\n" not in str(error)
    return error


# What goes out


def test_the_key_goes_out_as_a_bearer_without_a_body(token_server: TokenServer) -> None:
    exchange(KEY, token_server.url, timeout_s=5, now=clock)
    [(path, headers)] = token_server.requests
    assert path == "/v1/auth/token"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-length"] == "0"


def test_a_proxy_is_not_used_on_this_machine(
    token_server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert exchange(KEY, token_server.url, timeout_s=5, now=clock).value == "abc"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(token_server: TokenServer, status: int) -> None:
    token_server.status = status
    token_server.headers = {"Location": token_server.url + "/other"}
    assert "redirects" in str(refused(ServerError, token_server.url))
    assert len(token_server.requests) == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://auth.example/token", "unencrypted to auth.example"),
        ("http://127.0.0.1.example/token", "unencrypted"),
        ("http://10.0.0.1/token", "unencrypted"),
        ("ftp://auth.example/token", "must begin with https://"),
        ("auth.example/token", "must begin with https://"),
        ("https://", "must begin with https://"),
        ("", "must begin with https://"),
        ("https://me:word@auth.example/", "user name or password"),
        ("https://auth.example:port/", "not a URL"),
        ("https://auth.example/\n", "not a URL"),
        ("https://" + "a" * 70 + ".example/", "cannot be the name of a server"),
    ],
)
def test_an_address_the_key_must_not_go_to(url: str, said: str) -> None:
    assert said in str(refused(UsageError, url))


@pytest.mark.parametrize("proxy", ["nonsense://proxy.example", "socks5://proxy.example"])
def test_proxy_settings_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    assert "proxy settings" in str(refused(UsageError, "https://auth.example/"))


# What comes back


def test_the_lifetime_is_expires_in_counted_from_the_question(token_server: TokenServer) -> None:
    value = make_jwt(exp=NOW + 5, iss="i", email="a@b.example")
    token_server.body = json.dumps({"token": value, "expires_in": 900, "session_token": "s"}).encode()
    token = exchange(KEY, token_server.url, timeout_s=5, now=clock)
    assert token == Token(value, NOW + 900, {"iss": "i", "exp": NOW + 5})
    assert value not in repr(token)


@pytest.mark.parametrize("extra", [{}, {"expires_in": "soon"}, {"expires_in": True}, {"expires_in": -1}])
def test_the_lifetime_is_the_jwt_s_otherwise(token_server: TokenServer, extra: dict[str, object]) -> None:
    token_server.body = json.dumps({"token": make_jwt(exp=NOW + 5), **extra}).encode()
    assert exchange(KEY, token_server.url, timeout_s=5, now=clock).expires_at == NOW + 5


@pytest.mark.parametrize("more", ["", ', "expires_in": null', ', "expires_in": 1e999', ', "expires_in": NaN'])
def test_the_lifetime_may_be_unknown(token_server: TokenServer, more: str) -> None:
    token_server.body = f'{{"token": "abc"{more}}}'.encode()
    assert exchange(KEY, token_server.url, timeout_s=5, now=clock) == Token("abc", None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "did not answer in JSON"),
        (b"<html>", "did not answer in JSON"),
        (b"\xff\xfe\xff", "did not answer in JSON"),
        (b"[" * 60_000, "did not answer in JSON"),
        (b'["abc"]', "did not answer in JSON"),
        (b"{}", "without a token"),
        (b'{"token": null}', "without a token"),
        (b'{"token": 5}', "cannot be a token"),
        (b'{"token": ""}', "cannot be a token"),
        (b'{"token": "a b"}', "cannot be a token"),
        (b'{"token": "a\\r\\nX: y"}', "cannot be a token"),
        ('{"token": "caf\u00e9"}'.encode(), "cannot be a token"),
        (b" " * 70_000, "endless"),
    ],
)
def test_an_answer_that_is_no_token(token_server: TokenServer, body: bytes, said: str) -> None:
    token_server.body = body
    assert said in str(refused(ServerError, token_server.url))


def test_an_answer_that_cannot_be_decompressed(token_server: TokenServer) -> None:
    token_server.headers = {"Content-Encoding": "gzip"}
    assert "cannot be decoded" in str(refused(ServerError, token_server.url))


@pytest.mark.parametrize(
    ("status", "expected", "said", "hint"),
    [
        (400, ServerError, "did not accept", ""),
        (401, CredentialsError, "refused the API key", "Check the key"),
        (403, CredentialsError, "or exchanges no keys", "--auth key"),
        (404, CredentialsError, "no token exchange at 127.0.0.1/v1/auth/token", "--auth key"),
        (405, CredentialsError, "no token exchange", "--auth key"),
        (410, CredentialsError, "no token exchange", "--auth-url"),
        (422, ServerError, "did not accept", ""),
        (429, ServerError, "too many requests", "Wait"),
        (500, ServerError, "failed to make a token", "later"),
        (503, ServerError, "failed to make a token", "later"),
    ],
)
def test_each_status_has_its_own_words(
    token_server: TokenServer, status: int, expected: type[PersonaplexError], said: str, hint: str
) -> None:
    token_server.status = status
    token_server.body = b'{"message": "not today"}'
    error = refused(expected, token_server.url)
    assert said in str(error) and f"HTTP {status}" in str(error)
    assert str(error).endswith("It says: not today")
    assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": "expired plan"}, "expired plan"),
        ({"error": {"message": "expired plan", "code": 7}}, "expired plan"),
        ({"detail": " expired\nplan "}, "expired plan"),
        ({"message": "\x1b[31mred\u202e"}, "\ufffd[31mred\ufffd"),
        ({"message": "x" * 300}, "x" * 200),
    ],
)
def test_the_server_s_reason_is_made_harmless(token_server: TokenServer, body: object, reason: str) -> None:
    token_server.status, token_server.body = 401, json.dumps(body).encode()
    assert str(refused(CredentialsError, token_server.url)).endswith(f"It says: {reason}")


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"message": f"the key {KEY} is bad"}).encode(),
        json.dumps({"message": "x" * 190 + KEY}).encode(),
        json.dumps({"message": ""}).encode(),
        json.dumps({"message": 5, "error": ["a"]}).encode(),
        KEY.encode(),
        b"<html>nginx</html>",
    ],
)
def test_a_reason_that_echoes_the_key_or_is_none_is_not_shown(token_server: TokenServer, body: bytes) -> None:
    token_server.status, token_server.body = 401, body
    error = refused(CredentialsError, token_server.url)
    assert str(error) == "127.0.0.1 refused the API key (HTTP 401)."


# With the kept token


def answers_with(server: TokenServer, value: str, expires_in: float) -> None:
    server.body = json.dumps({"token": value, "expires_in": expires_in}).encode()


def at(time_s: float) -> Callable[[], float]:
    return lambda: time_s


def test_a_token_is_asked_for_once_while_it_is_valid(token_server: TokenServer) -> None:
    answers_with(token_server, "first", 100)
    assert get_token(KEY, token_server.url, now=clock).value == "first"
    answers_with(token_server, "second", 100)
    assert get_token(KEY, token_server.url, now=at(NOW + 39)).value == "first"
    assert get_token(KEY, token_server.url, now=at(NOW + 41)).value == "second"
    assert len(token_server.requests) == 2


def test_another_key_asks_again(token_server: TokenServer) -> None:
    answers_with(token_server, "first", 100)
    get_token(KEY, token_server.url, now=clock)
    get_token("pg_other", token_server.url, now=clock)
    assert len(token_server.requests) == 2


def test_without_the_cache_nothing_is_read_or_kept(token_server: TokenServer) -> None:
    answers_with(token_server, "first", 100)
    get_token(KEY, token_server.url, use_cache=False, now=clock)
    assert not cache_path().exists()
    get_token(KEY, token_server.url, now=clock)
    answers_with(token_server, "second", 100)
    assert get_token(KEY, token_server.url, use_cache=False, now=clock).value == "second"
    assert get_token(KEY, token_server.url, now=clock).value == "first"
