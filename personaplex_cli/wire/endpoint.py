"""Where a call connects: dialect, address, voice, persona and token → URL and subprotocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from personaplex_cli.errors import UsageError

URL_LIMIT_BYTES: Final = 8192
"""What common HTTP servers and proxies accept as a request line."""

PERSONA_ADVICE_CHARS: Final = 1000
"""Longer personas are sent with a note: the model reads them before it answers, which costs time."""

MOSHI_DEFAULT_PERSONA: Final = "You enjoy having a good conversation."
"""Sent when no persona is given: NVIDIA's server needs the parameter, and not empty."""


class Dialect(StrEnum):
    POLARGRID = "polargrid"
    MOSHI = "moshi"


class TokenIn(StrEnum):
    HEADER = "header"
    QUERY = "query"


PATHS: Final = {Dialect.POLARGRID: "/v1/voice/personaplex", Dialect.MOSHI: "/api/chat"}
_SCHEMES: Final = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What `pipeline.websocket` connects to. The URL holds the persona and maybe the token: never show it."""

    url: str = field(repr=False)
    subprotocol: str | None = field(repr=False)
    address: str
    """Scheme, host and port, for messages."""
    secrets: tuple[str, ...] = field(repr=False)
    """What must not appear in anything shown: token and persona."""

    @property
    def tls(self) -> bool:
        return self.url.startswith("wss:")


def polargrid_server(region: str) -> str:
    """The address of PolarGrid's endpoint in a region (docs/protocol.md section 2)."""
    return f"wss://api.{region}.edge.polargrid.ai"


def build_endpoint(
    dialect: Dialect,
    server: str,
    *,
    voice: str,
    persona: str | None,
    token: str | None = None,
    token_in: TokenIn = TokenIn.HEADER,
) -> Endpoint:
    """The endpoint of one call.

    `server` is a ws, wss, http or https URL; the dialect's path is added when it has none, and its own
    query is kept. `persona` None means none was given. Raises UsageError for an unusable address, an empty
    persona, a URL over `URL_LIMIT_BYTES`, and a token that would travel unencrypted to another machine.
    """
    address = _split_server(server)
    if persona is not None and not persona.strip():
        raise UsageError("The persona is empty.", "Give some text, or leave --persona out.")
    scheme = _SCHEMES[address.scheme]
    if token and scheme == "ws" and not is_loopback(address.hostname or ""):
        raise UsageError(
            f"The token would travel unencrypted to {address.hostname}.",
            "Use a wss:// address for servers on other machines.",
        )
    path = address.path if address.path.strip("/") else PATHS[dialect]
    params = [*parse_qsl(address.query, keep_blank_values=True), *_parameters(dialect, voice, persona)]
    if token and token_in is TokenIn.QUERY:
        params.append(("token", token))
    base = f"{scheme}://{address.netloc}"
    try:
        url = f"{base}{path}?{urlencode(params, quote_via=quote)}"
    except UnicodeEncodeError:  # a lone surrogate stands for a byte of the command line that is no UTF-8
        raise UsageError("The persona has characters that are no text.", "Write it in UTF-8.") from None
    if len(url) > URL_LIMIT_BYTES:
        raise UsageError(
            f"The persona is too long: the address of the call would take {len(url):,} bytes, "
            f"{URL_LIMIT_BYTES:,} are possible.",
            "Shorten the persona; characters outside ASCII take six bytes or more each.",
        )
    subprotocol = f"bearer.{token}" if token and token_in is TokenIn.HEADER else None
    return Endpoint(url, subprotocol, base, tuple(secret for secret in (token, persona) if secret))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    import ipaddress  # not at the top: the command line is built from this module, and must be quick

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split_server(server: str) -> SplitResult:
    hint = "Write it like wss://host:port, ws://localhost:8998 or https://host/path."
    try:
        address = urlsplit(server)
        address.port  # noqa: B018  raises ValueError when it is no number or out of range
    except ValueError:
        raise UsageError("The server's address is not a URL.", hint) from None
    if "@" in address.netloc:
        raise UsageError("The server's address must not hold a user name or password.", hint)
    if address.scheme not in _SCHEMES or not address.hostname:
        raise UsageError("The server's address must begin with ws://, wss://, http:// or https://.", hint)
    if not server.isascii() or not server.isprintable() or " " in server:
        raise UsageError("The server's address has characters that a URL cannot have.", hint)
    return address


def _parameters(dialect: Dialect, voice: str, persona: str | None) -> list[tuple[str, str]]:
    if dialect is Dialect.MOSHI:
        return [("voice_prompt", f"{voice}.pt"), ("text_prompt", persona or MOSHI_DEFAULT_PERSONA)]
    return [("voice", voice)] + ([("persona", persona)] if persona else [])
