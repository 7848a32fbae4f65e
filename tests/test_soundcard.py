"""Microphone and speaker as a call has them, on a PortAudio that is a fake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from fake_portaudio import FakeSounddevice, FakeStream, PortAudioError, listed_device, until
from fakes import Heard

from personaplex_cli import soundcard
from personaplex_cli.earcons import Earcon, tone
from personaplex_cli.echo import Deliver, Echo
from personaplex_cli.errors import AudioError, ExitCode
from personaplex_cli.events import DeviceCounters, DeviceState, PlayoutCounters
from personaplex_cli.pcm import (
    PACKET_SAMPLES,
    SAMPLE_RATE,
    STEP_PACKETS,
    STEP_SAMPLES,
    Block,
    samples,
    silence,
)
from personaplex_cli.soundcard import MicrophoneSource, SpeakerSink

STEP = b"\1\1" * STEP_SAMPLES
QUIET = silence(PACKET_SAMPLES)


class Stamped(Echo):
    """Nothing is done, but stamps are asked for: so the device calls, on the test's own thread."""

    needs_stamps = True


class Listening(Stamped):
    """Does something about echo that can be seen, and keeps what it is told."""

    def __init__(self) -> None:
        self.played_blocks: list[tuple[bytes, float]] = []
        self.heard_blocks: list[Block] = []
        self.tell: Callable[[str], None] | None = None
        self.ducking = False
        self.closed = 0

    @property
    def blocks_dropped(self) -> int:
        return 7

    def start(self, tell: Callable[[str], None]) -> None:
        self.tell = tell

    def captures(self, deliver: Deliver) -> Deliver:
        return lambda pcm, at_s: deliver(pcm[::-1], at_s)

    def played(self, pcm: bytes, heard_s: float) -> None:
        self.played_blocks.append((pcm, heard_s))

    def heard(self, block: Block) -> None:
        self.heard_blocks.append(block)

    def ducks(self) -> bool:
        return self.ducking

    def close(self) -> None:
        self.closed += 1


# --- the microphone


def with_microphone(test: Callable[[MicrophoneSource, Heard], Coroutine[Any, Any, None]], echo: Echo) -> None:
    """The test with a microphone that has just been started."""

    async def main() -> None:
        source, heard = MicrophoneSource(None, None, echo), Heard()
        source.start(heard.reports)
        try:
            await test(source, heard)
        finally:
            source.close()

    asyncio.run(main())


def capture(device: FakeStream, number: int) -> None:
    """A step of its own number, in blocks of 10 ms."""
    for _ in range(8):
        device.capture(number.to_bytes(2, "little") * (STEP_SAMPLES // 8), age_s=0.01)


async def read_step(source: MicrophoneSource) -> bytes:
    return b"".join([(await source.read()).pcm for _ in range(STEP_PACKETS)])


def test_the_microphone_is_opened_at_once_and_starts_with_the_call(card: FakeSounddevice) -> None:
    async def main() -> None:
        source = MicrophoneSource("headset", None, Stamped())
        [(kind, device)] = card.opened
        assert (kind, device.options["device"], device.calls) == ("input", 0, [])
        capture(device, 1)
        source.start(Heard().reports)
        assert device.calls == ["start"]
        capture(device, 2)
        assert await read_step(source) == b"\2\0" * STEP_SAMPLES  # not what was before the call
        source.close()

    asyncio.run(main())


def test_a_channel_is_listened_to_alone(card: FakeSounddevice) -> None:
    card.present = [listed_device("Interface", inputs=8)]
    card._initialize()

    async def main() -> None:
        source = MicrophoneSource(None, 3, Stamped())
        source.start(Heard().reports)
        assert card.stream.options["channels"] == 8
        card.stream.capture(b"".join(bytes([n, 0]) for n in range(8)) * STEP_SAMPLES)
        assert await read_step(source) == b"\2\0" * STEP_SAMPLES
        source.close()

    asyncio.run(main())


def test_packets_come_with_the_time_that_they_were_captured(card: FakeSounddevice) -> None:
    async def test(source: MicrophoneSource, heard: Heard) -> None:
        before_s = time.monotonic()
        capture(card.stream, 5)
        after_s = time.monotonic()
        blocks = [await source.read() for _ in range(STEP_PACKETS)]
        assert b"".join(block.pcm for block in blocks) == b"\5\0" * STEP_SAMPLES
        assert before_s - 1e-6 <= blocks[-1].at_s <= after_s + 1e-6  # it ended when it was given

    with_microphone(test, Stamped())


def test_what_is_done_about_echo_stands_between_device_and_call(card: FakeSounddevice) -> None:
    echo = Listening()

    async def test(source: MicrophoneSource, heard: Heard) -> None:
        capture(card.stream, 0x0102)
        block = await source.read()
        assert block.pcm == b"\1\2" * PACKET_SAMPLES  # turned round
        assert echo.heard_blocks == [block]
        echo.ducking = True
        assert (await source.read()).pcm == QUIET
        assert echo.heard_blocks[1].pcm == block.pcm  # which is told what comes, not what is let through
        assert echo.tell is not None
        echo.tell("There is an echo.")
        assert heard.notices == ["There is an echo."]
        assert source.echo_blocks_dropped == 7

    with_microphone(test, echo)
    assert echo.closed == 1


def test_the_gate_is_the_user_s(card: FakeSounddevice) -> None:
    async def test(source: MicrophoneSource, heard: Heard) -> None:
        source.gate.muted = True
        capture(card.stream, 5)
        assert (await source.read()).pcm == QUIET

    with_microphone(test, Stamped())


def test_a_microphone_that_is_lost_is_told_and_silence_goes_on(card: FakeSounddevice) -> None:
    async def test(source: MicrophoneSource, heard: Heard) -> None:
        card.open_error = PortAudioError("Device unavailable", -9985)
        card.stream.lose()
        assert await read_step(source) == silence(STEP_SAMPLES)
        assert source.silence_inserted == STEP_PACKETS
        until(lambda: heard.devices)
        assert heard.devices == [("microphone", DeviceState.LOST, "USB Headset")]
        assert heard.failures == []

    with_microphone(test, Stamped())


def test_another_microphone_can_be_asked_for(card: FakeSounddevice) -> None:
    async def test(source: MicrophoneSource, heard: Heard) -> None:
        source.use_device("organ")
        until(lambda: heard.devices)
        role, state, why = heard.devices[0]
        assert (role, state) == ("microphone", DeviceState.REFUSED) and "organ" in why
        source.use_device("headset")
        until(lambda: len(heard.devices) == 2)
        assert heard.devices[1] == ("microphone", DeviceState.CHANGED, "USB Headset")
        assert source.device.restarts == 1

    with_microphone(test, Stamped())


def test_each_call_hears_of_the_device_that_it_uses(card: FakeSounddevice) -> None:
    async def test(source: MicrophoneSource, first: Heard) -> None:
        capture(card.stream, 1)
        second = Heard()
        source.start(second.reports)
        assert card.stream.calls == ["start"]
        capture(card.stream, 2)
        assert await read_step(source) == b"\2\0" * STEP_SAMPLES
        card.stream.lose()
        until(lambda: len(second.devices) == 2)
        assert first.devices == []

    with_microphone(test, Stamped())


def test_a_bug_ends_the_call(card: FakeSounddevice) -> None:
    class Broken(Stamped):
        def captures(self, deliver: Deliver) -> Deliver:
            return lambda pcm, at_s: [][1]

    async def test(source: MicrophoneSource, heard: Heard) -> None:
        capture(card.stream, 1)
        assert [type(error) for error in heard.failures] == [IndexError]

    with_microphone(test, Broken())


def test_what_the_microphone_s_device_counts(card: FakeSounddevice) -> None:
    async def test(source: MicrophoneSource, heard: Heard) -> None:
        assert source.device == DeviceCounters()
        for status in (None, "input overflow", None, "input overflow"):
            card.stream.capture(bytes(480), status)
        assert source.device.flagged == 2
        for _ in range(250):
            card.stream.capture(bytes(480))
        assert source.packets_dropped > 50  # nobody reads

    with_microphone(test, Stamped())


def test_without_a_need_for_stamps_a_step_is_read_at_a_time(card: FakeSounddevice) -> None:
    async def test(source: MicrophoneSource, heard: Heard) -> None:
        assert "callback" not in card.stream.options
        card.stream.capture(b"\7\0" * STEP_SAMPLES)
        while (step := await read_step(source)) == silence(STEP_SAMPLES):
            pass
        assert step == b"\7\0" * STEP_SAMPLES

    with_microphone(test, Echo())


def test_devices_that_do_not_open_or_start(card: FakeSounddevice) -> None:
    async def main() -> None:
        source = MicrophoneSource(None, None, Stamped())
        card.stream.start_error = PortAudioError("Unanticipated host error")
        with pytest.raises(AudioError, match="microphone does not start"):
            source.start(Heard().reports)
        source.close()

    asyncio.run(main())
    card.open_error = PortAudioError("Device unavailable\x1b", -9985)
    for opening in (
        lambda: MicrophoneSource(None, None, Stamped()),
        lambda: SpeakerSink(None, 400, Stamped()),
    ):
        with pytest.raises(AudioError, match="'USB Headset' cannot be opened") as caught:
            opening()
        assert caught.value.exit_code == ExitCode.AUDIO and "\x1b" not in str(caught.value)


# --- the speaker


class Clock:
    """What the speaker takes for time. `play` is 10 ms of its device."""

    def __init__(self, card: FakeSounddevice) -> None:
        self._card = card
        self.now_s = 100.0
        self.slept: list[float] = []

    def play(self, n_blocks: int = 1, status: object = None) -> bytes:
        heard = b""
        for _ in range(n_blocks):
            heard += self._card.stream.play(SAMPLE_RATE // 100, status, ahead_s=0.02)
            self.now_s += 0.01
        return heard


@pytest.fixture
def clock(card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(card)
    time_of_the_test = SimpleNamespace(monotonic=lambda: clock.now_s, sleep=clock.slept.append)
    monkeypatch.setattr(soundcard, "time", time_of_the_test)
    return clock


def stall(sink: SpeakerSink, clock: Clock) -> None:
    """Nothing comes for three seconds, then all of it at once."""
    clock.play(300)
    for _ in range(40):
        clock.now_s += 1e-4
        sink.write(STEP, clock.now_s)
    clock.play(3)


def started(echo: Echo | None = None, heard: Heard | None = None) -> SpeakerSink:
    sink = SpeakerSink(None, 400, echo or Echo())
    sink.start((heard or Heard()).reports)
    return sink


def test_the_speaker_plays_what_is_written(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    assert not any(clock.play(10))
    sink.write(STEP, clock.now_s)
    assert samples(clock.play(20)).count(0x0101) >= STEP_SAMPLES - 240  # but for a fade at each end
    assert (sink.written, sink.playout.underruns, sink.playout.dropped_ms) == (None, 0, 0)


def test_how_much_has_not_been_heard(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    assert sink.lag_ms == 1000 * FakeStream.latency
    sink.write(STEP, clock.now_s)
    sink.write(STEP, clock.now_s)
    assert sink.lag_ms == pytest.approx(160 + 1000 * FakeStream.latency)
    clock.play(50)
    assert sink.lag_ms == 1000 * FakeStream.latency


def test_what_is_played_is_told_to_whoever_cares_about_echo(card: FakeSounddevice, clock: Clock) -> None:
    echo = Listening()
    sink = started(echo)
    sink.write(STEP, clock.now_s)
    before_s = time.monotonic()
    heard = clock.play(20)
    assert b"".join(pcm for pcm, _ in echo.played_blocks) == heard
    assert all(
        before_s + 0.02 - 1e-6 <= heard_s <= time.monotonic() + 0.02 for _, heard_s in echo.played_blocks
    )


def test_what_became_of_the_agent_s_audio_is_counted(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    sink.write(STEP, clock.now_s)
    clock.play(30, "output underflow")
    stall(sink, clock)
    counted = sink.playout
    assert counted.underruns == 1 and 0 < counted.concealed_ms <= 60
    assert 1000 < counted.dropped_ms < 3200
    assert sink.device.flagged == 30


def test_each_call_gets_an_empty_buffer_and_counters_of_its_own(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    for _ in range(2):
        sink.start(Heard().reports)
        assert sink.playout == PlayoutCounters()
        assert not any(clock.play(10))
        sink.write(STEP, clock.now_s)
        clock.play(5)
        stall(sink, clock)
        assert sink.playout.dropped_ms > 0 and sink.lag_ms > 50
    assert card.stream.calls == ["start"]


def test_what_is_held_beyond_need_can_be_skipped(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    sink.write(STEP, clock.now_s)
    clock.play(80)
    for _ in range(10):  # what should have come meanwhile
        clock.now_s += 1e-4
        sink.write(STEP, clock.now_s)
    clock.play(2)
    held_ms = sink.lag_ms
    sink.flush()
    clock.play(2)
    assert sink.lag_ms < held_ms - 200
    assert sink.playout.dropped_ms > 200


def test_closing_waits_until_what_is_held_was_heard(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    sink.write(STEP, clock.now_s)
    sink.close()
    sink.close()
    assert clock.slept == [pytest.approx(0.08 + FakeStream.latency)]
    assert card.stream.calls == ["start", "stop", "close"]


def test_closing_waits_no_longer_than_the_buffer_may_hold(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    for _ in range(100):
        sink.write(STEP, clock.now_s)
    sink.close()
    assert clock.slept == [0.4]


def test_the_agent_is_as_loud_as_is_wanted_in_each_call(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    sink.volume.percent = 50
    for _ in range(2):
        sink.start(Heard().reports)
        sink.write(STEP, clock.now_s)
        heard = samples(clock.play(20))
        assert heard.count(0x0101 // 4) >= STEP_SAMPLES - 240 and max(heard) == 0x0101 // 4


def test_a_tone_is_heard_when_there_is_nothing_else(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    assert not any(clock.play(1))
    sink.play_earcon(Earcon.MUTED)
    assert clock.play(12) == tone(Earcon.MUTED)
    assert not any(clock.play(1))


def test_a_tone_is_heard_whatever_the_agent_s_volume(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    sink.volume.percent = 0
    clock.play(2)
    sink.write(STEP, clock.now_s)
    sink.play_earcon(Earcon.WARNING)
    assert clock.play(22) == tone(Earcon.WARNING)


def test_echo_is_that_of_what_is_really_played(card: FakeSounddevice, clock: Clock) -> None:
    echo = Listening()
    sink = started(echo)
    sink.volume.percent = 50
    sink.play_earcon(Earcon.MUTED)
    heard = clock.play(2)
    sink.write(STEP, clock.now_s)
    heard += clock.play(20)
    assert b"".join(pcm for pcm, _ in echo.played_blocks) == heard
    parts = zip(samples(heard), samples(tone(Earcon.MUTED)), strict=False)
    assert {mixed - added for mixed, added in parts} >= {0, 0x0101 // 4}  # before the agent speaks, and then


def test_closing_waits_until_a_tone_was_heard(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    sink.play_earcon(Earcon.MUTED)
    clock.play(3)
    sink.close()
    assert clock.slept == [pytest.approx(0.09 + FakeStream.latency)]


def test_tones_and_the_agent_are_waited_for_together(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    clock.play(1)
    sink.write(STEP * 2, clock.now_s)
    sink.play_earcon(Earcon.MUTED)
    sink.close()
    assert clock.slept == [pytest.approx(0.16 + FakeStream.latency)]


def test_closing_waits_for_many_tones_only_so_long(card: FakeSounddevice, clock: Clock) -> None:
    sink = started()
    clock.play(1)
    for _ in range(4):
        sink.play_earcon(Earcon.WARNING)
    sink.close()
    assert clock.slept == [0.5]


@pytest.mark.parametrize("n_blocks", [0, 1])
def test_closing_does_not_wait_for_tones_that_no_device_asks_for(
    card: FakeSounddevice, clock: Clock, n_blocks: int
) -> None:
    sink = started()
    clock.play(n_blocks)
    sink.play_earcon(Earcon.ENDED)
    clock.now_s += 0.5
    sink.close()
    assert clock.slept == [FakeStream.latency]


def test_a_speaker_that_is_lost_is_told_and_comes_back(card: FakeSounddevice) -> None:
    heard = Heard()
    sink = started(heard=heard)
    card.stream.lose()
    until(lambda: len(heard.devices) == 2)
    assert heard.devices == [
        ("speaker", DeviceState.LOST, "USB Headset"),
        ("speaker", DeviceState.BACK, "USB Headset"),
    ]
    sink.use_device("headset")
    until(lambda: len(heard.devices) == 3)
    assert heard.devices[2] == ("speaker", DeviceState.CHANGED, "USB Headset")
    assert sink.device.restarts == 2 and heard.failures == []
    sink.close()
