"""The configuration file and the API key.

The file is TOML and optional; its settings are `api_key` and `rate_per_minute`. The key comes from the
environment or this file and never from the command line, where every user of the machine could read it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from personaplex_cli.errors import ConfigError, CredentialsError
from personaplex_cli.wire.text import safe_text

API_KEY_VARIABLE: Final = "POLARGRID_API_KEY"
"""The environment variable of the vendor's own SDK."""

CONFIG_VARIABLE: Final = "PERSONAPLEX_CONFIG"

_VISIBLE_ASCII: Final = re.compile("[!-~]+")
"""What a key may consist of: it goes into an HTTP header."""

_TOML_POSITION: Final = re.compile(r"\(at (line \d+, column \d+|end of document)\)")


@dataclass(frozen=True, slots=True)
class Config:
    path: Path
    """Where the file is, or would be."""
    api_key: str | None = field(default=None, repr=False)
    rate_per_minute: float | None = None
    """What a minute of a call costs, in whatever currency; shown during calls."""
    note: str | None = None
    """Something to tell the user about the file."""


def config_path() -> Path:
    """Where the file is expected: `PERSONAPLEX_CONFIG`, or the usual folder of this system."""
    if path := os.environ.get(CONFIG_VARIABLE):
        return Path(path)
    from platformdirs import user_config_path

    return user_config_path("personaplex", appauthor=False) / "config.toml"


def load_config() -> Config:
    """The configuration; a missing file is an empty one.

    Raises ConfigError, which names file and place but shows nothing of the content: it may hold a key.
    """
    path = config_path()
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            settings = _parse(path, file)
    except FileNotFoundError:
        return Config(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    key = settings.pop("api_key", None)
    if key is not None and not isinstance(key, str):
        raise ConfigError(f"{path}: api_key must be a string.", 'Write it like api_key = "pg_..."')
    rate = settings.pop("rate_per_minute", None)
    if rate is not None and not _is_rate(rate):
        raise ConfigError(
            f"{path}: rate_per_minute must be a number.", "Write it like rate_per_minute = 0.12"
        )
    if settings:
        raise ConfigError(
            f"{path}: unknown setting {', '.join(map(_shown, settings))}.",
            "The settings are api_key and rate_per_minute.",
        )
    readable = key is not None and os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH)
    note = f"{path} holds an API key and others can read it: run chmod 600 {path}" if readable else None
    return Config(path, key, None if rate is None else float(rate), note)


def api_key(config: Config) -> str:
    """The API key, from the environment or else from `config`. Raises CredentialsError."""
    for origin, text in ((API_KEY_VARIABLE, os.environ.get(API_KEY_VARIABLE)), (config.path, config.api_key)):
        key = (text or "").strip()
        if not key:
            continue
        if not _VISIBLE_ASCII.fullmatch(key):
            raise CredentialsError(
                f"The API key in {origin} has characters that no key has.",
                "Copy it again: only visible ASCII characters, no spaces.",
            )
        return key
    raise CredentialsError(
        "There is no API key.",
        f"Get one from PolarGrid and set it: export {API_KEY_VARIABLE}=pg_...\n"
        f'or write api_key = "pg_..." into {config.path}\n'
        "Without a key: personaplex talk --local",
    )


def _is_rate(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= sys.float_info.max  # TOML's whole numbers can be larger


def _shown(setting: str) -> str:
    """Its name, unless somebody wrote a key there."""
    return "'pg_…'" if "pg_" in setting else repr(safe_text(setting))


def _parse(path: Path, file: BinaryIO) -> dict[str, Any]:
    try:
        return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        # Only the place is taken from the message: the rest may quote the file.
        position = _TOML_POSITION.search(str(error))
        raise ConfigError(f"{path} is not valid TOML{f': {position[1]}' if position else ''}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not valid TOML: it is not UTF-8.") from None
    except (ValueError, RecursionError):  # a number with thousands of digits, thousands of brackets
        raise ConfigError(f"{path} is not a configuration that can be read.") from None
