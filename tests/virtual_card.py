"""A sound card that is virtual (scripts/virtual_audio.sh), and what is said and heard there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from ogg_pages import RATE, Samples, likeness, rms_dbfs, to_samples
from speech import question

SCRIPT = Path(__file__).parent.parent / "scripts" / "virtual_audio.sh"
NEEDED = ("pulseaudio", "pactl", "paplay", "parec", "pacat")
PATIENCE_S = 40.0
"""For anything that must happen; a loaded machine is slow."""

LIKE = 0.8
"""Correlation of what was said with what is heard: the same sound, through two codecs at most."""

ATTEMPTS = 4
ANSWER_S = 3.0
"""The stand-in's silence before it answers, and the answer."""

SOUND_DBFS = -45.0
_SETTINGS = ("PERSONAPLEX_", "POLARGRID_", "XDG_", "SSL_CERT_", "PULSE_", "ALSA_", "COV")
_ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(_SETTINGS) and not name.lower().endswith("_proxy")
}
"""Without settings of the user's, and anything that says how to call. Taken now: tests change it later,
while cards start on other threads."""


def wait_until(true: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s, f"not yet: {what}"
        time.sleep(0.05)


class Card:
    """`with Card() as card:` is a card of its own; its microphone hears what is played into "micfeed"."""

    def __init__(self, rate_hz: int = 48_000) -> None:
        if missing := [name for name in NEEDED if not shutil.which(name)]:
            pytest.skip(f"no virtual sound card: {', '.join(missing)} not installed")
        # Not tmp_path: the path of a Unix socket is short.
        self._folder = tempfile.TemporaryDirectory(prefix="va", dir="/tmp")
        self.folder = Path(self._folder.name)
        self.environment = {
            **_ENVIRONMENT,
            "HOME": self._folder.name,
            "VAUDIO_DIR": self._folder.name,
            "VAUDIO_RATE": str(rate_hz),
        }

    def __enter__(self) -> Card:
        started = self._script("start")
        if started.returncode:
            self.__exit__()
            pytest.skip(f"no virtual sound card: {started.stderr.strip()}")
        show = ["sh", "-c", f". {self.folder}/env && env -0"]
        shown = subprocess.check_output(show, env=self.environment, text=True)
        self.environment = dict(line.split("=", 1) for line in shown.split("\0") if line)
        return self

    def __exit__(self, *_: object) -> None:
        self._script("stop")
        self._folder.cleanup()

    def _script(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", str(SCRIPT), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=20)

    def start_again(self) -> None:
        started = self._script("start")
        assert started.returncode == 0, started.stderr

    def kill(self) -> None:
        """The sound server dies."""
        self._signal(signal.SIGKILL)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """The sound server answers nobody meanwhile."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(int((self.folder / "pid").read_text()), number)

    def hear_itself(self) -> None:
        """What the speaker plays comes back at the microphone, 40 ms later and 8 dB quieter."""
        done = self._script("echo", "on", "40", "-8")
        assert done.returncode == 0, done.stderr

    def pactl(self, *arguments: str) -> None:
        command = ["pactl", *arguments]
        subprocess.run(command, env=self.environment, stdout=subprocess.DEVNULL, check=True, timeout=20)

    def add_sink(self, name: str, *, channels: int = 1, rate_hz: int = 48_000) -> None:
        form = [f"rate={rate_hz}", f"channels={channels}", "norewinds=1"]
        self.pactl("load-module", "module-null-sink", f"sink_name={name}", *form)

    def add_microphone(self, name: str, *, channels: int = 1, rate_hz: int = 48_000) -> None:
        """The new default; it hears what is played into "NAME_feed"."""
        self.add_sink(f"{name}_feed", channels=channels, rate_hz=rate_hz)
        form = [f"source_name={name}", f"master={name}_feed.monitor", f"channels={channels}", "remix=no"]
        self.pactl("load-module", "module-remap-source", *form)
        self.pactl("set-default-source", name)

    def add_to_alsa(self, definition: str) -> None:
        self._use_alsa((self.folder / "asound.conf").read_text() + definition)

    def hide_from_alsa(self) -> None:
        """ALSA has a card that is not there, as without a sound card."""
        self._use_alsa("pcm.default { type hw card 0 }\n")

    def _use_alsa(self, configuration: str) -> None:
        file = self.folder / "own.conf"
        file.write_text(configuration)
        self.environment["ALSA_CONFIG_PATH"] = str(file)

    def play(self, samples: Samples, sink: str = "micfeed") -> None:
        """To its end. `samples` of one channel, or (samples, channels)."""
        file = self.folder / f"{threading.get_ident()}.wav"
        soundfile.write(file, samples, RATE)
        command = ["paplay", f"--device={sink}", str(file)]
        subprocess.run(command, env=self.environment, check=True, timeout=PATIENCE_S)

    @contextmanager
    def playing(self, samples: Samples, sink: str = "micfeed") -> Iterator[None]:
        """`samples`, of one channel and without an end: for a minute, which is longer than any call here."""
        file = self.folder / "playing.wav"
        soundfile.write(file, np.resize(samples, 60 * RATE), RATE)
        command = ["paplay", f"--device={sink}", str(file)]
        with subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.kill()


class Ear:
    """`with Ear(card) as ear:` hears what the card plays."""

    def __init__(self, card: Card, source: str = "speaker.monitor") -> None:
        form = ["--format=s16le", f"--rate={RATE}", "--channels=1", "--raw", "--latency-msec=20"]
        self._process = subprocess.Popen(
            ["parec", f"--device={source}", *form],
            env=card.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._pcm = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        while part := self._process.stdout.read(65536):
            self._pcm += part

    @property
    def heard(self) -> Samples:
        """So far."""
        pcm = bytes(self._pcm)
        return to_samples(pcm[: len(pcm) // 2 * 2])

    def wait_for_sound(self) -> None:
        """0.1 s of it, from now on."""
        begin = len(self.heard)
        wait_until(lambda: self._level_dbfs(begin, 0.1) > SOUND_DBFS, "sound")

    def wait_for_silence(self) -> None:
        """0.4 s of it, from now on."""
        begin = len(self.heard)
        wait_until(lambda: self._level_dbfs(begin, 0.4) < SOUND_DBFS, "silence")

    def _level_dbfs(self, begin: int, last_s: float) -> float:
        """Of the last seconds; not a number while they are not all after `begin`."""
        samples = self.heard[begin:][-round(last_s * RATE) :]
        return rms_dbfs(samples) if len(samples) == round(last_s * RATE) else float("nan")

    def __enter__(self) -> Ear:
        wait_until(lambda: len(self._pcm) > 0, "a recording")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # asked to end, it would wait for a sound server that hangs
        self._process.wait(10)
        self._thread.join(10)
        assert self._process.stdout
        self._process.stdout.close()


def likeness_of_spoken(
    card: Card, heard: Callable[[], Samples], *, into: str = "micfeed", samples: Samples | None = None
) -> float:
    """Plays the question (`samples`, if they hold it) into a microphone. How like it is what is heard then.

    A sound card waits for nobody: on a loaded machine a moment may be missing, and the rest is out of step.
    So a quarter of a second is compared at a time (other speech has 0.4 at most), and it is asked again.
    """
    best = 0.0
    for _ in range(ATTEMPTS):
        if best > LIKE:
            break
        begin = len(heard())
        card.play(question() if samples is None else samples, into)
        end_s = time.monotonic() + ANSWER_S
        while best < LIKE and time.monotonic() < end_s:
            time.sleep(0.4)
            recording = heard()[begin:]
            for part in np.array_split(question(), 5):
                best = max(best, likeness(part, recording)[0])
                if best > LIKE:  # the others would take the processor's time for nothing
                    break
    return best
