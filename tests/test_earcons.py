"""Tones: what they sound like, and how they come to be heard."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from array import array
from itertools import groupby, pairwise

import numpy as np
import pytest

from personaplex_cli.earcons import MAX_WAITING, Earcon, Tones, tone
from personaplex_cli.pcm import SAMPLE_RATE, duration_ms, samples, silence, to_pcm

BLOCK = silence(160)
MS = SAMPLE_RATE // 1000

each = pytest.mark.parametrize("earcon", Earcon)


def pitch_hz(values: array[int]) -> float:
    """Of the strongest part, to 2 Hz."""
    n = SAMPLE_RATE // 2
    return float(np.argmax(np.abs(np.fft.rfft(np.hanning(len(values)) * values, n))) * SAMPLE_RATE / n)


def pitches_hz(earcon: Earcon) -> tuple[float, float]:
    """At the beginning and at the end."""
    values = samples(tone(earcon))
    return pitch_hz(values[: 70 * MS]), pitch_hz(values[-70 * MS :])


def n_notes(earcon: Earcon) -> int:
    """How often it can be heard, with a pause between."""
    values = samples(tone(earcon))
    loud = [max(map(abs, values[at : at + 5 * MS])) > 400 for at in range(0, len(values), 5 * MS)]
    # Where one note goes over into the next there is a short dip.
    runs = [(is_loud, len(list(run))) for is_loud, run in groupby(loud)]
    return 1 + sum(not is_loud and n >= 8 for is_loud, n in runs[1:-1])


# --- the sound


@each
def test_a_tone_is_short_and_at_18_db_below_full_scale(earcon: Earcon) -> None:
    pcm = tone(earcon)
    assert 80 <= duration_ms(pcm) <= 300
    assert 20 * np.log10(max(map(abs, samples(pcm))) / 32768) == pytest.approx(-18, abs=0.1)


@each
def test_a_tone_begins_and_ends_with_silence(earcon: Earcon) -> None:
    values = samples(tone(earcon))
    assert max(map(abs, [*values[:6], *values[-6:]])) <= 25
    assert values[0] == values[-1] == 0


@each
def test_a_tone_does_not_click(earcon: Earcon) -> None:
    """A click has something of every pitch."""
    values = samples(tone(earcon))
    assert max(abs(b - a) for a, b in pairwise(values)) < 1100  # as steep as a sine of 1 kHz
    power = np.abs(np.fft.rfft(values)) ** 2
    hz = np.fft.rfftfreq(len(values), 1 / SAMPLE_RATE)
    assert power[(hz < 300) | (hz > 1300)].sum() < 1e-4 * power.sum()


def test_tones_can_be_told_apart() -> None:
    begins, ends = pitches_hz(Earcon.CONNECTED)
    assert ends > 1.4 * begins
    begins, ends = pitches_hz(Earcon.ENDED)
    assert ends < begins / 1.4
    low, high = pitches_hz(Earcon.MUTED), pitches_hz(Earcon.UNMUTED)
    assert low == pytest.approx((440, 440), abs=4) and high == pytest.approx((659, 659), abs=4)
    assert [n_notes(earcon) for earcon in Earcon] == [2 if e is Earcon.WARNING else 1 for e in Earcon]


def test_a_tone_is_made_once() -> None:
    assert tone(Earcon.WARNING) is tone(Earcon.WARNING)


def test_numpy_is_not_loaded() -> None:
    """It would double the time until a call without it starts."""
    code = "import personaplex_cli.earcons, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 0


# --- the mix


def noise(n_samples: int, loudest: int = 20_000) -> array[int]:
    rng = random.Random(n_samples)
    return array("h", [rng.randint(-loudest, loudest) for _ in range(n_samples)])


def drained(tones: Tones) -> bytes:
    heard = b""
    while tones.left_ms:
        heard += tones.mixed(BLOCK)
    return heard


def test_without_a_tone_nothing_is_touched() -> None:
    tones = Tones()
    assert tones.mixed(BLOCK) is BLOCK
    assert tones.left_ms == 0


@pytest.mark.parametrize("block_samples", [1, 7, 160, 2879, 2880, 2881, 10_000])
def test_tones_are_added_sample_by_sample_whatever_the_blocks(block_samples: int) -> None:
    tones = Tones()
    tones.play(Earcon.MUTED)
    tones.play(Earcon.CONNECTED)
    agent = noise(10_000)
    blocks = [agent[at : at + block_samples] for at in range(0, len(agent), block_samples)]
    mixed = samples(b"".join(tones.mixed(to_pcm(block)) for block in blocks))
    added = array("h", [b - a for a, b in zip(agent, mixed, strict=True)])
    both = tone(Earcon.MUTED) + tone(Earcon.CONNECTED)
    assert to_pcm(added) == both + silence(len(agent) - len(both) // 2)
    assert tones.mixed(BLOCK) is BLOCK


def test_a_mix_is_limited() -> None:
    tones = Tones()
    tones.play(Earcon.MUTED)
    peaks = array("h", [32_000, -32_000] * 1440)
    mixed = samples(tones.mixed(to_pcm(peaks)))
    both = zip(peaks, samples(tone(Earcon.MUTED)), strict=True)
    assert list(mixed) == [max(-32768, min(32767, a + b)) for a, b in both]
    assert (max(mixed), min(mixed)) == (32767, -32768)


def test_what_is_left_to_be_heard() -> None:
    tones = Tones()
    tones.play(Earcon.MUTED)
    tones.play(Earcon.UNMUTED)
    assert tones.left_ms == 240
    tones.mixed(silence(130 * MS))
    assert tones.left_ms == 110
    tones.mixed(silence(200 * MS))
    assert tones.left_ms == 0


def test_of_too_many_tones_the_newest_are_heard() -> None:
    tones = Tones()
    tones.play(Earcon.CONNECTED)
    first = tones.mixed(BLOCK)  # it sounds, and waits no longer
    for earcon in [Earcon.WARNING, Earcon.ENDED, *[Earcon.MUTED, Earcon.UNMUTED] * 2]:
        tones.play(earcon)
    assert (tones.dropped, MAX_WAITING) == (2, 4)
    expected = tone(Earcon.CONNECTED) + 2 * (tone(Earcon.MUTED) + tone(Earcon.UNMUTED))
    assert tones.left_ms == pytest.approx(duration_ms(expected) - duration_ms(BLOCK))
    heard = first + drained(tones)
    assert heard[: len(expected)] == expected and not any(heard[len(expected) :])


def test_tones_may_be_asked_for_on_several_threads_while_others_sound() -> None:
    tones = Tones()

    def ask() -> None:
        for _ in range(200):
            tones.play(Earcon.MUTED)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    heard = b""
    while any(thread.is_alive() for thread in asking):
        heard += tones.mixed(silence(1000))
    heard += drained(tones)
    # Silence only between tones and where a sine passes zero: so each tone is counted by its power.
    power = float((np.frombuffer(heard, "<i2").astype(float) ** 2).sum())
    of_one = float((np.frombuffer(tone(Earcon.MUTED), "<i2").astype(float) ** 2).sum())
    assert power / of_one == pytest.approx(600 - tones.dropped, abs=1e-6)
    assert tones.left_ms == 0
