from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from fakes import run_virtual

from personaplex_cli.errors import ExitCode, MissingLibraryError, UsageError
from personaplex_cli.events import DeviceCounters
from personaplex_cli.pcm import PACKET_BYTES, PACKET_SAMPLES, SAMPLE_RATE, silence
from personaplex_cli.pipeline import files
from personaplex_cli.pipeline.files import FileSource

Signal = npt.NDArray[np.float64]

SECONDS = 1.3
AFTER_END = 5


def speech_like(rate: int, seconds: float = SECONDS) -> Signal:
    """A chirp of 200 to 2000 Hz under a slow envelope: it correlates with itself at one delay only."""
    t = np.arange(round(rate * seconds)) / rate
    envelope: Signal = 0.3 * (1.2 + np.sin(2 * np.pi * 3 * t)) / 2.2
    return np.asarray(envelope * np.sin(2 * np.pi * (200 * t + 900 * t**2 / seconds)))


def read_all(path: Path) -> tuple[Signal, list[float]]:
    """Everything up to the end of the file as samples at 24 kHz, and when each block came, counted from the
    start. Some blocks after the end are checked to be silence."""

    async def main() -> tuple[bytes, list[float]]:
        source = FileSource(path)
        source.start(object())
        began = asyncio.get_running_loop().time()
        pcm, times = b"", []
        while not source.finished:
            block = await source.read()
            assert len(block.pcm) == PACKET_BYTES
            assert block.at_s == asyncio.get_running_loop().time()
            pcm += block.pcm
            times.append(block.at_s - began)
        for _ in range(AFTER_END):
            assert (await source.read()).pcm == silence(PACKET_SAMPLES)
            assert source.finished
        assert (source.silence_inserted, source.packets_dropped, source.device) == (0, 0, DeviceCounters())
        source.close()
        source.close()
        return pcm, times

    pcm, times = run_virtual(main())
    return np.frombuffer(pcm, "<i2") / 32768, times


def correlation(heard: Signal, meant: Signal) -> float:
    """At the delay of up to 100 ms, either way, where it is best."""
    size = 1 << 17
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(meant, size))
    scores = np.fft.irfft(spectrum, size)
    best = max(scores[:2400].max(), scores[-2400:].max())
    return float(best / np.sqrt((heard**2).sum() * (meant**2).sum()))


@pytest.mark.parametrize(
    ("name", "rate", "subtype"),
    [
        ("a.wav", 8_000, "PCM_16"),
        ("a.wav", 24_000, "PCM_16"),
        ("a.wav", 24_000, "FLOAT"),
        ("a.wav", 44_100, "PCM_24"),
        ("a.wav", 48_000, "PCM_16"),
        ("a.wav", 16_000, "ULAW"),
        ("a.flac", 44_100, "PCM_16"),
        ("a.ogg", 48_000, "VORBIS"),
        ("a.opus", 48_000, "OPUS"),
        ("a.mp3", 44_100, "MPEG_LAYER_III"),
    ],
)
def test_content_and_length_of_every_kind_of_file(tmp_path: Path, name: str, rate: int, subtype: str) -> None:
    if subtype == "MPEG_LAYER_III" and "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile cannot write MP3")
    major = "OGG" if subtype == "OPUS" else None
    soundfile.write(tmp_path / name, speech_like(rate), rate, subtype, format=major)
    heard, _ = read_all(tmp_path / name)
    # To the next whole packet; codecs may add as much as one of their own.
    assert 0 <= len(heard) - SECONDS * SAMPLE_RATE < (2 if name == "a.mp3" else 1) * PACKET_SAMPLES
    assert correlation(heard, speech_like(SAMPLE_RATE)) > (0.9 if name == "a.mp3" else 0.99)


def test_a_file_at_the_model_s_rate_comes_through_bit_by_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(-32768, 32768, 12_345, dtype=np.int16)
    values[:2] = (-32768, 32767)
    soundfile.write(tmp_path / "a.wav", values, SAMPLE_RATE)
    heard, _ = read_all(tmp_path / "a.wav")
    assert np.array_equal(heard[:12_345] * 32768, values)
    assert not heard[12_345:].any()


def test_channels_are_mixed_to_one(tmp_path: Path) -> None:
    left = np.full(2400, 0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left, left, left], axis=1), SAMPLE_RATE)
    heard, _ = read_all(tmp_path / "a.wav")
    assert heard == pytest.approx(0.25, abs=1e-4)


def test_what_is_louder_than_full_scale_is_clipped_not_wrapped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([1.0, 1.5, -1.5, -1.0] * 120), SAMPLE_RATE, "FLOAT")
    heard, _ = read_all(tmp_path / "a.wav")
    assert (heard[:4] * 32768).tolist() == [32767, 32767, -32768, -32768]


def test_blocks_come_at_real_time_pace(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", speech_like(44_100), 44_100)
    _, times = read_all(tmp_path / "a.wav")
    assert times == pytest.approx([0.02 * i for i in range(1, len(times) + 1)], abs=1e-6)


@pytest.mark.parametrize("n_samples", [1, 479, 480, 481, 11_999, 12_000, 12_001, 24_000])
def test_no_sample_is_lost_at_the_end(tmp_path: Path, n_samples: int) -> None:
    """Also where the file ends with a packet, or with what is read in one go."""
    soundfile.write(tmp_path / "a.wav", np.full(n_samples, 0.5), SAMPLE_RATE)
    heard, _ = read_all(tmp_path / "a.wav")
    assert np.count_nonzero(heard) == n_samples
    assert len(heard) <= n_samples + PACKET_SAMPLES


def test_a_stalled_reader_loses_nothing(tmp_path: Path) -> None:
    values = np.arange(4800, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", values, SAMPLE_RATE)

    async def main() -> bytes:
        source = FileSource(tmp_path / "a.wav")
        source.start(object())
        pcm = b""
        for _ in range(10):
            block = await source.read()
            assert block.at_s == asyncio.get_running_loop().time()  # or the encoder would drop it
            pcm += block.pcm
            await asyncio.sleep(0.5)
        source.close()
        return pcm

    assert run_virtual(main()) == values.astype("<i2").tobytes()


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg", "a.wav"])
@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
def test_a_file_that_breaks_off_is_over(tmp_path: Path, name: str, damage: str) -> None:
    noise = np.random.default_rng(1).standard_normal(3 * 48_000) * 0.1
    soundfile.write(tmp_path / name, noise, 48_000)
    content = bytearray((tmp_path / name).read_bytes())
    middle = len(content) // 2
    if damage == "cut off":
        del content[middle:]
    else:
        content[middle : middle + 3000] = np.random.default_rng(2).bytes(3000)
    (tmp_path / name).write_bytes(content)
    heard, _ = read_all(tmp_path / name)
    assert 0.5 * SAMPLE_RATE < len(heard) <= 3.1 * SAMPLE_RATE
    assert heard.any()


def refused(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        FileSource(path)
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def test_a_missing_file(tmp_path: Path) -> None:
    error = refused(tmp_path / "question.wav")
    assert str(error) == f"There is no file {tmp_path / 'question.wav'}."
    assert "standard input" in (error.hint or "")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in str(refused(tmp_path))


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in str(refused(tmp_path / "file" / "a.wav"))
    assert "File name too long" in str(refused(tmp_path / ("a" * 300 + ".wav")))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"This is no audio.\n" * 100,
        b"RIFF\x24\x00\x00\x00WAVE",
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\x00",
        b"OggS" + bytes(100),
        b"fLaC" + bytes(10),
        b"\xff\xfb\x90\x00",
    ],
    ids=["empty", "text", "WAV header", "torn WAV header", "Ogg", "FLAC", "MP3"],
)
@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "noname"])
def test_files_that_hold_no_audio(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused(tmp_path / name)
    assert str(tmp_path / name) in str(error)
    assert "not an audio file" in str(error) or "holds no audio" in str(error)


def test_raw_audio_is_for_the_pipe(tmp_path: Path) -> None:
    """libsndfile would want to be told its rate."""
    (tmp_path / "a.raw").write_bytes(bytes(4800))
    assert "is not an audio file" in str(refused(tmp_path / "a.raw"))


def test_a_header_without_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), SAMPLE_RATE)
    assert "holds no audio" in str(refused(tmp_path / "a.wav"))


def test_a_file_nobody_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the system's answer is made up."""

    def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    soundfile.write(tmp_path / "a.wav", np.zeros(10), SAMPLE_RATE)
    monkeypatch.setattr(soundfile, "SoundFile", denied)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "permission denied" in str(refused(tmp_path / "a.wav"))


def test_a_folder_nobody_may_look_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    error = refused(tmp_path / "a.wav")
    monkeypatch.undo()
    assert "cannot be read: Permission denied" in str(error)


def test_without_libsndfile_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = __import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "soundfile":
            raise OSError("sndfile library not found")
        return real_import(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("builtins.__import__", without)
    with pytest.raises(MissingLibraryError, match="libsndfile") as caught:
        files.FileSource(tmp_path / "a.wav")
    assert caught.value.exit_code == ExitCode.AUDIO
    assert caught.value.hint


def test_another_call_goes_on_where_the_one_before_stopped(tmp_path: Path) -> None:
    values = np.arange(4800, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", values, SAMPLE_RATE)

    async def main() -> bytes:
        source = FileSource(tmp_path / "a.wav")
        pcm = b""
        for _ in range(2):
            source.start(object())
            began = asyncio.get_running_loop().time()
            for packet in range(1, 6):
                pcm += (await source.read()).pcm
                assert asyncio.get_running_loop().time() == pytest.approx(began + packet * 0.02)
            await asyncio.sleep(60)
        source.close()
        return pcm

    assert run_virtual(main()) == values.astype("<i2").tobytes()
