"""Faults as they are written on the command line."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from personaplex_cli.errors import ExitCode, UsageError
from personaplex_cli.standin.faults import At, Faults, parse_faults


@pytest.mark.parametrize(
    ("spec", "faults"),
    [
        ("handshake-delay=3", Faults(handshake_delay=3)),
        ("handshake-delay=0.25", Faults(handshake_delay=0.25)),
        ("token-lifetime=0", Faults(token_lifetime=0)),
        ("stall=3:2", Faults(stall=At(3, 2))),
        ("burst=0:1.5", Faults(burst=At(0, 1.5))),
        ("silent", Faults(silent=True)),
        ("error=3", Faults(error=At(3))),
        ("close=5", Faults(close=At(5))),
        ("close=5:1011", Faults(close=At(5, 1011))),
        ("close=0.5:4401", Faults(close=At(0.5, 4401))),
        ("drop=5", Faults(drop=At(5))),
        ("garbage=3", Faults(garbage=At(3))),
        ("second-bos=3", Faults(second_bos=At(3))),
        ("granules-24k", Faults(granules_24k=True)),
        ("packet-ms=20", Faults(packet_ms=20)),
        ("packet-ms=40", Faults(packet_ms=40)),
        ("packet-ms=80", Faults(packet_ms=80)),
        ("single-pages", Faults(single_pages=True)),
        ("split-pages", Faults(split_pages=True)),
        ("odd-messages", Faults(odd_messages=True)),
    ],
)
def test_each_fault(spec: str, faults: Faults) -> None:
    assert parse_faults([spec]) == faults


def test_no_faults() -> None:
    assert parse_faults([]) == Faults()


def test_several_faults_and_the_last_of_each_kind() -> None:
    specs = ["silent", "close=5", "packet-ms=40", "close=6:1001"]
    assert parse_faults(specs) == replace(Faults(), silent=True, packet_ms=40, close=At(6, 1001))


@pytest.mark.parametrize(
    "spec",
    [
        "handshake-delay",
        "handshake-delay=",
        "handshake-delay=soon",
        "handshake-delay=nan",
        "handshake-delay=-1",
        "handshake-delay=inf",
        "token-lifetime=1e9",
        "stall",
        "stall=3",
        "stall=3:",
        "stall=3:nan",
        "stall=-3:2",
        "stall=3:2:1",
        "burst=3",
        "error=3:1",
        "drop=3:1",
        "garbage=soon",
        "second-bos=3:1",
        "close",
        "close=:1000",
        "close=5:-1000",
        "close=5:nan",
        "close=5:99",
        "close=5:1005",
        "close=5:1006",
        "close=5:1011.5",
        "close=5:2000",
        "close=5:",
        "close=5:5000",
        "silent=yes",
        "odd-messages=3",
        "packet-ms=60",
        "packet-ms=many",
        "packet-ms=nan",
    ],
)
def test_what_cannot_be_read_is_refused_with_an_example(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_faults([spec])
    assert caught.value.exit_code == ExitCode.USAGE
    assert spec in str(caught.value)
    name = spec.partition("=")[0]
    assert name in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["stall", "burst", "error", "close", "drop", "silent", "packet-ms"])
def test_the_examples_can_be_read(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_faults([f"{name}=nonsense"])
    hint = (caught.value.hint or "").removeprefix("Write it like ")
    examples = [word for word in re.split(r"[ ,.]+(?!\d)", hint) if word.startswith(name)]
    assert examples
    parse_faults(examples)


@pytest.mark.parametrize("spec", ["", "=3", "slow", "SILENT", "close 5"])
def test_an_unknown_fault_lists_the_known_ones(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_faults([spec])
    assert "handshake-delay" in (caught.value.hint or "")
