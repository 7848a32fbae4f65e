"""`personaplex doctor` on virtual sound cards whose speaker is heard, or not, at their microphone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from card_calls import Told
from echo_room import noise, voice
from ogg_pages import RATE, Samples
from virtual_card import PATIENCE_S, SCRIPT, Card, Ear

from personaplex_cli.doctor.checks import SAY_SOMETHING
from personaplex_cli.errors import ExitCode

DELAY_MS = 10.0
LEVEL_DB = 3.0
"""What a measurement may be wrong by."""

ROOM_DBFS = -45.0
"""Of a noise: far above what a microphone that hears nothing gives."""

ATTEMPTS = 3
"""On a loaded machine the card's own loop runs dry, and is 20 ms later for good."""

SHORT = (
    "import sys; sys.setswitchinterval(0.001); from personaplex_cli.doctor import sound; sound.LEVEL_S = 1.5"
)
DOCTOR = f"{SHORT}; from personaplex_cli.cli.app import main; main()"
OPTIONS = ["doctor", "--json", "--dialect", "moshi", "--server", "ws://127.0.0.1:1"]
EARS = f"""{SHORT}
from personaplex_cli.doctor.machine import Place
ears = sound.Sound(None, None, None, Place("Linux"))
"""
TELL = """
import json
print(json.dumps([{"status": one.status, "text": one.text, "figures": one.figures} for one in found]))
"""
LEVEL_AND_ECHO = f"{EARS}found = [ears.check_level(), ears.check_echo()]{TELL}"
ECHO = f"{EARS}found = [ears.check_echo()]{TELL}"
CALL = f"""{SHORT}
from personaplex_cli.doctor.machine import Place
from personaplex_cli.doctor.trial import check_call
found = [check_call(None, None, None, Place("Linux"), duration_s=3.0)]{TELL}
"""


def run(card: Card, code: str, *arguments: str, said: Samples | None = None) -> Any:
    """What it prints as JSON; `said` comes to the microphone when it asks for something."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=card.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        deadline = threading.Timer(PATIENCE_S, process.kill)
        deadline.start()
        complaints = ""
        while line := process.stderr.readline():
            complaints += line
            if said is not None and line.startswith(SAY_SOMETHING[:13]):
                card.play(said)
        answer = process.stdout.read()
        deadline.cancel()
        assert answer, complaints
        return json.loads(answer)


def attempt(card: Card, delay_ms: int, level_db: int, look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Of some attempts the first that is right about the echo: findings by their names."""
    for _ in range(ATTEMPTS):
        command = ["sh", str(SCRIPT), "echo", "on", str(delay_ms), str(level_db)]
        subprocess.run(command, env=card.environment, check=True, timeout=20)
        found = look()
        figures = found["echo"]["figures"]
        if figures.get("heard") and abs(figures["delay_ms"] - delay_ms) <= DELAY_MS:
            break
    return found


def near() -> dict[str, Any]:
    """All of doctor, and speech that is far too loud."""
    shout = np.clip(20 * voice("near", -24)[: 3 * RATE // 2], -1, 1)

    def look() -> dict[str, Any]:
        return {check["check"]: check for check in run(card, DOCTOR, *OPTIONS, said=shout)["checks"]}

    with Card() as card:
        return attempt(card, 120, -20, look)


def far() -> dict[str, Any]:
    with Card() as card:
        return attempt(
            card, 250, -8, lambda: dict(zip(("level", "echo"), run(card, LEVEL_AND_ECHO), strict=True))
        )


def none() -> dict[str, Any]:
    """A noisy room, and headphones."""
    with Card() as card, card.playing(noise(6 * RATE, -40)):
        [found] = run(card, ECHO)
        return dict(found)


def call() -> dict[str, Any]:
    """With a microphone that hears noise from before the call to after it: nothing but zeros would not do."""
    with Card() as card, card.playing(noise(6 * RATE, ROOM_DBFS)):
        [found] = run(card, CALL)
        return dict(found)


def interrupted() -> int:
    """The exit code of Ctrl-C while the chirps are played."""
    with (
        Card() as card,
        subprocess.Popen(
            [sys.executable, "-c", DOCTOR, *OPTIONS],
            env=card.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as process,
        Ear(card) as ear,
    ):
        try:
            ear.wait_for_sound()
            process.send_signal(signal.SIGINT)
            return process.wait(10)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """All of it at the same time: each takes its real time, and mostly waits."""
    looks: tuple[Callable[[], Any], ...] = (near, far, none, call, interrupted)
    with ThreadPoolExecutor(len(looks)) as pool:
        yield Told(pool, looks)


@pytest.mark.parametrize(("look", "delay_ms", "level_db"), [(near, 120, -20), (far, 250, -8)])
def test_an_echo_is_measured(
    told: Told, look: Callable[[], dict[str, Any]], delay_ms: float, level_db: float
) -> None:
    echo = told(look)["echo"]
    assert echo["status"] == "ok" and "echo cancellation will take that out" in echo["text"]
    assert abs(echo["figures"]["delay_ms"] - delay_ms) <= DELAY_MS
    assert abs(echo["figures"]["level_db"] - level_db) <= LEVEL_DB


def test_noise_is_no_echo(told: Told) -> None:
    found = told(none)
    assert found["status"] == "ok" and found["figures"]["heard"] is False


def test_the_level_of_the_microphone(told: Told) -> None:
    shouting, silent = told(near)["level"], told(far)["level"]
    assert (shouting["status"], shouting["figures"]["verdict"]) == ("warning", "clipped")
    assert (silent["status"], silent["figures"]["verdict"]) == ("failure", "dead")


def test_devices_and_sound_server(told: Told) -> None:
    checks = told(near)
    assert checks["sound_system"]["text"].startswith("PulseAudio ")
    for name in ("microphone", "speaker"):
        assert checks[name]["figures"]["native"] and checks[name]["figures"]["host_apis"] == ["ALSA"]
    assert checks["portaudio"]["figures"]["portaudio"].startswith("PortAudio V19")
    assert checks["server"]["status"] == "failure"


def test_a_call_to_the_stand_in(told: Told) -> None:
    found = told(call)
    assert found["status"] in ("ok", "warning") and "greeting played" in found["text"]
    assert found["figures"]["greeting_dbfs"] > -40
    # The noise it is, neither zeros nor the far louder greeting: on a loaded machine some of it is missing.
    assert ROOM_DBFS - 20 < found["figures"]["microphone_dbfs"] < ROOM_DBFS + 5
    assert 2.5 < found["figures"]["lasted_s"] < 8


def test_ctrl_c_ends_it_at_once(told: Told) -> None:
    assert told(interrupted) == ExitCode.INTERRUPTED
