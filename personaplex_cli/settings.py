"""The table of settings: what the configuration file may say, and what makes a value of it.

A setting is the default of the option of the same name (`max_buffer` of `--max-buffer`) of every command that
is configured, unless it is one of `FOR_THE_PROGRAM`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from personaplex_cli.catalog import is_auto_region, resolve_region, resolve_voice
from personaplex_cli.echo_options import EchoCancel
from personaplex_cli.errors import UsageError
from personaplex_cli.wire.endpoint import Dialect, TokenIn

Value: TypeAlias = str | int | float | bool

API_KEY: Final = "api_key"
PERSONA: Final = "persona"
PROFILE: Final = "profile"
RATE: Final = "rate_per_minute"
PROFILES: Final = "profiles"
"""The table of the profiles' tables; no setting."""

AUTH_MODES: Final = ("jwt", "key")
"""As `--auth` has them."""

_WORDS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Kind:
    what: str
    """It "must be" this."""
    accepts: Callable[[object], bool]
    parse: Callable[[str], Value] = str
    """From a command line. Raises ValueError."""


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    kind: Kind
    example: str
    """As it stands in the file."""
    about: str = ""
    """What it does; empty where the option of the same name of `talk` says so."""


def is_finite_number(value: object) -> bool:
    """Whether it is a number of 0 or more. (TOML's whole numbers can be larger than any float.)"""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= sys.float_info.max


def parse_number(text: str) -> int | float:
    """Whole where it is written so. Raises ValueError."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _parse_boolean(text: str) -> bool:
    try:
        return _WORDS[text.lower()]
    except KeyError:
        raise ValueError from None


def _is_filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_voice(value: object) -> bool:
    return isinstance(value, str) and _resolves(resolve_voice, value)


def _is_region(value: object) -> bool:
    return isinstance(value, str) and (is_auto_region(value) or _resolves(resolve_region, value))


def _resolves(resolve: Callable[[str], object], text: str) -> bool:
    try:
        resolve(text)
    except UsageError:
        return False
    return True


def _is_device(value: object) -> bool:
    return _is_filled(value) or (type(value) is int and 0 <= value <= sys.maxsize)


def _one_of(*names: str) -> Kind:
    quoted = [f'"{name}"' for name in names]
    return Kind(f"{', '.join(quoted[:-1])} or {quoted[-1]}", lambda value: value in names)


def _members(enum: type[StrEnum]) -> Kind:
    return _one_of(*(member.value for member in enum))


def _whole(low: int, high: int | None = None) -> Kind:
    """`high` None: as large as a device may have channels, for all we know."""
    what = f"a whole number from {low}" + ("" if high is None else f" to {high}")
    top = sys.maxsize if high is None else high
    return Kind(what, lambda value: type(value) is int and low <= value <= top, int)


SECRET: Final = Kind("a string", lambda value: isinstance(value, str))
TEXT: Final = Kind("a string, and not an empty one", _is_filled)
BOOLEAN: Final = Kind("true or false", lambda value: isinstance(value, bool), _parse_boolean)
NUMBER: Final = Kind("a number of 0 or more", is_finite_number, parse_number)
SECONDS: Final = Kind("a number of seconds, 0 or more", is_finite_number, parse_number)
VOICE: Final = Kind("the name of a voice", _is_voice)
REGION: Final = Kind("the name of a region, or auto", _is_region)
DEVICE: Final = Kind("a device's name or number, or none", _is_device)

SETTINGS: Final = (
    Setting(
        API_KEY,
        SECRET,
        '"pg_..."',
        "The key. `personaplex login` keeps it in the keyring instead, where that is possible.",
    ),
    Setting(
        RATE, NUMBER, "0.12", "What a minute of a call costs, in any currency: calls show their cost then."
    ),
    Setting(PROFILE, TEXT, '"work"', "The profile that is used without `--profile`. Not within a profile."),
    Setting("voice", VOICE, '"NATM1"'),
    Setting(PERSONA, TEXT, '"teacher"'),
    Setting("region", REGION, '"nyc-01"'),
    Setting("server", TEXT, '"wss://voice.example"'),
    Setting("dialect", _members(Dialect), '"moshi"'),
    Setting("auth", _one_of(*AUTH_MODES), '"key"'),
    Setting("token_in", _members(TokenIn), '"query"'),
    Setting("auth_url", TEXT, '"https://voice.example/v1/auth/token"'),
    Setting("ca_file", TEXT, '"ca.pem"'),
    Setting("insecure", BOOLEAN, "true"),
    Setting("input_device", DEVICE, '"headset"'),
    Setting("output_device", DEVICE, '"headset"'),
    Setting("input_channel", _whole(1), "2"),
    Setting("max_buffer", _whole(0, 2000), "250"),
    Setting("echo_cancel", _members(EchoCancel), '"off"'),
    Setting("half_duplex", BOOLEAN, "true"),
    Setting("noise_suppression", BOOLEAN, "true"),
    Setting("high_pass", BOOLEAN, "true"),
    Setting("gain_control", BOOLEAN, "true"),
    Setting("push_to_talk", BOOLEAN, "true"),
    Setting("plain", BOOLEAN, "true"),
    Setting("earcons", BOOLEAN, "true"),
    Setting("handshake_timeout", SECONDS, "120"),
    Setting("max_duration", SECONDS, "600"),
    Setting("budget", NUMBER, "5"),
    Setting("idle_timeout", SECONDS, "30"),
    Setting("tail", SECONDS, "5"),
    Setting("reconnect", BOOLEAN, "true"),
    Setting("bos_marker", BOOLEAN, "true"),
)

BY_NAME: Final = {setting.name: setting for setting in SETTINGS}

FOR_THE_PROGRAM: Final = (API_KEY, RATE, PROFILE)
"""Those that are not the default of a command's option."""


def near_setting(name: str) -> str | None:
    """The setting whose name is most like `name`, if any is."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name.replace("-", "_").lower(), BY_NAME, n=1)), None)
