"""Money in the program itself: what `talk` enters into the ledger and `usage` reads there, and its limits."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from personaplex_cli.call_record import CallRecord, ledger_path, read_ledger
from personaplex_cli.cli import conversation
from personaplex_cli.cli.app import run
from personaplex_cli.errors import ExitCode
from personaplex_cli.events import CallEnded, CallState, Counters, EndReason, Event, StateChanged
from personaplex_cli.limits import Limits
from personaplex_cli.standin.faults import At, Faults
from personaplex_cli.standin.server import StandIn

Capture = pytest.CaptureFixture[str]

KEY = "pg_secret_0123456789"
PERSONA = "You are Zebedee, and this sentence is nobody else's business."
RATE = 0.6
"""A cent a second."""
PATIENCE_S = 20.0

posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


class Service:
    """Stand-ins on a loop of their own, in a thread of their own, that keep the tokens they issue."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._running: list[StandIn] = []
        self.tokens: list[str] = []

    def start(self, **faults: Any) -> list[str]:
        """The options that lead there."""
        standin = StandIn(Faults(**faults))
        issue = standin.issue_token

        def issue_and_keep() -> str:
            self.tokens.append(issue())
            return self.tokens[-1]

        standin.issue_token = issue_and_keep  # type: ignore[method-assign]
        asyncio.run_coroutine_threadsafe(standin.__aenter__(), self._loop).result(10)
        self._running.append(standin)
        return ["--server", standin.url, "--auth-url", standin.auth_url]

    def stop(self) -> None:
        for standin in self._running:
            asyncio.run_coroutine_threadsafe(standin.__aexit__(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> Iterator[Service]:
    """With a key for it, and a price."""
    monkeypatch.setenv("POLARGRID_API_KEY", KEY)
    (own_home / "config.toml").write_text(f"rate_per_minute = {RATE}\n[profiles.work]\n")
    service = Service()
    yield service
    service.stop()


def talk(*options: str) -> int:
    """A call of nobody with nobody."""
    return run(["talk", "--input-device", "none", "--output", "none", "--persona", PERSONA, *options])


def records() -> list[CallRecord]:
    found, n_damaged = read_ledger(ledger_path())
    assert n_damaged == 0
    return found


def written() -> list[CallRecord]:
    """What is in the ledger already, while it is written."""
    return read_ledger(ledger_path())[0]


class User:
    """Does something for each state of a call."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, act: Callable[[conversation.Conversation, CallState], object]
    ) -> None:
        listen = conversation.Conversation._listen

        def see(watched: conversation.Conversation, event: Event) -> None:
            listen(watched, event)
            if isinstance(event, StateChanged):
                act(watched, event.state)

        monkeypatch.setattr(conversation.Conversation, "_listen", see)


def wait_until(true: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.005)


# --- the ledger


def test_a_call_is_entered_at_the_upgrade_and_completed_at_its_end(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    begun: list[CallRecord] = []

    def act(talk: conversation.Conversation, state: CallState) -> None:
        if state is CallState.WAITING:
            wait_until(written)
            begun.extend(written())
        elif state is CallState.LIVE:
            asyncio.get_running_loop().call_later(0.15, talk.hang_up, EndReason.HUNG_UP)

    User(monkeypatch, act)
    assert talk(*service.start(), "--voice", "NATM1") == ExitCode.OK
    (record,) = records()
    assert [(one.id, one.ended, one.live_s) for one in begun] == [(record.id, None, 0)]
    assert (record.ended, record.exit_code) == ("hung_up", 0)
    assert (record.server, record.region, record.voice) == ("127.0.0.1", None, "NATM1")
    assert (record.profile, record.rate_per_minute) == (None, RATE)
    assert 0.1 <= record.live_s <= record.connected_s <= PATIENCE_S
    assert record.cost == pytest.approx(record.connected_s / 100)
    capsys.readouterr()
    assert run(["usage", "--json"]) == ExitCode.OK
    total = json.loads(capsys.readouterr().out)["total"]
    assert (total["calls"], total["unfinished"], total["calls_without_rate"]) == (1, 0, 0)
    assert total["cost"] == pytest.approx(record.connected_s / 100)


def test_neither_secrets_nor_what_was_said_are_in_the_ledger(service: Service) -> None:
    options = (*service.start(), "--text", "Nobody shall read this", "--max-duration", "0.1")
    assert talk(*options) == talk(*options, "--token-in", "query") == ExitCode.OK
    written = ledger_path().read_text()
    assert len(written.splitlines()) == 2 and len(service.tokens) >= 1
    for secret in (KEY, "Zebedee", "Nobody", "eyJ", *service.tokens):
        assert secret not in written
    if os.name == "posix":
        assert ledger_path().stat().st_mode & 0o077 == 0


def test_the_profile_is_entered(service: Service) -> None:
    options = ("--input-device", "none", "--output", "none", "--max-duration", "0.1")
    assert run(["--profile", "work", "talk", *service.start(), *options]) == ExitCode.OK
    assert [record.profile for record in records()] == ["work"]


def test_each_call_of_a_conversation_has_its_line(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "RECONNECT_AFTER_S", 0.1)
    n_live = 0

    def act(talk: conversation.Conversation, state: CallState) -> None:
        nonlocal n_live
        n_live += state is CallState.LIVE
        if state is CallState.LIVE and n_live == 2:
            talk.hang_up(EndReason.HUNG_UP)

    User(monkeypatch, act)
    assert talk(*service.start(drop=At(0.24)), "--reconnect") == ExitCode.OK
    first, second = records()
    assert (first.ended, first.exit_code) == ("connection_lost", int(ExitCode.CONNECTION))
    assert (second.ended, second.exit_code) == ("hung_up", 0)
    assert first.id != second.id and first.began <= second.began


def test_what_costs_nothing_or_never_connects_is_not_entered(service: Service, capsys: Capture) -> None:
    assert talk("--local", "--max-duration", "0.1") == ExitCode.OK
    assert talk("--server", "ws://127.0.0.1:1", "--dialect", "moshi") == ExitCode.CONNECTION
    assert not ledger_path().exists()
    capsys.readouterr()
    assert run(["usage"]) == ExitCode.OK
    assert "No calls yet" in capsys.readouterr().out


def test_a_ledger_that_cannot_be_written_costs_one_note(
    service: Service, own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (own_home / "state").write_text("a file, where the folder should be")
    monkeypatch.setenv("PERSONAPLEX_STATE_DIR", str(own_home / "state"))
    assert talk(*service.start(), "--max-duration", "0.1") == ExitCode.OK
    err = capsys.readouterr().err
    assert err.count("note: This call cannot be entered into the ledger") == 1
    assert "Call ended: the time limit was reached" in err and "Traceback" not in err


@pytest.mark.parametrize("is_live", [True, False])
def test_a_call_that_is_dropped_at_once(
    is_live: bool, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C twice, the second time while the call is closing."""

    def act(talk: conversation.Conversation, state: CallState) -> None:
        if state is (CallState.LIVE if is_live else CallState.WAITING):
            asyncio.get_running_loop().call_later(0.15, signal.raise_signal, signal.SIGINT)
        elif state is CallState.CLOSING:
            signal.raise_signal(signal.SIGINT)

    User(monkeypatch, act)
    options = service.start() if is_live else service.start(handshake_delay=60.0)
    assert talk(*options) == ExitCode.INTERRUPTED
    (record,) = records()
    assert (record.ended, record.exit_code) == ("dropped", int(ExitCode.INTERRUPTED))
    assert (record.live_s > 0) is is_live


KILLED = """
import sys
from personaplex_cli.cli import books
from personaplex_cli.cli.app import run
from personaplex_cli.ledger import Ledger

seconds = iter(range(0, 10**9, 10))
books.Ledger = lambda path, tell: Ledger(path, tell, clock=lambda: next(seconds), beat_s=0.02)
run(sys.argv[1:])
"""
"""The program, with a ledger whose clock goes on by ten seconds each time and that is written more often."""


@posix
def test_a_call_that_is_killed_is_left_unfinished(service: Service, capsys: Capture) -> None:
    options = ("--input-device", "none", "--output", "none", "--plain")
    command = [sys.executable, "-c", KILLED, "talk", *service.start(), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: any(one.live_s > 0 and one.connected_s >= 60 for one in written()))
            (seen,) = written()
        finally:
            process.kill()
    (record,) = records()
    assert record.ended is None and record.exit_code is None and record.connected_s >= seen.connected_s
    assert run(["usage"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "1 unfinished (at least 0:0" in out and "the program was killed during it" in out
    assert f"{record.connected_s / 100:.2f}" in out


# --- the limits


def end_line(capsys: Capture) -> str:
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("Call ended: "))
    return line


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (["--budget", "0.0011", "--max-duration", "60"], "the budget is used up (0.0011)"),  # 0.11 s
        (["--budget", "0.6", "--max-duration", "0.11"], "the time limit was reached (0.11 s)"),
        (["--budget", "0", "--max-duration", "0.11"], "the time limit was reached (0.11 s)"),
    ],
)
def test_the_smaller_of_the_two_limits_ends_the_call(
    limits: list[str], words: str, service: Service, capsys: Capture
) -> None:
    assert talk(*service.start(), *limits) == ExitCode.OK
    assert words in end_line(capsys)
    (record,) = records()
    assert record.ended == ("budget" if "budget" in words else "max_duration")
    assert record.connected_s >= 0.1


@pytest.mark.parametrize("config", ["", "rate_per_minute = 0\n"])
def test_a_budget_without_a_price_is_an_error_that_says_what_to_do(
    config: str, own_home: Path, capsys: Capture
) -> None:
    (own_home / "config.toml").write_text(config)
    assert talk("--token", "abc", "--budget", "5") == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "error: --budget needs to know what a minute costs." in err and "rate_per_minute = " in err
    assert not ledger_path().exists()


@pytest.mark.parametrize("budget", ["-1", "nan", "inf"])
def test_a_budget_that_is_no_amount(budget: str, service: Service, capsys: Capture) -> None:
    assert talk(*service.start(), "--budget", budget) == ExitCode.USAGE
    assert "--budget takes an amount of money" in capsys.readouterr().err


def test_what_costs_nothing_needs_no_budget(capsys: Capture) -> None:
    assert talk("--local", "--budget", "0.0001", "--max-duration", "0.1") == ExitCode.OK
    assert "the time limit was reached (0.1 s)" in end_line(capsys)


class Lasting:
    """In place of a call: it lasts 100 s without taking any time, and breaks off."""

    ends: EndReason
    limits: list[Limits]
    is_sending_text = False
    user_spoke = True

    def __init__(self, *_: object, limits: Limits, **__: object) -> None:
        self.limits.append(limits)

    def hang_up(self, reason: EndReason) -> None: ...

    async def run(self) -> CallEnded:
        return CallEnded(0.0, self.ends, "", None, 100.0, 90.0, Counters())


@pytest.mark.parametrize("ends", [EndReason.BEGUN_ANEW, EndReason.CONNECTION_LOST])
@pytest.mark.parametrize(
    ("options", "spent_s", "words"),
    [
        (["--max-duration", "250"], [0, 100, 200], "the time limit was reached (250 s)"),
        (["--max-duration", "200"], [0, 100], "the time limit was reached (200 s)"),
        (["--budget", "1.01"], [0, 100], "the budget is used up (1.01)"),
        (["--budget", "1"], [0], "the budget is used up (1)"),
    ],
)
def test_no_further_call_begins_when_nothing_is_left(
    options: list[str],
    spent_s: list[float],
    words: str,
    ends: EndReason,
    service: Service,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of time or money, which all calls of a conversation share, made by `r` or by --reconnect."""
    Lasting.ends, Lasting.limits = ends, []
    monkeypatch.setattr(conversation, "Call", Lasting)
    assert talk(*service.start(), "--reconnect", *options) == ExitCode.OK
    assert words in end_line(capsys)
    assert [limits.spent_s for limits in Lasting.limits] == spent_s
