"""Personas by name: the user's own, in a folder beside the configuration file, and those that ship.

A name is the name of the file without its suffix; case does not matter. Own ones come before shipped ones.
Nothing is ever looked up by joining a name to a path, so a name cannot lead out of the folders.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from personaplex_cli.config import config_path
from personaplex_cli.errors import UsageError
from personaplex_cli.persona_format import MARKDOWN_SUFFIXES, TOML_SUFFIX, Persona, read_persona, read_text
from personaplex_cli.wire.endpoint import PERSONA_ADVICE_CHARS

NAME_LIMIT_CHARS: Final = 40

WORD_LIMIT_CHARS: Final = 255
"""The longest name a file can have: what is longer is not meant as a name of anything."""

SUFFIXES: Final = (*MARKDOWN_SUFFIXES, TOML_SUFFIX, ".txt")
"""Of the files in the folders. Others lie there by chance: what editors keep, for example."""

_SHIPPED: Final = Path(__file__).with_name("persona_files")

_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{NAME_LIMIT_CHARS - 1}}}")

_RESERVED: Final = re.compile("con|prn|aux|nul|com[0-9]|lpt[0-9]", re.IGNORECASE)
"""Devices on Windows, whatever suffix follows."""


@dataclass(frozen=True, slots=True)
class PersonaFile:
    name: str
    path: Path
    is_shipped: bool


def personas_folder() -> Path:
    """Where the user's own ones lie; it need not be there."""
    return config_path().parent / "personas"


def resolve_persona(text: str | None) -> Persona | None:
    """What `--persona` means: `@FILE`, the name of a persona, or the prompt itself. Raises UsageError."""
    if text is None:
        return None
    if not text.startswith("@") and not _is_word(text.strip()):
        return Persona(text)
    return read_persona(persona_path(text))


def persona_path(text: str) -> Path:
    """The file that `@FILE` or a name stands for; the one of `@FILE` need not be there. Raises UsageError."""
    return Path(os.path.expanduser(text[1:])) if text.startswith("@") else find_persona(text.strip()).path


def list_personas() -> list[PersonaFile]:
    """All that can be used by name, in order. Raises UsageError if a folder cannot be read."""
    own = [file for file in own_files() if is_name(file.name)]
    taken = {file.name.casefold() for file in own}
    shipped = [file for file in _files(_SHIPPED, is_shipped=True) if file.name.casefold() not in taken]
    return sorted([*own, *shipped], key=lambda file: file.name.casefold())


def own_files() -> list[PersonaFile]:
    """The user's, also those with names that cannot be used. Raises UsageError."""
    return _files(personas_folder(), is_shipped=False)


def find_persona(name: str) -> PersonaFile:
    """The persona of this name. Raises UsageError, which says what names are near but not `name`: a persona
    of one word may have been meant, and those are private."""
    known = list_personas()
    found = [file for file in known if file.name.casefold() == name.casefold()]
    if not found:
        near = get_close_matches(name.casefold(), [file.name.casefold() for file in known])
        hint = f"Is {' or '.join(near)} meant?" if near else "See personaplex personas list."
        hint += "\nA file is given as @FILE; it may also hold a persona that is one word."
        raise UsageError("There is no persona of that name.", hint)
    if len(found) > 1:
        names = " and ".join(file.path.name for file in found)
        raise UsageError(f"Two files have this name: {names}.", f"Rename one of them in {personas_folder()}.")
    return found[0]


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and _RESERVED.fullmatch(text) is None


def is_shipped(name: str) -> bool:
    """Whether a persona of this name comes with the program."""
    return name.casefold() in {file.name.casefold() for file in _files(_SHIPPED, is_shipped=True)}


def length_note(prompt: str) -> str | None:
    """What to say about a prompt that is long but possible."""
    if len(prompt) <= PERSONA_ADVICE_CHARS:
        return None
    return (
        f"The persona has {len(prompt):,} characters: above {PERSONA_ADVICE_CHARS:,} the model takes "
        "noticeably longer to begin."
    )


def create_persona(name: str, text: str, suffix: str = MARKDOWN_SUFFIXES[0]) -> Path:
    """A new file of the user's, which nobody else can read. Raises UsageError, also where there is one."""
    if not is_name(name):
        raise UsageError(
            "A persona cannot have this name.",
            f"Names have up to {NAME_LIMIT_CHARS} letters (a to z), digits, - and _, and begin with a letter "
            "or digit. Some, like con, mean devices on Windows.",
        )
    if any(file.name.casefold() == name.casefold() for file in own_files()):
        raise UsageError(f"There is a persona {name} already.", f"See personaplex personas edit {name}")
    path = personas_folder() / f"{name}{suffix}"
    with _explained(path, "written"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, text)
    return path


def copy_persona(file: PersonaFile) -> Path:
    """One of the user's own, made from a shipped one. Raises UsageError."""
    return create_persona(file.name, read_text(file.path), file.path.suffix)


def remove_persona(file: PersonaFile) -> None:
    """Raises UsageError, also for a shipped one."""
    if file.is_shipped:
        raise UsageError(
            f"The persona {file.name} is built in and cannot be removed.",
            f"One of your own comes before it: personaplex personas edit {file.name}",
        )
    with _explained(file.path, "removed"):
        file.path.unlink()


def _is_word(text: str) -> bool:
    """Whether `text` looks like a name. Others than ASCII may be a sentence: many scripts have no spaces."""
    return 0 < len(text) <= WORD_LIMIT_CHARS and text.isascii() and len(text.split()) == 1


def _files(folder: Path, *, is_shipped: bool) -> list[PersonaFile]:
    with _explained(folder, "read"):
        if not folder.exists():
            return []
        paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
        usable = [path for path in sorted(paths) if not path.name.startswith(".") and path.is_file()]
    return [PersonaFile(path.stem, path, is_shipped) for path in usable]


def _write(path: Path, text: str) -> None:
    """The empty file keeps everybody else from taking the name; what is moved over it is complete."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    new = path.with_name(f".{path.name}-{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(new, path)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "the name is not possible"
        raise UsageError(f"{path} cannot be {done}: {why}.") from None
