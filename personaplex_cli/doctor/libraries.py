"""Native libraries: whether they are there, and which versions."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from typing import Final

from personaplex_cli.aec import INSTALL_HINT, available
from personaplex_cli.codec.library import load
from personaplex_cli.doctor.check import Finding, ok, skipped, warning
from personaplex_cli.doctor.machine import HUNG_HINT
from personaplex_cli.errors import AudioError, MissingLibraryError
from personaplex_cli.syslibs import install_hint

CHILD_LIMIT_S: Final = 8.0
"""For a library to be loaded and say its version: 0.2 to 0.4 s, some seconds with devices that sleep."""

_PORTAUDIO: Final = "import sounddevice; print(sounddevice.get_portaudio_version()[1])"
_SNDFILE: Final = "import soundfile; print(soundfile.__libsndfile_version__)"


class NoVersion(Exception):
    """A library says none; why not is one of the subclasses, or in the text: it crashed, say."""


class NotFound(NoVersion):
    pass


class NoAnswer(NoVersion):
    pass


def check_codec() -> Finding:
    """libopus and libogg. Raises MissingLibraryError."""
    version = load().opus.opus_get_version_string().decode("ascii", "replace")
    return ok(f"{version}; libogg.", opus=version)


def check_portaudio() -> Finding:
    """PortAudio looks at all devices while it is loaded: with a sound server that hangs it never comes back.
    Raises AudioError."""
    try:
        version = said_by_child(_PORTAUDIO)
    except NotFound:
        message = "The library PortAudio is not installed."
        raise MissingLibraryError(message, install_hint("portaudio")) from None
    except NoAnswer:
        message = f"PortAudio did not find out within {CHILD_LIMIT_S:g} s which devices there are."
        raise AudioError(message, HUNG_HINT) from None
    except NoVersion as error:
        raise AudioError(f"PortAudio cannot be used: {error}.", install_hint("portaudio")) from None
    # "PortAudio V19.7.0-devel, revision ...": the revision is for developers.
    return ok(f"{version.partition(',')[0]}.", portaudio=version)


def check_sndfile() -> Finding:
    """Only files need it."""
    try:
        version = said_by_child(_SNDFILE)
    except NoVersion as error:
        why = "is not installed" if isinstance(error, NotFound) else f"cannot be used: {error}"
        return warning(f"libsndfile {why}: no --input and --output with files.", install_hint("sndfile"))
    return ok(f"libsndfile {version}.", sndfile=version)


def check_canceller() -> Finding:
    """Only calls without headphones need it."""
    if not available():
        text = "Not installed; needed only without headphones."
        return skipped(text, INSTALL_HINT, installed=False)
    version = metadata.version("livekit")
    return ok(f"Installed (livekit {version}).", installed=True, livekit=version)


def said_by_child(code: str) -> str:
    """What Python prints for `code`. A child, because libraries can hang or crash while they are loaded.
    Raises NoVersion."""
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", code],  # -P: the current folder's modules stay out of it
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHILD_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {CHILD_LIMIT_S:g} s") from None
    except OSError as error:
        raise NoVersion(f"Python cannot be started: {error.strerror}") from None
    if child.returncode == 0:
        return child.stdout.strip()
    if child.returncode < 0:
        raise NoVersion(f"it crashed (signal {-child.returncode})")
    name = child.stderr.strip().rpartition("\n")[2].partition(":")[0]
    raise NotFound("not found") if name == "OSError" else NoVersion(name or "no reason is given")
