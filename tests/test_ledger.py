from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from personaplex_cli import ledger as ledger_module
from personaplex_cli.call_record import CallRecord, ledger_path, packed, read_ledger
from personaplex_cli.errors import ConnectError, PersonaplexError, UsageError
from personaplex_cli.events import CallEnded, CallState, Counters, EndReason, StateChanged
from personaplex_cli.ledger import Bookkeeper, Ledger

BEGAN = datetime(2026, 7, 28, 12, 0, 5, tzinfo=UTC)
CALL = CallRecord("api.example", "polargrid", "yto-01", "NATF0", "work", 0.12, BEGAN)
NEVER_S = 1e6

posix = pytest.mark.skipif(os.name != "posix", reason="modes and signals are POSIX's")
unprivileged = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Rig:
    """A ledger with a clock of its own."""

    def __init__(self, beat_s: float = NEVER_S, path: Path | None = None) -> None:
        self.path = path or ledger_path()
        self.told: list[str] = []
        self.clock = Clock()
        self.ledger = Ledger(self.path, self.told.append, clock=self.clock, beat_s=beat_s)

    def records(self) -> list[CallRecord]:
        records, n_damaged = read_ledger(self.path)
        assert n_damaged == 0
        return records

    def wait_until(self, true: Callable[[], bool]) -> None:
        """For the ledger's thread."""
        end_s = time.monotonic() + 10
        while not true():
            assert time.monotonic() < end_s
            time.sleep(0.002)


def completed(rig: Rig, record: CallRecord = CALL) -> None:
    rig.ledger.begin(record).complete("hung_up", 0)
    rig.ledger.close()


# --- a call's line


def test_a_call_is_entered_when_it_begins_and_completed_when_it_ends() -> None:
    rig = Rig()
    call = rig.ledger.begin(CALL)
    rig.wait_until(lambda: rig.path.exists() and bool(rig.records()))
    assert rig.records() == [CALL]
    rig.clock.now_s += 5
    call.live()
    rig.clock.now_s += 60.04
    call.complete("idle", 0)
    rig.ledger.close()
    assert rig.records() == [replace(CALL, connected_s=65.0, live_s=60.0, ended="idle", exit_code=0)]
    assert rig.told == []


def test_a_line_is_readable_json_of_a_fixed_size() -> None:
    rig = Rig()
    completed(rig)
    completed(Rig())
    data = rig.path.read_bytes()
    lines = data.splitlines(keepends=True)
    assert [len(line) for line in lines] == [512, 512]
    assert json.loads(lines[0]) == {
        "v": 1,
        "id": CALL.id,
        "began": "2026-07-28T12:00:05Z",
        "connected_s": 0.0,
        "live_s": 0.0,
        "ended": "hung_up",
        "exit_code": 0,
        "server": "api.example",
        "dialect": "polargrid",
        "region": "yto-01",
        "voice": "NATF0",
        "profile": "work",
        "rate_per_minute": 0.12,
        "version": CALL.version,
    }


def test_times_that_are_known_better_are_taken() -> None:
    rig = Rig()
    call = rig.ledger.begin(CALL)
    rig.clock.now_s += 9
    call.complete("hung_up", 0, connected_s=7.5, live_s=3)
    call.complete("dropped", 130)  # too late
    rig.ledger.close()
    assert rig.records() == [replace(CALL, connected_s=7.5, live_s=3.0, ended="hung_up", exit_code=0)]


def test_the_line_is_kept_up_to_date_while_the_call_goes_on() -> None:
    rig = Rig(beat_s=0.002)
    call = rig.ledger.begin(CALL)
    rig.clock.now_s += 20
    rig.wait_until(lambda: rig.path.exists() and [r.connected_s for r in rig.records()] == [20.0])
    call.live()
    rig.clock.now_s += 10
    rig.wait_until(lambda: [(r.connected_s, r.live_s) for r in rig.records()] == [(30.0, 10.0)])
    assert rig.records()[0].ended is None
    call.complete("hung_up", 0)
    rig.clock.now_s += 1000
    rig.ledger.close()
    assert [(r.connected_s, r.ended) for r in rig.records()] == [(30.0, "hung_up")]


def test_only_the_beginning_and_the_end_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    rig = Rig(beat_s=0.002)
    call = rig.ledger.begin(CALL)
    for seconds in (10, 20):
        rig.clock.now_s = 100.0 + seconds
        rig.wait_until(lambda s=seconds: rig.path.exists() and rig.records()[0].connected_s == s)  # type: ignore[misc]
    assert len(synced) == 1
    call.complete("hung_up", 0)
    rig.ledger.close()
    assert len(synced) == 2


@pytest.mark.parametrize("text", ["x" * 5000, "ü" * 5000, "\U0001f600" * 5000, "\ud800" * 5000, '"\0' * 5000])
def test_a_record_of_long_texts_fits_and_keeps_their_beginnings(text: str) -> None:
    record = CallRecord(text, text, text, text, text, 0.1 + 0.2, BEGAN, ended=text, version=text)
    record = replace(record, connected_s=123456789.123, live_s=123456789.123, exit_code=130)
    rig = Rig()
    completed(rig, record)
    (found,) = rig.records()
    for name in ("server", "dialect", "region", "voice", "profile", "version"):
        value = getattr(found, name)
        assert value.endswith("...") and text.startswith(value[:-3]) and len(value) > 3
    assert len(packed(record)) == 512 and found.rate_per_minute == 0.1 + 0.2


def test_a_text_that_just_fits_is_whole() -> None:
    rig = Rig()
    completed(rig, replace(CALL, server="s" * 80))
    completed(Rig(), replace(CALL, server="s" * 81, id="another"))
    assert [record.server for record in rig.records()] == ["s" * 80, "s" * 77 + "..."]


@pytest.mark.parametrize("rate", [0.0, 1e9, None])
def test_rates_are_kept(rate: float | None) -> None:
    rig = Rig()
    completed(rig, replace(CALL, rate_per_minute=rate))
    assert rig.records()[0].rate_per_minute == rate


def test_a_rate_that_is_no_price_counts_as_none() -> None:
    rig = Rig()
    completed(rig, replace(CALL, rate_per_minute=1e300))
    assert rig.records()[0].rate_per_minute is None


# --- the file


def test_the_file_is_in_the_usual_folder_without_the_variable(
    monkeypatch: pytest.MonkeyPatch, own_home: Path, tmp_path: Path
) -> None:
    assert ledger_path().is_relative_to(own_home)
    monkeypatch.setenv("PERSONAPLEX_STATE_DIR", str(tmp_path))
    assert ledger_path() == tmp_path / "ledger.jsonl"


@posix
def test_the_file_is_the_user_s_alone() -> None:
    rig = Rig()
    before = os.umask(0)
    try:
        completed(rig)
    finally:
        os.umask(before)
    assert stat.S_IMODE(rig.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(rig.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("before", [b"", b"not ours\n", b'{"v":1,"id":"cut in th', b"\0" * 600])
def test_what_was_in_the_file_stays(before: bytes) -> None:
    rig = Rig()
    rig.path.parent.mkdir(parents=True)
    rig.path.write_bytes(before)
    call = rig.ledger.begin(CALL)
    call.complete("hung_up", 0)
    rig.ledger.close()
    assert rig.path.read_bytes().startswith(before)
    records, n_damaged = read_ledger(rig.path)
    assert [record.ended for record in records] == ["hung_up"]
    assert n_damaged == (1 if before else 0)


def moved(path: Path) -> None:
    path.write_bytes(b"a line more\n" + path.read_bytes())


@pytest.mark.parametrize("change", [moved, Path.unlink, lambda path: path.write_bytes(b"")])
def test_an_edited_file_is_not_damaged_and_the_call_is_there_once(change: Callable[[Path], Any]) -> None:
    rig = Rig()
    call = rig.ledger.begin(CALL)
    rig.wait_until(lambda: rig.path.exists() and bool(rig.records()))
    change(rig.path)
    kept = rig.path.read_bytes() if rig.path.exists() else b""
    call.complete("hung_up", 0)
    rig.ledger.close()
    assert rig.path.read_bytes().startswith(kept)
    assert [record.ended for record in read_ledger(rig.path)[0]] == ["hung_up"]
    assert rig.told == []


GOOD = json.loads(packed(CALL))


def with_changes(**changes: object) -> bytes:
    return json.dumps(GOOD | changes).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\n",
        b"{\n",
        b"null\n",
        b"[]\n",
        b"{}\n",
        b"[" * 500 + b"\n",
        b"[" * 100_000 + b"\n",
        with_changes(v=2),
        with_changes(began="yesterday"),
        with_changes(began="2026-07-28T12:00:05"),
        with_changes(began="0001-01-01T00:00:00Z"),
        with_changes(began="9999-12-31T23:59:59Z"),
        with_changes(began=5),
        with_changes(connected_s=-1),
        with_changes(connected_s=None),
        with_changes(connected_s=True),
        with_changes(connected_s="5"),
        with_changes(live_s=float("nan")),
        with_changes(live_s=1e400),
        with_changes(live_s=10**300),
        with_changes(rate_per_minute="free"),
        with_changes(rate_per_minute=-0.1),
        with_changes(rate_per_minute=2e9),
        with_changes(server=None),
        with_changes(voice=["NATF0"]),
        with_changes(exit_code=False),
        with_changes(ended=True),
        with_changes(id=None),
        json.dumps({name: value for name, value in GOOD.items() if name != "server"}).encode(),
        packed(CALL)[:200] + b"\n",
        with_changes(profile="x" * 500),
    ],
)
def test_a_damaged_line_is_counted_and_left_out(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(packed(replace(CALL, id="one")) + line.rstrip(b"\n") + b"\n" + packed(CALL) + b"\n \n")
    records, n_damaged = read_ledger(path)
    assert ([record.id for record in records], n_damaged) == (["one", CALL.id], 1)


def test_lines_may_be_written_by_hand_and_hold_more_than_we_know(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(with_changes(note="mine", began="2026-07-28T14:00:05+02:00"))
    assert read_ledger(tmp_path / "ledger.jsonl") == ([CALL], 0)


def test_a_ledger_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "none") == ([], 0)


def test_a_ledger_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_ledger(tmp_path)


# --- a ledger that cannot be written


def one_note(rig: Rig, why: str) -> None:
    assert rig.told == [f"This call cannot be entered into the ledger {rig.path}: {why}."]


def test_no_folder_costs_one_note_and_nothing_else(own_home: Path) -> None:
    (own_home / "file").write_text("where the folder should be")
    rig = Rig(beat_s=0.002, path=own_home / "file" / "ledger.jsonl")
    call = rig.ledger.begin(CALL)
    rig.wait_until(lambda: bool(rig.told))
    call.complete("hung_up", 0)
    rig.ledger.close()
    one_note(rig, "Not a directory")


@posix
@unprivileged
def test_a_folder_that_may_not_be_written_costs_one_note(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    rig = Rig(path=tmp_path / "ledger.jsonl")
    completed(rig)
    one_note(rig, "Permission denied")


def test_a_read_only_disk_costs_one_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: str, flags: int) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(ledger_module, "_open_private", read_only)
    rig = Rig()
    completed(rig)
    one_note(rig, os.strerror(errno.EROFS))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_costs_one_note(tmp_path: Path) -> None:
    rig = Rig(path=tmp_path / "ledger.jsonl")
    rig.path.symlink_to("/dev/full")
    completed(rig)
    one_note(rig, "No space left on device")


def test_half_a_line_is_a_full_disk_and_the_next_one_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:100]))
        call = rig.ledger.begin(CALL)
        rig.wait_until(lambda: bool(rig.told))
    call.complete("hung_up", 0)
    rig.ledger.close()
    one_note(rig, os.strerror(errno.ENOSPC))
    records, n_damaged = read_ledger(rig.path)
    assert ([record.ended for record in records], n_damaged) == (["hung_up"], 1)


def test_a_disk_that_hangs_holds_up_nothing_but_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda descriptor: answers.wait())
    rig = Rig()
    for _ in range(ledger_module.MAX_WAITING + 2):
        rig.ledger.begin(CALL)  # would hang here
    one_note(rig, "the disk does not answer")
    rig.ledger.close(limit_s=0.01)
    assert len(rig.told) == 1
    answers.set()
    rig.ledger.close()


def test_the_last_line_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda descriptor: answers.wait())
    rig = Rig()
    rig.ledger.begin(CALL).complete("hung_up", 0)
    rig.ledger.close(limit_s=0.01)
    one_note(rig, "the disk does not answer")
    answers.set()
    rig.ledger.close()
    assert [record.ended for record in rig.records()] == ["hung_up"]


def test_a_note_is_safe_for_a_terminal(own_home: Path) -> None:
    (own_home / "\x1b[31m").write_text("")
    rig = Rig(path=own_home / "\x1b[31m" / "ledger.jsonl")
    completed(rig)
    assert len(rig.told) == 1 and "\x1b" not in rig.told[0]


def test_a_ledger_without_calls_makes_no_file() -> None:
    rig = Rig()
    rig.ledger.close()
    rig.ledger.close()
    assert not rig.path.exists()


# --- several processes

WRITER = """
import sys, time
from pathlib import Path
from personaplex_cli.call_record import CallRecord
from personaplex_cli.ledger import Ledger

ledger = Ledger(Path(sys.argv[1]), print, beat_s=0.001)
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    call = ledger.begin(CallRecord(f"{sys.argv[2]}-{number}", "polargrid"))
    if number % 4 == 0:
        time.sleep(0.003)
    call.complete("hung_up", 0, connected_s=number)
ledger.close(30)
"""

KILLED = """
import sys, time
from pathlib import Path
from personaplex_cli.call_record import CallRecord
from personaplex_cli.ledger import Ledger

seconds = iter(range(0, 10**9, 10))
ledger = Ledger(Path(sys.argv[1]), print, clock=lambda: next(seconds), beat_s=0.001)
call = ledger.begin(CallRecord("api.example", "polargrid"))
time.sleep(60)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_do_not_damage_each_other_s_lines(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    writers = [start(WRITER, str(path), name) for name in ("a", "b")]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.communicate()[0] == "" and writer.returncode == 0
    records, n_damaged = read_ledger(path)
    assert n_damaged == 0 and path.stat().st_size == 80 * 512
    assert {(record.server, record.connected_s, record.ended) for record in records} == {
        (f"{name}-{number}", float(number), "hung_up") for name in "ab" for number in range(40)
    }


@posix
def test_a_killed_call_is_left_unfinished(tmp_path: Path) -> None:
    rig = Rig(path=tmp_path / "ledger.jsonl")
    with start(KILLED, str(rig.path)) as process:
        rig.wait_until(
            lambda: rig.path.exists() and any(r.connected_s >= 30 for r in read_ledger(rig.path)[0])
        )
        process.send_signal(signal.SIGKILL)
    (record,) = rig.records()
    assert record.ended is None and record.exit_code is None and record.connected_s >= 30
    completed(rig)
    assert [r.ended for r in rig.records()] == [None, "hung_up"]


# --- by the events of calls


def state(at_s: float, which: CallState) -> StateChanged:
    return StateChanged(at_s, which)


def ended(reason: EndReason, error: PersonaplexError | None, lasted_s: float, live_s: float) -> CallEnded:
    return CallEnded(50.0, reason, "", error, lasted_s, live_s, Counters())


def kept(rig: Rig) -> Bookkeeper:
    servers = iter("abc")
    return Bookkeeper(rig.ledger, lambda: CallRecord(next(servers), "polargrid"))


def test_a_call_is_billed_from_the_upgrade_to_the_closed_socket() -> None:
    rig = Rig()
    keeper = kept(rig)
    for event in (
        state(1.0, CallState.CONNECTING),
        state(3.0, CallState.WAITING),
        state(4.0, CallState.LIVE),
        state(19.0, CallState.ENDED),
        ended(EndReason.CONNECTION_LOST, ConnectError("Lost."), 18.0, 15.0),
        state(30.0, CallState.CONNECTING),
        state(30.5, CallState.WAITING),
        ended(EndReason.HUNG_UP, None, 2.0, 0.0),
    ):
        keeper.listen(event)
    rig.ledger.close()
    assert [(r.server, r.connected_s, r.live_s, r.ended, r.exit_code) for r in rig.records()] == [
        ("a", 16.0, 15.0, "connection_lost", 4),
        ("b", 1.5, 0.0, "hung_up", 0),
    ]


def test_a_call_that_never_connected_is_not_entered() -> None:
    rig = Rig()
    keeper = kept(rig)
    keeper.listen(state(0.0, CallState.CONNECTING))
    keeper.listen(ended(EndReason.NEVER_LIVE, ConnectError("No."), 1.0, 0.0))
    keeper.dropped()
    rig.ledger.close()
    assert not rig.path.exists()


def test_a_dropped_call_has_the_time_until_then() -> None:
    rig = Rig()
    keeper = kept(rig)
    keeper.listen(state(0.0, CallState.CONNECTING))
    keeper.listen(state(1.0, CallState.WAITING))
    rig.clock.now_s += 2
    keeper.listen(state(3.0, CallState.LIVE))
    rig.clock.now_s += 5
    keeper.dropped()
    keeper.dropped()
    rig.ledger.close()
    assert [(r.connected_s, r.live_s, r.ended, r.exit_code) for r in rig.records()] == [
        (7.0, 5.0, "dropped", 130)
    ]
