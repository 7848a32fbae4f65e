from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import FakeSounddevice, fake_device

from personaplex_cli import devices
from personaplex_cli.ends import SpeakerSink, open_sink, open_source
from personaplex_cli.errors import AudioError, ExitCode, PersonaplexError, UsageError
from personaplex_cli.pcm import STEP_SAMPLES
from personaplex_cli.pipeline.files import FileSink, FileSource
from personaplex_cli.pipeline.microphone import Microphone
from personaplex_cli.pipeline.pipes import NullSink, PipeSink, PipeSource


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    """A sound card. `find_device` knows one device, which it finds by any name but "none"."""
    card = FakeSounddevice()

    def find(spec: str | None, kind: devices.Kind) -> devices.Device:
        if spec == "none":
            raise AudioError("There is no sound device 'none'.")
        return fake_device()

    monkeypatch.setattr(devices, "load_sounddevice", lambda: card)
    monkeypatch.setattr(devices, "find_device", find)
    return card


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for PortAudio fails the test."""
    monkeypatch.setattr(devices, "load_sounddevice", lambda: pytest.fail("a sound device was asked for"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "question.wav", np.zeros(100), 24_000)
    return tmp_path / "question.wav"


def test_nothing_said_is_microphone_and_speaker(card: FakeSounddevice) -> None:
    assert isinstance(open_source(None, None), Microphone)
    assert isinstance(open_sink(None, "headset"), SpeakerSink)
    assert [kind for kind, _ in card.opened] == ["input", "output"]


def test_a_device_that_is_not_there(card: FakeSounddevice) -> None:
    for opening in (open_source, open_sink):
        with pytest.raises(AudioError):
            opening(None, "none")


@pytest.mark.usefixtures("no_card")
def test_files_need_no_sound_device(wav: Path) -> None:
    source = open_source(str(wav), None)
    assert isinstance(source, FileSource)
    source.close()
    sink = open_sink(str(wav.parent / "answer.wav"), None)
    assert isinstance(sink, FileSink)
    sink.close()
    assert isinstance(open_sink("none", None), NullSink)


def test_a_tilde_is_the_home_folder(own_home: Path, wav: Path) -> None:
    wav.rename(own_home / "question.wav")
    open_source("~/question.wav", None).close()


def test_the_home_of_nobody_is_no_traceback() -> None:
    """The shell leaves such a name as it is."""
    for opening in (open_source, open_sink):
        with pytest.raises(UsageError, match="~no-such-user"):
            opening("~no-such-user/a.wav", None)


@pytest.mark.usefixtures("no_card")
def test_a_dash_is_the_process_s_own_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as stdin, open(writing, "w", encoding="utf-8") as stdout:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", stdin)
            patched.setattr(sys, "stdout", stdout)
            source, sink = open_source("-", None), open_sink("-", None)
        assert isinstance(source, PipeSource) and isinstance(sink, PipeSink)
        sink.write(b"\1\2")
        assert os.read(reading, 10) == b"\1\2"


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    ("stream", "source_says", "sink_says"),
    [
        (None, "Standard input is closed", "Standard output is closed"),
        (closed(), "Standard input is closed", "Standard output is closed"),
        (Terminal(), "Nothing is piped in", "Standard output is a terminal"),
    ],
    ids=["none", "closed", "terminal"],
)
def test_standard_streams_that_are_no_pipes(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None, source_says: str, sink_says: str
) -> None:
    monkeypatch.setattr(sys, "stdin", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    for opening, words in ((open_source, source_says), (open_sink, sink_says)):
        with pytest.raises(UsageError, match=words) as caught:
            opening("-", None)
        assert caught.value.exit_code == ExitCode.USAGE
        assert "s16le" in (caught.value.hint or "") or "raw" in (caught.value.hint or "")


def test_the_speaker_plays_what_is_written(card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    failures: list[PersonaplexError] = []
    sink = SpeakerSink(fake_device())
    sink.start(failures.append)
    sink.write(b"\1\1" * STEP_SAMPLES)
    heard = b"".join(card.stream.play(240, status) for status in [None] * 7 + ["underflow"])
    assert heard[-480:] == b"\1\1" * 240
    assert (sink.written, sink.underruns, sink.dropped_ms, sink.device_flags) == (None, 0, 0, 1)
    for _ in range(10):
        sink.write(b"\1\1" * STEP_SAMPLES)
    card.stream.play(240)
    assert sink.dropped_ms == 800 + 80 - 40 - 120
    sink.close()
    assert card.stream.calls == ["start", "stop", "close"]
    assert waits == [pytest.approx(0.11)]  # what was still held has been heard
    assert failures == []


def test_each_call_gets_an_empty_buffer_on_the_same_stream(card: FakeSounddevice) -> None:
    sink = SpeakerSink(fake_device())
    for _ in range(2):
        sink.start(lambda error: pytest.fail(str(error)))
        assert not any(card.stream.play(2400))
        sink.write(b"\1\1" * 12_000)
        card.stream.play(960)
        card.stream.play(240)
        assert sink.dropped_ms > 0
    assert card.stream.calls == ["start"]
