"""Tokens: what can be read in one, which are usable, and the one that is kept between two runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from personaplex_cli.errors import CredentialsError

CACHE_DIR_VARIABLE: Final = "PERSONAPLEX_CACHE_DIR"

EXPIRY_MARGIN_S: Final = 60
"""A cached token is not used in its last minute: it has to last until the server has seen it."""

PUBLIC_CLAIMS: Final = ("iss", "aud", "iat", "nbf", "exp", "scope", "scp")
"""Claims that are shown. All others may identify a person or a session ("sub" is an e-mail address at some
issuers)."""

_HEADER_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 7230 section 3.2.6: what an element of Sec-WebSocket-Protocol may consist of."""

_TIME_LIMIT_S: Final = 1e11
"""Year 5138. Later times are mistakes (milliseconds are the usual one), which `datetime` may not hold."""


@dataclass(frozen=True, slots=True)
class Token:
    value: str = field(repr=False)
    expires_at: float | None
    """Wall-clock seconds since the epoch, or None if nobody said."""
    claims: dict[str, Any] = field(default_factory=dict)
    """Only `PUBLIC_CLAIMS`; not verified."""


def is_header_token(text: str) -> bool:
    """Whether `text` can be sent in `Sec-WebSocket-Protocol`."""
    return _HEADER_TOKEN.fullmatch(text) is not None


def seconds(value: object) -> float | None:
    """`value` as a time or duration in seconds, or None if it is not a sensible one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _TIME_LIMIT_S else None


def decode_claims(token: str) -> dict[str, Any]:
    """All claims of a JWT, not verified; empty if `token` is no JWT."""
    import jwt

    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}
    return claims


def public_claims(claims: dict[str, Any]) -> dict[str, Any]:
    return {name: claims[name] for name in PUBLIC_CLAIMS if name in claims}


def validate_token(text: str, *, now: Callable[[], float] = time.time) -> Token:
    """The token a user gave, without surrounding blanks. Raises CredentialsError; never shows `text`."""
    value = text.strip()
    if value.startswith("pg_"):
        raise CredentialsError(
            "This is an API key, not a token.",
            "Keys come from POLARGRID_API_KEY, the configuration file or the keyring, never from arguments.\n"
            "With --auth key the key itself is sent instead of a token.",
        )
    if not is_header_token(value):
        what = "has characters that no token has" if value else "is empty"
        raise CredentialsError(f"The token {what}.", "Get one with: personaplex token")
    claims = decode_claims(value)
    expires_at = seconds(claims.get("exp"))
    if expires_at is not None and expires_at <= now():
        raise CredentialsError("The token has expired.", "Get a new one with: personaplex token")
    return Token(value, expires_at, public_claims(claims))


def cache_path() -> Path:
    """The file that holds the token: in `PERSONAPLEX_CACHE_DIR`, or in the usual folder of this system."""
    if folder := os.environ.get(CACHE_DIR_VARIABLE):
        return Path(folder) / "token.json"
    from platformdirs import user_cache_path

    return user_cache_path("personaplex", appauthor=False) / "token.json"


def cached_token(api_key: str, auth_url: str, *, now: Callable[[], float]) -> Token | None:
    """The kept token if it was made with this key by this URL and is valid for another minute.

    A file that is missing, unreadable or damaged is no token, not an error.
    """
    try:
        entry = json.loads(cache_path().read_bytes())
        made_for, value, expires_at = entry["made_for"], entry["token"], seconds(entry["expires_at"])
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None
    if made_for != _fingerprint(api_key, auth_url) or expires_at is None:
        return None
    if not isinstance(value, str) or not is_header_token(value) or now() >= expires_at - EXPIRY_MARGIN_S:
        return None
    return Token(value, expires_at, public_claims(decode_claims(value)))


def cache_token(token: Token, api_key: str, auth_url: str) -> None:
    """Keep `token`, in place of the one before, in a file that only this user can read.

    Written beside the file and moved over it, so that a reader never sees half of it. A folder that cannot
    be written is not an error. A token without a known lifetime is not kept.
    """
    if token.expires_at is None:
        return
    path = cache_path()
    entry = {
        "made_for": _fingerprint(api_key, auth_url),
        "token": token.value,
        "expires_at": token.expires_at,
    }
    new = path.with_name(f"token-{secrets.token_hex(8)}.tmp")
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(entry, file)
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)


def forget_token() -> None:
    """Throw the kept token away: the server did not accept it."""
    with suppress(OSError):
        cache_path().unlink(missing_ok=True)


def _fingerprint(api_key: str, auth_url: str) -> str:
    """Tells whether a token belongs to a key and URL without holding the key."""
    return hashlib.sha256(f"{auth_url}\0{api_key}".encode()).hexdigest()
