"""What is kept of a call, and the file that it is kept in: the ledger.

JSON lines, one for each call and all of `RECORD_BYTES`, padded with spaces, so that `ledger` can write a line
anew in its place.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any, Final

from personaplex_cli import __version__
from personaplex_cli.errors import UsageError

STATE_DIR_VARIABLE: Final = "PERSONAPLEX_STATE_DIR"

FORM: Final = 1
"""Of the lines. Those of another form are left out, and kept."""

RECORD_BYTES: Final = 512
"""A line with its line break. `_LIMITS_BYTES` see to it that every record fits."""

DROPPED: Final = "dropped"
"""`CallRecord.ended` of a call that the user dropped at once, which no `EndReason` stands for."""

_LIMITS_BYTES: Final = {"server": 80, "dialect": 16, "region": 24, "voice": 24, "profile": 40, "ended": 20}
_LIMITS_BYTES["version"] = 24
"""Of texts as they stand in JSON, where a character outside ASCII takes 6 bytes, or 12."""

_MAX_S: Final = 1e9
_MAX_RATE: Final = 1e9
"""Above them is no call and no price, and sums might become infinite."""

_TEXT: Final = (str,)
_TEXT_OR_NONE: Final = (str, NoneType)
_NUMBER: Final = (int, float)  # not bool: types are compared
_TYPES: Final = {
    "id": _TEXT,
    "began": (datetime,),
    "connected_s": _NUMBER,
    "live_s": _NUMBER,
    "ended": _TEXT_OR_NONE,
    "exit_code": (int, NoneType),
    "server": _TEXT,
    "dialect": _TEXT,
    "region": _TEXT_OR_NONE,
    "voice": _TEXT_OR_NONE,
    "profile": _TEXT_OR_NONE,
    "rate_per_minute": (*_NUMBER, NoneType),
    "version": _TEXT,
}
"""Of a record's fields, once read."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What is kept of a call: no persona, nothing that was said, no secret."""

    server: str
    """Its host only."""
    dialect: str
    region: str | None = None
    voice: str | None = None
    profile: str | None = None
    rate_per_minute: float | None = None
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    """The end of the upgrade, which is when billing begins."""
    connected_s: float = 0.0
    """Seconds from there until the socket was closed; as long as `ended` is None, until it was last known."""
    live_s: float = 0.0
    """Seconds of them in which the model was there."""
    ended: str | None = None
    """The name of the `EndReason` in lower case, or `DROPPED`; None while the call goes on."""
    exit_code: int | None = None
    version: str = __version__
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def cost(self) -> float | None:
        """In the currency of the rate; None where there was no rate."""
        return None if self.rate_per_minute is None else self.connected_s / 60 * self.rate_per_minute


def ledger_path() -> Path:
    """The ledger's file: in `PERSONAPLEX_STATE_DIR`, or in the usual folder of this system."""
    if folder := os.environ.get(STATE_DIR_VARIABLE):
        return Path(folder) / "ledger.jsonl"
    from platformdirs import user_state_path

    return user_state_path("personaplex", appauthor=False) / "ledger.jsonl"


def read_ledger(path: Path) -> tuple[list[CallRecord], int]:
    """The calls in the order in which they began to be written, and how many lines could not be read; a
    missing file has neither. Texts are as they stand in the file, NOT safe for a terminal. Raises UsageError.
    """
    records: dict[str, CallRecord] = {}
    n_damaged = 0
    try:
        with path.open("rb") as file:
            for line in file:
                if record := _parsed(line):
                    records[record.id] = record  # there twice if somebody edited the file during the call
                elif not line.isspace():
                    n_damaged += 1
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(f"The ledger {path} cannot be read: {error.strerror}.") from None
    return list(records.values()), n_damaged


def packed(record: CallRecord) -> bytes:
    """The record's line, `RECORD_BYTES` long; texts that are too long for it are shortened."""
    entry = {
        "v": FORM,
        "id": record.id,
        "began": record.began.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "connected_s": round(record.connected_s, 1),
        "live_s": round(record.live_s, 1),
        "rate_per_minute": record.rate_per_minute if (record.rate_per_minute or 0) <= _MAX_RATE else None,
        "exit_code": record.exit_code,
    }
    for name, limit_bytes in _LIMITS_BYTES.items():
        text = getattr(record, name)
        entry[name] = None if text is None else _shortened(text, limit_bytes)
    return json.dumps(entry, separators=(",", ":")).encode().ljust(RECORD_BYTES - 1) + b"\n"


def _shortened(text: str, limit_bytes: int) -> str:
    """`text` or as much of its beginning as fits, with "..." for the rest."""
    if _size_bytes(text) <= limit_bytes:
        return text
    text = text[: limit_bytes - 3]
    while _size_bytes(text) > limit_bytes - 3:
        text = text[:-1]
    return f"{text}..."


def _size_bytes(text: str) -> int:
    return len(json.dumps(text)) - len('""')


def _parsed(line: bytes) -> CallRecord | None:
    """The record, or None where the line is none that could be ours."""
    if len(line) > RECORD_BYTES:
        return None
    try:
        entry = json.loads(line.decode().rstrip())  # json would take its time over the padding
        known = {name: entry[name] for name in _TYPES}
        known["began"] = datetime.fromisoformat(entry["began"])
        is_ours = entry["v"] == FORM
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    right = is_ours and all(type(known[name]) in types for name, types in _TYPES.items())
    return CallRecord(**known) if right and _is_sensible(known) else None


def _is_sensible(known: dict[str, Any]) -> bool:
    """Whether it can be added up (NaN cannot), and every system has a local time for it."""
    if not (0 <= known["connected_s"] <= _MAX_S and 0 <= known["live_s"] <= _MAX_S):
        return False
    began, rate = known["began"], known["rate_per_minute"]
    return began.tzinfo is not None and 1971 <= began.year < 9999 and (rate is None or 0 <= rate <= _MAX_RATE)
