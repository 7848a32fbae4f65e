"""Which devices there are, and which one a user means."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from fake_portaudio import FakeSounddevice, PortAudioError, fake_device, listed_device

from personaplex_cli.cli.app import run
from personaplex_cli.devices import listing
from personaplex_cli.devices.device import Device, Kind
from personaplex_cli.devices.listing import find_device, list_devices, listed_afresh
from personaplex_cli.errors import AudioError, ExitCode

USUAL = (
    listed_device("HDA Intel: Analog", inputs=2, outputs=2, rate_hz=44_100),
    listed_device("HDA Intel: HDMI", inputs=0, outputs=8),
    listed_device("USB Headset", inputs=1, outputs=2),
    listed_device("USB Webcam", inputs=1, outputs=0),
    listed_device("usb webcam", inputs=1, outputs=0, host_api=1),
)

Install = Callable[..., None]


@pytest.fixture
def install(card: FakeSounddevice) -> Install:
    def install(entries: tuple[dict[str, Any], ...] = USUAL, default: tuple[int, int] = (0, 1)) -> None:
        card.present = list(entries)
        card.default.device = default
        card._initialize()

    return install


def refused(spec: str | None, kind: Kind) -> AudioError:
    with pytest.raises(AudioError) as caught:
        find_device(spec, kind)
    assert caught.value.exit_code == ExitCode.AUDIO
    return caught.value


def test_devices_are_listed_with_host_api_and_defaults(install: Install) -> None:
    install()
    found = list_devices()
    assert [device.label for device in found[:2]] == ["HDA Intel: Analog, ALSA", "HDA Intel: HDMI, ALSA"]
    assert (found[0].input_channels, found[0].output_channels, found[0].default_rate_hz) == (2, 2, 44100)
    assert [device.index for device in found if device.is_default("input")] == [0]
    assert [device.index for device in found if device.is_default("output")] == [1]


def test_names_are_made_harmless(install: Install) -> None:
    install((listed_device("Evil\x1b[2J\u202e speaker", inputs=0),), (-1, 0))
    assert "\x1b" not in list_devices()[0].name
    assert "\u202e" not in list_devices()[0].name


@pytest.mark.parametrize("spec", [None, "", "default", " Default "])
def test_nothing_said_means_the_system_s_default(install: Install, spec: str | None) -> None:
    install()
    assert find_device(spec, "input").index == 0
    assert find_device(spec, "output").index == 1


@pytest.mark.parametrize(
    ("spec", "index"), [("2", 2), ("headset", 2), ("HDA", 0), ("usb webcam, jack", 4), ("jack", 4)]
)
def test_a_device_by_number_or_part_of_its_name(install: Install, spec: str, index: int) -> None:
    install()
    assert find_device(spec, "input").index == index


def test_an_exact_name_goes_before_longer_ones(install: Install) -> None:
    install((listed_device("USB", outputs=0), listed_device("USB Headset")), (0, 1))
    assert find_device("usb", "input").index == 0


def test_only_devices_that_can_do_it_compete(install: Install) -> None:
    speaker, microphone = listed_device("AirPods", inputs=0), listed_device("AirPods", outputs=0)
    install((speaker, microphone, listed_device("AirPods Case", inputs=0)), (1, 0))
    assert find_device("airpods", "input").index == 1
    assert find_device("airpods", "output").index == 0


def test_several_matches_are_listed_with_their_numbers(install: Install) -> None:
    install()
    error = refused("usb", "input")
    assert "Several" in str(error)
    assert "  2  USB Headset, ALSA" in (error.hint or "")
    assert "  4  usb webcam, JACK" in (error.hint or "")
    assert "HDA" not in (error.hint or "")


@pytest.mark.parametrize("spec", ["headst", "webcan"])
def test_an_unknown_name_lists_near_ones(install: Install, spec: str) -> None:
    install()
    error = refused(spec, "input")
    assert spec in str(error)
    assert "USB" in (error.hint or "") and "HDA" not in (error.hint or "")


@pytest.mark.parametrize("spec", ["zzz", "99", "9" * 5000])
def test_without_near_ones_all_are_listed(install: Install, spec: str) -> None:
    install()
    hint = refused(spec, "output").hint or ""
    assert "HDA Intel: Analog" in hint and "USB Headset" in hint
    assert "USB Webcam" not in hint  # has no output


@pytest.mark.parametrize("spec", ["1", "hdmi"])
def test_a_device_without_a_microphone_lists_those_that_have_one(install: Install, spec: str) -> None:
    install()
    error = refused(spec, "input")
    assert "'HDA Intel: HDMI' has no microphone" in str(error)
    assert "USB Headset" in (error.hint or "") and "HDMI" not in (error.hint or "")


def test_no_default_lists_what_there_is(install: Install) -> None:
    install(default=(-1, -1))
    error = refused(None, "output")
    assert "no default speaker" in str(error)
    assert "--output-device" in (error.hint or "") and "USB Headset" in (error.hint or "")


def test_no_devices_at_all_points_to_files(install: Install) -> None:
    install((), (-1, -1))
    assert list_devices() == []
    assert "--input" in (refused(None, "input").hint or "")


def test_no_microphone_at_all_points_to_files(install: Install) -> None:
    install((listed_device("Speakers", inputs=0),), (-1, 0))
    error = refused("1", "input")
    assert "no microphone" in str(error) and "--input" in (error.hint or "")


def test_an_error_of_portaudio_is_an_audio_error(card: FakeSounddevice) -> None:
    card.query_error = PortAudioError("Error querying\x1b devices")
    with pytest.raises(AudioError, match="cannot be listed: Error querying\ufffd devices"):
        list_devices()


def test_where_portaudio_sees_nothing_pulseaudio_s_devices_are_listed(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulse = [fake_device("RDP Source")]
    monkeypatch.setattr(listing, "pulse_devices", lambda: pulse)
    install()
    assert len(list_devices()) == len(USUAL)
    install((), (-1, -1))
    assert list_devices() == pulse
    assert find_device("rdp", "input") == pulse[0]


# --- the list that a process of its own makes


def afresh(monkeypatch: pytest.MonkeyPatch, answer: bytes | Exception) -> tuple[list[Device], list[str]]:
    """What is listed when that process prints `answer`, or fails; and its command."""
    commands: list[list[str]] = []

    def answered(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        assert options["timeout"] == listing.AFRESH_LIMIT_S and options["check"]
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, 0, answer, b"")

    monkeypatch.setattr(subprocess, "run", answered)
    found = listed_afresh()
    return found, commands[0]


def test_a_process_of_its_own_lists_the_devices_that_there_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [
        fake_device("USB Headset"),
        Device(3, "Ohrhörer ♫", "PulseAudio", 0, 2, 48_000, False, True, "x"),
    ]
    found, command = afresh(monkeypatch, json.dumps([asdict(device) for device in devices]).encode())
    assert found == devices
    assert command[0] == sys.executable and command[-2:] == ["devices", "--json"]


@pytest.mark.parametrize(
    "answer",
    [
        subprocess.TimeoutExpired("personaplex", 5.0),
        subprocess.CalledProcessError(3, "personaplex"),
        OSError("no more processes"),
        b"",
        b"not JSON",
        b'[{"name": "of another version"}]',
        b"[1]",
    ],
    ids=["hangs", "fails", "does not start", "silent", "no JSON", "other fields", "no objects"],
)
def test_a_process_of_its_own_that_fails_lists_nothing(
    answer: bytes | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert afresh(monkeypatch, answer)[0] == []


def test_what_the_command_prints_is_understood(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    install()
    assert run(["devices", "--json"]) == ExitCode.OK
    printed = capsysbinary.readouterr().out
    assert afresh(monkeypatch, printed)[0] == list_devices()
