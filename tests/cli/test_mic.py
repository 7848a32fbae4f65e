"""`personaplex mic`: with files, in a terminal on a virtual sound card, and what it says and exits with.

What takes its real time is run at once, in the fixture `told`.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

from card_calls import Told, at_once
from fake_portaudio import FakeSounddevice
from ogg_pages import RATE, Samples, likeness, rms_dbfs, to_pcm, to_samples
from rich.console import Console
from speech import question
from terminal_program import PROGRAM, Window
from virtual_card import LIKE, PATIENCE_S, Card, Ear, likeness_of_spoken

from personaplex_cli.cli.app import run
from personaplex_cli.errors import ExitCode
from personaplex_cli.events import CallState, StateChanged
from personaplex_cli.ui import view
from personaplex_cli.ui.layout import area_rows
from personaplex_cli.ui.look import Fixed

Capture = pytest.CaptureFixture[str]

SHORT_S = 0.4
"""Of the question."""

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PERSONAPLEX_", "COV"))},
    "PERSONAPLEX_CONFIG": os.devnull,
}
"""Without settings of the user's. Taken now: other tests change it while programs are started on threads."""

SOON = ("--max-duration", "0.2")


def voice() -> Samples:
    return question()[: round(SHORT_S * RATE)]


@pytest.fixture
def quiet(tmp_path: Path) -> str:
    path = tmp_path / "quiet.wav"
    soundfile.write(path, np.zeros(RATE), RATE)
    return str(path)


# --- in real time


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with at_once(on_a_card, through_pipes, ended_by_signals) as runs:
        yield runs


def on_a_card() -> tuple[float, int, str]:
    """How like what was spoken was what was heard; exit code and last lines."""
    with Card() as card, Ear(card) as ear:
        wanted = ("PULSE_", "ALSA_", "XDG_")
        environment = {name: value for name, value in card.environment.items() if name.startswith(wanted)}
        options = ("--delay", "0.5", "--echo-cancel", "off")
        with Window(*PROGRAM, "mic", *options, **environment) as window:
            window.wait_for("hearing yourself, 0.5 s later")
            window.wait_for("m mute · + - volume · q end")
            like = likeness_of_spoken(card, lambda: ear.heard)
            window.wait_for("Heard: ")
            window.press("mt")
            window.wait_for("muted")
            window.press("-")
            window.wait_for("volume 90 %")
            window.press("q")
            return like, window.wait_for_end(), window.text


def through_pipes() -> tuple[int, Samples, str]:
    """Exit code, what was heard, what was said."""
    command = [*PROGRAM, "mic", "--input", "-", "--output", "-"]
    pipes: dict[str, Any] = {"input": to_pcm(voice()), "capture_output": True}
    done = subprocess.run(command, env=ENVIRONMENT, timeout=PATIENCE_S, **pipes)
    return done.returncode, to_samples(done.stdout), done.stderr.decode()


def ended_by_signals() -> list[tuple[int, str]]:
    """Exit code and what was said, for each signal."""
    return [ended_by(number) for number in (signal.SIGINT, signal.SIGTERM)]


def ended_by(number: signal.Signals) -> tuple[int, str]:
    command = [*PROGRAM, "mic", "--input-device", "none", "--output", "none"]
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=ENVIRONMENT, text=True, **pipes) as process:
        try:
            assert process.stderr
            said = process.stderr.readline()
            process.send_signal(number)
            said += process.communicate(timeout=PATIENCE_S)[1]
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        return process.returncode, said


def test_what_is_spoken_into_a_sound_card_is_heard_from_it(told: Told) -> None:
    like, code, text = told(on_a_card)
    assert like > LIKE
    assert code == ExitCode.OK
    assert "Ended: you hung up, after " in text
    assert "Your level: loudest -" in text and "nothing clipped." in text
    assert "Agent" not in text and "Type a text" not in text


def test_speech_from_a_pipe_is_heard_two_seconds_later(told: Told) -> None:
    code, heard, said = told(through_pipes)
    assert code == ExitCode.OK
    like, at_s = likeness(voice(), heard)
    assert like > 0.95
    assert at_s == pytest.approx(2.0, abs=0.01)
    assert rms_dbfs(heard[: 2 * RATE]) < -90
    assert 2 + SHORT_S <= len(heard) / RATE < 2 + SHORT_S + 0.5
    assert "note: You hear yourself 2.0 s later. Ctrl-C ends it.\nEnded: the input ended" in said


def test_signals_end_it_in_order(told: Told) -> None:
    for (code, said), why in zip(told(ended_by_signals), ("you hung up", "told to end"), strict=True):
        assert code == ExitCode.OK
        assert why in said and "Traceback" not in said


# --- without waiting


def test_nothing_is_sent_anywhere_and_no_key_is_needed(
    quiet: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it went to the network")

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert run(["mic", "--input", quiet, *SOON]) == ExitCode.OK
    assert "the time limit was reached" in capsys.readouterr().err


def test_an_input_of_zeros_is_called_that(quiet: str, capsys: Capture) -> None:
    assert run(["mic", "--input", quiet, *SOON]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert out == ""
    assert "The input was nothing but zeros." in err


def test_what_is_heard_is_written(quiet: str, tmp_path: Path, capsys: Capture) -> None:
    heard = tmp_path / "heard.flac"
    assert run(["mic", "--input", quiet, "--output", str(heard), *SOON]) == ExitCode.OK
    assert f"Wrote {heard} (0:00)." in capsys.readouterr().err
    assert soundfile.info(heard).samplerate == RATE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--delay", "0.4"], ["--delay takes 0.5 to 10 seconds"]),
        (["--delay", "11"], ["--delay takes 0.5 to 10 seconds"]),
        (["--delay", "nan"], ["--delay takes 0.5 to 10 seconds"]),
        (["--delay", "soon"], ["--delay"]),
        (["--max-duration", "-1"], ["--max-duration", "0 or more"]),
        (["--input", "nowhere.wav"], ["nowhere.wav"]),
        (["--input", "QUIET", "--output", "QUIET"], ["would replace the input"]),
        (["--input", "QUIET", "--echo-cancel", "on"], ["no microphone to process"]),
        (["--input", "QUIET", "--high-pass"], ["no microphone to process"]),
        (["--input", "QUIET", "--output", "heard.xyz"], ["heard.xyz"]),
        (["--local"], ["--local"]),
    ],
)
def test_options_that_cannot_be(options: list[str], words: list[str], quiet: str, capsys: Capture) -> None:
    assert run(["mic", *(option.replace("QUIET", quiet) for option in options)]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert err.count("error:") == 1 and "Traceback" not in err
    for word in words:
        assert word in err


def test_the_meters_and_the_status_line_speak_of_oneself() -> None:
    console = Console(file=io.StringIO(), width=80, height=24, color_system=None)
    state = view.reduce(view.ViewState(), StateChanged(1.0, CallState.LIVE))
    fixed = Fixed(live_text="hearing yourself, 2.0 s later", other_side="Heard")
    meters, status = (row.plain for row in area_rows(state, 3.0, fixed, console))
    assert meters.startswith("You:   ") and "Heard: " in meters and len(meters) <= 80
    assert status == "hearing yourself, 2.0 s later · 0:02"
    closing = view.reduce(state, StateChanged(4.0, CallState.CLOSING))
    assert area_rows(closing, 4.0, fixed, console)[1].plain.startswith("closing")


def test_a_microphone_that_is_not_there(card: FakeSounddevice, capsys: Capture) -> None:
    assert run(["mic", "--input-device", "theremin"]) == ExitCode.AUDIO
    assert "theremin" in capsys.readouterr().err
