"""Real calls on virtual cards: the program, what it talks to, and several calls at a time."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeVar

import numpy as np
import sphn
from moshi_server import Heard, MoshiServer
from ogg_pages import RATE, STEP, Samples, read_pages
from virtual_card import PATIENCE_S, Card, wait_until
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from personaplex_cli.errors import ExitCode

AT_ONCE = 3
"""Starting takes the processor; a call hardly does."""

T = TypeVar("T")
Server = TypeVar("Server", bound=MoshiServer)


class Program:
    """`personaplex talk` on a card, with the stand-in unless a server is given; read as it goes on."""

    def __init__(self, card: Card, *options: str, server: str | None = None, prelude: str = "") -> None:
        """`prelude`: Python that is run before the program."""
        where = ["--local"] if server is None else ["--server", server, "--dialect", "moshi"]
        run = ["-m", "personaplex_cli"]
        if prelude:
            run = ["-c", f"{prelude}\nfrom personaplex_cli.cli.app import main\nmain()"]
        self.process = subprocess.Popen(
            [sys.executable, *run, "talk", *where, *options],
            env=card.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.said = ""
        self._open_pipes = 2
        self._more = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(pipe,), daemon=True)
            for pipe in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            with self._more:
                self.said += line
                self._more.notify_all()
        with self._more:
            self._open_pipes -= 1
            self._more.notify_all()

    def wait_for(self, text: str, patience_s: float = PATIENCE_S) -> None:
        with self._more:
            self._more.wait_for(lambda: text in self.said or not self._open_pipes, patience_s)
            assert text in self.said, f"{text!r} not in {self.said!r}"

    def end(self) -> tuple[int, str]:
        """Exit code and all that it said."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(10)
        return code, self.said

    def hang_up(self) -> str:
        """Ends the call as Ctrl-C does, which has to go well. All that it said."""
        self.process.send_signal(signal.SIGINT)
        code, said = self.end()
        assert code == ExitCode.OK, said
        assert "Call ended: you hung up" in said
        assert "Traceback" not in said and "Expression" not in said, said
        return said

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for reader in self._readers:
            reader.join(10)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        self.process.wait(10)


class Talker(MoshiServer):
    """Says `voice` over and over, a step for each it hears, and is called once."""

    def __init__(self, voice: Samples) -> None:
        super().__init__()
        self._voice = voice[: len(voice) // STEP * STEP]

    async def _echo(
        self, connection: ServerConnection, heard: Heard
    ) -> Callable[[bytes], Coroutine[Any, Any, None]]:
        reader, writer = sphn.OpusStreamReader(RATE), sphn.OpusStreamWriter(RATE)

        async def answer(payload: bytes) -> None:
            heard.pages += read_pages(payload)
            heard.samples.append(reader.append_bytes(payload))
            while sum(map(len, heard.samples)) >= (heard.n_steps + 1) * STEP:
                at = heard.n_steps * STEP % len(self._voice)
                heard.n_steps += 1
                with suppress(ConnectionClosed):
                    await connection.send(b"\x01" + writer.append_pcm(self._voice[at : at + STEP]))

        return answer

    @property
    def heard(self) -> Samples:
        """So far; for any thread."""
        return self.calls[0].said if self.calls and self.calls[0].samples else np.zeros(0, np.float32)

    @property
    def said(self) -> Samples:
        """At the same times."""
        return np.resize(self._voice, len(self.heard))

    def check_end(self) -> None:
        """It was left in good order."""
        wait_until(lambda: self.calls[0].close_code is not None, "the end of the call")
        self.calls[0].check_end()


@contextmanager
def served(server: Server) -> Iterator[Server]:
    """On a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE_S)

    try:
        run(server.__aenter__())
        try:
            yield server
        finally:
            run(server.__aexit__())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


class Told:
    """Calls that are held at the same time, each on a thread: they take their real time, and mostly wait."""

    def __init__(self, pool: ThreadPoolExecutor, calls: Iterable[Callable[[], object]]) -> None:
        self._futures: dict[Callable[[], object], Future[Any]] = {call: pool.submit(call) for call in calls}

    def __call__(self, call: Callable[[], T]) -> T:
        """What it returned or raised, when it is over."""
        result: T = self._futures[call].result()
        return result


@contextmanager
def at_once(*calls: Callable[[], object]) -> Iterator[Told]:
    """`AT_ONCE` of them; the longest should come first."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield Told(pool, calls)
