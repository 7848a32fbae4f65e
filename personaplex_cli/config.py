"""The configuration file: where it is, what is right and wrong in it, and what holds.

TOML, and optional. `settings` has the table of what it may say; a table `[profiles.NAME]` may say the same,
and comes before the rest of the file. Flags and environment come before both, by Typer's own means:
`Config.defaults` becomes the default map of the commands.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

from personaplex_cli.errors import ConfigError, UsageError
from personaplex_cli.settings import (
    API_KEY,
    BY_NAME,
    FOR_THE_PROGRAM,
    PERSONA,
    PROFILE,
    PROFILES,
    RATE,
    Value,
    near_setting,
)
from personaplex_cli.toml_lines import Place, lines_of_keys
from personaplex_cli.wire.text import safe_text

CONFIG_VARIABLE: Final = "PERSONAPLEX_CONFIG"

SIZE_LIMIT_BYTES: Final = 262_144
"""A file that is larger was not written as a configuration."""

DEFAULT_PROFILE: Final = "default"
"""No profile can have this name: in the keyring it stands for none."""

_NAME_LIMIT_CHARS: Final = 40

_PROFILE_NAME: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{_NAME_LIMIT_CHARS}}}")

_TOML_POSITION: Final = re.compile(r"\(at (line \d+, column \d+|end of document)\)")


@dataclass(frozen=True)
class Config:
    """What the file says, with a profile in force. All of it has been checked."""

    path: Path
    """Where the file is, or would be."""
    profile: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    text: str = field(default="", repr=False)
    note: str | None = None
    """Something to tell the user about the file."""

    def own(self, profile: str | None, name: str) -> Value | None:
        """What a profile itself says, or (None) what stands outside of the profiles."""
        table = self.document
        if profile is not None:
            table = table.get(PROFILES, {}).get(profile, {})
        value: Value | None = table.get(name)
        return value

    def get(self, name: str) -> Value | None:
        """What holds: the profile's value, or else the file's."""
        value = self.own(self.profile, name)
        return self.own(None, name) if value is None else value

    @property
    def rate_per_minute(self) -> float | None:
        """What a minute of a call costs, in whatever currency."""
        rate = self.get(RATE)
        return None if rate is None else float(rate)

    @cached_property
    def defaults(self) -> dict[str, Value]:
        """For the options of commands, by their names. Files that are named are looked for from the folder of
        the configuration: where the program is started changes with every call."""
        names = [name for name in BY_NAME if name not in FOR_THE_PROGRAM]
        values = {name: value for name in names if (value := self.get(name)) is not None}
        if "ca_file" in values:
            values["ca_file"] = self._anchored(str(values["ca_file"]))
        if (persona := str(values.get(PERSONA, ""))).startswith("@"):
            values[PERSONA] = f"@{self._anchored(persona[1:])}"
        return values

    def origin(self, name: str) -> str:
        """Where the value comes from that holds: "profile work, line 12" or "file, line 3"."""
        profile = self.profile if self.own(self.profile, name) is not None else None
        return self.place_text(profile, name)

    def place_text(self, profile: str | None, name: str) -> str:
        place = (name,) if profile is None else (PROFILES, profile, name)
        where = "file" if profile is None else f"profile {profile}"
        line = self._lines.get(place)
        return where if line is None else f"{where}, line {line}"

    @cached_property
    def _lines(self) -> dict[Place, int]:
        return lines_of_keys(self.text)

    def _anchored(self, path: str) -> str:
        return str(self.path.parent / os.path.expanduser(path))


class Mistake(NamedTuple):
    place: Place
    text: str
    hint: str


def config_path() -> Path:
    """Where the file is expected: `PERSONAPLEX_CONFIG`, or the usual folder of this system."""
    if path := os.environ.get(CONFIG_VARIABLE):
        return Path(path)
    from platformdirs import user_config_path

    return user_config_path("personaplex", appauthor=False) / "config.toml"


def profile_names() -> list[str]:
    """For completion: none, where the file cannot be used."""
    try:
        path = config_path()
        return list(parse(path, read_text(path)[0]).get(PROFILES, ()))
    except ConfigError:
        return []


def load_config(profile: str | None = None, *, may_be_new: bool = False) -> Config:
    """The configuration with `profile` in force, or else the profile that the file names; a missing file is
    an empty one.

    Raises ConfigError, which names file, line and setting but no value: it may be a key. Raises UsageError
    where there is no such profile, unless that `may_be_new`.
    """
    path = config_path()
    text, mode = read_text(path)
    document = parse(path, text)
    if mistakes := list(find_mistakes(document)):
        raise _mistaken(path, text, mistakes)
    if profile is None:
        profile = document.get(PROFILE)
    elif not may_be_new:
        _require_profile(path, document, profile)
    elif reason := profile_name_problem(profile):
        raise UsageError(f"{reason[0].upper()}{reason[1:]}")
    return Config(path, profile, document, text, _note(path, document, mode))


def read_text(path: Path) -> tuple[str, int | None]:
    """The file's text and mode, without the mark that some editors put at the beginning; "" and None where
    there is none. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(SIZE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return "", None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "the name is not possible"
        raise ConfigError(f"{path} cannot be read: {why}.") from None
    if len(content) > SIZE_LIMIT_BYTES:
        raise ConfigError(
            f"{path} is too large for a configuration: {SIZE_LIMIT_BYTES:,} bytes are possible."
        )
    try:
        return content.decode("utf-8-sig"), mode
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not valid TOML: it is not UTF-8.") from None


def parse(path: Path, text: str) -> dict[str, Any]:
    """Raises ConfigError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Only the place is taken from the message: the rest may quote the file.
        position = _TOML_POSITION.search(str(error))
        raise ConfigError(f"{path} is not valid TOML{f': {position[1]}' if position else ''}.") from None
    except (ValueError, RecursionError):  # a number with thousands of digits, thousands of brackets
        raise ConfigError(f"{path} is not a configuration that can be read.") from None


def find_mistakes(document: Mapping[str, Any]) -> Iterator[Mistake]:
    """All that is wrong with what a file says, in its order within each table."""
    profiles = document.get(PROFILES, {})
    if not isinstance(profiles, Mapping):
        profiles = {}
        yield Mistake((PROFILES,), "profiles must be tables.", "Write them like [profiles.work]")
    yield from _mistakes_in({key: value for key, value in document.items() if key != PROFILES}, ())
    for name, table in profiles.items():
        place = (PROFILES, name)
        if reason := profile_name_problem(name):
            yield Mistake(place, reason, "Write it like [profiles.work]")
        elif not isinstance(table, Mapping):
            yield Mistake(place, f"profile {name} must be a table.", f"Write it like [profiles.{name}]")
        else:
            yield from _mistakes_in(table, place)
    default = document.get(PROFILE)
    if isinstance(default, str) and default.strip() and default not in profiles:
        yield Mistake((PROFILE,), "there is no profile of that name.", profiles_text(document))


def profile_name_problem(name: str) -> str | None:
    """Why a profile cannot be called so."""
    if not _PROFILE_NAME.fullmatch(name):
        return f"the name of a profile has up to {_NAME_LIMIT_CHARS} letters (a to z), digits, - and _."
    if name == DEFAULT_PROFILE:
        return "no profile can be called default: what stands above the profiles holds for all of them."
    return None


def profiles_text(document: Mapping[str, Any]) -> str:
    names = ", ".join(map(shown_name, document.get(PROFILES, {})))
    return f"The profiles are: {names}." if names else "There are no profiles: write one like [profiles.work]"


def shown_name(name: str) -> str:
    """As it stands in the file, unless somebody wrote a key there."""
    return "pg_…" if "pg_" in name else safe_text(name[:_NAME_LIMIT_CHARS])


def _mistakes_in(table: Mapping[str, Any], place: Place) -> Iterator[Mistake]:
    for name, value in table.items():
        setting = BY_NAME.get(name)
        if setting is None:
            near = near_setting(name)
            hint = f"Is {near} meant?" if near else "personaplex config show --all lists the settings."
            yield Mistake((*place, name), f"unknown setting '{shown_name(name)}'.", hint)
        elif name == PROFILE and place:
            yield Mistake((*place, name), "a profile cannot name a profile.", "It goes above the profiles.")
        elif not setting.kind.accepts(value):
            hint = f"Write it like {name} = {setting.example}"
            yield Mistake((*place, name), f"{name} must be {setting.kind.what}.", hint)


def _mistaken(path: Path, text: str, mistakes: list[Mistake]) -> ConfigError:
    """One error for all of them."""
    lines = lines_of_keys(text)
    texts = []
    for place, what, _ in mistakes:
        line = f"line {lines[place]}" if place in lines else ""
        profile = f"profile {place[1]}" if len(place) > 2 else ""
        texts.append(f"{', '.join(filter(None, (line, profile)))}: {what}".removeprefix(": "))
    if len(mistakes) == 1:
        return ConfigError(f"{path}, {texts[0]}", mistakes[0].hint)
    shown = [f"{text} {mistake.hint}" for text, mistake in zip(texts, mistakes, strict=True)]
    return ConfigError(f"{path} has {len(mistakes)} mistakes.", "\n".join(shown))


def _require_profile(path: Path, document: Mapping[str, Any], profile: str) -> None:
    if profile not in document.get(PROFILES, {}):
        what = f"There is no profile {shown_name(profile)} in {path}."
        raise UsageError(what, profiles_text(document))


def _note(path: Path, document: Mapping[str, Any], mode: int | None) -> str | None:
    is_open = os.name == "posix" and bool((mode or 0) & (stat.S_IRGRP | stat.S_IROTH))
    if not (is_open and holds_key(document)):
        return None
    return f"{path} holds an API key and others can read it: run chmod 600 {path}"


def holds_key(document: Mapping[str, Any]) -> bool:
    tables = (document, *document.get(PROFILES, {}).values())
    return any(API_KEY in table for table in tables)
