"""The gate, with blocks that say their own number; a loud one is speech, a quiet one is not."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli.pcm import PACKET_SAMPLES, SPEECH_DBFS, Block, level_dbfs, samples, silence, to_pcm
from personaplex_cli.pipeline.gate import PRE_ROLL_PACKETS, Gate

QUIET = silence(PACKET_SAMPLES)
SHUT = -1
"""What is heard of a gate that is shut."""


@cache
def loud(number: int) -> Block:
    return Block(to_pcm(array("h", [1000 + number] * PACKET_SAMPLES)), 0.02 * number)


@cache
def quiet(number: int) -> Block:
    """A room's noise, which is not the silence of a gate that is shut."""
    return Block(to_pcm(array("h", [1 + number % 50] * PACKET_SAMPLES)), 0.02 * number)


def through(gate: Gate, blocks: Iterable[Block]) -> list[int]:
    """What is heard for each block: the number of a loud one, 0 for a quiet one."""
    numbers = []
    for block in blocks:
        heard = gate.passed(block)
        assert heard.at_s == block.at_s and len(heard.pcm) == len(QUIET)
        sample = samples(heard.pcm)[0]
        numbers.append(SHUT if heard.pcm == QUIET else max(0, sample - 1000))
    return numbers


def with_key() -> Gate:
    gate = Gate()
    gate.push_to_talk = True
    return gate


def test_the_blocks_of_this_test_are_speech_and_none() -> None:
    assert level_dbfs(loud(0).pcm) > SPEECH_DBFS > level_dbfs(quiet(49).pcm)


def test_an_open_gate_changes_nothing() -> None:
    gate = Gate()
    for number in range(100):
        block = loud(number) if number % 7 else quiet(number)
        assert gate.passed(block) == block


@pytest.mark.parametrize("how", ["muted", "push_to_talk", "ducked"])
def test_a_gate_that_is_shut_gives_true_silence(how: str) -> None:
    gate = Gate(lambda: how == "ducked")
    if how != "ducked":
        setattr(gate, how, True)
    assert not gate.open
    assert through(gate, map(loud, range(50))) == [SHUT] * 50


def test_what_was_spoken_while_the_key_went_down_comes_first() -> None:
    """Speech begins 100 ms before the key: the pre-roll begins with it, not earlier."""
    gate = with_key()
    through(gate, map(quiet, range(95)))
    through(gate, map(loud, range(95, 100)))
    gate.talking = True
    assert through(gate, map(loud, range(100, 150))) == list(range(95, 145))


def test_no_more_than_300_ms_come_from_before_the_key() -> None:
    gate = with_key()
    through(gate, map(loud, range(100)))
    gate.talking = True
    assert through(gate, map(loud, range(100, 120))) == list(range(85, 105))
    assert PRE_ROLL_PACKETS * 20 == 300


def test_without_speech_before_the_key_nothing_is_late() -> None:
    gate = with_key()
    through(gate, map(quiet, range(100)))
    gate.talking = True
    assert through(gate, map(loud, range(100, 110))) == list(range(100, 110))


def test_lateness_goes_away_in_the_first_pause() -> None:
    gate = with_key()
    through(gate, map(loud, range(10)))
    gate.talking = True
    assert through(gate, map(loud, range(10, 20))) == list(range(10))
    pause = through(gate, map(quiet, range(20, 30)))
    assert pause == list(range(10, 20))  # what was spoken goes out, the pause does not
    assert through(gate, map(loud, range(30, 33))) == list(range(30, 33))


def test_what_is_late_when_the_key_goes_up_is_still_let_out() -> None:
    gate = with_key()
    through(gate, map(loud, range(5)))
    gate.talking = True
    through(gate, map(loud, range(5, 10)))
    gate.talking = False
    assert through(gate, map(loud, range(10, 18))) == [5, 6, 7, 8, 9, SHUT, SHUT, SHUT]


def test_of_what_is_spoken_while_muted_nothing_is_kept() -> None:
    gate = with_key()
    through(gate, map(loud, range(20)))
    gate.muted = True
    through(gate, map(loud, range(20, 22)))
    gate.muted = False
    gate.talking = True
    assert through(gate, map(loud, range(22, 25))) == [22, 23, 24]


def test_muted_goes_before_the_key() -> None:
    gate = with_key()
    gate.muted = gate.talking = True
    assert not gate.open
    assert through(gate, map(loud, range(5))) == [SHUT] * 5


def test_half_duplex_shuts_while_the_agent_is_heard_and_keeps_nothing_of_it() -> None:
    heard = True
    gate = Gate(lambda: heard)
    assert through(gate, map(loud, range(10))) == [SHUT] * 10
    heard = False
    assert through(gate, map(loud, range(10, 15))) == list(range(10, 15))


def test_the_key_opens_the_gate_while_the_agent_is_heard() -> None:
    gate = Gate(lambda: True)
    through(gate, map(loud, range(5)))
    gate.talking = True
    assert through(gate, map(loud, range(5, 10))) == list(range(5, 10))


STRETCHES = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 40)), max_size=12)
"""Whether the key is held, whether someone speaks, and for how many blocks."""


@settings(derandomize=True, deadline=None, max_examples=80)
@given(STRETCHES)
def test_nothing_that_is_spoken_while_the_key_is_held_is_lost_or_out_of_order(
    stretches: list[tuple[bool, bool, int]],
) -> None:
    gate = with_key()
    heard: list[int] = []
    held: list[int] = []
    number = 1
    for talking, speaks, n_blocks in [*stretches, (False, False, PRE_ROLL_PACKETS)]:
        gate.talking = talking
        for _ in range(n_blocks):
            heard += through(gate, [loud(number) if speaks else quiet(number)])
            if talking and speaks:
                held.append(number)
            number += 1
    spoken = [one for one in heard if one > 0]
    assert spoken == sorted(set(spoken))
    assert set(held) <= set(spoken)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(STRETCHES)
def test_it_is_never_later_than_the_pre_roll(stretches: list[tuple[bool, bool, int]]) -> None:
    gate = with_key()
    number = 1
    for talking, speaks, n_blocks in stretches:
        gate.talking = talking
        for _ in range(n_blocks):
            [heard] = through(gate, [loud(number) if speaks else quiet(number)])
            assert heard <= 0 or number - heard <= PRE_ROLL_PACKETS
            number += 1
