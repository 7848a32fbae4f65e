from __future__ import annotations

import numpy as np
import pytest
from echo_room import noise, reverberate, voice
from ogg_pages import RATE, Samples, rms_dbfs

from personaplex_cli.doctor import chirp
from personaplex_cli.doctor.timeline import Timeline

SPARE_S = 0.3
EXPECTED = [round(begin_s * RATE) for begin_s in chirp.BEGINS_S]


def played() -> Samples:
    """As the speaker plays it, and a moment more."""
    samples = np.frombuffer(chirp.chirps(), "<i2").astype(np.float32) / np.float32(32768)
    return np.concatenate([samples, np.zeros(round(SPARE_S * RATE), np.float32)])


def find(samples: Samples, expected: list[int] = EXPECTED) -> chirp.EchoPath:
    pcm = np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes()
    return chirp.find(pcm, expected)


def echo(delay_ms: float, level_db: float) -> Samples:
    """Without a room."""
    delay = round(delay_ms * RATE / 1000)
    back = np.zeros_like(played())
    back[delay:] = played()[: len(back) - delay] * np.float32(10 ** (level_db / 20))
    return back


def test_the_chirps_are_at_minus_20_dbfs_and_begin_and_end_softly() -> None:
    samples = np.frombuffer(chirp.chirps(), "<i2") / 32768
    assert len(samples) == round(chirp.DURATION_S * RATE)
    first = samples[EXPECTED[0] :][: round(chirp.CHIRP_S * RATE)]
    assert rms_dbfs(first.astype(np.float32)) == pytest.approx(-20, abs=1)
    assert max(abs(first[:24])) < 0.01 and max(abs(first[-24:])) < 0.01
    assert not samples[: EXPECTED[0]].any()


@pytest.mark.parametrize(("delay_ms", "level_db"), [(0, 0), (12.5, -6), (80, -20), (300, -35), (480, -10)])
def test_delay_and_level(delay_ms: float, level_db: float) -> None:
    path = find(echo(delay_ms, level_db))
    assert path.heard
    assert path.delay_ms == pytest.approx(delay_ms, abs=0.1)
    assert path.level_db == pytest.approx(level_db, abs=0.3)


def test_an_echo_that_seems_to_come_early() -> None:
    path = find(echo(20, -10), [begin + RATE * 40 // 1000 for begin in EXPECTED])
    assert path.heard and path.delay_ms == pytest.approx(-20, abs=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_in_a_room_with_noise_as_loud_as_the_echo(seed: int) -> None:
    back = reverberate(played(), 80, seed)
    back *= np.float32(10 ** (-12 / 20)) * np.sqrt((played() ** 2).sum() / (back**2).sum())
    path = find(back + noise(len(back), -32, seed))
    assert path.heard
    assert 79 < path.delay_ms < 85
    assert path.level_db == pytest.approx(-12, abs=3)


@pytest.mark.parametrize("hz", [50, 6000])
def test_hum_and_hiss_count_for_nothing(hz: float) -> None:
    loud = 0.3 * np.sin(2 * np.pi * hz * np.arange(len(played())) / RATE).astype(np.float32)
    path = find(echo(80, -30) + loud)
    assert path.heard and path.level_db == pytest.approx(-30, abs=1)


@pytest.mark.parametrize("seed", range(20))
def test_noise_and_speech_are_no_echo(seed: int) -> None:
    n_samples = len(played())
    speech = np.roll(voice(("far", "near")[seed % 2], -20), -seed * RATE // 2)[:n_samples]
    assert not find(noise(n_samples, -30, seed)).heard
    assert not find(speech + noise(n_samples, -60, seed)).heard


def test_silence_is_no_echo() -> None:
    path = find(np.zeros_like(played()))
    assert not path.heard and path.confidence == 0


def test_one_chirp_that_is_heard_is_not_enough() -> None:
    samples = echo(80, -10)
    samples[EXPECTED[1] - RATE // 10 :] = 0
    assert not find(samples + noise(len(samples), -60)).heard


def test_of_three_chirps_one_may_be_lost() -> None:
    samples = echo(80, -10)
    samples[: EXPECTED[1] - RATE // 10] = 0
    assert find(samples + noise(len(samples), -60)).delay_ms == pytest.approx(80, abs=1)


def test_an_echo_that_comes_with_the_next_chirp_is_not_taken_for_that_one_s() -> None:
    assert not find(echo(960, -10)).heard


def test_what_was_not_captured_is_not_looked_at() -> None:
    assert not find(echo(80, -10)[: EXPECTED[0] + 100]).heard
    assert not find(echo(80, -10), [-RATE, 5, 10 * RATE]).heard


# --- the timeline


def test_stamps_that_wander_are_averaged_out() -> None:
    wander = np.random.default_rng(3).uniform(-0.015, 0.015, 200)
    timeline = Timeline([(240 * n, 100 + n * 0.01 + wander[n]) for n in range(200)])
    assert timeline.time_s(RATE) == pytest.approx(101, abs=0.004)
    assert timeline.sample(101.0) == pytest.approx(RATE, abs=100)


def test_after_a_lost_block_other_stamps_count() -> None:
    before = [(240 * n, n * 0.01) for n in range(100)]
    after = [(240 * n, n * 0.01 + 0.1) for n in range(100, 200)]
    timeline = Timeline(before + after)
    assert timeline.time_s(RATE // 2) == pytest.approx(0.5)
    assert timeline.time_s(RATE * 3 // 2) == pytest.approx(1.6)
    assert timeline.sample(1.6) == RATE * 3 // 2


def test_the_first_stamps_of_a_stream_may_be_wrong() -> None:
    timeline = Timeline([(240 * n, n * 0.01 - (0.06 if n < 3 else 0)) for n in range(100)])
    assert timeline.time_s(0) == pytest.approx(0)
