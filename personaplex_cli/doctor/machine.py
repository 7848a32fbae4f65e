"""What kind of machine this is, and what carries sound on it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personaplex_cli.doctor.check import Finding, ok, skipped, warning
from personaplex_cli.errors import AudioError
from personaplex_cli.wire.text import safe_text

PACTL_LIMIT_S: Final = 3.0
"""`pactl` answers within 10 ms, within a second on an overloaded machine."""

HUNG_HINT: Final = (
    "Restart it: systemctl --user restart pipewire-pulse, or pulseaudio -k.\n"
    "Until then: personaplex talk --input question.wav --output answer.wav"
)

_NAMES: Final = {"Darwin": "Core Audio", "Windows": "WASAPI"}

MICROPHONE_SETTING: Final = {
    "Darwin": (
        "Allow your terminal to hear it: System Settings, Privacy & Security, Microphone. "
        "Then start the terminal anew."
    ),
    "Windows": (
        "Settings, Privacy & security, Microphone: switch on 'Let desktop apps access your microphone'."
    ),
    "Linux": (
        "It may be muted, or unplugged: look in the sound settings, or run: "
        "pactl set-source-mute @DEFAULT_SOURCE@ 0"
    ),
}
"""What may be the matter with a microphone that gives nothing but zeros, by system."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the program runs, as far as sound is concerned."""

    system: str
    """As `platform.system` names it."""
    wsl: bool = False
    ssh: bool = False
    container: bool = False

    @property
    def words(self) -> str:
        """Like " (in WSL, over SSH)"; empty for a usual machine."""
        named = {"in WSL": self.wsl, "in a container": self.container, "over SSH": self.ssh}
        words = ", ".join(words for words, is_so in named.items() if is_so)
        return f" ({words})" if words else ""

    @property
    def microphone_hint(self) -> str:
        """What to look at when the microphone is silent."""
        setting = MICROPHONE_SETTING.get("Windows" if self.wsl else self.system, MICROPHONE_SETTING["Linux"])
        return f"{setting}\nOr choose another one: personaplex devices, --input-device"

    @property
    def no_device_hint(self) -> str:
        """What to do where there is no device."""
        if self.wsl:
            how = "WSL on Windows 11 has sound: wsl --update, and sudo apt-get install pulseaudio-utils"
        elif self.ssh:
            how = (
                "Over SSH the devices are those of the far machine. Run the program on your own, or by pipes:"
            )
            return f"{how}\nrec ... | ssh host personaplex talk --input - --output - | play ..."
        elif self.container:
            how = "Give the container a sound card (docker run --device /dev/snd) or a sound server's socket."
        else:
            how = "Connect a headset, and look at the sound settings of this system."
        return f"{how}\nWithout one: personaplex talk --input question.wav --output answer.wav"


def find_place(
    environment: Mapping[str, str] = os.environ,
    root: Path = Path("/"),
    system: str = platform.system(),
    release: str = platform.release(),
) -> Place:
    """By what the environment says and which files there are below `root`."""
    marks = (root / ".dockerenv", root / "run" / ".containerenv")
    return Place(
        system=system,
        wsl="WSL_DISTRO_NAME" in environment or "microsoft" in release.lower(),
        ssh=bool(environment.get("SSH_CONNECTION")),
        container=bool(environment.get("container")) or any(mark.exists() for mark in marks),
    )


def check_python(place: Place) -> Finding:
    """Which Python and which system. (The program does not start on a Python that is too old.)"""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    text = f"{python} on {place.system} {platform.release()}, {platform.machine()}{place.words}"
    return ok(
        text,
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        system=place.system,
        release=platform.release(),
        machine=platform.machine(),
        wsl=place.wsl,
        ssh=place.ssh,
        container=place.container,
    )


def check_sound_system(
    place: Place,
    environment: Mapping[str, str] = os.environ,
    root: Path = Path("/"),
    ask: Callable[[], str] | None = None,
) -> Finding:
    """What carries sound here. `ask` gives what `pactl info` prints. Raises AudioError if it hangs."""
    if place.system != "Linux":
        name = _NAMES.get(place.system, place.system)
        return ok(name, sound_system=name)
    server = _server_name((ask or _pactl_info)())
    if server:
        return ok(f"{server}.", sound_system=server)
    cards = _alsa_cards(root)
    if signs := _signs_of_server(environment):
        text = f"There are signs of {signs}, but pactl, which could tell more, is missing or not answered."
        return warning(
            text, "Where devices are missing: sudo apt-get install pulseaudio-utils", alsa_cards=cards
        )
    if cards:
        text = "ALSA alone: a device can be used by one program at a time."
        return ok(text, sound_system="ALSA", alsa_cards=cards)
    return skipped("No sound server and no sound card was found.", alsa_cards=0)


def _pactl_info() -> str:
    """Empty where there is no such program, or no server. Raises AudioError if it hangs."""
    try:
        told = subprocess.run(
            ["pactl", "info"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PACTL_LIMIT_S,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise AudioError("The sound server does not answer.", HUNG_HINT) from None
    except OSError:
        return ""
    return told.stdout.decode(errors="replace") if told.returncode == 0 else ""


def _server_name(info: str) -> str:
    """PipeWire's stand-in calls itself "PulseAudio (on PipeWire 1.0.5)", PulseAudio just "pulseaudio"."""
    values = dict(line.split(": ", 1) for line in info.splitlines() if ": " in line)
    name, version = values.get("Server Name", ""), values.get("Server Version", "")
    if "PipeWire" in name:
        return safe_text(name.partition("(on ")[2].rstrip(")") or name)
    return safe_text(f"PulseAudio {version}".strip()) if name else ""


def _signs_of_server(environment: Mapping[str, str]) -> str:
    runtime = Path(environment.get("XDG_RUNTIME_DIR") or "/nonexistent")
    signs = {
        "PipeWire": "PIPEWIRE_REMOTE" in environment or (runtime / "pipewire-0").exists(),
        "PulseAudio": bool(environment.get("PULSE_SERVER")) or (runtime / "pulse" / "native").exists(),
    }
    return " and ".join(name for name, there in signs.items() if there)


def _alsa_cards(root: Path) -> int:
    try:
        text = (root / "proc" / "asound" / "cards").read_text("utf-8", "replace")
    except OSError:
        return 0
    return sum(line[:3].strip().isdecimal() for line in text.splitlines())
