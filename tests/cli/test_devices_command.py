from __future__ import annotations

import json

import pytest

from personaplex_cli.cli.app import run
from personaplex_cli.devices import listing
from personaplex_cli.devices.device import Device
from personaplex_cli.errors import ExitCode, MissingLibraryError

HEADSET = Device(0, "Headset \u266b", "ALSA", 1, 2, 48_000, True, True)
SPEAKER = Device(1, "HDMI", "ALSA", 0, 8, 44_100, False, False)


def found(monkeypatch: pytest.MonkeyPatch, *listed: Device) -> None:
    monkeypatch.setattr(listing, "list_devices", lambda: list(listed))


def test_the_devices_in_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found(monkeypatch, HEADSET, SPEAKER)
    assert run(["devices"]) == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "host", "API", "in", "out", "Hz"]
    assert " ".join(first.split()) == "0 Headset \u266b ALSA 1 2 48000 default input and output"
    assert second.split() == ["1", "HDMI", "ALSA", "0", "8", "44100"]


def test_the_devices_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found(monkeypatch, HEADSET)
    assert run(["devices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "index": 0,
            "name": "Headset \u266b",
            "host_api": "ALSA",
            "input_channels": 1,
            "output_channels": 2,
            "default_rate_hz": 48_000,
            "is_default_input": True,
            "is_default_output": True,
            "pulse_name": "",
        }
    ]


def test_no_devices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found(monkeypatch)
    assert run(["devices"]) == 0
    out, err = capsys.readouterr()
    assert out == "" and "no sound devices" in err
    assert run(["devices", "--json"]) == 0
    assert capsys.readouterr() == ("[]\n", "")


def test_without_portaudio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> None:
        raise MissingLibraryError("The library PortAudio is not installed.", "Install it.")

    monkeypatch.setattr(listing, "load_sounddevice", missing)
    assert run(["devices"]) == ExitCode.AUDIO
    assert capsys.readouterr() == ("", "error: The library PortAudio is not installed.\n  Install it.\n")
