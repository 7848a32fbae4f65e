"""The real program in real terminals: what keys do, what is seen, and how the terminal is left.

Calls take their real time, so several are held at once in the fixture `told`; each test is one of them.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

from card_calls import Talker, Told, served
from moshi_server import Heard
from ogg_pages import RATE, Samples
from terminal_program import CALL, NO_SOUND, PROGRAM, UNLIMITED, Window
from virtual_card import Card, Ear
from websockets.asyncio.server import ServerConnection

from personaplex_cli.errors import ExitCode

AT_ONCE = 6
"""They mostly wait."""

KEYS = "t type"
"""Begins the line of keys, where there is no sound card."""

METER = "─"
ENDED = "Call ended: you hung up"
SHELL = ("/bin/sh", "-i")
TO_SERVER = ("--dialect", "moshi", *NO_SOUND, *UNLIMITED)

AUDIBLE = 0.01

BURST = "burst"
BURST_STEPS = 10
"""0.8 s; what is more than a second late is skipped anyway."""
LATE_MS = 500

NOISE: Samples = np.random.default_rng(1).normal(0, 0.1, 10 * RATE).astype(np.float32)

HOSTILE = (
    "x" * 10_000 + ".",
    " [bold]markup[/bold].",
    " \x1b[2J\x1b[31m\x1b[?25h\x1b[?2004l\x1b[5;10rred.",
    " \x1b]0;title\x07\x1b]52;c;aGk=\x07\x9d0;title\x9c\x9b2Jcommands.",
    " \x1bP+q544e\x1b\\strings.",
    " \u202ebidi\u2066.",
    " \x00\r\b\x7fcontrols.",
    " The end.",
)


class Scripted(Talker):
    """Is silent, and writes `texts`, one with each message of audio. When it has read `BURST` it makes a
    noise, which it begins with some of it at once."""

    def __init__(self, *texts: str) -> None:
        super().__init__(np.zeros(RATE, np.float32))
        self._texts = iter(texts)
        self._is_loud = False

    async def _echo(
        self, connection: ServerConnection, heard: Heard
    ) -> Callable[[bytes], Coroutine[Any, Any, None]]:
        talk = await super()._echo(connection, heard)

        async def answer(payload: bytes) -> None:
            if not self._is_loud and self.was_typed(BURST):
                self._is_loud, self._voice = True, NOISE
                heard.n_steps -= BURST_STEPS
            await talk(payload)
            if text := next(self._texts, ""):
                await connection.send(b"\x02" + text.encode())

        return answer

    def was_typed(self, text: str) -> bool:
        return any(b"\x02" + text.encode() in call.messages for call in self.calls)


@contextmanager
def calling(*options: str, **environment: str) -> Iterator[Window]:
    """A call with the stand-in, and without sound, that is live."""
    with Window(*PROGRAM, *CALL, *options, **environment) as window:
        window.wait_for("live")
        yield window


def check_left_in_order(window: Window, code: int = ExitCode.OK) -> None:
    assert window.wait_for_end() == code, window.text
    assert window.state() == window.found


def check_printable(window: Window) -> None:
    """Nothing that would steer a terminal, or stay unseen, has been written."""
    assert all(char.isprintable() or char in "\r\n" for char in window.written.decode())


def status(window: Window) -> str:
    return next((row for row in window.rows if row.startswith("live")), "")


def area(window: Window) -> list[str]:
    """The rows that belong to the live area, wherever they are."""
    marks = (METER, "━", "live ·", KEYS)
    return [row for row in window.rows if any(mark in row for mark in marks)]


# --- keys


def keys_of_a_call_without_sound() -> None:
    with calling() as window:
        window.wait_for(KEYS)
        assert window.state() != window.found
        window.press("m +-dplb")  # all but the last are for devices
        window.wait_for("Bookmark 1, at 0:0")
        window.press("?")
        window.wait_for("Any key goes on")
        assert "Hangs up" in window.text and "microphone" not in window.text
        window.press("q")  # any key
        window.wait_for(lambda: "Any key" not in window.text)
        check_typing(window)
        window.wait_for("You wrote: Guten Tag")
        window.press("r")
        window.wait_for("new call: the agent remembers nothing")
        window.wait_for(lambda: "live · 0:00" in status(window))
        assert not any(word in window.text for word in ("muted", "volume", "space to talk", "Devices"))
        window.press("q")
        check_left_in_order(window)
        assert ENDED in window.rows[-1] and colours(window)


def check_typing(window: Window) -> None:
    window.press("tGuten Morgen")
    window.wait_for("Type:  Guten Morgen")
    window.press("\x17Tah\x1b[D\x1b[3~g\x01\x1b[3~G\x05, q?\x7f\x7f\x7f\x7f\r")
    window.wait_for("You:   Guten Tag")
    window.wait_for(KEYS)
    window.press("\r\x1b[A")
    window.wait_for("Type:  Guten Tag")
    window.press("\x1b")
    window.wait_for(KEYS)
    window.press("t\r")  # nothing is sent
    window.press("thé 你好 e\u0301 👩‍👩‍👧")
    window.wait_for("Type:  hé 你")
    window.press("\x7f!\r")
    window.wait_for(KEYS)
    assert sum(row.startswith("You:   ") and METER not in row for row in window.rows) == 2
    window.paste("q\nb\nr?")
    window.wait_for("Type:  q b r?")
    window.paste(" and more\n")
    window.wait_for("Type:  q b r? and more")
    window.press("\r")
    window.wait_for("You:   q b r? and more")


def with_prelude(prelude: str, *arguments: str) -> tuple[str, ...]:
    run = f"{prelude}\nfrom personaplex_cli.cli.app import main\nmain()"
    return sys.executable, "-c", run, *arguments


SLOW_KEYBOARD = """
import time
from personaplex_cli.cli import terminal
def slowly(*arguments, take=terminal.keyboard_for):
    time.sleep(0.2)
    return take(*arguments)
terminal.keyboard_for = slowly
"""


def what_is_typed_goes_out() -> None:
    with served(Scripted()) as server:
        command = with_prelude(SLOW_KEYBOARD, "talk", "--server", server.url, *TO_SERVER)
        with Window(*command) as window:
            window.wait_for(KEYS)
            assert window.state()[0] != window.found[0]  # or keys would be echoed into the picture
            window.press("t" + "hé 你好 e\u0301 👩‍👩‍👧\x7f!" + "\r")
            window.wait_for(lambda: server.was_typed("hé 你好 e\u0301 !"))
            window.paste("one\ntwo\r\nthree\n")
            window.press("\r")
            window.wait_for(lambda: server.was_typed("one two three"))
            assert len([text for text in server.calls[0].messages if text[:1] == b"\x02"]) == 2
            window.press("\x03")
            check_left_in_order(window)
        server.check_end()


# --- the size of the window, and who has the terminal


def resizing_and_being_stopped() -> None:
    with calling(NO_COLOR="1") as window:
        window.wait_for("I am")
        for columns in (60, 20, 120, 80):
            window.resize(columns)
            window.wait_for_picture()
            window.wait_for(lambda: len(area(window)) == 3 and area(window) == window.rows[-3:])
        with_keys = window.state()
        window.stop_as_a_shell_does()
        assert window.state() != with_keys
        window.send_signal(signal.SIGCONT)
        window.wait_for(lambda: window.state() == with_keys)
        window.press("b")
        window.wait_for("Bookmark 1")
        window.send_signal(signal.SIGTERM)
        check_left_in_order(window)
        assert "Call ended: " in window.rows[-1] and not area(window)
        assert not colours(window)


def colours(window: Window) -> list[int]:
    """The codes for some (SGR)."""
    sequences = re.findall(rb"\x1b\[([\d;]*)m", window.written)
    codes = [int(code) for sequence in sequences for code in sequence.split(b";") if code]
    return [code for code in codes if 30 <= code <= 49 or 90 <= code <= 107]


def ctrl_z_in_a_shell() -> None:
    with Window(*SHELL) as window:
        window.wait_for_prompt()
        found = window.state()
        window.press(f"{' '.join((*PROGRAM, *CALL))}\r")
        window.wait_for("live")
        with_keys = window.state()
        window.press("\x1a")
        window.wait_for("Stopped")
        window.wait_for_prompt()
        assert window.state() == found and not area(window)
        assert "The call stays open and is billed" in window.text
        window.press("fg\r")
        window.wait_for(lambda: len(area(window)) == 3)
        window.wait_for(lambda: window.state() == with_keys)
        window.press("tan unfinished text")
        window.wait_for("Type:  an unfinished text")
        window.press("\x1a")
        window.wait_for(lambda: window.text.count("Stopped") == 2)
        window.press("fg\r")
        window.wait_for("Type:  an unfinished text")
        window.press("\x7f\r")
        window.wait_for("You:   an unfinished tex")
        window.press("q")
        window.wait_for(ENDED)
        window.wait_for_prompt()
        assert window.state() == found


def in_the_background_of_a_shell() -> None:
    with Window(*SHELL) as window:
        window.wait_for_prompt()
        found = window.state()
        window.press(f"{' '.join((*PROGRAM, *CALL))} &\r")
        window.press("echo q$((40 + 2))\r")  # to the shell
        window.wait_for(lambda: b"q42" in window.written)
        window.press("jobs\r")
        window.wait_for(lambda: b"Running" in window.written)
        assert window.state() == found  # nothing is drawn between what others write
        window.press("fg\r")
        window.wait_for("live")
        window.wait_for(lambda: window.state()[0] != found[0])
        window.press("q")
        window.wait_for(ENDED)
        window.wait_for_prompt()
        assert window.state() == found


# --- how a call may end


def window_closed() -> None:
    with served(Scripted()) as server:
        with Window(*PROGRAM, "talk", "--server", server.url, *TO_SERVER) as window:
            window.wait_for("live")
            window.close()
            assert window.process.wait(30) == ExitCode.OK
        server.check_end()


LATER = """
from itertools import count
def later(work, times=count()):
    def crash(*arguments, **options):
        if next(times) > 5:
            raise ZeroDivisionError
        return work(*arguments, **options)
    return crash
"""
CRASH_OF_THE_CALL = f"""{LATER}
from personaplex_cli.gauges import Gauges
Gauges.look = later(Gauges.look)
"""
CRASH_OF_THE_SCREEN = f"""{LATER}
from personaplex_cli.ui import live
live.area_rows = later(live.area_rows)
"""


def crash_of_the_call() -> None:
    with Window(*with_prelude(CRASH_OF_THE_CALL, *CALL)) as window:
        check_left_in_order(window, ExitCode.INTERNAL)
        assert window.rows[-1].startswith("internal error: ZeroDivisionError")
        assert b"\x1b[?2004h" in window.written  # it had taken the terminal


def crash_of_the_screen() -> None:
    """Nobody would see how the call goes on: it ends."""
    with Window(*with_prelude(CRASH_OF_THE_SCREEN, *CALL)) as window:
        check_left_in_order(window, ExitCode.INTERNAL)
        assert window.rows[-1].startswith("internal error: ZeroDivisionError")


# --- terminals that are no terminals, and views that are no pictures


ECHOED = b"hellp\b \bo"
"""By the terminal itself, which shows how a character is taken back."""


def plain() -> None:
    with calling(ACCESSIBLE="1") as window:
        window.wait_for("state: live")
        modes = window.state()[0]
        window.press("b")
        window.wait_for("note: Bookmark 1, at 0:0")
        window.press("?")
        window.wait_for("q: Hangs up")
        window.press("xt")
        window.wait_for("Type a text, then Enter.")
        window.wait_for(lambda: window.state()[0] != modes)
        window.press("hellp\x7fo\r")
        window.wait_for("\nYou: hello")
        window.wait_for(lambda: window.state()[0] == modes)
        assert "\nhello\n" in window.text
        assert ECHOED in window.written
        window.press("t")
        window.wait_for(lambda: window.state()[0] != modes)
        window.press("not sent\x03")
        check_left_in_order(window)
        window.written = window.written.replace(ECHOED, b"")
        check_printable(window)


def dumb_terminal() -> None:
    with calling(TERM="dumb") as window:
        window.wait_for("state: live")
        window.press("b")
        window.wait_for("note: Bookmark 1")
        window.press("q")
        check_left_in_order(window)
        check_printable(window)


def output_piped() -> None:
    with Window("/bin/sh", "-c", '"$@" | cat', "sh", *PROGRAM, *CALL) as window:
        window.wait_for("state: live")
        window.press("b")
        window.wait_for("note: Bookmark 1")
        window.wait_for("\nAgent: Hello!")
        window.press("q")
        check_left_in_order(window)
        assert ENDED in window.text
        check_printable(window)


def input_from_elsewhere() -> None:
    with Window("/bin/sh", "-c", 'exec "$@" </dev/null', "sh", *PROGRAM, *CALL) as window:
        window.wait_for("live")
        assert window.state()[0] == window.found[0] and KEYS not in window.text
        window.press("q")
        window.wait_for("Agent: Hello!")
        window.press("\x03")
        check_left_in_order(window)
        assert ENDED in window.rows[-1]


# --- servers that mean harm


@contextmanager
def hostile_call(*options: str, run: str = 'exec "$@"') -> Iterator[Window]:
    with served(Scripted(*HOSTILE)) as server:
        command = ("/bin/sh", "-c", run, "sh", *PROGRAM, "talk", "--server", server.url, *TO_SERVER, *options)
        with Window(*command) as window:
            window.wait_for("The end.")
            yield window


def hostile_texts_in_the_live_view() -> None:
    with hostile_call() as window:
        window.wait_for(lambda: "Agent: The end." in window.rows)
        assert "Agent: [bold]markup[/bold]." in window.rows
        assert window.screen.title == "" and window.screen.margins is None
        window.press("b")
        window.wait_for("Bookmark 1")
        window.press("q")
        check_left_in_order(window)
        shown = window.written.decode()
        assert shown.count("x") >= 10_000
        assert not any(
            steers in shown for steers in ("\x07", "\x1b]", "\x1bP", "\u202e", "\x00", "\x9b", "\b")
        )


def hostile_texts_in_lines() -> None:
    with hostile_call("--plain") as window:
        window.press("q")
        check_left_in_order(window)
        check_printable(window)
        assert "Agent: [bold]markup[/bold]." in window.rows


def hostile_texts_in_json() -> None:
    with hostile_call("--json", run='exec "$@" 2>/dev/null') as window:
        assert window.state() == window.found  # a program may read this, and there are no keys
        window.send_signal(signal.SIGINT)
        check_left_in_order(window)
        check_printable(window)
        events = [json.loads(line) for line in window.written.splitlines()]
        assert len(events) > len(HOSTILE)


# --- with a sound card


@contextmanager
def card_call(*options: str) -> Iterator[tuple[Window, Card]]:
    """A call whose microphone hears a noise."""
    with Card() as card, served(Scripted()) as server, card.playing(NOISE):
        environment = {
            name: value
            for name, value in card.environment.items()
            if name.startswith(("PULSE_", "ALSA_", "XDG_"))
        }
        where = ("--server", server.url, "--dialect", "moshi", "--echo-cancel", "off", *UNLIMITED)
        with Window(*PROGRAM, "talk", *where, *options, **environment) as window:
            window.wait_for("live")
            yield window, card


def heard(window: Window) -> bool:
    """The user's meter shows something."""
    return any(row.startswith("You:   ━━") for row in window.rows)


def lag_ms(window: Window) -> float:
    found = re.search(r"lag (\d+) /", status(window))
    return float(found[1]) if found else 0.0


def keys_for_devices() -> None:
    with card_call("--push-to-talk", "--earcons") as (window, card), Ear(card) as ear:
        window.wait_for("space talk")
        assert not heard(window)
        window.press(" ")
        window.wait_for(lambda: "you are heard" in window.text and heard(window))
        n_before = len(ear.heard)
        window.press("m")
        window.wait_for(lambda: bool(np.any(np.abs(ear.heard[n_before:]) > AUDIBLE)))  # its own: nobody talks
        window.wait_for(lambda: "muted" in window.text and not heard(window))
        window.press("m")
        window.wait_for(lambda: "you are heard" in window.text and heard(window))
        window.press(" ")
        window.wait_for(lambda: "space to talk" in status(window) and not heard(window))
        window.press("p")
        window.wait_for(lambda: "space to talk" not in status(window) and heard(window))
        window.press("--+")
        window.wait_for("volume 90 %")
        window.press("d")
        window.wait_for("❯ 1  microphone: default")
        window.press("\x1b[B")
        window.wait_for("❯ 2  microphone: pulse")
        window.press("\r")
        window.wait_for("The microphone is 'pulse' now.")
        window.press(f"t{BURST}\r")
        window.wait_for(lambda: lag_ms(window) > LATE_MS)
        window.press("l")
        window.wait_for("of the agent's audio dropped to catch up.")
        window.wait_for(lambda: lag_ms(window) < LATE_MS)
        window.press("q")
        check_left_in_order(window)


def keys_for_devices_in_lines() -> None:
    with card_call("--plain", "--half-duplex") as (window, _):
        window.press("m")
        window.wait_for("note: You are muted.")
        window.press("m")
        window.wait_for("note: You are heard.")
        window.press(" ")
        window.wait_for(lambda: window.text.count("note: You are heard.") == 2)
        window.press("-")
        window.wait_for("note: The volume is 90 %.")
        window.press("d")
        window.wait_for("A number or up and down")
        window.press("4\r")
        window.wait_for("note: The speaker is 'pulse' now.")
        window.press("q")
        check_left_in_order(window)
        check_printable(window)


CALLS: tuple[Callable[[], None], ...] = (
    keys_for_devices,
    keys_of_a_call_without_sound,
    keys_for_devices_in_lines,
    resizing_and_being_stopped,
    in_the_background_of_a_shell,
    ctrl_z_in_a_shell,
    hostile_texts_in_the_live_view,
    hostile_texts_in_lines,
    hostile_texts_in_json,
    what_is_typed_goes_out,
    output_piped,
    plain,
    dumb_terminal,
    input_from_elsewhere,
    crash_of_the_call,
    crash_of_the_screen,
    window_closed,
)
"""The longest first."""


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield Told(pool, CALLS)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_call(told: Told, call: Callable[[], None]) -> None:
    told(call)
