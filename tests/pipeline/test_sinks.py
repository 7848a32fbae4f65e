from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from personaplex_cli.errors import ExitCode, UsageError
from personaplex_cli.events import DeviceCounters, PlayoutCounters, Written
from personaplex_cli.pcm import SAMPLE_RATE
from personaplex_cli.pipeline.files import FileSink
from personaplex_cli.pipeline.pipes import NullSink, PipeSink

SECOND = (np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE) * 12_000).astype("<i2").tobytes()


def parts(folder: Path) -> list[Path]:
    return list(folder.glob("*.part"))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "A.WAV"])
def test_what_was_written_is_in_the_file(tmp_path: Path, name: str) -> None:
    sink = FileSink(tmp_path / name)
    sink.start(object())
    for at in range(0, 2 * len(SECOND), 3840):
        sink.write((SECOND * 2)[at : at + 3840], 0.0)
    sink.close()
    heard, rate = soundfile.read(tmp_path / name, dtype="int16")
    assert rate == SAMPLE_RATE and heard.shape == (2 * SAMPLE_RATE,)
    meant = np.frombuffer(SECOND * 2, "<i2")
    if name == "a.ogg":  # Vorbis is not exact
        assert np.abs(heard.astype(int) - meant).mean() < 300
    else:
        assert np.array_equal(heard, meant)
    assert sink.written == Written(str(tmp_path / name), pytest.approx(2.0))  # type: ignore[arg-type]
    assert (sink.playout, sink.device, sink.lag_ms) == (PlayoutCounters(), DeviceCounters(), 0.0)


def test_the_file_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"an earlier call")
    sink = FileSink(tmp_path / "a.wav")
    sink.write(SECOND, 0.0)
    assert (tmp_path / "a.wav").read_bytes() == b"an earlier call"
    assert len(parts(tmp_path)) == 1
    sink.close()
    assert soundfile.info(tmp_path / "a.wav").duration == 1.0
    assert parts(tmp_path) == []


def test_nothing_received_keeps_what_an_earlier_call_wrote(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"an earlier call")
    sink = FileSink(tmp_path / "a.wav")
    sink.close()
    assert (tmp_path / "a.wav").read_bytes() == b"an earlier call"
    assert parts(tmp_path) == []
    assert sink.written is None


def test_nothing_received_leaves_no_file(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a.flac")
    sink.close()
    assert not (tmp_path / "a.flac").exists() and parts(tmp_path) == []


def test_closing_twice(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a.wav")
    sink.write(SECOND, 0.0)
    sink.close()
    (tmp_path / "a.wav").unlink()
    sink.close()
    assert not (tmp_path / "a.wav").exists()


def test_two_calls_into_the_same_file_do_not_mix(tmp_path: Path) -> None:
    first, second = FileSink(tmp_path / "a.wav"), FileSink(tmp_path / "a.wav")
    first.write(SECOND, 0.0)
    second.write(SECOND * 2, 0.0)
    second.close()
    first.close()
    assert soundfile.info(tmp_path / "a.wav").duration == 1.0


def refused(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        FileSink(path)
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value


@pytest.mark.parametrize("name", ["answer", "answer.mp3", "answer.wav.bak", ".wav"])
def test_an_unknown_format(tmp_path: Path, name: str) -> None:
    error = refused(tmp_path / name)
    assert "format" in str(error) and ".wav, .flac or .ogg" in (error.hint or "")
    assert list(tmp_path.glob("*.*")) == []


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    assert "No such file or directory" in str(refused(tmp_path / "missing" / "a.wav"))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in str(refused(tmp_path / "file" / "a.wav"))


def test_names_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a.wav").mkdir()
    assert "is not a regular file" in str(refused(tmp_path / "a.wav"))
    assert "name too long" in str(refused(tmp_path / ("a" * 300 + ".wav")))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_places_nobody_may_write_to(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch(0o400)
    assert "permission denied" in str(refused(tmp_path / "a.wav"))
    tmp_path.chmod(0o500)
    assert "Permission denied" in str(refused(tmp_path / "b.wav"))
    tmp_path.chmod(0o700)


def test_a_file_nobody_may_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(b"kept")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "permission denied" in str(refused(tmp_path / "a.wav"))
    assert (tmp_path / "a.wav").read_bytes() == b"kept"


def test_what_libsndfile_says_while_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise soundfile.LibsndfileError(1)

    monkeypatch.setattr(soundfile, "SoundFile", broken)
    assert "cannot be written" in str(refused(tmp_path / "a.wav"))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_disk_that_is_full(tmp_path: Path, name: str) -> None:
    """The system is told to let no file grow beyond 60 kB."""
    import resource

    sink = FileSink(tmp_path / name)
    noise = np.random.default_rng(1).integers(-9000, 9000, SAMPLE_RATE, dtype=np.int16).tobytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(UsageError, match="Writing .* failed") as caught:
            for _ in range(5):
                sink.write(noise, 0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "disk" in (caught.value.hint or "")
    sink.close()
    # Nothing that was recorded up to then is lost.
    assert sink.written is not None and 0 < (sink.written.duration_s or 0) < 5
    assert soundfile.info(tmp_path / name).frames > 0


def test_a_file_that_cannot_take_its_name_in_the_end(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a.wav")
    sink.write(SECOND, 0.0)
    (tmp_path / "a.wav" / "in the way").mkdir(parents=True)
    with pytest.raises(UsageError, match="could not be completed"):
        sink.close()
    sink.close()
    assert len(parts(tmp_path)) == 1  # what was received is there


def test_a_pipe_gets_the_bytes_at_once() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "wb") as writer:
        sink = PipeSink(writer)
        sink.start(object())
        sink.write(SECOND[:3840], 0.0)
        assert os.read(reader.fileno(), 9999) == SECOND[:3840]
        sink.close()
        assert not writer.closed
    assert sink.written is None
    assert (sink.playout, sink.device, sink.lag_ms) == (PlayoutCounters(), DeviceCounters(), 0.0)


def test_a_pipe_that_nobody_reads_any_more() -> None:
    reading, writing = os.pipe()
    with open(writing, "wb") as writer:
        os.close(reading)
        sink = PipeSink(writer)
        with pytest.raises(BrokenPipeError):
            sink.write(SECOND, 0.0)
        sink.close()
    # Leaving the block wrote out what was left: with nobody complaining.


def test_the_null_sink_hears_nothing() -> None:
    sink = NullSink()
    sink.start(object())
    sink.write(SECOND, 0.0)
    sink.close()
    sink.close()
    assert sink.written is None
    assert (sink.playout, sink.device, sink.lag_ms) == (PlayoutCounters(), DeviceCounters(), 0.0)


def test_any_binary_stream_is_a_pipe() -> None:
    stream = io.BytesIO()
    PipeSink(stream).write(b"\1\2", 0.0)
    assert stream.getvalue() == b"\1\2"
