from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_servers import CERTIFICATE, Router, router, tls_server

from personaplex_cli import route
from personaplex_cli.catalog import REGIONS
from personaplex_cli.cli import plan
from personaplex_cli.cli import regions as regions_command
from personaplex_cli.cli.app import run
from personaplex_cli.errors import ExitCode

Capture = pytest.CaptureFixture[str]

TRUSTED = ["--ca-file", str(CERTIFICATE)]


def test_the_regions_with_cities_and_aliases(capsys: Capture) -> None:
    assert run(["regions"]) == 0
    out = capsys.readouterr().out
    assert "sfo-01  San Francisco  san-francisco, sanfrancisco, sf, sfo\n" in out
    assert all(region.name in out for region in REGIONS)
    assert "--region auto" in out


def test_the_regions_as_json(capsys: Capture) -> None:
    assert run(["regions", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == len(REGIONS)
    assert listed[0] == {"name": "yto-01", "city": "Toronto", "aliases": ["toronto", "yto"]}


# --- --probe


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """The ports of the regions on this machine. Only nyc-01 and sfo-01 are there; changes take effect."""
    with tls_server() as one, tls_server() as two, socket.create_server(("127.0.0.1", 0)) as was:
        closed = was.getsockname()[1]
        was.close()
        ports = {"nyc-01": one.port, "sfo-01": two.port}
        monkeypatch.setattr(
            regions_command,
            "polargrid_server",
            lambda region: f"wss://127.0.0.1:{ports.get(region, closed)}",
        )
        yield ports


@pytest.mark.usefixtures("servers")
def test_those_that_answer_come_first(capsys: Capture) -> None:
    assert run(["regions", "--probe", *TRUSTED]) == ExitCode.OK
    out, err = capsys.readouterr()
    heading, *lines = out.split("\n\n")[0].splitlines()
    assert heading.split() == ["region", "city", "DNS", "TCP", "TLS", "sum"]
    assert {line.split()[0] for line in lines[:2]} == {"nyc-01", "sfo-01"}
    assert all(re.search(r"( +\d+\*?){4}$", line) for line in lines[:2])
    assert len(lines) == len(REGIONS)
    assert all(line.endswith("-  dead: refused") for line in lines[2:])
    assert out.endswith(f"Fastest: personaplex talk --region {lines[0].split()[0]}\n")
    assert err == ""


@pytest.mark.usefixtures("servers")
def test_the_times_as_json_fastest_first(capsys: Capture) -> None:
    assert run(["regions", "--probe", "--json", *TRUSTED]) == ExitCode.OK
    first, second, *dead = json.loads(capsys.readouterr().out)
    assert 0 < first["sum_ms"] <= second["sum_ms"]
    assert first["sum_ms"] == pytest.approx(first["dns_ms"] + first["tcp_ms"] + first["tls_ms"], abs=0.03)
    assert (first["rounds"], first["failure"]) == (5, None)
    assert len(dead) == len(REGIONS) - 2
    assert dead[0] == {
        "name": "yto-01",
        "city": "Toronto",
        "dns_ms": dead[0]["dns_ms"],
        "tcp_ms": None,
        "tls_ms": None,
        "sum_ms": None,
        "dns_cached": dead[0]["dns_cached"],
        "rounds": 0,
        "failure": "refused",
    }


def test_a_region_that_breaks_off_is_uneven(servers: dict[str, int], capsys: Capture) -> None:
    with tls_server(connections=2) as server:
        servers["nyc-01"] = server.port
        assert run(["regions", "--probe", *TRUSTED]) == ExitCode.OK
    assert re.search(r"nyc-01 .*\d  uneven: refused\n", capsys.readouterr().out)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_no_region_answers(servers: dict[str, int], capsys: Capture, more: list[str]) -> None:
    servers.clear()
    assert run(["regions", "--probe", *TRUSTED, *more]) == ExitCode.CONNECTION
    out, err = capsys.readouterr()
    assert out.count("refused") == len(REGIONS) and "Fastest" not in out
    assert err.startswith("error: No region answered.\n")


@pytest.mark.usefixtures("servers")
def test_certificates_are_checked_as_in_calls(capsys: Capture) -> None:
    assert run(["regions", "--probe"]) == ExitCode.CONNECTION
    assert capsys.readouterr().out.count("dead: certificate: ") == 2
    assert run(["regions", "--probe", "--insecure"]) == ExitCode.OK


@pytest.mark.usefixtures("servers")
def test_who_watches_sees_how_far_it_is(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(["regions", "--probe", *TRUSTED]) == ExitCode.OK
    err = capsys.readouterr().err
    assert f"\x1b[K{len(REGIONS)} of {len(REGIONS)} regions" in err
    assert err.endswith("\r\x1b[K")


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent to a thread")
def test_ctrl_c_shows_what_is_known(
    servers: dict[str, int], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int | None) -> None:
        if done == len(REGIONS) - 1:
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    monkeypatch.setattr(regions_command, "_progress", interrupt)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers["chi-01"] = silent.getsockname()[1]
        assert run(["regions", "--probe", *TRUSTED]) == ExitCode.OK
    out = capsys.readouterr().out
    assert re.search(r"chi-01 .*-  not finished\n", out)
    assert out.count("dead: ") == len(REGIONS) - 3 and "Fastest: " in out


# --- --region auto


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Router]:
    """The router, which has not been asked yet."""
    route.routed_region.cache_clear()
    with router() as running:
        monkeypatch.setenv(route.ROUTE_URL_VARIABLE, running.url)
        yield running
    route.routed_region.cache_clear()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The regions whose address was wanted. Nobody is there."""
    regions: list[str] = []

    def address(region: str) -> str:
        regions.append(region)
        return "ws://127.0.0.1:1"

    monkeypatch.setattr(plan, "polargrid_server", address)
    return regions


TALK = ["talk", "--input", "-", "--output", "none", "--token", "abc"]


def test_auto_calls_the_region_that_the_router_chooses(
    asked: Router, called: list[str], capsys: Capture
) -> None:
    assert run([*TALK, "--region", " Auto "]) == ExitCode.CONNECTION
    assert set(called) == {"nyc-01"} and len(called) > 1
    assert capsys.readouterr().err.count("note: region: nyc-01, by the router\n") == 1
    assert len(asked.requests) == 1


def test_without_the_router_it_is_the_default(asked: Router, called: list[str], capsys: Capture) -> None:
    asked.status = 503
    assert run([*TALK, "--region", "auto"]) == ExitCode.CONNECTION
    assert set(called) == {"yto-01"}
    note = "note: region: yto-01, the default: the router answered with HTTP 503\n"
    assert capsys.readouterr().err.count(note) == 1
    assert len(asked.requests) == 1


def test_nobody_is_asked_for_a_server_of_ones_own(asked: Router, capsys: Capture) -> None:
    assert run([*TALK, "--region", "auto", "--server", "ws://127.0.0.1:1"]) == ExitCode.CONNECTION
    assert asked.requests == [] and "region:" not in capsys.readouterr().err


def test_nobody_is_asked_for_the_stand_in(asked: Router, tmp_path: Path, capsys: Capture) -> None:
    voice = tmp_path / "voice.raw"
    arguments = ["talk", "--local", "--region", "auto", "--input", str(voice), "--output", "none"]
    assert run(arguments) == ExitCode.USAGE  # the file is opened last of all, and is not there
    assert asked.requests == [] and "region:" not in capsys.readouterr().err


def test_a_region_that_cannot_be_names_auto(capsys: Capture) -> None:
    assert run([*TALK, "--region", "atlantis"]) == ExitCode.USAGE
    assert "auto chooses one" in capsys.readouterr().err


def test_the_help_of_talk_loads_no_http() -> None:
    code = (
        "import sys; from personaplex_cli.cli.app import run; run(['talk', '--help']); "
        "print(sorted({'httpx', 'ssl', 'asyncio'} & sys.modules.keys()), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n"
