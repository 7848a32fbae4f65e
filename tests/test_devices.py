from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from personaplex_cli import devices
from personaplex_cli.devices import find_device, list_devices, load_sounddevice
from personaplex_cli.errors import AudioError, ExitCode, MissingLibraryError


class FakePortAudioError(Exception):
    pass


Entry = tuple[str, int, int, int]
"""Name, host API, input and output channels."""

USUAL: Sequence[Entry] = (
    ("HDA Intel: Analog", 0, 2, 2),
    ("HDA Intel: HDMI", 0, 0, 8),
    ("USB Headset", 0, 1, 2),
    ("USB Webcam", 0, 1, 0),
    ("usb webcam", 1, 1, 0),
)


def fake_sounddevice(entries: Sequence[Entry], default: tuple[int, int]) -> SimpleNamespace:
    listed = [
        {
            "index": index,
            "name": name,
            "hostapi": host_api,
            "max_input_channels": inputs,
            "max_output_channels": outputs,
            "default_samplerate": 44100.0,
        }
        for index, (name, host_api, inputs, outputs) in enumerate(entries)
    ]
    return SimpleNamespace(
        query_devices=lambda: listed,
        query_hostapis=lambda: ({"name": "ALSA"}, {"name": "JACK"}),
        default=SimpleNamespace(device=default),
        PortAudioError=FakePortAudioError,
    )


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    def install(entries: Sequence[Entry] = USUAL, default: tuple[int, int] = (0, 1)) -> None:
        monkeypatch.setattr(devices, "load_sounddevice", lambda: fake_sounddevice(entries, default))

    return install


def refused(spec: str | None, kind: devices.Kind) -> AudioError:
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
    install([("Evil\x1b[2J\u202e speaker", 0, 0, 2)], (-1, 0))
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
    install([("USB", 0, 1, 0), ("USB Headset", 0, 1, 2)], (0, 1))
    assert find_device("usb", "input").index == 0


def test_only_devices_that_can_do_it_compete(install: Install) -> None:
    install([("AirPods", 0, 0, 2), ("AirPods", 0, 1, 0), ("AirPods Case", 0, 0, 2)], (1, 0))
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
    install([], (-1, -1))
    assert list_devices() == []
    assert "--input" in (refused(None, "input").hint or "")


def test_no_microphone_at_all_points_to_files(install: Install) -> None:
    install([("Speakers", 0, 0, 2)], (-1, 0))
    error = refused("1", "input")
    assert "no microphone" in str(error) and "--input" in (error.hint or "")


def test_an_error_of_portaudio_is_an_audio_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise FakePortAudioError("Error querying\x1b devices")

    module = fake_sounddevice(USUAL, (0, 1))
    module.query_devices = broken
    monkeypatch.setattr(devices, "load_sounddevice", lambda: module)
    with pytest.raises(AudioError, match="cannot be listed: Error querying\ufffd devices"):
        list_devices()


def importing_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    original = builtins.__import__

    def import_(name: str, *args: Any, **kwargs: Any) -> ModuleType:
        if name == "sounddevice":
            raise error
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", import_)


def test_without_portaudio_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    importing_raises(monkeypatch, OSError("PortAudio library not found"))
    with pytest.raises(MissingLibraryError) as caught:
        load_sounddevice()
    assert "portaudio" in (caught.value.hint or "")


def test_portaudio_that_does_not_start_is_an_audio_error(monkeypatch: pytest.MonkeyPatch) -> None:
    importing_raises(monkeypatch, FakePortAudioError("Error initializing PortAudio"))
    with pytest.raises(AudioError, match="cannot be started: Error initializing"):
        load_sounddevice()


def test_the_module_itself_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("sounddevice")
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    assert load_sounddevice() is module
