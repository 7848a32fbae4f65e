"""`personaplex doctor`: a machine on which all is well, and one thing after the other that is not."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import numpy as np
import pytest
from echo_room import noise, voice
from fake_portaudio import FakeSounddevice
from ogg_pages import RATE

from personaplex_cli.cli import diagnosis
from personaplex_cli.cli.app import run
from personaplex_cli.config import config_path
from personaplex_cli.doctor import checks, libraries, machine, recording, sound
from personaplex_cli.doctor.check import Check, Result, failure, ok, warning
from personaplex_cli.errors import AudioError, ExitCode, MissingLibraryError

if TYPE_CHECKING:
    from conftest import TokenServer

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch

KEY = "pg_secret_0123456789"
ALL = [
    *("python", "opus", "sndfile", "canceller", "sound_system", "portaudio", "microphone", "speaker"),
    *("level", "echo", "configuration", "settings", "key", "token", "clock", "server"),
]


def pcm(samples: Any) -> bytes:
    return bytes(np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes())


def recorded(monkeypatch: Patch, samples: Any) -> None:
    """What the microphone gives."""
    monkeypatch.setattr(sound, "record", lambda spec, channel, duration_s: pcm(samples))


def echoes(monkeypatch: Patch, delay_ms: float | None, level_db: float = -12.0) -> None:
    """What the microphone hears of the chirps; None: nothing."""

    def play_and_record(chirps: bytes, *_: Any) -> tuple[recording.Recorder, recording.Player]:
        player = recording.Player(chirps)
        player.play(len(chirps) // 2, 5.0)
        heard = noise(len(chirps) // 2 + RATE, -60)
        if delay_ms is not None:
            begin = round(delay_ms * RATE / 1000)
            played = np.frombuffer(chirps, "<i2") / 32768
            heard[begin : begin + len(played)] += played * 10 ** (level_db / 20)
        recorder = recording.Recorder(len(heard))
        recorder.captured(pcm(heard), 5.0)
        return recorder, player

    monkeypatch.setattr(sound, "play_and_record", play_and_record)


@pytest.fixture
def exchange(token_server: TokenServer) -> TokenServer:
    """Gives tokens that were made now, unless told otherwise."""
    issue(token_server)
    return token_server


def issue(server: TokenServer, age_s: float = 0, lifetime_s: float = 600) -> None:
    made_s = int(time.time() - age_s)
    token = jwt.encode({"iat": made_s, "exp": made_s + lifetime_s}, "0" * 32, algorithm="HS256")
    server.body = json.dumps({"token": token, "expires_in": lifetime_s}).encode()


@pytest.fixture(autouse=True)
def healthy(
    monkeypatch: Patch, card: FakeSounddevice, exchange: TokenServer, tmp_path: Path
) -> Iterator[None]:
    """All is well: libraries, sound, key, server; and it is a usual machine."""
    find_place = machine.find_place
    monkeypatch.setattr(machine, "find_place", lambda: find_place(os.environ, tmp_path, "Linux", "6.1"))
    for name in ("SSH_CONNECTION", "WSL_DISTRO_NAME", "container"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "_pactl_info", lambda: "Server Name: pulseaudio\nServer Version: 16.1\n")
    monkeypatch.setattr(libraries, "said_by_child", lambda code: "PortAudio V19.7.0")
    recorded(monkeypatch, np.resize(voice("near", -24), 3 * RATE) + noise(3 * RATE, -65))
    echoes(monkeypatch, None)
    monkeypatch.setenv("POLARGRID_API_KEY", KEY)
    monkeypatch.setenv("PERSONAPLEX_AUTH_URL", exchange.url)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("PERSONAPLEX_SERVER", f"ws://127.0.0.1:{server.getsockname()[1]}")
        yield


class Answer:
    """What doctor says, as text and as JSON, which have to agree."""

    def __init__(self, capsys: Capture, *options: str) -> None:
        self.code = run(["doctor", *options])
        self.text, self.prompts = capsys.readouterr()
        assert run(["doctor", "--json", *options]) == self.code
        self.json = json.loads(capsys.readouterr().out)
        self.checks = {check["check"]: check for check in self.json["checks"]}
        assert (self.json["version"], self.json["exit_code"]) == (1, self.code)
        assert self.json["ready"] == (self.code == ExitCode.OK)
        marks = {check["status"]: diagnosis.MARKS[check["status"]] for check in self.json["checks"]}
        begins = [line[0] for line in self.text.split("\n\n")[0].splitlines() if not line.startswith(" ")]
        assert begins == [marks[check["status"]] for check in self.json["checks"]]
        assert KEY not in self.text + self.prompts + json.dumps(self.json)

    @property
    def problems(self) -> list[str]:
        return [name for name, check in self.checks.items() if check["status"] != "ok"]

    def check(self, name: str, status: str, *words: str) -> None:
        """It has that status, and says and advises so, in both forms."""
        found = self.checks[name]
        assert found["status"] == status, found
        for word in words:
            assert word in f"{found['text']}\n{found['hint']}", word
        assert found["text"][:24] in self.text  # beyond may be times, which differ


def test_where_all_is_well(capsys: Capture) -> None:
    answer = Answer(capsys)
    assert answer.code == ExitCode.OK and answer.problems == []
    assert list(answer.checks) == ALL
    assert answer.text.endswith("\nA call would work.\n")
    assert answer.prompts == f"{checks.SAY_SOMETHING}\n{checks.THREE_CHIRPS}\n"
    assert set(answer.checks["token"]) == {"check", "status", "text", "hint", "figures"}
    answer.check("key", "ok", "environment POLARGRID_API_KEY")
    answer.check("token", "ok", "accepted")


def test_quiet_makes_no_sound_and_records_nothing(capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setattr(sound, "record", None)
    monkeypatch.setattr(sound, "play_and_record", None)
    answer = Answer(capsys, "--quiet")
    assert answer.code == ExitCode.OK and answer.problems == ["level", "echo"]
    assert answer.prompts == ""


# --- settings that a call would refuse


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('persona = "nosuch"', "There is no persona of that name"),
        ("budget = 5", "--budget needs to know what a minute costs"),
        ("half_duplex = true\nnoise_suppression = true", "--half-duplex goes without processing"),
    ],
)
def test_settings_that_do_not_go_together(line: str, words: str, own_home: Path, capsys: Capture) -> None:
    (own_home / "config.toml").write_text(f"{line}\n")
    answer = Answer(capsys)
    assert answer.code == ExitCode.USAGE and answer.problems == ["settings"]
    answer.check("settings", "failure", words)


# --- libraries and devices


def test_libopus_is_missing(capsys: Capture, monkeypatch: Patch) -> None:
    def missing() -> None:
        raise MissingLibraryError("The library libopus is not installed.", "Install it: apt-get ...")

    monkeypatch.setattr(libraries, "load", missing)
    answer = Answer(capsys)
    assert answer.code == ExitCode.AUDIO and answer.problems == ["opus"]
    answer.check("opus", "failure", "libopus is not installed", "Install it: apt-get")
    assert "A call would not work yet. Problem: Opus and Ogg." in answer.text


def test_portaudio_is_missing(capsys: Capture, monkeypatch: Patch) -> None:
    def said(code: str) -> str:
        if "sounddevice" in code:
            raise libraries.NotFound("not found")
        return "1.2.2"

    monkeypatch.setattr(libraries, "said_by_child", said)
    answer = Answer(capsys)
    assert answer.code == ExitCode.AUDIO
    answer.check("portaudio", "failure", "PortAudio is not installed", "portaudio")
    answer.check("echo", "skipped", "because of: Microphone, Speaker")
    answer.check("token", "ok")


def test_a_sound_server_that_hangs(capsys: Capture, monkeypatch: Patch) -> None:
    """Nothing of it is loaded into this process, and all else is looked at."""
    forever = threading.Event()

    def hang() -> str:
        forever.wait(20)
        return ""

    def no_answer(code: str) -> str:
        raise libraries.NoAnswer("no answer")

    monkeypatch.setattr(machine, "_pactl_info", hang)
    monkeypatch.setattr(machine, "PACTL_LIMIT_S", 0.1 - checks.SOON_S)  # all in all 0.1 s
    monkeypatch.setattr(libraries, "said_by_child", no_answer)
    answer = Answer(capsys)
    forever.set()
    assert answer.code == ExitCode.AUDIO
    answer.check("sound_system", "failure", "does not answer", "Restart it")
    answer.check("portaudio", "failure", "did not find out", "Restart it")
    answer.check("microphone", "skipped")
    answer.check("token", "ok")
    answer.check("server", "ok")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, ("Without one: personaplex talk --input",)),
        ({"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22"}, ("(over SSH)", "--input - --output -")),
        ({"WSL_DISTRO_NAME": "Ubuntu"}, ("(in WSL)", "wsl --update")),
    ],
)
def test_no_device(
    capsys: Capture,
    monkeypatch: Patch,
    card: FakeSounddevice,
    environment: dict[str, str],
    words: tuple[str, ...],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "_pactl_info", lambda: "")
    card.present = []
    card._initialize()
    answer = Answer(capsys)
    assert answer.code == ExitCode.AUDIO
    answer.check("microphone", "failure", "There is no microphone", *words)
    answer.check("speaker", "failure", "There is no speaker")
    answer.check("level", "skipped")


def test_where_no_device_is_wanted_none_has_to_be_there(capsys: Capture, card: FakeSounddevice) -> None:
    card.present = []
    card._initialize()
    answer = Answer(capsys, "--input-device", "none", "--output-device", "none")
    assert answer.code == ExitCode.OK
    assert answer.problems == ["portaudio", "microphone", "speaker", "level", "echo"]


# --- microphone and echo


def test_a_microphone_that_gives_only_zeros(capsys: Capture, monkeypatch: Patch) -> None:
    recorded(monkeypatch, np.zeros(RATE))
    answer = Answer(capsys)
    assert answer.code == ExitCode.AUDIO and answer.problems == ["level"]
    answer.check("level", "failure", "digital silence", "muted")
    assert answer.checks["level"]["figures"]["verdict"] == "dead"


def test_a_microphone_that_is_clipped(capsys: Capture, monkeypatch: Patch) -> None:
    recorded(monkeypatch, np.resize(voice("near", -24), 3 * RATE) * 20)
    answer = Answer(capsys)
    assert answer.code == ExitCode.OK and answer.problems == ["level"]
    answer.check("level", "warning", "Too loud", "down")
    assert answer.checks["level"]["figures"]["clipped_samples"] > 1000


def test_a_microphone_that_nobody_speaks_into(capsys: Capture, monkeypatch: Patch) -> None:
    recorded(monkeypatch, noise(RATE, -70))
    answer = Answer(capsys)
    assert answer.code == ExitCode.OK
    answer.check("level", "warning", "No speech", "Say something")


def test_an_echo(capsys: Capture, monkeypatch: Patch) -> None:
    echoes(monkeypatch, 120.0, -9.0)
    monkeypatch.setattr(sound, "available", lambda: False)
    answer = Answer(capsys)
    assert answer.code == ExitCode.OK
    answer.check("echo", "warning", "120 ms later, 9 dB below", "headphones", "[aec]", "--push-to-talk")
    assert answer.checks["echo"]["figures"]["delay_ms"] == pytest.approx(120, abs=1)
    assert answer.checks["echo"]["figures"]["level_db"] == pytest.approx(-9, abs=1)


# --- configuration, key, token, clock


def test_no_key(capsys: Capture, monkeypatch: Patch, exchange: TokenServer) -> None:
    monkeypatch.delenv("POLARGRID_API_KEY")
    answer = Answer(capsys)
    assert answer.code == ExitCode.CREDENTIALS and answer.problems == ["key", "token", "clock"]
    answer.check("key", "failure", "There is no API key", "personaplex login", "personaplex talk --local")
    assert answer.checks["key"]["hint"].count("\n") == 2
    assert exchange.requests == []
    assert answer.text.endswith("This works now, without key and server: personaplex talk --local\n")


def test_a_refused_key(capsys: Capture, exchange: TokenServer) -> None:
    exchange.status, exchange.body = 401, KEY.encode()
    answer = Answer(capsys)
    assert answer.code == ExitCode.CREDENTIALS and answer.problems == ["token", "clock"]
    answer.check("key", "ok", "Present")
    answer.check("token", "failure", "refused the API key (HTTP 401)", "get a new one")


def test_with_auth_key_nothing_is_exchanged(capsys: Capture, exchange: TokenServer) -> None:
    answer = Answer(capsys, "--auth", "key")
    assert answer.code == ExitCode.OK and exchange.requests == []
    answer.check("token", "skipped", "--auth key")


def test_a_clock_that_is_wrong(capsys: Capture, exchange: TokenServer) -> None:
    issue(exchange, age_s=100)
    answer = Answer(capsys)
    assert answer.code == ExitCode.OK and answer.problems == ["clock"]
    answer.check("clock", "warning", "ahead", "NTP")
    assert answer.checks["clock"]["figures"]["skew_s"] == pytest.approx(100, abs=3)
    issue(exchange, age_s=10_000)
    answer = Answer(capsys)
    assert answer.code == ExitCode.CREDENTIALS
    answer.check("clock", "failure", "already expired")


def test_where_values_come_from(capsys: Capture, monkeypatch: Patch) -> None:
    config_path().write_text('max_duration = 600\n\n[profiles.work]\nvoice = "NATM1"\n', "utf-8")
    monkeypatch.setenv("PERSONAPLEX_PROFILE", "work")
    answer = Answer(capsys)
    assert answer.code == ExitCode.OK
    answer.check("configuration", "ok", "profile work", "voice = NATM1 (profile work, line 4)")
    assert answer.checks["configuration"]["figures"]["origins"]["max_duration"] == "file, line 1"
    origins = answer.checks["configuration"]["figures"]["origins"]
    assert origins["api_key"] == "environment POLARGRID_API_KEY"


def test_what_the_configuration_says_is_looked_at(capsys: Capture) -> None:
    config_path().write_text('input_device = "banjo"\n', "utf-8")
    answer = Answer(capsys)
    assert answer.code == ExitCode.AUDIO
    answer.check("microphone", "failure", "'banjo'")


def test_a_broken_configuration(capsys: Capture) -> None:
    config_path().write_text("voice = 3\n", "utf-8")
    answer = Answer(capsys)
    assert answer.code == ExitCode.CREDENTIALS
    answer.check("configuration", "failure", "line 1: voice must be the name of a voice")
    answer.check("key", "skipped", "because of: Configuration")
    answer.check("server", "ok")


def test_a_variable_that_only_a_call_would_refuse(capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setenv("PERSONAPLEX_MAX_BUFFER", "much")
    answer = Answer(capsys)
    assert answer.code == ExitCode.USAGE
    answer.check("configuration", "failure", "--max-buffer")


# --- the server


def test_a_dead_region(capsys: Capture, monkeypatch: Patch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as was:
        port = was.getsockname()[1]
    answer = Answer(capsys, "--server", f"ws://127.0.0.1:{port}")
    assert answer.code == ExitCode.CONNECTION and answer.problems == ["server"]
    answer.check("server", "failure", f"127.0.0.1, port {port}: refused", "Is the server running")
    assert "personaplex talk --local" in answer.text


def test_the_exit_code_is_that_of_the_first_problem(capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.delenv("POLARGRID_API_KEY")
    assert Answer(capsys, "--server", "ws://127.0.0.1:1").code == ExitCode.CREDENTIALS
    recorded(monkeypatch, np.zeros(RATE))
    assert Answer(capsys, "--server", "ws://127.0.0.1:1").code == ExitCode.AUDIO


def test_a_server_of_ones_own_needs_no_key(
    capsys: Capture, monkeypatch: Patch, exchange: TokenServer
) -> None:
    monkeypatch.delenv("POLARGRID_API_KEY")
    answer = Answer(capsys, "--dialect", "moshi")
    assert answer.code == ExitCode.OK and exchange.requests == []
    answer.check("key", "skipped", "a server of your own")


# --- how it looks


CHECK = Check("echo", "Echo", lambda: ok(""), 1.0, AudioError(""))
RESULTS = [
    Result(CHECK, ok("Heard nothing.")),
    Result(
        CHECK,
        warning(
            "It hears \x1b[31mitself: " + "a speaker of many words " * 3,
            "Put on headphones.\nOr: half-duplex",
        ),
    ),
    Result(CHECK, failure(AudioError("No microphone."))),
]


class Window(io.StringIO):
    """A terminal of so many columns; an `encoding` for what stands on it."""

    def __init__(self, monkeypatch: Patch, columns: int | None, encoding: str = "utf-8") -> None:
        super().__init__()
        self._columns, self._encoding = columns, encoding
        monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((columns or 0, 24)))
        monkeypatch.setattr(diagnosis, "print_text", lambda text: self.write(f"{text}\n"))

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._columns is not None

    def fileno(self) -> int:
        return 1


def painted(window: Window, plain: bool = False) -> list[str]:
    show = diagnosis.painter(window, plain)
    for result in RESULTS:
        show(result)
    return window.getvalue().splitlines()


def test_in_a_pipe_lines_are_left_as_they_are(monkeypatch: Patch) -> None:
    lines = painted(Window(monkeypatch, None))
    assert lines[0] == "✓ Echo: Heard nothing."
    assert lines[2:] == ["  Put on headphones.", "  Or: half-duplex", "✗ Echo: No microphone."]
    assert "\x1b" not in "".join(lines)


def test_where_unicode_cannot_be_written(monkeypatch: Patch) -> None:
    lines = painted(Window(monkeypatch, None, "latin-1"))
    assert (lines[0][0], lines[1][0], lines[-1][0]) == ("+", "!", "x")


def test_a_screen_reader_gets_words(monkeypatch: Patch) -> None:
    lines = painted(Window(monkeypatch, 40), plain=True)
    assert lines[0] == "ok: Echo: Heard nothing."
    assert lines[1].startswith("warning: Echo: ") and lines[-1] == "problem: Echo: No microphone."


@pytest.mark.parametrize("columns", [100, 60, 59, 30])
def test_in_a_window_lines_are_folded_to_fit(monkeypatch: Patch, columns: int) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    window = Window(monkeypatch, columns)
    lines = painted(window)
    assert max(map(len, lines)) <= columns
    assert [line[0] for line in lines if line[0] != " "] == ["✓", "!", "✗"]
    words = " ".join(" ".join(lines).split())
    assert "many words a speaker of many words" in words and "Put on headphones." in words
    assert "\x1b[3" not in window.getvalue()


def test_colours_on_a_terminal(monkeypatch: Patch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert painted(Window(monkeypatch, 80))[0].startswith("\x1b[32m✓\x1b[0m Echo")


def test_the_help_loads_no_sound_and_no_http() -> None:
    code = (
        "import sys; from personaplex_cli.cli.app import run; run(['doctor', '--help']); "
        "print(sorted({'httpx', 'ssl', 'numpy', 'rich.console', 'asyncio'} & sys.modules.keys()), "
        "file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n"
