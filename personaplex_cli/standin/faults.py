"""What the stand-in can be asked to do wrong, so that it can be seen what a client makes of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from personaplex_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class At:
    """A moment of the call (seconds of audio heard) and how long something lasts, or a code."""

    at_s: float
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Faults:
    """Times are in seconds. `at_s` counts the audio heard, so it is exact whatever the machine does."""

    handshake_delay: float = 0.0
    """Seconds between the upgrade and the handshake."""
    token_lifetime: float = 300.0
    """Seconds until an issued token expires; a call goes on with it."""
    stall: At | None = None
    """AT:SECONDS. Neither reads nor sends; then it works through what has piled up."""
    burst: At | None = None
    """AT:SECONDS. Sends nothing, then all of it at once."""
    silent: bool = False
    """The agent says nothing: silence for each step, and no text."""
    error: At | None = None
    """AT. Reports an error (tag 0x05)."""
    close: At | None = None
    """AT[:CODE]. Closes, with 1000 unless a code is given."""
    drop: At | None = None
    """AT. Drops the connection without a closing message."""
    garbage: At | None = None
    """AT. Sends a page whose checksum is wrong in place of a good one."""
    second_bos: At | None = None
    """AT. Begins a new Ogg stream (chained)."""
    granules_24k: bool = False
    """Counts granule positions in 24 kHz units, as moshi's Rust server does."""
    packet_ms: float = 20.0
    """20, 40 or 80: the duration of its Opus packets."""
    single_pages: bool = False
    """One message for each page, not for each step."""
    split_pages: bool = False
    """Messages that end in the middle of a page."""
    odd_messages: bool = False
    """Sends messages that no client knows: unknown tag, empty, of type text, a ping of the protocol."""


_MOMENTS: Final = {"error", "drop", "garbage", "second_bos"}
_SPANS: Final = {"stall", "burst"}


def parse_faults(specs: list[str]) -> Faults:
    """`["handshake-delay=3", "close=5:1011", "silent"]` → Faults. Raises UsageError."""
    known = {field.name: field for field in fields(Faults)}
    values: dict[str, Any] = {}
    for spec in specs:
        name, _, value = spec.partition("=")
        key = name.replace("-", "_")
        if key not in known:
            names = ", ".join(sorted(name.replace("_", "-") for name in known))
            raise UsageError(f"There is no fault {name!r}.", f"There are: {names}.")
        try:
            values[key] = _value(key, value, flag=known[key].default is False)
        except ValueError:
            raise UsageError(
                f"The fault {spec!r} cannot be read.", f"Write it like {_example(key)}."
            ) from None
    return Faults(**values)


def _value(key: str, value: str, *, flag: bool) -> bool | float | At:
    if flag:
        if value:
            raise ValueError
        return True
    at, colon, what = value.partition(":")
    if key in _SPANS:
        return At(_seconds(at), _seconds(what))
    if key == "close":
        return At(_seconds(at), _close_code(what) if colon else 0)
    number = _seconds(value)
    if key == "packet_ms" and number not in (20, 40, 80):
        raise ValueError
    return At(number) if key in _MOMENTS else number


def _close_code(text: str) -> int:
    """One that may be sent (RFC 6455 section 7.4): 1006, for one, stands for no closing message."""
    code = int(text)
    if code not in (1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)):
        raise ValueError
    return code


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e6:  # also refuses NaN
        raise ValueError
    return number


def _example(key: str) -> str:
    name = key.replace("_", "-")
    match key:
        case "stall" | "burst":
            return f"{name}=3:2 (after 3 s, for 2 s)"
        case "close":
            return f"{name}=5 or {name}=5:1011"
        case "packet_ms":
            return f"{name}=20, {name}=40 or {name}=80"
        case _ if key in _MOMENTS:
            return f"{name}=5 (after 5 s)"
        case "silent" | "granules_24k" | "single_pages" | "split_pages" | "odd_messages":
            return f"{name}, without a value"
    return f"{name}=3"
