"""The keys pressed during a call, read in a thread of their own; the owner of termios and msvcrt.

A terminal belongs to all who use it: it is changed only while we are in its foreground, it is given back as
it was found, and nothing is read that is meant for another.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final, Protocol, TextIO

from personaplex_cli.ui.keys import Key, KeyDecoder, Pressed, key_for

if sys.platform != "win32":
    import termios

OnKeys = Callable[[list[Pressed]], object]
"""Called in the keyboard's thread, never with an empty list. What it raises ends the reading."""

BACKGROUND_POLL_S: Final = 0.25
CONSOLE_POLL_S: Final = 0.02
"""Half a step of the fastest auto-repeat, at next to no CPU."""

_READ_BYTES: Final = 4096


class Keyboard(Protocol):
    """What sends keys until it is closed.

    All methods: any thread, also a signal handler on the main thread; idempotent, quick, raise nothing.
    """

    def close(self) -> None:
        """Give the terminal back for good. A call of `on_keys` that is under way may still end."""

    def suspend(self) -> None:
        """Give the terminal back and stop reading: before the process is stopped (SIGTSTP)."""

    def resume(self) -> None:
        """Take the terminal again, whatever others have made of it: after SIGCONT."""

    def cooked(self, on: bool) -> None:
        """Whether what is typed is echoed and, on POSIX, edited by the terminal itself, as screen readers
        expect. Then its keys come with Enter, all at once. On Windows only the echo changes."""


def keyboard_for(stdin: TextIO | None, on_keys: OnKeys) -> Keyboard | None:
    """The keyboard at `stdin`, taken at once; None if there is no terminal."""
    try:
        if stdin is None or stdin.closed or not stdin.isatty():
            return None
        fileno = stdin.fileno()
    except (OSError, ValueError):  # no descriptor at all
        return None
    if sys.platform == "win32":
        import msvcrt

        return ConsoleKeyboard(msvcrt, on_keys)
    return TerminalKeyboard(fileno, on_keys)


class _Mode(Enum):
    FOUND = auto()
    """As it was before we came."""
    KEYS = auto()
    """Each key at once, no echo."""
    LINES = auto()


class TerminalKeyboard:
    """A `Keyboard` on the terminal open as `fileno`, which must be open until `close`. POSIX."""

    def __init__(self, fileno: int, on_keys: OnKeys) -> None:
        self._fileno = fileno
        self._on_keys = on_keys
        self._modes = _TerminalModes(fileno)
        self._decoder = KeyDecoder()
        # Re-entrant: a signal handler may come in between on the thread that holds it.
        self._lock = threading.RLock()
        self._closed = self._suspended = self._lines = False
        self._set: _Mode | None = _Mode.FOUND  # None: not known
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        atexit.register(self.close)
        self._apply()
        # A daemon: it may be held up by a receiver that is, and must not keep the process.
        threading.Thread(target=self._run, name="keyboard", daemon=True).start()

    def close(self) -> None:
        self._closed = True
        self._apply()
        atexit.unregister(self.close)

    def suspend(self) -> None:
        self._suspended = True
        self._apply()

    def resume(self) -> None:
        with self._lock:
            self._suspended = False
            self._set = None
            self._apply()

    def cooked(self, on: bool) -> None:
        self._lines = on
        self._apply()

    def _wanted(self) -> _Mode:
        if self._closed or self._suspended:
            return _Mode.FOUND
        return _Mode.LINES if self._lines else _Mode.KEYS

    def _apply(self) -> None:
        """Give the terminal the modes that are wanted, if we may, and wake the thread.

        A signal handler that comes in between anywhere and wants something else has its way, at once and in
        the end: `_set` says only what is certain, and what is wanted is looked up again after each change.
        """
        with self._lock:
            while self._set is not (mode := self._wanted()):
                self._set = None
                if not in_foreground(self._fileno):
                    break
                self._modes.change(mode)
                self._set = mode
            with suppress(OSError):  # it is full: the thread will wake; or it is closed: the thread has ended
                os.write(self._wake_writer, b"\0")

    def _run(self) -> None:
        # Read from the background in spite of all checks, the terminal then gives EIO and stops nobody.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        # The terminal has gone, or the receiver: the call goes on without keys.
        with suppress(Exception):
            while not self._closed:
                self._step()
        with self._lock:
            os.close(self._wake_reader)
            os.close(self._wake_writer)
            self._wake_writer = -1

    def _step(self) -> None:
        """Wait for something to happen, and send the keys that it makes."""
        reading = self._may_read()
        pending_s = self._decoder.wait_s if self._decoder.waiting else None
        wait_s = pending_s if reading else None if self._suspended else BACKGROUND_POLL_S
        sources = [self._wake_reader, *([self._fileno] if reading else [])]
        ready, _, _ = select.select(sources, [], [], wait_s)
        if self._wake_reader in ready:
            os.read(self._wake_reader, _READ_BYTES)
        if self._fileno in ready:
            keys = self._decoder.feed(self._read())
        else:
            keys = self._decoder.timeout() if reading and not ready else []
        if keys and not self._closed:
            self._on_keys(keys)

    def _may_read(self) -> bool:
        with self._lock:
            if self._wanted() is _Mode.FOUND:
                return False
            if not in_foreground(self._fileno):
                self._set = None  # whoever is there sets it as he likes
            elif self._set is None:
                self._apply()
            return self._set is not None

    def _read(self) -> bytes:
        """What is there, if it is still for us. Raises EOFError and OSError when the terminal is gone."""
        # Under the lock, so that the modes are those in which there was something: else read might wait.
        with self._lock:
            if not (self._may_read() and select.select([self._fileno], [], [], 0)[0]):
                return b""
            try:
                data = os.read(self._fileno, _READ_BYTES)
            except OSError:
                if in_foreground(self._fileno):
                    raise
                return b""
        if not data:
            raise EOFError
        return data


def in_foreground(fileno: int) -> bool:
    """Whether we may use the terminal; others are stopped when they try (SIGTTIN, SIGTTOU)."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(fileno) == os.getpgrp()
    except OSError:  # not the terminal that controls us, so it stops nobody; or gone, as reading will tell
        return True


_STOPPING: Final = () if sys.platform == "win32" else (signal.SIGTTIN, signal.SIGTTOU)


class _TerminalModes:
    def __init__(self, fileno: int) -> None:
        self._fileno = fileno
        self._found: list[Any] | None = None

    def change(self, mode: _Mode) -> None:
        """From the foreground only. Does nothing when the terminal is gone."""
        with suppress(termios.error, OSError):
            if self._found is None:
                self._found = termios.tcgetattr(self._fileno)
            # Sent to the background just now, we should be stopped.
            masked = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
            try:
                # Not TCSADRAIN, which waits for a terminal that was stopped with Ctrl-S.
                termios.tcsetattr(self._fileno, termios.TCSANOW, self._attributes(self._found, mode))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    def _attributes(self, found: list[Any], mode: _Mode) -> list[Any]:
        if mode is _Mode.FOUND:
            return found
        iflag, oflag, cflag, lflag, ispeed, ospeed, characters = found
        characters = list(characters)
        lflag |= termios.ISIG  # Ctrl-C must end a call also on a terminal that was left raw
        if mode is _Mode.KEYS:
            lflag &= ~(termios.ICANON | termios.ECHO)
            characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        else:
            iflag |= termios.ICRNL
            lflag |= termios.ICANON | termios.ECHO
            # Ctrl-D would look as if the terminal were gone.
            characters[termios.VEOF] = bytes([os.fpathconf(self._fileno, "PC_VDISABLE")])
        return [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]


class Console(Protocol):
    """What is used of msvcrt. A key that is no character comes as two, the first of them "\\0" or "\\xe0"."""

    def kbhit(self) -> bool: ...

    def getwch(self) -> str: ...

    def getwche(self) -> str: ...


_CONSOLE_KEYS: Final = dict(
    zip("HPKMGOS", [Key.UP, Key.DOWN, Key.LEFT, Key.RIGHT, Key.HOME, Key.END, Key.DELETE], strict=True)
)


class ConsoleKeyboard:
    """A `Keyboard` on the console of the process. Windows: there are no modes to give back."""

    def __init__(self, console: Console, on_keys: OnKeys) -> None:
        self._console = console
        self._on_keys = on_keys
        self._closed = self._suspended = self._echo = False
        threading.Thread(target=self._run, name="keyboard", daemon=True).start()

    def close(self) -> None:
        self._closed = True

    def suspend(self) -> None:
        self._suspended = True

    def resume(self) -> None:
        self._suspended = False

    def cooked(self, on: bool) -> None:
        self._echo = on

    def _run(self) -> None:
        with suppress(Exception):  # as on a terminal
            while not self._closed:
                if not self._suspended and (keys := self._waiting_keys()):
                    self._on_keys(keys)
                time.sleep(CONSOLE_POLL_S)

    def _waiting_keys(self) -> list[Pressed]:
        keys: list[Pressed] = []
        while len(keys) < _READ_BYTES and self._console.kbhit():
            if (key := self._next_key()) is not None:
                keys.append(key)
        return keys

    def _next_key(self) -> Pressed | None:
        get = self._console.getwche if self._echo else self._console.getwch
        char = get()
        # "\xe0" is a letter, too; but then nothing has come with it.
        if char == "\0" or (char == "\xe0" and self._console.kbhit()):
            return _CONSOLE_KEYS.get(get())
        if char == "\x03":  # pressed just while a key was read, when the console makes no signal of it
            signal.raise_signal(signal.SIGINT)
        if "\ud800" <= char < "\udc00":  # beyond U+FFFF characters come in two halves
            char = (char + get()).encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
        return key_for(char) if char else None
