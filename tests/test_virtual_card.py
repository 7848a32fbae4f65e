"""The real program on a sound card that is virtual: PulseAudio's null sinks (scripts/virtual_audio.sh)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import soundfile
from ogg_pages import RATE, likeness, to_samples
from speech import question

from personaplex_cli.errors import ExitCode

SCRIPT = Path(__file__).parent.parent / "scripts" / "virtual_audio.sh"
NEEDED = ("pulseaudio", "pactl", "paplay", "parec")


@pytest.fixture
def card() -> Iterator[dict[str, str]]:
    """The environment of a program that is to find the virtual card as its default devices."""
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        pytest.skip(f"no virtual sound card: {', '.join(missing)} not installed")
    # Not tmp_path: the path of a Unix socket is short.
    with tempfile.TemporaryDirectory(prefix="va", dir="/tmp") as folder:
        start = {**os.environ, "VAUDIO_DIR": folder}
        try:
            command = ["sh", str(SCRIPT), "start"]
            started = subprocess.run(command, env=start, capture_output=True, text=True, timeout=20)
            if started.returncode:
                pytest.skip(f"no virtual sound card: {started.stderr.strip()}")
            shown = subprocess.check_output(["sh", "-c", f". {folder}/env && env -0"], env=start, text=True)
            yield dict(line.split("=", 1) for line in shown.split("\0") if line)
        finally:
            subprocess.run(["sh", str(SCRIPT), "stop"], env=start, capture_output=True, timeout=20)


class Program:
    """`personaplex talk --local`, whose output is read as it comes."""

    def __init__(self, environment: dict[str, str], *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "personaplex_cli", "talk", "--local", *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        self._more = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(pipe,), daemon=True)
            for pipe in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            with self._more:
                self.said += line
                self._more.notify_all()

    def wait_for(self, text: str) -> None:
        with self._more:
            assert self._more.wait_for(lambda: text in self.said, 20), f"{text!r} not in {self.said!r}"

    def end(self) -> tuple[int, str]:
        """Exit code and all that it said."""
        code = self.process.wait(20)
        for reader in self._readers:
            reader.join(10)
        return code, self.said

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for reader in self._readers:
            reader.join(10)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        self.process.wait(10)


def test_speech_goes_in_at_the_microphone_and_comes_back_at_the_speaker(
    card: dict[str, str], tmp_path: Path
) -> None:
    spoken = question()
    soundfile.write(tmp_path / "question.wav", spoken, RATE)
    record = [
        "parec",
        "--device=speaker.monitor",
        "--format=s16le",
        f"--rate={RATE}",
        "--channels=1",
        "--raw",
    ]
    play = ["paplay", "--device=micfeed", str(tmp_path / "question.wav")]
    with (
        (tmp_path / "heard.raw").open("wb") as recording,
        subprocess.Popen(record, env=card, stdout=recording) as recorder,
        Program(card, "--echo-cancel", "off") as program,  # there is no echo, and the wave is compared
    ):
        program.wait_for("Hello!")  # it greets, and stops when it is spoken to
        subprocess.run(play, env=card, check=True, timeout=20)
        program.wait_for("of what you said.")  # the end of the repetition
        program.process.send_signal(signal.SIGINT)
        code, said = program.end()
        recorder.terminate()
    assert code == ExitCode.OK, said
    assert "Call ended: you hung up" in said
    heard = (tmp_path / "heard.raw").read_bytes()
    recorded = to_samples(heard[: len(heard) // 2 * 2])
    # A sound card waits for nobody: on a loaded machine a moment may be missing, and the rest is out of step.
    thirds = np.array_split(spoken, 3)
    assert max(likeness(third, recorded)[0] for third in thirds) > 0.8


def test_a_sound_server_that_dies_is_told_and_the_call_goes_on_until_it_is_hung_up(
    card: dict[str, str],
) -> None:
    with Program(card) as program:
        program.wait_for("Hello!")
        os.kill(int((Path(card["VAUDIO_DIR"]) / "pid").read_text()), signal.SIGKILL)
        program.wait_for("The microphone ")
        program.wait_for("The speaker ")
        program.process.send_signal(signal.SIGINT)
        code, said = program.end()
    assert code == ExitCode.OK
    assert said.count(" is gone; ") == 2 and "Call ended: you hung up" in said
    assert "Traceback" not in said and "Expression" not in said
