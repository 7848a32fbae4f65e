"""Lines of standard input, to be sent as texts (`--stdin-text`)."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from typing import Any, Final

MAX_LINE_CHARS: Final = 4096
"""A longer line is sent in parts."""

_READ_BYTES: Final = 4096


def send_lines(fileno: int, say: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Reads `fileno` in a thread of its own, and awaits `say` with each line on the running loop, one after
    the other: a writer who is faster than the call has to wait. Empty lines are left out."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(OSError, RuntimeError, CancelledError):  # closed; or the call is over
            for line in _lines(fileno):
                with contextlib.closing(say(line)) as saying:  # the loop may be closed
                    asyncio.run_coroutine_threadsafe(saying, loop).result()

    # Not sys.stdin: its lock, held in a thread that reads, would abort the process at its end.
    threading.Thread(target=read, name="stdin-text", daemon=True).start()


def _lines(fileno: int) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    rest = ""
    while data := os.read(fileno, _READ_BYTES):
        *lines, rest = (rest + decoder.decode(data)).split("\n")
        for line in lines:
            yield from _parts(line)
        while len(rest) > MAX_LINE_CHARS:
            yield from _parts(rest[:MAX_LINE_CHARS])
            rest = rest[MAX_LINE_CHARS:]
    yield from _parts(rest + decoder.decode(b"", final=True))


def _parts(line: str) -> list[str]:
    line = line.strip()
    return [line[at : at + MAX_LINE_CHARS] for at in range(0, len(line), MAX_LINE_CHARS)]
