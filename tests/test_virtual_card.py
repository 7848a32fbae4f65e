"""Speech goes in at a microphone and comes back at a speaker, whatever kind of card they belong to.

The real program on PulseAudio's null sinks (scripts/virtual_audio.sh).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from card_calls import Program, Told, at_once, served
from moshi_server import MoshiServer
from speech import question
from virtual_card import LIKE, Card, Ear, likeness_of_spoken

from personaplex_cli.errors import ExitCode

CARD_HZ = 44_100
REFUSES_ALL_BUT_STEREO = f"""
import sounddevice

def picky(kind):
    def open(*, samplerate, channels, **rest):
        if (samplerate, channels) != ({CARD_HZ}, 2):
            raise sounddevice.PortAudioError("Invalid sample rate", -9997)
        return kind(samplerate=samplerate, channels=channels, **rest)
    return open

sounddevice.RawInputStream = picky(sounddevice.RawInputStream)
sounddevice.RawOutputStream = picky(sounddevice.RawOutputStream)
"""
"""A card that takes nothing else. (ALSA's "pulse" takes everything; its plugin that pins a rate crashes.)"""

NO_ECHO = ("--echo-cancel", "off")
"""There is none, and waves are compared."""


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with at_once(mono_card, only_pulseaudio, stereo_card, third_of_eight_channels, ninth_channel) as calls:
        yield calls


def mono_card() -> float:
    """With the stand-in, which greets, stops when it is spoken to, and repeats what it heard."""
    with Card() as card, Program(card, *NO_ECHO) as program, Ear(card) as ear:
        program.wait_for("Hello!")
        like = likeness_of_spoken(card, lambda: ear.heard)
        program.wait_for("of what you said.")
        program.hang_up()
        return like


def echoed(
    card: Card, *options: str, prelude: str = "", source: str = "speaker.monitor", **spoken: Any
) -> float:
    """With a server that sends back what it hears."""
    with (
        served(MoshiServer()) as server,
        Program(card, *NO_ECHO, *options, server=server.url, prelude=prelude) as program,
        Ear(card, source) as ear,
    ):
        program.wait_for("state: live")
        like = likeness_of_spoken(card, lambda: ear.heard, **spoken)
        program.hang_up()
        return like


def stereo_card() -> float:
    with Card(CARD_HZ) as card:
        card.add_sink("stereo", channels=2, rate_hz=CARD_HZ)
        card.add_microphone("stereo_mic", channels=2, rate_hz=CARD_HZ)
        card.pactl("set-default-sink", "stereo")
        how = {"prelude": REFUSES_ALL_BUT_STEREO, "source": "stereo.monitor", "into": "stereo_mic_feed"}
        return echoed(card, **how)


def only_pulseaudio() -> tuple[str, float]:
    """The list of devices, and how like it was."""
    with Card() as card:
        card.hide_from_alsa()
        command = [sys.executable, "-m", "personaplex_cli", "devices"]
        listed = subprocess.check_output(command, env=card.environment, text=True, timeout=20)
        return listed, echoed(card)


def third_of_eight_channels() -> float:
    """Beside noise on the first one."""
    with Card() as card:
        card.hide_from_alsa()  # whose "pulse" says it has 32
        card.add_microphone("eight", channels=8)
        samples = np.zeros((len(question()), 8), np.float32)
        samples[:, 0] = np.random.default_rng(1).uniform(-0.3, 0.3, len(samples))
        samples[:, 2] = question()
        return echoed(card, "--input-channel", "3", into="eight_feed", samples=samples)


def ninth_channel() -> tuple[int, str]:
    """Exit code, and what was said."""
    with Card() as card:
        card.hide_from_alsa()
        card.add_microphone("eight", channels=8)
        with Program(card, "--input-channel", "9") as program:
            return program.end()


def test_speech_goes_in_at_the_microphone_and_comes_back_at_the_speaker(told: Told) -> None:
    assert told(mono_card) > LIKE


def test_a_card_that_only_takes_44_1_khz_stereo_is_converted_for(told: Told) -> None:
    assert told(stereo_card) > LIKE


def test_where_portaudio_sees_no_device_pulseaudio_is_used(told: Told) -> None:
    listed, like = told(only_pulseaudio)
    assert like > LIKE
    lines = [line.split() for line in listed.splitlines()]
    assert [line[1:3] for line in lines if "default" in line] == [
        ["VirtualMicrophone", "PulseAudio"],
        ["VirtualSpeaker", "PulseAudio"],
    ]


def test_one_channel_of_many_is_listened_to(told: Told) -> None:
    assert told(third_of_eight_channels) > LIKE


def test_a_channel_that_the_microphone_has_not_is_an_error(told: Told) -> None:
    code, said = told(ninth_channel)
    assert code == ExitCode.AUDIO
    assert "has 8 channels; there is no channel 9." in said and "--input-channel" in said
    assert "live" not in said
