from __future__ import annotations

import math
import random
import sys
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli import pcm
from personaplex_cli.pcm import SILENCE_DBFS, duration_ms, is_clipped, level_dbfs, samples, silence, to_pcm

EXPLORE = settings(deadline=None, max_examples=50)
sixteen_bits = st.integers(-32768, 32767)


def sine(amplitude: float, n_samples: int = 2400) -> bytes:
    """100 whole periods of 1 kHz."""
    return to_pcm(array("h", [round(amplitude * math.sin(math.tau * i / 24)) for i in range(n_samples)]))


@pytest.mark.parametrize(
    ("block", "dbfs"),
    [
        (to_pcm(array("h", [-32768] * 480)), 0.0),
        (to_pcm(array("h", [16384, -16384] * 240)), -6.02),
        (sine(32767), -3.01),
        (sine(3276.7), -23.01),
        (to_pcm(array("h", [1] * 480)), -90.31),
        (to_pcm(array("h", [1] + [0] * 99)), SILENCE_DBFS),
        (silence(480), SILENCE_DBFS),
        (b"", SILENCE_DBFS),
    ],
    ids=["full scale", "half", "sine", "sine a tenth", "one bit", "below the floor", "silence", "nothing"],
)
def test_levels_of_known_signals(block: bytes, dbfs: float) -> None:
    assert level_dbfs(block) == pytest.approx(dbfs, abs=0.1)


@pytest.mark.parametrize("hz", [100, 440, 1000, 3400])
@pytest.mark.parametrize("block_ms", [10, 20, 80, 120])
def test_the_level_of_a_long_block_is_estimated_well(block_ms: int, hz: int) -> None:
    """Where it is not taken of every sample: of a tone with noise 20 dB below it."""
    rng = random.Random(7)
    tone = (math.sin(math.tau * hz * at / 24_000 + 1) for at in range(24 * block_ms))
    block = to_pcm(array("h", [round(8000 * (value + rng.gauss(0, 0.07))) for value in tone]))
    assert level_dbfs(block) == pytest.approx(20 * math.log10(8000 / 32768) - 3.01, abs=0.5)


@EXPLORE
@given(st.lists(sixteen_bits, max_size=50))
def test_a_level_is_a_number_between_silence_and_full_scale(values: list[int]) -> None:
    assert SILENCE_DBFS <= level_dbfs(to_pcm(array("h", values))) <= 0


@pytest.mark.parametrize(
    ("values", "clipped"),
    [
        ([], False),
        ([0] * 480, False),
        ([32_766, -32_767], False),
        ([32_767], True),
        ([-32_768], True),
        ([0] * 479 + [32_767], True),
        ([-1, 0x7F7F], False),  # the bytes of a full sample, but in two
        ([0x007F, 0x0080, -0x8000 + 0x80], False),
        ([-1, 0x7F7F, 32_767], True),
        ([0x0000, 0x0080, -32_768], True),
    ],
)
def test_clipping(values: list[int], clipped: bool) -> None:
    assert is_clipped(to_pcm(array("h", values))) is clipped


NEAR_FULL_SCALE = st.sampled_from([-32_768, -32_767, -256, -1, 0, 127, 128, 0x7F7F, 32_766, 32_767])


@EXPLORE
@given(st.lists(NEAR_FULL_SCALE, max_size=20))
def test_clipping_is_a_matter_of_samples_and_not_of_bytes(values: list[int]) -> None:
    assert is_clipped(to_pcm(array("h", values))) is any(value in (-32_768, 32_767) for value in values)


@EXPLORE
@given(st.lists(sixteen_bits, max_size=50))
def test_samples_survive_the_way_to_bytes_and_back(values: list[int]) -> None:
    assert list(samples(to_pcm(array("h", values)))) == values


def test_bytes_are_little_endian() -> None:
    assert to_pcm(array("h", [1, -2])) == b"\x01\x00\xfe\xff"
    assert list(samples(b"\x01\x00\xfe\xff")) == [1, -2]


def test_bytes_are_little_endian_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine of the other kind an array's own bytes have to be swapped, and its owner keeps it."""
    monkeypatch.setattr(sys, "byteorder", "big")
    values = array("h", [0x0102, 0x0304])
    assert to_pcm(values) == b"\x01\x02\x03\x04"
    assert list(values) == [0x0102, 0x0304]
    assert list(samples(b"\x01\x02\x03\x04")) == [0x0102, 0x0304]


def test_units_fit_together() -> None:
    assert len(silence(pcm.PACKET_SAMPLES)) == pcm.PACKET_BYTES == 960
    assert duration_ms(silence(pcm.PACKET_SAMPLES)) == pcm.PACKET_MS
    assert duration_ms(silence(pcm.STEP_SAMPLES)) == pcm.STEP_MS
    assert duration_ms(b"") == 0


def test_a_block_does_not_show_its_audio() -> None:
    assert repr(pcm.Block(b"\x01\x02", 3.0)) == "Block(at_s=3.0)"
