"""PortAudio, by sounddevice: every call of it that can wait is made here, on one thread.

PortAudio is not thread-safe, and with a sound server that hangs it waits for ever, in any call: loading,
opening, closing. So whoever calls waits for a limited time only. While one call hangs, the ones after it
wait behind it; once it returns, what nobody waits for any more is undone.
"""

from __future__ import annotations

import contextlib
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from types import ModuleType
from typing import Any, Final, TypeVar

from personaplex_cli.devices.device import ROLE, Device, Kind
from personaplex_cli.devices.format import (
    BLOCK_S,
    FormatRefused,
    Handler,
    StreamFormat,
    cannot_be_opened,
)
from personaplex_cli.errors import AudioError, MissingLibraryError
from personaplex_cli.pcm import STEP_S
from personaplex_cli.syslibs import install_hint
from personaplex_cli.wire.text import safe_text

LOAD_LIMIT_S: Final = 10.0
"""PortAudio looks at all devices when it is loaded: 0.2 s, and some seconds with devices that sleep."""

OPEN_LIMIT_S: Final = 3.0
"""For opening, and for starting: the call may be live, and billed, meanwhile."""

CLOSE_LIMIT_S: Final = 1.0

WAITS: Final = 3

MAX_STAMP_S: Final = 0.5
"""No device holds more. What a driver says beyond that is wrong."""

_FORMAT_CODES: Final = (-9998, -9997, -9994)
"""paInvalidChannelCount, paInvalidSampleRate, paSampleFormatNotSupported. Other errors of ALSA mean that the
device does not open at all; other host APIs are not so exact."""

T = TypeVar("T")

_requests: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
_abandoned: list[Future[Any]] = []
_starting = threading.Lock()
_thread: threading.Thread | None = None


def call(
    action: Callable[[], T], limit_s: float, *, undo: Callable[[T], None] | None = None, insist: bool = False
) -> T:
    """What `action` returns or raises, run on PortAudio's thread. AudioError when that takes longer than
    `limit_s`: then it is not begun any more, unless `insist` is set; if it has begun, `undo` gets what it
    returns later, on that thread."""
    _ensure_thread()
    future: Future[T] = Future()
    _requests.put((future, action))
    try:
        return future.result(limit_s)
    except TimeoutError:
        if not future.done() and (insist or not future.cancel()):
            _abandoned.append(future)
            if undo is not None:
                future.add_done_callback(lambda done: _undo(done, undo))
        raise AudioError("The sound system does not answer.", "Restart it, or use files instead.") from None


def stuck() -> bool:
    """Whether PortAudio still hangs in something. Its own clean-up at exit would hang then, so the process
    has to end without it (`os._exit`)."""
    return any(not future.done() for future in _abandoned)


def _ensure_thread() -> None:
    global _thread
    with _starting:
        if _thread is None:
            _thread = threading.Thread(target=_serve, name="portaudio", daemon=True)
            _thread.start()


def _serve() -> None:
    while True:
        _run(*_requests.get())


def _run(future: Future[Any], action: Callable[[], Any]) -> None:
    """Apart from the loop, whose variables would keep the last stream, with its resampler, for ever."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = action()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _undo(done: Future[T], undo: Callable[[T], None]) -> None:
    if done.exception() is None:
        undo(done.result())


def load_sounddevice() -> ModuleType:
    """The module `sounddevice`. MissingLibraryError without PortAudio, AudioError if it does not start."""
    loaded = sys.modules.get("sounddevice")
    return loaded if loaded is not None else call(_import_sounddevice, LOAD_LIMIT_S)


def _import_sounddevice() -> ModuleType:
    try:
        import sounddevice
    except OSError:
        raise MissingLibraryError(
            "The library PortAudio is not installed.", install_hint("portaudio")
        ) from None
    except Exception as error:  # its PortAudioError cannot be named: the module that defines it failed
        raise AudioError(f"PortAudio cannot be started: {safe_text(str(error))}.") from None
    module: ModuleType = sounddevice
    return module


def initialise_again() -> None:
    """PortAudio sees the devices that there were when it was initialised. Every stream has to be closed.
    Raises AudioError, also while a thread is still in PortAudio, which must not be ended under it."""
    if stuck():
        raise AudioError("The sound system does not answer.")
    sounddevice = load_sounddevice()

    def again() -> None:
        sounddevice._terminate()
        sounddevice._initialize()

    try:
        call(again, LOAD_LIMIT_S)
    except sounddevice.PortAudioError as error:
        raise AudioError(f"PortAudio cannot be started again: {safe_text(str(error))}.") from None


class PortAudioStream:
    """A raw 16-bit stream on one device, by PortAudio's callback."""

    def __init__(
        self, kind: Kind, device: Device, format: StreamFormat, handler: Handler, ended: Callable[[], None]
    ) -> None:
        """`handler` and `ended` are called on the thread of PortAudio's callbacks; the latter when the stream
        ends without having been closed. Raises AudioError, or FormatRefused."""
        self._kind = kind
        self._handler = handler
        self._ended = ended
        self._closing = False
        callback = self._on_input if kind == "input" else self._on_output
        self._stream = _open(kind, device, format, callback=callback, finished_callback=self._on_finished)
        self.latency_s: float = self._stream.latency

    def start(self) -> None:
        """Raises AudioError."""
        _start(self._kind, self._stream)

    def close(self) -> None:
        """Plays what PortAudio holds, and closes the stream; after `CLOSE_LIMIT_S` that is left to later."""
        self._closing = True
        with contextlib.suppress(AudioError):
            call(partial(_close, self._stream), CLOSE_LIMIT_S, insist=True)

    def _on_input(self, buffer: Any, n_samples: int, times: Any, status: Any) -> None:
        self._handler(buffer, n_samples, _within(times.currentTime - times.inputBufferAdcTime), bool(status))

    def _on_output(self, buffer: Any, n_samples: int, times: Any, status: Any) -> None:
        self._handler(buffer, n_samples, _within(times.outputBufferDacTime - times.currentTime), bool(status))

    def _on_finished(self) -> None:
        if not self._closing:
            self._ended()


class PortAudioReader:
    """A raw 16-bit stream from one device, read a step of the model at a time.

    The thread waits for all of a step inside PortAudio, while the device goes on in its small blocks: the
    step comes no later than by callbacks, at a third of the cost. When exactly it was captured is not known.
    """

    def __init__(
        self, device: Device, format: StreamFormat, handler: Handler, ended: Callable[[], None]
    ) -> None:
        """`handler` and `ended` are called on a thread of the stream's own; the latter when the stream ends
        without having been closed. Raises AudioError, or FormatRefused."""
        self._handler = handler
        self._ended = ended
        self._closing = False
        self._step_samples = round(format.rate_hz * STEP_S)
        self._stream = _open("input", device, format)
        self.latency_s: float = self._stream.latency
        self._thread = threading.Thread(target=self._read, name="microphone", daemon=True)

    def start(self) -> None:
        """Raises AudioError."""
        _start("input", self._stream)
        self._thread.start()

    def close(self) -> None:
        """Waits for the step that is being read. Where the device hangs, that thread closes the stream when
        it comes back."""
        self._closing = True
        if self._thread.ident is None:
            self._finish()
        else:
            self._thread.join(CLOSE_LIMIT_S)

    def _read(self) -> None:
        backlog = _Backlog()
        with _waiting_in_portaudio():
            try:
                while not self._closing:
                    asked_s = time.monotonic()
                    block, overflowed = self._stream.read(self._step_samples)
                    late_s = backlog.late_s(asked_s, time.monotonic())
                    self._handler(block, self._step_samples, STEP_S + self.latency_s + late_s, overflowed)
            except load_sounddevice().PortAudioError:
                if not self._closing:
                    self._ended()
        self._finish()

    def _finish(self) -> None:
        with contextlib.suppress(AudioError):
            call(partial(_close, self._stream), CLOSE_LIMIT_S, insist=True)


class _Backlog:
    """How old a step is because it waited for its reader: after a stall several come at once, the oldest
    first, and PortAudio does not say how many are left."""

    def __init__(self) -> None:
        self._steps = 0
        self._least_s = math.inf
        self._waits = 0

    def late_s(self, asked_s: float, now_s: float) -> float:
        """Of the step that was asked for then and has come now: by how much later it is than the steps before
        it were, counted in steps."""
        self._steps += 1
        offset_s = now_s - self._steps * STEP_S
        # Who has to wait, again and again, gets what is new. (The host has lost some, or its clock is slow.)
        self._waits = self._waits + 1 if now_s - asked_s > STEP_S / 4 else 0
        if offset_s < self._least_s or self._waits >= WAITS:
            self._least_s = offset_s
            self._waits = 0
        return offset_s - self._least_s


@contextlib.contextmanager
def _waiting_in_portaudio() -> Iterator[None]:
    """A thread that reads is in PortAudio most of the time: `stuck` has to know of it."""
    waiting: Future[None] = Future()
    _abandoned.append(waiting)
    try:
        yield
    finally:
        _abandoned.remove(waiting)


def _open(kind: Kind, device: Device, format: StreamFormat, **callbacks: Callable[..., None]) -> Any:
    """Raises AudioError, or FormatRefused."""
    sounddevice = load_sounddevice()
    open_stream = partial(
        sounddevice.RawInputStream if kind == "input" else sounddevice.RawOutputStream,
        samplerate=format.rate_hz,
        channels=format.channels,
        dtype="int16",
        device=device.index,
        blocksize=round(format.rate_hz * BLOCK_S[kind]),
        latency="low",
        **callbacks,
    )
    try:
        return call(open_stream, OPEN_LIMIT_S, undo=lambda stream: stream.close(ignore_errors=True))
    except ValueError as error:
        raise FormatRefused(safe_text(str(error))) from None
    except sounddevice.PortAudioError as error:
        why = safe_text(str(error))
        if device.host_api == "ALSA" and _code(error) not in _FORMAT_CODES:
            raise cannot_be_opened(kind, device, why) from None
        raise FormatRefused(why) from None


def _start(kind: Kind, stream: Any) -> None:
    """Raises AudioError; the stream has to be closed then."""
    try:
        call(stream.start, OPEN_LIMIT_S)
    except load_sounddevice().PortAudioError as error:
        raise AudioError(f"The {ROLE[kind]} does not start: {safe_text(str(error))}.") from None


def _close(stream: Any) -> None:
    stream.stop(ignore_errors=True)
    stream.close(ignore_errors=True)


def _code(error: Exception) -> object:
    """PortAudio's number for what went wrong, which follows the text."""
    return error.args[1] if len(error.args) > 1 else None


def _within(seconds: float) -> float:
    """A time difference that can be true: the first ones of a stream, and some drivers', are not."""
    return min(max(seconds, 0.0), MAX_STAMP_S)
