"""`personaplex talk`: what it says and how it exits, for every input that is not right."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import numpy as np
import pytest
import soundfile
from fake_portaudio import FakeSounddevice, PortAudioError, listed_device
from jsonschema import Draft202012Validator

from personaplex_cli.cli import conversation, plan
from personaplex_cli.cli.app import run
from personaplex_cli.devices import listing
from personaplex_cli.errors import ExitCode, MissingLibraryError
from personaplex_cli.events import CallState, EndReason, Event, StateChanged
from personaplex_cli.pcm import SAMPLE_RATE
from personaplex_cli.standin import behaviours
from personaplex_cli.standin.faults import At, Faults
from personaplex_cli.standin.server import StandIn
from personaplex_cli.tokens import cache_path

Capture = pytest.CaptureFixture[str]

KEY = "pg_secret_0123456789"
EVENT = Draft202012Validator(
    json.loads((Path(__file__).parents[2] / "docs" / "events.schema.json").read_text("utf-8"))
)
PERSONA = "You are Zebedee, and this sentence is nobody else's business."


class Servers:
    """Stand-ins on a loop of their own, in a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._running: list[StandIn] = []

    def start(self, **faults: Any) -> StandIn:
        standin = StandIn(Faults(**faults))
        asyncio.run_coroutine_threadsafe(standin.__aenter__(), self._loop).result(10)
        self._running.append(standin)
        return standin

    def stop(self) -> None:
        for standin in self._running:
            asyncio.run_coroutine_threadsafe(standin.__aexit__(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.stop()


@pytest.fixture
def blip(tmp_path: Path) -> str:
    """A tenth of a second of a quiet tone: below what counts as speech."""
    path = tmp_path / "blip.wav"
    tone = 0.001 * np.sin(np.arange(SAMPLE_RATE // 10) / 10)
    soundfile.write(path, tone, SAMPLE_RATE)
    return str(path)


def quick(blip: str, *more: str) -> list[str]:
    """A call that is over as soon as there is one."""
    return ["talk", "--input", blip, "--output", "none", "--max-duration", "0.1", *more]


def failed(capsys: Capture, *words: str) -> None:
    """One error with a hint, all in a few short lines, and no traceback."""
    out, err = capsys.readouterr()
    assert "Traceback" not in err and "internal error" not in err
    assert err.count("error:") == 1
    assert len(err.splitlines()) <= 8
    for word in words:
        assert word in err
    for secret in (KEY, PERSONA):
        assert secret not in out + err


# --- options that cannot be


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--voice", "NATX9"], ["no voice 'NATX9'", "NATF0 to NATF3"]),
        (["--region", "atlantis"], ["no region 'atlantis'", "yto-01"]),
        (["--persona", ""], ["The persona is empty."]),
        (["--persona", "  \n"], ["The persona is empty."]),
        (["--persona", "x" * 9000], ["too long", "8,192"]),
        (["--persona", "@/nowhere/at/all.txt"], ["/nowhere/at/all.txt", "No such file"]),
        (["--server", "localhost:8998"], ["must begin with ws://"]),
        (["--server", "ftp://localhost"], ["must begin with ws://"]),
        (["--server", "ws://localhost:99999999"], ["not a URL"]),
        (["--server", "ws://me:secret@localhost"], ["user name or password"]),
        (["--dialect", "moshi"], ["needs --server"]),
        (["--dialect", "klingon"], ["--dialect"]),
        (["--local", "--server", "ws://localhost"], ["--local goes without --server"]),
        (["--local", "--token", "x"], ["--local goes without"]),
        (["--local", "--tail", "-1"], ["--tail", "seconds"]),
        (["--local", "--max-duration", "nan"], ["--max-duration", "seconds"]),
        (["--local", "--idle-timeout", "inf"], ["--idle-timeout", "seconds"]),
        (["--local", "--handshake-timeout", "soon"], ["--handshake-timeout"]),
        (["--local", "--ca-file", "/nowhere/ca.pem"], ["/nowhere/ca.pem"]),
        (["--token", "-", "--input", "-"], ["standard input"]),
        (["--token", "-", "--stdin-text"], ["The token and texts", "standard input"]),
        (["--local", "--input", "-", "--stdin-text"], ["The voice and texts", "standard input"]),
        (["--local", "--plain", "--json"], ["--plain and --json", "Choose one"]),
        (["--local", "--push-to-talk", "--input", "x.wav"], ["--push-to-talk needs a microphone"]),
        (["--local", "--push-to-talk", "--input-device", "none"], ["--push-to-talk needs a microphone"]),
        (["--local", "--input", "/nowhere.wav"], ["There is no file /nowhere.wav"]),
        (["--local", "--input", "/"], ["folder"]),
        (["--local", "--output", "/nowhere/answer.wav"], ["/nowhere/answer.wav", "No such file"]),
        (["--local", "--output", "answer.xyz"], ["format", ".wav, .flac or .ogg"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_unusable_options_are_explained(options: list[str], words: list[str], capsys: Capture) -> None:
    assert run(["talk", *options]) == ExitCode.USAGE
    failed(capsys, *words)


def test_a_persona_file_that_is_no_text(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "persona.txt"
    path.write_bytes(b"\xff\xfe\x00")
    assert run(["talk", "--local", "--persona", f"@{path}"]) == ExitCode.USAGE
    failed(capsys, str(path), "not UTF-8")
    path.write_bytes(b"x" * 70_000)
    assert run(["talk", "--local", "--persona", f"@{path}"]) == ExitCode.USAGE
    failed(capsys, "too long")
    assert run(["talk", "--local", "--persona", f"@{tmp_path}"]) == ExitCode.USAGE
    failed(capsys, "cannot be read")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["not an audio file"]),
        (b"hello", ["not an audio file"]),
        (b"RIFF\0\0\0\0WAVE", ["not an audio"]),
    ],
)
def test_an_input_that_is_no_audio(content: bytes, words: list[str], tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "input.wav"
    path.write_bytes(content)
    assert run(["talk", "--local", "--input", str(path)]) == ExitCode.USAGE
    failed(capsys, str(path), *words)


def test_an_input_without_samples(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "input.wav"
    soundfile.write(path, np.zeros(0), SAMPLE_RATE)
    assert run(["talk", "--local", "--input", str(path)]) == ExitCode.USAGE
    failed(capsys, "holds no audio")


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert run(["talk", "--local", "--input", "-"]) == ExitCode.USAGE
    failed(capsys, "Standard input is closed")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stdin", [None, Terminal()], ids=["closed", "a terminal"])
def test_texts_from_a_standard_input_that_is_no_pipe(
    stdin: io.StringIO | None, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    assert run(["talk", "--local", "--stdin-text"]) == ExitCode.USAGE
    failed(capsys, "Nothing is piped in", "press t to type")


def test_an_output_is_kept_when_the_call_never_begins(tmp_path: Path, blip: str, capsys: Capture) -> None:
    output = tmp_path / "answer.wav"
    output.write_bytes(b"the answer of yesterday")
    options = ["--server", "ws://127.0.0.1:1", "--dialect", "moshi", "--input", blip]
    assert run(["talk", *options, "--output", str(output)]) == ExitCode.CONNECTION
    failed(capsys, "refused the connection")
    assert output.read_bytes() == b"the answer of yesterday"
    assert list(tmp_path.glob("answer*")) == [output]


# --- keys and tokens


def test_no_key_says_how_to_get_one_and_what_works_without(blip: str, capsys: Capture) -> None:
    assert run(quick(blip)) == ExitCode.CREDENTIALS
    failed(capsys, "no API key", "POLARGRID_API_KEY", "--local")


def test_an_api_key_is_not_taken_as_a_token(blip: str, capsys: Capture) -> None:
    assert run(quick(blip, "--token", KEY)) == ExitCode.CREDENTIALS
    failed(capsys, "API key, not a token", "POLARGRID_API_KEY")


def test_a_token_that_has_expired(blip: str, capsys: Capture) -> None:
    token = jwt.encode({"exp": 1}, "0" * 32, algorithm="HS256")
    assert run(quick(blip, "--token", token)) == ExitCode.CREDENTIALS
    failed(capsys, "expired")


@pytest.mark.parametrize("text", ["", "two words", "ümlaut"])
def test_a_token_that_cannot_be_one(text: str, blip: str, capsys: Capture) -> None:
    assert run(quick(blip, "--token", text)) == ExitCode.CREDENTIALS
    failed(capsys, "The token")


def test_a_token_does_not_travel_unencrypted(blip: str, capsys: Capture) -> None:
    assert run(quick(blip, "--server", "ws://192.0.2.1", "--token", "abc")) == ExitCode.USAGE
    failed(capsys, "unencrypted", "192.0.2.1")


def test_a_key_that_is_refused(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    key = "sk_of_somebody_else"
    monkeypatch.setenv("POLARGRID_API_KEY", key)
    standin = servers.start()
    options = ["--server", standin.url, "--auth-url", standin.auth_url]
    assert run(["--debug", *quick(blip, *options)]) == ExitCode.CREDENTIALS
    out, err = capsys.readouterr()
    assert "error: 127.0.0.1 refused the API key (HTTP 401)." in err
    assert "state:" not in err and key not in out + err


def test_a_server_without_exchange_names_the_other_way(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    monkeypatch.setenv("POLARGRID_API_KEY", KEY)
    standin = servers.start()
    options = ["--server", standin.url, "--auth-url", standin.auth_url + "/gone"]
    assert run(quick(blip, *options)) == ExitCode.CREDENTIALS
    failed(capsys, "no token exchange", "--auth key")
    assert run(quick(blip, *options, "--auth", "key")) == ExitCode.OK


def test_a_key_becomes_a_token_that_the_server_takes(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    monkeypatch.setenv("POLARGRID_API_KEY", KEY)
    standin = servers.start()
    options = ["--server", standin.url, "--auth-url", standin.auth_url]
    assert run(quick(blip, *options, "--persona", PERSONA)) == ExitCode.OK
    out, err = capsys.readouterr()
    assert "the time limit was reached" in err
    assert KEY not in out + err and PERSONA not in out + err
    assert cache_path().exists()


def test_a_kept_token_that_the_server_refuses_is_forgotten(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    monkeypatch.setenv("POLARGRID_API_KEY", KEY)
    issuer, other = servers.start(), servers.start()
    options = ["--server", other.url, "--auth-url", issuer.auth_url]
    assert run(quick(blip, *options)) == ExitCode.CREDENTIALS
    failed(capsys, "the token was refused (HTTP 401)", "The token is not valid.")
    assert not cache_path().exists()


def test_a_token_from_standard_input(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    standin = servers.start()
    monkeypatch.setattr("sys.stdin", io.StringIO(standin.issue_token() + "\n"))
    assert run(quick(blip, "--server", standin.url, "--token", "-")) == ExitCode.OK


# --- sound devices and libraries


def test_libopus_missing_is_said_before_anything_else(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingLibraryError("The library libopus is not installed.", "Install it: apt install libopus0")

    monkeypatch.setattr(plan, "load_codec", missing)
    assert run(quick(blip, "--local")) == ExitCode.AUDIO
    failed(capsys, "libopus", "Install it")


def test_portaudio_missing_stops_devices_but_not_files(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingLibraryError("The library PortAudio is not installed.", "Install it: apt install …")

    monkeypatch.setattr(listing, "load_sounddevice", missing)
    assert run(["talk", "--local"]) == ExitCode.AUDIO
    failed(capsys, "PortAudio")
    assert run(quick(blip, "--local")) == ExitCode.OK


@pytest.fixture
def loud_box(card: FakeSounddevice) -> FakeSounddevice:
    """One speaker without a microphone."""
    card.present = [listed_device("Loud Box", inputs=0)]
    card.default.device = (-1, 0)
    card._initialize()
    return card


@pytest.mark.usefixtures("loud_box")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--output", "none"], ["no microphone"]),
        (["--output-device", "Soft Box"], ["no sound device 'Soft Box'", "Loud Box"]),
        (["--output", "none", "--input-device", "loud"], ["no microphone"]),
    ],
)
def test_devices_that_are_not_there(options: list[str], words: list[str], capsys: Capture) -> None:
    assert run(["talk", "--local", *options]) == ExitCode.AUDIO
    failed(capsys, *words)


def test_a_device_that_does_not_open_is_said_before_connecting(
    blip: str, capsys: Capture, loud_box: FakeSounddevice
) -> None:
    loud_box.open_error = PortAudioError("Device unavailable", -9985)
    options = ["--server", "ws://127.0.0.1:1", "--dialect", "moshi"]
    assert run(["talk", *options, "--input", blip, "--output-device", "Loud"]) == ExitCode.AUDIO
    failed(capsys, "'Loud Box' cannot be opened", "Device unavailable", "--output-device")


# --- calls


def test_voices_are_understood_and_noted(blip: str, capsys: Capture) -> None:
    assert run(quick(blip, "--local", "--voice", "natm2.pt")) == ExitCode.OK
    assert "NATM2" in capsys.readouterr().err


def test_a_long_persona_is_noted(blip: str, capsys: Capture) -> None:
    assert run(quick(blip, "--local", "--persona", "y" * 1001)) == ExitCode.OK
    assert "1,001 characters" in capsys.readouterr().err


def test_a_persona_from_a_file(blip: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "persona.txt"
    path.write_text(f"\ufeff{PERSONA}\n", "utf-8")
    assert run(quick(blip, "--local", "--persona", f"@{path}")) == ExitCode.OK
    assert PERSONA not in "".join(capsys.readouterr())


def test_an_unlisted_region_is_tried_with_a_note(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "polargrid_server", lambda region: f"ws://127.0.0.1:1/{region}")
    assert run(quick(blip, "--region", "xyz-42", "--token", "abc")) == ExitCode.CONNECTION
    err = capsys.readouterr().err
    assert "xyz-42 is not in the list" in err and "refused" in err


def test_insecure_is_warned_about(blip: str, capsys: Capture) -> None:
    assert run(quick(blip, "--local", "--insecure")) == ExitCode.OK
    assert "warning:" in capsys.readouterr().err


def silent_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that does not greet answers at once."""
    clip = behaviours.clip
    nothing = behaviours.Utterance(b"", ())
    monkeypatch.setattr(behaviours, "clip", lambda name: nothing if name == "greeting" else clip(name))


def test_texts_are_shown_and_answered(blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    silent_greeting(monkeypatch)
    options = ["--local", "--input", blip, "--output", "none", "--tail", "1", "--text", "Hello there"]
    assert run(["talk", *options]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "You: Hello there",
        "Agent: I have read that.",
        "Agent: You wrote: Hello there",
    ]
    assert "the input ended" in err


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.TextIOWrapper]:
    """The end to write to of a pipe that is standard input."""
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as read_end, open(writing, "w", encoding="utf-8") as write_end:
        monkeypatch.setattr("sys.stdin", read_end)
        yield write_end


def test_lines_of_standard_input_are_texts_and_lines_of_json_are_events(
    stdin: io.TextIOWrapper, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin.write("Hello there\n\nand goodbye")
    stdin.close()
    silent_greeting(monkeypatch)
    options = ["--input-device", "none", "--output", "none", "--max-duration", "1.2", "--json"]
    assert run(["talk", "--local", "--stdin-text", *options]) == ExitCode.OK
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    for event in events:
        assert [error.message for error in EVENT.iter_errors(event)] == [], event
    kinds = [event["type"] for event in events]
    assert kinds[0] == "state" and kinds[-1] == "ended" and "level" in kinds
    assert [event["state"] for event in events if event["type"] == "state"][2] == "live"
    assert [event["text"] for event in events if event["type"] == "user_text"] == [
        "Hello there",
        "and goodbye",
    ]
    text = "".join(event["text"] for event in events if event["type"] == "text")
    answers = [f"I have read that. You wrote: {line}" for line in ("Hello there", "and goodbye")]
    assert text and " ".join(answers).startswith(text.strip())  # as far as the time allowed
    heard = [event for event in events if event["type"] == "heard"]
    assert heard and heard[-1]["chars"] == len(text)
    times = [event["at_s"] for event in events if event["type"] != "level"]
    assert times == sorted(times)
    assert events[-1]["reason"] == "max_duration" and events[-1]["exit_code"] == 0
    assert "state:" not in out and "Traceback" not in err


def test_debug_prints_every_counter(blip: str, capsys: Capture) -> None:
    assert run(["--debug", *quick(blip, "--local")]) == ExitCode.OK
    assert "packets_sent=" in capsys.readouterr().err


def test_the_model_is_waited_for_visibly(
    blip: str, capsys: Capture, servers: Servers, tmp_path: Path
) -> None:
    standin = servers.start(handshake_delay=30.0)
    options = ["--server", standin.url, "--dialect", "moshi", "--handshake-timeout", "0.3"]
    output = tmp_path / "answer.wav"
    assert run(["talk", "--input", blip, "--output", str(output), *options]) == ExitCode.CONNECTION
    assert list(tmp_path.glob("answer*")) == []  # nothing was heard
    err = capsys.readouterr().err
    assert "waiting for the model" in err
    assert "not ready after 0.3 s" in err and "--handshake-timeout" in err


def test_a_call_that_breaks_off_is_made_again_until_the_time_is_up(
    blip: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    monkeypatch.setenv("POLARGRID_API_KEY", KEY)
    monkeypatch.setattr(conversation, "RECONNECT_AFTER_S", 0.1)
    monkeypatch.setattr(conversation, "MAX_UNUSED_CALLS", 100)
    standin = servers.start(drop=At(0.32))
    options = ["--server", standin.url, "--auth-url", standin.auth_url, "--max-duration", "2"]
    output = tmp_path / "answer.wav"
    command = ["talk", "--input", blip, "--output", str(output), "--tail", "60", "--reconnect", *options]
    assert run(command) == ExitCode.OK
    out, err = capsys.readouterr()
    n_more = out.count("new call: ")
    assert n_more >= 2  # usually four
    assert err.count("state: live") in (n_more, n_more + 1)  # the time may be up before the last one is
    assert "the time limit was reached" in err
    assert soundfile.info(output).duration > 0.4  # more than one of them gave


def test_calls_in_which_the_user_says_nothing_are_not_made_for_ever(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    monkeypatch.setattr(conversation, "RECONNECT_AFTER_S", 0.1)
    standin = servers.start(drop=At(0.32))
    options = ["--server", standin.url, "--dialect", "moshi", "--tail", "60", "--reconnect"]
    assert run(["talk", "--input", blip, *options]) == ExitCode.CONNECTION
    out, err = capsys.readouterr()
    assert out.count("new call: ") == 2 and err.count("state: live") == 3


def test_a_call_that_breaks_off_at_once_is_not_made_again(
    blip: str, capsys: Capture, servers: Servers
) -> None:
    standin = servers.start(drop=At(0.3))
    options = ["--server", standin.url, "--dialect", "moshi", "--tail", "60", "--reconnect"]
    assert run(["talk", "--input", blip, *options]) == ExitCode.CONNECTION
    assert "The connection was lost" in capsys.readouterr().err


# --- what the user does in a conversation


class User:
    """Does something for each event that it is shown, and keeps them."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, act: Callable[[conversation.Conversation, CallState], None]
    ) -> None:
        self.events: list[Event] = []
        listen = conversation.Conversation._listen

        def see(watched: conversation.Conversation, event: Event) -> None:
            listen(watched, event)
            self.events.append(event)
            if isinstance(event, StateChanged):
                act(watched, event.state)

        monkeypatch.setattr(conversation.Conversation, "_listen", see)

    def times(self, state: CallState) -> list[float]:
        return [
            event.at_s for event in self.events if isinstance(event, StateChanged) and event.state is state
        ]


def test_a_new_call_is_another_conversation_with_another_token(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_live = n_tokens = 0
    issue = StandIn.issue_token

    def counted(standin: StandIn) -> str:
        nonlocal n_tokens
        n_tokens += 1
        return issue(standin)

    def act(talk: conversation.Conversation, state: CallState) -> None:
        nonlocal n_live
        if state is CallState.LIVE:
            n_live += 1
            talk.hang_up(EndReason.BEGUN_ANEW if n_live < 3 else EndReason.HUNG_UP)

    monkeypatch.setattr(StandIn, "issue_token", counted)
    user = User(monkeypatch, act)
    assert run(["talk", "--local", "--input", blip, "--output", "none", "--tail", "60"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert n_live == n_tokens == 3
    assert out.count("new call: ") == 2 and err.count("note: You began a new call") == 2
    assert "Call ended: you hung up" in err and "broke off" not in err
    times = [event.at_s for event in user.events]
    assert times == sorted(times)  # one clock for all of them


def test_new_calls_do_not_begin_the_time_limit_anew(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(talk: conversation.Conversation, state: CallState) -> None:
        if state is CallState.LIVE:
            asyncio.get_running_loop().call_later(0.25, talk.hang_up, EndReason.BEGUN_ANEW)

    user = User(monkeypatch, act)
    command = [
        "talk",
        "--local",
        "--input",
        blip,
        "--output",
        "none",
        "--tail",
        "60",
        "--max-duration",
        "0.6",
    ]
    assert run(command) == ExitCode.OK
    assert "the time limit was reached (0.6 s)" in capsys.readouterr().err
    assert len(user.times(CallState.LIVE)) >= 2
    assert user.times(CallState.ENDED)[-1] - user.times(CallState.CONNECTING)[-1] < 0.5


def test_a_new_call_while_the_model_is_waited_for_and_what_was_typed_meanwhile(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that could not be sent yet goes to the next call."""
    n_calls = 0

    def act(talk: conversation.Conversation, state: CallState) -> None:
        nonlocal n_calls
        loop = asyncio.get_running_loop()
        if state is CallState.CONNECTING:
            n_calls += 1
            if n_calls == 1:
                typing.append(loop.create_task(talk.say("Hello there")))
                loop.call_soon(talk.hang_up, EndReason.BEGUN_ANEW)
        elif state is CallState.LIVE:
            loop.call_later(0.1, talk.hang_up, EndReason.HUNG_UP)

    typing: list[asyncio.Task[None]] = []
    User(monkeypatch, act)
    assert run(["talk", "--local", "--input", blip, "--output", "none", "--tail", "60"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert n_calls == 2
    assert out.index("new call: ") < out.index("You: Hello there")
    assert "could not be sent" not in err


def test_texts_that_could_not_be_sent_are_told(
    blip: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, servers: Servers
) -> None:
    standin = servers.start(handshake_delay=30.0)

    def act(talk: conversation.Conversation, state: CallState) -> None:
        if state is CallState.WAITING:
            loop = asyncio.get_running_loop()
            typing.extend(loop.create_task(talk.say(text)) for text in ("one", "two", "three"))
            loop.call_soon(talk.hang_up, EndReason.HUNG_UP)

    typing: list[asyncio.Task[None]] = []
    User(monkeypatch, act)
    command = ["talk", "--server", standin.url, "--dialect", "moshi", "--input", blip, "--output", "none"]
    assert run(command) == ExitCode.OK
    out, err = capsys.readouterr()
    assert "note: 3 of your texts could not be sent any more." in err
    assert "You:" not in out
