"""API key → short-lived token, over HTTPS (docs/protocol.md section 1)."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from personaplex_cli.errors import ConnectError, CredentialsError, PersonaplexError, ServerError, UsageError
from personaplex_cli.tls import tls_context
from personaplex_cli.tokens import (
    Token,
    cache_token,
    cached_token,
    decode_claims,
    is_header_token,
    public_claims,
    seconds,
)
from personaplex_cli.wire.endpoint import is_loopback
from personaplex_cli.wire.text import redact, safe_text

if TYPE_CHECKING:
    import httpx

AUTH_URL: Final = "https://autorouter.edge.polargrid.ai/v1/auth/token"

EXCHANGE_TIMEOUT_S: Final = 10.0
"""For the connection, and for each piece of the answer."""

_ANSWER_LIMIT_BYTES: Final = 65_536
"""An answer is one token and a few fields, some kilobytes."""

_REASON_LIMIT_CHARS: Final = 200


def get_token(
    api_key: str,
    auth_url: str = AUTH_URL,
    *,
    use_cache: bool = True,
    timeout_s: float = EXCHANGE_TIMEOUT_S,
    ca_file: Path | None = None,
    insecure: bool = False,
    now: Callable[[], float] = time.time,
) -> Token:
    """A token for `api_key`: the kept one while it is valid, else a new one. Blocks; raises as `exchange`.

    Without `use_cache` nothing is read from the disk and nothing is kept there.
    """
    if use_cache and (token := cached_token(api_key, auth_url, now=now)):
        return token
    token = exchange(api_key, auth_url, timeout_s=timeout_s, ca_file=ca_file, insecure=insecure, now=now)
    if use_cache:
        cache_token(token, api_key, auth_url)
    return token


def exchange(
    api_key: str,
    auth_url: str,
    *,
    timeout_s: float,
    ca_file: Path | None = None,
    insecure: bool = False,
    now: Callable[[], float],
) -> Token:
    """Ask `auth_url` for a token. Blocks for some `timeout_s` at most, then gives up.

    The key goes to that address and nowhere else: redirects are not followed, and nothing but TLS is spoken
    beyond this machine. `now` gives wall-clock seconds since the epoch.

    Raises UsageError (URL, CA file, proxy settings), ConnectError (not reached), CredentialsError (key
    refused, or no exchange there) and ServerError (anything else that is not a token).
    """
    import httpx

    url = _parse_url(auth_url)
    # Loading all certificates takes a tenth of a second.
    verify = tls_context(ca_file, insecure) if url.scheme == "https" or ca_file else False
    asked_at = now()
    with _connection_errors(url.host, timeout_s), _client(url, verify, timeout_s) as client:
        headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        with client.stream("POST", url, headers=headers) as response:
            body = _read(response, until_s=time.monotonic() + timeout_s)
    if not httpx.codes.is_success(response.status_code):
        raise _refusal(response, _reason(body, api_key))
    return _token(body, asked_at)


def _parse_url(auth_url: str) -> httpx.URL:
    """Parsed by httpx, which will use it: two parsers can disagree on which host is meant."""
    import httpx

    try:
        url = httpx.URL(auth_url)
    except (httpx.InvalidURL, UnicodeError):
        raise UsageError("The address of the token exchange is not a URL.", "See --auth-url.") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError("The address of the token exchange must begin with https://.", "See --auth-url.")
    if url.userinfo:  # httpx would send it instead of the key
        raise UsageError("The address of the token exchange must not hold a user name or password.")
    if url.scheme == "http" and not is_loopback(url.host):
        raise UsageError(
            f"The API key would travel unencrypted to {url.host}.",
            "Use an https:// address for servers on other machines.",
        )
    return url


def _client(url: httpx.URL, verify: ssl.SSLContext | bool, timeout_s: float) -> httpx.Client:
    """The environment's proxies are used, except for this machine: the key would leave it in the clear."""
    import httpx

    try:
        return httpx.Client(
            verify=verify, timeout=timeout_s, follow_redirects=False, trust_env=not is_loopback(url.host)
        )
    except (ValueError, ImportError, httpx.InvalidURL):
        raise UsageError(
            "The proxy settings of the environment cannot be used.",
            "See HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; http:// and https:// proxies are possible.",
        ) from None


def _read(response: httpx.Response, until_s: float) -> bytes:
    import httpx

    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if time.monotonic() > until_s:  # httpx limits the time of each piece, not of all
            raise httpx.ReadTimeout("too slow")
        if len(body) > _ANSWER_LIMIT_BYTES:
            raise ServerError(f"{response.url.host} sent an endless answer instead of a token.")
    return bytes(body)


@contextmanager
def _connection_errors(host: str, timeout_s: float) -> Iterator[None]:
    """Each way of not reaching the server in its own words; none keeps the request, which holds the key."""
    import httpx

    error: PersonaplexError
    try:
        yield
        return
    except httpx.TimeoutException:
        error = ConnectError(
            f"{host} did not answer within {timeout_s:g} s.", "Check the network, or try again."
        )
    except httpx.ProxyError as cause:
        error = ConnectError(f"The proxy refused the connection to {host}: {safe_text(str(cause))}.")
    except httpx.TransportError as cause:
        error = _transport_error(host, _root(cause))
    except httpx.DecodingError:
        error = ServerError(f"{host} sent an answer that cannot be decoded.")
    except UnicodeError:
        error = UsageError(f"{host!r} cannot be the name of a server.", "See --auth-url.")
    raise error from None


def _root(error: BaseException) -> BaseException:
    """What lies under the wrapping of httpx and httpcore."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return error


def _transport_error(host: str, root: BaseException) -> ConnectError:
    if isinstance(root, socket.gaierror):
        return ConnectError(f"The name {host} cannot be found.", "Check the spelling and the network.")
    if isinstance(root, ssl.SSLCertVerificationError):
        return ConnectError(
            f"The certificate of {host} is not trusted: {safe_text(root.verify_message).rstrip('.')}.",
            "For a server of your own: --ca-file FILE with its certificate, or --insecure to skip the check.",
        )
    if isinstance(root, ssl.SSLError):
        return ConnectError(
            f"No encrypted connection to {host} is possible: {safe_text(root.reason or 'TLS failed')}.",
            "For a server of your own, see --ca-file and --insecure.",
        )
    if isinstance(root, ConnectionRefusedError):
        return ConnectError(f"{host} refused the connection.", "Is the server running, and the port right?")
    if isinstance(root, OSError) and root.strerror:
        return ConnectError(f"No connection to {host}: {root.strerror}.", "Check the network.")
    return ConnectError(f"{host} ended the connection without a usable answer.", "Try again.")


def _refusal(response: httpx.Response, reason: str) -> PersonaplexError:
    """The error for a status other than success. `reason` is "" or a sentence that begins with a space."""
    status, host = response.status_code, response.url.host
    key_hint = "To send the key itself instead of a token: --auth key"
    if status == 401:
        return CredentialsError(
            f"{host} refused the API key (HTTP 401).{reason}", "Check the key, or get a new one."
        )
    if status == 403:
        message = f"{host} refused the API key, or exchanges no keys (HTTP 403).{reason}"
        return CredentialsError(message, f"Check the key.\n{key_hint}")
    if status in (404, 405, 410):
        message = (
            f"There is no token exchange at {host}{safe_text(response.url.path)} (HTTP {status}).{reason}"
        )
        return CredentialsError(message, f"Check --auth-url.\n{key_hint}")
    if status == 429:
        return ServerError(
            f"{host} has had too many requests (HTTP 429).{reason}", "Wait a little and try again."
        )
    if status >= 500:
        return ServerError(f"{host} failed to make a token (HTTP {status}).{reason}", "Try again later.")
    if 300 <= status < 400:
        message = f"{host} redirects elsewhere (HTTP {status}), and the API key is not sent on."
        return ServerError(message, "Give the final address with --auth-url.")
    return ServerError(f"{host} did not accept the request for a token (HTTP {status}).{reason}")


def _reason(body: bytes, api_key: str) -> str:
    """The server's own short reason as a sentence, made harmless; "" if it gives none or echoes the key."""
    answer = _json_object(body) or {}
    nested = answer.get("error")
    fields = {**answer, **nested} if isinstance(nested, dict) else answer
    for name in ("message", "error", "detail", "reason"):
        text = fields.get(name)
        if isinstance(text, str) and text.strip():
            words = safe_text(text[: 2 * _REASON_LIMIT_CHARS]).strip()
            return f" It says: {words[:_REASON_LIMIT_CHARS]}" if redact(words, (api_key,)) == words else ""
    return ""


def _json_object(body: bytes) -> dict[str, Any] | None:
    """`body` as a JSON object, or None if it is something else."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _token(body: bytes, asked_at: float) -> Token:
    """The token in a successful answer. Its lifetime is `expires_in`, else the JWT's `exp`, else unknown."""
    answer = _json_object(body)
    if answer is None:
        raise ServerError("The token exchange did not answer in JSON.", "Check --auth-url.")
    value = answer.get("token")
    if value is None:
        raise ServerError("The token exchange sent an answer without a token.", "Check --auth-url.")
    if not isinstance(value, str) or not is_header_token(value):
        raise ServerError("The token exchange sent something that cannot be a token.", "Check --auth-url.")
    claims = decode_claims(value)
    lifetime_s = seconds(answer.get("expires_in"))
    expires_at = seconds(claims.get("exp")) if lifetime_s is None else asked_at + lifetime_s
    return Token(value, expires_at, public_claims(claims))
