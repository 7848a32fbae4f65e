"""What is heard of oneself: when, how loud, through which codec, and what is said about it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from fakes import FakeSink, FakeSource, run_virtual
from ogg_pages import RATE, STEP, Samples, likeness, rms_dbfs, to_pcm, to_samples
from speech import question

from personaplex_cli.call import Call, Opening
from personaplex_cli.cli import rehearsal
from personaplex_cli.codec.opus import OpusEncoder
from personaplex_cli.events import CallEnded, EndReason, Levels, MicrophoneChanged
from personaplex_cli.limits import Limits
from personaplex_cli.loopback import Loopback, Loudness, whole_steps
from personaplex_cli.pcm import PACKET_BYTES, PACKET_SAMPLES, SILENCE_DBFS, Block, silence
from personaplex_cli.pipeline.websocket import SocketClosed

AGE_S = 0.5
"""More than the encoder lets pass."""


class Voice(FakeSource):
    """Says `samples`. Blocks whose number is in `late` come too late to be sent; all are 20 ms apart."""

    def __init__(self, samples: Samples, late: range = range(0)) -> None:
        pcm = to_pcm(samples)
        self._blocks = [pcm[at : at + PACKET_BYTES] for at in range(0, len(pcm), PACKET_BYTES)]
        super().__init__(ends_after=len(self._blocks))
        self._late = late
        self.spoken_s: list[float] = []
        """When each block had been."""

    async def read(self) -> Block:
        number = self.given
        block = await super().read()
        self.spoken_s.append(block.at_s)
        pcm = self._blocks[number] if number < len(self._blocks) else silence(PACKET_SAMPLES)
        age_s = AGE_S if number in self._late else 0.0
        return Block(pcm.ljust(PACKET_BYTES, b"\0"), block.at_s - age_s)


class Ear(FakeSink):
    """Knows when each part of what it heard came."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[int, float]] = []
        """Up to which sample, and when."""

    def write(self, pcm: bytes, arrived_s: float) -> None:
        super().write(pcm, arrived_s)
        self.parts.append((len(self.heard) // 2, arrived_s))

    @property
    def samples(self) -> Samples:
        return to_samples(bytes(self.heard))

    def came_s(self, sample: int) -> float:
        return next(at_s for end, at_s in self.parts if sample < end)


def hear(source: Voice, delay_steps: int) -> tuple[Ear, CallEnded]:
    """What is heard of `source` until it is over."""
    sink = Ear()

    async def main() -> CallEnded:
        async def connect() -> Loopback:
            return Loopback(delay_steps, lambda: source.finished, end)

        def end() -> None:
            call.hang_up(EndReason.INPUT_ENDED)

        limits = Limits(max_duration_s=60, idle_s=None, tail_s=60)
        call = Call(connect, source, sink, lambda event: None, limits=limits, opening=Opening())
        return await call.run()

    return sink, run_virtual(main())


@pytest.mark.parametrize("delay_steps", [6, 25, 125])
def test_speech_comes_back_so_many_steps_later(delay_steps: int) -> None:
    sink, ended = hear(Voice(question()), delay_steps)
    heard = sink.samples
    like, at_s = likeness(question(), heard)
    assert like > 0.95
    assert round(at_s * RATE) == delay_steps * STEP + OpusEncoder().lookahead_samples
    assert rms_dbfs(heard[: delay_steps * STEP]) < -90
    assert ended.reason is EndReason.INPUT_ENDED and ended.error is None
    counters = ended.counters
    assert counters.packets_dropped == counters.holes == counters.resyncs == counters.packets_bad == 0


def test_it_goes_on_until_the_end_of_the_input_has_been_heard_and_no_longer() -> None:
    voice = question()[: 10 * STEP]
    sink, ended = hear(Voice(voice), 25)
    n_steps = len(sink.heard) / 2 / STEP
    assert 10 + 25 < n_steps <= 10 + 25 + 3
    assert ended.live_s == pytest.approx((10 + 25) * 0.08, abs=0.2)


def test_a_tone_keeps_its_pitch_and_its_level() -> None:
    tone = (0.25 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)
    sink, _ = hear(Voice(tone), 25)
    heard = sink.samples[25 * STEP + RATE // 2 :][:RATE]
    assert np.argmax(np.abs(np.fft.rfft(heard * np.hanning(RATE)))) == 440
    assert rms_dbfs(heard) == pytest.approx(rms_dbfs(tone), abs=0.5)


def test_silence_stays_silence() -> None:
    sink, _ = hear(Voice(np.zeros(RATE, np.float32)), 6)
    assert np.abs(sink.samples).max() <= 2 / 32768


def test_it_has_been_through_opus() -> None:
    """Which keeps what is heard of noise, and not its waves."""
    noise = np.random.default_rng(1).uniform(-0.2, 0.2, RATE).astype(np.float32)
    sink, _ = hear(Voice(noise), 6)
    heard = sink.samples
    like, _ = likeness(noise, heard)
    assert 0.3 < like < 0.99


@pytest.mark.parametrize("lost", [0, 52])
def test_by_the_clock_it_is_as_late_as_was_asked_for_also_after_a_stall(lost: int) -> None:
    """The first `lost` blocks after a second come too late to be sent, which is counted. When the sink is
    given what was spoken after that, its beginning is just as old as it should be."""
    before, between = 52, 60
    clap = before + lost + between
    voice = np.zeros((clap + 8) * PACKET_SAMPLES, np.float32)
    voice[clap * PACKET_SAMPLES :][:STEP] = question()[:STEP]
    source = Voice(voice, late=range(before, before + lost))
    sink, ended = hear(source, 10)
    assert ended.counters.packets_dropped == lost
    like, at_s = likeness(question()[:STEP], sink.samples)
    assert like > 0.9
    begun_s = source.spoken_s[clap] - 0.02
    assert sink.came_s(round(at_s * RATE)) - begun_s == pytest.approx(10 * 0.08, abs=0.001)


def test_who_closes_in_order_is_heard_to_the_last_and_who_aborts_is_not() -> None:
    async def main(leave: str) -> int:
        loopback = Loopback(2, lambda: False, lambda: None)
        if leave == "close":
            await loopback.close()
        else:
            loopback.abort()
        n_messages = 0
        with pytest.raises(SocketClosed):
            while await loopback.receive():
                n_messages += 1
        return n_messages

    assert [asyncio.run(main("close")), asyncio.run(main("abort"))] == [1, 0]


@pytest.mark.parametrize(("delay_s", "n_steps"), [(0.5, 6), (2.0, 25), (2.03, 25), (2.05, 26), (10.0, 125)])
def test_the_delay_is_a_whole_number_of_steps(delay_s: float, n_steps: int) -> None:
    assert whole_steps(delay_s) == n_steps


# --- how loud it was


def loudness_lines(loudness: Loudness) -> list[str]:
    return rehearsal.loudness_lines(loudness, microphone=True)


def measured(*readings: tuple[float, bool]) -> Loudness:
    loudness = Loudness()
    for number, (dbfs, clipped) in enumerate(readings):
        loudness.listen(Levels(number / 10, dbfs, -10.0, clipped))
    return loudness


ROOM = [(-60.0, False)] * 30
SPEECH = [(-30.0, False), (-20.0, False), (-25.0, False)] * 20


def test_what_is_said_of_somebody_who_speaks_in_a_room() -> None:
    text = "Your level: loudest -20 dBFS, usually -25 dBFS, noise -60 dBFS; nothing clipped."
    assert loudness_lines(measured(*ROOM, *SPEECH)) == [text]


def test_a_device_that_has_not_begun_is_no_quiet_room() -> None:
    begun = [(SILENCE_DBFS, False)] * 40
    assert measured(*begun, *ROOM, *SPEECH).noise_dbfs == -60


def test_where_pauses_are_digital_silence_nothing_is_said_of_noise() -> None:
    gated = measured(*ROOM[:1], *SPEECH, *[(SILENCE_DBFS, False)] * 40)
    assert gated.noise_dbfs is None
    assert loudness_lines(gated) == ["Your level: loudest -20 dBFS, usually -25 dBFS; nothing clipped."]


def test_clipping_is_told_with_what_to_do() -> None:
    (line,) = loudness_lines(measured(*ROOM, *SPEECH, (-3.0, True), (-2.0, True)))
    assert line.endswith("clipped for 0.2 s: turn the microphone down.")


def test_somebody_too_quiet_is_told_so() -> None:
    (line,) = loudness_lines(measured(*ROOM, (-48.0, False)))
    assert "too quiet to be taken for speech" in line and "usually" not in line


def test_nothing_but_zeros_is_called_that() -> None:
    zeros = measured(*[(SILENCE_DBFS, False)] * 30)
    assert loudness_lines(zeros) == [rehearsal.ALL_ZERO]
    assert rehearsal.loudness_lines(zeros, microphone=False) == ["The input was nothing but zeros."]


def test_nothing_is_said_of_what_was_not_measured() -> None:
    loudness = Loudness()
    loudness.listen(MicrophoneChanged(0.0, muted=True, push_to_talk=False, talking=False))
    loudness.listen(Levels(0.1, SILENCE_DBFS, SILENCE_DBFS))
    assert loudness_lines(loudness) == []
    loudness.listen(MicrophoneChanged(0.2, muted=False, push_to_talk=False, talking=False))
    loudness.listen(Levels(0.3, -30.0, SILENCE_DBFS))
    assert loudness_lines(loudness) != []
