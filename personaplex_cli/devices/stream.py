"""A stream on a sound device that goes on for as long as it is wanted: what is lost is opened again.

Nothing of PortAudio says that a device is gone: streams just end (`finished_callback`), or their callbacks
stop coming when the sound server hangs. Both are noticed here, by a thread for each stream, which then tries
to open the same device, and after a while the system's default, again and again. That thread also changes the
device when it is asked to. The callbacks go on as if nothing had happened; there just are none meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from personaplex_cli.devices.blocks import Blocks
from personaplex_cli.devices.device import Device, Kind
from personaplex_cli.devices.format import (
    FormatRefused,
    Handler,
    StreamFormat,
    cannot_be_opened,
    formats,
)
from personaplex_cli.devices.listing import find_device, list_devices, listed_afresh
from personaplex_cli.devices.portaudio import PortAudioReader, PortAudioStream, initialise_again, stuck
from personaplex_cli.devices.pulse import PulseStream
from personaplex_cli.errors import AudioError, PersonaplexError
from personaplex_cli.events import DeviceState

WATCH_S: Final = 0.4
"""How often a stream is looked at."""

SILENT_LIMIT_S: Final = 1.0
"""Without a callback for so long a stream is lost: a block lasts 10 ms, and the worst delay measured on a
loaded machine was 0.12 s."""

BACK_OFF_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Before each attempt to open a lost device again; the last one repeats."""

REPLACE_AFTER_S: Final = 2.0
"""The system's default takes the place of a device that is away for so long."""

RETURN_CHECK_S: Final = 5.0
"""How often it is looked whether a device that was replaced is back."""

SWAP_LIMIT_S: Final = 2.0
"""How long closing waits for an attempt to open that is under way."""

Tell = Callable[[Kind, DeviceState, str], None]
"""What became of which device: called on a thread of this module."""


class Stream(Protocol):
    latency_s: float
    """What the device and the host hold."""

    def start(self) -> None: ...

    def close(self) -> None: ...


_streams: list[DeviceStream] = []
_relisting = threading.Lock()


class DeviceStream:
    """24 kHz mono 16-bit on the device that `spec` names, whatever it takes itself."""

    def __init__(
        self,
        kind: Kind,
        spec: str | None,
        exchange: Callable[..., Any],
        *,
        channel: int | None = None,
        stamped: bool = True,
    ) -> None:
        """`exchange` is called on the thread of the callbacks. For an input: `exchange(pcm, at_s)`, PCM of
        any duration and when its first sample was captured. For an output: `exchange(n_samples, at_s)`, which
        gives that many samples of PCM, and when the first will be heard. (Seconds of `time.monotonic`.)
        `channel`, counted from 1, is the one of an input to listen to. Without `stamped` an input gives whole
        steps, and only guesses when they were captured; that is cheaper. Raises AudioError."""
        self._kind: Kind = kind
        self._stamped = stamped
        self._channel = channel
        self._blocks = Blocks(kind, exchange)
        self.timing = self._blocks.timing
        self.restarts = 0
        """Times the device was opened again, or another one."""
        self._aim(spec, find_device(spec, kind))
        self._asked: str | None = None
        self._ended = False
        self._wake = threading.Event()
        self._closed = False
        self._swap = threading.RLock()  # held while a stream is opened, started or closed
        self._keeper: threading.Thread | None = None
        self._tell: Tell = lambda kind, state, name: None
        self._stream: Stream | None
        self.device, self._stream, self._next_handler = self._open(self._wanted)
        _streams.append(self)

    @property
    def latency_s(self) -> float:
        """What device and host hold, as they report it; 0 while the device is lost."""
        stream = self._stream
        return 0.0 if stream is None else stream.latency_s

    def start(self, tell: Tell, on_failure: Callable[[Exception], None]) -> None:
        """Starts the stream; if it runs already, only who is told changes. `on_failure` is called with what
        `exchange` raised, once. Raises AudioError."""
        self._tell, self._blocks.on_failure = tell, on_failure
        with self._swap:
            if self._keeper is not None:
                return
            if self._stream is None:  # it went away before it was wanted: to be looked for
                self._on_ended()
            else:
                self._start(self.device, self._stream, self._next_handler)
            self._keeper = threading.Thread(target=self._keep, name=f"{self._kind}-keeper", daemon=True)
            self._keeper.start()

    def change(self, spec: str) -> None:
        """Go over to another device; what comes of it is told. Any thread."""
        self._asked = spec
        self._wake.set()

    def close(self) -> None:
        """May be called again. Waits for a sound system that does not answer for a limited time."""
        self._closed = True
        self._wake.set()
        if self in _streams:
            _streams.remove(self)
        if self._swap.acquire(timeout=SWAP_LIMIT_S):
            self._close_stream()
            self._swap.release()

    # --- the stream; `_swap` is held

    def _on_ended(self) -> None:
        self._ended = True
        self._wake.set()

    def _aim(self, spec: str | None, device: Device) -> None:
        self._wanted = device
        self._follows_default = (spec or "default").strip().casefold() == "default"

    def _open(self, device: Device) -> tuple[Device, Stream, Handler]:
        """Raises AudioError."""
        refusal = ""
        for format in formats(self._kind, device, self._channel):
            handler = self._blocks.handler(format)
            try:
                return device, self._new_stream(device, format, handler), handler
            except FormatRefused as error:
                refusal = refusal or str(error)
        raise cannot_be_opened(self._kind, device, refusal)

    def _new_stream(self, device: Device, format: StreamFormat, handler: Handler) -> Stream:
        """Raises AudioError, or FormatRefused."""
        if device.pulse_name:
            return PulseStream(self._kind, device, format, handler, self._on_ended)
        if self._kind == "input" and not self._stamped:
            return PortAudioReader(device, format, handler, self._on_ended)
        return PortAudioStream(self._kind, device, format, handler, self._on_ended)

    def _start(self, device: Device, stream: Stream, handler: Handler) -> None:
        """Raises AudioError; the stream is closed then."""
        self._ended = False
        self._blocks.current = handler
        self.timing.restarted(time.monotonic())
        try:
            stream.start()
        except AudioError:
            self._stream = None
            stream.close()
            raise
        self.device, self._stream = device, stream

    def _close_stream(self) -> None:
        self._blocks.current = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _reopen(self, device: Device) -> bool:
        """Whether `device` runs now."""
        with self._swap:
            if self._closed:
                return False
            try:
                self._start(*self._open(device))
            except AudioError:
                return False
            self.restarts += 1
            return True

    def _resume(self, devices: list[Device]) -> None:
        """After `_close_stream`: as it was, on the same device of a new list; otherwise it is lost."""
        same = next((device for device in devices if device.label == self.device.label), None)
        if self._keeper is not None:
            if same is None or not self._reopen(same):
                self._on_ended()
        elif same is not None:
            with contextlib.suppress(AudioError):
                self.device, self._stream, self._next_handler = self._open(same)

    # --- the keeper's thread

    def _keep(self) -> None:
        try:
            check_s = time.monotonic() + RETURN_CHECK_S
            while not self._closed:
                asleep_s = time.monotonic()
                self._wake.wait(WATCH_S)
                self._wake.clear()
                if time.monotonic() - asleep_s > WATCH_S + SILENT_LIMIT_S / 2:
                    self.timing.restarted(time.monotonic())  # it was we who stood still
                if self._asked is not None:
                    self._go_over(self._asked)
                elif self._lost():
                    self._recover()
                elif self._replaced and time.monotonic() > check_s:
                    self._go_back()
                    check_s = time.monotonic() + RETURN_CHECK_S
            with self._swap:  # what was just being opened when `close` would wait no longer
                self._close_stream()
        except Exception as error:
            self._blocks.fail(error)

    def _lost(self) -> bool:
        with self._swap:  # not while someone else makes PortAudio look again
            silent_s = self.timing.silent_s(time.monotonic())
            return not (self._closed or self._blocks.failed) and (self._ended or silent_s > SILENT_LIMIT_S)

    @property
    def _replaced(self) -> bool:
        return not self._follows_default and self.device.label != self._wanted.label

    def _recover(self) -> None:
        """Until a device runs again, the stream is closed, or another device is asked for."""
        lost_s = time.monotonic()
        self._tell(self._kind, DeviceState.LOST, self.device.name)
        with self._swap:
            self._close_stream()
        for wait_s in _back_off():
            self._wake.wait(wait_s)
            self._wake.clear()
            if self._closed or self._asked is not None:
                return
            replace = time.monotonic() - lost_s >= REPLACE_AFTER_S
            if self._reopen_any(replace) or (self._look_again(replace) and self._reopen_any(replace)):
                state = DeviceState.REPLACED if self._replaced else DeviceState.BACK
                self._tell(self._kind, state, self.device.name)
                return

    def _reopen_any(self, replace: bool) -> bool:
        """The wanted device or, if it may be replaced, the default one."""
        try:
            devices = list_devices()
        except AudioError:
            return False
        if wanted := self._same(devices):
            self._wanted = wanted
            if self._reopen(wanted):
                return True
        others = [d for d in devices if d.is_default(self._kind) and d is not wanted]
        return replace and any(self._reopen(device) for device in others)

    def _same(self, devices: list[Device]) -> Device | None:
        """The wanted device among those of a new list."""
        capable = [device for device in devices if device.channels(self._kind)]
        if self._follows_default:
            return next((device for device in capable if device.is_default(self._kind)), None)
        return next((device for device in capable if device.label == self._wanted.label), None)

    def _look_again(self, replace: bool) -> bool:
        """Makes PortAudio see devices that have come since, if there are any of use."""
        fresh = listed_afresh()
        if not self._same(fresh) and not (replace and any(d.is_default(self._kind) for d in fresh)):
            return False
        return _relist()

    def _go_back(self) -> None:
        """To the wanted device, if it is there again."""
        if not self._same(listed_afresh()):
            return
        if not self._same(list_devices()) and not _relist():
            return
        wanted = self._same(list_devices())
        if wanted is None:
            return
        self._wanted = wanted
        if self._replace_by(wanted):
            self._tell(self._kind, DeviceState.BACK, wanted.name)

    def _go_over(self, spec: str) -> None:
        self._asked = None
        try:
            device = self._find(spec)
        except PersonaplexError as error:
            self._tell(self._kind, DeviceState.REFUSED, str(error))
            return
        if self._replace_by(device):
            self._aim(spec, device)
            self._tell(self._kind, DeviceState.CHANGED, device.name)
        else:
            self._tell(self._kind, DeviceState.REFUSED, f"{device.name!r} cannot be opened.")

    def _find(self, spec: str) -> Device:
        """Also one that has come since PortAudio looked. Raises PersonaplexError."""
        try:
            return find_device(spec, self._kind)
        except PersonaplexError:
            known = {device.label for device in list_devices()}
            new = [device.label.casefold() for device in listed_afresh() if device.label not in known]
            if not any(spec.casefold() in label for label in new) or not _relist():
                raise
            return find_device(spec, self._kind)

    def _replace_by(self, device: Device) -> bool:
        """Opens `device` before the one in use is closed, so that a refusal changes nothing."""
        with self._swap:
            if self._closed:
                return False
            old, old_handler = self._stream, self._blocks.current
            try:
                self._start(*self._open(device))
            except AudioError:
                self._blocks.current = old_handler
                return False
            self.restarts += 1
            if old is not None:
                old.close()
            return True


def _back_off() -> Iterator[float]:
    yield from BACK_OFF_S
    while True:
        yield BACK_OFF_S[-1]


def _relist() -> bool:
    """Makes PortAudio look for devices anew, for which all streams have to be closed for a moment."""
    if stuck():  # it would be in vain, and would stop what works
        return False
    with _relisting, contextlib.ExitStack() as stack:
        streams = list(_streams)
        for stream in streams:
            stack.enter_context(stream._swap)
        held = [stream for stream in streams if stream._stream is not None]
        for stream in held:
            stream._close_stream()
        try:
            initialise_again()
            devices = list_devices()
        except AudioError:
            devices = []
        for stream in held:
            stream._resume(devices or [stream.device])
        return bool(devices)
