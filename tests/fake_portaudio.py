"""A PortAudio whose devices are what a test says; the fixture `card` puts it in place of sounddevice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from personaplex_cli.devices.device import Device

LIMIT_S = 20.0
"""For anything that has to happen on another thread."""

QUIET_READ_S = 0.02


def until(condition: Callable[[], object]) -> None:
    """Waits for what other threads do."""
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


class PortAudioError(Exception):
    """What `FakeSounddevice` raises, as sounddevice does its own: with a text and PortAudio's number."""

    def __str__(self) -> str:
        return " ".join([str(self.args[0]), *(f"[PaErrorCode {code}]" for code in self.args[1:])])


class FakeStream:
    """A raw stream of sounddevice, with a callback or to read from; the test is PortAudio."""

    latency = 0.025

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.calls: list[str] = []
        self.start_error: Exception | None = None
        self.start_waits_for: threading.Event | None = None
        self.close_waits_for: threading.Event | None = None
        self._to_read = bytearray()
        self._overflowed = self._lost = False
        self._changed = threading.Condition()

    def start(self) -> None:
        self.calls.append("start")
        if self.start_waits_for:
            self.start_waits_for.wait()
        if self.start_error:
            raise self.start_error

    def stop(self, ignore_errors: bool) -> None:
        self.calls.append("stop")

    def close(self, ignore_errors: bool) -> None:
        if self.close_waits_for:
            self.close_waits_for.wait()
        self.calls.append("close")
        self._finished()

    def capture(self, pcm: bytes, status: object = None, *, age_s: float = 0.0) -> None:
        """As PortAudio does when the microphone has a block, `age_s` after its first sample was captured."""
        if "callback" not in self.options:
            with self._changed:
                self._to_read += pcm
                self._overflowed |= status is not None
                self._changed.notify_all()
            return
        times = SimpleNamespace(currentTime=100.0, inputBufferAdcTime=100.0 - age_s)
        self.options["callback"](pcm, len(pcm) // (2 * self.options["channels"]), times, status)

    def play(self, n_samples: int, status: object = None, *, ahead_s: float = 0.0) -> bytes:
        """As PortAudio does when the speaker wants a block, `ahead_s` before it is heard."""
        times = SimpleNamespace(currentTime=100.0, outputBufferDacTime=100.0 + ahead_s)
        block = bytearray(b"\xaa" * (2 * n_samples * self.options["channels"]))
        self.options["callback"](memoryview(block), n_samples, times, status)
        return bytes(block)

    def read(self, n_samples: int) -> tuple[bytes, bool]:
        """Waits until so much is captured; a while in which nothing is captured at all is silence."""
        n_bytes = n_samples * 2 * self.options["channels"]
        with self._changed:
            while len(self._to_read) < n_bytes:
                if self._lost:
                    raise PortAudioError("Unanticipated host error", -9999)
                if not self._changed.wait(QUIET_READ_S) and not self._to_read:
                    return bytes(n_bytes), False
            block, self._to_read = bytes(self._to_read[:n_bytes]), self._to_read[n_bytes:]
            overflowed, self._overflowed = self._overflowed, False
        return block, overflowed

    def lose(self) -> None:
        """As PortAudio does when the device is gone."""
        with self._changed:
            self._lost = True
            self._changed.notify_all()
        self._finished()

    def _finished(self) -> None:
        self.options.get("finished_callback", lambda: None)()


def listed_device(
    name: str, *, inputs: int = 1, outputs: int = 2, rate_hz: int = 48_000, host_api: int = 0
) -> dict[str, Any]:
    """An entry of sounddevice's list, without its index."""
    return {
        "name": name,
        "hostapi": host_api,
        "max_input_channels": inputs,
        "max_output_channels": outputs,
        "default_samplerate": float(rate_hz),
    }


class FakeSounddevice:
    """In place of the module: it has to be `sys.modules["sounddevice"]`."""

    PortAudioError = PortAudioError

    def __init__(self, *present: dict[str, Any], default: tuple[int, int] = (0, 0)) -> None:
        self.present = list(present) or [listed_device("USB Headset")]
        """What is plugged in; what is listed is what was so when PortAudio was initialised."""
        self.default = SimpleNamespace(device=default)
        self.open_error: Exception | None = None
        self.refused: set[tuple[int, int]] = set()
        """Rates and channels that no device opens with."""
        self.opened: list[tuple[str, FakeStream]] = []
        self._names: list[str] = []
        self.calls: list[str] = []
        self.query_error: Exception | None = None
        self._initialize()

    def _initialize(self) -> None:
        self.calls.append("initialize")
        self._listed = [{**entry, "index": index} for index, entry in enumerate(self.present)]

    def _terminate(self) -> None:
        self.calls.append("terminate")

    def query_devices(self) -> list[dict[str, Any]]:
        if self.query_error:
            raise self.query_error
        return self._listed

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA"}, {"name": "JACK"}]

    def _open(self, kind: str, options: dict[str, Any]) -> FakeStream:
        if self.open_error:
            raise self.open_error
        if self._listed[options["device"]]["name"] not in [entry["name"] for entry in self.present]:
            raise PortAudioError("Device unavailable", -9985)
        if (options["samplerate"], options["channels"]) in self.refused:
            raise PortAudioError("Invalid sample rate", -9997)
        numbers = {entry["index"]: entry["name"] for entry in self._listed}
        self._names.append(numbers.get(options["device"], "not listed"))
        self.opened.append((kind, FakeStream(**options)))
        return self.opened[-1][1]

    def RawInputStream(self, **options: Any) -> FakeStream:
        return self._open("input", options)

    def RawOutputStream(self, **options: Any) -> FakeStream:
        return self._open("output", options)

    @property
    def stream(self) -> FakeStream:
        return self.opened[-1][1]

    def devices_opened(self) -> list[str]:
        """The name that each device had when it was opened."""
        return list(self._names)


def fake_device(name: str = "USB Headset", *, inputs: int = 1, outputs: int = 2) -> Device:
    return Device(0, name, "ALSA", inputs, outputs, 48_000, True, True)
