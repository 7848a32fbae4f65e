"""Keyboards on real pseudo-terminals, and on a console that is made up."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from personaplex_cli.ui import keyboard
from personaplex_cli.ui.keyboard import ConsoleKeyboard, TerminalKeyboard, keyboard_for
from personaplex_cli.ui.keys import Char, Key, Pressed

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

import pty
import termios
import tty


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def chars(text: str) -> list[Pressed]:
    return [Char(char) for char in text]


class Terminal:
    """A pseudo-terminal with a keyboard on it."""

    def __init__(self, on_keys: Callable[[list[Pressed]], object] | None = None) -> None:
        self.master, self.slave = pty.openpty()
        self.found = termios.tcgetattr(self.slave)
        self.keys: list[Pressed] = []
        self.keyboard = TerminalKeyboard(self.slave, on_keys or self.keys.extend)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def sees(self, keys: list[Pressed]) -> None:
        until(lambda: len(self.keys) >= len(keys))
        assert self.keys == keys

    def local_modes(self) -> int:
        modes: int = termios.tcgetattr(self.slave)[3]
        return modes & (termios.ICANON | termios.ECHO | termios.ISIG)

    def is_as_found(self) -> bool:
        return termios.tcgetattr(self.slave) == self.found


LINES = termios.ICANON | termios.ECHO | termios.ISIG
KEYS = termios.ISIG


def keyboard_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "keyboard"]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.keyboard.close()
    until(lambda: not keyboard_threads())
    os.close(terminal.master)
    os.close(terminal.slave)


class JobControl:
    """Decides whether we are in the foreground."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.foreground = True
        self.asked = 0
        monkeypatch.setattr(keyboard, "BACKGROUND_POLL_S", 0.005)
        monkeypatch.setattr("os.tcgetpgrp", self._group)

    def _group(self, fileno: int) -> int:
        self.asked += 1
        return os.getpgrp() + (not self.foreground)

    def wait_for_polls(self) -> None:
        asked = self.asked
        until(lambda: self.asked >= asked + 3)


@pytest.fixture
def job_control(monkeypatch: pytest.MonkeyPatch) -> JobControl:
    return JobControl(monkeypatch)


def test_keys_come_one_by_one_without_echo(terminal: Terminal) -> None:
    assert terminal.local_modes() == KEYS
    terminal.type(b"a")
    terminal.sees(chars("a"))
    terminal.type(b"\x1b[A\r")
    terminal.sees([Char("a"), Key.UP, Key.ENTER])
    os.set_blocking(terminal.master, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal.master, 100)


def test_a_lone_escape_comes_after_a_moment(terminal: Terminal) -> None:
    terminal.type(b"\x1b")
    terminal.sees([Key.ESCAPE])


def test_closing_leaves_the_terminal_as_it_was_found(terminal: Terminal) -> None:
    assert not terminal.is_as_found()
    terminal.keyboard.close()
    assert terminal.is_as_found()
    until(lambda: not keyboard_threads())
    descriptors = os.listdir("/dev/fd")
    terminal.keyboard.close()
    terminal.keyboard.resume()
    terminal.keyboard.cooked(True)
    assert terminal.is_as_found()
    assert os.listdir("/dev/fd") == descriptors
    terminal.type(b"x\n")
    assert os.read(terminal.slave, 10) == b"x\n"
    assert terminal.keys == []


def test_no_descriptor_is_left_open() -> None:
    before = os.listdir("/dev/fd")
    terminal = Terminal()
    terminal.keyboard.close()
    until(lambda: not keyboard_threads())
    os.close(terminal.master)
    os.close(terminal.slave)
    assert os.listdir("/dev/fd") == before


def test_suspended_the_terminal_is_another_s(terminal: Terminal) -> None:
    terminal.keyboard.suspend()
    terminal.keyboard.suspend()
    assert terminal.is_as_found()
    terminal.type(b"ls\n")
    assert os.read(terminal.slave, 10) == b"ls\n"
    terminal.keyboard.resume()
    assert terminal.local_modes() == KEYS
    terminal.keyboard.resume()
    terminal.type(b"a")
    terminal.sees(chars("a"))


def test_resumed_it_is_taken_again_whatever_became_of_it(terminal: Terminal) -> None:
    termios.tcsetattr(terminal.slave, termios.TCSANOW, terminal.found)
    terminal.keyboard.resume()
    assert terminal.local_modes() == KEYS


def test_cooked_the_terminal_edits_and_echoes(terminal: Terminal) -> None:
    terminal.keyboard.cooked(True)
    assert terminal.local_modes() == LINES
    terminal.type(b"ax\x7fb\x04\r")
    terminal.sees([*chars("ab"), Key.ENTER])
    assert b"ax" in os.read(terminal.master, 100)
    terminal.keyboard.cooked(False)
    assert terminal.local_modes() == KEYS
    terminal.type(b"c")
    terminal.sees([*chars("ab"), Key.ENTER, Char("c")])


def test_cooked_while_suspended_is_for_later(terminal: Terminal) -> None:
    terminal.keyboard.suspend()
    terminal.keyboard.cooked(True)
    assert terminal.is_as_found()
    terminal.keyboard.resume()
    assert terminal.local_modes() == LINES
    assert not terminal.is_as_found()  # Ctrl-D ends no input


@pytest.mark.parametrize("cooked", [False, True])
def test_a_terminal_that_goes_away_ends_the_reading(cooked: bool) -> None:
    terminal = Terminal()
    terminal.keyboard.cooked(cooked)
    os.close(terminal.master)
    until(lambda: not keyboard_threads())
    terminal.keyboard.suspend()
    terminal.keyboard.resume()
    terminal.keyboard.close()
    os.close(terminal.slave)


def test_a_terminal_that_fails_ends_the_reading(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.read

    def fail(fileno: int, length: int) -> bytes:
        if fileno == terminal.slave:
            raise OSError("EIO")
        return read(fileno, length)

    monkeypatch.setattr("os.read", fail)
    terminal.type(b"a")
    until(lambda: not keyboard_threads())


def test_a_receiver_that_fails_ends_the_reading_and_no_more() -> None:
    terminal = Terminal(lambda keys: 1 // 0)
    terminal.type(b"a")
    until(lambda: not keyboard_threads())
    terminal.keyboard.close()
    assert terminal.is_as_found()
    os.close(terminal.master)
    os.close(terminal.slave)


def test_keys_may_close() -> None:
    closing = Terminal(lambda keys: closing.keyboard.close())
    closing.type(b"a")
    until(lambda: not keyboard_threads())
    assert closing.is_as_found()
    os.close(closing.master)
    os.close(closing.slave)


def test_a_signal_handler_may_come_in_between(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes in the middle of a change: what was going to be set does not outlast it."""
    terminal.keyboard.suspend()
    before = signal.signal(signal.SIGUSR1, lambda number, stack: terminal.keyboard.close())
    change = termios.tcsetattr

    def interrupted(*arguments: object) -> None:
        monkeypatch.setattr(termios, "tcsetattr", change)
        signal.raise_signal(signal.SIGUSR1)
        assert terminal.is_as_found()
        change(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(termios, "tcsetattr", interrupted)
    try:
        terminal.keyboard.resume()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert terminal.is_as_found()


def test_in_the_background_nothing_is_read_or_changed(job_control: JobControl) -> None:
    job_control.foreground = False
    terminal = Terminal()
    terminal.keyboard.cooked(True)
    terminal.keyboard.cooked(False)
    terminal.keyboard.suspend()
    terminal.keyboard.resume()
    assert terminal.is_as_found()
    terminal.type(b"ls\n")
    job_control.wait_for_polls()
    assert os.read(terminal.slave, 10) == b"ls\n"
    assert terminal.is_as_found()

    job_control.foreground = True
    until(lambda: terminal.local_modes() == KEYS)
    terminal.type(b"a")
    terminal.sees(chars("a"))
    terminal.keyboard.close()
    assert terminal.is_as_found()
    until(lambda: not keyboard_threads())
    os.close(terminal.master)
    os.close(terminal.slave)


def test_sent_to_the_background_it_stops_reading(terminal: Terminal, job_control: JobControl) -> None:
    terminal.type(b"a")
    terminal.sees(chars("a"))
    job_control.foreground = False
    termios.tcsetattr(terminal.slave, termios.TCSANOW, terminal.found)  # as a shell does
    terminal.type(b"ls\n")
    job_control.wait_for_polls()
    assert os.read(terminal.slave, 10) == b"ls\n"
    job_control.foreground = True
    until(lambda: terminal.local_modes() == KEYS)
    terminal.type(b"b")
    terminal.sees(chars("ab"))


def test_closed_in_the_background_the_terminal_is_left_to_others(
    terminal: Terminal, job_control: JobControl
) -> None:
    job_control.foreground = False
    terminal.keyboard.close()
    assert terminal.local_modes() == KEYS


def test_a_read_that_comes_too_late_for_the_foreground_is_no_end(
    terminal: Terminal, job_control: JobControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.read

    def read_too_late(fileno: int, length: int) -> bytes:
        if fileno != terminal.slave:
            return read(fileno, length)
        assert {signal.SIGTTIN, signal.SIGTTOU} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
        monkeypatch.setattr("os.read", read)
        job_control.foreground = False
        raise OSError("what a terminal says to a reader in the background that cannot be stopped")

    monkeypatch.setattr("os.read", read_too_late)
    terminal.type(b"a")
    job_control.wait_for_polls()
    job_control.foreground = True
    terminal.sees(chars("a"))


def test_a_change_that_comes_too_late_for_the_foreground_does_not_stop_us(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[set[int]] = []

    def note(*arguments: object) -> None:
        masks.append({int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())})

    with monkeypatch.context() as patched:
        patched.setattr(termios, "tcsetattr", note)
        terminal.keyboard.resume()
    assert [signal.SIGTTOU in mask for mask in masks] == [True]
    assert signal.SIGTTOU not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


SHELL = """
import fcntl, os, signal, sys, termios, threading
from personaplex_cli.ui.keyboard import TerminalKeyboard
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    came = threading.Event()
    keyboard = TerminalKeyboard(0, lambda keys: (print("job", keys[0].text, flush=True), came.set()))
    print("background", flush=True)
    came.wait(10)
    keyboard.close()
    os._exit(0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
print("shell", sys.stdin.readline().strip(), flush=True)
os.tcsetpgrp(0, job)
print("exit", os.waitstatus_to_exitcode(os.waitpid(job, os.WUNTRACED)[1]), flush=True)
"""


def test_a_job_of_a_real_shell() -> None:
    """The terminal would stop the job if it read or changed modes from the background."""
    master, slave = pty.openpty()
    found = termios.tcgetattr(slave)
    shell = subprocess.Popen([sys.executable, "-c", SHELL], stdin=slave, stdout=subprocess.PIPE, text=True)
    with shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "background\n"
        os.write(master, b"ls\n")
        assert shell.stdout.readline() == "shell ls\n"
        until(lambda: not termios.tcgetattr(slave)[3] & termios.ICANON)
        os.write(master, b"x")
        assert shell.stdout.readline() == "job x\n"
        assert shell.stdout.readline() == "exit 0\n"
    assert termios.tcgetattr(slave) == found
    os.close(master)
    os.close(slave)


CRASH = """
import termios
from personaplex_cli.ui.keyboard import TerminalKeyboard
keyboard = TerminalKeyboard(0, print)
assert not termios.tcgetattr(0)[3] & termios.ICANON
raise RuntimeError("crash")
"""


def test_a_crash_leaves_the_terminal_as_it_was_found() -> None:
    master, slave = pty.openpty()
    found = termios.tcgetattr(slave)
    crash = subprocess.run(
        [sys.executable, "-c", CRASH], stdin=slave, stderr=subprocess.PIPE, text=True, check=False
    )
    assert crash.stderr.endswith("RuntimeError: crash\n")
    assert termios.tcgetattr(slave) == found
    os.close(master)
    os.close(slave)


def test_ctrl_c_is_a_signal_also_on_a_terminal_that_was_left_raw() -> None:
    raw = Terminal()
    raw.keyboard.close()
    tty.setraw(raw.slave)
    raw.found = termios.tcgetattr(raw.slave)
    raw.keyboard = TerminalKeyboard(raw.slave, raw.keys.extend)
    assert raw.local_modes() == KEYS
    raw.keyboard.cooked(True)
    assert raw.local_modes() == LINES
    raw.type(b"a\r")
    raw.sees([Char("a"), Key.ENTER])
    raw.keyboard.close()
    assert raw.is_as_found()
    until(lambda: not keyboard_threads())
    os.close(raw.master)
    os.close(raw.slave)


def test_only_a_terminal_has_a_keyboard() -> None:
    keys: list[Pressed] = []
    assert keyboard_for(None, keys.extend) is None
    assert keyboard_for(io.StringIO(), keys.extend) is None
    with open(os.devnull) as null:
        assert keyboard_for(null, keys.extend) is None
    assert keyboard_for(null, keys.extend) is None
    master, slave = pty.openpty()
    with open(slave) as stdin:
        taken = keyboard_for(stdin, keys.extend)
        assert taken is not None
        os.write(master, b"a")
        until(lambda: keys == chars("a"))
        taken.close()
        until(lambda: not keyboard_threads())
    os.close(master)


class FakeConsole:
    """What is typed comes with the next look; what comes of one key, comes at once."""

    def __init__(self) -> None:
        self.typed: list[str] = []
        self.echoed = ""
        self.looks = 0

    def kbhit(self) -> bool:
        self.looks += 1
        return bool(self.typed)

    def getwch(self) -> str:
        return self.typed.pop(0)

    def getwche(self) -> str:
        self.echoed += self.typed[0]
        return self.typed.pop(0)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> FakeConsole:
    monkeypatch.setattr(keyboard, "CONSOLE_POLL_S", 0.001)
    return FakeConsole()


def test_the_keys_of_a_console(console: FakeConsole) -> None:
    keys: list[Pressed] = []
    taken = ConsoleKeyboard(console, keys.extend)
    console.typed += ["a", "\0", "H", "\xe0", "P", "\xe0", "I", "\xe0", "S", "\r", "\x1b", "\x02", "\b"]
    console.typed += ["\ud83d", "\ude00", "\ud83d", "\ud83d", "\xe0"]
    expected = [Char("a"), Key.UP, Key.DOWN, Key.DELETE, Key.ENTER, Key.ESCAPE, Key.BACKSPACE]
    until(lambda: not console.typed)
    taken.close()
    until(lambda: not keyboard_threads())
    assert keys == [*expected, Char("😀"), Char("à")]


def test_a_console_suspended_echoing_and_closed(console: FakeConsole) -> None:
    keys: list[Pressed] = []
    taken = ConsoleKeyboard(console, keys.extend)
    taken.suspend()
    looks = -1
    while looks != console.looks:  # it may be in the middle of one
        looks = console.looks
        time.sleep(0.005)
    console.typed += ["a"]
    taken.cooked(True)
    taken.resume()
    until(lambda: keys == chars("a"))
    assert console.echoed == "a"
    taken.close()
    until(lambda: not keyboard_threads())


def test_ctrl_c_that_a_console_gives_as_a_character(
    console: FakeConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    keys: list[Pressed] = []
    taken = ConsoleKeyboard(console, keys.extend)
    console.typed += ["\x03", "a"]
    until(lambda: keys)
    taken.close()
    until(lambda: not keyboard_threads())
    assert (raised, keys) == ([signal.SIGINT], chars("a"))


def test_a_receiver_that_fails_ends_the_reading_of_a_console(console: FakeConsole) -> None:
    ConsoleKeyboard(console, lambda keys: 1 // 0)
    console.typed += ["a"]
    until(lambda: not keyboard_threads())
