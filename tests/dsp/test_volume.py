"""The agent's volume: how loud it gets, and that it gets there without a click."""

from __future__ import annotations

import math
import random
from array import array
from itertools import pairwise

import pytest

from personaplex_cli.dsp.volume import MAX_VOLUME_PERCENT, Volume, saturated
from personaplex_cli.pcm import SAMPLE_RATE, level_dbfs, samples, silence, to_pcm

BLOCK_SAMPLES = 160
LOUD = to_pcm(array("h", [30_000] * BLOCK_SAMPLES))


def sine(n_samples: int, amplitude: float = 8000) -> bytes:
    return to_pcm(array("h", [round(amplitude * math.sin(i / 20)) for i in range(n_samples)]))


def blocks(pcm: bytes, n_samples: int) -> list[bytes]:
    return [pcm[at : at + 2 * n_samples] for at in range(0, len(pcm), 2 * n_samples)]


def played(volume: Volume, pcm: bytes, block_samples: int = BLOCK_SAMPLES) -> array[int]:
    return samples(b"".join(map(volume.applied, blocks(pcm, block_samples))))


def settled(percent: int) -> Volume:
    volume = Volume()
    volume.percent = percent
    played(volume, silence(SAMPLE_RATE // 10))
    return volume


def largest_step(values: array[int]) -> int:
    return max(abs(b - a) for a, b in pairwise(values))


def test_at_first_nothing_is_touched() -> None:
    volume = Volume()
    assert volume.percent == 100
    assert volume.applied(LOUD) is LOUD


@pytest.mark.parametrize(("percent", "db"), [(200, 12.04), (50, -12.04), (20, -27.96), (10, -40.0)])
def test_the_percentage_squared_is_the_gain(percent: int, db: float) -> None:
    tone = sine(2400)
    heard = settled(percent).applied(tone)
    assert level_dbfs(heard) - level_dbfs(tone) == pytest.approx(db, abs=0.1)


def test_nothing_is_true_silence() -> None:
    rng = random.Random(1)
    noise = to_pcm(array("h", [rng.randint(-32768, 32767) for _ in range(BLOCK_SAMPLES)]))
    assert settled(0).applied(noise) == silence(BLOCK_SAMPLES)


@pytest.mark.parametrize("percent", [0, 1, 50, 200])
def test_silence_stays_silence(percent: int) -> None:
    assert settled(percent).applied(silence(BLOCK_SAMPLES)) == silence(BLOCK_SAMPLES)


@pytest.mark.parametrize(("asked", "percent"), [(-10, 0), (0, 0), (70, 70), (200, 200), (210, 200)])
def test_the_percentage_is_kept_within_its_limits(asked: int, percent: int) -> None:
    volume = Volume()
    volume.percent = asked
    assert volume.percent == percent
    assert MAX_VOLUME_PERCENT == 200


@pytest.mark.parametrize("block_samples", [1, 7, BLOCK_SAMPLES, 2400])
@pytest.mark.parametrize(("before", "after"), [(100, 0), (100, 90), (0, 100), (10, 60)])
def test_a_change_is_gradual_whatever_the_blocks(before: int, after: int, block_samples: int) -> None:
    volume = settled(before)
    [level] = set(samples(volume.applied(LOUD)))
    volume.percent = after
    heard = array("h", [level]) + played(volume, LOUD * 15, block_samples)
    assert heard[-1] == 30_000 * after**2 // 100**2  # it has arrived
    assert list(heard) == sorted(heard, reverse=after < before)
    assert largest_step(heard) <= 30_000 / 200 + 1


def test_a_change_takes_10_ms_at_most_from_silence_to_the_usual() -> None:
    volume = settled(0)
    volume.percent = 100
    assert played(volume, LOUD * 2)[SAMPLE_RATE // 100] == 30_000


def test_turning_round_on_the_way_does_not_click() -> None:
    volume = Volume()
    heard = samples(LOUD)[:1]
    for percent in (0, 100, 50, 120, 0, 100):
        volume.percent = percent
        heard += samples(volume.applied(LOUD[:100]))
    assert largest_step(heard) <= 30_000 / 200 + 1


def test_back_at_100_percent_nothing_is_touched() -> None:
    volume = settled(30)
    volume.percent = 100
    assert volume.applied(LOUD) is not LOUD
    volume.applied(LOUD)
    assert volume.applied(LOUD) is LOUD


def test_no_samples_are_no_step_on_the_way() -> None:
    volume = Volume()
    volume.percent = 0
    assert volume.applied(b"") == b""
    assert largest_step(samples(LOUD + volume.applied(LOUD))) <= 30_000 / 200 + 1


def test_what_is_too_loud_is_limited() -> None:
    tone = sine(2400, amplitude=20_000)
    heard = played(settled(200), tone)
    assert (max(heard), min(heard)) == (32767, -32768)
    expected = [max(-32768, min(32767, 4 * value)) for value in samples(tone)]
    assert list(heard) == expected


def test_saturation() -> None:
    assert list(saturated([1, -32768, 32767])) == [1, -32768, 32767]
    assert list(saturated([1, -32769, 32768, 10**6, -(10**6)])) == [1, -32768, 32767, 32767, -32768]
