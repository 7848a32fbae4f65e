"""PortAudio's own thread, and streams on it. `test_device_stream.py` has what keeps a device going."""

from __future__ import annotations

import builtins
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from fake_portaudio import LIMIT_S as PATIENCE_S
from fake_portaudio import FakeSounddevice, FakeStream, PortAudioError, fake_device, until

from personaplex_cli.devices import portaudio
from personaplex_cli.devices.device import Kind
from personaplex_cli.devices.format import BLOCK_S, FormatRefused, StreamFormat
from personaplex_cli.devices.portaudio import (
    MAX_STAMP_S,
    PortAudioReader,
    PortAudioStream,
    call,
    initialise_again,
    load_sounddevice,
    stuck,
)
from personaplex_cli.errors import AudioError, ExitCode, MissingLibraryError

LIMIT_S = 0.05

Given = tuple[bytes, int, float, bool]


class Told:
    """What a stream calls."""

    def __init__(self) -> None:
        self.blocks: list[Given] = []
        self.ended = 0

    def handle(self, buffer: Any, n_samples: int, seconds: float, flagged: bool) -> None:
        self.blocks.append((bytes(buffer), n_samples, seconds, flagged))

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
def told() -> Told:
    return Told()


def open_stream(told: Told, kind: Kind = "input", format: StreamFormat | None = None) -> PortAudioStream:
    return PortAudioStream(kind, fake_device(), format or StreamFormat(), told.handle, told.end)


@pytest.fixture
def hang(card: FakeSounddevice) -> Iterator[threading.Event]:
    """What something hangs at. At the test's end it goes on, and is over."""
    goes_on = threading.Event()
    yield goes_on
    goes_on.set()
    call(lambda: None, 10)


# --- its thread


def test_all_calls_are_made_on_one_thread_and_give_what_they_come_to() -> None:
    threads = {call(threading.get_ident, 10) for _ in range(3)}
    assert len(threads) == 1 and threading.get_ident() not in threads
    with pytest.raises(ZeroDivisionError):
        call(lambda: 1 / 0, 10)
    assert call(lambda: "it goes on", 10) == "it goes on"


def test_a_call_that_hangs_is_waited_for_no_longer_than_the_limit(hang: threading.Event) -> None:
    with pytest.raises(AudioError, match="does not answer"):
        call(hang.wait, LIMIT_S)
    assert stuck()
    hang.set()
    call(lambda: None, 10)
    assert not stuck()


def test_what_nobody_waits_for_any_more_is_undone(hang: threading.Event) -> None:
    undone: list[str] = []

    def open_something() -> str:
        hang.wait()
        return "a stream"

    with pytest.raises(AudioError):
        call(open_something, LIMIT_S, undo=undone.append)
    assert undone == []
    hang.set()
    call(lambda: None, 10)
    assert undone == ["a stream"]


def test_a_failure_that_nobody_waits_for_is_not_undone(
    hang: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    undone: list[None] = []

    def fail() -> None:
        hang.wait()
        raise PortAudioError("late")

    with pytest.raises(AudioError):
        call(fail, LIMIT_S, undo=undone.append)
    hang.set()
    call(lambda: None, 10)
    assert undone == [] and not stuck() and caplog.records == []


def test_what_waits_behind_a_call_that_hangs_is_never_made(hang: threading.Event) -> None:
    made: list[str] = []
    for action in (hang.wait, lambda: made.append("opened")):
        with pytest.raises(AudioError, match="does not answer"):
            call(action, LIMIT_S)
    hang.set()
    assert call(lambda: made, 10) == []


# --- the module


def importing_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    original = builtins.__import__

    def import_(name: str, *args: Any, **kwargs: Any) -> ModuleType:
        if name == "sounddevice":
            raise error
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", import_)


def test_without_portaudio_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    importing_raises(monkeypatch, OSError("PortAudio library not found"))
    with pytest.raises(MissingLibraryError) as caught:
        load_sounddevice()
    assert "portaudio" in (caught.value.hint or "")


def test_portaudio_that_does_not_start_is_an_audio_error(monkeypatch: pytest.MonkeyPatch) -> None:
    importing_raises(monkeypatch, PortAudioError("Error initializing PortAudio"))
    with pytest.raises(AudioError, match="cannot be started: Error initializing"):
        load_sounddevice()


def test_the_module_itself_is_returned(card: FakeSounddevice) -> None:
    assert load_sounddevice() is card  # type: ignore[comparison-overlap]


def test_portaudio_that_does_not_start_again_is_an_audio_error(
    card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialise_again()
    assert card.calls == ["initialize", "terminate", "initialize"]

    def broken() -> None:
        raise PortAudioError("Error initializing\x1b PortAudio")

    monkeypatch.setattr(card, "_initialize", broken)
    with pytest.raises(AudioError, match="started again: Error initializing\ufffd PortAudio"):
        initialise_again()


# --- streams


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_stream_has_the_format_that_is_asked_for(kind: Kind, card: FakeSounddevice, told: Told) -> None:
    stream = open_stream(told, kind, StreamFormat(44_100, 2))
    [(opened_kind, fake)] = card.opened
    wanted = {"samplerate": 44_100, "channels": 2, "dtype": "int16", "device": 0}
    assert opened_kind == kind
    assert wanted.items() <= fake.options.items()
    assert fake.options["blocksize"] == pytest.approx(44_100 * BLOCK_S[kind], abs=1)
    assert stream.latency_s == FakeStream.latency
    assert fake.calls == []
    stream.start()
    assert fake.calls == ["start"]
    stream.close()
    assert fake.calls == ["start", "stop", "close"]
    assert told.ended == 0  # our own close is no loss


def test_blocks_are_handed_on_with_the_time_that_they_lay_in_the_device(
    card: FakeSounddevice, told: Told
) -> None:
    open_stream(told).start()
    card.stream.capture(b"\1\2" * 240, age_s=0.03)
    card.stream.capture(b"\3\4" * 120, "input overflow")
    assert told.blocks == [
        (b"\1\2" * 240, 240, pytest.approx(0.03), False),
        (b"\3\4" * 120, 120, 0.0, True),
    ]


def test_a_buffer_to_fill_comes_with_the_time_until_it_is_heard(card: FakeSounddevice, told: Told) -> None:
    open_stream(told, "output", StreamFormat(24_000, 2)).start()
    card.stream.play(240, ahead_s=0.02)
    card.stream.play(240, "output underflow")
    assert [block[1:] for block in told.blocks] == [(240, pytest.approx(0.02), False), (240, 0.0, True)]


@pytest.mark.parametrize(("stamp_s", "believed_s"), [(-3600.0, 0.0), (3600.0, MAX_STAMP_S)])
def test_stamps_that_cannot_be_true_are_not_believed(
    stamp_s: float, believed_s: float, card: FakeSounddevice, told: Told
) -> None:
    open_stream(told).start()
    card.stream.capture(bytes(480), age_s=stamp_s)
    open_stream(told, "output").start()
    card.stream.play(240, ahead_s=stamp_s)
    assert [seconds for _, _, seconds, _ in told.blocks] == [believed_s, believed_s]


def test_a_stream_that_ends_by_itself_is_told(card: FakeSounddevice, told: Told) -> None:
    open_stream(told).start()
    card.stream.lose()
    assert told.ended == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No input\x1b[2J"),
        PortAudioError("Invalid number of channels", -9998),
        PortAudioError("Invalid sample rate", -9997),
        PortAudioError("Sample format not supported", -9994),
    ],
)
def test_a_format_that_is_refused(error: Exception, card: FakeSounddevice, told: Told) -> None:
    card.open_error = error
    with pytest.raises(FormatRefused) as caught:
        open_stream(told)
    assert str(error).split("\x1b")[0][:10] in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(("kind", "role"), [("input", "microphone"), ("output", "speaker")])
def test_a_device_that_does_not_open_in_any_format(
    kind: Kind, role: str, card: FakeSounddevice, told: Told
) -> None:
    card.open_error = PortAudioError("Device unavailable\x1b", -9985)
    with pytest.raises(AudioError, match=f"{role} 'USB Headset' cannot be opened: .*Device") as caught:
        open_stream(told, kind)
    assert caught.value.exit_code == ExitCode.AUDIO
    assert "\x1b" not in str(caught.value) and f"--{kind}-device" in (caught.value.hint or "")


def test_a_device_that_does_not_start(card: FakeSounddevice, told: Told) -> None:
    stream = open_stream(told, "output")
    card.stream.start_error = PortAudioError("Unanticipated host error")
    with pytest.raises(AudioError, match="speaker does not start: Unanticipated"):
        stream.start()


def test_a_stream_that_hangs_when_it_starts_is_an_error_soon_and_closed_later(
    card: FakeSounddevice, told: Told, hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portaudio, "OPEN_LIMIT_S", LIMIT_S)
    stream = open_stream(told)
    card.stream.start_waits_for = hang
    with pytest.raises(AudioError, match="does not answer"):
        stream.start()
    monkeypatch.setattr(portaudio, "CLOSE_LIMIT_S", LIMIT_S)
    stream.close()  # waits no longer than that, and is done all the same
    assert stuck()
    hang.set()
    call(lambda: None, 10)
    assert card.stream.calls == ["start", "stop", "close"]


def test_a_stream_that_hangs_when_it_is_opened_is_closed_later(
    card: FakeSounddevice, told: Told, hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portaudio, "OPEN_LIMIT_S", LIMIT_S)
    real_open = card._open
    monkeypatch.setattr(card, "_open", lambda *arguments: (hang.wait(), real_open(*arguments))[1])
    with pytest.raises(AudioError, match="does not answer"):
        open_stream(told)
    hang.set()
    call(lambda: None, 10)
    assert card.stream.calls == ["close"]


def test_a_stream_that_hangs_when_it_is_closed_is_left_to_later(
    card: FakeSounddevice, told: Told, hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portaudio, "CLOSE_LIMIT_S", LIMIT_S)
    stream = open_stream(told)
    stream.start()
    card.stream.close_waits_for = hang
    before_s = time.monotonic()
    stream.close()
    assert time.monotonic() - before_s < 5
    assert card.stream.calls == ["start", "stop"] and stuck()
    hang.set()
    call(lambda: None, 10)
    assert card.stream.calls == ["start", "stop", "close"] and not stuck()
    assert told.ended == 0


# --- streams to read from


def open_reader(told: Told, format: StreamFormat | None = None) -> PortAudioReader:
    return PortAudioReader(fake_device(), format or StreamFormat(), told.handle, told.end)


def loud(told: Told) -> list[Given]:
    """Without the silence of a device that nobody speaks into."""
    return [block for block in told.blocks if any(block[0])]


def test_a_reader_gives_a_step_at_a_time(card: FakeSounddevice, told: Told) -> None:
    reader = open_reader(told, StreamFormat(48_000, 2))
    assert reader.latency_s == FakeStream.latency and card.stream.calls == []
    steps = [bytes([number]) * (2 * 2 * 3840) for number in (1, 2, 3)]
    card.stream.capture(b"".join(steps), "input overflow")
    reader.start()
    until(lambda: len(loud(told)) == 3)
    given = [(block, n_samples, flagged) for block, n_samples, _, flagged in loud(told)]
    assert given == [(step, 3840, step == steps[0]) for step in steps]
    assert {age_s for _, _, age_s, _ in loud(told)} == {0.08 + FakeStream.latency}
    assert stuck()  # it waits inside PortAudio
    reader.close()
    assert card.stream.calls == ["start", "stop", "close"]
    assert told.ended == 0 and not stuck()
    n_blocks = len(told.blocks)
    card.stream.capture(steps[0])
    assert len(told.blocks) == n_blocks


def test_a_reader_whose_device_is_gone_is_told_once_and_closed(card: FakeSounddevice, told: Told) -> None:
    reader = open_reader(told)
    reader.start()
    card.stream.lose()
    until(lambda: told.ended)
    until(lambda: "close" in card.stream.calls)
    reader.close()
    assert told.ended == 1 and card.stream.calls == ["start", "stop", "close"] and not stuck()


def test_a_reader_that_was_never_started_is_closed(card: FakeSounddevice, told: Told) -> None:
    open_reader(told).close()
    assert card.stream.calls == ["stop", "close"] and told.ended == 0


def test_a_reader_that_does_not_start(card: FakeSounddevice, told: Told) -> None:
    reader = open_reader(told)
    card.stream.start_error = PortAudioError("Unanticipated host error")
    with pytest.raises(AudioError, match="microphone does not start: Unanticipated"):
        reader.start()
    reader.close()
    assert card.stream.calls == ["start", "stop", "close"]


def test_a_reader_that_hangs_is_left_behind_and_closed_when_it_comes_back(
    card: FakeSounddevice, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, reading = threading.Event(), threading.Event()
    monkeypatch.setattr(portaudio, "CLOSE_LIMIT_S", LIMIT_S)

    def hanging_read(n_samples: int) -> tuple[bytes, bool]:
        reading.set()
        goes_on.wait()
        return bytes(2 * n_samples), False

    reader = open_reader(told)
    monkeypatch.setattr(card.stream, "read", hanging_read)
    reader.start()
    assert reading.wait(PATIENCE_S)
    before_s = time.monotonic()
    reader.close()
    assert time.monotonic() - before_s < 5
    assert card.stream.calls == ["start"] and stuck()
    monkeypatch.setattr(portaudio, "CLOSE_LIMIT_S", PATIENCE_S)
    goes_on.set()
    until(lambda: card.stream.calls == ["start", "stop", "close"])
    until(lambda: not stuck())
    assert told.ended == 0


def test_the_thread_holds_up_no_exit() -> None:
    call(lambda: None, 10)
    [thread] = [thread for thread in threading.enumerate() if thread.name == "portaudio"]
    assert thread.daemon
