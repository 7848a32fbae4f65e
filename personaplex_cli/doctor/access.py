"""Configuration, key, token and clock: whether the server will let us in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from personaplex_cli.auth import AUTH_URL, EXCHANGE_TIMEOUT_S, get_token
from personaplex_cli.doctor.check import Finding, failure, ok, skipped, warning
from personaplex_cli.errors import CredentialsError
from personaplex_cli.tokens import Token, seconds, validate_token

SKEW_S: Final = 30.0
"""A clock that is wrong by more is told: tokens live for minutes, and are made a network's delay ago."""

OWN_SERVER: Final = "Not needed: a server of your own."


@dataclass(frozen=True, slots=True)
class SetValue:
    name: str
    shown: str
    """As it may be shown."""
    origin: str
    """Like "environment PERSONAPLEX_VOICE" or "file, line 3"."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for a call, and where that comes from."""

    path: Path
    profile: str | None = None
    note: str | None = None
    """Something that the user should know about the file."""
    values: Sequence[SetValue] = ()
    """What is set anywhere."""
    key: str = field(default="", repr=False)
    """Empty if there is none that can be used."""
    key_origin: str = ""
    key_error: CredentialsError | None = None
    """Why there is none."""


@dataclass
class Access:
    """The checks, for one thread after the other."""

    read: Callable[[], Settings]
    """May block for `READ_LIMIT_S`, twice. Raises ConfigError, UsageError."""
    sends_key: bool
    """With --auth key: there is no exchange."""
    wants_none: bool
    """A server that wants no credentials."""
    token_text: str | None = field(repr=False)
    """With --token: it takes the place of a key."""
    auth_url: str | None
    ca_file: Path | None
    insecure: bool
    now: Callable[[], float] = time.time
    exchange_limit_s: float = EXCHANGE_TIMEOUT_S

    def __post_init__(self) -> None:
        self._settings: Settings | None = None
        self._token: Token | None = None
        self._asked_s = 0.0

    def check_configuration(self) -> Finding:
        """Raises ConfigError, UsageError."""
        self._settings = settings = self.read()
        there = "" if os.path.exists(settings.path) else " (not there: nothing has to be)"
        profile = f", profile {settings.profile}" if settings.profile else ""
        listed = [f"{value.name} = {value.shown} ({value.origin})" for value in settings.values]
        text = f"{settings.path}{there}{profile}. {'; '.join(listed) or 'Nothing is set'}."
        figures = {
            "path": str(settings.path),
            "profile": settings.profile,
            "origins": {value.name: value.origin for value in settings.values},
        }
        return warning(text, settings.note, **figures) if settings.note else ok(text, **figures)

    def check_key(self) -> Finding:
        if self.wants_none:
            return skipped(OWN_SERVER)
        if self.token_text is not None:
            return skipped("Not needed: a token is given (--token, PERSONAPLEX_TOKEN).")
        assert self._settings is not None  # this check needs the one before
        if self._settings.key_error is not None:
            return failure(self._settings.key_error)
        return ok(f"Present, from {self._settings.key_origin}.", origin=self._settings.key_origin)

    def check_token(self) -> Finding:
        """Raises CredentialsError, ConnectError, ServerError, UsageError."""
        if self.wants_none:
            return skipped(OWN_SERVER)
        if self.token_text is not None:
            self._token = validate_token(self.token_text, now=self.now)
            return ok(f"The token that is given{self._lifetime_words()}.", **self._lifetime())
        assert self._settings is not None
        if not self._settings.key:
            return skipped("Not looked at, because of: API key.")
        if self.sends_key:
            return skipped("With --auth key nothing is exchanged: only a call shows whether the key is good.")
        before_s = self.now()
        self._token = get_token(
            self._settings.key,
            self.auth_url or AUTH_URL,
            use_cache=False,
            timeout_s=self.exchange_limit_s,
            ca_file=self.ca_file,
            insecure=self.insecure,
            now=self.now,
        )
        self._asked_s = (before_s + self.now()) / 2
        return ok(f"The key was accepted; a token{self._lifetime_words()}.", **self._lifetime())

    def check_clock(self) -> Finding:
        """Against when the token that was just made says it was made."""
        made_s = seconds(self._token.claims.get("iat")) if self._token else None
        if made_s is None or not self._asked_s:
            return skipped("No new token says when it was made.")
        assert self._token is not None
        skew_s = round(self._asked_s - made_s)
        figures = {"skew_s": skew_s}
        words = f"This machine's clock is {abs(skew_s)} s {'ahead' if skew_s > 0 else 'behind'}"
        hint = "Let the system set its clock from the network (NTP)."
        expires_s = seconds(self._token.claims.get("exp"))
        if expires_s is not None and expires_s <= self.now():
            error = CredentialsError(f"{words}: by it, the new token has already expired.", hint)
            return failure(error, **figures)
        if abs(skew_s) > SKEW_S:
            return warning(f"{words}.", hint, **figures)
        return ok(f"Right, within {max(abs(skew_s), 1)} s.", **figures)

    def _lifetime_words(self) -> str:
        left_s = self._lifetime()["expires_in_s"]
        return ", nobody said for how long" if left_s is None else f" for {left_s} s"

    def _lifetime(self) -> dict[str, int | None]:
        """Rounded: the time of the exchange itself counts."""
        expires_s = self._token.expires_at if self._token else None
        return {"expires_in_s": None if expires_s is None else max(0, round(expires_s - self.now()))}
