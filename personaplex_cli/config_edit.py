"""Changes the configuration file, with its comments and its order left as they are.

Written beside the file and moved over it, so that nobody reads half of it, under a lock, so that of two
programs at the same time neither undoes what the other did. Where the file is a link, what it leads to is
changed. Files are made for their owner alone, and so is each in which there is a key.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from personaplex_cli.config import holds_key, parse, profile_name_problem, read_text
from personaplex_cli.errors import ConfigError, UsageError
from personaplex_cli.settings import PROFILES, Value

PRIVATE: Final = 0o600

LOCK_LIMIT_S: Final = 10.0
"""Others hold the lock for some milliseconds; if it takes so long, something is wrong with the disk."""

_LOCK_POLL_S: Final = 0.005


def set_value(path: Path, profile: str | None, name: str, value: Value) -> None:
    """Makes the profile, or with None the file, say this; both need not be there. Raises ConfigError, and
    UsageError for an impossible profile."""

    def change(text: str) -> str:
        import tomlkit

        document = tomlkit.parse(_with_profile(text, profile))
        _put(_table(document, profile), name, value, "\r\n" if "\r\n" in text else "\n")
        return tomlkit.dumps(document)

    def say(document: dict[str, Any]) -> None:
        table = document if profile is None else document.setdefault(PROFILES, {}).setdefault(profile, {})
        table[name] = value

    _change(path, change, say)


def unset_value(path: Path, profile: str | None, name: str) -> bool:
    """The other way round; whether it was there. Raises ConfigError."""
    found = False

    def change(text: str) -> str:
        import tomlkit

        document = tomlkit.parse(text)
        if found:
            del _table(document, profile)[name]
        return tomlkit.dumps(document)

    def say(document: dict[str, Any]) -> None:
        nonlocal found
        table = document if profile is None else document.get(PROFILES, {}).get(profile, {})
        found = table.pop(name, None) is not None

    if path.exists():
        _change(path, change, say)
    return found


def add_profile(path: Path, profile: str) -> None:
    """Sees to it that there is one. Raises ConfigError, and UsageError for an impossible name."""

    def say(document: dict[str, Any]) -> None:
        document.setdefault(PROFILES, {}).setdefault(profile, {})

    _change(path, lambda text: _with_profile(text, profile), say)


def create(path: Path, text: str) -> None:
    """The file, unless there is one. Raises ConfigError."""
    target = _target(path)
    with _lock(target):
        if not target.exists():
            _write(target, text, PRIVATE)


def _with_profile(text: str, profile: str | None) -> str:
    """`text`, whole lines of it, with an empty profile at its end if it has none of that name."""
    if text and not text.endswith("\n"):
        text += "\n"
    if profile is None or profile in tomllib.loads(text).get(PROFILES, {}):
        return text
    if reason := profile_name_problem(profile):
        raise UsageError(reason[0].upper() + reason[1:])
    blank = "\n" if text else ""
    return f"{text}{blank}[{PROFILES}.{profile}]\n"


def _table(document: Any, profile: str | None) -> Any:
    return document if profile is None else document[PROFILES][profile]


def _put(table: Any, name: str, value: Value, line_break: str) -> None:
    """A new one goes behind the last of its table: tomlkit would put it behind the comments that belong to
    the next table."""
    import tomlkit
    from tomlkit.items import AoT, SingleKey, Table

    body = table.value.body if type(table) is Table else getattr(table, "body", None)
    if name in table or body is None:
        table[name] = value
        return
    own = [at for at, (key, item) in enumerate(body) if key and not isinstance(item, Table | AoT)]
    tables = [at for at, (_, item) in enumerate(body) if isinstance(item, Table | AoT)]
    item = tomlkit.item(value)
    item.trivia.trail = line_break
    if own or not tables:
        body.insert(own[-1] + 1 if own else len(body), (SingleKey(name), item))
    else:
        body[:0] = [(SingleKey(name), item), (None, tomlkit.ws(line_break))]


def _change(path: Path, change: Callable[[str], str], say: Callable[[dict[str, Any]], None]) -> None:
    """`change` makes a new text of the file's, and `say` tells what that is meant to say."""
    target = _target(path)
    with _lock(target):
        text, mode = read_text(target)
        meant = parse(target, text)
        try:
            say(meant)
            new = change(text)
            # Nobody should have to trust the writer with what others have written.
            is_right = tomllib.loads(new) == meant
        except (ValueError, TypeError, AttributeError, LookupError):  # a value where a table should be
            is_right = False
        if not is_right:
            raise ConfigError(f"{path} cannot be changed as it is.", "Edit it: personaplex config edit")
        _write(target, new, _mode(mode, meant))


def _mode(before: int | None, document: dict[str, Any]) -> int:
    """Never wider than it was."""
    mode = PRIVATE if before is None else stat.S_IMODE(before)
    return mode & PRIVATE if holds_key(document) else mode


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _write(target: Path, text: str, mode: int) -> None:
    new = target.with_name(f".{target.name}-{secrets.token_hex(8)}.tmp")
    with _explained(target):
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
            with open(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.chmod(new, mode)
            os.replace(new, target)
        finally:
            new.unlink(missing_ok=True)


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """A file beside it is locked, since the file itself is replaced. It is left there: who removed it would
    take it from under the others."""
    with _explained(target):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if target.exists():  # moving another file over it would not ask whether it may be written
            target.open("r+b").close()
        path = target.with_name(f".{target.name}.lock")
        with open(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE), "r+b") as file:
            until_s = time.monotonic() + LOCK_LIMIT_S
            while not _try_to_lock(file):
                if time.monotonic() > until_s:
                    raise ConfigError(f"{target} is being changed by another program.", "Try again.")
                time.sleep(_LOCK_POLL_S)
            yield  # closing the file unlocks it


if sys.platform == "win32":
    import msvcrt

    def _try_to_lock(file: IO[bytes]) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_to_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "the name is not possible"
        raise ConfigError(f"{target} cannot be written: {why}.") from None
