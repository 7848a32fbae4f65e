"""Opening, starting and closing PortAudio's streams; `test_devices.py` has the list of devices."""

from __future__ import annotations

import threading

import pytest
from fakes import FakeSounddevice, FakeStream

from personaplex_cli import devices
from personaplex_cli.devices import close_stream, start_stream, stuck
from personaplex_cli.errors import AudioError


@pytest.fixture(autouse=True)
def nothing_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_stuck", [])


def test_a_stream_is_stopped_then_closed() -> None:
    stream = FakeStream(finished_callback=lambda: None)
    close_stream(stream)
    assert stream.calls == ["stop", "close"]
    assert not stuck()


def test_a_stream_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CLOSE_LIMIT_S", 0.05)
    goes_on, finished = threading.Event(), threading.Event()
    stream = FakeStream(finished_callback=finished.set)
    stream.close_waits_for = goes_on
    close_stream(stream)
    assert stream.calls == ["stop"]
    assert stuck()
    goes_on.set()
    assert finished.wait(10)
    for thread in devices._stuck:
        thread.join(10)
    assert not stuck()


def test_a_thread_that_hangs_does_not_hold_up_the_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CLOSE_LIMIT_S", 0.01)
    stream = FakeStream(finished_callback=lambda: None)
    stream.close_waits_for = threading.Event()
    close_stream(stream)
    [thread] = devices._stuck
    assert thread.daemon
    stream.close_waits_for.set()
    thread.join(10)


def test_a_stream_that_hangs_when_it_starts_is_an_error_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "START_LIMIT_S", 0.05)
    monkeypatch.setattr(devices, "load_sounddevice", FakeSounddevice)
    stream = FakeStream(finished_callback=lambda: None)
    stream.start_waits_for = threading.Event()
    with pytest.raises(AudioError, match="microphone does not start: the sound system does not answer"):
        start_stream(stream, "input")
    assert stuck()
    stream.start_waits_for.set()
    for thread in devices._stuck:
        thread.join(10)
