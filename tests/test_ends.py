from __future__ import annotations

import io
import math
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_portaudio import FakeSounddevice

from personaplex_cli.devices import portaudio
from personaplex_cli.echo import Echo
from personaplex_cli.ends import MicrophoneEnd, Sink, Source, SpeakerEnd, open_sink, open_source
from personaplex_cli.errors import AudioError, ExitCode, UsageError
from personaplex_cli.events import EchoState
from personaplex_cli.pipeline.files import FileSink, FileSource
from personaplex_cli.pipeline.pipes import NullSink, NullSource, PipeSink, PipeSource
from personaplex_cli.soundcard import MicrophoneSource, SpeakerSink


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for PortAudio fails the test."""
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(portaudio, "_import_sounddevice", lambda: pytest.fail("a device was asked for"))


def source_of(file: str | None, device: str | None = None, channel: int | None = None) -> Source:
    return open_source(file, device, channel, Echo())


def sink_of(file: str | None, device: str | None = None) -> Sink:
    return open_sink(file, device, 400, Echo())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "question.wav", np.zeros(100), 24_000)
    return tmp_path / "question.wav"


def test_nothing_said_is_microphone_and_speaker(card: FakeSounddevice) -> None:
    assert isinstance(source_of(None), MicrophoneSource)
    assert isinstance(sink_of(None, "headset"), SpeakerSink)
    assert [kind for kind, _ in card.opened] == ["input", "output"]


@pytest.mark.usefixtures("card")
def test_only_devices_can_be_steered(wav: Path) -> None:
    assert isinstance(source_of(None), MicrophoneEnd) and isinstance(sink_of(None), SpeakerEnd)
    for source in (source_of(None, "none"), source_of(str(wav))):
        assert not isinstance(source, MicrophoneEnd) and source.echo is EchoState.OFF
    sinks = (sink_of("none"), sink_of(str(wav.parent / "answer.wav")), PipeSink(io.BytesIO()))
    for sink in sinks:
        assert not isinstance(sink, SpeakerEnd)
        sink.close()


def test_where_writing_is_all_there_is_all_is_heard_that_was_written(wav: Path) -> None:
    for sink in (sink_of("none"), sink_of(str(wav.parent / "answer.wav")), PipeSink(io.BytesIO())):
        assert sink.heard_ms == sink.heard_at_close_ms == math.inf
        assert sink.take_skipped_ms() == []
        sink.close()


@pytest.mark.usefixtures("card")
def test_a_device_that_is_not_there() -> None:
    for opening in (source_of, sink_of):
        with pytest.raises(AudioError, match="no sound device 'organ'"):
            opening(None, "organ")


@pytest.mark.usefixtures("card")
def test_a_channel_that_is_not_there() -> None:
    with pytest.raises(AudioError, match="no channel 2") as caught:
        source_of(None, None, 2)
    assert "--input-channel" in (caught.value.hint or "")


@pytest.mark.usefixtures("no_card")
@pytest.mark.parametrize("spec", ["none", " None "])
def test_no_device_at_all_is_a_choice(spec: str) -> None:
    assert isinstance(source_of(None, spec), NullSource)
    assert isinstance(sink_of(None, spec), NullSink)


@pytest.mark.usefixtures("no_card")
def test_files_need_no_sound_device(wav: Path) -> None:
    source = source_of(str(wav))
    assert isinstance(source, FileSource)
    source.close()
    sink = sink_of(str(wav.parent / "answer.wav"))
    assert isinstance(sink, FileSink)
    sink.close()
    assert isinstance(sink_of("none"), NullSink)


def test_a_tilde_is_the_home_folder(own_home: Path, wav: Path) -> None:
    wav.rename(own_home / "question.wav")
    source_of("~/question.wav").close()


def test_the_home_of_nobody_is_no_traceback() -> None:
    """The shell leaves such a name as it is."""
    for opening in (source_of, sink_of):
        with pytest.raises(UsageError, match="~no-such-user"):
            opening("~no-such-user/a.wav")


@pytest.mark.usefixtures("no_card")
def test_a_dash_is_the_process_s_own_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken, speaking = os.pipe()
    reading, writing = os.pipe()
    with open(spoken, encoding="utf-8") as stdin, open(writing, "w", encoding="utf-8") as stdout:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", stdin)
            patched.setattr(sys, "stdout", stdout)
            source, sink = source_of("-"), sink_of("-")
        assert isinstance(source, PipeSource) and isinstance(sink, PipeSink)
        sink.write(b"\1\2", 0.0)
        assert os.read(reading, 10) == b"\1\2"
        os.close(reading)
        os.close(speaking)
        for thread in threading.enumerate():
            if thread.name == "stdin":
                thread.join(10)


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
    for opening, words in ((source_of, source_says), (sink_of, sink_says)):
        with pytest.raises(UsageError, match=words) as caught:
            opening("-")
        assert caught.value.exit_code == ExitCode.USAGE
        assert "s16le" in (caught.value.hint or "") or "raw" in (caught.value.hint or "")
