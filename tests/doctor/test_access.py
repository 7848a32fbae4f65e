from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from personaplex_cli.doctor.access import Access, Settings, SetValue
from personaplex_cli.doctor.check import Finding, Status
from personaplex_cli.errors import ConnectError, CredentialsError, ExitCode

if TYPE_CHECKING:
    from conftest import TokenServer

NOW = 1_800_000_000.0
KEY = "pg_secret_0123456789"
SETTINGS = Settings(
    Path("config.toml"), None, None, [SetValue("voice", "NATM1", "file, line 3")], KEY, "keyring"
)


def access(settings: Settings = SETTINGS, **changes: Any) -> Access:
    usual: dict[str, Any] = {
        "sends_key": False,
        "wants_none": False,
        "token_text": None,
        "auth_url": None,
        "ca_file": None,
        "insecure": False,
        "now": lambda: NOW,
    }
    found = Access(read=lambda: settings, **{**usual, **changes})
    found.check_configuration()
    return found


def answers(server: TokenServer, **claims: float) -> None:
    token = jwt.encode({**claims, "email": "me@example"}, "0" * 32, algorithm="HS256")
    server.body = json.dumps({"token": token, "expires_in": 600}).encode()


def clock(server: TokenServer, **claims: float) -> Finding:
    answers(server, **claims)
    checked = access(auth_url=server.url)
    checked.check_token()
    return checked.check_clock()


def test_each_value_with_its_origin() -> None:
    finding = access().check_configuration()
    assert "voice = NATM1 (file, line 3)" in finding.text
    assert finding.figures["origins"] == {"voice": "file, line 3"}


def test_a_note_about_the_file_is_a_warning() -> None:
    finding = access(replace(SETTINGS, note="others can read it: run chmod 600")).check_configuration()
    assert finding.status is Status.WARNING and "chmod 600" in finding.hint


def test_the_key_is_never_shown() -> None:
    finding = access().check_key()
    assert (finding.status, finding.text) == (Status.OK, "Present, from keyring.")
    assert KEY not in repr(finding) and KEY not in repr(SETTINGS)


def test_no_key() -> None:
    error = CredentialsError("There is no API key.", "one\ntwo\nthree")
    checked = access(replace(SETTINGS, key="", key_error=error))
    finding = checked.check_key()
    assert (finding.status, finding.exit_code) == (Status.FAILURE, ExitCode.CREDENTIALS)
    assert finding.hint == "one\ntwo\nthree"
    assert checked.check_token().status is checked.check_clock().status is Status.SKIPPED


def test_a_key_that_is_accepted(token_server: TokenServer) -> None:
    answers(token_server, iat=NOW - 1)
    finding = access(auth_url=token_server.url).check_token()
    assert finding.text == "The key was accepted; a token for 600 s."
    assert finding.figures == {"expires_in_s": 600}
    assert token_server.requests[0][1]["authorization"] == f"Bearer {KEY}"


def test_a_kept_token_proves_nothing(token_server: TokenServer) -> None:
    answers(token_server)
    checked = access(auth_url=token_server.url)
    checked.check_token()
    checked.check_token()
    assert len(token_server.requests) == 2


def test_a_key_that_is_refused(token_server: TokenServer) -> None:
    token_server.status = 401
    with pytest.raises(CredentialsError, match="refused the API key"):
        access(auth_url=token_server.url).check_token()


def test_an_exchange_that_does_not_answer() -> None:
    with pytest.raises(ConnectError):
        access(auth_url="http://127.0.0.1:1/").check_token()


def test_with_auth_key_nothing_is_exchanged() -> None:
    checked = access(sends_key=True, auth_url="http://127.0.0.1:1/")
    assert checked.check_key().status is Status.OK
    assert checked.check_token().status is checked.check_clock().status is Status.SKIPPED


def test_a_server_of_ones_own_wants_nothing() -> None:
    checked = access(replace(SETTINGS, key=""), wants_none=True)
    found = checked.check_key(), checked.check_token(), checked.check_clock()
    assert {finding.status for finding in found} == {Status.SKIPPED}


def test_a_token_that_is_given() -> None:
    token = jwt.encode({"exp": NOW + 120, "iat": NOW - 1000}, "0" * 32, algorithm="HS256")
    checked = access(token_text=token)
    assert checked.check_key().status is Status.SKIPPED
    assert checked.check_token().text == "The token that is given for 120 s."
    assert checked.check_clock().status is Status.SKIPPED  # nobody knows how old it may be


def test_a_token_that_is_given_and_has_expired() -> None:
    token = jwt.encode({"exp": NOW - 1}, "0" * 32, algorithm="HS256")
    with pytest.raises(CredentialsError, match="expired"):
        access(token_text=token).check_token()


@pytest.mark.parametrize("skew_s", [0, 1, -30, 30])
def test_a_clock_that_is_right_enough(token_server: TokenServer, skew_s: float) -> None:
    finding = clock(token_server, iat=NOW - skew_s)
    assert finding.status is Status.OK and finding.figures == {"skew_s": skew_s}


@pytest.mark.parametrize(("skew_s", "words"), [(31, "31 s ahead"), (-90, "90 s behind")])
def test_a_clock_that_is_wrong(token_server: TokenServer, skew_s: float, words: str) -> None:
    finding = clock(token_server, iat=NOW - skew_s, exp=NOW - skew_s + 600)
    assert finding.status is Status.WARNING and words in finding.text
    assert "NTP" in finding.hint and finding.figures == {"skew_s": skew_s}


def test_a_clock_by_which_a_new_token_has_expired(token_server: TokenServer) -> None:
    finding = clock(token_server, iat=NOW - 900, exp=NOW - 300)
    assert (finding.status, finding.exit_code) == (Status.FAILURE, ExitCode.CREDENTIALS)
    assert "900 s ahead" in finding.text and "already expired" in finding.text


def test_a_token_that_does_not_say_when_it_was_made(token_server: TokenServer) -> None:
    assert clock(token_server).status is Status.SKIPPED


def test_a_slow_exchange_is_no_skew(token_server: TokenServer) -> None:
    answers(token_server, iat=NOW + 10)
    ticks = iter([NOW, NOW, NOW + 20])
    checked = access(auth_url=token_server.url, now=lambda: next(ticks, NOW + 20))
    checked.check_token()
    assert checked.check_clock().figures["skew_s"] <= 10


def test_the_default_clock_is_the_wall_s() -> None:
    assert Access(lambda: SETTINGS, False, False, None, None, None, False).now is time.time
