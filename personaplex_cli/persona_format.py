"""Persona files: TOML, Markdown with or without front matter, or text → prompt and voice.

    name = "My tutor"              ---
    voice = "NATM1"                name: My tutor
    prompt = "You are ..."         voice: NATM1
                                   ---

                                   You are ...

Only the prompt is needed. The name is for the reader: a persona is called by the name of its file.
Prompts are private: no error and no fault holds anything of what a file says, only places in it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from personaplex_cli.catalog import resolve_voice
from personaplex_cli.errors import UsageError

FILE_LIMIT_BYTES: Final = 65_536
"""Far above what fits into an address; keeps us from reading a film."""

TOML_SUFFIX: Final = ".toml"
MARKDOWN_SUFFIXES: Final = (".md", ".markdown")

_KEYS: Final = ("name", "voice", "prompt")

_FENCE: Final = "---"

_FRONT_MATTER: Final = re.compile(r"(?P<key>[A-Za-z_-]+)\s*:(?:\s+(?P<value>.*))?")

_TOML_POSITION: Final = re.compile(r"\(at (line \d+, column \d+|end of document)\)")


@dataclass(frozen=True, slots=True)
class Persona:
    prompt: str = field(repr=False)
    voice: str | None = None
    """A name that `catalog` knows; None for whatever voice the call has."""
    title: str | None = None
    """What the file says of itself as its name."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a file says, not checked yet."""

    settings: dict[str, Any] = field(repr=False)
    """By key; values of any type that TOML has."""
    lines: dict[str, int]
    """Where a key stands, from 1, as far as it is known."""

    @property
    def prompt(self) -> str:
        """Empty if there is none, or none that is text."""
        return _text(self.settings.get("prompt"))


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a file cannot be used."""

    text: str
    line: int | None
    hint: str | None = None


def read_persona(path: Path) -> Persona:
    """The persona in a file. Raises UsageError, also for a file that is not quite right: a voice that is
    misspelt would be paid for before it is heard."""
    draft = parse(read_text(path), path)
    for fault in faults(draft):
        place = "" if fault.line is None else f", line {fault.line}"
        raise UsageError(f"The persona file {path}{place}: {fault.text}", fault.hint)
    voice, title = (_text(draft.settings.get(key)) for key in ("voice", "name"))
    return Persona(draft.prompt, resolve_voice(voice).value.name if voice else None, title or None)


def read_text(path: Path) -> str:
    """The file's text with plain line breaks. Raises UsageError."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "the name is not possible"
        raise UsageError(
            f"The persona file {path} cannot be read: {why}.",
            "--persona @FILE takes the persona from a file; without the @ it is a name or the text itself.",
        ) from None
    if len(data) > FILE_LIMIT_BYTES:
        raise UsageError(f"The persona file {path} is too long for a persona.")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise UsageError(f"The persona file {path} is not UTF-8 text.") from None


def parse(text: str, path: Path) -> Draft:
    """What `text` says; `path` tells its form. Raises UsageError for TOML or front matter that is broken."""
    suffix = path.suffix.lower()
    if suffix == TOML_SUFFIX:
        return _parse_toml(text, path)
    if suffix in MARKDOWN_SUFFIXES and text.partition("\n")[0].rstrip() == _FENCE:
        return _parse_front_matter(text, path)
    return Draft({"prompt": text}, {})


def faults(draft: Draft) -> list[Fault]:
    """All that keeps the file from being used, in the order of importance."""
    found = [_unknown(key, draft) for key in draft.settings if key not in _KEYS]
    for key in _KEYS:
        if not isinstance(draft.settings.get(key, ""), str):
            found.append(Fault(f"{key} must be a string.", draft.lines.get(key), f'Write {key} = "..."'))
    voice = _text(draft.settings.get("voice"))
    try:
        if voice:
            resolve_voice(voice)
    except UsageError as error:
        found.append(Fault("There is no such voice.", draft.lines.get("voice"), error.hint))
    if not draft.prompt and isinstance(draft.settings.get("prompt", ""), str):
        found.append(Fault("There is no prompt: the persona is empty.", None))
    return found


def _unknown(key: str, draft: Draft) -> Fault:
    near = get_close_matches(key.lower(), _KEYS, n=1)
    hint = f"Is {near[0]} meant?" if near else f"The keys are {', '.join(_KEYS)}."
    return Fault("An unknown key.", draft.lines.get(key), hint)


def _parse_toml(text: str, path: Path) -> Draft:
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Only the place is taken from the message: the rest may quote the file.
        position = _TOML_POSITION.search(str(error))
        raise UsageError(
            f"The persona file {path} is not valid TOML{f': {position[1]}' if position else ''}.",
            'Write it like prompt = "You are ...", with three quotes at each end if it has several lines.',
        ) from None
    except (ValueError, RecursionError):  # a number with thousands of digits, thousands of brackets
        raise UsageError(f"The persona file {path} is not TOML that can be read.") from None
    return Draft(settings, {key: line for key in settings if (line := _toml_line(text, key))})


def _toml_line(text: str, key: str) -> int | None:
    found = re.search(
        rf"^[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*[=.]|^\[+[ \t]*{re.escape(key)}\b", text, re.M
    )
    return text.count("\n", 0, found.start()) + 1 if found else None


def _parse_front_matter(text: str, path: Path) -> Draft:
    _, *lines = text.split("\n")
    end = next((at for at, line in enumerate(lines) if line.rstrip() == _FENCE), None)
    if end is None:
        hint = "Without front matter the file must not begin with ---."
        raise UsageError(f"The persona file {path} has no second --- after its front matter.", hint)
    settings: dict[str, Any] = {"prompt": "\n".join(lines[end + 1 :])}
    places: dict[str, int] = {}
    for number, line in enumerate(lines[:end], 2):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _FRONT_MATTER.fullmatch(line.strip())
        if found is None or found["key"] in settings:
            what = (
                "is neither `key: value` nor a comment"
                if found is None
                else "has a key that is there already"
            )
            hint = "Between the --- stand only name: and voice: ; the prompt begins below them."
            raise UsageError(f"The persona file {path}: line {number} {what}.", hint)
        places[found["key"]] = number
        settings[found["key"]] = _scalar(found["value"] or "")
    return Draft(settings, places)


def _scalar(value: str) -> str:
    """Without a comment, and without the quotes that YAML allows."""
    plain = re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()
    quoted = re.fullmatch(r"\"(.*)\"|'(.*)'", plain)
    return (quoted[1] or quoted[2] or "") if quoted else plain


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
