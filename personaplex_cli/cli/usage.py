"""`personaplex usage`"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personaplex_cli.cli.options import Json
from personaplex_cli.cli.output import print_json, print_note, print_table, print_text
from personaplex_cli.errors import UsageError
from personaplex_cli.wire.text import safe_text

if TYPE_CHECKING:
    from personaplex_cli.call_record import CallRecord


class By(StrEnum):
    """What calls are added up by."""

    DAY = "day"
    PROFILE = "profile"
    VOICE = "voice"


def usage(
    by: Annotated[By, typer.Option("--by", help="What calls are added up by.")] = By.DAY,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Only calls from this day on: 2026-07-28.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add up the calls: how many, how long connected, what they cost.

    Every call that may be billed is written into a ledger on this machine, with no word of what was said.
    Costs need a rate_per_minute in the configuration at the time of the call. Days are those of local time.

    \b
    Examples:
      personaplex usage
      personaplex usage --by voice --since 2026-07-01
      personaplex usage --json
    """
    from personaplex_cli.call_record import ledger_path, read_ledger

    first = _date(since)
    path = ledger_path()
    records, n_damaged = read_ledger(path)
    if n_damaged:
        what = "1 line" if n_damaged == 1 else f"{n_damaged:,} lines"
        print_note(f"Left out, because it cannot be read: {what} of {path}.")
    if first is not None:
        records = [record for record in records if _day(record) >= first]
    sums, total = _added_up(records, by)
    if as_json:
        rows = [{by.value: name} | _described(row) for name, row in sums.items()]
        whole = _described(total)
        print_json({"by": by.value, "since": first and first.isoformat(), "rows": rows, "total": whole})
    elif not records:
        when = f"since {first}" if first else "yet"
        print_text(f"No calls {when}: there are none in {safe_text(str(path))}.")
    else:
        _print_sums(by, sums, total)


@dataclass(slots=True)
class Sum:
    """Of some calls."""

    calls: int = 0
    connected_s: float = 0.0
    live_s: float = 0.0
    cost: float = 0.0
    without_rate: int = 0
    """Calls that are not in `cost`."""
    unfinished: int = 0
    """Calls that go on, or were killed."""
    unfinished_s: float = 0.0
    """How much of `connected_s` is theirs."""

    def add(self, record: CallRecord) -> None:
        self.calls += 1
        self.connected_s += record.connected_s
        self.live_s += record.live_s
        if record.cost is None:
            self.without_rate += 1
        else:
            self.cost += record.cost
        if record.ended is None:
            self.unfinished += 1
            self.unfinished_s += record.connected_s


def _added_up(records: Iterable[CallRecord], by: By) -> tuple[dict[str | None, Sum], Sum]:
    """The sums in the order of their names, None (no profile, no voice) last; and the sum of all."""
    sums: dict[str | None, Sum] = {}
    total = Sum()
    for record in records:
        sums.setdefault(_name(record, by), Sum()).add(record)
        total.add(record)
    ordered = sorted(sums.items(), key=lambda item: (item[0] is None, item[0] or ""))
    return dict(ordered), total


def _name(record: CallRecord, by: By) -> str | None:
    match by:
        case By.DAY:
            return _day(record).isoformat()
        case By.PROFILE:
            name = record.profile
        case By.VOICE:
            name = record.voice
    return None if name is None else safe_text(name)


def _day(record: CallRecord) -> date:
    return record.began.astimezone().date()


def _date(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise UsageError("--since takes a date.", "Write it like 2026-07-28.") from None


def _described(row: Sum) -> dict[str, Any]:
    """Seconds to a tenth; the cost null where there is no call with a rate."""
    return {
        "calls": row.calls,
        "connected_s": round(row.connected_s, 1),
        "live_s": round(row.live_s, 1),
        "cost": None if row.without_rate == row.calls else round(row.cost, 6),
        "calls_without_rate": row.without_rate,
        "unfinished": row.unfinished,
        "unfinished_s": round(row.unfinished_s, 1),
    }


def _print_sums(by: By, sums: dict[str | None, Sum], total: Sum) -> None:
    rows = [(name or f"(no {by.value})", row) for name, row in sums.items()]
    table = [(by.value, "calls", "connected", "cost", "")]
    table += [(name, *_cells(row)) for name, row in [*rows, ("total", total)]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print_table(
        [
            (name, *(cell.rjust(width) for cell, width in zip(numbers, widths[1:4], strict=True)), remark)
            for name, *numbers, remark in table
        ]
    )
    if total.without_rate:
        print_text("\n?: calls made without a rate_per_minute in the configuration.")
    if total.unfinished:
        print_text("\nUnfinished: the call goes on now, or the program was killed during it.")


def _cells(row: Sum) -> tuple[str, str, str, str]:
    cost = [] if row.without_rate == row.calls else [f"{row.cost:.2f}"]
    cost += ["?"] if row.without_rate else []
    remark = f"{row.unfinished:,} unfinished (at least {_time_text(row.unfinished_s)})"
    return (
        f"{row.calls:,}",
        _time_text(row.connected_s),
        " + ".join(cost),
        remark if row.unfinished else "",
    )


def _time_text(seconds: float) -> str:
    """H:MM:SS, also below an hour: times stand under each other."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
