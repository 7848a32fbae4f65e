"""The way to the server: name, TCP, TLS, and a proxy if there is one. Nothing is called."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from personaplex_cli.catalog import DEFAULT_VOICE, is_auto_region, resolve_region
from personaplex_cli.doctor.check import Finding, ok
from personaplex_cli.errors import ConnectError, UsageError
from personaplex_cli.probe import TIMEOUT_S, Probe, Resolve, probe_servers
from personaplex_cli.route import routed_region
from personaplex_cli.tls import tls_context
from personaplex_cli.wire.endpoint import Dialect, build_endpoint, is_loopback, polargrid_server
from personaplex_cli.wire.text import safe_text

ROUNDS: Final = 3

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


@dataclass(frozen=True, slots=True)
class Address:
    scheme: str
    host: str
    port: int

    @property
    def words(self) -> str:
        return f"{self.host}, port {self.port}"


@dataclass
class Reach:
    """The check, for one thread after the other."""

    server: str | None
    region: str
    dialect: Dialect
    ca_file: Path | None
    insecure: bool
    timeout_s: float = TIMEOUT_S
    resolve: Resolve = socket.getaddrinfo

    def check(self) -> Finding:
        """Raises UsageError, ConnectError."""
        server, note = self._server()
        # Parsed as for a call, which refuses some addresses.
        call_url = build_endpoint(self.dialect, server, voice=DEFAULT_VOICE, persona=None).url
        target = address(call_url)
        proxy = proxy_for(target)
        tls = tls_context(self.ca_file, self.insecure) if target.scheme == "wss" or self.ca_file else None
        if proxy is not None:
            return self._by_proxy(target, proxy)
        probe = self._probe(target, tls if target.scheme == "wss" else None)
        times = f"name {_ms(probe.dns_ms)}, TCP {_ms(probe.tcp_ms)}"
        if target.scheme == "wss":
            unchecked = ", certificate not checked" if self.insecure else ""
            times += f", TLS {_ms(probe.tls_ms)}{unchecked}"
        return ok(f"{target.words}: {times}{f' ({note})' if note else ''}.", **_figures(target, probe))

    def _server(self) -> tuple[str, str | None]:
        """Its URL, and how it came to it. Raises UsageError."""
        if self.server is not None:
            return self.server, None
        if self.dialect is Dialect.MOSHI:
            raise UsageError("--dialect moshi needs --server.", "Like --server ws://localhost:8998.")
        if is_auto_region(self.region):
            routed = routed_region(self.ca_file, self.insecure)
            return polargrid_server(routed.value), routed.note
        region = resolve_region(self.region)
        return polargrid_server(region.value.name), region.note

    def _by_proxy(self, target: Address, proxy: Address) -> Finding:
        """What lies behind the proxy is not known before a call. Raises ConnectError."""
        if proxy.scheme.startswith("socks"):
            message = f"The proxy {proxy.words} is of the kind SOCKS, which is not supported."
            raise ConnectError(message, "Set HTTPS_PROXY to an http:// proxy, or NO_PROXY for this host.")
        tls = tls_context(None, False) if proxy.scheme == "https" else None
        probe = self._probe(proxy, tls, role="The proxy ")
        text = (
            f"By the proxy {proxy.words}: name {_ms(probe.dns_ms)}, TCP {_ms(probe.tcp_ms)}. Whether it lets "
            f"calls to {target.host} through shows only in a call."
        )
        figures = {**_figures(target, probe), "proxy": f"{proxy.host}:{proxy.port}"}
        return ok(text, **figures)

    def _probe(self, target: Address, tls: ssl.SSLContext | None, role: str = "") -> Probe:
        """Raises ConnectError."""
        context = tls or cast(ssl.SSLContext, _WithoutTls())
        probing = probe_servers(
            [(target.host, target.port)],
            context,
            rounds=ROUNDS,
            timeout_s=self.timeout_s,
            limit_s=(2 * ROUNDS + 1) * self.timeout_s,
            resolve=self.resolve,
        )
        [probe] = asyncio.run(probing)
        if probe.rounds == 0:
            why = probe.failure or "not reached in time"
            raise ConnectError(f"{role}{target.words}: {why}.", self._hint(probe))
        return probe

    def _hint(self, probe: Probe) -> str:
        failure = probe.failure or ""
        if failure.startswith("certificate"):
            return "For a server of your own, or a company's proxy that reads TLS: --ca-file FILE"
        if "name" in failure:
            return "Check the spelling, and the network: is there a connection at all?"
        if self.server is not None:
            return "Is the server running, and the port right?"
        return "Check the network and its firewall, or try another --region: personaplex regions --probe"


class _WithoutTls:
    """In place of a context, for servers without TLS."""

    def wrap_socket(self, connection: socket.socket, **_: Any) -> contextlib.nullcontext[socket.socket]:
        return contextlib.nullcontext(connection)


def address(url: str) -> Address:
    parts = urlsplit(url)
    return Address(parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443))


def proxy_for(
    target: Address,
    proxies: Callable[[], dict[str, str]] = getproxies,
    bypass: Callable[[str], object] = proxy_bypass,
) -> Address | None:
    """What calls to `target` go by, as the WebSocket library chooses; a name and password in it are left
    out. Raises ConnectError for an address that is none."""
    if is_loopback(target.host) or bypass(f"{target.host}:{target.port}"):
        return None
    known = proxies()
    order = ("wss", "socks", "https") if target.scheme == "wss" else ("ws", "socks", "https", "http")
    url = next((known[scheme] for scheme in order if known.get(scheme)), None)
    if url is None:
        return None
    try:
        found = address(url if "://" in url else f"http://{url}")
    except ValueError:  # a port that is none
        raise ConnectError(
            "The proxy settings of the environment cannot be used.",
            "See HTTPS_PROXY, HTTP_PROXY and ALL_PROXY.",
        ) from None
    return Address(found.scheme, safe_text(found.host), found.port)


def _figures(target: Address, probe: Probe) -> dict[str, Any]:
    times = {"dns_ms": probe.dns_ms, "tcp_ms": probe.tcp_ms, "tls_ms": probe.tls_ms}
    return {
        "host": target.host,
        "port": target.port,
        **{name: None if time_ms is None else round(time_ms, 2) for name, time_ms in times.items()},
        "dns_cached": probe.dns_cached,
        "proxy": None,
    }


def _ms(time_ms: float | None) -> str:
    return "?" if time_ms is None else f"{time_ms:.0f} ms"
