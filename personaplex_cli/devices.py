"""Sound devices: which there are, and which one a user means.

The sound library is loaded when it is first needed: it takes a quarter of a second, and PortAudio may be
missing where no device is used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Literal

from personaplex_cli.errors import AudioError, MissingLibraryError, PersonaplexError
from personaplex_cli.pcm import SAMPLE_RATE
from personaplex_cli.syslibs import install_hint
from personaplex_cli.wire.text import safe_text

BLOCK_SAMPLES: Final = SAMPLE_RATE * 10 // 1000
"""10 ms: half a packet, so that a packet of ours waits for at most one more block."""

START_LIMIT_S: Final = 3.0
"""For PortAudio to start a stream: the call is live, and billed, while the microphone starts."""

CLOSE_LIMIT_S: Final = 1.0

_stuck: list[threading.Thread] = []

Kind = Literal["input", "output"]

_ROLE: Final = {"input": "microphone", "output": "speaker"}

NO_DEVICES_HINT: Final = (
    "In a container or over SSH there is usually none.\n"
    "Use files instead: personaplex talk --input question.wav --output answer.wav"
)


@dataclass(frozen=True, slots=True)
class Device:
    """A sound device as PortAudio lists it. Its texts are safe for a terminal."""

    index: int
    """PortAudio's number for it; may change when devices come and go."""
    name: str
    host_api: str
    input_channels: int
    output_channels: int
    default_rate_hz: int
    is_default_input: bool
    is_default_output: bool

    def channels(self, kind: Kind) -> int:
        return self.input_channels if kind == "input" else self.output_channels

    def is_default(self, kind: Kind) -> bool:
        return self.is_default_input if kind == "input" else self.is_default_output

    @property
    def label(self) -> str:
        return f"{self.name}, {self.host_api}"


def load_sounddevice() -> ModuleType:
    """The module `sounddevice`. MissingLibraryError without PortAudio, AudioError if it does not start."""
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


def list_devices() -> list[Device]:
    """All devices, in PortAudio's order; empty if there is none. Raises AudioError."""
    sounddevice = load_sounddevice()
    try:
        entries = sounddevice.query_devices()
        host_apis = sounddevice.query_hostapis()
        default_input, default_output = sounddevice.default.device
    except sounddevice.PortAudioError as error:
        raise AudioError(f"The sound devices cannot be listed: {safe_text(str(error))}.") from None
    return [
        Device(
            index=entry["index"],
            name=safe_text(entry["name"]).strip(),
            host_api=safe_text(host_apis[entry["hostapi"]]["name"]),
            input_channels=entry["max_input_channels"],
            output_channels=entry["max_output_channels"],
            default_rate_hz=round(entry["default_samplerate"]),
            is_default_input=entry["index"] == default_input,
            is_default_output=entry["index"] == default_output,
        )
        for entry in entries
    ]


def find_device(spec: str | None, kind: Kind) -> Device:
    """The device that `spec` names: None or "default" for the system's, an index, or a part of name and host
    API in any case. Raises AudioError if there is none, if it cannot do `kind`, or if several match."""
    devices = list_devices()
    if not devices:
        raise AudioError("There are no sound devices.", NO_DEVICES_HINT)
    capable = [device for device in devices if device.channels(kind)]
    if not capable:
        raise AudioError(f"There is no {_ROLE[kind]}.", NO_DEVICES_HINT)
    wanted = (spec or "").strip().casefold()
    if wanted in ("", "default"):
        return _default_device(capable, kind)
    matches = _matches(wanted, capable)
    if not matches:
        raise _no_match(spec, wanted, kind, devices, capable)
    if len(matches) > 1:
        raise AudioError(
            f"Several sound devices match {spec!r}.", _listing(matches, "Give the number of one:")
        )
    return matches[0]


def _default_device(capable: Sequence[Device], kind: Kind) -> Device:
    for device in capable:
        if device.is_default(kind):
            return device
    option = f"--{kind}-device"
    message = f"This system has no default {_ROLE[kind]}."
    raise AudioError(message, _listing(capable, f"Choose one with {option}:"))


def _matches(wanted: str, devices: Sequence[Device]) -> list[Device]:
    """The device numbered `wanted`; or those called exactly so; or those with it somewhere in their label."""
    if wanted.isdecimal():
        return [device for device in devices if str(device.index) == wanted]
    exact = [device for device in devices if wanted in (device.name.casefold(), device.label.casefold())]
    return exact or [device for device in devices if wanted in device.label.casefold()]


def _no_match(
    spec: str | None, wanted: str, kind: Kind, devices: Sequence[Device], capable: Sequence[Device]
) -> AudioError:
    if incapable := _matches(wanted, devices):
        message = f"The sound device {incapable[0].name!r} has no {_ROLE[kind]}."
        return AudioError(message, _listing(capable, "These have one:"))
    near = _near(wanted, capable) or capable
    return AudioError(f"There is no sound device {spec!r}.", _listing(near, "Did you mean one of these?"))


def _near(wanted: str, devices: Sequence[Device]) -> list[Device]:
    """Devices with a word, or a whole name, that looks like `wanted`."""
    from difflib import get_close_matches

    return [
        device
        for device in devices
        if get_close_matches(wanted, [device.name.casefold(), *device.name.casefold().split()], n=1)
    ]


def _listing(devices: Sequence[Device], title: str) -> str:
    return "\n".join([title, *(f"{device.index:>3}  {device.label}" for device in devices)])


class DeviceStream:
    """A raw 24 kHz mono 16-bit stream on one device: opened here, started with the first call."""

    def __init__(self, kind: Kind, device: Device, callback: Callable[[Any, int], None]) -> None:
        """`callback` gets PortAudio's buffer and its length in samples, on PortAudio's thread. AudioError."""
        self._kind = kind
        self._callback = callback
        self._closing = False
        self._on_failure: Callable[[PersonaplexError], None] | None = None
        self.flags = 0
        """Blocks that PortAudio marked as late or overrun."""
        self._stream = _open(kind, device, self._on_block, self._on_finished)

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """`on_failure` is called on PortAudio's thread when the device is lost. Raises AudioError."""
        self._on_failure = on_failure
        if not self._stream.active:
            start_stream(self._stream, self._kind)

    def close(self) -> None:
        """Takes `CLOSE_LIMIT_S` at most."""
        self._closing = True
        close_stream(self._stream)

    def _on_block(self, buffer: Any, n_samples: int, times: Any, status: Any) -> None:
        if status:
            self.flags += 1
        self._callback(buffer, n_samples)

    def _on_finished(self) -> None:
        """PortAudio's thread: the stream ended. Unless we closed it, the device is gone."""
        if not self._closing and self._on_failure is not None:
            hint = "Connect it again, or choose another one."
            self._on_failure(AudioError(f"The {_ROLE[self._kind]} is gone.", hint))


def _open(kind: Kind, device: Device, callback: Callable[..., None], finished: Callable[[], None]) -> Any:
    sounddevice = load_sounddevice()
    stream = sounddevice.RawInputStream if kind == "input" else sounddevice.RawOutputStream
    try:
        return stream(
            samplerate=SAMPLE_RATE,
            channels=1,
            dtype="int16",
            device=device.index,
            blocksize=BLOCK_SAMPLES,
            latency="low",
            callback=callback,
            finished_callback=finished,
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(
            f"The {_ROLE[kind]} {device.name!r} cannot be opened: {safe_text(str(error))}.",
            "Another program may be using it. Choose another device with "
            f"--{kind}-device; personaplex devices lists them.",
        ) from None


def start_stream(stream: Any, kind: Kind) -> None:
    """Raises AudioError, also when that takes longer than `START_LIMIT_S`."""
    sounddevice = load_sounddevice()
    try:
        if not _done_within(START_LIMIT_S, stream.start):
            raise AudioError(f"The {_ROLE[kind]} does not start: the sound system does not answer.")
    except sounddevice.PortAudioError as error:
        raise AudioError(f"The {_ROLE[kind]} does not start: {safe_text(str(error))}.") from None


def close_stream(stream: Any) -> None:
    """Plays what PortAudio holds, and closes the stream; or leaves it behind after `CLOSE_LIMIT_S`."""

    def close() -> None:
        stream.stop(ignore_errors=True)
        stream.close(ignore_errors=True)

    _done_within(CLOSE_LIMIT_S, close)


def stuck() -> bool:
    """Whether PortAudio still hangs in something. Its own clean-up at exit would hang then, so the process
    has to end without it (`os._exit`)."""
    return any(thread.is_alive() for thread in _stuck)


def _done_within(limit_s: float, action: Callable[[], None]) -> bool:
    """Whether `action` ended in time; raises what it raised. With a sound server that hangs, PortAudio waits
    for ever, so this happens on a daemon thread, which is left behind then."""
    raised: list[Exception] = []

    def work() -> None:
        try:
            action()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=work, name="portaudio", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        _stuck.append(thread)
        return False
    for error in raised:
        raise error
    return True
