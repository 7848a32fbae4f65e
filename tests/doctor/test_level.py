from __future__ import annotations

import numpy as np
import pytest
from echo_room import noise, voice
from ogg_pages import RATE, Samples

from personaplex_cli.doctor.level import Verdict, judge
from personaplex_cli.pcm import SILENCE_DBFS

N = 3 * RATE


def pcm(samples: Samples) -> bytes:
    return np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def speech(dbfs: float) -> Samples:
    return np.resize(voice("near", dbfs), N)


def test_all_zeros_are_dead() -> None:
    level = judge(bytes(2 * N))
    assert level.verdict is Verdict.DEAD
    assert level.peak_dbfs == level.rms_dbfs == level.noise_dbfs == SILENCE_DBFS


def test_one_and_the_same_value_is_dead() -> None:
    assert judge(np.full(N, 700, "<i2").tobytes()).verdict is Verdict.DEAD


def test_the_noise_of_a_real_microphone_is_not_dead() -> None:
    level = judge(pcm(noise(N, -80)))
    assert level.verdict is Verdict.QUIET
    assert level.rms_dbfs == pytest.approx(-80, abs=0.5)


def test_speech_with_its_levels() -> None:
    level = judge(pcm(speech(-24) + noise(N, -62)))
    assert level.verdict is Verdict.GOOD
    assert -24 < level.speech_dbfs < -12
    assert level.rms_dbfs == pytest.approx(-24, abs=1.5)
    assert level.noise_dbfs < -45
    assert level.clipped_samples == 0


def test_a_sine_has_the_levels_that_a_sine_has() -> None:
    level = judge(pcm((0.5 * np.sin(np.arange(N) * 0.1)).astype(np.float32)))
    assert level.peak_dbfs == pytest.approx(-6.02, abs=0.05)
    assert level.rms_dbfs == pytest.approx(-9.03, abs=0.05)


def test_what_is_cut_off_is_clipped() -> None:
    level = judge(pcm(speech(-24) * 20))
    assert level.verdict is Verdict.CLIPPED
    assert level.peak_dbfs == pytest.approx(0, abs=0.01)
    assert level.clipped_samples > 1000


def test_a_single_loud_sample_is_not_clipped() -> None:
    samples = speech(-24)
    samples[1000] = 1
    assert judge(pcm(samples)).verdict is Verdict.GOOD


def test_too_quiet() -> None:
    level = judge(pcm(speech(-60)))
    assert level.verdict is Verdict.QUIET
    assert level.speech_dbfs < -45


def test_noise_as_loud_as_speech() -> None:
    assert judge(pcm(speech(-24) + noise(N, -35))).verdict is Verdict.NOISY
