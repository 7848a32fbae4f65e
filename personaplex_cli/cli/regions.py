"""`personaplex regions`"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from urllib.parse import urlsplit

import typer

from personaplex_cli.catalog import AUTO_REGION, DEFAULT_REGION, REGIONS, Region
from personaplex_cli.cli.options import CaFile, Insecure, Json, for_polargrid
from personaplex_cli.cli.output import print_json, print_table, print_text
from personaplex_cli.errors import ConnectError
from personaplex_cli.wire.endpoint import polargrid_server

if TYPE_CHECKING:
    from personaplex_cli.probe import Probe

Probed: TypeAlias = "Sequence[tuple[Region, Probe]]"


def regions(
    context: typer.Context,
    as_json: Json = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure how long each region takes to be reached.")
    ] = False,
    ca_file: CaFile = None,
    insecure: Insecure = False,
) -> None:
    """List the regions and what else they may be called.

    With --probe also the times for name, TCP and TLS, fastest first. It makes no call, so nothing is billed.
    Ctrl-C ends it early.

    \b
    Examples:
      personaplex regions
      personaplex regions --json
      personaplex regions --probe
      personaplex talk --region montreal
      personaplex talk --region auto
    """
    if probe:
        _show(_probe_all(*for_polargrid(context, ca_file, insecure)), as_json)
    elif as_json:
        print_json([{"name": r.name, "city": r.city, "aliases": r.aliases} for r in REGIONS])
    else:
        print_table([(region.name, region.city or "", ", ".join(region.aliases)) for region in REGIONS])
        print_text(
            f"\nWithout --region it is {DEFAULT_REGION}. A name that is not listed is tried as it is. "
            f"With --region {AUTO_REGION} PolarGrid's router chooses."
        )


def _probe_all(ca_file: Path | None, insecure: bool) -> Probed:
    """Each region with what was found out, fastest first. Raises UsageError (CA file)."""
    import asyncio

    from personaplex_cli.probe import probe_servers
    from personaplex_cli.tls import tls_context

    servers = [_address(region) for region in REGIONS]
    context = tls_context(ca_file, insecure)
    _progress(0)
    probes = asyncio.run(probe_servers(servers, context, on_done=_progress))
    _progress(None)
    return sorted(zip(REGIONS, probes, strict=True), key=lambda pair: _or_last(pair[1].sum_ms))


def _address(region: Region) -> tuple[str, int]:
    url = urlsplit(polargrid_server(region.name))
    return url.hostname or "", url.port or 443


def _or_last(sum_ms: float | None) -> float:
    return math.inf if sum_ms is None else sum_ms


def _progress(done: int | None) -> None:
    """One line for somebody who watches, taken away with None."""
    if sys.stderr.isatty():
        text = "" if done is None else f"{done} of {len(REGIONS)} regions"
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _show(probed: Probed, as_json: bool) -> None:
    """Raises ConnectError if no region answered."""
    answered = [region.name for region, probe in probed if probe.rounds]
    if as_json:
        print_json([_described(region, probe) for region, probe in probed])
    else:
        print_table([("region", "city", "DNS", "TCP", "TLS", "sum", ""), *(_row(*pair) for pair in probed)])
    if not answered:
        raise ConnectError("No region answered.", "Check the network.")
    if not as_json:
        print_text(f"\n{_legend(probed)}\nFastest: personaplex talk --region {answered[0]}")


def _described(region: Region, probe: Probe) -> dict[str, Any]:
    """Milliseconds; null for what was not measured."""
    times = {"dns_ms": probe.dns_ms, "tcp_ms": probe.tcp_ms, "tls_ms": probe.tls_ms, "sum_ms": probe.sum_ms}
    return {
        "name": region.name,
        "city": region.city,
        **{name: None if time_ms is None else round(time_ms, 2) for name, time_ms in times.items()},
        "dns_cached": probe.dns_cached,
        "rounds": probe.rounds,
        "failure": probe.failure,
    }


def _row(region: Region, probe: Probe) -> tuple[str, ...]:
    dns = _shown(probe.dns_ms) + ("*" if probe.dns_cached else "")
    times = (dns, *map(_shown, (probe.tcp_ms, probe.tls_ms, probe.sum_ms)))
    return region.name, region.city or "", *times, _remark(probe)


def _remark(probe: Probe) -> str:
    """Why it has fewer rounds than the others."""
    from personaplex_cli.probe import ROUNDS

    if probe.failure:
        return f"{'uneven' if probe.rounds else 'dead'}: {probe.failure}"
    return "" if probe.rounds == ROUNDS else "not finished"


def _shown(time_ms: float | None) -> str:
    return "    -" if time_ms is None else f"{time_ms:5.0f}"


def _legend(probed: Probed) -> str:
    from personaplex_cli.probe import ROUNDS

    legend = f"Milliseconds: one lookup of the name, and the medians of {ROUNDS} connections and handshakes."
    if any(probe.dns_cached for _, probe in probed):
        legend += "\n* The name was known on this machine already; a first lookup takes longer."
    return legend
