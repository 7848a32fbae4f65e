"""The live view in a real pseudo-terminal, driven from outside."""

from __future__ import annotations

import os
import sys

import pyte
import pytest

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

import pexpect

BEGIN = """
import sys
from personaplex_cli.events import *
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.screen import View, open_screen
screen = open_screen(
    sys.stdout, sys.stderr, view=View.LIVE, fixed=Fixed("NATF0"), clock_s=lambda: 3.0
)
try:
    screen.listen(StateChanged(1.0, CallState.LIVE))
    chars = 0
    for piece in [" Hello", " there", ".", " How", " are", " you", "?", " I", " am"]:
        chars += len(piece)
        screen.listen(AgentText(3.0, piece))
        screen.listen(TextHeard(3.0, chars, True))
    sys.stdin.readline()
"""
HANG_UP = """
    screen.listen(AgentText(3.0, " fine."))
finally:
    screen.close(20.0, ["Call ended: you hung up, after 0:02."])
print("next")
"""
CRASH = """
    raise RuntimeError("crash")
finally:
    screen.close(20.0)
"""


class Window:
    """A terminal window of 80 by 24 in which `script` runs."""

    def __init__(self, script: str) -> None:
        self.child = pexpect.spawn(
            sys.executable,
            ["-c", script],
            dimensions=(24, 80),
            echo=False,
            timeout=30,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
        )
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)

    def look(self, expected: object) -> list[str]:
        """The rows once `expected` has been written, without blank ones at the end."""
        self.child.expect(expected)
        self._stream.feed(self.child.before)
        if isinstance(self.child.after, bytes):
            self._stream.feed(self.child.after)
        return "\n".join(row.rstrip() for row in self.screen.display).rstrip().split("\n")


def test_hanging_up() -> None:
    window = Window(BEGIN + HANG_UP)
    rows = window.look(r"NATF0\x1b\[[0-9;]*m\x1b\[\?7h")
    if "How are you" not in "".join(rows):  # the first picture may have come before the text
        rows = window.look(r"NATF0\x1b\[[0-9;]*m\x1b\[\?7h")
    assert rows[:2] == ["Agent: Hello there.", "Agent: How are you?"]
    assert rows[2] == "Agent: I am"
    assert rows[3].startswith("You:   ─")
    assert rows[4:] == ["live · 0:02 · NATF0"]
    assert window.screen.cursor.hidden
    window.child.sendline()
    assert window.look(pexpect.EOF) == [
        "Agent: Hello there.",
        "Agent: How are you?",
        "Agent: I am fine.",
        "Call ended: you hung up, after 0:02.",
        "next",
    ]
    assert not window.screen.cursor.hidden
    assert pyte.modes.DECAWM in window.screen.mode
    window.child.close()
    assert window.child.exitstatus == 0


def test_a_crash_leaves_the_terminal_in_order() -> None:
    window = Window(BEGIN + CRASH)
    window.look(r"NATF0")
    window.child.sendline()
    rows = window.look(pexpect.EOF)
    assert rows[:4] == [
        "Agent: Hello there.",
        "Agent: How are you?",
        "Agent: I am",
        "Traceback (most recent call last):",
    ]
    assert rows[-1] == "RuntimeError: crash"
    assert not window.screen.cursor.hidden
    window.child.close()
