"""The program, or a shell, in a terminal window of its own: keys go in, and the screen is read."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pyte

PATIENCE_S: Final = 40.0
"""For anything that must happen; a loaded machine is slow."""

QUIET_S: Final = 0.02
"""Between two pictures of the live view it is longer."""

COLUMNS: Final = 80
ROWS: Final = 24

PROMPT: Final = "$"
"""Of a shell that runs in the window."""

PROGRAM: Final = (sys.executable, "-m", "personaplex_cli")
NO_SOUND: Final = ("--input-device", "none", "--output", "none")
UNLIMITED: Final = ("--idle-timeout", "0", "--max-duration", "180")
"""As long as a test takes; a job that a shell has left behind ends some time."""

CALL: Final = ("talk", "--local", *NO_SOUND, *UNLIMITED)
"""With the stand-in."""

# Takes the terminal as the one that controls it, as a login does. (Forking, as pexpect does, would be wrong
# where there are threads, and calls are held on several.)
_LOGIN: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""

_SETTINGS: Final = ("PERSONAPLEX_", "POLARGRID_", "XDG_", "SSL_CERT_", "PYTHON", "COV", "PULSE_", "ALSA_")
_OTHERS: Final = ("ENV", "PS1", "NO_COLOR", "FORCE_COLOR", "ACCESSIBLE", "COLUMNS", "LINES")
_ENVIRONMENT: Final = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(_SETTINGS) and not name.lower().endswith("_proxy") and name not in _OTHERS
}
"""Without anything that says how to call or how to look. Taken now: tests change it later."""

State = tuple[Any, frozenset[int], bool, str]


class Window:
    """`with Window(*COMMAND) as window:` is a terminal in which it runs. To be used by one thread."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.written = b""
        """All that has come to the terminal so far."""
        self.screen = WrappingScreen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self._rows: list[str] | None = None  # until something changes them: they take a while to make
        self._home = tempfile.TemporaryDirectory(prefix="window")
        self._master, self._slave = os.openpty()
        self._set_size()
        self.found = self.state()
        """As the program found it."""
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LOGIN, *command],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            cwd=self._home.name,
            env={
                **_ENVIRONMENT,
                "HOME": self._home.name,
                "TERM": "xterm-256color",
                "PYTHONUTF8": "1",
                "PS1": f"{PROMPT} ",
                **environment,
            },
        )

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):  # it has ended, and all that it started
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.close()
        os.close(self._slave)
        self._home.cleanup()

    def close(self) -> None:
        """The window is closed; nothing can be read any more."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    # --- what is seen

    @property
    def rows(self) -> list[str]:
        """Without blank ones at the end."""
        if self._rows is None:
            rows = [row.rstrip() for row in self.screen.display]
            while rows and not rows[-1]:
                rows.pop()
            self._rows = rows
        return self._rows

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    def state(self) -> State:
        """What must be after the program as it was before: the terminal's modes (termios), what else can be
        switched, the title."""
        switched = (frozenset(self.screen.mode), self.screen.cursor.hidden, self.screen.title)
        return termios.tcgetattr(self._slave), *switched

    def wait_for(self, wanted: str | Callable[[], bool]) -> None:
        """Until it is on the screen, or true."""
        end_s = time.monotonic() + PATIENCE_S
        while not (wanted in self.text if isinstance(wanted, str) else wanted()):
            assert time.monotonic() < end_s, f"never {wanted!r} on\n{self.text}\n({self.written[-500:]!r})"
            self._take(0.05)

    def wait_for_picture(self) -> None:
        """A new one of the live view, whole."""
        n_before = len(self.written)
        self.wait_for(lambda: len(self.written) > n_before)
        while self._take(QUIET_S):
            pass

    def wait_for_prompt(self) -> None:
        self.wait_for(lambda: self.rows[-1:] == [PROMPT])

    def wait_for_end(self) -> int:
        """The exit code."""
        self.wait_for(lambda: self.process.poll() is not None)
        while self._take(0):
            pass
        return self.process.returncode

    def _take(self, wait_s: float) -> bool:
        """What has been written meanwhile; whether there was anything."""
        if not select.select([self._master], [], [], wait_s)[0]:
            return False
        data = os.read(self._master, 1 << 16)
        self.written += data
        self._stream.feed(data)
        self._rows = None
        return True

    # --- what is done

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def paste(self, text: str) -> None:
        """As a terminal does it that was asked to mark what is pasted."""
        self.press(f"\x1b[200~{text}\x1b[201~")

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop_as_a_shell_does(self) -> None:
        """SIGSTOP, and the terminal is as it was found; returns when it has stopped."""
        self.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)
        termios.tcsetattr(self._slave, termios.TCSANOW, list(self.found[0]))

    def resize(self, columns: int) -> None:
        """Between two pictures of the live view."""
        self.wait_for_picture()
        self.screen.resize(columns=columns)
        self._rows = None
        self._set_size()

    def _set_size(self) -> None:
        size = struct.pack("HHHH", self.screen.lines, self.screen.columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)


class WrappingScreen(pyte.Screen):
    """Made narrower, it wraps the rows that have no room any more, as most terminals do; they stay so."""

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        columns = columns or self.columns
        if columns >= self.columns:
            super().resize(lines, columns)
            return
        rows: list[list[Any]] = []
        for y in range(self.cursor.y + 1):
            cells = [self.buffer[y][x] for x in range(self.columns)]
            while cells and cells[-1].data == " ":
                cells.pop()
            rows += [cells[at : at + columns] for at in range(0, max(1, len(cells)), columns)]
        rows = rows[-self.lines :]
        super().resize(lines, columns)
        self.buffer.clear()
        for y, row in enumerate(rows):
            self.buffer[y].update(enumerate(row))
        self.cursor.y, self.cursor.x = len(rows) - 1, min(len(rows[-1]), columns - 1)
