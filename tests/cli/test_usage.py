from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from personaplex_cli.call_record import CallRecord, ledger_path, packed
from personaplex_cli.cli.app import run
from personaplex_cli.errors import ExitCode

Capture = pytest.CaptureFixture[str]

EVENING = datetime(2026, 7, 27, 23, 30, tzinfo=UTC)
CALL = CallRecord("api.example", "polargrid", began=EVENING, ended="hung_up", exit_code=0)


@pytest.fixture(autouse=True)
def two_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC + 2 h."""
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone cannot be set here")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "EAST-2")
        time.tzset()
        yield
    time.tzset()


def call(minutes: float, rate: float | None = 0.12, days: int = 0, **more: str) -> CallRecord:
    record = replace(CALL, connected_s=minutes * 60, live_s=minutes * 50, rate_per_minute=rate, **more)  # type: ignore[arg-type]
    return replace(record, began=EVENING + timedelta(days=days), id=os.urandom(8).hex())


def write(*records: CallRecord, garbage: bytes = b"") -> None:
    ledger_path().parent.mkdir(parents=True)
    ledger_path().write_bytes(b"".join(map(packed, records)) + garbage)


def printed(capsys: Capture, *options: str) -> str:
    assert run(["usage", *options]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_calls_are_added_up_by_the_days_of_local_time(capsys: Capture) -> None:
    write(call(2), call(10.5), call(90, days=-1))
    assert printed(capsys) == (
        "day         calls  connected   cost\n"
        "2026-07-27      1    1:30:00  10.80\n"
        "2026-07-28      2    0:12:30   1.50\n"
        "total           3    1:42:30  12.30\n"
    )


def test_each_call_costs_what_was_its_rate(capsys: Capture) -> None:
    write(call(10, 0.5), call(10, 0.1), call(10, 0.0))
    assert "total           3    0:30:00  6.00\n" in printed(capsys)


def test_calls_without_a_rate_are_marked(capsys: Capture) -> None:
    write(call(10), call(10, None), call(10, None, days=1))
    assert printed(capsys) == (
        "day         calls  connected      cost\n"
        "2026-07-28      2    0:20:00  1.20 + ?\n"
        "2026-07-29      1    0:10:00         ?\n"
        "total           3    0:30:00  1.20 + ?\n"
        "\n?: calls made without a rate_per_minute in the configuration.\n"
    )


def test_unfinished_calls_are_marked_and_counted(capsys: Capture) -> None:
    write(call(10), replace(call(4 / 3), ended=None, exit_code=None))
    out = printed(capsys)
    assert "2026-07-28      2    0:11:20  1.36  1 unfinished (at least 0:01:20)\n" in out
    assert "total           2    0:11:20  1.36  1 unfinished (at least 0:01:20)\n" in out
    assert out.endswith("\nUnfinished: the call goes on now, or the program was killed during it.\n")


def test_by_voice_and_by_profile(capsys: Capture) -> None:
    write(
        call(1, voice="VARM1", profile="work"), call(2, voice="NATF0"), call(4, voice="NATF0", profile="home")
    )
    assert printed(capsys, "--by", "voice").splitlines()[:3] == [
        "voice  calls  connected  cost",
        "NATF0      2    0:06:00  0.72",
        "VARM1      1    0:01:00  0.12",
    ]
    names = [line.partition("  ")[0] for line in printed(capsys, "--by", "profile").splitlines()]
    assert names == ["profile", "home", "work", "(no profile)", "total"]


def test_since_is_a_day_of_local_time_and_counts_itself(capsys: Capture) -> None:
    write(call(1, days=-1), call(2), call(4, days=1))
    assert "total           2    0:06:00" in printed(capsys, "--since", "2026-07-28")
    assert printed(capsys, "--since", "2026-07-30").startswith(
        "No calls since 2026-07-30: there are none in "
    )


@pytest.mark.parametrize("text", ["", "today", "2026-02-30"])
def test_since_something_that_is_no_date(capsys: Capture, text: str) -> None:
    assert run(["usage", "--since", text]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("error: --since takes a date.\n")


def test_as_json(capsys: Capture) -> None:
    write(call(1, voice="NATF0"), call(2, None, voice="NATF0"), replace(call(4, None), ended=None))
    both = {"calls": 2, "connected_s": 180.0, "live_s": 150.0, "cost": 0.12, "calls_without_rate": 1}
    open_one = {"calls": 1, "connected_s": 240.0, "live_s": 200.0, "cost": None, "calls_without_rate": 1}
    total = {"calls": 3, "connected_s": 420.0, "live_s": 350.0, "cost": 0.12, "calls_without_rate": 2}
    assert json.loads(printed(capsys, "--json", "--by", "voice", "--since", "2026-07-01")) == {
        "by": "voice",
        "since": "2026-07-01",
        "rows": [
            {"voice": "NATF0", **both, "unfinished": 0, "unfinished_s": 0.0},
            {"voice": None, **open_one, "unfinished": 1, "unfinished_s": 240.0},
        ],
        "total": {**total, "unfinished": 1, "unfinished_s": 240.0},
    }


def test_without_a_ledger_there_are_no_calls_yet(capsys: Capture) -> None:
    assert printed(capsys) == f"No calls yet: there are none in {ledger_path()}.\n"
    assert json.loads(printed(capsys, "--json"))["total"]["calls"] == 0
    assert not ledger_path().exists()


def test_damaged_lines_are_told(capsys: Capture) -> None:
    write(call(1), garbage=b"?\n{}\n")
    assert run(["usage"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert "total           1    0:01:00" in out
    assert err == f"note: Left out, because it cannot be read: 2 lines of {ledger_path()}.\n"


def test_names_that_somebody_wrote_into_the_file_do_no_harm(capsys: Capture) -> None:
    write(call(1, voice="\x1b[31mred\nline\u202e"))
    out = printed(capsys, "--by", "voice")
    assert "\x1b" not in out and "\u202e" not in out and len(out.splitlines()) == 3


def test_a_ledger_that_cannot_be_read_is_an_error_of_one_line(capsys: Capture) -> None:
    ledger_path().mkdir(parents=True)
    assert run(["usage"]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("error: The ledger ")
