"""Audio made shorter or longer: where, by how much, and that nothing else happens to it."""

from __future__ import annotations

import math
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st
from speech import clip

from personaplex_cli.dsp.fit import CUT_SHARE, Fit
from personaplex_cli.dsp.pitch import MAX_PERIOD_SAMPLES
from personaplex_cli.pcm import SAMPLE_RATE, STEP_SAMPLES, samples, silence, to_pcm

MS = SAMPLE_RATE // 1000
SLACK = 5 * MS


def tone(n_samples: int) -> bytes:
    return to_pcm(array("h", (int(8000 * math.sin(2 * math.pi * i / 200)) for i in range(n_samples))))


def fitted(fit: Fit, pcm: bytes, surplus_samples: int, n_steps: int = 1) -> int:
    """Fits `pcm` again and again, the surplus falling by what was won; how many samples remain."""
    remaining = 0
    for _ in range(n_steps):
        out = fit.fit(pcm, surplus_samples, SLACK)
        surplus_samples -= (len(pcm) - len(out)) // 2
        remaining += len(out) // 2
    return remaining


def test_silence_runs_half_as_fast_again() -> None:
    fit = Fit()
    assert fitted(fit, silence(STEP_SAMPLES), 10_000) == STEP_SAMPLES * 2 // 3
    assert (fit.removed_samples, fit.cut_samples, fit.inserted_samples) == (STEP_SAMPLES // 3, 0, 0)


def test_no_more_silence_goes_than_is_too_much() -> None:
    fit = Fit()
    assert fitted(fit, silence(STEP_SAMPLES), 200) == STEP_SAMPLES - 160  # the rest is let be
    assert fitted(fit, silence(STEP_SAMPLES), SLACK - 1) == STEP_SAMPLES


def test_silence_is_put_in_as_much_as_lacks() -> None:
    fit = Fit()
    assert fitted(fit, silence(STEP_SAMPLES), -100) == STEP_SAMPLES + 100
    assert fit.inserted_samples == 100
    assert fitted(fit, silence(STEP_SAMPLES), -10_000) == STEP_SAMPLES * 4 // 3
    assert fitted(fit, silence(STEP_SAMPLES), 1 - MS) == STEP_SAMPLES


def test_speech_is_not_touched_for_a_little_surplus() -> None:
    fit = Fit()
    step = tone(STEP_SAMPLES)
    assert fit.fit(step, 190 * MS, SLACK) == step
    assert fit.fit(step, -190 * MS, SLACK) == step


def test_speech_is_cut_by_whole_periods_when_the_surplus_is_large() -> None:
    fit = Fit()
    step = tone(10 * STEP_SAMPLES)
    out = fit.fit(step, 400 * MS, SLACK)
    assert fit.cut_samples == (len(step) - len(out)) // 2 > 0
    assert fit.cut_samples % 200 == 0
    assert (
        max(abs(a - b) for a, b in zip(samples(out), samples(step), strict=False)) <= 1
    )  # pitch and phase stay


def test_a_monologue_is_cut_for_less() -> None:
    fit = Fit()
    step = tone(STEP_SAMPLES)
    assert fitted(fit, step, 100 * MS, 25) == 25 * STEP_SAMPLES
    cut = 25 * STEP_SAMPLES - fitted(fit, step, 100 * MS, 25)
    assert 100 * MS - 3 * SLACK - 200 <= cut <= 100 * MS - 3 * SLACK + 200
    assert fitted(fit, step, 3 * SLACK, 25) == 25 * STEP_SAMPLES
    fit.fit(silence(SAMPLE_RATE), 0, SLACK)
    assert fitted(fit, step, 100 * MS, 25) == 25 * STEP_SAMPLES


def test_speech_is_cut_by_no_more_than_its_share() -> None:
    fit = Fit()
    speech = to_pcm(array("h", (int(value * 32767) for value in clip("greeting"))))
    total = len(speech) // 2
    for at in range(0, len(speech), 2 * STEP_SAMPLES):
        fit.fit(speech[at : at + 2 * STEP_SAMPLES], 10_000, SLACK)
    assert 0.05 * total < fit.cut_samples <= CUT_SHARE * total


def test_noise_is_not_cut() -> None:
    fit = Fit()
    noise = to_pcm(array("h", ((i * i * 7919) % 16_001 - 8000 for i in range(STEP_SAMPLES))))
    assert fitted(fit, noise, 10_000, 20) == 20 * STEP_SAMPLES


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([silence, tone]),
            st.sampled_from([0, 1, 119, 120, 479, 480, 481, 600, STEP_SAMPLES, 2 * STEP_SAMPLES]),
            st.integers(-5000, 30_000),
        ),
        max_size=12,
    )
)
def test_every_sample_is_accounted_for(pushes: list[tuple[object, int, int]]) -> None:
    fit = Fit()
    before = after = silent = 0
    for make, n_samples, surplus in pushes:
        pcm = silence(n_samples) if make is silence else tone(n_samples)
        out = fit.fit(pcm, surplus, SLACK)
        before += n_samples
        after += len(out) // 2
        silent += n_samples if make is silence else 0
        assert n_samples - len(out) // 2 <= max(0, surplus)
        assert n_samples - len(out) // 2 >= min(0, surplus)
    assert before == after + fit.removed_samples + fit.cut_samples - fit.inserted_samples
    assert fit.removed_samples <= silent // 3
    assert fit.cut_samples <= CUT_SHARE * (before - silent) + MAX_PERIOD_SAMPLES
