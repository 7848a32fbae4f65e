from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from personaplex_cli.cli.app import run
from personaplex_cli.config import config_path
from personaplex_cli.errors import ExitCode
from personaplex_cli.tokens import cache_path

if TYPE_CHECKING:
    from conftest import TokenServer

Capture = pytest.CaptureFixture[str]

KEY = "pg_secret_0123456789"


@pytest.fixture(autouse=True)
def key_and_server(monkeypatch: pytest.MonkeyPatch, token_server: TokenServer) -> None:
    monkeypatch.setenv("POLARGRID_API_KEY", KEY)
    monkeypatch.setenv("PERSONAPLEX_AUTH_URL", token_server.url)


def make_jwt(**claims: Any) -> str:
    return jwt.encode(claims, "0" * 32, algorithm="HS256")


def test_the_token_alone_is_printed(capsys: Capture) -> None:
    assert run(["token"]) == 0
    assert capsys.readouterr() == ("abc\n", "")


def test_json_adds_lifetime_and_public_claims(capsys: Capture, token_server: TokenServer) -> None:
    value = make_jwt(iss="issuer", email="a@b.example", sid="1")
    token_server.body = json.dumps({"token": value, "expires_in": 900}).encode()
    before = int(time.time())
    assert run(["token", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["token"] == value
    assert answer["claims"] == {"iss": "issuer"}
    assert 0 < answer["expires_in"] <= 900
    expires_at = datetime.fromisoformat(answer["expires_at"])
    assert expires_at.utcoffset() is not None
    assert before + 900 <= expires_at.timestamp() <= time.time() + 900


def test_json_of_a_token_whose_lifetime_nobody_said(capsys: Capture) -> None:
    assert run(["token", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "token": "abc",
        "expires_at": None,
        "expires_in": None,
        "claims": {},
    }


def test_the_token_is_kept_unless_told_otherwise(token_server: TokenServer) -> None:
    token_server.body = b'{"token": "abc", "expires_in": 900}'
    assert run(["token", "--no-cache"]) == 0
    assert not cache_path().exists()
    assert run(["token"]) == run(["token"]) == 0
    assert len(token_server.requests) == 2


def test_the_option_goes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, token_server: TokenServer
) -> None:
    monkeypatch.setenv("PERSONAPLEX_AUTH_URL", "http://127.0.0.1:9/")
    assert run(["token", "--auth-url", token_server.url]) == 0


def test_insecure_warns(capsys: Capture) -> None:
    assert run(["token", "--insecure"]) == 0
    out, err = capsys.readouterr()
    assert out == "abc\n" and err.startswith("warning: ")


def test_a_configuration_file_others_can_read_gives_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.delenv("POLARGRID_API_KEY")
    config_path().write_text(f'api_key = "{KEY}"')
    config_path().chmod(0o644)
    assert run(["token"]) == 0
    out, err = capsys.readouterr()
    assert out == "abc\n" and err.startswith("note: ") and KEY not in err


def test_no_key(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.delenv("POLARGRID_API_KEY")
    assert run(["token"]) == ExitCode.CREDENTIALS
    assert capsys.readouterr().err.startswith("error: There is no API key.\n  ")


@pytest.mark.parametrize("arguments", [["token"], ["--debug", "token"]])
def test_a_refused_key_is_not_shown(capsys: Capture, token_server: TokenServer, arguments: list[str]) -> None:
    token_server.status, token_server.body = 401, KEY.encode()
    assert run(arguments) == ExitCode.CREDENTIALS
    out, err = capsys.readouterr()
    assert out == "" and "HTTP 401" in err and KEY not in err


def test_a_ca_file_that_is_missing(capsys: Capture) -> None:
    assert run(["token", "--ca-file", "missing.pem"]) == ExitCode.USAGE
    assert "missing.pem" in capsys.readouterr().err
