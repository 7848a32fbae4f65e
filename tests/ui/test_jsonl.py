from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from personaplex_cli import events
from personaplex_cli.errors import ConnectError
from personaplex_cli.events import (
    AgentText,
    AudioDropped,
    Bookmark,
    CalledAgain,
    CallEnded,
    CallState,
    Counters,
    DeviceChanged,
    DeviceCounters,
    DeviceState,
    EchoChanged,
    EchoState,
    EndReason,
    Event,
    IdleCountdown,
    Lag,
    Levels,
    LimitNear,
    Metadata,
    MicrophoneChanged,
    Notice,
    PlayoutCounters,
    ServerSaidError,
    Speaking,
    StateChanged,
    TextHeard,
    TurnEnded,
    Underrun,
    UserText,
    VolumeChanged,
)
from personaplex_cli.turns import Side, Turn, TurnKind
from personaplex_cli.ui.jsonl import MAX_METADATA_CHARS, JsonPainter, event_line
from personaplex_cli.ui.screen import Screen

DOCS = Path(__file__).parents[2] / "docs"
DESCRIPTION = (DOCS / "events.md").read_text("utf-8")
SCHEMA = json.loads((DOCS / "events.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)

COUNTERS = Counters(
    packets_sent=1000,
    lag_local_ms=61,
    playout=PlayoutCounters(underruns=2, concealed_ms=80),
    speaker=DeviceCounters(late_ms=3),
)
ENDED = CallEnded(9.0, EndReason.HUNG_UP, "", None, 9.0, 8.0, Counters())

FORMS: list[tuple[Event, dict[str, object]]] = [
    (StateChanged(0.0, CallState.WAITING), {"type": "state", "at_s": 0.0, "state": "waiting"}),
    (AgentText(2.2144, " Café"), {"type": "text", "at_s": 2.214, "text": " Café"}),
    (TextHeard(2.3, 5, True), {"type": "heard", "at_s": 2.3, "chars": 5, "heard": True}),
    (UserText(2.3, "Hi 😀"), {"type": "user_text", "at_s": 2.3, "text": "Hi 😀"}),
    (
        Speaking(1.0, Side.AGENT, True),
        {"type": "speaking", "at_s": 1.0, "side": "agent", "speaking": True},
    ),
    (
        TurnEnded(6.1, Turn(Side.USER, 2.00049, 4.5, TurnKind.INTERRUPTION, 0.2)),
        {
            "type": "turn",
            "at_s": 6.1,
            "side": "user",
            "start_s": 2.0,
            "end_s": 4.5,
            "kind": "interruption",
            "overlap_s": 0.2,
        },
    ),
    (
        Levels(1.5, -61.44, -18.0, False, True),
        {
            "type": "level",
            "at_s": 1.5,
            "user_dbfs": -61.4,
            "agent_dbfs": -18.0,
            "user_clipped": False,
            "agent_clipped": True,
        },
    ),
    (Lag(5.2, 211.6, 64.2), {"type": "lag", "at_s": 5.2, "network_and_model_ms": 212, "ours_ms": 64}),
    (Lag(5.2, None, 64.0), {"type": "lag", "at_s": 5.2, "network_and_model_ms": None, "ours_ms": 64}),
    (Underrun(5.2, 2), {"type": "underrun", "at_s": 5.2, "times": 2}),
    (
        AudioDropped(5.2, Side.USER, 40),
        {"type": "dropped", "at_s": 5.2, "side": "user", "milliseconds": 40},
    ),
    (EchoChanged(5.2, EchoState.HALF_DUPLEX), {"type": "echo", "at_s": 5.2, "state": "half_duplex"}),
    (
        MicrophoneChanged(5.2, True, False, False),
        {"type": "microphone", "at_s": 5.2, "muted": True, "push_to_talk": False, "talking": False},
    ),
    (VolumeChanged(5.2, 80), {"type": "volume", "at_s": 5.2, "percent": 80}),
    (Bookmark(5.2, 1), {"type": "bookmark", "at_s": 5.2, "number": 1}),
    (IdleCountdown(5.2, 35.0), {"type": "idle", "at_s": 5.2, "ends_at_s": 35.0}),
    (IdleCountdown(5.2, None), {"type": "idle", "at_s": 5.2, "ends_at_s": None}),
    (LimitNear(5.2, 59.98765), {"type": "limit_near", "at_s": 5.2, "left_s": 59.988}),
    (
        DeviceChanged(5.2, "speaker", DeviceState.REPLACED, "HDMI"),
        {"type": "device", "at_s": 5.2, "role": "speaker", "state": "replaced", "name": "HDMI"},
    ),
    (Notice(5.2, "Silent."), {"type": "notice", "at_s": 5.2, "text": "Silent."}),
    (CalledAgain(5.2), {"type": "new_call", "at_s": 5.2}),
    (ServerSaidError(5.2, "busy"), {"type": "server_error", "at_s": 5.2, "text": "busy"}),
    (
        Metadata(5.2, {"model": ["a", 1, 0.5, None, True]}),
        {"type": "metadata", "at_s": 5.2, "data": {"model": ["a", 1, 0.5, None, True]}},
    ),
    (
        CallEnded(
            9.0, EndReason.CONNECTION_LOST, "code 1006", ConnectError("Lost.", "Retry."), 9.0, 8.0, COUNTERS
        ),
        {
            "type": "ended",
            "at_s": 9.0,
            "reason": "connection_lost",
            "detail": "code 1006",
            "error": "Lost.",
            "exit_code": 4,
            "duration_s": 9.0,
            "live_s": 8.0,
            "counters": {
                "packets_sent": 1000,
                "packets_dropped": 0,
                "silence_inserted": 0,
                "messages_received": 0,
                "messages_skipped": 0,
                "payloads_dropped": 0,
                "holes": 0,
                "resyncs": 0,
                "packets_bad": 0,
                "streams": 0,
                "received_ms": 0,
                "lag_remote_ms": None,
                "lag_local_ms": 61,
                "echo_blocks_dropped": 0,
                "playout": {
                    "underruns": 2,
                    "concealed_ms": 80,
                    "silence_removed_ms": 0,
                    "speech_cut_ms": 0,
                    "dropped_ms": 0,
                },
                "microphone": {"flagged": 0, "restarts": 0, "late_ms": 0},
                "speaker": {"flagged": 0, "restarts": 0, "late_ms": 3},
            },
        },
    ),
]


def parsed(event: Event) -> dict[str, Any]:
    """The line of `event`, which is checked to be one, and to be as the schema says."""
    line = event_line(event)
    assert line is not None and line.isascii() and "\n" not in line
    value: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    assert [error.message for error in VALIDATOR.iter_errors(value)] == []
    return value


def written(*told: Event) -> list[dict[str, Any]]:
    stream = io.StringIO()
    painter = JsonPainter(stream, io.StringIO())
    for event in told:
        painter.update([event], event.at_s)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# --- the form of each event


@pytest.mark.parametrize(("event", "form"), [pytest.param(*form, id=str(form[1]["type"])) for form in FORMS])
def test_a_line_has_these_keys_and_values_in_this_order(event: Event, form: dict[str, object]) -> None:
    assert json.dumps(parsed(event)) == json.dumps({"v": 1, **form})


def test_every_event_of_a_call_has_a_form() -> None:
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)}
    assert {type(event) for event, _ in FORMS} == kinds - {Event}


def test_an_event_of_the_user_interface_writes_nothing() -> None:
    class KeyPressed(Event):
        pass

    assert event_line(KeyPressed(1.0)) is None
    assert written(KeyPressed(1.0), Bookmark(2.0, 1)) == [parsed(Bookmark(2.0, 1))]


def test_a_call_that_ended_as_asked_has_no_error() -> None:
    assert parsed(ENDED)["error"] is None
    assert parsed(ENDED)["exit_code"] == 0


def test_a_line_is_compact() -> None:
    assert event_line(AgentText(1.0, "é, b")) == r'{"v":1,"type":"text","at_s":1.0,"text":"\u00e9, b"}'


# --- the schema and the description


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("kind", "field", "members"),
    [
        ("state", "state", CallState),
        ("turn", "kind", TurnKind),
        ("echo", "state", EchoState),
        ("device", "state", DeviceState),
        ("ended", "reason", EndReason),
    ],
)
def test_schema_and_description_name_all_values(kind: str, field: str, members: type[Enum]) -> None:
    names = [member.name.lower() for member in members]
    assert SCHEMA["$defs"][kind]["properties"][field]["enum"] == names
    row = described(field if kind == "ended" else kind)
    assert [name for name in names if f"`{name}`" not in row] == []


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"type": "words"}, {"at_s": "1"}, {"text": None}, {"more": 1}],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_is_strict(change: dict[str, object]) -> None:
    assert not VALIDATOR.is_valid(parsed(AgentText(1.0, "a")) | change)


@pytest.mark.parametrize("form", [form for _, form in FORMS], ids=lambda form: form["type"])
def test_the_description_names_each_type_and_its_fields(form: dict[str, object]) -> None:
    row = described(str(form["type"]))
    if form["type"] != "ended":
        assert [field for field in form.keys() - {"type", "at_s"} if f"`{field}`" not in row] == []


def test_the_description_names_each_field_of_the_end() -> None:
    names = [name for kind in (Counters, PlayoutCounters, DeviceCounters) for name in field_names(kind)]
    names += [name for name in parsed(ENDED) if name not in ("v", "type", "at_s")]
    end = DESCRIPTION.partition("## The end")[2].partition("\n## ")[0]
    assert [name for name in names if f"`{name}`" not in end] == []


def test_the_lines_in_the_description_are_valid() -> None:
    lines = re.findall(r"^\{.*\}$", DESCRIPTION, re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        VALIDATOR.validate(json.loads(line))


def described(name: str) -> str:
    """The row of the table that begins with `name`."""
    (row,) = [line for line in DESCRIPTION.splitlines() if line.startswith(f"| `{name}` |")]
    return row


def field_names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)]


# --- what servers, devices and errors say

HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
ANY_TEXT = st.text(
    st.characters() | st.sampled_from('\x1b\x9b\r\n\t\x00\x7f"\\\u2028\u202e\u2066\ud800\udc00')
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
EXPLORE = settings(derandomize=True, deadline=None, max_examples=15)


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)


@EXPLORE
@given(text=ANY_TEXT, data=ANY_JSON)
def test_no_text_harms(text: str, data: Any) -> None:
    for event in [
        AgentText(1.0, text),
        UserText(1.0, text),
        Notice(1.0, text),
        ServerSaidError(1.0, text),
        DeviceChanged(1.0, "microphone", DeviceState.LOST, text),
        CallEnded(1.0, EndReason.SERVER_ERROR, text, ConnectError(text), 1.0, 1.0, Counters()),
        Metadata(1.0, {text: data}),
    ]:
        found = [text for text in texts_in(parsed(event)) if HARMFUL.search(text)]
        assert found == []


def test_a_text_keeps_its_length() -> None:
    """`heard` counts its characters."""
    assert parsed(AgentText(1.0, "\x1b[31m\n é"))["text"] == "\ufffd[31m  é"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_in_json_is_null(number: float) -> None:
    assert parsed(Metadata(1.0, [number, {"a": number}, 1.5]))["data"] == [None, {"a": None}, 1.5]
    lag, levels = parsed(Lag(1.0, number, number)), parsed(Levels(1.0, number, number))
    assert (lag["network_and_model_ms"], lag["ours_ms"]) == (None, None)
    assert (levels["user_dbfs"], levels["agent_dbfs"]) == (None, None)


def test_metadata_is_bounded_in_length() -> None:
    fits = "a" * (MAX_METADATA_CHARS - len('""'))
    assert parsed(Metadata(1.0, fits))["data"] == fits
    assert parsed(Metadata(1.0, fits + "a"))["data"] is None
    assert parsed(Metadata(1.0, "é" * (len(fits) // 2)))["data"] is None  # each takes six as JSON


def test_metadata_is_bounded_in_depth() -> None:
    assert parsed(Metadata(1.0, json.loads("[" * 32 + "1" + "]" * 32)))["data"] is not None
    data: Any = {"x": 1}
    for _ in range(100_000):  # deeper than Python recurses
        data = [data]
    inner = parsed(Metadata(1.0, ["beside", data]))["data"]
    assert inner[0] == "beside"
    assert json.dumps(inner[1]) == "[" * 31 + "null" + "]" * 31


# --- levels


def test_levels_come_twice_a_second_at_most() -> None:
    lines = written(*(Levels(10 + n * 0.103, -40.0, -40.0) for n in range(100)))
    times = [line["at_s"] for line in lines]
    assert len(lines) >= 15
    assert min(after - before for before, after in zip(times, times[1:], strict=False)) >= 0.5


def test_what_was_loudest_in_between_is_kept() -> None:
    quiet = Levels(1.0, -60.0, -60.0)
    lines = written(
        quiet,
        Levels(1.1, -10.0, -70.0, user_clipped=True),
        Levels(1.2, -70.0, -20.0, agent_clipped=True),
        Levels(1.3, -70.0, -70.0),
        Levels(1.6, -70.0, -70.0),
        Levels(2.2, -70.0, -70.0),
    )
    loudest = Levels(1.6, -10.0, -20.0, user_clipped=True, agent_clipped=True)
    assert lines == [parsed(quiet), parsed(loudest), parsed(Levels(2.2, -70.0, -70.0))]


def test_levels_of_a_call_are_not_those_of_the_next() -> None:
    lines = written(Levels(8.8, -60.0, -60.0), Levels(8.9, -1.0, -1.0), ENDED, Levels(12.0, -60.0, -60.0))
    assert [line["type"] for line in lines] == ["level", "ended", "level"]
    assert lines[2]["user_dbfs"] == -60.0


# --- streams


class _Gone(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError("the reader has gone")


class _Recorder(io.StringIO):
    """Notes what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def write(self, text: str, /) -> int:
        self.done.append(text)
        return len(text)

    def flush(self) -> None:
        self.done.append("flush")


def test_each_line_is_written_in_one_go_and_flushed() -> None:
    stream = _Recorder()
    JsonPainter(stream, io.StringIO()).update([Bookmark(1.0, 1), Bookmark(2.0, 2)], 2.0)
    one, two = (f"{event_line(Bookmark(float(number), number))}\n" for number in (1, 2))
    assert stream.done == [one, "flush", two, "flush"]


def test_the_lines_for_people_are_kept_apart() -> None:
    stream, status = io.StringIO(), io.StringIO()
    painter = JsonPainter(stream, status)
    painter.update([AgentText(1.0, "Unfinished")], 1.0)
    painter.leave(["The call goes on."])
    painter.finish(["Call ended."])
    assert len(stream.getvalue().splitlines()) == 1
    assert status.getvalue() == "The call goes on.\nCall ended.\n"


def test_a_reader_that_has_gone_ends_the_call() -> None:
    assert JsonPainter.failure_ends_call
    with pytest.raises(BrokenPipeError):
        JsonPainter(_Gone(), io.StringIO()).update([Bookmark(1.0, 1)], 1.0)


def test_giving_up_still_says_how_the_call_ended() -> None:
    status = io.StringIO()
    JsonPainter(_Gone(), status).give_up(["Call ended."])
    assert status.getvalue() == "Call ended.\n"
    JsonPainter(_Gone(), _Gone()).give_up(["Call ended."])


def test_a_screen_shows_a_call_with_it() -> None:
    stream, status = io.StringIO(), io.StringIO()
    screen = Screen(JsonPainter(stream, status), lambda: 9.0)
    for event in (AgentText(1.0, "a"), ENDED):
        screen.listen(event)
    screen.close(last_lines=["Call ended."])
    assert [json.loads(line)["type"] for line in stream.getvalue().splitlines()] == ["text", "ended"]
    assert status.getvalue() == "Call ended.\n"


def test_lines_do_not_wait_for_the_next_picture() -> None:
    assert JsonPainter.eager
