"""How long servers take to be reached: name, TCP and TLS, each on its own. Nothing is called."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, Final, TypeAlias

from personaplex_cli.threads import in_thread
from personaplex_cli.wire.text import safe_text

ROUNDS: Final = 5

TIMEOUT_S: Final = 3.0
"""For a name, for a connection, and for each answer within a handshake."""

LIMIT_S: Final = 15.0
"""For all servers together."""

MAX_AT_ONCE: Final = 8
"""With more, handshakes would wait for each other's arithmetic."""

CACHED_BELOW_MS: Final = 1.0
"""A name that is there sooner was kept on this machine: no answer over a network is so quick."""

_NO_NAME: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

Resolve: TypeAlias = Callable[..., Sequence[Any]]
"""`socket.getaddrinfo`, or what stands for it."""


@dataclass(slots=True)
class Probe:
    """What is known of one server so far. Times in milliseconds."""

    host: str
    port: int
    dns_ms: float | None = None
    """Of the first lookup: those after it only ask a cache."""
    tcp_rounds_ms: list[float] = field(default_factory=list)
    tls_rounds_ms: list[float] = field(default_factory=list)
    failure: str | None = None
    """Why there are no (more) rounds, in a few words."""

    @property
    def rounds(self) -> int:
        """How many came to their end."""
        return len(self.tls_rounds_ms)

    @property
    def dns_cached(self) -> bool:
        return self.dns_ms is not None and self.dns_ms < CACHED_BELOW_MS

    @property
    def tcp_ms(self) -> float | None:
        """The median."""
        return median(self.tcp_rounds_ms) if self.tcp_rounds_ms else None

    @property
    def tls_ms(self) -> float | None:
        """The median."""
        return median(self.tls_rounds_ms) if self.tls_rounds_ms else None

    @property
    def sum_ms(self) -> float | None:
        """Name, TCP and TLS; None if no round came to its end."""
        if self.dns_ms is None or self.tcp_ms is None or self.tls_ms is None:
            return None
        return self.dns_ms + self.tcp_ms + self.tls_ms


async def probe_servers(
    servers: Sequence[tuple[str, int]],
    context: ssl.SSLContext,
    *,
    rounds: int = ROUNDS,
    timeout_s: float = TIMEOUT_S,
    limit_s: float = LIMIT_S,
    resolve: Resolve = socket.getaddrinfo,
    clock: Callable[[], float] = time.perf_counter,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Probe]:
    """A probe for each of `servers` (host and port), in their order.

    Connections are closed after their handshake, before anything is sent. `on_done` learns how many servers
    are done. After `limit_s` seconds, and when this is cancelled (Ctrl-C), what is known until then is
    returned. `clock` gives seconds; `resolve` and `clock` are called in threads.
    """
    probes = [Probe(host, port) for host, port in servers]
    turns = asyncio.Semaphore(MAX_AT_ONCE)
    done = 0

    async def take_turn(probe: Probe) -> None:
        nonlocal done
        async with turns:
            try:
                await _probe(probe, context, rounds, timeout_s, resolve, clock)
            except OSError as error:
                probe.failure = _reason(error, timeout_s)
        done += 1
        on_done(done)

    with suppress(TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(limit_s), asyncio.TaskGroup() as group:
            for probe in probes:
                group.create_task(take_turn(probe))
    return probes


async def _probe(
    probe: Probe,
    context: ssl.SSLContext,
    rounds: int,
    timeout_s: float,
    resolve: Resolve,
    clock: Callable[[], float],
) -> None:
    """Fills `probe`. Raises OSError when a step fails."""

    def look_up() -> tuple[Sequence[Any], float]:
        begun = clock()
        return resolve(probe.host, probe.port, type=socket.SOCK_STREAM), clock() - begun

    # A resolver takes as long as it likes, so it is left behind.
    found, dns_s = await asyncio.wait_for(in_thread(look_up, name="lookup"), timeout_s)
    probe.dns_ms = dns_s * 1000
    for _ in range(rounds):
        one_round = partial(_round, found, probe.host, context, timeout_s, clock)
        found, tcp_s, tls_s = await in_thread(one_round, name="probe")
        probe.tcp_rounds_ms.append(tcp_s * 1000)
        probe.tls_rounds_ms.append(tls_s * 1000)


def _round(
    found: Sequence[Any], host: str, context: ssl.SSLContext, timeout_s: float, clock: Callable[[], float]
) -> tuple[Sequence[Any], float, float]:
    """Connects once: the address that answered (alone, as `resolve` gives it), seconds of TCP and of TLS.

    Raises OSError: that of the last address if none answers.
    """
    for n, (family, kind, protocol, _, address) in enumerate(found, 1):
        with socket.socket(family, kind, protocol) as connection:
            connection.settimeout(timeout_s / len(found))
            begun = clock()
            try:
                connection.connect(address)
            except OSError:
                if n < len(found):  # often IPv6 that leads nowhere
                    continue
                raise
            connected = clock()
            connection.settimeout(timeout_s)
            with context.wrap_socket(connection, server_hostname=host):
                secured = clock()
        return found[n - 1 : n], connected - begun, secured - connected
    raise socket.gaierror(socket.EAI_NONAME, "no address")


def _reason(error: OSError, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, socket.gaierror):
        return "no such name" if error.errno in _NO_NAME else "the name cannot be looked up"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {safe_text(error.verify_message).rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return "no TLS"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return error.strerror or "the connection broke off"
