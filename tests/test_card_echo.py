"""A microphone that hears the speaker, in real calls where only the agent speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from card_calls import Program, Talker, Told, at_once, served
from echo_room import voice
from ogg_pages import RATE, rms_dbfs
from virtual_card import Card, Ear, wait_until

ECHO_DB = -8.0
SETTLED_S = 3.0
STRETCH_S = 1.0
LEAST_DB = 30.0
ALARM = "note: The microphone hears the speaker, so the agent hears itself."
ALARM_PATIENCE_S = 90.0
"""9 s in which the echo comes equally late are enough, but on a loaded machine the card's own loop stalls."""

pytestmark = pytest.mark.timeout(ALARM_PATIENCE_S + 30)

HIDE_LIVEKIT = "import sys\nsys.modules['livekit'] = None"
"""As if the extra were not installed."""


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with at_once(alarmed, cancelled, half_duplex, not_cancelled) as calls:
        yield calls


@contextmanager
def echoing(*options: str, prelude: str = "") -> Iterator[tuple[Card, Talker, Program]]:
    with Card() as card, served(Talker(voice("far", -20.0))) as server:
        card.hear_itself()
        with Program(card, "--idle-timeout", "0", *options, server=server.url, prelude=prelude) as program:
            yield card, server, program


def echo_db(server: Talker, from_s: float = 0.0) -> float:
    """How loud what came from the microphone is, against what was said, over the last stretch; infinite
    before there is one."""
    heard, said = server.heard, server.said
    stretch = slice(len(heard) - round(STRETCH_S * RATE), len(heard))
    if stretch.start < from_s * RATE:
        return np.inf
    return rms_dbfs(heard[stretch]) - rms_dbfs(said[stretch])


def wait_for_echo(server: Talker, wanted: Callable[[float], bool], from_s: float = 0.0) -> float:
    """The first `echo_db` that is as wanted."""
    seen_db = [np.inf]

    def look() -> bool:
        seen_db.append(echo_db(server, from_s))
        return wanted(seen_db[-1])

    wait_until(look, "the echo that is wanted")
    return seen_db[-1]


def not_cancelled() -> float:
    with echoing("--echo-cancel", "off") as (_, server, program):
        found_db = wait_for_echo(server, lambda db: abs(db - ECHO_DB) < 3)
        assert ALARM not in program.hang_up()
        return found_db


def cancelled() -> float:
    with echoing() as (_, server, program):
        # On a loaded machine it takes longer: late blocks move the echo, and the room is learnt anew.
        found_db = wait_for_echo(server, lambda db: db < ECHO_DB - 3 - LEAST_DB, SETTLED_S)
        assert ALARM not in program.hang_up()
        return found_db


def alarmed() -> str:
    with echoing(prelude=HIDE_LIVEKIT) as (_, server, program):
        program.wait_for(ALARM, ALARM_PATIENCE_S)
        return program.hang_up()


def half_duplex() -> float:
    """How loud it is, but for the loudest tenth: on a loaded machine a moment of echo comes too late."""
    with echoing("--half-duplex") as (card, server, program), Ear(card) as ear:
        ear.wait_for_sound()
        wait_until(lambda: len(server.heard) > SETTLED_S * RATE, "3 s")
        program.hang_up()
        return float(np.quantile(np.abs(server.heard), 0.9))


def test_echo_cancellation_takes_30_db_of_the_echo_away(told: Told) -> None:
    assert told(not_cancelled) - told(cancelled) > LEAST_DB


def test_without_the_extra_the_user_is_told_once(told: Told) -> None:
    assert told(alarmed).count(ALARM) == 1


def test_half_duplex_sends_digital_silence_while_the_agent_is_heard(told: Told) -> None:
    assert told(half_duplex) < 1e-4
