"""Which package holds a native library on this very system, and the command that installs it."""

from __future__ import annotations

import os
import platform
import shutil
from typing import Final, Literal

Library = Literal["opus", "ogg", "portaudio", "sndfile"]

_INSTALL_COMMANDS: Final = {
    "apt-get": "apt-get install",
    "dnf": "dnf install",
    "pacman": "pacman -S",
    "apk": "apk add",
}

_MANAGER_OF_FAMILY: Final = {
    "debian": "apt-get",
    "ubuntu": "apt-get",
    "fedora": "dnf",
    "rhel": "dnf",
    "arch": "pacman",
    "alpine": "apk",
}
"""By ID and ID_LIKE of os-release: a system may have another family's package manager lying around."""

_DEBIAN_PACKAGES: Final = {
    "opus": "libopus0",
    "ogg": "libogg0",
    "portaudio": "libportaudio2",
    "sndfile": "libsndfile1",
}

_PACKAGES: Final = {"opus": "opus", "ogg": "libogg", "portaudio": "portaudio", "sndfile": "libsndfile"}
"""Named alike by Fedora, Arch, Alpine and Homebrew."""

_WHEELS: Final = {"opus": "pyogg", "ogg": "pyogg", "portaudio": "sounddevice", "sndfile": "soundfile"}
"""The Python package whose wheel for Windows brings the library along."""


def install_hint(library: Library) -> str:
    """One or two sentences that say how to install `library` here. Never raises."""
    system = platform.system()
    if system == "Windows":
        wheel = _WHEELS[library]
        return f"On Windows it comes with a Python package: run pip install --force-reinstall {wheel}"
    if system == "Darwin":
        command = f"brew install {_PACKAGES[library]}"
        return (
            f"Install it: {command}"
            if shutil.which("brew")
            else f"Get Homebrew (https://brew.sh), then: {command}"
        )
    manager = _package_manager()
    if manager is None:
        return f"Install {_PACKAGES[library]} with the package manager of this system."
    package = (_DEBIAN_PACKAGES if manager == "apt-get" else _PACKAGES)[library]
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"Install it: {sudo}{_INSTALL_COMMANDS[manager]} {package}"


def _package_manager() -> str | None:
    """The system's own package manager if it can be called, else any known one that can."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    families = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    own = [_MANAGER_OF_FAMILY[family] for family in families if family in _MANAGER_OF_FAMILY]
    return next((manager for manager in (*own, *_INSTALL_COMMANDS) if shutil.which(manager)), None)
