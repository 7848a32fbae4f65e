"""Which region PolarGrid's router chooses for this machine (docs/protocol.md section 2)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from personaplex_cli.catalog import DEFAULT_REGION, Resolved, is_region_name
from personaplex_cli.threads import in_thread
from personaplex_cli.tls import tls_context
from personaplex_cli.tokens import cache_path, seconds
from personaplex_cli.wire.endpoint import is_loopback, polargrid_server

if TYPE_CHECKING:
    import httpx

ROUTE_URL: Final = "https://autorouter.polargrid.ai/v1/route"

ROUTE_URL_VARIABLE: Final = "PERSONAPLEX_ROUTE_URL"

ROUTE_TIMEOUT_S: Final = 3.0
"""For name, connection and answer together: the default region is there at once."""

MAX_TTL_S: Final = 86_400.0
"""No answer is believed for longer: who travels is soon near another region."""

_ANSWER_LIMIT_BYTES: Final = 65_536


class _NoRouteError(Exception):
    """Why the router's answer cannot be used, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class _Answer:
    region: str
    ttl_s: float
    usual_address: bool
    """Whether the address in the answer, if there is one, is the one that the region has anyway."""


@cache
def routed_region(ca_file: Path | None, insecure: bool) -> Resolved[str]:
    """`find_region`, asked once for all calls of a conversation: the later ones are prepared on the event
    loop, and must not wait there."""
    return find_region(ca_file=ca_file, insecure=insecure)


def find_region(
    url: str | None = None,
    *,
    ca_file: Path | None = None,
    insecure: bool = False,
    timeout_s: float = ROUTE_TIMEOUT_S,
    now: Callable[[], float] = time.time,
) -> Resolved[str]:
    """The name of the region that the router chooses, or has chosen not long ago, else of the default one;
    the note says which.

    `url` is the router's address; else that in `PERSONAPLEX_ROUTE_URL`, else PolarGrid's. `now` gives
    wall-clock seconds since the epoch. Only the region's name is believed: a router that somebody else
    answers for can choose among PolarGrid's servers, and cannot name one of its own.

    Blocks for `timeout_s` at most; not for threads with a running event loop. Raises UsageError if the CA
    file is not usable.
    """
    url = url or os.environ.get(ROUTE_URL_VARIABLE) or ROUTE_URL
    if region := _kept(url, now()):
        return Resolved(region, f"region: {region}, by the router")
    try:
        answer = _parse(_ask_in_time(url, ca_file, insecure, timeout_s))
    except _NoRouteError as error:
        return Resolved(DEFAULT_REGION, f"region: {DEFAULT_REGION}, the default: the router {error}")
    note = f"region: {answer.region}, by the router"
    if not answer.usual_address:  # not kept either: each call shall say so
        return Resolved(answer.region, f"{note}; it gave an address that is not this region's: not used")
    _keep(url, answer.region, now() + min(answer.ttl_s, MAX_TTL_S))
    return Resolved(answer.region, note)


def _ask_in_time(url: str, ca_file: Path | None, insecure: bool, timeout_s: float) -> bytes:
    """In a thread that can be left behind: nothing else ends a lookup of a name."""
    ask = partial(_ask, url, ca_file, insecure, timeout_s)
    try:
        return asyncio.run(asyncio.wait_for(in_thread(ask, name="route"), timeout_s))
    except TimeoutError:
        raise _NoRouteError(f"did not answer within {timeout_s:g} s") from None


def _ask(url: str, ca_file: Path | None, insecure: bool, timeout_s: float) -> bytes:
    """The body of the router's answer. Raises _NoRouteError, TimeoutError, UsageError."""
    import httpx

    until_s = time.monotonic() + timeout_s
    try:
        address = httpx.URL(url)
        own_machine = is_loopback(address.host)
        if address.scheme != "https" and not (address.scheme == "http" and own_machine):
            raise _NoRouteError("must have an address that begins with https://")
        verify = tls_context(ca_file, insecure) if address.scheme == "https" else False
        with (
            httpx.Client(verify=verify, timeout=timeout_s, trust_env=not own_machine) as client,
            client.stream("GET", address, headers={"Accept": "application/json"}) as response,
        ):
            return _read(response, until_s)
    except httpx.TimeoutException:
        raise TimeoutError from None
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError):  # the last two: a proxy's settings
        raise _NoRouteError("cannot be reached") from None


def _read(response: httpx.Response, until_s: float) -> bytes:
    if response.status_code != 200:  # also where it redirects: that is not followed
        raise _NoRouteError(f"answered with HTTP {response.status_code}")
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > _ANSWER_LIMIT_BYTES or time.monotonic() > until_s:
            raise _NoRouteError("sent an endless answer")
    return bytes(body)


def _parse(body: bytes) -> _Answer:
    """Raises _NoRouteError."""
    try:
        answer = json.loads(body)
        region, ttl_s, endpoint = answer["region"], seconds(answer["ttl"]), answer.get("endpoint")
    except (ValueError, RecursionError, LookupError, TypeError):
        raise _NoRouteError("sent an answer that is not understood") from None
    if not isinstance(region, str) or not is_region_name(region):
        raise _NoRouteError("named something that cannot be a region")
    if ttl_s is None:
        raise _NoRouteError("named no sensible lifetime of its answer")
    return _Answer(region, ttl_s, endpoint is None or _is_usual(endpoint, region))


def _is_usual(endpoint: object, region: str) -> bool:
    host = re.escape(polargrid_server(region).removeprefix("wss://"))
    return isinstance(endpoint, str) and bool(
        re.fullmatch(rf"((https|wss)://)?{host}(:443)?(/.*)?", endpoint)
    )


def _path() -> Path:
    return cache_path().with_name("route.json")


def _kept(url: str, now_s: float) -> str | None:
    """The region that this router chose, while that holds. A file that is missing or damaged holds none."""
    try:
        entry = json.loads(_path().read_bytes())
        region, expires_at = entry["region"], seconds(entry["expires_at"])
        asked = entry["url"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None
    if asked != url or not isinstance(region, str) or not is_region_name(region):
        return None
    # An end that is too far away was written when the clock was wrong.
    return region if expires_at is not None and now_s < expires_at <= now_s + MAX_TTL_S else None


def _keep(url: str, region: str, expires_at: float) -> None:
    """In a file that is replaced whole, so that no reader sees half of it. Not being able to is no error."""
    path = _path()
    new = path.with_name(f"route-{secrets.token_hex(8)}.tmp")
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"url": url, "region": region, "expires_at": expires_at}, file)
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
