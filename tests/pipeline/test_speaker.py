from __future__ import annotations

import pytest
from fakes import FakeSounddevice, PortAudioError, fake_device

from personaplex_cli import devices
from personaplex_cli.errors import AudioError, ExitCode, PersonaplexError
from personaplex_cli.pcm import silence
from personaplex_cli.pipeline.speaker import Speaker


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    card = FakeSounddevice()
    monkeypatch.setattr(devices, "load_sounddevice", lambda: card)
    return card


def test_the_stream_is_the_program_s_format_on_the_device(card: FakeSounddevice) -> None:
    Speaker(fake_device(), silence)
    [(kind, stream)] = card.opened
    wanted = {"samplerate": 24_000, "channels": 1, "dtype": "int16", "device": 7, "blocksize": 240}
    assert kind == "output"
    assert wanted.items() <= stream.options.items()


def test_the_callback_hands_on_exactly_what_was_pulled(card: FakeSounddevice) -> None:
    asked: list[int] = []

    def pull(n_samples: int) -> bytes:
        asked.append(n_samples)
        return len(asked).to_bytes(2, "little") * n_samples

    Speaker(fake_device(), pull).start(lambda error: None)
    assert card.stream.calls == ["start"]
    assert card.stream.play(240) == b"\1\0" * 240
    assert card.stream.play(7) == b"\2\0" * 7
    assert asked == [240, 7]


def test_flags_are_counted(card: FakeSounddevice) -> None:
    speaker = Speaker(fake_device(), silence)
    for status in (None, "output underflow", None):
        card.stream.play(240, status)
    assert speaker.device_flags == 1


def test_a_lost_device_is_reported_and_our_own_close_is_not(card: FakeSounddevice) -> None:
    failures: list[PersonaplexError] = []
    speaker = Speaker(fake_device(), silence)
    card.stream.lose()  # not started: nobody to tell
    speaker.start(failures.append)
    card.stream.lose()
    assert [type(error) for error in failures] == [AudioError]
    assert "speaker" in str(failures[0]) and failures[0].exit_code == ExitCode.AUDIO
    speaker.close()
    assert card.stream.calls == ["start", "stop", "close"]
    assert len(failures) == 1


@pytest.mark.parametrize("error", [PortAudioError("Device unavailable"), ValueError("No output")])
def test_a_device_that_cannot_be_opened(card: FakeSounddevice, error: Exception) -> None:
    card.open_error = error
    with pytest.raises(AudioError, match="speaker 'USB Headset' cannot be opened") as caught:
        Speaker(fake_device(), silence)
    assert caught.value.exit_code == ExitCode.AUDIO
    assert "--output-device" in (caught.value.hint or "")


def test_a_device_that_does_not_start(card: FakeSounddevice) -> None:
    speaker = Speaker(fake_device(), silence)
    card.stream.start_error = PortAudioError("Unanticipated host error")
    with pytest.raises(AudioError, match="speaker does not start"):
        speaker.start(lambda error: None)
