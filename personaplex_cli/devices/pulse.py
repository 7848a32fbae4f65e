"""PulseAudio's own programs, for where PortAudio sees no device but a sound server is there (WSL,
containers): `pactl` lists its devices, `parec` and `pacat` carry samples through a pipe. PipeWire's stand-in
for PulseAudio answers them as well.

The server converts whatever it is asked for, so no format is ever refused. The programs run in a session of
their own, out of reach of the terminal's Ctrl-C; when we die they end, for then their pipe is closed.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from shutil import which
from typing import IO, Final

from personaplex_cli.devices.device import ROLE, Device, Kind
from personaplex_cli.devices.format import Handler, StreamFormat
from personaplex_cli.errors import AudioError
from personaplex_cli.pcm import SAMPLE_BYTES
from personaplex_cli.wire.text import safe_text

LIST_LIMIT_S: Final = 3.0
"""For one call of `pactl`, which takes 5 ms, and more than a second on an overloaded machine; after one that
takes longer no other is made."""

START_LIMIT_S: Final = 3.0
"""Until a first block has gone through: the call may be live, and billed, meanwhile."""

PLAY_OUT_LIMIT_S: Final = 0.2
"""For `pacat` to play what is left, when it is closed."""

END_LIMIT_S: Final = 0.5
"""For a program to end when it is asked to, then when it is killed, and for our thread after it."""

BLOCK_MS: Final = 10

BUFFER_MS: Final[dict[Kind, int]] = {"input": 10, "output": 20}
"""What server and device are asked to hold. The output's also covers for us when we are late with a block.
Measured on null sinks, together: 28 ms from `handler` to `handler`; no gap in 6 s."""

POLL_S: Final = 0.005
"""How often it is looked whether `pacat` has emptied the pipe."""

_PROGRAM: Final[dict[Kind, str]] = {"input": "parec", "output": "pacat"}
_SPECIFICATION: Final = re.compile(r"(\d+)ch (\d+)Hz")


@dataclass(frozen=True, slots=True)
class _Listed:
    """A source or a sink, as `pactl` lists it."""

    kind: Kind
    name: str
    description: str
    channels: int
    rate_hz: int
    monitor_of: str
    """The sink whose sound it gives back; empty for all but monitors."""


def pulse_devices() -> list[Device]:
    """What the sound server has: its microphones, its speakers, and the monitors of those, which are inputs
    that hear what is played. Empty without PulseAudio's programs, or if no server answers. Blocks for 20 ms,
    or until `LIST_LIMIT_S` is over without an answer."""
    if os.name != "posix" or not all(map(which, ("pactl", *_PROGRAM.values()))):
        return []
    try:
        about = _pactl("info")
        inputs = list(_listed("input", _pactl("list", "sources")))
        outputs = list(_listed("output", _pactl("list", "sinks")))
    except (OSError, subprocess.SubprocessError):
        return []
    entries = sorted([*inputs, *outputs], key=lambda entry: entry.monitor_of != "")
    default_sink, default_source = _value("Default Sink", about), _value("Default Source", about)
    return [
        Device(
            index=index,
            name=safe_text(entry.description).strip() or entry.name,
            host_api="PulseAudio",
            input_channels=entry.channels if entry.kind == "input" else 0,
            output_channels=entry.channels if entry.kind == "output" else 0,
            default_rate_hz=entry.rate_hz,
            # Without a microphone the server takes the speaker's monitor for one: we would hear ourselves.
            is_default_input=entry.name == default_source and entry.monitor_of != default_sink,
            is_default_output=entry.kind == "output" and entry.name == default_sink,
            pulse_name=entry.name,
        )
        for index, entry in enumerate(entries)
    ]


def _pactl(*arguments: str) -> str:
    """What it prints. Raises OSError or SubprocessError. Its JSON would be easier to read, but came with
    version 16, in 2022; what it says in English is the same in older ones."""
    with subprocess.Popen(
        ["pactl", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_english(),
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=LIST_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "pactl")
    return said.decode(errors="replace")


def _listed(kind: Kind, text: str) -> Iterator[_Listed]:
    for entry in re.split(r"^(?:Source|Sink) #", text, flags=re.MULTILINE):
        name = _value("Name", entry)
        specification = _SPECIFICATION.search(_value("Sample Specification", entry))
        if not name or safe_text(name) != name or specification is None:
            continue
        monitor_of = _value("Monitor of Sink", entry)
        yield _Listed(
            kind=kind,
            name=name,
            description=_value("Description", entry),
            channels=int(specification[1]),
            rate_hz=int(specification[2]),
            monitor_of="" if monitor_of == "n/a" else monitor_of,
        )


def _value(label: str, text: str) -> str:
    """What stands behind the first such label; empty if there is none."""
    found = re.search(rf"^\t?{label}: (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _english() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


class PulseStream:
    """A raw 16-bit stream on one device, through a program that `start` starts."""

    def __init__(
        self, kind: Kind, device: Device, format: StreamFormat, handler: Handler, ended: Callable[[], None]
    ) -> None:
        """`handler` and `ended` are called on a thread of the stream's own; the latter, once, when the
        program ends after it had begun and without `close`."""
        self._kind: Kind = kind
        self._device = device
        self._command = _command(kind, device, format)
        self._handler = handler
        self._ended = ended
        self._block_samples = format.rate_hz * BLOCK_MS // 1000
        self._block = bytearray(self._block_samples * format.channels * SAMPLE_BYTES)
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = threading.Event()  # a block has gone through, or none ever will
        self._failed = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{kind}-{_PROGRAM[kind]}", daemon=True)
        self.latency_s: float = BUFFER_MS[kind] / 1000
        """What was asked for; the server does not say what it comes to."""

    def start(self) -> None:
        """Returns when samples go through. Raises AudioError; `close` is due then too."""
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL if self._kind == "input" else subprocess.PIPE,
                stdout=subprocess.PIPE if self._kind == "input" else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=_english(),
                start_new_session=True,
            )
        except OSError as error:
            reason = f"{_PROGRAM[self._kind]} cannot be run: {error.strerror}"
            raise AudioError(self._does_not_start(reason)) from None
        self._thread.start()
        if not self._begun.wait(START_LIMIT_S):
            raise AudioError("The sound system does not answer.", "Restart it, or use files instead.")
        if self._failed:
            raise AudioError(self._does_not_start(_last_words(self._process)))

    def close(self) -> None:
        """Plays what is left, and ends the program, by force if need be. Blocks for 40 ms; 1.7 s at the very
        worst. May be called again, and without `start`."""
        self._closing.set()
        process = self._process
        if process is None:
            return
        # At the end of its input pacat plays what it has, and ends.
        if self._kind == "input" or not _ends_within(PLAY_OUT_LIMIT_S, process):
            process.terminate()
            if not _ends_within(END_LIMIT_S, process):
                process.kill()
                _ends_within(END_LIMIT_S, process)
        self._thread.join(END_LIMIT_S)
        assert process.stderr is not None
        process.stderr.close()

    def _does_not_start(self, reason: str) -> str:
        return f"The {ROLE[self._kind]} {self._device.name!r} does not start: {reason}."

    # --- the stream's thread

    def _run(self) -> None:
        process = self._process
        assert process is not None
        pipe = process.stdout or process.stdin
        assert pipe is not None
        with pipe, contextlib.suppress(BrokenPipeError):  # the program has ended
            if self._kind == "input":
                self._capture(pipe)
            else:
                self._render(pipe, process)
        if not self._begun.is_set():
            self._failed = True
            self._begun.set()
        elif not self._closing.is_set():
            self._ended()

    def _capture(self, pipe: IO[bytes]) -> None:
        """Nothing is dropped here: what waits in the pipe, as we were late, is as old as `handler` is told,
        and who sends it drops what is too old."""
        bytes_per_s = len(self._block) * 1000 / BLOCK_MS
        while not self._closing.is_set() and _fill(self._block, pipe):
            age_s = self.latency_s + _held_bytes(pipe) / bytes_per_s
            self._handler(self._block, self._block_samples, age_s, False)
            self._begun.set()

    def _render(self, pipe: IO[bytes], process: subprocess.Popen[bytes]) -> None:
        """`pacat` reads when its server has room, so the device's clock sets the pace. A pipe holds more than
        a second; a block is put in only when it is empty, for all that it holds is delay."""
        written = False
        while not self._closing.is_set() and process.poll() is None:
            if _held_bytes(pipe) == 0:
                if written:
                    self._begun.set()
                self._handler(self._block, self._block_samples, self.latency_s, False)
                pipe.write(self._block)
                written = True
            self._closing.wait(POLL_S)


def _command(kind: Kind, device: Device, format: StreamFormat) -> list[str]:
    command = [
        _PROGRAM[kind],
        "--raw",
        "--format=s16le",
        f"--rate={format.rate_hz}",
        f"--channels={format.channels}",
        f"--device={device.pulse_name}",
        f"--latency-msec={BUFFER_MS[kind]}",
        "--client-name=personaplex",
    ]
    if format.chosen is not None:
        command.append("--no-remap")  # the channels as they are numbered, whatever they are called
    return command


def _fill(block: bytearray, pipe: IO[bytes]) -> bool:
    """False at the end of the pipe."""
    with memoryview(block) as view:
        n_bytes = 0
        while n_bytes < len(block):
            got_bytes = os.readv(pipe.fileno(), [view[n_bytes:]])
            if not got_bytes:
                return False
            n_bytes += got_bytes
    return True


def _held_bytes(pipe: IO[bytes]) -> int:
    """How much is in a pipe, from either of its ends."""
    from fcntl import ioctl
    from termios import FIONREAD

    return int.from_bytes(ioctl(pipe, FIONREAD, bytes(4)), sys.byteorder)


def _ends_within(limit_s: float, process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """What a program that has ended said last."""
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)  # who knows who else holds the other end
    lines = (process.stderr.read() or b"").decode(errors="replace").split("\n")
    return next((safe_text(line).strip() for line in reversed(lines) if line.strip()), "no reason is given")
