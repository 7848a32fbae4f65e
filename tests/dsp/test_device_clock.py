"""When callbacks should have come, from when they came."""

from __future__ import annotations

import random

import pytest

from personaplex_cli.dsp.device_clock import DeviceClock
from personaplex_cli.pcm import SAMPLE_RATE


def test_regular_callbacks_are_due_when_they_come() -> None:
    clock = DeviceClock()
    for i in range(100):
        assert clock.due_s(5 + i * 0.01, 240) == pytest.approx(5 + i * 0.01)
    assert clock.block_samples == 240


def test_callbacks_in_bursts_are_due_as_the_last_of_each() -> None:
    """A host with a buffer of 40 ms asks for four blocks at a time."""
    clock = DeviceClock()
    for i in range(400):
        now_s = i // 4 * 0.04
        due_s = clock.due_s(now_s, 240)
        if i >= 4:
            assert due_s == pytest.approx(i * 0.01 - 0.03)


def test_a_late_callback_does_not_matter() -> None:
    rng = random.Random(3)
    clock = DeviceClock()
    for i in range(500):
        due_s = clock.due_s(i * 0.01 + rng.choice((0, 0, 0.003, 0.009)), 240)
        if i >= 20:
            assert due_s == pytest.approx(i * 0.01)


def test_a_suspended_device_is_noticed_within_half_a_second() -> None:
    clock = DeviceClock()
    for i in range(300):
        due_s = clock.due_s(i * 0.01 + (5 if i >= 200 else 0), 240)
    assert due_s == pytest.approx(299 * 0.01 + 5)
    clock = DeviceClock()
    for i in range(252):
        due_s = clock.due_s(i * 0.01 + (5 if i >= 200 else 0), 240)
    assert due_s == pytest.approx(251 * 0.01 + 5)


def test_the_block_is_the_largest_lately() -> None:
    clock = DeviceClock()
    asked = 0
    for n_samples in [441, 440, 960, 441] + [441] * 80:
        clock.due_s(asked / SAMPLE_RATE, n_samples)
        asked += n_samples
        assert clock.block_samples == (
            441 if asked < 1000 else 960 if asked < 12_000 else clock.block_samples
        )
    assert clock.block_samples == 441
