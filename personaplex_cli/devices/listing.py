"""Sound devices: which there are, and which one a user means.

The sound library is loaded when it is first needed: it takes a quarter of a second, and PortAudio may be
missing where no device is used.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from personaplex_cli.devices.device import ROLE, Device, Kind
from personaplex_cli.devices.portaudio import LOAD_LIMIT_S, call, load_sounddevice
from personaplex_cli.devices.pulse import pulse_devices
from personaplex_cli.errors import AudioError
from personaplex_cli.wire.text import safe_text

AFRESH_LIMIT_S: Final = 5.0
"""For a process of our own to list the devices; with a sound server that hangs it never does."""

NO_DEVICES_HINT: Final = (
    "In a container or over SSH there is usually none.\n"
    "Use files instead: personaplex talk --input question.wav --output answer.wav"
)


def list_devices() -> list[Device]:
    """All devices, in PortAudio's order; where it sees none, those of PulseAudio, if that is there (WSL,
    containers). Empty if there is none at all. Raises AudioError."""
    load_sounddevice()
    return call(_portaudio_devices, LOAD_LIMIT_S) or pulse_devices()


def listed_afresh() -> list[Device]:
    """The devices that there are now, as a process of its own sees them: PortAudio only sees those that there
    were when it was loaded, and with a sound server that hangs it would take our streams with it. Empty if
    that process fails. Blocks for half a second, `AFRESH_LIMIT_S` at most."""
    command = [sys.executable, "-P", "-m", "personaplex_cli", "devices", "--json"]
    try:
        listed = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=AFRESH_LIMIT_S, check=True
        )
        return [Device(**entry) for entry in json.loads(listed.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return []


def _portaudio_devices() -> list[Device]:
    sounddevice = load_sounddevice()
    try:
        entries = sounddevice.query_devices()
        host_apis = sounddevice.query_hostapis()
        default_input, default_output = sounddevice.default.device
    except sounddevice.PortAudioError as error:
        raise AudioError(f"The sound devices cannot be listed: {safe_text(str(error))}.") from None
    return [
        Device(
            index=entry["index"],
            name=safe_text(entry["name"]).strip(),
            host_api=safe_text(host_apis[entry["hostapi"]]["name"]),
            input_channels=entry["max_input_channels"],
            output_channels=entry["max_output_channels"],
            default_rate_hz=round(entry["default_samplerate"]),
            is_default_input=entry["index"] == default_input,
            is_default_output=entry["index"] == default_output,
        )
        for entry in entries
    ]


def find_device(spec: str | None, kind: Kind) -> Device:
    """The device that `spec` names: None or "default" for the system's, an index, or a part of name and host
    API in any case. Raises AudioError if there is none, if it cannot do `kind`, or if several match."""
    devices = list_devices()
    if not devices:
        raise AudioError("There are no sound devices.", NO_DEVICES_HINT)
    capable = [device for device in devices if device.channels(kind)]
    if not capable:
        raise AudioError(f"There is no {ROLE[kind]}.", NO_DEVICES_HINT)
    wanted = (spec or "").strip().casefold()
    if wanted in ("", "default"):
        return _default_device(capable, kind)
    matches = _matches(wanted, capable)
    if not matches:
        raise _no_match(spec, wanted, kind, devices, capable)
    if len(matches) > 1:
        raise AudioError(
            f"Several sound devices match {spec!r}.", _listing(matches, "Give the number of one:")
        )
    return matches[0]


def _default_device(capable: Sequence[Device], kind: Kind) -> Device:
    for device in capable:
        if device.is_default(kind):
            return device
    option = f"--{kind}-device"
    message = f"This system has no default {ROLE[kind]}."
    raise AudioError(message, _listing(capable, f"Choose one with {option}:"))


def _matches(wanted: str, devices: Sequence[Device]) -> list[Device]:
    """The device numbered `wanted`; or those called exactly so; or those with it somewhere in their label."""
    if wanted.isdecimal():
        return [device for device in devices if str(device.index) == wanted]
    exact = [device for device in devices if wanted in (device.name.casefold(), device.label.casefold())]
    return exact or [device for device in devices if wanted in device.label.casefold()]


def _no_match(
    spec: str | None, wanted: str, kind: Kind, devices: Sequence[Device], capable: Sequence[Device]
) -> AudioError:
    if incapable := _matches(wanted, devices):
        message = f"The sound device {incapable[0].name!r} has no {ROLE[kind]}."
        return AudioError(message, _listing(capable, "These have one:"))
    near = _near(wanted, capable) or capable
    return AudioError(f"There is no sound device {spec!r}.", _listing(near, "Did you mean one of these?"))


def _near(wanted: str, devices: Sequence[Device]) -> list[Device]:
    """Devices with a word, or a whole name, that looks like `wanted`."""
    from difflib import get_close_matches

    return [
        device
        for device in devices
        if get_close_matches(wanted, [device.name.casefold(), *device.name.casefold().split()], n=1)
    ]


def _listing(devices: Sequence[Device], title: str) -> str:
    return "\n".join([title, *(f"{device.index:>3}  {device.label}" for device in devices)])
