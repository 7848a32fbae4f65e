"""Lines of standard input, on their way to the model."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import Iterator

import pytest

from personaplex_cli.cli.stdin_text import MAX_LINE_CHARS, send_lines

LIMIT_S = 10.0


class Pipe:
    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.writing, data) :]

    def end(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.end()
    for thread in readers():
        thread.join(LIMIT_S)
    os.close(pipe.reading)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stdin-text"]


def said(pipe: Pipe, *written: bytes) -> list[str]:
    """What becomes of `written`, one piece after the other, and the end."""
    texts: list[str] = []

    async def say(text: str) -> None:
        texts.append(text)

    async def main() -> None:
        send_lines(pipe.reading, say)
        for piece in written:
            pipe.write(piece)
            await asyncio.sleep(0.005 if len(written) > 1 else 0)
        pipe.end()
        async with asyncio.timeout(LIMIT_S):
            while readers():
                await asyncio.sleep(0.001)

    asyncio.run(main())
    return texts


@pytest.mark.parametrize(
    ("written", "texts"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),  # no newline at the end
        (b"\n\n one \r\n\t\n\n two\n \n", ["one", "two"]),
        ("\ufeffGrüße 😀\n".encode(), ["Grüße 😀"]),
        (b"half \xff a character\xc3\n", ["half \ufffd a character\ufffd"]),
        (b"the end is torn \xf0\x9f", ["the end is torn \ufffd"]),
    ],
)
def test_each_line_is_a_text(written: bytes, texts: list[str], pipe: Pipe) -> None:
    assert said(pipe, written) == texts


def test_a_line_may_come_in_pieces_and_a_character_torn(pipe: Pipe) -> None:
    whole = "Grüße 😀".encode()
    assert said(pipe, b"one\nt", b"wo\n" + whole[:3], whole[3:8], whole[8:] + b"\n") == [
        "one",
        "two",
        "Grüße 😀",
    ]


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_that_is_too_long_is_sent_in_parts(end: bytes, pipe: Pipe) -> None:
    line = "".join(str(number % 10) for number in range(10_000))
    texts = said(pipe, line.encode() + end)
    assert "".join(texts) == line
    assert max(map(len, texts)) == MAX_LINE_CHARS and len(texts) == 3


def test_a_line_of_nothing_but_spaces_is_empty_however_long(pipe: Pipe) -> None:
    assert said(pipe, b" " * 10_000 + b"\nx\n") == ["x"]


def test_a_long_line_is_not_kept_until_it_ends(pipe: Pipe) -> None:
    """Binary data by mistake: it is sent as it comes, and not gathered."""
    texts: list[str] = []

    async def say(text: str) -> None:
        texts.append(text)

    async def main() -> None:
        send_lines(pipe.reading, say)
        pipe.write(b"x" * 20_000)
        async with asyncio.timeout(LIMIT_S):
            while sum(map(len, texts)) < 20_000 - MAX_LINE_CHARS:
                await asyncio.sleep(0.001)

    asyncio.run(main())
    assert max(map(len, texts)) <= MAX_LINE_CHARS


def test_a_writer_who_is_faster_has_to_wait(pipe: Pipe) -> None:
    """One line at a time, and no more is read meanwhile than a pipe and one read hold."""
    lines = [str(number) * 300 for number in range(1000, 1800)]  # a megabyte
    n_written: list[int] = []
    taken: list[str] = []

    def write() -> None:
        for line in lines:
            pipe.write(line.encode() + b"\n")
            n_written.append(len(line))
        pipe.end()

    async def main() -> None:
        may_go_on = asyncio.Event()

        async def say(text: str) -> None:
            taken.append(text)
            await may_go_on.wait()

        send_lines(pipe.reading, say)
        writer = threading.Thread(target=write)
        writer.start()
        async with asyncio.timeout(LIMIT_S):
            before = -1
            while not taken or len(n_written) > before:  # it goes on
                before = len(n_written)
                await asyncio.sleep(0.02)
            assert taken == lines[:1] and before < len(lines) // 2
            may_go_on.set()
            while readers():
                await asyncio.sleep(0.001)
        writer.join(LIMIT_S)

    asyncio.run(main())
    assert taken == lines


def test_the_end_of_the_call_ends_it_without_a_word(pipe: Pipe) -> None:
    """Also for who waits to be heard."""

    async def say(text: str) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        send_lines(pipe.reading, say)
        pipe.write(b"one\n")
        await asyncio.sleep(0.01)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        asyncio.run(main())
        for thread in readers():
            thread.join(LIMIT_S)
        gc.collect()
    assert not readers() and not warned


def test_a_line_that_comes_after_the_call_is_left_without_a_word(pipe: Pipe) -> None:
    async def say(text: str) -> None:
        pytest.fail("there is no call")

    async def main() -> None:
        send_lines(pipe.reading, say)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        asyncio.run(main())
        pipe.write(b"one\n")
        for thread in readers():
            thread.join(LIMIT_S)
        gc.collect()
    assert not readers() and not warned
