"""`personaplex --version --verbose`: what a bug report needs, and nothing that is secret.

Of environment variables that may hold secrets only the names are shown, of the configuration only the path.
"""

from __future__ import annotations

import locale
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, TextIO

from personaplex_cli import __version__
from personaplex_cli.config import config_path
from personaplex_cli.errors import MissingLibraryError
from personaplex_cli.wire.text import safe_text

DISTRIBUTION: Final = "personaplex-cli"

CHILD_LIMIT_S: Final = 5.0
"""For a library to be loaded and say its version: 0.2 to 0.4 s."""

_BY_CHILD: Final = {
    "libsndfile": "import soundfile; print(soundfile.__libsndfile_version__)",
    "PortAudio": "import sounddevice; print(sounddevice.get_portaudio_version()[1])",
}
"""What these do while they are loaded (PortAudio looks at all devices) can hang or crash, so a child does."""

_OUR_VARIABLE: Final = re.compile("(PERSONAPLEX|POLARGRID)_[A-Z0-9_]+", re.ASCII)
_PROXIES: Final = ("http_proxy", "https_proxy", "ws_proxy", "wss_proxy", "all_proxy", "no_proxy")
_LOCALE: Final = ("LC_ALL", "LC_CTYPE", "LANG")
_SOUND_SERVERS: Final = {
    "PulseAudio": ("PULSE_SERVER", "pulse/native"),
    "PipeWire": ("PIPEWIRE_REMOTE", "pipewire-0"),
}
"""The variable that says where the server is, and its usual socket in the folder XDG_RUNTIME_DIR."""


def report() -> Iterator[str]:
    """Line by line, as each is known; what takes longest comes last. Never raises, and ends within
    2 × `CHILD_LIMIT_S`. Nothing is connected to, except that PortAudio may ask a sound server for devices."""
    for name, value in _rows():
        yield f"{name:<15} {safe_text(value)}"


def _rows() -> Iterator[tuple[str, str]]:
    yield "personaplex", __version__
    yield "Python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "platform", f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield "libc", " ".join(filter(None, platform.libc_ver())) or "unknown"
    yield "terminal", _shown(os.environ, ("TERM", "COLORTERM", "NO_COLOR"))
    for name, stream in (("stdin", sys.stdin), ("stdout", sys.stdout), ("stderr", sys.stderr)):
        yield name, _stream(stream)
    yield "locale", f"{_shown(os.environ, _LOCALE)}, {locale.getencoding()}"
    path = config_path()
    yield "configuration", f"{_without_home(path)} ({'is there' if os.path.exists(path) else 'not there'})"
    yield "variables", _set([name for name in os.environ if _OUR_VARIABLE.fullmatch(name)])
    yield "proxies", _set([name for name in os.environ if name.lower() in _PROXIES and os.environ[name]])
    for name, (variable, socket) in _SOUND_SERVERS.items():
        yield name, _sound_server(variable, socket)
    yield from _packages()
    yield "libopus", _libopus()
    for name, code in _BY_CHILD.items():
        yield name, _said_by_child(code)


def _shown(values: Mapping[str, str], names: tuple[str, ...]) -> str:
    return ", ".join(f"{name}={values[name]}" if name in values else f"{name} not set" for name in names)


def _set(names: list[str]) -> str:
    return f"{', '.join(sorted(names))} (set)" if names else "none set"


def _stream(stream: TextIO | None) -> str:
    if stream is None or stream.closed:
        return "closed"
    if not stream.isatty():
        return f"no terminal, {stream.encoding}"
    try:
        size = os.get_terminal_size(stream.fileno())
    except OSError:
        return f"terminal, {stream.encoding}"
    return f"terminal, {size.columns}x{size.lines}, {stream.encoding}"


def _without_home(path: Path) -> str:
    """`path` with ~ for the home folder, whose name is often the user's."""
    try:
        return str(Path("~") / path.absolute().relative_to(Path.home()))
    except (ValueError, RuntimeError, OSError):  # elsewhere; no home; no current folder
        return str(path)


def _sound_server(variable: str, socket: str) -> str:
    """By what the environment says; nobody is asked."""
    if os.environ.get(variable):
        return f"{variable} is set"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    there = runtime is not None and os.path.exists(os.path.join(runtime, socket))
    return f"XDG_RUNTIME_DIR/{socket} is there" if there else "no sign of it"


def _packages() -> Iterator[tuple[str, str]]:
    """Those that the program needs, and those of its extras for users, with their versions."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield DISTRIBUTION, "not installed as a package"
        return
    for requirement in requirements:
        match = re.match(r"[\w.-]+", requirement)
        if match is None or re.search(r"extra == .dev\b", requirement):
            continue
        try:
            yield match[0], metadata.version(match[0])
        except metadata.PackageNotFoundError:
            yield match[0], "not installed"


def _libopus() -> str:
    """With libogg, which has no version to tell."""
    from personaplex_cli.codec.library import load

    try:
        return f"{load().opus.opus_get_version_string().decode('ascii', 'replace')}; libogg found"
    except MissingLibraryError as error:
        return f"not found: {error}"
    except Exception as error:  # a library that loads and is not what it should be
        return f"not usable: {type(error).__name__}"


def _said_by_child(code: str) -> str:
    """What Python prints for `code`, or in words why it printed nothing."""
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
        return f"no answer within {CHILD_LIMIT_S:g} s"
    except OSError as error:
        return f"not asked: {error.strerror}"
    if child.returncode == 0:
        return child.stdout.strip()
    if child.returncode < 0:
        return f"crashed (signal {-child.returncode})"
    error_name = child.stderr.strip().rpartition("\n")[2].partition(":")[0]
    return "not found" if error_name == "OSError" else f"not usable: {error_name}"
