from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fakes import FakeSounddevice, FakeStream, PortAudioError, fake_device, run_virtual

from personaplex_cli import devices
from personaplex_cli.devices import BLOCK_SAMPLES
from personaplex_cli.errors import AudioError, ExitCode, PersonaplexError
from personaplex_cli.pcm import PACKET_SAMPLES, silence
from personaplex_cli.pipeline.microphone import BUFFER_BLOCKS, GRACE_S, Microphone

QUIET = silence(PACKET_SAMPLES)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    card = FakeSounddevice()
    monkeypatch.setattr(devices, "load_sounddevice", lambda: card)
    return card


def block(number: int) -> bytes:
    """10 ms of a sample that says which."""
    return number.to_bytes(2, "little") * BLOCK_SAMPLES


def now() -> float:
    return asyncio.get_running_loop().time()


Test = Callable[[Microphone, FakeStream], Coroutine[Any, Any, None]]


def run(card: FakeSounddevice, test: Test) -> None:
    """The test with a microphone that has just been started."""

    async def main() -> None:
        microphone = Microphone(fake_device())
        microphone.start(lambda error: pytest.fail(str(error)))
        await test(microphone, card.stream)
        microphone.close()

    run_virtual(main())


def test_the_stream_is_the_program_s_format_on_the_device(card: FakeSounddevice) -> None:
    Microphone(fake_device())
    [(kind, stream)] = card.opened
    wanted = {"samplerate": 24_000, "channels": 1, "dtype": "int16", "device": 7, "blocksize": 240}
    assert kind == "input"
    assert wanted.items() <= stream.options.items()
    assert stream.calls == []


def test_nothing_is_captured_before_the_start(card: FakeSounddevice) -> None:
    async def main() -> None:
        microphone = Microphone(fake_device())
        card.stream.capture(block(1))
        card.stream.capture(block(2))
        microphone.start(lambda error: None)
        assert card.stream.calls == ["start"]
        card.stream.capture(block(3))
        card.stream.capture(block(4))
        assert (await microphone.read()).pcm == block(3) + block(4)

    run_virtual(main())


def test_two_blocks_make_a_packet_at_once(card: FakeSounddevice) -> None:
    async def test(microphone: Microphone, stream: FakeStream) -> None:
        reading = asyncio.create_task(microphone.read())
        await asyncio.sleep(0.01)
        stream.capture(block(1))
        await asyncio.sleep(0.01)
        assert not reading.done()
        stream.capture(block(2))
        captured = now()
        got = await reading
        assert got.pcm == block(1) + block(2)
        assert got.at_s == captured == now()
        assert (microphone.silence_inserted, microphone.finished) == (0, False)

    run(card, test)


def test_a_burst_comes_in_order_with_the_times_it_was_captured(card: FakeSounddevice) -> None:
    async def test(microphone: Microphone, stream: FakeStream) -> None:
        times = []
        for number in range(6):
            stream.capture(block(number))
            times.append(now())
            await asyncio.sleep(0.001)
        for number in (0, 2, 4):
            got = await microphone.read()
            assert got.pcm == block(number) + block(number + 1)
            assert got.at_s == times[number + 1]

    run(card, test)


def test_a_late_device_gets_silence_put_in_after_the_grace(card: FakeSounddevice) -> None:
    async def test(microphone: Microphone, stream: FakeStream) -> None:
        began = now()
        first = await microphone.read()
        assert first.pcm == QUIET
        assert now() == pytest.approx(began + 0.02 + GRACE_S)
        for _ in range(20):
            got = await microphone.read()
            assert got.pcm == QUIET
            assert now() - got.at_s <= GRACE_S  # young enough to be sent
        assert now() == pytest.approx(began + 0.02 + GRACE_S + 20 * 0.02)
        assert microphone.silence_inserted == 21

    run(card, test)


def test_after_such_silence_only_the_newest_packet_counts(card: FakeSounddevice) -> None:
    async def test(microphone: Microphone, stream: FakeStream) -> None:
        assert (await microphone.read()).pcm == QUIET
        for number in range(9):
            stream.capture(block(number))
        # Of nine blocks the last three: two for now, and one more than a packet is not thrown away.
        assert (await microphone.read()).pcm == block(6) + block(7)
        stream.capture(block(9))
        assert (await microphone.read()).pcm == block(8) + block(9)
        assert microphone.silence_inserted == 1

    run(card, test)


def test_a_block_within_the_grace_is_waited_for(card: FakeSounddevice) -> None:
    async def test(microphone: Microphone, stream: FakeStream) -> None:
        reading = asyncio.create_task(microphone.read())
        await asyncio.sleep(0.02 + GRACE_S - 0.001)
        stream.capture(block(1))
        stream.capture(block(2))
        assert (await reading).pcm == block(1) + block(2)
        assert microphone.silence_inserted == 0

    run(card, test)


def test_the_grace_counts_anew_after_each_packet(card: FakeSounddevice) -> None:
    async def test(microphone: Microphone, stream: FakeStream) -> None:
        for number in range(10):
            await asyncio.sleep(0.055)
            stream.capture(block(number))
            stream.capture(block(number))
            assert (await microphone.read()).pcm == block(number) * 2
        assert microphone.silence_inserted == 0

    run(card, test)


def test_the_buffer_is_bounded_and_the_oldest_goes(card: FakeSounddevice) -> None:
    async def test(microphone: Microphone, stream: FakeStream) -> None:
        for number in range(BUFFER_BLOCKS + 10):
            stream.capture(block(number))
        for number in range(10, BUFFER_BLOCKS + 10, 2):
            assert (await microphone.read()).pcm == block(number) + block(number + 1)
        assert (await microphone.read()).pcm == QUIET

    run(card, test)


def test_flags_are_counted(card: FakeSounddevice) -> None:
    async def test(microphone: Microphone, stream: FakeStream) -> None:
        for status in (None, "input overflow", None, "input overflow"):
            stream.capture(block(1), status)
        assert microphone.device_flags == 2

    run(card, test)


def test_a_lost_device_is_reported_and_silence_goes_on(card: FakeSounddevice) -> None:
    async def main() -> None:
        failures: list[PersonaplexError] = []
        microphone = Microphone(fake_device())
        card.stream.lose()  # not started: nobody to tell
        microphone.start(failures.append)
        card.stream.lose()
        assert [type(error) for error in failures] == [AudioError]
        assert "microphone" in str(failures[0]) and failures[0].exit_code == ExitCode.AUDIO
        assert (await microphone.read()).pcm == QUIET
        microphone.close()
        assert len(failures) == 1

    run_virtual(main())


def test_our_own_close_is_no_loss(card: FakeSounddevice) -> None:
    async def test(microphone: Microphone, stream: FakeStream) -> None:
        microphone.close()
        assert stream.calls == ["start", "stop", "close"]
        stream.capture(block(1))  # a callback that was under way
        stream.capture(block(2))
        assert (await microphone.read()).pcm == QUIET

    run(card, test)


@pytest.mark.parametrize(
    "error", [PortAudioError("Device unavailable [PaErrorCode -9985]"), ValueError("No input\x1b[2J")]
)
def test_a_device_that_cannot_be_opened(card: FakeSounddevice, error: Exception) -> None:
    card.open_error = error
    with pytest.raises(AudioError, match="microphone 'USB Headset' cannot be opened") as caught:
        Microphone(fake_device())
    assert caught.value.exit_code == ExitCode.AUDIO
    assert "\x1b" not in str(caught.value)
    assert "--input-device" in (caught.value.hint or "")


def test_a_device_that_does_not_start(card: FakeSounddevice) -> None:
    async def main() -> None:
        microphone = Microphone(fake_device())
        card.stream.start_error = PortAudioError("Unanticipated host error")
        with pytest.raises(AudioError, match="microphone does not start") as caught:
            microphone.start(lambda error: None)
        assert caught.value.exit_code == ExitCode.AUDIO

    run_virtual(main())


def test_another_call_begins_without_what_was_captured_between_them(card: FakeSounddevice) -> None:
    async def test(microphone: Microphone, stream: FakeStream) -> None:
        for number in range(8):
            stream.capture(block(number))
        await asyncio.sleep(5)
        microphone.start(lambda error: None)
        assert stream.calls == ["start"]  # it went on all the while
        stream.capture(block(50))
        stream.capture(block(51))
        assert (await microphone.read()).pcm == block(50) + block(51)

    run(card, test)


def test_another_call_starts_a_lost_device_again(card: FakeSounddevice) -> None:
    async def main() -> None:
        microphone = Microphone(fake_device())
        microphone.start(lambda error: None)
        card.stream.lose()
        microphone.start(lambda error: None)
        assert card.stream.calls == ["start", "start"]

    run_virtual(main())
