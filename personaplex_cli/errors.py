"""Every error a user can meet, in one tree.

    PersonaplexError
    ├── UsageError            exit code 2   an option, argument or file is not usable
    ├── ConfigError           exit code 3   the configuration file
    ├── CredentialsError      exit code 3   the API key or the token
    ├── ConnectError          exit code 4   no connection, or a lost one
    ├── ServerError           exit code 5   the server refused, failed or broke the protocol
    └── AudioError            exit code 6   a sound device
        └── MissingLibraryError             a native library is not installed

An error says what happened (`str(error)`) and what to do about it (`error.hint`). Texts that come from
elsewhere (servers, files) are put through `wire.text.safe_text` before they get here. Neither part ever
holds an API key, a token or a persona.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The process's exit codes. The README's table is made from this class."""

    OK = 0
    """The call ended as asked."""
    INTERNAL = 1
    """A fault of the program itself, or nobody was left to read what it printed."""
    USAGE = 2
    """An option, an argument or a file is not usable; nothing was connected."""
    CREDENTIALS = 3
    """The API key, the token or the configuration file."""
    CONNECTION = 4
    """No connection could be made, or it was lost."""
    SERVER = 5
    """The server refused, reported an error or broke the protocol."""
    AUDIO = 6
    """A sound device or a native library."""
    INTERRUPTED = 130
    """Ended at once by a second Ctrl-C."""


class PersonaplexError(Exception):
    """Root of all errors shown to users without a traceback."""

    exit_code: ExitCode = ExitCode.SERVER

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PersonaplexError):
    exit_code = ExitCode.USAGE


class ConfigError(PersonaplexError):
    exit_code = ExitCode.CREDENTIALS


class CredentialsError(PersonaplexError):
    exit_code = ExitCode.CREDENTIALS


class ConnectError(PersonaplexError):
    exit_code = ExitCode.CONNECTION


class ServerError(PersonaplexError):
    exit_code = ExitCode.SERVER


class AudioError(PersonaplexError):
    exit_code = ExitCode.AUDIO


class MissingLibraryError(AudioError):
    """A native library (libopus, libogg, PortAudio, libsndfile) cannot be loaded."""
