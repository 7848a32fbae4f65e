"""Stand-ins for what a call meets: time, source, sink, socket. `fake_portaudio.py` has the devices."""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from personaplex_cli.events import (
    DeviceCounters,
    DeviceState,
    EchoState,
    PlayoutCounters,
    Reports,
    Written,
)
from personaplex_cli.pcm import PACKET_SAMPLES, Block, silence
from personaplex_cli.pipeline.playback import Playback
from personaplex_cli.pipeline.websocket import SocketClosed

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Does not wait for timers: it moves the clock to them.

    Not while playback works on what it was given: it would be late by this clock for no other reason than
    that its thread is a real one. (So a sink that never returns stops the clock.)
    """

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        if not timeout:
            return super().select(5.0 if timeout is None else 0)
        while _playback_works():
            time.sleep(0.0001)
        ready = super().select(0)
        if not ready:
            self.now_s += timeout
        return ready


def _playback_works() -> bool:
    """Whether a playback thread does anything but wait for its queue. Who puts something into a queue takes
    the waiting thread off the list at once, so there is no moment in between."""
    for thread in threading.enumerate():
        playback = getattr(getattr(thread, "_target", None), "__self__", None)
        if isinstance(playback, Playback) and not playback._queue.not_empty._waiters:  # type: ignore[attr-defined]
            return True
    return False


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock only goes on when everybody waits."""

    def __init__(self) -> None:
        self.selector = _JumpingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now_s


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on a `VirtualTimeLoop`."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


class Heard:
    """Keeps what an end reports."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.devices: list[tuple[str, DeviceState, str]] = []
        self.notices: list[str] = []
        self.reports = Reports(
            failed=self.failures.append,
            device=lambda role, state, name: self.devices.append((role, state, name)),
            notice=self.notices.append,
        )


class FakeSource:
    """Gives `pcm` every 20 ms. `ends_after` blocks it is finished and gives silence."""

    def __init__(self, pcm: bytes = silence(PACKET_SAMPLES), *, ends_after: int | None = None) -> None:
        self.pcm = pcm
        self.ends_after = ends_after
        self.given = 0
        self.started = False
        self.closed = False
        self.silence_inserted = self.packets_dropped = self.echo_blocks_dropped = 0
        self.echo = EchoState.OFF
        self.device = DeviceCounters()
        self.reports = Heard().reports

    @property
    def finished(self) -> bool:
        return self.ends_after is not None and self.given >= self.ends_after

    def start(self, reports: Reports) -> None:
        self.started = True
        self.reports = reports

    async def read(self) -> Block:
        await asyncio.sleep(0.02)
        pcm = silence(PACKET_SAMPLES) if self.finished else self.pcm
        self.given += 1
        return Block(pcm, asyncio.get_running_loop().time())

    def close(self) -> None:
        self.closed = True


class FakeSink:
    """Keeps what is written; raises `error` instead when it has one. What is written is heard at once, unless
    `heard_ms` is set."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.arrived_s: list[float] = []
        self.error: Exception | None = None
        self.started = False
        self.closed = False
        self.written: Written | None = None
        self.playout = PlayoutCounters()
        self.device = DeviceCounters()
        self.lag_ms = 0.0
        self.heard_ms = self.heard_at_close_ms = math.inf
        self.skipped_ms: list[tuple[float, float]] = []
        self.reports = Heard().reports

    def start(self, reports: Reports) -> None:
        self.started = True
        self.reports = reports

    def write(self, pcm: bytes, arrived_s: float) -> None:
        if self.error:
            raise self.error
        self.heard += pcm
        self.arrived_s.append(arrived_s)

    def take_skipped_ms(self) -> list[tuple[float, float]]:
        skipped, self.skipped_ms = self.skipped_ms, []
        return skipped

    def close(self) -> None:
        self.closed = True


class FakeSocket:
    """`say` what the server says, `hang_up` as the server; `sent` is what it got, with the time."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, bytes]] = []
        self.closed = False
        self.aborted = False
        self.close_hangs = False
        self.send_hangs = False
        self._inbox: asyncio.Queue[bytes | str | SocketClosed] = asyncio.Queue()

    def say(self, message: bytes | str) -> None:
        self._inbox.put_nowait(message)

    def hang_up(self, code: int = 1000, reason: str = "") -> None:
        self._inbox.put_nowait(SocketClosed(code, reason))

    @property
    def messages(self) -> list[bytes]:
        return [message for _, message in self.sent]

    async def send(self, message: bytes) -> None:
        if self.send_hangs:
            await asyncio.Event().wait()
        self.sent.append((asyncio.get_running_loop().time(), message))

    async def receive(self) -> bytes | str:
        item = await self._inbox.get()
        if isinstance(item, SocketClosed):
            self._inbox.put_nowait(item)
            raise item
        return item

    async def close(self) -> None:
        if self.close_hangs:
            await asyncio.Event().wait()
        self.closed = True
        self.hang_up(1000)

    def abort(self) -> None:
        self.aborted = True
        self.hang_up(1006)
