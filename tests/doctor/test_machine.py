from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from personaplex_cli.doctor import libraries, machine
from personaplex_cli.doctor.check import Finding, Status
from personaplex_cli.doctor.machine import Place, check_python, check_sound_system, find_place
from personaplex_cli.errors import AudioError, MissingLibraryError

LINUX = Place("Linux")


def place(root: Path, release: str = "6.1.0-18-amd64", **environment: str) -> Place:
    return find_place(environment, root, "Linux", release)


def test_a_usual_machine(tmp_path: Path) -> None:
    assert place(tmp_path) == LINUX
    assert LINUX.words == ""


@pytest.mark.parametrize(
    ("release", "environment"),
    [("5.15.153.1-microsoft-standard-WSL2", {}), ("6.1.0", {"WSL_DISTRO_NAME": "Ubuntu"})],
)
def test_wsl(tmp_path: Path, release: str, environment: dict[str, str]) -> None:
    found = place(tmp_path, release, **environment)
    assert found.wsl and found.words == " (in WSL)"
    assert "wsl --update" in found.no_device_hint and "pulseaudio-utils" in found.no_device_hint
    assert "desktop apps" in found.microphone_hint  # it is Windows that says who may listen


def test_ssh(tmp_path: Path) -> None:
    found = place(tmp_path, SSH_CONNECTION="10.0.0.1 50000 10.0.0.2 22")
    assert found.ssh and found.words == " (over SSH)"
    assert "far machine" in found.no_device_hint and "--input - --output -" in found.no_device_hint


def test_a_container(tmp_path: Path) -> None:
    assert place(tmp_path, container="podman").container
    (tmp_path / ".dockerenv").touch()
    found = place(tmp_path, SSH_CONNECTION="x")
    assert found.words == " (in a container, over SSH)"
    assert "docker run --device /dev/snd" in place(tmp_path).no_device_hint


@pytest.mark.parametrize(
    ("system", "words"),
    [("Darwin", "Privacy & Security, Microphone"), ("Windows", "desktop apps"), ("Linux", "muted")],
)
def test_who_may_use_the_microphone(system: str, words: str) -> None:
    assert words in Place(system).microphone_hint and "--input-device" in Place(system).microphone_hint


def test_python_and_system() -> None:
    finding = check_python(Place("Linux", wsl=True, ssh=True))
    assert finding.status is Status.OK and finding.text.endswith("(in WSL, over SSH)")
    assert finding.figures["ssh"] is True and finding.figures["container"] is False


# --- what carries sound


def sound_system(root: Path, info: str = "", **environment: str) -> Finding:
    return check_sound_system(LINUX, environment, root, lambda: info)


def test_pulseaudio(tmp_path: Path) -> None:
    finding = sound_system(tmp_path, "Server Name: pulseaudio\nServer Version: 16.1\n")
    assert (finding.status, finding.text) == (Status.OK, "PulseAudio 16.1.")


def test_pipewire_says_so_in_pulseaudio_s_name(tmp_path: Path) -> None:
    finding = sound_system(tmp_path, "Server Name: PulseAudio (on PipeWire 1.0.5)\nServer Version: 15.0.0\n")
    assert finding.figures == {"sound_system": "PipeWire 1.0.5"}


def test_alsa_alone(tmp_path: Path) -> None:
    (tmp_path / "proc" / "asound").mkdir(parents=True)
    cards = " 0 [PCH            ]: HDA-Intel - HDA Intel PCH\n                      at 0xf7f10000 irq 30\n"
    (tmp_path / "proc" / "asound" / "cards").write_text(cards)
    finding = sound_system(tmp_path)
    assert finding.text.startswith("ALSA alone") and finding.figures["alsa_cards"] == 1


def test_a_server_that_cannot_be_asked(tmp_path: Path) -> None:
    (tmp_path / "pipewire-0").touch()
    finding = sound_system(tmp_path, XDG_RUNTIME_DIR=str(tmp_path))
    assert finding.status is Status.WARNING and "PipeWire" in finding.text
    assert "pulseaudio-utils" in finding.hint
    assert "PulseAudio" in sound_system(tmp_path, PULSE_SERVER="unix:/x").text


def test_nothing_that_carries_sound(tmp_path: Path) -> None:
    assert sound_system(tmp_path).status is Status.SKIPPED


def test_other_systems() -> None:
    assert check_sound_system(Place("Darwin")).text == "Core Audio"
    assert check_sound_system(Place("Windows")).text == "WASAPI"


def test_a_sound_server_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pactl = tmp_path / "pactl"
    pactl.write_text("#!/bin/sh\nexec sleep 60\n")
    pactl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(machine, "PACTL_LIMIT_S", 0.1)
    with pytest.raises(AudioError, match=r"The sound server does not answer\.") as caught:
        check_sound_system(LINUX)
    assert caught.value.hint is not None and "systemctl --user restart" in caught.value.hint


def test_without_pactl_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_sound_system(LINUX, {}, tmp_path).status is Status.SKIPPED


# --- libraries


def test_libopus_and_its_version() -> None:
    finding = libraries.check_codec()
    assert finding.status is Status.OK and "libopus" in finding.figures["opus"]


def says(monkeypatch: pytest.MonkeyPatch, answer: str | Exception) -> None:
    def said(code: str) -> str:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(libraries, "said_by_child", said)


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, "PortAudio V19.7.0-devel, revision 147dd722548358763a8b649b3e4b41dfffbcfbb6")
    assert libraries.check_portaudio().text == "PortAudio V19.7.0-devel."
    says(monkeypatch, "1.2.2")
    assert libraries.check_sndfile().figures == {"sndfile": "1.2.2"}


def test_what_is_missing_comes_with_this_system_s_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "install_hint", lambda library: f"Install {library}!")
    says(monkeypatch, libraries.NotFound("not found"))
    with pytest.raises(MissingLibraryError, match="PortAudio is not installed") as caught:
        libraries.check_portaudio()
    assert caught.value.hint == "Install portaudio!"
    finding = libraries.check_sndfile()  # calls with devices do without it
    assert finding.status is Status.WARNING and finding.hint == "Install sndfile!"


def test_a_portaudio_that_hangs_or_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, libraries.NoAnswer("no answer"))
    with pytest.raises(AudioError, match="did not find out within"):
        libraries.check_portaudio()
    says(monkeypatch, libraries.NoVersion("it crashed (signal 11)"))
    with pytest.raises(AudioError, match=r"it crashed \(signal 11\)\."):
        libraries.check_portaudio()


def test_children_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "CHILD_LIMIT_S", 0.1)
    with pytest.raises(libraries.NoAnswer):
        libraries.said_by_child("import time; time.sleep(60)")


@pytest.mark.parametrize(
    ("returncode", "stderr", "expected"),
    [
        (-11, "", "it crashed (signal 11)"),
        (1, "Traceback ...\nOSError: PortAudio library not found\n", "not found"),
        (1, "Traceback ...\nImportError: /home/me/secret\n", "ImportError"),
    ],
)
def test_why_a_child_said_nothing(
    monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: str, expected: str
) -> None:
    done = subprocess.CompletedProcess([], returncode, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *args, **more: done)
    with pytest.raises(libraries.NoVersion) as caught:
        libraries.said_by_child("")
    assert str(caught.value) == expected
    assert isinstance(caught.value, libraries.NotFound) == (expected == "not found")


def test_the_canceller_is_only_wanted_without_headphones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert libraries.check_canceller().figures["installed"] is True
    monkeypatch.setattr(libraries, "available", lambda: False)
    finding = libraries.check_canceller()
    assert finding.status is Status.SKIPPED and "personaplex-cli[aec]" in finding.hint
