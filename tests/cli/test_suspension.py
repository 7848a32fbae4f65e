"""Ctrl-Z: what is done before the process stops, and when it goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import IO

import pytest

from personaplex_cli.cli.suspension import Suspension

if sys.platform == "win32":
    pytest.skip("there is no job control", allow_module_level=True)

CHILD = """
import asyncio
from personaplex_cli.cli.suspension import Suspension

def say(word):
    print(word, flush=True)

async def main():
    with Suspension(lambda: say("left"), lambda: say("back")):
        say("ready")
        while await asyncio.get_running_loop().run_in_executor(None, input):
            say("here")

asyncio.run(main())
"""


@pytest.fixture
def dispositions() -> Iterator[None]:
    """Restored after the test."""
    numbers = (signal.SIGTSTP, signal.SIGCONT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


class Noted:
    def __init__(self) -> None:
        self.happened: list[str] = []

    def suspension(self) -> Suspension:
        return Suspension(lambda: self.happened.append("left"), lambda: self.happened.append("back"))


@pytest.mark.usefixtures("dispositions")
def test_the_terminal_is_left_before_the_process_stops_and_taken_again_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noted = Noted()

    def kill(process: int, number: int) -> None:
        as_usual = signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
        noted.happened.append("stopped" if (process, number, as_usual) == STOPS else "?")

    STOPS = (os.getpid(), signal.SIGTSTP, True)
    monkeypatch.setattr(os, "kill", kill)

    async def main() -> None:
        with noted.suspension():
            for _ in range(2):
                signal.raise_signal(signal.SIGTSTP)
                assert noted.happened[-1:] != ["left"]  # not amid whatever runs
                await settled()

    asyncio.run(main())
    assert noted.happened == ["left", "stopped", "back"] * 2


@pytest.mark.usefixtures("dispositions")
def test_a_process_that_was_stopped_otherwise_comes_back_too() -> None:
    noted = Noted()

    async def main() -> None:
        with noted.suspension():
            signal.raise_signal(signal.SIGCONT)
            await settled()

    asyncio.run(main())
    assert noted.happened == ["back"]


@pytest.mark.usefixtures("dispositions")
def test_afterwards_signals_do_what_they_did_before() -> None:
    async def main() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)]
        with Noted().suspension():
            assert signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL
        assert [signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)] == before

    asyncio.run(main())


@pytest.mark.usefixtures("dispositions")
def test_what_the_process_was_told_to_ignore_stays_ignored() -> None:
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    noted = Noted()

    async def main() -> None:
        with noted.suspension():
            assert signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTSTP)
            await settled()
        assert signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN

    asyncio.run(main())
    assert noted.happened == []


def until(word: str, stream: IO[str]) -> list[str]:
    """All that is said up to `word`."""
    said: list[str] = []
    while said[-1:] != [word]:
        line = stream.readline()
        assert line, f"it ended after {said}"
        said.append(line.strip())
    return said[:-1]


def test_a_process_really_stops_and_goes_on() -> None:
    """In a process group of its own, as a shell starts it."""
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, process_group=0
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            said = until("ready", child.stdout)
            for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTSTP):
                child.send_signal(number)
                _, status = os.waitpid(child.pid, os.WUNTRACED)
                assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == number
                child.send_signal(signal.SIGCONT)
                child.stdin.write("Is anybody there?\n")
                said += until("here", child.stdout)
            child.stdin.write("\n")
            said += child.stdout.read().split()
            assert child.wait(10) == 0
        finally:
            child.kill()
    assert [word for word, _ in groupby(said)] == ["back", "left", "back", "left", "back"]
