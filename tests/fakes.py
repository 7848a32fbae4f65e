"""Stand-ins for what a call meets: time, source, sink, socket."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from personaplex_cli.devices import Device
from personaplex_cli.errors import PersonaplexError
from personaplex_cli.events import Written
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
        if isinstance(playback, Playback) and not playback._payloads.not_empty._waiters:  # type: ignore[attr-defined]
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


class FakeSource:
    """Gives `pcm` every 20 ms. `ends_after` blocks it is finished and gives silence."""

    def __init__(self, pcm: bytes = silence(PACKET_SAMPLES), *, ends_after: int | None = None) -> None:
        self.pcm = pcm
        self.ends_after = ends_after
        self.given = 0
        self.started = False
        self.closed = False
        self.silence_inserted = 0
        self.packets_dropped = 0
        self.device_flags = 0
        self.fail: Callable[[PersonaplexError], None] = lambda error: None

    @property
    def finished(self) -> bool:
        return self.ends_after is not None and self.given >= self.ends_after

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        self.started = True
        self.fail = on_failure

    async def read(self) -> Block:
        await asyncio.sleep(0.02)
        pcm = silence(PACKET_SAMPLES) if self.finished else self.pcm
        self.given += 1
        return Block(pcm, asyncio.get_running_loop().time())

    def close(self) -> None:
        self.closed = True


class FakeSink:
    """Keeps what is written; raises `error` instead when it has one."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.error: Exception | None = None
        self.started = False
        self.closed = False
        self.written: Written | None = None
        self.underruns = 0
        self.dropped_ms = 0
        self.device_flags = 0
        self.fail: Callable[[PersonaplexError], None] = lambda error: None

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        self.started = True
        self.fail = on_failure

    def write(self, pcm: bytes) -> None:
        if self.error:
            raise self.error
        self.heard += pcm

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


class PortAudioError(Exception):
    """What `FakeSounddevice` raises, as sounddevice does its own."""


class FakeStream:
    """A raw stream of sounddevice; the test is PortAudio and calls `options["callback"]`."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.calls: list[str] = []
        self.active = False
        self.start_error: Exception | None = None
        self.start_waits_for: threading.Event | None = None
        self.close_waits_for: threading.Event | None = None

    def start(self) -> None:
        self.calls.append("start")
        if self.start_waits_for:
            self.start_waits_for.wait()
        if self.start_error:
            raise self.start_error
        self.active = True

    def stop(self, ignore_errors: bool) -> None:
        self.calls.append("stop")
        self.active = False

    def close(self, ignore_errors: bool) -> None:
        if self.close_waits_for:
            self.close_waits_for.wait()
        self.calls.append("close")
        self.options["finished_callback"]()

    def capture(self, pcm: bytes, status: object = None) -> None:
        """As PortAudio does when the microphone has a block."""
        self.options["callback"](pcm, len(pcm) // 2, None, status)

    def play(self, n_samples: int, status: object = None) -> bytes:
        """As PortAudio does when the speaker wants a block."""
        block = bytearray(b"\xaa" * (2 * n_samples))
        self.options["callback"](memoryview(block), n_samples, None, status)
        return bytes(block)

    def lose(self) -> None:
        """As PortAudio does when the device is gone."""
        self.active = False
        self.options["finished_callback"]()


class FakeSounddevice:
    """In place of the module: `devices.load_sounddevice` has to return it."""

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        self.open_error: Exception | None = None
        self.opened: list[tuple[str, FakeStream]] = []

    def _open(self, kind: str, options: dict[str, Any]) -> FakeStream:
        if self.open_error:
            raise self.open_error
        self.opened.append((kind, FakeStream(**options)))
        return self.opened[-1][1]

    def RawInputStream(self, **options: Any) -> FakeStream:
        return self._open("input", options)

    def RawOutputStream(self, **options: Any) -> FakeStream:
        return self._open("output", options)

    @property
    def stream(self) -> FakeStream:
        return self.opened[-1][1]


def fake_device(name: str = "USB Headset") -> Device:
    return Device(7, name, "ALSA", 1, 2, 48_000, True, True)
