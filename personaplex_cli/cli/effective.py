"""What holds for a call that is made now without further options, and where each value comes from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import typer

from personaplex_cli.api_keys import look_for_key
from personaplex_cli.cli.options import GlobalOptions
from personaplex_cli.cli.output import print_note
from personaplex_cli.config import Config
from personaplex_cli.settings import API_KEY, FOR_THE_PROGRAM, PERSONA, PROFILE, SETTINGS, Value

DEFAULT: Final = "default"

_URLS: Final = ("server", "auth_url")


@dataclass(frozen=True, slots=True)
class Effective:
    name: str
    value: Value | None
    """As it may be shown: of secrets only whether they are there, of a persona the length."""
    origin: str
    """Like "environment PERSONAPLEX_VOICE", "profile work, line 12", "file, line 3" or "default"."""


def effective_settings(context: typer.Context) -> list[Effective]:
    """All settings, in the order of their table; with the value None those that are set nowhere and have no
    default. May block for some seconds, on the keyring. Raises ConfigError, UsageError, and what Typer raises
    for a variable that is not usable."""
    config = context.ensure_object(GlobalOptions).config
    program = {
        API_KEY: _key(config),
        PROFILE: _profile(context, config),
    }
    call = call_context(context, [])
    found = []
    for setting in SETTINGS:
        name = setting.name
        if name in program:
            value, origin = program[name]
        elif name in FOR_THE_PROGRAM:
            value = config.get(name)
            origin = DEFAULT if value is None else config.origin(name)
        else:
            value, origin = _of_option(call, config, name)
        found.append(Effective(name, _shown(name, value), origin))
    return found


def options_of_talk(context: typer.Context) -> dict[str, Any]:
    """By their names."""
    return {option.name: option for option in _talk(context).params}


def _talk(context: typer.Context) -> Any:
    group: Any = context.find_root().command
    return group.commands["talk"]


def call_context(context: typer.Context, arguments: list[str]) -> Any:
    """`personaplex talk` with `arguments`, up to where it would begin."""
    return _talk(context).make_context("talk", arguments, parent=context.find_root())


def _of_option(call: Any, config: Config, name: str) -> tuple[Value | None, str]:
    value = call.params[name]
    value = value.value if isinstance(value, Enum) else str(value) if isinstance(value, Path) else value
    match call.get_parameter_source(name).name:
        case "ENVIRONMENT":
            return value, f"environment {_variable(call, name)}"
        case "DEFAULT_MAP":
            return value, config.origin(name)
        case _:
            return value, DEFAULT


def _variable(call: Any, name: str) -> str:
    names = next(option.envvar for option in call.command.params if option.name == name)
    return next(one for one in ([names] if isinstance(names, str) else names) if os.environ.get(one))


def _key(config: Config) -> tuple[Value | None, str]:
    key = look_for_key(config, print_note)
    return (None, DEFAULT) if key is None else ("set", key.origin)


def _profile(context: typer.Context, config: Config) -> tuple[Value | None, str]:
    if config.profile is None:
        return None, DEFAULT
    if config.profile == config.own(None, PROFILE) and not context.ensure_object(GlobalOptions).profile:
        return config.profile, config.place_text(None, PROFILE)
    root = context.find_root()
    source = root.get_parameter_source(PROFILE)
    is_variable = (
        source is not None and source.name == "ENVIRONMENT" and config.profile == root.params[PROFILE]
    )
    return config.profile, "environment PERSONAPLEX_PROFILE" if is_variable else "option --profile"


def _shown(name: str, value: Value | None) -> Value | None:
    if value is None or not isinstance(value, str):
        return value
    if name == PERSONA:
        return f"{len(value):,} characters"
    if name in _URLS:
        value = _without_secrets(value)
    return "(looks like an API key)" if "pg_" in value else value


def _without_secrets(url: str) -> str:
    """Without user name, password and query, which may hold tokens."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(not a URL)"
    if not host:  # like user:password@host, of which all would be taken for a path
        return "(not a URL)"
    return f"{parts.scheme}://{host}{parts.path}{'?...' if parts.query else ''}"
