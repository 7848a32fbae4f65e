"""`personaplex talk` where the machine around it is not as usual: environment, descriptors, signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from personaplex_cli.cli.app import run
from personaplex_cli.errors import CredentialsError, ExitCode
from personaplex_cli.pcm import SAMPLE_RATE
from personaplex_cli.standin.session import StandInSession
from personaplex_cli.tokens import cache_path

Capture = pytest.CaptureFixture[str]

PROGRAM = [sys.executable, "-m", "personaplex_cli"]
KEY = "pg_secret_0123456789"
CA_FILE = Path(__file__).parent.parent / "fixtures" / "tls" / "loopback.pem"


@pytest.fixture
def quiet(tmp_path: Path) -> str:
    path = tmp_path / "quiet.wav"
    soundfile.write(path, np.zeros(SAMPLE_RATE // 10), SAMPLE_RATE)
    return str(path)


def short(quiet: str, *more: str) -> list[str]:
    return ["talk", "--local", "--input", quiet, "--max-duration", "0.2", *more]


# --- environment and options


def test_local_wins_over_what_the_environment_says_of_other_servers(
    quiet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAPLEX_SERVER", "wss://voice.example")
    monkeypatch.setenv("PERSONAPLEX_TOKEN", "abc")
    assert run(short(quiet)) == ExitCode.OK


def test_an_empty_server_is_not_the_one_that_is_paid_for(quiet: str, capsys: Capture) -> None:
    assert run(["talk", "--server", "", "--token", "abc", "--input", quiet]) == ExitCode.USAGE
    assert "ws://" in capsys.readouterr().err


def test_a_token_from_a_closed_standard_input(
    quiet: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert run(["talk", "--token", "-", "--input", quiet]) == ExitCode.USAGE
    assert "Standard input is closed" in capsys.readouterr().err


def test_a_key_that_no_header_takes(quiet: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARGRID_API_KEY", "pg_a/b==")
    assert run(["talk", "--auth", "key", "--input", quiet]) == ExitCode.CREDENTIALS
    err = capsys.readouterr().err
    assert "--token-in query" in err and "pg_a" not in err


def test_a_wrong_token_leaves_the_kept_one(quiet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_path().parent.mkdir(parents=True)
    cache_path().write_text("{}")
    command = ["talk", "--server", "ws://127.0.0.1:1", "--token", "abc", "--input", quiet]
    assert run(command) == ExitCode.CONNECTION
    assert cache_path().exists()


@pytest.mark.parametrize(
    ("where", "trusted_for_the_exchange"),
    [
        ([], True),  # a company's proxy stands before all of PolarGrid's addresses
        (["--server", "wss://127.0.0.1:1"], False),
        (["--server", "wss://127.0.0.1:1", "--auth-url", "https://127.0.0.1:1/token"], True),
    ],
)
def test_whom_the_exchange_trusts(
    where: list[str], trusted_for_the_exchange: bool, quiet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted: list[Path | None] = []

    def exchange(key: str, url: str, *, ca_file: Path | None = None, insecure: bool = False) -> None:
        trusted.append(ca_file)
        raise CredentialsError("enough")

    monkeypatch.setenv("POLARGRID_API_KEY", KEY)
    monkeypatch.setattr("personaplex_cli.auth.get_token", exchange)
    assert run(["talk", *where, "--ca-file", str(CA_FILE), "--input", quiet]) == ExitCode.CREDENTIALS
    assert trusted == [CA_FILE if trusted_for_the_exchange else None]


@pytest.mark.parametrize("persona", ["@~nobody-of-that-name/x", "@a\0b", "@"])
def test_a_persona_file_that_cannot_be(persona: str, quiet: str, capsys: Capture) -> None:
    assert run(short(quiet, "--persona", persona)) == ExitCode.USAGE
    assert "without the @" in capsys.readouterr().err


def test_an_output_that_is_the_input(quiet: str, capsys: Capture) -> None:
    before = Path(quiet).read_bytes()
    assert run(short(quiet, "--output", quiet)) == ExitCode.USAGE
    assert "would replace the input" in capsys.readouterr().err
    assert Path(quiet).read_bytes() == before


def test_an_output_through_a_link_leaves_the_link(quiet: str, tmp_path: Path) -> None:
    target, link = tmp_path / "target.wav", tmp_path / "link.wav"
    target.write_bytes(b"before")
    link.symlink_to(target)
    assert run(short(quiet, "--output", str(link), "--max-duration", "0.5")) == ExitCode.OK
    assert link.is_symlink() and soundfile.info(target).duration > 0


def test_names_of_files_do_nothing_to_the_terminal(capsys: Capture) -> None:
    assert run(["talk", "--local", "--input", "/nope\x1b]0;owned\x07\nerror: x"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "\x1b" not in err and "\x07" not in err and err.count("\n") == 2


def test_metadata_that_echoes_the_persona_is_not_shown(
    quiet: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    persona = 'You are "Bob", a secret\nnobody knows of.'

    async def echo(session: StandInSession) -> None:
        await session._send(b"\x04" + json.dumps({"prompt": persona, "model": "x"}).encode())

    monkeypatch.setattr(StandInSession, "_send_metadata", echo)
    assert run(["--debug", *short(quiet, "--persona", persona)]) == ExitCode.OK
    shown = "".join(capsys.readouterr())
    assert '"model": "x"' in shown and "[hidden]" in shown and "Bob" not in shown


# --- descriptors and signals (POSIX)


@pytest.mark.skipif(os.name == "nt", reason="shell redirections of POSIX")
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_nothing_else(redirection: str, quiet: str, tmp_path: Path) -> None:
    output = tmp_path / "answer.wav"
    command = [*PROGRAM, *short(quiet, "--output", str(output), "--max-duration", "0.6")]
    ended = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *command], capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert soundfile.info(output).duration > 0.2
    assert ("Call ended" in ended.stderr) == ("2>" not in redirection)
    assert "internal error" not in ended.stderr + ended.stdout


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """Takes connections, when asked to, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_signals_during_the_exchange_and_the_connection(
    silent_server: socket.socket, quiet: str, tmp_path: Path
) -> None:
    """Ends at once, and leaves nothing behind."""
    environment = {**os.environ, "POLARGRID_API_KEY": KEY}
    ends = ["--input", quiet, "--output", str(tmp_path / "answer.wav")]
    silent_port = silent_server.getsockname()[1]
    exchange = ["--auth-url", f"http://127.0.0.1:{silent_port}/token"]
    connection = ["--server", f"ws://127.0.0.1:{silent_port}", "--dialect", "moshi"]
    runs = {
        "exchange": (exchange, signal.SIGTERM, ExitCode.INTERRUPTED),
        "connection": (connection, signal.SIGINT, ExitCode.OK),
    }
    for name, (options, number, code) in runs.items():
        process = subprocess.Popen(
            [*PROGRAM, "talk", *options, *ends], env=environment, stderr=subprocess.PIPE, text=True
        )
        connection_taken, _ = silent_server.accept()
        with connection_taken:
            connection_taken.recv(1)  # it waits for an answer now
            process.send_signal(number)
            _, err = process.communicate(timeout=20)
        assert process.returncode == code, (name, err)
        assert "Traceback" not in err and KEY not in err
    assert [*tmp_path.glob("answer*")] == []


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_nohup_stays_in_force_and_many_hang_ups_are_one(quiet: str, tmp_path: Path) -> None:
    command = [*PROGRAM, "talk", "--local", "--input", quiet, "--output", str(tmp_path / "a.wav")]
    ignoring = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command, "--max-duration", "2"],
        stderr=subprocess.PIPE,
        text=True,
    )
    hung_up = subprocess.Popen([*command, "--tail", "60"], stderr=subprocess.PIPE, text=True)
    for process in (ignoring, hung_up):
        assert process.stderr is not None
        assert any("live" in line for line in process.stderr)  # or it has ended
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
    _, err = hung_up.communicate(timeout=20)
    assert hung_up.returncode == ExitCode.OK and "told to end" in err
    _, err = ignoring.communicate(timeout=20)
    assert ignoring.returncode == ExitCode.OK and "time limit" in err
