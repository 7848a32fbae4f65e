from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fake_portaudio import FakeSounddevice, FakeStream, listed_device, until
from ogg_pages import RATE

from personaplex_cli.devices.device import Device
from personaplex_cli.doctor import chirp, recording, sound
from personaplex_cli.doctor.check import Finding, Status
from personaplex_cli.doctor.level import Level, Verdict
from personaplex_cli.doctor.machine import Place
from personaplex_cli.doctor.recording import play_and_record, record
from personaplex_cli.doctor.sound import Sound, accepted_format, echo_finding, level_finding
from personaplex_cli.errors import AudioError, ExitCode

LINUX = Place("Linux")


def ears(**changes: object) -> Sound:
    usual = {"input_device": None, "output_device": None, "input_channel": None, "place": LINUX}
    return Sound(**{**usual, **changes})  # type: ignore[arg-type]


# --- which devices


def test_a_device_that_takes_24_khz_mono(card: FakeSounddevice) -> None:
    finding = ears().check_microphone()
    assert finding.text == "USB Headset, ALSA (48000 Hz by default); 24000 Hz mono is taken as it is."
    assert finding.figures["native"] is True and finding.figures["host_apis"] == ["ALSA"]
    assert card.stream.calls[-1] == "close"
    json.dumps(finding.figures)


def test_a_device_that_is_converted_for(card: FakeSounddevice) -> None:
    card.refused = {(24_000, 1), (24_000, 2), (48_000, 1)}
    finding = ears().check_speaker()
    assert finding.text.endswith("24000 Hz mono is converted from 48000 Hz, 2 channels.")
    assert finding.figures["native"] is False and finding.figures["opened_rate_hz"] == 48_000


def test_a_device_that_takes_nothing(card: FakeSounddevice) -> None:
    card.refused = {(rate, n) for rate in (24_000, 48_000, 44_100) for n in (1, 2)}
    with pytest.raises(AudioError, match="cannot be opened: Invalid sample rate"):
        ears().check_speaker()


def test_pulseaudio_converts_by_itself() -> None:
    device = Device(0, "Mic", "PulseAudio", 1, 0, 44_100, True, False, pulse_name="mic")
    assert not accepted_format("input", device, None).needs_conversion


def test_no_device_at_all(card: FakeSounddevice) -> None:
    card.present = []
    card._initialize()
    finding = ears(place=Place("Linux", ssh=True)).check_microphone()
    assert (finding.status, finding.exit_code) == (Status.FAILURE, ExitCode.AUDIO)
    assert finding.text == "There is no microphone (over SSH)." and "--input - --output -" in finding.hint


def test_a_speaker_alone(card: FakeSounddevice) -> None:
    card.present = [listed_device("HDMI", inputs=0)]
    card._initialize()
    assert ears().check_microphone().status is Status.FAILURE
    assert ears().check_speaker().status is Status.OK


def test_a_device_that_is_not_there_is_named(card: FakeSounddevice) -> None:
    with pytest.raises(AudioError, match="There is no sound device 'banjo'"):
        ears(input_device="banjo").check_microphone()


def test_no_device_is_wanted(card: FakeSounddevice) -> None:
    assert ears(input_device="none").check_microphone().status is Status.SKIPPED


# --- recording


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def opened(card: FakeSounddevice, n_streams: int) -> list[FakeStream]:
    until(lambda: len([s for _, s in card.opened if "start" in s.calls]) == n_streams)
    return [stream for _, stream in card.opened]


def feed(stream: FakeStream, done: Future[Any], value: int = 0) -> None:
    """10 ms at a time, each `value` larger than the one before, until nobody wants more."""
    n = 0
    while not done.done():
        n += 1
        stream.capture(np.full(240, value * n, "<i2").tobytes())


def test_a_recording_is_as_long_as_it_should_be_and_leaves_out_the_beginning(
    card: FakeSounddevice, pool: ThreadPoolExecutor
) -> None:
    recorded = pool.submit(record, None, None, 0.1)
    [stream] = opened(card, 1)
    feed(stream, recorded, 1)
    samples = np.frombuffer(recorded.result(), "<i2")
    assert len(samples) == RATE // 10
    assert samples[0] == round(recording.SETTLE_S * 100) + 1
    assert stream.calls[-1] == "close"


def test_a_microphone_that_gives_nothing_is_not_waited_for(
    card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "PATIENCE_S", -0.3)
    with pytest.raises(AudioError, match="gives no audio"):
        record(None, None, 0.1)
    assert card.stream.calls[-1] == "close"


def test_a_microphone_that_goes_away(card: FakeSounddevice, pool: ThreadPoolExecutor) -> None:
    recorded = pool.submit(record, None, None, 60)
    [stream] = opened(card, 1)
    stream.lose()
    with pytest.raises(AudioError, match="'USB Headset' went away"):
        recorded.result(10)


def test_what_is_played_is_recorded_with_stamps(card: FakeSounddevice, pool: ThreadPoolExecutor) -> None:
    pcm = np.arange(1, 481, dtype="<i2").tobytes()
    both = pool.submit(play_and_record, pcm, None, None, None)
    speaker, microphone = opened(card, 2)
    assert speaker.play(160) == pcm[:320]
    rest = speaker.play(400)
    assert rest[:640] == pcm[320:] and not any(rest[640:])
    assert not any(speaker.play(160))
    feed(microphone, both, 1)
    recorder, player = both.result(10)
    assert [sample for sample, _ in player.timeline.stamps] == [0, 160]
    assert [sample for sample, _ in recorder.timeline.stamps[:3]] == [0, 240, 480]
    assert len(recorder.pcm) == 2 * round((0.02 + recording.SETTLE_S) * RATE)


def test_a_speaker_that_takes_nothing(card: FakeSounddevice, pool: ThreadPoolExecutor) -> None:
    both = pool.submit(play_and_record, bytes(480), None, None, None)
    feed(opened(card, 2)[1], both)
    with pytest.raises(AudioError, match="takes no audio"):
        both.result(10)


# --- the level, in words


def level(verdict: Verdict) -> Level:
    return Level(verdict, -3.0, -24.0, -61.4, -18.2, 7)


@pytest.mark.parametrize(
    ("verdict", "status", "words"),
    [
        (Verdict.DEAD, Status.FAILURE, "digital silence"),
        (Verdict.CLIPPED, Status.WARNING, "7 samples are cut off"),
        (Verdict.QUIET, Status.WARNING, "No speech"),
        (Verdict.NOISY, Status.WARNING, "all the time"),
        (Verdict.GOOD, Status.OK, "Good: speech -18 dBFS, peak -3, noise -61."),
    ],
)
def test_a_level_in_words(verdict: Verdict, status: Status, words: str) -> None:
    finding = level_finding(level(verdict), LINUX)
    assert finding.status is status and words in finding.text
    assert bool(finding.hint) == (status is not Status.OK)
    assert finding.figures["verdict"] == verdict and finding.figures["noise_dbfs"] == -61.4
    assert (finding.exit_code is ExitCode.AUDIO) == (verdict is Verdict.DEAD)
    json.dumps(finding.figures)


def test_the_level_is_that_of_what_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "record", lambda spec, channel, duration_s: bytes(2 * RATE))
    assert ears(place=Place("Darwin")).check_level().hint.startswith("Allow your terminal")


# --- the echo, in words


def finding_of(
    monkeypatch: pytest.MonkeyPatch,
    delay_ms: float = 80.0,
    level_db: float = -12.0,
    *,
    heard: bool = True,
    extra: bool = True,
    speaker: str = "USB Audio",
) -> Finding:
    monkeypatch.setattr(sound, "available", lambda: extra)
    return echo_finding(chirp.EchoPath(heard, delay_ms, level_db, 9.0), speaker)


def test_no_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = finding_of(monkeypatch, heard=False)
    assert finding.status is Status.OK and finding.figures["delay_ms"] is None
    assert finding_of(monkeypatch, level_db=-45).status is Status.OK


def test_an_echo_that_will_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = finding_of(monkeypatch)
    assert finding.status is Status.OK
    assert "(80 ms later, 12 dB below what is played); echo cancellation will" in finding.text
    assert finding.figures["delay_ms"] == 80.0 and finding.figures["level_db"] == -12.0


def test_an_echo_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = finding_of(monkeypatch, extra=False)
    assert finding.status is Status.WARNING
    assert "headphones" in finding.hint and "pip install 'personaplex-cli[aec]'" in finding.hint
    assert "--push-to-talk" in finding.hint and "--half-duplex" in finding.hint


def test_an_echo_from_what_is_called_headphones(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = finding_of(monkeypatch, speaker="Headphones")
    assert finding.status is Status.WARNING and "--echo-cancel on" in finding.hint


def test_an_echo_too_late_to_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = finding_of(monkeypatch, delay_ms=470.0)
    assert finding.status is Status.WARNING and "--echo-cancel" not in finding.hint


def test_a_dead_microphone_says_nothing_about_echo(
    card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, player = recording.Recorder(RATE), recording.Player(chirp.chirps())
    recorder.captured(bytes(2 * RATE), 0.0)
    monkeypatch.setattr(sound, "play_and_record", lambda *_: (recorder, player))
    assert ears().check_echo().status is Status.SKIPPED


def test_the_echo_is_that_of_what_was_recorded(
    card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.1 s later by the stamps, though the streams began at different times."""
    pcm = chirp.chirps()
    recorder = recording.Recorder(len(pcm) // 2 + RATE)
    for n in range(0, len(pcm) + 2 * RATE, 480):
        recorder.captured((bytes(RATE) + pcm + bytes(RATE))[n : n + 480], 99.6 + n / 2 / RATE)
    player = recording.Player(pcm)
    for n in range(0, len(pcm), 480):
        player.play(240, 100.0 + n / 2 / RATE)
    monkeypatch.setattr(sound, "play_and_record", lambda *_: (recorder, player))
    finding = ears().check_echo()
    assert finding.figures["delay_ms"] == pytest.approx(100, abs=0.2)
    assert finding.figures["level_db"] == pytest.approx(0, abs=0.2)
