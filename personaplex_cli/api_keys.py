"""The API key: found in the environment, the configuration file or the system's keyring; kept in the keyring.

It is never taken from the command line, where every user of the machine could read it. What a keyring says
when it fails is not shown: nobody has looked at what the text may hold.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from personaplex_cli.config import DEFAULT_PROFILE, Config
from personaplex_cli.errors import CredentialsError
from personaplex_cli.settings import API_KEY

T = TypeVar("T")

API_KEY_VARIABLE: Final = "POLARGRID_API_KEY"
"""The environment variable of the vendor's own SDK."""

KEYRING: Final = "keyring"
"""The origin of a key from there."""

SERVICE: Final = "personaplex"
"""In the keyring. The user's name there is the profile's, or "default"."""

READ_LIMIT_S: Final = 5.0
"""For the keyring to give a key: on a desktop it is open, and elsewhere nobody waits for it longer."""

WRITE_LIMIT_S: Final = 60.0
"""For `login` and `logout`: the user may have to unlock it first."""

_VISIBLE_ASCII: Final = re.compile("[!-~]+")
"""What a key may consist of: it goes into an HTTP header."""


@dataclass(frozen=True, slots=True)
class Key:
    text: str = field(repr=False)
    origin: str
    """Like "environment POLARGRID_API_KEY", "file, line 3" or "keyring"."""


class KeyringError(CredentialsError):
    """The system's keyring did not answer, or failed."""


class NoKeyringError(KeyringError):
    """There is none, or one that keeps nothing."""


def find_key(config: Config, tell: Callable[[str], None]) -> Key:
    """The key that holds. Blocks as `look_for_key`. Raises CredentialsError where there is no key, or an
    impossible one."""
    if key := look_for_key(config, tell):
        check_key(key)
        return key
    raise CredentialsError(
        "There is no API key.",
        "Get one in PolarGrid's console; it begins with pg_.\n"
        f"Give it to this program: personaplex login (or set {API_KEY_VARIABLE})\n"
        "Or try it now, without a key: personaplex talk --local",
    )


def look_for_key(config: Config, tell: Callable[[str], None]) -> Key | None:
    """The key that holds, whether it is one or not. May block for `READ_LIMIT_S`, if it has to ask the
    keyring; `tell` gets a note when that fails."""
    found = (Key((text or "").strip(), origin) for text, origin in _candidates(config, tell))
    return next((key for key in found if key.text), None)


def check_key(key: Key) -> None:
    """Raises CredentialsError, which does not show it."""
    if not _VISIBLE_ASCII.fullmatch(key.text):
        raise CredentialsError(
            f"The API key ({key.origin}) has characters that no key has.",
            "Copy it again: only visible ASCII characters, no spaces.",
        )


def keep_key(key: str, profile: str | None) -> None:
    """Puts it into the keyring. May block for `WRITE_LIMIT_S`. Raises KeyringError."""

    def keep(keyring: Any) -> bool:
        keyring.set_password(SERVICE, _user(profile), key)
        return bool(keyring.get_password(SERVICE, _user(profile)) == key)

    if not _ask(keep, WRITE_LIMIT_S):
        raise NoKeyringError("The keyring of this system keeps nothing.")


def drop_key(profile: str | None) -> bool:
    """Takes it out of the keyring; whether there was one. Blocks as `keep_key`. Raises KeyringError."""

    def drop(keyring: Any) -> bool:
        if keyring.get_password(SERVICE, _user(profile)) is None:
            return False
        keyring.delete_password(SERVICE, _user(profile))
        return True

    try:
        return _ask(drop, WRITE_LIMIT_S)
    except NoKeyringError:
        return False


def _candidates(config: Config, tell: Callable[[str], None]) -> Iterator[tuple[str | None, str]]:
    """Each place where a key may be, first come first, and what is there."""
    yield os.environ.get(API_KEY_VARIABLE), f"environment {API_KEY_VARIABLE}"
    profiles = (config.profile, None) if config.profile is not None else (None,)
    kept: dict[str | None, str | None] | None = None
    for profile in profiles:
        in_file = config.own(profile, API_KEY)
        if in_file is not None:
            yield str(in_file), config.place_text(profile, API_KEY)
        if kept is None:
            kept = _kept(profiles, tell)  # of all at once: one that hangs is not asked twice
        yield kept.get(profile), KEYRING if profile is None else f"{KEYRING}, profile {profile}"


def _kept(profiles: tuple[str | None, ...], tell: Callable[[str], None]) -> dict[str | None, str | None]:
    def read(keyring: Any) -> dict[str | None, str | None]:
        return {profile: keyring.get_password(SERVICE, _user(profile)) for profile in profiles}

    try:
        return _ask(read, READ_LIMIT_S)
    except NoKeyringError:  # as on servers: nothing to tell
        return {}
    except KeyringError as error:
        if len(profiles) > 1:  # another key than the profile's would be another account's bill
            raise
        tell(f"{error} {error.hint}")
        return {}


def _user(profile: str | None) -> str:
    return DEFAULT_PROFILE if profile is None else profile


def _ask(action: Callable[[Any], T], limit_s: float) -> T:
    """What `action` makes of the module `keyring`, in a thread that is left to itself when `limit_s` is over:
    D-Bus, or a prompt that nobody sees, may never answer. Raises KeyringError."""
    from concurrent.futures import Future

    outcome: Future[T] = Future()

    def work() -> None:
        try:
            import keyring

            outcome.set_result(action(keyring))
        except BaseException as error:  # its parts come from everywhere
            outcome.set_exception(_explained(error))

    threading.Thread(target=work, name=KEYRING, daemon=True).start()
    try:
        return outcome.result(limit_s)
    except TimeoutError:
        raise KeyringError(
            f"The system's keyring did not answer within {limit_s:g} s.",
            "If it asks to be unlocked, do so and try again.",
        ) from None


def _explained(error: BaseException) -> KeyringError:
    if isinstance(error, ImportError) or type(error).__name__ == "NoKeyringError":  # of keyring.errors
        return NoKeyringError("This system has no keyring.")
    what = f"The system's keyring failed ({type(error).__name__})."
    return KeyringError(what, "If it is locked, unlock it and try again.")
