"""`personaplex login` and `logout`. The keyring is a fake, and the exchange a server of this machine."""

from __future__ import annotations

import getpass
import io
import stat
import sys
import tomllib
from typing import TYPE_CHECKING

import keyring.core
import pytest
import typer
from test_config import KEY, write_config
from test_keyring import Backend, Raising

from personaplex_cli import auth
from personaplex_cli.cli.app import run
from personaplex_cli.config import config_path
from personaplex_cli.errors import ExitCode
from personaplex_cli.tokens import cache_path

if TYPE_CHECKING:
    from conftest import TokenServer

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch

OTHER = "pg_other_0123456789"


class Typed(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def backend(monkeypatch: Patch) -> Backend:
    backend = Backend()
    monkeypatch.setattr(keyring.core, "_keyring_backend", backend)
    return backend


@pytest.fixture(autouse=True)
def key_in_a_pipe(monkeypatch: Patch, token_server: TokenServer) -> None:
    monkeypatch.setenv("PERSONAPLEX_AUTH_URL", token_server.url)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f" {KEY} \nmore"))


@pytest.fixture
def at_a_terminal(monkeypatch: Patch) -> None:
    monkeypatch.setattr(sys, "stdin", Typed())
    monkeypatch.setattr(getpass, "getpass", lambda _: KEY)


def said(capsys: Capture) -> str:
    """On stderr: nothing goes to stdout, and the key nowhere."""
    out, err = capsys.readouterr()
    assert out == "" and KEY not in err and OTHER not in err
    return err


# --- login


def test_a_good_key_is_kept(backend: Backend, capsys: Capture, token_server: TokenServer) -> None:
    token_server.body = b'{"token": "abc", "expires_in": 900}'
    assert run(["login"]) == ExitCode.OK
    assert backend.kept == {("personaplex", "default"): KEY}
    assert [headers["authorization"] for _, headers in token_server.requests] == [f"Bearer {KEY}"]
    assert said(capsys) == "note: The key is kept in the system's keyring.\n"
    assert not config_path().exists() and not cache_path().exists()
    assert run(["token"]) == ExitCode.OK


@pytest.mark.usefixtures("at_a_terminal")
def test_at_a_terminal_it_is_asked_for(backend: Backend, capsys: Capture) -> None:
    assert run(["login"]) == ExitCode.OK
    assert backend.kept == {("personaplex", "default"): KEY}
    said(capsys)


@pytest.mark.usefixtures("at_a_terminal")
def test_ctrl_c_at_the_prompt_is_130(backend: Backend, monkeypatch: Patch, capsys: Capture) -> None:
    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(getpass, "getpass", interrupted)
    assert run(["login"]) == ExitCode.INTERRUPTED
    assert "internal error" not in said(capsys)
    assert backend.kept == {}


@pytest.mark.parametrize(
    ("server", "options", "checked"),
    [
        ('server = "wss://own.example"\n', [], True),
        ('server = "wss://own.example"\n', ["--insecure"], False),
        ("", [], False),
    ],
)
def test_what_is_said_of_an_own_server_is_not_said_of_the_exchange(
    server: str, options: list[str], checked: bool, backend: Backend, monkeypatch: Patch, capsys: Capture
) -> None:
    """Else the key would go to anyone who stands in for PolarGrid."""
    write_config(f"{server}insecure = true\n")
    monkeypatch.delenv("PERSONAPLEX_AUTH_URL")
    asked: list[bool] = []
    monkeypatch.setattr(auth, "get_token", lambda *_, insecure, **__: asked.append(not insecure))
    assert run(["login", *options]) == ExitCode.OK
    assert asked == [checked]
    assert ("not checked" in said(capsys)) is not checked


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (401, KEY.encode(), ExitCode.CREDENTIALS, "refused the API key"),
        (404, b"", ExitCode.CREDENTIALS, "no token exchange"),
        (503, b"", ExitCode.SERVER, "failed to make a token"),
    ],
)
def test_a_key_that_is_not_taken_is_not_kept(
    status: int,
    body: bytes,
    code: ExitCode,
    words: str,
    backend: Backend,
    capsys: Capture,
    token_server: TokenServer,
) -> None:
    token_server.status, token_server.body = status, body
    assert run(["login"]) == code
    err = said(capsys)
    assert words in err and "Nothing was kept." in err and "--no-check" in err
    assert backend.kept == {}


def test_no_check_asks_nobody(backend: Backend, token_server: TokenServer) -> None:
    assert run(["login", "--no-check"]) == ExitCode.OK
    assert token_server.requests == []
    assert backend.kept == {("personaplex", "default"): KEY}


@pytest.mark.parametrize(
    ("typed", "words"),
    [("", "No key was given."), ("\n", "No key"), ("pg_a b", "characters that no key has")],
)
def test_what_is_no_key(
    typed: str, words: str, backend: Backend, monkeypatch: Patch, capsys: Capture, token_server: TokenServer
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert run(["login"]) == ExitCode.CREDENTIALS
    assert words in said(capsys)
    assert (token_server.requests, backend.kept) == ([], {})


def test_a_closed_stdin(backend: Backend, monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run(["login"]) == ExitCode.CREDENTIALS
    assert "Standard input is closed" in said(capsys)


def test_a_profile_has_its_own_key_and_exchange(
    backend: Backend, monkeypatch: Patch, token_server: TokenServer
) -> None:
    monkeypatch.delenv("PERSONAPLEX_AUTH_URL")
    write_config(f'auth_url = "http://127.0.0.1:9/"\n[profiles.work]\nauth_url = "{token_server.url}"\n')
    assert run(["login", "--profile", "work"]) == ExitCode.OK
    assert backend.kept == {("personaplex", "work"): KEY}
    assert len(token_server.requests) == 1


@pytest.mark.parametrize(
    "arguments", [["login", "--profile", "new"], ["login", "--profile", "new", "--file"]]
)
def test_a_profile_begins_with_its_key(arguments: list[str], backend: Backend) -> None:
    write_config('# mine\nvoice = "NATM1"\n')
    assert run(arguments) == ExitCode.OK
    table = {"api_key": KEY} if "--file" in arguments else {}
    text = config_path().read_text()
    assert tomllib.loads(text) == {"voice": "NATM1", "profiles": {"new": table}}
    assert text.startswith("# mine\n")
    assert run(["--profile", "new", "token"]) == ExitCode.OK


def test_a_profile_of_the_environment_must_be_there(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setenv("PERSONAPLEX_PROFILE", "wrok")
    assert run(["login"]) == ExitCode.USAGE
    assert "There is no profile wrok" in said(capsys)


def test_an_impossible_profile(capsys: Capture) -> None:
    assert run(["login", "--profile", "default"]) == ExitCode.USAGE
    assert "No profile can be called default" in said(capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_in_the_file_it_is_for_its_owner_alone(backend: Backend, capsys: Capture) -> None:
    path = write_config("voice = 'NATM1'  # mine\n", 0o644)
    assert run(["login", "--file"]) == ExitCode.OK
    assert path.read_text() == f"voice = 'NATM1'  # mine\napi_key = \"{KEY}\"\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert backend.kept == {}
    assert said(capsys) == f"note: The key is kept in {path}, which only you can read.\n"


@pytest.mark.parametrize("place", ["environment", "file"])
def test_a_key_that_comes_before_it_is_told(
    place: str, backend: Backend, monkeypatch: Patch, capsys: Capture
) -> None:
    if place == "environment":
        monkeypatch.setenv("POLARGRID_API_KEY", OTHER)
    else:
        write_config(f'api_key = "{OTHER}"\n')
    assert run(["login"]) == ExitCode.OK
    origin = "environment POLARGRID_API_KEY" if place == "environment" else "file, line 1"
    assert f"warning: there is another key, which comes before it: {origin}.\n" in said(capsys)


# --- where there is no keyring


def test_without_a_keyring_it_says_what_is_possible(capsys: Capture) -> None:
    assert run(["login"]) == ExitCode.CREDENTIALS
    err = said(capsys)
    assert err.startswith("error: This system has no keyring.\n  Nothing was kept.")
    assert "personaplex login --file" in err and "read -rs POLARGRID_API_KEY" in err
    assert not config_path().exists()


def test_a_keyring_that_fails(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(keyring.core, "_keyring_backend", Raising())
    assert run(["--debug", "login"]) == ExitCode.CREDENTIALS
    err = said(capsys)
    assert "The system's keyring failed (KeyringLocked)." in err and "unlock it" in err and "--file" in err


@pytest.mark.usefixtures("at_a_terminal")
@pytest.mark.parametrize("answer", [True, False])
def test_at_a_terminal_the_file_is_offered(answer: bool, monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: answer)
    assert run(["login"]) == (ExitCode.OK if answer else ExitCode.CREDENTIALS)
    assert config_path().exists() == answer
    err = said(capsys)
    assert "warning: This system has no keyring." in err
    assert ("The key is kept in" if answer else "Nothing was kept") in err


# --- logout


def test_logout_forgets_key_and_token(backend: Backend, capsys: Capture, token_server: TokenServer) -> None:
    token_server.body = b'{"token": "abc", "expires_in": 900}'
    assert run(["login"]) == ExitCode.OK
    assert run(["token"]) == ExitCode.OK
    assert cache_path().exists()
    capsys.readouterr()
    assert run(["logout"]) == ExitCode.OK
    assert said(capsys) == "note: The key is gone from the system's keyring.\n"
    assert backend.kept == {} and not cache_path().exists()
    assert run(["logout"]) == ExitCode.OK
    assert said(capsys) == "note: No key was kept.\n"


def test_logout_of_a_profile_leaves_the_others(backend: Backend, capsys: Capture) -> None:
    backend.kept = {("personaplex", "default"): OTHER, ("personaplex", "work"): KEY}
    write_config(f'voice = "NATM1"\n[profiles.work]\napi_key = "{KEY}"  # secret\n')
    assert run(["logout", "--profile", "work"]) == ExitCode.OK
    assert backend.kept == {("personaplex", "default"): OTHER}
    assert config_path().read_text() == 'voice = "NATM1"\n[profiles.work]\n'
    places = f"{config_path()} and the system's keyring"
    assert said(capsys) == (
        f"note: The key of the profile work is gone from {places}.\nnote: There is another key: keyring.\n"
    )


def test_logout_says_what_it_cannot_forget(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setenv("POLARGRID_API_KEY", KEY)
    assert run(["logout"]) == ExitCode.OK
    err = said(capsys)
    assert "No key was kept." in err and "another key: environment POLARGRID_API_KEY" in err


def test_logout_with_a_keyring_that_fails(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(keyring.core, "_keyring_backend", Raising())
    write_config(f'api_key = "{KEY}"\n')
    assert run(["logout"]) == ExitCode.CREDENTIALS
    assert "The system's keyring failed" in said(capsys)
    assert config_path().read_text() == ""


# --- the first run, and the prompt in a real terminal


def test_a_call_without_a_key_says_how_to_go_on(capsys: Capture) -> None:
    assert run(["talk", "--input-device", "none", "--output", "none"]) == ExitCode.CREDENTIALS
    error, *hints = said(capsys).splitlines()
    assert error == "error: There is no API key."
    assert len(hints) == 3
    for hint, words in zip(hints, ("PolarGrid's console", "personaplex login", "--local"), strict=True):
        assert words in hint


@pytest.mark.skipif(sys.platform == "win32", reason="consoles have other ways")
def test_what_is_typed_is_not_shown() -> None:
    from terminal_program import PROGRAM, Window

    no_keyring = "keyring.backends.fail.Keyring"
    with Window(*PROGRAM, "login", "--no-check", PYTHON_KEYRING_BACKEND=no_keyring) as window:
        window.wait_for("API key (not shown)")
        window.press(f"{KEY}\r")
        window.wait_for("[y/N]")
        window.press("y\r")
        assert window.wait_for_end() == ExitCode.OK
        assert b"The key is kept in" in window.written
        assert KEY not in window.written.decode()
