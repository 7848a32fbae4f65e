from __future__ import annotations

import json
import os
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from personaplex_cli.errors import CredentialsError, ExitCode
from personaplex_cli.tokens import (
    Token,
    cache_path,
    cache_token,
    cached_token,
    decode_claims,
    public_claims,
    validate_token,
)

NOW = 1_800_000_000.0
KEY = "pg_secret_0123456789"
URL = "https://auth.example/v1/auth/token"


def clock(time_s: float = NOW) -> Callable[[], float]:
    return lambda: time_s


def make_jwt(**claims: Any) -> str:
    return jwt.encode(claims, "0" * 32, algorithm="HS256")


def test_a_token_does_not_show_itself() -> None:
    assert "abc.def" not in repr(Token("abc.def", None))


def test_claims_of_a_jwt_are_read_without_its_key() -> None:
    assert decode_claims(make_jwt(sub="me", exp=5)) == {"sub": "me", "exp": 5}


@pytest.mark.parametrize("text", ["", "abc", "a.b.c", "e30.e30.", "....", "eyJ\u00e9.e30.x", "a" * 100_000])
def test_what_is_no_jwt_has_no_claims(text: str) -> None:
    assert decode_claims(text) == {}


def test_only_harmless_claims_are_public() -> None:
    claims = {
        "iss": "i",
        "exp": 1,
        "scope": "voice",
        "sub": "a@b.example",
        "email": "a@b.example",
        "sid": "s",
    }
    assert public_claims(claims) == {"iss": "i", "exp": 1, "scope": "voice"}


def test_a_given_token_is_stripped_and_its_lifetime_read() -> None:
    value = make_jwt(exp=NOW + 5, aud="voice", email="a@b.example")
    token = validate_token(f" {value}\n", now=clock())
    assert token == Token(value, NOW + 5, {"aud": "voice", "exp": NOW + 5})


def test_a_given_token_need_not_be_a_jwt() -> None:
    assert validate_token("opaque-token_1~", now=clock()) == Token("opaque-token_1~", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("secret token", "characters that no token has"),
        ("Bearer secret", "characters that no token has"),
        ("secret,two", "characters that no token has"),
        ("secret\u00e9", "characters that no token has"),
        ("secret\r\nX-Other: 1", "characters that no token has"),
        (make_jwt(exp=NOW - 1), "expired"),
        (make_jwt(exp=NOW), "expired"),
        (f" {KEY}", "API key, not a token"),
    ],
)
def test_an_unusable_token_is_refused_unseen(text: str, said: str) -> None:
    with pytest.raises(CredentialsError, match=said) as caught:
        validate_token(text, now=clock())
    assert caught.value.exit_code == ExitCode.CREDENTIALS
    shown = "".join(traceback.format_exception(caught.value)) + (caught.value.hint or "")
    assert not text.strip() or text.strip() not in shown


def test_a_key_in_the_token_s_place_says_where_keys_go() -> None:
    with pytest.raises(CredentialsError) as caught:
        validate_token(KEY, now=clock())
    hint = caught.value.hint or ""
    assert "POLARGRID_API_KEY" in hint and "configuration file" in hint and "--auth key" in hint


def test_the_cache_is_in_the_usual_folder_without_the_variable(
    monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    monkeypatch.delenv("PERSONAPLEX_CACHE_DIR")
    assert cache_path().is_relative_to(own_home)


def test_a_kept_token_comes_back_until_a_minute_before_its_end() -> None:
    value = make_jwt(iss="i", sub="me")
    cache_token(Token(value, NOW + 100), KEY, URL)
    assert cached_token(KEY, URL, now=clock(NOW + 39.9)) == Token(value, NOW + 100, {"iss": "i"})
    assert cached_token(KEY, URL, now=clock(NOW + 40)) is None


def test_another_key_or_url_gets_no_kept_token() -> None:
    cache_token(Token("abc", NOW + 100), KEY, URL)
    assert cached_token(KEY + "x", URL, now=clock()) is None
    assert cached_token(KEY, URL + "x", now=clock()) is None


def test_a_token_without_a_lifetime_is_not_kept() -> None:
    cache_token(Token("abc", None), KEY, URL)
    assert not cache_path().exists()


def test_the_kept_file_does_not_hold_the_key() -> None:
    cache_token(Token("abc", NOW + 100), KEY, URL)
    assert KEY not in cache_path().read_text()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_kept_file_is_the_user_s_alone_even_if_the_one_before_was_not() -> None:
    cache_path().parent.mkdir()
    cache_path().write_text("{}")
    cache_path().chmod(0o666)
    before = os.umask(0)
    try:
        cache_token(Token("abc", NOW + 100), KEY, URL)
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache_path().stat().st_mode) == 0o600


def test_the_file_is_replaced_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_token(Token("abc", NOW + 100), KEY, URL)

    def no_space(*args: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", no_space)
    cache_token(Token("new", NOW + 200), KEY, URL)
    token = cached_token(KEY, URL, now=clock())
    assert token is not None and token.value == "abc"
    assert [path.name for path in cache_path().parent.iterdir()] == ["token.json"]


def test_a_folder_that_cannot_be_made_is_no_error(own_home: Path) -> None:
    (own_home / "cache").write_text("a file where the folder should be")
    cache_token(Token("abc", NOW + 100), KEY, URL)
    assert cached_token(KEY, URL, now=clock()) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"made_for": 1, "token": 2}']
)
def test_a_damaged_file_is_no_token(content: bytes) -> None:
    cache_path().parent.mkdir()
    cache_path().write_bytes(content)
    assert cached_token(KEY, URL, now=clock()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"token": None},
        {"token": "a b"},
        {"token": ""},
        {"expires_at": None},
        {"expires_at": "soon"},
        {"expires_at": True},
        {"expires_at": float("nan")},
        {"expires_at": 10**400},
    ],
)
def test_a_file_with_a_wrong_value_is_no_token(change: dict[str, object]) -> None:
    cache_token(Token("abc", NOW + 100), KEY, URL)
    entry = json.loads(cache_path().read_text())
    cache_path().write_text(json.dumps(entry | change))
    assert cached_token(KEY, URL, now=clock()) is None
