"""From portions of a device's thread to packets on the loop, a step at a time, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fakes import run_virtual

from personaplex_cli.pcm import (
    PACKET_BYTES,
    PACKET_SAMPLES,
    SAMPLE_RATE,
    STEP_PACKETS,
    STEP_S,
    STEP_SAMPLES,
    silence,
)
from personaplex_cli.pipeline.microphone import BUFFER_BLOCKS, GRACE_S, Microphone

QUIET = silence(PACKET_SAMPLES)
QUIET_STEP = silence(STEP_SAMPLES)
BLOCK_SAMPLES = SAMPLE_RATE // 100
BLOCK_S = 0.01
STEP_BLOCKS = STEP_SAMPLES // BLOCK_SAMPLES


def block(number: int) -> bytes:
    """10 ms of a sample that says which."""
    return number.to_bytes(2, "little") * BLOCK_SAMPLES


def step(first: int) -> bytes:
    return b"".join(map(block, range(first, first + STEP_BLOCKS)))


def now() -> float:
    return asyncio.get_running_loop().time()


def capture(microphone: Microphone, *numbers: int) -> None:
    """What a device does the moment it has a block."""
    for number in numbers:
        microphone.captured(block(number), now() - BLOCK_S)


async def read_step(microphone: Microphone) -> tuple[bytes, list[float]]:
    """PCM, and the times of its packets; all but the first come at once."""
    blocks = [await microphone.read()]
    at_s = now()
    blocks += [await microphone.read() for _ in range(STEP_PACKETS - 1)]
    assert now() == at_s
    assert {len(block.pcm) for block in blocks} == {PACKET_BYTES}
    return b"".join(block.pcm for block in blocks), [block.at_s for block in blocks]


Test = Callable[[Microphone], Coroutine[Any, Any, None]]


def run(test: Test) -> None:
    """The test with a microphone that has just been started."""

    async def main() -> None:
        microphone = Microphone()
        microphone.start()
        await test(microphone)
        microphone.close()

    run_virtual(main())


def test_nothing_is_captured_before_the_start() -> None:
    async def main() -> None:
        microphone = Microphone()
        capture(microphone, *range(STEP_BLOCKS))
        microphone.start()
        capture(microphone, *range(10, 10 + STEP_BLOCKS))
        assert (await read_step(microphone))[0] == step(10)

    run_virtual(main())


def test_a_step_comes_as_soon_as_it_is_captured() -> None:
    async def test(microphone: Microphone) -> None:
        reading = asyncio.create_task(microphone.read())
        for number in range(STEP_BLOCKS):
            assert not reading.done()
            await asyncio.sleep(BLOCK_S)
            capture(microphone, number)
        captured_s = now()
        first = await reading
        assert first.pcm == step(0)[:PACKET_BYTES] and first.at_s == pytest.approx(captured_s - 3 * 0.02)
        assert now() == captured_s
        rest = [await microphone.read() for _ in range(STEP_PACKETS - 1)]
        assert b"".join(block.pcm for block in rest) == step(0)[PACKET_BYTES:]
        assert rest[-1].at_s == pytest.approx(captured_s) and now() == captured_s
        assert microphone.silence_inserted == 0

    run(test)


def test_a_burst_comes_in_order_with_the_times_it_was_captured() -> None:
    async def test(microphone: Microphone) -> None:
        capture(microphone, *range(STEP_BLOCKS))
        await read_step(microphone)
        began_s = now()
        await asyncio.sleep(3 * STEP_S)
        for number in range(3 * STEP_BLOCKS):
            microphone.captured(block(number), began_s + number * BLOCK_S)
        for number in range(3):
            pcm, times = await read_step(microphone)
            assert pcm == step(number * STEP_BLOCKS)
            assert times == pytest.approx([began_s + number * STEP_S + 0.02 * n for n in range(1, 5)])

    run(test)


@pytest.mark.parametrize("usual_s", [0.0, 0.25, -0.1])
def test_what_a_device_always_takes_makes_nothing_old(usual_s: float) -> None:
    """A headset's delay, and stamps that are wrong: only what comes later than usual is older."""

    async def test(microphone: Microphone) -> None:
        for late_s in (0.0, 0.0, 0.3, 0.0):
            for number in range(STEP_BLOCKS):
                at_s = now() - (STEP_BLOCKS - number) * BLOCK_S
                microphone.captured(block(number), at_s - usual_s - late_s)
            _, times = await read_step(microphone)
            assert times[-1] == pytest.approx(now() - late_s, abs=STEP_S)
            await asyncio.sleep(STEP_S)

    run(test)


def test_a_late_device_gets_silence_put_in_after_the_grace() -> None:
    async def test(microphone: Microphone) -> None:
        began_s = now()
        for number in range(1, 21):
            pcm, times = await read_step(microphone)
            assert pcm == QUIET_STEP
            assert now() == pytest.approx(began_s + number * STEP_S + GRACE_S)
            assert now() - times[0] <= GRACE_S + STEP_S  # young enough to be sent
            assert microphone.silence_inserted == number * STEP_PACKETS

    run(test)


def test_what_silence_stood_in_for_is_thrown_away() -> None:
    async def test(microphone: Microphone) -> None:
        capture(microphone, *range(STEP_BLOCKS))
        await read_step(microphone)
        began_s = now()
        assert (await read_step(microphone))[0] == QUIET_STEP
        await asyncio.sleep(STEP_S - GRACE_S)
        for number in range(2 * STEP_BLOCKS):  # two steps late: for the first there was silence
            microphone.captured(block(number), began_s + number * BLOCK_S)
        assert (await read_step(microphone))[0] == step(STEP_BLOCKS)
        assert microphone.silence_inserted == STEP_PACKETS

    run(test)


def test_after_a_pause_of_our_own_there_is_silence_for_now_only() -> None:
    async def test(microphone: Microphone) -> None:
        await asyncio.sleep(3)
        assert (await read_step(microphone))[0] == QUIET_STEP
        capture(microphone, *range(STEP_BLOCKS))
        assert microphone.silence_inserted == STEP_PACKETS

    run(test)


def test_a_step_within_the_grace_is_waited_for() -> None:
    async def test(microphone: Microphone) -> None:
        reading = asyncio.create_task(read_step(microphone))
        await asyncio.sleep(STEP_S + GRACE_S - 0.001)
        capture(microphone, *range(STEP_BLOCKS))
        assert (await reading)[0] == step(0)
        assert microphone.silence_inserted == 0

    run(test)


def test_the_grace_counts_anew_after_each_step() -> None:
    async def test(microphone: Microphone) -> None:
        for number in range(10):
            reading = asyncio.create_task(read_step(microphone))
            await asyncio.sleep(STEP_S + GRACE_S - 0.005)
            capture(microphone, *range(number, number + STEP_BLOCKS))
            assert (await reading)[0] == step(number)
        assert microphone.silence_inserted == 0

    run(test)


def test_the_buffer_is_bounded_and_the_oldest_goes() -> None:
    async def test(microphone: Microphone) -> None:
        n_steps = BUFFER_BLOCKS // STEP_BLOCKS
        left = BUFFER_BLOCKS - n_steps * STEP_BLOCKS
        capture(microphone, *range(BUFFER_BLOCKS + 10))
        for number in range(n_steps):
            assert (await read_step(microphone))[0] == step(10 + number * STEP_BLOCKS)
        capture(microphone, *range(STEP_BLOCKS - left))
        assert (await read_step(microphone))[0].startswith(block(10 + n_steps * STEP_BLOCKS))

    run(test)


def test_what_the_bounded_buffer_lost_is_counted_as_packets() -> None:
    async def test(microphone: Microphone) -> None:
        capture(microphone, *range(BUFFER_BLOCKS))
        assert microphone.packets_dropped == 0
        capture(microphone, *range(7))
        assert microphone.packets_dropped == 3

    run(test)


def test_portions_of_any_size_make_the_same_packets() -> None:
    rng = random.Random(3)
    pcm = rng.randbytes(52 * PACKET_BYTES)

    async def test(microphone: Microphone) -> None:
        at = 0
        for number in range(52):
            while at < len(pcm) and at < (number + STEP_PACKETS) * PACKET_BYTES:
                portion = pcm[at : at + 2 * rng.randint(1, 700)]
                microphone.captured(portion, now() - len(portion) / 2 / SAMPLE_RATE)
                at += len(portion)
            got = await microphone.read()
            assert got.pcm == pcm[number * PACKET_BYTES :][:PACKET_BYTES]

    run(test)


def test_large_portions_are_counted_by_their_samples() -> None:
    async def test(microphone: Microphone) -> None:
        for _ in range(BUFFER_BLOCKS + 2):
            microphone.captured(bytes(2 * PACKET_SAMPLES), now())
        assert microphone.packets_dropped == 2

    run(test)


def test_after_the_close_nothing_is_captured() -> None:
    async def test(microphone: Microphone) -> None:
        microphone.close()
        capture(microphone, *range(STEP_BLOCKS))  # callbacks that were under way
        assert (await microphone.read()).pcm == QUIET

    run(test)


def test_a_callback_after_the_loop_s_end_does_nothing() -> None:
    async def main() -> Microphone:
        microphone = Microphone()
        microphone.start()
        return microphone

    microphone = run_virtual(main())
    for _ in range(2 * STEP_BLOCKS):
        microphone.captured(block(1), 0.0)


def test_another_call_begins_without_what_was_captured_between_them() -> None:
    async def test(microphone: Microphone) -> None:
        capture(microphone, *range(STEP_BLOCKS + 4))
        await microphone.read()  # and the rest of its step is not wanted any more
        await asyncio.sleep(5)
        capture(microphone, 9)
        microphone.start()
        capture(microphone, *range(50, 50 + STEP_BLOCKS))
        assert (await read_step(microphone))[0] == step(50)

    run(test)
