"""Measurements on one client of the echo server, on the virtual card: delay, share of a core, what a stall
leaves, time until it is live. `bench_latency.py` runs them and compares.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import bursts
import soundfile
from bursts import Burst, Samples
from rig import SCRIPTS, Client, EchoServer, Environment, Recording, recorded

SETTLE_S = 5.0
"""From a client's first audio until measuring begins."""
STALL_S = 2.0
STALL_AFTER_S = 15.0
RECOVERY_S = 3.0
"""So long after a stall the delay counts as what is left of it."""
AFTER_STALL_S = 18.0
CPU_S = 60.0
LAG = "[LAG]"
SEED = 1

Command = Callable[[int], list[str]]
"""A client's command line, from the server's port."""


@dataclass(frozen=True)
class Heard:
    """One burst: when it was at the microphone (`time.monotonic`), and how much later at the speaker."""

    at_s: float
    delay_ms: float | None
    """None: it never came."""


@dataclass(frozen=True)
class Delays:
    heard: list[Heard]
    underruns: int | None
    """None where the client does not tell."""

    def ms(self, begin_s: float = 0.0, end_s: float = float("inf")) -> list[float]:
        """Of the bursts that were at the microphone then; sorted."""
        return sorted(h.delay_ms for h in self.heard if h.delay_ms is not None and begin_s <= h.at_s < end_s)

    @property
    def lost(self) -> int:
        return sum(h.delay_ms is None for h in self.heard)


@dataclass
class Talk:
    server: EchoServer
    client: Client
    said: str = ""
    """Everything, once it is over."""


@dataclass(frozen=True)
class Stall:
    """Median delays around one: before it, and from `RECOVERY_S` after it on."""

    before_ms: float
    after_ms: float
    worst_after_ms: float
    recovered_s: float | None
    """After its end: the first burst from which on none is more than 20 ms above the delay before."""


@contextmanager
def conversation(command: Command, environment: Environment, *, screen: bool) -> Iterator[Talk]:
    """A client of its own server, from `SETTLE_S` after its first audio on."""
    server = EchoServer()
    try:
        talk = Talk(server, Client(command(server.port), environment, screen=screen))
        try:
            try:
                server.wait_for("audio")
            except TimeoutError:
                raise RuntimeError(f"no call came about; the client said:\n{talk.client.said}") from None
            time.sleep(SETTLE_S)
            yield talk
        finally:
            talk.said = talk.client.close()
    finally:
        server.close()


@contextmanager
def playing(signal_: Samples, environment: Environment) -> Iterator[subprocess.Popen[bytes]]:
    """Plays it into the microphone."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
        soundfile.write(wav, signal_, bursts.RATE)
        with subprocess.Popen(["paplay", "--device=micfeed", wav.name], env=environment) as player:
            yield player


def measure_delay(
    command: Command,
    environment: Environment,
    seconds: float,
    *,
    screen: bool = False,
    meanwhile: Callable[[EchoServer], None] = lambda server: None,
) -> Delays:
    """Bursts for so long; `meanwhile` is called once they have begun."""
    signal_, made = bursts.make(seconds, SEED)
    with (
        recorded(environment, "mic", "speaker.monitor") as (microphone, speaker),
        conversation(command, environment, screen=screen) as talk,
    ):
        begin_s, lags = time.monotonic(), talk.client.said.count(LAG)
        with playing(signal_, environment) as player:
            meanwhile(talk.server)
            player.wait()
        time.sleep(bursts.MAX_DELAY_S)
        lags = talk.client.said.count(LAG) - lags
    return Delays(
        list(match(made, microphone, speaker, begin_s)), underruns(talk.said, None if screen else lags)
    )


def measure_cpu(command: Command, environment: Environment, *, screen: bool) -> float:
    """Share of a core while bursts come and go."""
    signal_, _ = bursts.make(CPU_S + 5, SEED)
    with (
        conversation(command, environment, screen=screen) as talk,
        playing(signal_, environment) as player,
    ):
        begin_s, begin_cpu_s = time.monotonic(), talk.client.cpu_s()
        time.sleep(CPU_S)
        share = (talk.client.cpu_s() - begin_cpu_s) / (time.monotonic() - begin_s)
        player.terminate()
    return share


def underruns(said: str, lags: int | None) -> int | None:
    """Ours tells them at its end, for the whole call; moshi's client has told `lags`, of 80 ms each (in a
    terminal it writes each again whenever it redraws the line)."""
    told = re.search(r"underruns=(\d+)", said)
    return int(told[1]) if told else lags


def match(
    made: Sequence[Burst], microphone: Recording, speaker: Recording, begin_s: float
) -> Iterator[Heard]:
    """Finds each burst at the microphone, then at the speaker. What the player did not bring to the first
    does not count."""
    fed, played = microphone.samples(), speaker.samples()
    begin = microphone.sample(begin_s)
    first = bursts.find(made[0].kind, fed, begin, begin + 5 * bursts.RATE)
    if first is None:
        raise RuntimeError("the first burst is not at the microphone")
    slack = bursts.RATE // 10
    for burst in made:
        expected = first + burst.at - made[0].at
        at = bursts.find(burst.kind, fed, expected - slack, expected + slack)
        if at is None:
            continue
        at_s = microphone.time_s(at)
        from_ = speaker.sample(at_s)
        to = from_ + round(bursts.MAX_DELAY_S * bursts.RATE)
        found = bursts.find(burst.kind, played, from_, to)
        yield Heard(at_s, None if found is None else (speaker.time_s(found) - at_s) * 1000)


def stalled(kind: str, moment: list[float]) -> Callable[[EchoServer], None]:
    """For `measure_delay`: stalls the server, and notes when that ended."""

    def stall(server: EchoServer) -> None:
        time.sleep(STALL_AFTER_S)
        if kind == "server":
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(STALL_S)
            server.process.send_signal(signal.SIGCONT)
        else:
            server.process.send_signal(signal.SIGUSR1)
            time.sleep(STALL_S)
        moment.append(time.monotonic())

    return stall


def measure_stall(command: Command, environment: Environment, kind: str) -> Stall:
    moment: list[float] = []
    seconds = STALL_AFTER_S + STALL_S + AFTER_STALL_S
    run = measure_delay(command, environment, seconds, meanwhile=stalled(kind, moment))
    [end_s] = moment
    before = median(run.ms(end_s=end_s - STALL_S - bursts.MAX_DELAY_S))
    after = run.ms(begin_s=end_s + RECOVERY_S)
    late_s = [h.at_s for h in run.heard if h.delay_ms is None or h.delay_ms > before + 20]
    good_s = [h.at_s for h in run.heard if h.at_s > max([end_s, *late_s])]
    return Stall(before, median(after), after[-1], good_s[0] - end_s if good_s else None)


def start_s(command: Command, environment: Environment) -> float:
    """From starting it to its first audio at the server."""
    server = EchoServer()
    try:
        client = Client(command(server.port), environment, screen=True)
        try:
            return server.wait_for("audio") - client.begun_s
        finally:
            client.close()
    finally:
        server.close()


def run_s(*arguments: str) -> float:
    """How long Python takes with these."""
    begin_s = time.monotonic()
    subprocess.run([sys.executable, *arguments], check=True, cwd=SCRIPTS.parent, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin_s
