"""Conversion between a device's format and the program's, with signals whose every property is known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fake_portaudio import fake_device

from personaplex_cli.devices.device import Kind
from personaplex_cli.devices.format import StreamFormat, captured, formats, rendered
from personaplex_cli.errors import AudioError
from personaplex_cli.pcm import SAMPLE_RATE

Samples = npt.NDArray[np.int16]

RATES = [8_000, 16_000, 44_100, 48_000]
HZ = 440.0
AMPLITUDE = 8000.0
DURATION_S = 1.5
DELAY_LIMIT_S = {8_000: 0.045, 16_000: 0.025, 44_100: 0.025, 48_000: 0.025}
"""How much a conversion may hold back, for each rate of a device. What soxr gives comes in portions."""
BLOCK_SIZES = (1, 7, 441, 113, 1024, 480, 239)


def signal(rate_hz: int, duration_s: float = DURATION_S) -> Samples:
    """A tone that begins with half a second of a rising one, which tells where it is."""
    t = np.arange(round(rate_hz * duration_s)) / rate_hz
    rising = np.sin(2 * np.pi * (200 * t + 1000 * t**2))
    return np.asarray(np.round(AMPLITUDE * np.where(t < 0.5, rising, np.sin(2 * np.pi * HZ * t))), np.int16)


def blocks(samples: Samples) -> Iterator[Samples]:
    at = 0
    for size in itertools.cycle(BLOCK_SIZES):
        if at >= len(samples):
            return
        yield samples[at : at + size]
        at += size


def level_db(samples: Samples, rate_hz: int) -> float:
    """Of exactly 440 Hz, in decibels against the amplitude that it began with: 1 Hz beside it, almost nothing
    would be left of a second."""
    angles = 2 * np.pi * HZ * np.arange(len(samples)) / rate_hz
    found = 2 * np.abs(np.mean(samples * np.exp(1j * angles)))
    return float(20 * np.log10(found / AMPLITUDE))


def offset_s(heard: Samples, meant: Samples, rate_hz: int) -> float:
    """How much later `heard` has what `meant` has."""
    size = 2 * max(len(heard), len(meant))
    spectrum = np.fft.rfft(heard.astype(float), size) * np.conj(np.fft.rfft(meant.astype(float), size))
    at = int(np.argmax(np.fft.irfft(spectrum, size)))
    return (at if at < size / 2 else at - size) / rate_hz


def assert_the_same(heard: Samples, rate_hz: int, held_back_s: float = 0.0) -> None:
    """As the signal at that rate: length, time, frequency and level."""
    meant = signal(rate_hz)
    assert 0 <= (len(meant) - len(heard)) / rate_hz <= held_back_s
    assert offset_s(heard, meant, rate_hz) == pytest.approx(0.0, abs=0.001)
    assert abs(level_db(heard[round(0.6 * rate_hz) : round(1.4 * rate_hz)], rate_hz)) < 0.5


# --- from a device


def captured_from(format: StreamFormat, block: Samples) -> Samples:
    return np.frombuffer(captured(format)(block.tobytes()), np.int16)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", RATES)
def test_a_signal_of_any_rate_comes_at_ours(rate_hz: int, channels: int) -> None:
    convert = captured(StreamFormat(rate_hz, channels))
    heard = bytearray()
    n_given = 0
    for block in blocks(signal(rate_hz)):
        heard += convert(np.repeat(block, channels).tobytes())
        n_given += len(block)
        assert n_given / rate_hz - len(heard) / 2 / SAMPLE_RATE < DELAY_LIMIT_S[rate_hz]
    assert_the_same(np.frombuffer(heard, np.int16), SAMPLE_RATE, DELAY_LIMIT_S[rate_hz])


def test_our_own_format_is_left_as_it_is() -> None:
    convert = captured(StreamFormat())
    pcm = signal(SAMPLE_RATE).tobytes()
    assert convert(memoryview(pcm)) == pcm
    block = bytearray(b"\1\2")
    kept = convert(block)
    block[:] = b"\3\4"  # the host takes its buffer back
    assert kept == b"\1\2"


def test_stereo_becomes_the_mean_of_both_sides() -> None:
    stereo = np.array([[100, 300], [-100, 100], [32767, 32767], [-32768, -32768]], np.int16)
    assert captured_from(StreamFormat(channels=2), stereo).tolist() == [200, 0, 32767, -32768]


def test_of_more_than_two_channels_the_first_is_taken() -> None:
    many = np.arange(24, dtype=np.int16).reshape(3, 8)
    assert captured_from(StreamFormat(channels=8), many).tolist() == [0, 8, 16]


@pytest.mark.parametrize("chosen", range(8))
def test_the_chosen_channel_alone_is_listened_to(chosen: int) -> None:
    many = np.arange(24, dtype=np.int16).reshape(3, 8)
    heard = captured_from(StreamFormat(channels=8, chosen=chosen), many)
    assert heard.tolist() == [chosen, chosen + 8, chosen + 16]


def test_the_right_side_of_a_stereo_device_that_is_also_converted() -> None:
    convert = captured(StreamFormat(48_000, 2, 1))
    right = signal(48_000)
    heard = b"".join(
        convert(np.stack([np.full_like(block, 20_000), block], axis=1).tobytes()) for block in blocks(right)
    )
    assert_the_same(np.frombuffer(heard, np.int16), SAMPLE_RATE, DELAY_LIMIT_S[48_000])


# --- to a device


class Agent:
    """Gives the signal at our rate, as much as is asked for each time."""

    def __init__(self) -> None:
        self._pcm = signal(SAMPLE_RATE, DURATION_S + 1).tobytes()
        self.n_given = 0

    def pull(self, n_samples: int) -> bytes:
        assert n_samples > 0
        at = 2 * self.n_given
        self.n_given += n_samples
        return self._pcm[at : at + 2 * n_samples]


@pytest.mark.parametrize("rate_hz", RATES)
def test_our_signal_comes_at_any_rate(rate_hz: int) -> None:
    agent = Agent()
    convert = rendered(StreamFormat(rate_hz, 1), agent.pull)
    heard = bytearray()
    for block in blocks(signal(rate_hz)):
        pcm = convert(len(block))
        assert len(pcm) == 2 * len(block)
        heard += pcm
        held_s = agent.n_given / SAMPLE_RATE - len(heard) / 2 / rate_hz
        assert held_s < DELAY_LIMIT_S[rate_hz]
    assert_the_same(np.frombuffer(heard, np.int16), rate_hz)


def test_in_our_own_format_nothing_stands_between() -> None:
    agent = Agent()
    assert rendered(StreamFormat(), agent.pull) == agent.pull


@pytest.mark.parametrize("rate_hz", [24_000, 48_000])
@pytest.mark.parametrize("channels", [2, 8])
def test_two_channels_play_and_others_are_silent(channels: int, rate_hz: int) -> None:
    convert = rendered(StreamFormat(rate_hz, channels), Agent().pull)
    heard = np.frombuffer(
        b"".join(convert(len(block)) for block in blocks(signal(rate_hz))), np.int16
    ).reshape(-1, channels)
    assert_the_same(heard[:, 0], rate_hz)
    assert np.array_equal(heard[:, 0], heard[:, 1])
    assert not heard[:, 2:].any()


# --- what is tried


def tried(kind: Kind, channel: int | None = None, **channels: Any) -> list[tuple[int, int, int | None]]:
    found = formats(kind, fake_device(**channels), channel)
    return [(format.rate_hz, format.channels, format.chosen) for format in found]


def test_our_own_format_is_tried_first_then_the_device_s_rate_then_usual_ones() -> None:
    assert tried("input", inputs=1) == [
        (24_000, 1, None),
        (24_000, 2, None),
        (48_000, 1, None),
        (48_000, 2, None),
        (44_100, 1, None),
        (44_100, 2, None),
    ]


def test_a_microphone_with_many_channels_is_also_tried_with_all() -> None:
    assert [channels for _, channels, _ in tried("input", inputs=8)[:3]] == [1, 8, 2]


@pytest.mark.parametrize("outputs", [1, 2, 8])
def test_a_speaker_is_tried_in_mono_and_in_stereo(outputs: int) -> None:
    assert [channels for _, channels, _ in tried("output", outputs=outputs)] == [1, 2] * 3


@pytest.mark.parametrize("channel", [1, 2, 3, 8])
def test_a_chosen_channel_is_in_every_format_that_is_tried(channel: int) -> None:
    found = tried("input", channel, inputs=8)
    assert found[0] == (24_000, 8, channel - 1)
    assert all(chosen == channel - 1 < channels for _, channels, chosen in found)


@pytest.mark.parametrize(("inputs", "words"), [(1, "one channel"), (2, "2 channels")])
def test_a_channel_that_is_not_there(inputs: int, words: str) -> None:
    with pytest.raises(AudioError, match=f"'USB Headset' has {words}; there is no channel 3") as caught:
        tried("input", 3, inputs=inputs)
    assert "--input-channel" in (caught.value.hint or "")
