from __future__ import annotations

import os
import platform
import shutil

import pytest

from personaplex_cli.syslibs import Library, install_hint


def pretend(
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    programs: set[str],
    release: dict[str, str] | None = None,
    user_id: int = 1000,
) -> None:
    def os_release() -> dict[str, str]:
        if release is None:
            raise OSError
        return release

    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "freedesktop_os_release", os_release)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in programs else None)
    monkeypatch.setattr(os, "geteuid", lambda: user_id, raising=False)


@pytest.mark.parametrize(
    ("release", "program", "library", "command"),
    [
        ({"ID": "debian"}, "apt-get", "portaudio", "sudo apt-get install libportaudio2"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "apt-get", "opus", "sudo apt-get install libopus0"),
        ({"ID": "mint", "ID_LIKE": "ubuntu debian"}, "apt-get", "ogg", "sudo apt-get install libogg0"),
        ({"ID": "fedora"}, "dnf", "portaudio", "sudo dnf install portaudio"),
        ({"ID": "rocky", "ID_LIKE": "rhel fedora"}, "dnf", "sndfile", "sudo dnf install libsndfile"),
        ({"ID": "arch"}, "pacman", "portaudio", "sudo pacman -S portaudio"),
        ({"ID": "alpine"}, "apk", "ogg", "sudo apk add libogg"),
    ],
)
def test_linux_names_the_command_of_this_system(
    monkeypatch: pytest.MonkeyPatch, release: dict[str, str], program: str, library: Library, command: str
) -> None:
    pretend(monkeypatch, "Linux", {program}, release)
    assert install_hint(library) == f"Install it: {command}"


def test_the_system_s_own_package_manager_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "Linux", {"apt-get", "pacman"}, {"ID": "manjaro", "ID_LIKE": "arch"})
    assert "pacman" in install_hint("opus")


def test_without_os_release_the_one_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "Linux", {"dnf"})
    assert "dnf install opus" in install_hint("opus")


def test_root_needs_no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "Linux", {"apk"}, {"ID": "alpine"}, user_id=0)
    assert install_hint("opus") == "Install it: apk add opus"


@pytest.mark.parametrize("system", ["Linux", "FreeBSD", ""])
def test_an_unknown_system_still_gets_the_package_s_name(
    monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    pretend(monkeypatch, system, set(), {"ID": "gentoo"})
    assert "portaudio" in install_hint("portaudio")


def test_macos_uses_homebrew_and_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "Darwin", {"brew"})
    assert install_hint("portaudio") == "Install it: brew install portaudio"
    pretend(monkeypatch, "Darwin", set())
    assert "https://brew.sh" in install_hint("sndfile")
    assert "brew install libsndfile" in install_hint("sndfile")


def test_windows_brings_it_with_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "Windows", set())
    assert "sounddevice" in install_hint("portaudio")
    assert "pyogg" in install_hint("opus")
