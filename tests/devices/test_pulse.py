"""PulseAudio's programs: stand-ins for them on the PATH, and the real ones on a virtual sound card."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personaplex_cli.devices import pulse
from personaplex_cli.devices.device import Device, Kind
from personaplex_cli.devices.format import StreamFormat
from personaplex_cli.devices.pulse import PulseStream, pulse_devices
from personaplex_cli.errors import AudioError
from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="PulseAudio's programs are for POSIX systems")

SCRIPT = Path(__file__).parents[2] / "scripts" / "virtual_audio.sh"
BLOCK_BYTES = SAMPLE_RATE // 100 * SAMPLE_BYTES
LIMIT_S = 10.0
FOR_EVER = "exec sleep 60"

INFO = "Server Name: pulseaudio\nDefault Sink: speaker\nDefault Source: {source}\nCookie: 4af5:4245\n"
SOURCES = """Source #0
\tState: SUSPENDED
\tName: speaker.monitor
\tDescription: Monitor of Lautsprecher für alle
\tSample Specification: s16le 2ch 44100Hz
\tMonitor of Sink: speaker
\tProperties:
\t\tdevice.description = "Monitor of Lautsprecher für alle"
\tFormats:
\t\tpcm

Source #3
\tName: mic
\tDescription: Microphone \x1b[2J
\tSample Specification: float32le 1ch 48000Hz
\tMonitor of Sink: n/a

Source #4
\tName: nameless
\tDescription:\x20
\tSample Specification: s16le 6ch 16000Hz
\tMonitor of Sink: n/a

Source #5
\tName: broken
\tSample Specification: n/a
"""
SINKS = """Sink #0
\tName: speaker
\tDescription: Lautsprecher für alle
\tSample Specification: s16le 2ch 44100Hz
\tMonitor Source: speaker.monitor
"""


class Programs:
    """The programs that there are; each a shell script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()

    def make(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\nhere="{self.folder}"\n{body}\n', encoding="utf-8")
        path.chmod(0o755)

    def make_pactl(self, source: str = "mic") -> None:
        for name, text in (("info", INFO.format(source=source)), ("sources", SOURCES), ("sinks", SINKS)):
            (self.folder / name).write_text(text, encoding="utf-8")
        self.make("pactl", '[ "$LC_ALL" = C ] || exit 1\nshift $(($# - 1))\ncommand -p cat "$here/$1"')
        self.make("parec", "")
        self.make("pacat", "")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}{os.pathsep}{os.defpath}")
    return made


class Exchange:
    """What a stream calls: keeps what comes in, and gives `sound`, or numbered blocks, out."""

    def __init__(
        self,
        kind: Kind,
        format: StreamFormat | None = None,
        device: str = "speaker",
        sound: bytes | None = None,
    ) -> None:
        self._sound = sound
        self.blocks: list[bytes] = []
        self.calls: list[tuple[int, float, bool]] = []
        self.n_ended = 0
        self._changed = threading.Condition()
        handler = self.take if kind == "input" else self.give
        listed = Device(0, "The card", "PulseAudio", 2, 2, 48_000, True, True, device)
        self.stream = PulseStream(kind, listed, format or StreamFormat(), handler, self.ended)

    def take(self, buffer: Any, n_samples: int, age_s: float, flagged: bool) -> None:
        self._keep(bytes(buffer), (n_samples, age_s, flagged))

    def give(self, buffer: Any, n_samples: int, ahead_s: float, flagged: bool) -> None:
        buffer[:] = self._sound or bytes([len(self.blocks) % 256]) * len(buffer)
        self._keep(bytes(buffer), (n_samples, ahead_s, flagged))

    def ended(self) -> None:
        with self._changed:
            self.n_ended += 1
            self._changed.notify_all()

    def _keep(self, block: bytes, call: tuple[int, float, bool]) -> None:
        with self._changed:
            self.blocks.append(block)
            self.calls.append(call)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, LIMIT_S)


# --- the list


def test_devices_are_listed_as_the_server_has_them(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    programs.make_pactl()
    assert pulse_devices() == [
        Device(0, "Microphone �[2J", "PulseAudio", 1, 0, 48_000, True, False, "mic"),
        Device(1, "nameless", "PulseAudio", 6, 0, 16_000, False, False, "nameless"),
        Device(2, "Lautsprecher für alle", "PulseAudio", 0, 2, 44_100, False, True, "speaker"),
        Device(
            3, "Monitor of Lautsprecher für alle", "PulseAudio", 2, 0, 44_100, False, False, "speaker.monitor"
        ),
    ]


def test_what_the_speaker_plays_is_no_default_microphone(programs: Programs) -> None:
    programs.make_pactl(source="speaker.monitor")
    devices = pulse_devices()
    assert devices and not any(device.is_default_input for device in devices)


@pytest.mark.parametrize("missing", ["pactl", "parec", "pacat"])
def test_without_one_of_the_programs_there_is_no_device(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    programs.make_pactl()
    (programs.bin / missing).unlink()
    monkeypatch.setenv("PATH", str(programs.bin))
    assert pulse_devices() == []


def test_without_a_server_there_is_no_device(programs: Programs) -> None:
    programs.make_pactl()
    programs.make("pactl", "exit 1")
    assert pulse_devices() == []


def test_a_server_that_hangs_is_waited_for_no_longer_than_the_limit(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "LIST_LIMIT_S", 0.1)
    programs.make_pactl()
    programs.make("pactl", "sleep 5 &\nwait")  # a child of its own holds its output open
    begun_s = time.monotonic()
    assert pulse_devices() == []
    assert time.monotonic() - begun_s < 4


# --- input


def test_what_is_captured_comes_in_blocks_of_10_ms(programs: Programs) -> None:
    audio = bytes(range(256)) * 15
    (programs.folder / "audio").write_bytes(audio[: 3 * BLOCK_BYTES])
    programs.make("parec", f'head -c 99 "$here/audio"\nsleep 0.02\ntail -c +100 "$here/audio"\n{FOR_EVER}')
    exchange = Exchange("input")
    with closing(exchange.stream):
        exchange.stream.start()
        exchange.wait_for(lambda: len(exchange.blocks) == 3)
    assert b"".join(exchange.blocks) == audio[: 3 * BLOCK_BYTES]
    assert {(n_samples, flagged) for n_samples, _, flagged in exchange.calls} == {(240, False)}
    assert exchange.n_ended == 0


def test_what_waits_in_the_pipe_is_older(programs: Programs) -> None:
    programs.make("parec", f"head -c {4 * BLOCK_BYTES} /dev/zero\n{FOR_EVER}")  # one write, so all at once
    exchange = Exchange("input")
    with closing(exchange.stream) as stream:
        stream.start()
        exchange.wait_for(lambda: len(exchange.blocks) == 4)
    ages_s = [age_s - stream.latency_s for _, age_s, _ in exchange.calls]
    assert ages_s == pytest.approx([0.03, 0.02, 0.01, 0.0])


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        (StreamFormat(), {"--rate=24000", "--channels=1"}),
        (StreamFormat(48_000, 2, chosen=1), {"--rate=48000", "--channels=2", "--no-remap"}),
    ],
)
def test_the_program_is_told_device_and_format(
    programs: Programs, format: StreamFormat, expected: set[str]
) -> None:
    programs.make("parec", f'echo "$@" >"$here/told"\nhead -c 1920 /dev/zero\n{FOR_EVER}')
    exchange = Exchange("input", format, device="alsa_input.usb-1")
    with closing(exchange.stream):
        exchange.stream.start()
        exchange.wait_for(lambda: len(exchange.blocks) > 0)
    told = set((programs.folder / "told").read_text().split())
    assert {"--raw", "--format=s16le", "--device=alsa_input.usb-1", *expected} <= told
    assert ("--no-remap" in told) == ("--no-remap" in expected)
    assert len(exchange.blocks[0]) == format.rate_hz // 100 * format.channels * SAMPLE_BYTES
    assert exchange.calls[0][0] == format.rate_hz // 100


# --- output


def test_what_was_given_is_played_to_its_end(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "PLAY_OUT_LIMIT_S", LIMIT_S)
    programs.make("pacat", 'cat >"$here/read"\nmv "$here/read" "$here/played"')
    exchange = Exchange("output")
    with closing(exchange.stream) as stream:
        stream.start()
        exchange.wait_for(lambda: len(exchange.blocks) >= 5)
    assert (programs.folder / "played").read_bytes() == b"".join(exchange.blocks)
    assert set(exchange.calls) == {(240, stream.latency_s, False)}
    assert exchange.n_ended == 0


def test_one_block_at_most_waits_in_the_pipe(programs: Programs) -> None:
    programs.make("pacat", f'dd bs={BLOCK_BYTES} count=2 of=/dev/null 2>"$here/dd"\n{FOR_EVER}')
    exchange = Exchange("output")
    with closing(exchange.stream):
        exchange.stream.start()
        exchange.wait_for(lambda: len(exchange.blocks) == 3)
        time.sleep(10 * pulse.POLL_S)
        assert len(exchange.blocks) == 3


# --- the end


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_program_that_ends_is_a_device_that_is_lost(programs: Programs, kind: Kind) -> None:
    programs.make("parec", f"head -c {BLOCK_BYTES} /dev/zero")
    programs.make("pacat", f'dd bs={BLOCK_BYTES} count=2 of=/dev/null 2>"$here/dd"')
    exchange = Exchange(kind)
    with closing(exchange.stream):
        exchange.stream.start()
        exchange.wait_for(lambda: exchange.n_ended > 0)
    assert exchange.n_ended == 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("input", f"head -c {BLOCK_BYTES} /dev/zero"),
        ("output", f"dd bs={BLOCK_BYTES} count=1 of=/dev/null 2>/dev/null"),
    ],
)
def test_a_program_that_does_not_end_is_ended_by_force(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, kind: Kind, body: str
) -> None:
    monkeypatch.setattr(pulse, "END_LIMIT_S", 0.25)
    program = {"input": "parec", "output": "pacat"}[kind]
    programs.make(
        program, f'trap "" TERM\necho $$ >"$here/pid"\n{body}\nfor _ in $(seq 500); do sleep 0.02; done'
    )
    exchange = Exchange(kind)
    with closing(exchange.stream) as stream:
        stream.start()
        pid = int((programs.folder / "pid").read_text())
        assert os.getsid(pid) == pid  # Ctrl-C in the terminal is not for it
        stream.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert exchange.n_ended == 0


def test_a_stream_that_never_began_can_be_closed() -> None:
    Exchange("input").stream.close()


@pytest.mark.parametrize(("kind", "role"), [("input", "microphone"), ("output", "speaker")])
def test_a_program_that_ends_at_once_says_why(
    programs: Programs, kind: Kind, role: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for program in ("parec", "pacat"):
        programs.make(program, "echo first >&2\nprintf 'No such \\033entity\\n' >&2\nexit 1")
    exchange = Exchange(kind)
    with closing(exchange.stream), pytest.raises(AudioError) as raised:
        exchange.stream.start()
    assert str(raised.value) == f"The {role} 'The card' does not start: No such �entity."
    assert exchange.n_ended == 0
    assert capfd.readouterr().err == ""


def test_a_program_that_cannot_be_run_is_an_error(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(programs.bin))
    exchange = Exchange("input")
    with closing(exchange.stream), pytest.raises(AudioError, match="parec cannot be run: No such file"):
        exchange.stream.start()


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_server_that_does_not_answer_is_an_error(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    monkeypatch.setattr(pulse, "START_LIMIT_S", 0.1)
    for program in ("parec", "pacat"):
        programs.make(program, FOR_EVER)
    exchange = Exchange(kind)
    with closing(exchange.stream), pytest.raises(AudioError, match="does not answer"):
        exchange.stream.start()
    assert exchange.n_ended == 0


# --- the real ones


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The environment is the virtual card's; gives its server's process id."""
    needed = ("pulseaudio", "pactl", "parec", "pacat")
    if missing := [name for name in needed if not shutil.which(name)]:
        pytest.skip(f"no virtual sound card: {', '.join(missing)} not installed")
    with tempfile.TemporaryDirectory(prefix="va", dir="/tmp") as folder:  # a socket's path is short
        monkeypatch.setenv("VAUDIO_DIR", folder)
        try:
            started = subprocess.run(["sh", str(SCRIPT), "start"], capture_output=True, text=True, timeout=20)
            if started.returncode:
                pytest.skip(f"no virtual sound card: {started.stderr.strip()}")
            shown = subprocess.check_output(["sh", "-c", f". {folder}/env && env -0"], text=True)
            for line in filter(None, shown.split("\0")):
                monkeypatch.setenv(*line.split("=", 1))
            yield int((Path(folder) / "pid").read_text())
        finally:
            subprocess.run(["sh", str(SCRIPT), "stop"], capture_output=True, timeout=20)


def test_a_tone_played_is_heard_again_and_a_server_that_hangs_or_dies_holds_nobody_up(card: int) -> None:
    names = [device.pulse_name for device in pulse_devices()]
    assert names == ["mic", "speaker", "micfeed", "speaker.monitor", "micfeed.monitor"]
    tone_hz, seconds = 1000, np.arange(BLOCK_BYTES // SAMPLE_BYTES) / SAMPLE_RATE
    tone = (8000 * np.sin(2 * np.pi * tone_hz * seconds)).astype("<i2").tobytes()  # 10 whole periods
    heard, played = Exchange("input", device="speaker.monitor"), Exchange("output", sound=tone)
    with closing(heard.stream), closing(played.stream):
        heard.stream.start()
        played.stream.start()
        heard.wait_for(lambda: loud(heard.blocks) >= 50)
        os.kill(card, signal.SIGSTOP)
        begun_s = time.monotonic()
        played.stream.close()
        assert time.monotonic() - begun_s < 3
        os.kill(card, signal.SIGKILL)
        heard.wait_for(lambda: heard.n_ended == 1)
    recorded = np.frombuffer(b"".join(heard.blocks[-40:]), "<i2")
    spectrum = np.abs(np.fft.rfft(recorded * np.hanning(len(recorded))))
    assert spectrum.argmax() * SAMPLE_RATE / len(recorded) == pytest.approx(tone_hz, abs=5)
    assert played.n_ended == 0


def loud(blocks: list[bytes]) -> int:
    """How many of them hold more than a murmur."""
    return sum(np.abs(np.frombuffer(block, "<i2").astype(np.int32)).max() > 1000 for block in blocks)
