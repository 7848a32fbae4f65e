"""Devices that vanish, hang, come back or are not the default any more, in the middle of a real call."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from card_calls import Program, Talker, Told, at_once, served
from echo_room import voice
from virtual_card import LIKE, Card, Ear, likeness_of_spoken, wait_until

EXIT_S = 8.0
"""5 s are what it may take; a loaded machine is slow."""

OPTIONS = ("--echo-cancel", "off", "--idle-timeout", "0")


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with at_once(headset_away, killed_and_started, hung_and_continued, hung_for_ever, other_default) as calls:
        yield calls


def talker() -> Talker:
    return Talker(voice("far", -20.0))


def check_microphone(server: Talker, card: Card, feed: str = "micfeed") -> None:
    """The server hears what is said into it."""
    assert likeness_of_spoken(card, lambda: server.heard, into=feed) > LIKE


def wait_for_notes(program: Program, *endings: str) -> None:
    for role in ("microphone", "speaker"):
        for ending in endings:
            program.wait_for(f"note: The {role} {ending}")


def killed_and_started() -> None:
    with Card() as card, served(talker()) as server, Program(card, *OPTIONS, server=server.url) as program:
        with Ear(card) as ear:
            ear.wait_for_sound()
        card.kill()
        wait_for_notes(program, "'default' is gone; ")
        card.start_again()
        wait_for_notes(program, "'default' is back.")
        with Ear(card) as ear:
            ear.wait_for_sound()
        check_microphone(server, card)
        program.hang_up()
        server.check_end()


def hung_and_continued() -> None:
    with Card() as card, served(talker()) as server, Program(card, *OPTIONS, server=server.url) as program:
        with Ear(card) as ear:
            ear.wait_for_sound()
            with card.hung():
                wait_for_notes(program, "'default' is gone; ")
                n_before = len(server.heard)
                wait_until(lambda: len(server.heard) > n_before, "silence in place of the microphone")
            wait_for_notes(program, "'default' is back.")
            ear.wait_for_sound()
        check_microphone(server, card)
        program.hang_up()
        server.check_end()


def hung_for_ever() -> float:
    """How long the exit took."""
    with Card() as card, served(talker()) as server, Program(card, *OPTIONS, server=server.url) as program:
        with Ear(card) as ear:
            ear.wait_for_sound()
        with card.hung():
            wait_for_notes(program, "'default' is gone; ")
            began_s = time.monotonic()
            program.hang_up()
            took_s = time.monotonic() - began_s
        server.check_end()
        return took_s


def headset_away() -> None:
    """It is a card of its own, and the other one the default."""
    with Card() as card, Card() as headset, served(talker()) as server:
        card.add_to_alsa(f'pcm.headset {{ type pulse server "unix:{headset.folder}/native" }}')
        ends = ("--input-device", "headset", "--output-device", "headset")
        with Program(card, *OPTIONS, *ends, server=server.url) as program, Ear(card) as instead:
            with Ear(headset) as ear:
                ear.wait_for_sound()
            headset.kill()
            wait_for_notes(program, "'headset' is gone; ", "is 'default' now, until the other one is back.")
            instead.wait_for_sound()
            check_microphone(server, card)
            headset.start_again()
            wait_for_notes(program, "'headset' is back.")
            with Ear(headset) as ear:
                ear.wait_for_sound()
            check_microphone(server, headset)
            instead.wait_for_silence()
            program.hang_up()
            server.check_end()


def other_default() -> str:
    """All that was said."""
    with Card() as card, served(talker()) as server:
        card.add_sink("other")
        with (
            Program(card, *OPTIONS, server=server.url) as program,
            Ear(card) as before,
            Ear(card, "other.monitor") as after,
        ):
            before.wait_for_sound()
            card.pactl("set-default-sink", "other")
            after.wait_for_sound()
            before.wait_for_silence()
            card.add_microphone("other_mic")
            check_microphone(server, card, "other_mic_feed")
            return program.hang_up()


def test_the_call_goes_on_when_the_sound_server_was_killed_and_is_started_again(told: Told) -> None:
    told(killed_and_started)


def test_the_call_goes_on_when_the_sound_server_has_hung(told: Told) -> None:
    told(hung_and_continued)


def test_a_sound_server_that_hangs_holds_up_no_exit(told: Told) -> None:
    assert told(hung_for_ever) < EXIT_S


def test_a_device_that_vanishes_is_replaced_and_taken_again_when_it_returns(told: Told) -> None:
    told(headset_away)


def test_a_call_on_the_default_devices_follows_the_default(told: Told) -> None:
    said = told(other_default)
    assert "gone" not in said  # PulseAudio moves the streams itself
