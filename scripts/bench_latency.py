"""Measures what the program adds to a conversation, beside moshi's own client: delay, CPU, how it gets over
stalls, and how soon it is live.

    python scripts/bench_latency.py [steady] [stalls] [start] [--minutes M] [--load] [--no-peer]
                                    [--peer-env FOLDER] [--markdown]

Bursts go into the virtual card's microphone and are found again at its speaker; between them is a client,
and a server that echoes each step of 80 ms at once (echo_server.py, in a process of its own). Both ends of
the card are recorded by one process on one clock. All parts run unless some are named.

steady    delay, with the output piped away and with the screen on, M minutes each (1); then a minute each
          for the share of a core, without recordings: these make the card, and its clients, work more often
stalls    delay before and after the server is stopped for 2 s, and after it stops listening for 2 s
start     from starting the program to its first audio at the server, against shorter starts of Python

--load keeps one more process busy all the time. moshi's client is installed from PyPI into an environment of
its own in FOLDER, kept for the next time. Where that fails, or with --no-peer, ours is measured alone.
Needs what virtual_audio.sh needs. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from latency import RECOVERY_S, STALL_S, Command, measure_cpu, measure_delay, measure_stall, run_s, start_s
from peer import NotInstalledError, peer_python
from rig import SCRIPTS, Environment, card

STEP_MS = 80
STARTS = 10
ALONE = ["--idle-timeout", "0", "--echo-cancel", "off"]
"""Nothing that the other client does not do."""
PEER_ENV = Path.home() / ".cache" / "personaplex-bench" / "moshi"


@dataclass(frozen=True)
class Row:
    what: str
    unit: str
    values: Sequence[float | None]
    """One for each client; None where there is none."""
    bar: str = ""

    @property
    def ratio(self) -> float | None:
        ours, peers = (*self.values, None)[:2]
        return ours / peers if ours is not None and peers else None


def ours(port: int) -> list[str]:
    server = ["--server", f"ws://127.0.0.1:{port}", "--dialect", "moshi"]
    return [sys.executable, "-m", "personaplex_cli", "--debug", "talk", *server, *ALONE]


def peers(python: Path) -> Command:
    return lambda port: [str(python), str(SCRIPTS / "peer.py"), "--host", "127.0.0.1", "--port", str(port)]


def steady(clients: list[Command], environment: Environment, minutes: float) -> Iterator[Row]:
    for screen in (False, True):
        where = "screen on" if screen else "no screen"
        runs = [measure_delay(client, environment, minutes * 60, screen=screen) for client in clients]
        added = [[delay - STEP_MS for delay in run.ms()] for run in runs]
        yield Row(f"delay above the step, {where}: median", "ms", [median(ms) for ms in added], "0.20")
        for percent in (10, 90):
            values = [float(np.percentile(ms, percent)) for ms in added]
            yield Row(f"delay above the step, {where}: p{percent}", "ms", values)
        yield Row(f"bursts heard, {where}", "", [len(ms) for ms in added])
        yield Row(f"bursts lost, {where}", "", [run.lost for run in runs])
        dry = [None if run.underruns is None else run.underruns / minutes for run in runs]
        yield Row(f"underruns a minute, {where}", "", dry, "1 with --load" if screen else "0")
        shares = [measure_cpu(client, environment, screen=screen) * 100 for client in clients]
        yield Row(f"share of a core, {where}", "%", shares, "1.3" if screen else "0.9")


def stalls(clients: list[Command], environment: Environment) -> Iterator[Row]:
    names = {"server": f"server stopped {STALL_S:g} s", "uplink": f"server deaf {STALL_S:g} s"}
    for kind, name in names.items():
        found = [measure_stall(client, environment, kind) for client in clients]
        yield Row(f"{name}: delay before", "ms", [stall.before_ms for stall in found])
        yield Row(f"{name}: {RECOVERY_S:g} s after, median", "ms", [stall.after_ms for stall in found])
        worst = [stall.worst_after_ms - stall.before_ms for stall in found]
        yield Row(f"{name}: {RECOVERY_S:g} s after, worst above before", "ms", worst, "20 ms")
        yield Row(f"{name}: back within 20 ms after", "s", [stall.recovered_s for stall in found])


def start(environment: Environment) -> Iterator[Row]:
    """The program alone: peer.py leaves out what moshi's client usually loads."""
    live, bare, short = [], [], []
    for _ in range(STARTS):  # in turn, so that whatever else the machine does meets all of them
        live.append(start_s(ours, environment) * 1000)
        bare.append(run_s("-c", "pass") * 1000)
        short.append(run_s("-m", "personaplex_cli", "talk", "--help") * 1000)
    yield Row("start to first audio at the server", "ms", [median(live)])
    yield Row("start: more than python -c pass", "ms", [median(live) - median(bare)])
    yield Row("start: more than personaplex talk --help", "ms", [median(live) - median(short)], "250 ms")


@contextmanager
def load(wanted: bool) -> Iterator[None]:
    """One core kept busy."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if busy:
            busy.kill()
            busy.wait()


def show(row: Row, n_clients: int, *, markdown: bool) -> None:
    values = ["-" if value is None else f"{value:.1f}{row.unit and ' ' + row.unit}" for value in row.values]
    values += [""] * (n_clients - len(values))
    cells = [row.what, *values, "" if row.ratio is None else f"{row.ratio:.2f}", row.bar]
    if markdown:
        print(f"| {' | '.join(cells)} |", flush=True)
    else:
        print(f"  {cells[0]:48}" + "".join(f"{cell:>14}" for cell in cells[1:]), flush=True)


def show_head(n_clients: int, *, markdown: bool) -> None:
    titles = ["", "personaplex", "moshi.client"][: n_clients + 1] + ["ratio", "bar"]
    if markdown:
        print(f"| {' | '.join(titles)} |\n|{' --- |' + ' ---: |' * (len(titles) - 1)}")
    else:
        print(f"  {'':48}" + "".join(f"{title:>14}" for title in titles[1:]))


def find_clients(arguments: argparse.Namespace) -> list[Command]:
    if arguments.no_peer:
        return [ours]
    try:
        return [ours, peers(peer_python(arguments.peer_env))]
    except NotInstalledError as error:
        print(
            f"moshi's client cannot be installed ({error}): the program is measured alone.", file=sys.stderr
        )
        return [ours]


def main() -> None:
    parts = ("steady", "stalls", "start")
    parser = argparse.ArgumentParser(description="Delay, CPU, stalls and start beside moshi's own client.")
    parser.add_argument("parts", nargs="*", metavar="steady|stalls|start")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--peer-env", type=Path, default=PEER_ENV)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    chosen = arguments.parts or parts
    if unknown := set(chosen) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    clients = find_clients(arguments)
    show_head(len(clients), markdown=arguments.markdown)
    with card() as environment, load(arguments.load):
        rows = {
            "steady": lambda: steady(clients, environment, arguments.minutes),
            "stalls": lambda: stalls(clients, environment),
            "start": lambda: start(environment),
        }
        for part in parts:
            for row in rows[part]() if part in chosen else ():
                show(row, len(clients), markdown=arguments.markdown)


if __name__ == "__main__":
    main()
