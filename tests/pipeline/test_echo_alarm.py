"""Voices, an echo and noise, as levels of 20 ms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from echo_room import LONG, Room, echo, loop, noise, voice
from ogg_pages import RATE, Samples
from speech import clip, question

from personaplex_cli.pcm import PACKET_SAMPLES, SILENCE_DBFS
from personaplex_cli.pipeline.echo_alarm import SLOT_S, EchoAlarm

DURATION_S = 30
N_SAMPLES = DURATION_S * RATE
BEGINS_S = 5000.0
SOME_ROOMS = (
    Room("near", delay_ms=5, gain_db=-6),
    Room("quiet", gain_db=-12),
    Room("Bluetooth", delay_ms=300, gain_db=-18),
    Room("overdriven", saturates=True),
)


def levels(samples: Samples) -> list[float]:
    power = np.mean(np.square(samples).reshape(-1, PACKET_SAMPLES), axis=1)
    dbfs: list[float] = (10 * np.log10(power + 10 ** (SILENCE_DBFS / 10))).tolist()
    return dbfs


@cache
def far() -> Samples:
    return loop(voice("far", -20), N_SAMPLES)


@cache
def far_levels() -> list[float]:
    return levels(far())


def alarms(played: Sequence[float], captured: Sequence[float], *, late_s: float = 0) -> list[float]:
    """When it sounds, in seconds from the begin. `late_s`: how much later captures get their stamps."""
    alarm = EchoAlarm()
    wander = np.random.default_rng(5).uniform(-0.012, 0.012, 2 * len(played))
    sounded = []
    for n, (played_dbfs, captured_dbfs) in enumerate(zip(played, captured, strict=True)):
        at_s = BEGINS_S + n * SLOT_S
        alarm.played(played_dbfs, at_s + wander[2 * n])
        if alarm.captured(captured_dbfs, at_s + late_s + wander[2 * n + 1]):
            sounded.append(n * SLOT_S)
    return sounded


@pytest.mark.parametrize("room", SOME_ROOMS, ids=lambda room: room.name)
def test_an_echo_sounds_it_once_after_three_stretches(room: Room) -> None:
    captured = levels(echo(far(), room, LONG) + noise(N_SAMPLES, -60))
    sounded = alarms(far_levels(), captured)
    assert len(sounded) == 1
    assert 8.9 <= sounded[0] <= 20


def test_an_echo_is_found_between_what_the_user_says() -> None:
    near = loop(voice("near", -24), N_SAMPLES)
    near[: 15 * RATE] = 0
    near[20 * RATE :] = 0
    captured = levels(np.roll(near, -12 * RATE) + echo(far(), Room("room"), LONG) + noise(N_SAMPLES, -60))
    assert len(alarms(far_levels(), captured)) == 1


@pytest.mark.parametrize("shift_s", [0, 1, 2.5, 4])
@pytest.mark.parametrize("name", ["near", "question", "clip", "far"])
def test_somebody_else_talking_does_not(name: str, shift_s: float) -> None:
    own = {"near": voice("near", -24), "question": question(), "clip": clip("greeting"), "far": far()}[name]
    heard = loop(np.roll(own, round((shift_s + (9 if name == "far" else 0)) * RATE)), N_SAMPLES)
    assert alarms(far_levels(), levels(heard + noise(N_SAMPLES, -60))) == []


def test_taking_turns_does_not() -> None:
    turn = np.arange(N_SAMPLES) // (3 * RATE) % 2 == 0
    played = np.where(turn, far(), 0).astype(np.float32)
    near = np.where(turn, 0, loop(voice("near", -24), N_SAMPLES)).astype(np.float32)
    assert alarms(levels(played), levels(near + noise(N_SAMPLES, -60))) == []


@pytest.mark.parametrize("noise_dbfs", [-80, -50, -25])
def test_noise_does_not(noise_dbfs: float) -> None:
    assert alarms(far_levels(), levels(noise(N_SAMPLES, noise_dbfs))) == []


def test_silence_does_not() -> None:
    silent = [SILENCE_DBFS] * len(far_levels())
    assert alarms(far_levels(), silent) == []
    assert alarms(silent, levels(loop(voice("near", -24), N_SAMPLES))) == []
    assert alarms(silent, silent) == []


def test_an_echo_that_comes_after_more_than_half_a_second_is_something_else() -> None:
    captured = levels(echo(far(), Room("room", delay_ms=20), LONG))
    assert alarms(far_levels(), captured, late_s=0.8) == []
    assert len(alarms(far_levels(), captured, late_s=0.4)) == 1


def test_an_echo_that_nobody_could_hear_is_none() -> None:
    captured = levels(echo(far(), Room("room", gain_db=-50), LONG) + noise(N_SAMPLES, -90))
    assert alarms(far_levels(), captured) == []


def test_a_likeness_that_is_each_time_later_is_chance() -> None:
    lags = [(2, 10, 18)[n // 250 % 3] for n in range(len(far_levels()))]  # each for 5 s
    captured = [far_levels()[max(0, n - lag)] for n, lag in enumerate(lags)]
    assert alarms(far_levels(), captured) == []
    assert len(alarms(far_levels(), [SILENCE_DBFS] * 10 + far_levels()[:-10])) == 1


def test_what_follows_only_roughly_is_no_echo() -> None:
    spread_db = float(np.std(far_levels()))
    wander = np.random.default_rng(6).normal(0, 1.3 * spread_db, len(far_levels()))  # correlation: 0.6
    assert alarms(far_levels(), [level + off for level, off in zip(far_levels(), wander, strict=True)]) == []


def test_a_stream_that_was_interrupted_is_compared_again() -> None:
    captured = levels(echo(far(), Room("room"), LONG))
    half = len(captured) // 2
    alarm, sounded = EchoAlarm(), False
    for n in range(len(captured)):
        at_s = BEGINS_S + n * SLOT_S + (100 if n >= half else 0)
        alarm.played(far_levels()[n], at_s)
        if n >= half or n % 150 > 75:  # never a whole stretch before
            sounded |= alarm.captured(captured[n], at_s)
        assert n >= half or not sounded
    assert sounded
