"""Opening, starting and closing PortAudio's streams; `test_devices.py` has the list of devices."""

from __future__ import annotations

import threading

import pytest
from fakes import FakeStream

from personaplex_cli import devices
from personaplex_cli.devices import close_stream, stuck


@pytest.fixture(autouse=True)
def nothing_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_stuck", [])


def test_a_stream_is_aborted_then_closed() -> None:
    stream = FakeStream(finished_callback=lambda: None)
    close_stream(stream)
    assert stream.calls == ["abort", "close"]
    assert not stuck()


def test_a_stream_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CLOSE_LIMIT_S", 0.05)
    goes_on, finished = threading.Event(), threading.Event()
    stream = FakeStream(finished_callback=finished.set)
    stream.close_waits_for = goes_on
    close_stream(stream)
    assert stream.calls == ["abort"]
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
