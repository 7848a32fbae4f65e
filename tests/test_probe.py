from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_servers import CERTIFICATE, TlsServer, tls_server

from personaplex_cli.probe import Probe, probe_servers
from personaplex_cli.tls import tls_context

HOST = "server.example"


@pytest.fixture
def server() -> Iterator[TlsServer]:
    with tls_server() as running:
        yield running


@pytest.fixture
def waiting() -> Iterator[threading.Event]:
    """For resolvers that hang until the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Accepts nobody: connections are made by the system, and hear nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def trusting() -> ssl.SSLContext:
    """The test's certificate, under any name."""
    context = tls_context(CERTIFICATE, insecure=False)
    context.check_hostname = False
    return context


def resolve(host: str, port: int, **_: object) -> list[Any]:
    """Each name is this machine's. No test asks a resolver."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]


def probe_all(ports: list[int], context: ssl.SSLContext | None = None, **options: Any) -> list[Probe]:
    """What is said of servers on these ports of this machine."""
    options = {"resolve": resolve, **options}
    servers = [(HOST, port) for port in ports]
    return asyncio.run(probe_servers(servers, context or trusting(), **options))


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as was:
        return int(was.getsockname()[1])


# --- times


def clock_of(dns_ms: float, *rounds_ms: tuple[float, float]) -> Callable[[], float]:
    """Reads as if these times had passed, between reads that are far apart."""
    spans = [[dns_ms], *map(list, rounds_ms)]
    times, now_ms = [], 0.0
    for span in spans:
        now_ms += 1000
        times.append(now_ms / 1000)
        for part in span:
            now_ms += part
            times.append(now_ms / 1000)
    return iter(times).__next__


def test_the_medians_of_five_rounds_after_one_lookup(server: TlsServer) -> None:
    clock = clock_of(20, (3, 30), (1, 10), (900, 50), (4, 40), (5, 2000))
    (probe,) = probe_all([server.port], clock=clock)
    assert (probe.host, probe.port, probe.rounds, probe.failure) == (HOST, server.port, 5, None)
    assert probe.dns_ms == pytest.approx(20) and not probe.dns_cached
    assert (probe.tcp_ms, probe.tls_ms, probe.sum_ms) == pytest.approx((4, 40, 64))


@pytest.mark.parametrize(("dns_ms", "cached"), [(0.9, True), (1.1, False)])
def test_a_name_that_is_there_at_once_was_in_a_cache(server: TlsServer, dns_ms: float, cached: bool) -> None:
    (probe,) = probe_all([server.port], rounds=1, clock=clock_of(dns_ms, (1, 1)))
    assert probe.dns_cached is cached


def test_nothing_is_sent_after_the_handshake() -> None:
    with tls_server() as server:
        probe_all([server.port])
    assert server.received == [b""] * 5


def test_an_address_that_leads_nowhere_is_passed_over(server: TlsServer) -> None:
    closed = closed_port()
    asked = []

    def two(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        return [*resolve(host, closed), *resolve(host, port)]

    (probe,) = probe_all([server.port], resolve=two)
    assert (probe.rounds, probe.failure, asked) == (5, None, [HOST])


# --- servers that do not answer


def no_name(code: int) -> Callable[..., list[Any]]:
    def raising(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(code, "not found")

    return raising


@pytest.mark.parametrize(
    ("resolver", "reason"),
    [
        (no_name(socket.EAI_NONAME), "no such name"),
        (no_name(socket.EAI_AGAIN), "the name cannot be looked up"),
        (lambda *_, **__: [], "no such name"),
    ],
)
def test_names_that_are_not_found(resolver: Callable[..., list[Any]], reason: str) -> None:
    (probe,) = probe_all([443], resolve=resolver)
    assert (probe.failure, probe.rounds, probe.sum_ms) == (reason, 0, None)


def test_a_lookup_that_takes_too_long(waiting: threading.Event) -> None:
    def hang(*_: object, **__: object) -> list[Any]:
        waiting.wait()
        return []

    (probe,) = probe_all([443], resolve=hang, timeout_s=0.05)
    assert (probe.failure, probe.dns_ms) == ("no answer within 0.05 s", None)


def test_a_port_that_nobody_listens_on() -> None:
    (probe,) = probe_all([closed_port()])
    assert (probe.failure, probe.tcp_ms) == ("refused", None)


def test_a_server_that_is_silent(listener: socket.socket) -> None:
    (probe,) = probe_all([listener.getsockname()[1]], timeout_s=0.05)
    assert (probe.failure, probe.rounds) == ("no answer within 0.05 s", 0)


def test_a_server_without_tls(listener: socket.socket) -> None:
    def talk() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"220 mail.example ESMTP\r\n")
            connection.recv(4096)

    thread = threading.Thread(target=talk)
    thread.start()
    (probe,) = probe_all([listener.getsockname()[1]])
    thread.join()
    assert probe.failure == "no TLS"


@pytest.mark.parametrize("ca_file", [None, CERTIFICATE], ids=["unknown issuer", "another name"])
def test_a_certificate_that_is_not_trusted(server: TlsServer, ca_file: Path | None) -> None:
    (probe,) = probe_all([server.port], tls_context(ca_file, insecure=False))
    assert probe.failure is not None and probe.failure.startswith("certificate: ")
    assert probe.rounds == 0


def test_rounds_before_a_failure_count() -> None:
    with tls_server(connections=2) as server:
        (probe,) = probe_all([server.port])
    assert (probe.rounds, probe.failure) == (2, "refused")
    assert probe.sum_ms is not None


# --- many servers


def test_one_does_not_hold_up_another(server: TlsServer) -> None:
    done: list[int] = []
    probes = probe_all([closed_port(), server.port], on_done=done.append)
    assert [(probe.failure, probe.rounds) for probe in probes] == [("refused", 0), (None, 5)]
    assert done == [1, 2]


def test_eight_at_once() -> None:
    inside = most = 0
    lock = threading.Lock()
    go_on = threading.Event()

    def meet(*_: object, **__: object) -> list[Any]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 8:  # a ninth would come at once
                threading.Timer(0.05, go_on.set).start()
        go_on.wait()
        with lock:
            inside -= 1
        return []

    probes = probe_all([443] * 16, resolve=meet, timeout_s=5)
    assert [probe.failure for probe in probes] == ["no such name"] * 16
    assert most == 8


def partly_hanging(waiting: threading.Event, hanging_port: int) -> Callable[..., list[Any]]:
    def look_up(host: str, port: int, **_: object) -> list[Any]:
        if port == hanging_port:
            waiting.wait()
        return resolve(host, port)

    return look_up


def test_after_the_limit_nobody_is_waited_for(waiting: threading.Event) -> None:
    (probe,) = probe_all([443], resolve=partly_hanging(waiting, 443), timeout_s=60, limit_s=0.05)
    assert (probe.rounds, probe.failure) == (0, None)


def test_when_it_is_cancelled_what_is_known_is_returned(server: TlsServer, waiting: threading.Event) -> None:
    async def interrupted() -> list[Probe]:
        def cancel(done: int) -> None:
            task.cancel()

        servers = [(HOST, server.port), (HOST, 443)]
        task = asyncio.create_task(
            probe_servers(
                servers,
                trusting(),
                resolve=partly_hanging(waiting, 443),
                on_done=cancel,
            )
        )
        return await task

    probes = asyncio.run(interrupted())
    assert [(probe.rounds, probe.failure) for probe in probes] == [(5, None), (0, None)]
