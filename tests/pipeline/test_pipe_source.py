from __future__ import annotations

import asyncio
import os
import random
import select
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import pytest
from fakes import run_virtual

from personaplex_cli.events import DeviceCounters
from personaplex_cli.pcm import PACKET_BYTES, PACKET_SAMPLES, SAMPLE_BYTES, SAMPLE_RATE, silence
from personaplex_cli.pipeline.pipes import (
    EARLY_BYTES,
    PIPE_BUFFER_BYTES,
    PIPE_GRACE_S,
    LiveJudge,
    NullSource,
    PipeSource,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the loop of these tests waits for no pipe")

QUIET = silence(PACKET_SAMPLES)
DEADLINE_S = 20.0


def noise(n_bytes: int) -> bytes:
    return random.Random(7).randbytes(n_bytes)


@contextmanager
def pipe() -> Iterator[tuple[BinaryIO, int]]:
    """Reading and writing end. Whatever reads on gets its end of file when the test is over."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader:  # noqa: SIM117
        try:
            yield reader, writing
        finally:
            close(writing)
            for thread in threading.enumerate():
                if thread.name == "stdin":
                    thread.join(DEADLINE_S)


def close(descriptor: int) -> None:
    with suppress(OSError):  # the test did
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
    os.close(descriptor)


def started(reader: BinaryIO) -> PipeSource:
    source = PipeSource(reader)
    source.start(object())
    return source


async def until(condition: Callable[[], bool]) -> None:
    """Lets the reading thread work without letting the clock go on."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


async def after_reading_ahead(source: PipeSource, n_bytes: int) -> None:
    await until(lambda: len(source._pcm) >= n_bytes or source._ended)


def run(test: Callable[[BinaryIO, int], Awaitable[None]]) -> None:
    async def main() -> None:
        with pipe() as (reader, writing):
            await test(reader, writing)

    run_virtual(main())


@pytest.mark.parametrize("n_bytes", [0, 2, PACKET_BYTES, PACKET_BYTES + 2, 5 * PACKET_BYTES, 50_000])
@pytest.mark.parametrize("odd", [0, 1])
def test_every_byte_comes_through_and_a_torn_sample_does_not(n_bytes: int, odd: int) -> None:
    data = noise(n_bytes)

    async def test(reader: BinaryIO, writing: int) -> None:
        writer = threading.Thread(target=write_all, args=(writing, data + b"!" * odd))
        writer.start()
        source = started(reader)
        heard = b""
        while not source.finished:
            await until(source._ready)
            block = await source.read()
            assert len(block.pcm) == PACKET_BYTES
            assert block.at_s == asyncio.get_running_loop().time()
            heard += block.pcm
        writer.join()
        assert heard == data.ljust(len(heard), b"\0")
        assert len(heard) - len(data) <= PACKET_BYTES
        assert source.silence_inserted == 0
        assert (await source.read()).pcm == QUIET and source.finished

    run(test)


def test_a_fast_writer_is_held_back() -> None:
    """The pipe itself holds 64 kB on Linux, so much more than that is offered."""

    async def test(reader: BinaryIO, writing: int) -> None:
        os.set_blocking(writing, False)
        source = started(reader)
        largest = offered = 0
        for _ in range(100):
            try:
                offered += os.write(writing, bytes(4096) * 16)
            except BlockingIOError:
                await after_reading_ahead(source, PIPE_BUFFER_BYTES)
            largest = max(largest, len(source._pcm))
        assert largest < 2 * PIPE_BUFFER_BYTES
        taken = 0
        for _ in range(20):
            await after_reading_ahead(source, PACKET_BYTES)
            taken += len((await source.read()).pcm)
            assert len(source._pcm) < 2 * PIPE_BUFFER_BYTES
        assert taken == 20 * PACKET_BYTES < offered
        source.close()

    run(test)


def test_a_slow_writer_gets_silence_put_in_and_loses_nothing() -> None:
    async def test(reader: BinaryIO, writing: int) -> None:
        data = noise(3 * PACKET_BYTES)
        source = started(reader)
        began = asyncio.get_running_loop().time()
        os.write(writing, data[: PACKET_BYTES + 100])
        await after_reading_ahead(source, PACKET_BYTES)
        assert (await source.read()).pcm == data[:PACKET_BYTES]
        for count in (1, 2, 3):
            assert (await source.read()).pcm == QUIET
            assert source.silence_inserted == count and not source.finished
        # At real-time pace, and as late as the pipe may be.
        assert asyncio.get_running_loop().time() == pytest.approx(began + 4 * 0.02 + PIPE_GRACE_S, abs=1e-3)
        os.write(writing, data[PACKET_BYTES + 100 :])
        await after_reading_ahead(source, 2 * PACKET_BYTES)
        assert (await source.read()).pcm == data[PACKET_BYTES : 2 * PACKET_BYTES]
        assert (await source.read()).pcm == data[2 * PACKET_BYTES :]
        assert source.silence_inserted == 3
        source.close()

    run(test)


def test_what_comes_within_the_grace_is_waited_for() -> None:
    async def test(reader: BinaryIO, writing: int) -> None:
        source = started(reader)
        reading = asyncio.create_task(source.read())
        await asyncio.sleep(0.03)
        assert not reading.done()
        os.write(writing, noise(PACKET_BYTES))
        await until(source._ready)
        assert (await reading).pcm == noise(PACKET_BYTES)
        assert source.silence_inserted == 0
        source.close()

    run(test)


def test_the_end_of_the_pipe_while_waiting_for_it() -> None:
    async def test(reader: BinaryIO, writing: int) -> None:
        source = started(reader)
        reading = asyncio.create_task(source.read())
        await asyncio.sleep(0.025)
        os.close(writing)
        await until(source._ready)
        assert (await reading).pcm == QUIET
        assert source.finished and source.silence_inserted == 0

    run(test)


def test_closing_while_the_writer_is_silent_does_not_wait() -> None:
    async def test(reader: BinaryIO, writing: int) -> None:
        source = started(reader)
        source.close()
        source.close()
        os.write(writing, bytes(10))  # the thread ends with what it reads next
        await until(lambda: not any(thread.name == "stdin" for thread in threading.enumerate()))

    run(test)


def test_closing_frees_a_thread_that_waits_for_room() -> None:
    async def test(reader: BinaryIO, writing: int) -> None:
        source = started(reader)
        os.write(writing, bytes(2 * PIPE_BUFFER_BYTES))
        await after_reading_ahead(source, PIPE_BUFFER_BYTES)
        source.close()
        await until(lambda: not any(thread.name == "stdin" for thread in threading.enumerate()))

    run(test)


def test_a_pipe_that_was_closed_under_us_is_over() -> None:
    async def test(reader: BinaryIO, writing: int) -> None:
        reader.close()
        source = started(reader)
        await until(source._ready)
        assert (await source.read()).pcm == QUIET
        assert source.finished

    run(test)


def test_a_thread_that_outlives_the_loop_ends() -> None:
    """A call that is dropped at once closes nothing."""
    with pipe() as (reader, writing):

        async def main() -> PipeSource:
            return started(reader)

        source = run_virtual(main())
        os.write(writing, bytes(PACKET_BYTES))
        deadline = time.monotonic() + DEADLINE_S
        while any(thread.name == "stdin" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.001)
            if source._closed:  # it has seen that nobody is left, and ends with what it reads next
                close(writing)


def test_another_call_goes_on_where_the_one_before_stopped() -> None:
    async def test(reader: BinaryIO, writing: int) -> None:
        data = noise(4 * PACKET_BYTES)
        os.write(writing, data)
        source = started(reader)
        heard = b""
        for _ in range(2):
            await after_reading_ahead(source, 2 * PACKET_BYTES)
            heard += (await source.read()).pcm + (await source.read()).pcm
            await asyncio.sleep(60)
            source.start(object())
        assert heard == data
        assert [thread.name for thread in threading.enumerate()].count("stdin") == 1
        source.close()

    run(test)


def test_the_null_source_is_silent_at_real_time_pace() -> None:
    async def main() -> None:
        source = NullSource()
        source.start(object())
        began_s = asyncio.get_running_loop().time()
        for number in range(1, 11):
            block = await source.read()
            assert block.pcm == QUIET and block.at_s == pytest.approx(began_s + 0.02 * number)
            assert block.at_s == asyncio.get_running_loop().time()
        assert not source.finished
        assert (source.silence_inserted, source.packets_dropped, source.device) == (0, 0, DeviceCounters())
        source.close()

    run_virtual(main())


# --- before the call


def numbered(number: int, n_bytes: int) -> bytes:
    return number.to_bytes(2, "little") * (n_bytes // 2)


def test_of_a_microphone_behind_the_pipe_only_the_newest_is_kept_until_the_call() -> None:
    now_s = 0.0
    tenth = SAMPLE_RATE * SAMPLE_BYTES // 10
    with pipe() as (reader, writing):
        source = PipeSource(reader, clock=lambda: now_s)
        for number in range(30):
            os.write(writing, numbered(number, tenth))
            until_read(reader)
            now_s += 0.1

        async def first_block() -> bytes:
            source.start(None)
            return (await source.read()).pcm

        assert int.from_bytes(asyncio.run(first_block())[:2], "little") >= 28


def test_of_a_file_behind_the_pipe_nothing_is_lost_before_the_call() -> None:
    data = noise(4 * EARLY_BYTES)
    with pipe() as (reader, writing):
        writer = threading.Thread(target=write_all, args=(writing, data))
        source = PipeSource(reader)
        writer.start()
        wait_until(lambda: len(source._pcm) >= EARLY_BYTES)

        async def first_blocks() -> bytes:
            source.start(None)
            return b"".join([(await source.read()).pcm for _ in range(5)])

        assert asyncio.run(first_blocks()) == data[: 5 * PACKET_BYTES]
        source.close()
        while writer.is_alive():
            os.read(reader.fileno(), 65536)
        writer.join()


@pytest.mark.parametrize(
    ("factor", "is_live"), [(0.5, True), (1.0, True), (1.25, True), (1.4, False), (20.0, False)]
)
def test_what_comes_no_faster_than_speech_is_live(factor: float, is_live: bool) -> None:
    judge = LiveJudge()
    backlog = judge.came(3 * SAMPLE_RATE, 10.0)
    n_bytes = round(factor * SAMPLE_RATE * SAMPLE_BYTES / 20)
    told = [judge.came(n_bytes, 10.0 + tick / 20) for tick in range(1, 60)]
    assert not backlog and not any(told[:20])
    assert told[-1] is is_live


def until_read(reader: BinaryIO) -> None:
    """The source has taken all that was written."""
    wait_until(lambda: not select.select([reader], [], [], 0)[0])
    time.sleep(0.002)  # it has it, and looks at its clock


def wait_until(seen: Callable[[], bool]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not seen():
        assert time.monotonic() < end_s
        time.sleep(0.001)
