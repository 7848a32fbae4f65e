"""Lines for programs: one JSON object for each event of a call, as docs/events.md describes them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from enum import Enum
from typing import Any, Final, TextIO

from personaplex_cli.errors import ExitCode
from personaplex_cli.events import (
    AgentText,
    AudioDropped,
    Bookmark,
    CalledAgain,
    CallEnded,
    DeviceChanged,
    EchoChanged,
    Event,
    IdleCountdown,
    Lag,
    Levels,
    LimitNear,
    Metadata,
    MicrophoneChanged,
    Notice,
    ServerSaidError,
    Speaking,
    StateChanged,
    TextHeard,
    TurnEnded,
    Underrun,
    UserText,
    VolumeChanged,
)
from personaplex_cli.turns import Turn
from personaplex_cli.ui.plain import PlainPainter
from personaplex_cli.wire.text import safe_text

SCHEMA_VERSION: Final = 1
"""Changes when a field or type goes away or changes its meaning, not when one is added."""

LEVEL_INTERVAL_S: Final = 0.5

MAX_METADATA_CHARS: Final = 4_000
"""As JSON; of more, only that it came is told: one line must not be a megabyte of a server's."""

MAX_METADATA_DEPTH: Final = 32
"""Lists and objects within each other; what is deeper is null. Parsers give up at 100 and more."""

_Fields = dict[str, Any]


class JsonPainter:
    """Writes each event as a line of JSON to `stream`, flushed at once, and the last lines to `status`.

    The lines are ASCII, and their texts hold no character that a terminal would act on. Events that have no
    JSON form (those of the user interface itself) write nothing. Everything is called on one thread. Any call
    may raise the OSError of a stream.
    """

    failure_ends_call = True
    """A reader that has gone away wants no more of the call."""

    eager = True
    """Programs act on the lines: they come as soon as there is something to tell."""

    def __init__(self, stream: TextIO, status: TextIO) -> None:
        self._stream = stream
        self._for_people = PlainPainter(status, status)
        self._loudest: Levels | None = None
        self._levels_due_s = -math.inf

    def update(self, events: Iterable[Event], now_s: float) -> None:
        """Write the lines of `events`; levels, every half second the loudest of it."""
        for event in events:
            told: Event | None = event
            if isinstance(event, Levels):
                told = self._thinned(event)
            elif isinstance(event, CallEnded):
                self._loudest = None  # another call has its own
            if told is not None and (line := event_line(told)):
                self._stream.write(line + "\n")
                self._stream.flush()

    def leave(self, lines: Iterable[str]) -> None:
        """Show `lines` on the status stream, before the terminal is left to others."""
        self._for_people.leave(lines)

    def finish(self, last_lines: Iterable[str]) -> None:
        """Show `last_lines` on the status stream."""
        self._for_people.finish(last_lines)

    def give_up(self, last_lines: Iterable[str]) -> None:
        """After a failure: `last_lines` on the status stream if that is still there. Never raises OSError."""
        self._for_people.give_up(last_lines)

    def _thinned(self, levels: Levels) -> Levels | None:
        self._loudest = loudest = levels if self._loudest is None else self._loudest.or_louder(levels)
        if levels.at_s < self._levels_due_s:
            return None
        self._levels_due_s = levels.at_s + LEVEL_INTERVAL_S
        self._loudest = None
        return loudest


def event_line(event: Event) -> str | None:
    """`event` as one line of JSON, without the line break; None if it has no JSON form."""
    if not (told := _of_conversation(event) or _of_program(event)):
        return None
    name, fields = told
    line = {"v": SCHEMA_VERSION, "type": name, "at_s": _rounded(event.at_s, 3), **fields}
    return _json(_harmless(line, 1 + MAX_METADATA_DEPTH))


def _of_conversation(event: Event) -> tuple[str, _Fields] | None:
    """Type and own fields of what was said, heard and measured."""
    match event:
        case AgentText(text=text):
            return "text", {"text": text}
        case TextHeard(chars=chars, heard=heard):
            return "heard", {"chars": chars, "heard": heard}
        case UserText(text=text):
            return "user_text", {"text": text}
        case Speaking(side=side, speaking=speaking):
            return "speaking", {"side": _id(side), "speaking": speaking}
        case TurnEnded(turn=turn):
            return "turn", _turn_fields(turn)
        case Levels():
            return "level", _level_fields(event)
        case Lag(remote_ms=remote_ms, local_ms=local_ms):
            return "lag", {"network_and_model_ms": _rounded(remote_ms), "ours_ms": _rounded(local_ms)}
        case Underrun(times=times):
            return "underrun", {"times": times}
        case AudioDropped(side=side, milliseconds=milliseconds):
            return "dropped", {"side": _id(side), "milliseconds": milliseconds}
        case Bookmark(number=number):
            return "bookmark", {"number": number}
        case ServerSaidError(text=text):
            return "server_error", {"text": text}
        case Metadata(data=data):
            return "metadata", {"data": _bounded(data)}
    return None


def _of_program(event: Event) -> tuple[str, _Fields] | None:
    """Type and own fields of what became of the call, its devices and its limits."""
    match event:
        case StateChanged(state=state):
            return "state", {"state": _id(state)}
        case EchoChanged(state=echo):
            return "echo", {"state": _id(echo)}
        case MicrophoneChanged(muted=muted, push_to_talk=push_to_talk, talking=talking):
            return "microphone", {"muted": muted, "push_to_talk": push_to_talk, "talking": talking}
        case VolumeChanged(percent=percent):
            return "volume", {"percent": percent}
        case DeviceChanged(role=role, state=device, name=name):
            return "device", {"role": role, "state": _id(device), "name": name}
        case IdleCountdown(ends_at_s=ends_at_s):
            return "idle", {"ends_at_s": _rounded(ends_at_s, 3)}
        case LimitNear(left_s=left_s):
            return "limit_near", {"left_s": _rounded(left_s, 3)}
        case Notice(text=text):
            return "notice", {"text": text}
        case CalledAgain():
            return "new_call", {}
        case CallEnded():
            return "ended", _ended_fields(event)
    return None


def _turn_fields(turn: Turn) -> _Fields:
    return {
        "side": _id(turn.side),
        "start_s": _rounded(turn.start_s, 3),
        "end_s": _rounded(turn.end_s, 3),
        "kind": _id(turn.kind),
        "overlap_s": _rounded(turn.overlap_s, 3),
    }


def _level_fields(levels: Levels) -> _Fields:
    return {
        "user_dbfs": _rounded(levels.user_dbfs, 1),
        "agent_dbfs": _rounded(levels.agent_dbfs, 1),
        "user_clipped": levels.user_clipped,
        "agent_clipped": levels.agent_clipped,
    }


def _ended_fields(ended: CallEnded) -> _Fields:
    error = ended.error
    return {
        "reason": _id(ended.reason),
        "detail": ended.detail,
        "error": None if error is None else str(error),
        "exit_code": int(ExitCode.OK if error is None else error.exit_code),
        "duration_s": _rounded(ended.lasted_s, 3),
        "live_s": _rounded(ended.live_s, 3),
        "counters": asdict(ended.counters),
    }


def _id(member: Enum) -> str:
    """The values of our enumerations are texts for people, which may be reworded; the names stay."""
    return member.name.lower()


def _rounded(value: float | None, digits: int = 0) -> float | None:
    """None for what JSON has no number for, too; without `digits`, a whole number."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, digits or None)


def _bounded(data: Any) -> Any:
    harmless = _harmless(data, MAX_METADATA_DEPTH)
    return harmless if len(_json(harmless)) <= MAX_METADATA_CHARS else None


def _harmless(value: Any, depth: int) -> Any:
    """`value` with safe texts only, and null for numbers that JSON does not have and for lists and objects
    that are more than `depth` deep."""
    match value:
        case str():
            return safe_text(value)
        case float() if not math.isfinite(value):
            return None
        case list() | dict() if depth == 0:
            return None
        case list():
            return [_harmless(item, depth - 1) for item in value]
        case dict():
            return {safe_text(key): _harmless(item, depth - 1) for key, item in value.items()}
    return value


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
