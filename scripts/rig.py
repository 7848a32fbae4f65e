"""What the latency benchmark stands on: the virtual card, its two ends recorded on one clock, the echo
server, and a client in a process of its own.
"""

from __future__ import annotations

import os
import pty
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

import numpy as np
from bursts import RATE, Samples

SCRIPTS = Path(__file__).parent
CARD = SCRIPTS / "virtual_audio.sh"
PATIENCE_S = 20.0
CARD_PERIOD_MS = 5
"""The recordings ask the card for this: both of its ends work in such pieces, whatever a client asks for."""
CLOCK_WINDOW_S = 5
WINDOW_ROWS, WINDOW_COLUMNS = 30, 120

Environment = Mapping[str, str]


@contextmanager
def card() -> Iterator[Environment]:
    """The environment of programs that are to find the virtual card as their default devices."""
    # In /tmp: the path of a Unix socket is short.
    with tempfile.TemporaryDirectory(prefix="bl", dir="/tmp") as folder:
        start = {**os.environ, "VAUDIO_DIR": folder, "VAUDIO_RATE": str(RATE)}
        try:
            subprocess.run(["sh", CARD, "start"], env=start, check=True, stdout=subprocess.DEVNULL)
            shown = subprocess.check_output(["sh", "-c", f". {folder}/env && env -0"], env=start, text=True)
            found = dict(line.split("=", 1) for line in shown.split("\0") if line)
            own = {name: value for name, value in found.items() if not name.startswith("PERSONAPLEX_")}
            yield {**own, "XDG_CONFIG_HOME": folder}  # no settings of the user's
        finally:
            subprocess.run(["sh", CARD, "stop"], env=start, check=False)


class Recording:
    """One source of the card while it is recorded. Samples and times are for after the end."""

    def __init__(self, source: str, environment: Environment) -> None:
        self.process = subprocess.Popen(
            ["parec", f"--device={source}", "--format=s16le", f"--rate={RATE}", "--channels=1", "--raw"]
            + [f"--latency-msec={CARD_PERIOD_MS}"],
            env=environment,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self.process.stdout
        self.pipe = self.process.stdout
        self._parts: list[bytes] = []
        self._n_bytes = 0
        self._offsets_s: dict[int, float] = {}

    def read(self) -> bool:
        """Takes what has come; False at the end."""
        part = os.read(self.pipe.fileno(), 65536)
        arrived_s = time.monotonic()
        self._parts.append(part)
        self._n_bytes += len(part)
        recorded_s = self._n_bytes / 2 / RATE
        # Nothing comes early, so the earliest tells when a sample was recorded; anew every few seconds,
        # should the sound server ever leave something out.
        window, offset_s = int(recorded_s // CLOCK_WINDOW_S), arrived_s - recorded_s
        self._offsets_s[window] = min(offset_s, self._offsets_s.get(window, offset_s))
        return bool(part)

    def samples(self) -> Samples:
        pcm = b"".join(self._parts)
        return np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)

    def time_s(self, sample: int) -> float:
        """When that sample was recorded (`time.monotonic`)."""
        at_s = sample / RATE
        window = int(at_s // CLOCK_WINDOW_S)
        near = [w for w in (window - 1, window, window + 1) if w in self._offsets_s]
        return at_s + min(self._offsets_s[w] for w in near or self._offsets_s)

    def sample(self, at_s: float) -> int:
        """The one that was recorded at about that time."""
        return round((at_s - min(self._offsets_s.values())) * RATE)


@contextmanager
def recorded(environment: Environment, *sources: str) -> Iterator[list[Recording]]:
    """Records sources of the card, all read by one thread with one clock, until the block ends."""
    recordings = [Recording(source, environment) for source in sources]

    def read() -> None:
        with selectors.DefaultSelector() as selector:
            for recording in recordings:
                selector.register(recording.pipe, selectors.EVENT_READ, recording)
            while selector.get_map():
                for key, _ in selector.select():
                    if not key.data.read():
                        selector.unregister(key.fileobj)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield recordings
    finally:
        for recording in recordings:
            recording.process.terminate()
        thread.join(PATIENCE_S)
        for recording in recordings:
            recording.process.wait(PATIENCE_S)
            recording.pipe.close()


class EchoServer:
    """`echo_server.py`, running."""

    def __init__(self) -> None:
        command = [sys.executable, str(SCRIPTS / "echo_server.py")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.port = int(self.wait_for("port"))

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()

    def _told(self, what: str) -> list[float]:
        return [float(line.split()[1]) for line in self._lines if line.startswith(what)]

    def wait_for(self, what: str) -> float:
        """The first value of that kind that it told. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._told(what), PATIENCE_S):
                raise TimeoutError(f"the echo server has not told {what!r}")
            return self._told(what)[0]

    def close(self) -> None:
        for number in (signal.SIGCONT, signal.SIGTERM):
            self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        assert self.process.stdout
        self.process.stdout.close()


class Client:
    """A program that talks to the server, on the card. Its output goes to a terminal, or to a pipe."""

    def __init__(self, command: Sequence[str], environment: Environment, *, screen: bool) -> None:
        self.begun_s = time.monotonic()
        if screen:
            self._output, inner = pty.openpty()
            ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", WINDOW_ROWS, WINDOW_COLUMNS, 0, 0))
        else:
            self._output, inner = os.pipe()
        self.process = subprocess.Popen(
            command,
            env={**environment, "TERM": "xterm-256color"},
            cwd=SCRIPTS.parent,
            stdin=inner if screen else subprocess.DEVNULL,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self._said: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._output, 65536):
                self._said.append(part)
        except OSError:  # how a terminal says that nobody is left on the other side
            pass
        os.close(self._output)

    @property
    def said(self) -> str:
        return b"".join(self._said).decode(errors="replace")

    def cpu_s(self) -> float:
        """What all of its threads have used so far, user and system (proc(5): utime and stime)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> str:
        """Interrupts it as Ctrl-C does; what it said in all."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        return self.said
