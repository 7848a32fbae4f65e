"""Received and sent WebSocket messages, byte for byte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli.wire.messages import (
    CONTROL_BOS,
    CONTROL_EOS,
    Audio,
    Control,
    ErrorMessage,
    Handshake,
    Message,
    MetadataMessage,
    Ping,
    Skipped,
    Text,
    pack_audio,
    pack_control,
    pack_text,
    parse,
)

EXPLORE = settings(derandomize=True, deadline=None, max_examples=50)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(b"\x00", Handshake(None, None), id="moshi (Python)"),
        pytest.param(b"\x00\x00", Handshake(None, None), id="one byte"),
        pytest.param(b"\x00\x00\x00", Handshake(None, None), id="moshi's web client"),
        pytest.param(b"\x00\x01\0\0\0\x02\x01\0\0", Handshake(1, 258), id="moshi (Rust)"),
        pytest.param(b"\x00\xff\xff\xff\xff\0\0\0\0", Handshake(0xFFFF_FFFF, 0), id="unsigned"),
        pytest.param(b"\x00\x01\0\0\0\x02\0\0\0\x03", Handshake(None, None), id="longer than known"),
        (b"\x01", Audio(b"")),
        (b"\x01OggS\x00", Audio(b"OggS\x00")),
        (b"\x02 hello", Text(b" hello")),
        pytest.param(b"\x02\xe2\x82", Text(b"\xe2\x82"), id="cut inside a character"),
        (b"\x03bos", Control("bos")),
        (b"\x03eos", Control("eos")),
        (b"\x03\x00", Control("start")),
        (b"\x03\x01", Control("end of turn")),
        (b"\x03\x02", Control("pause")),
        (b"\x03\x03", Control("restart")),
        (b"\x03\x04", Control("unknown")),
        (b"\x03", Control("unknown")),
        (b"\x03EOS", Control("unknown")),
        (b"\x03eos\n", Control("unknown")),
        (b"\x05out of memory", ErrorMessage("out of memory")),
        pytest.param(b"\x05a\x1b[2Jb\nc\xff", ErrorMessage("a\ufffd[2Jb c\ufffd"), id="hostile error"),
        (b"\x06", Ping()),
        (b"\x06data", Ping()),
        (b"", Skipped("an empty message")),
        ("", Skipped("a message of type text")),
        ("\x00", Skipped("a message of type text")),
        (b"\x07", Skipped("unknown tag 0x07")),
        (b"\xffabc", Skipped("unknown tag 0xff")),
    ],
)
def test_what_a_message_means(message: bytes | str, expected: Message) -> None:
    assert parse(message) == expected


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (b'{"model": "x", "n": [1, null]}', {"model": "x", "n": [1, None]}),
        (b'"a"', "a"),
        (b"", ""),
        (b"{not json", "{not json"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        pytest.param(b"[" * 100_000, "[" * 100_000, id="nested too deep"),
        pytest.param(b"9" * 10_000, "9" * 10_000, id="a number too long"),
    ],
)
def test_metadata_is_json_or_the_text_as_it_came(payload: bytes, data: Any) -> None:
    assert parse(b"\x04" + payload) == MetadataMessage(data)


def test_every_unknown_tag_is_skipped_by_its_number() -> None:
    for tag in range(0x07, 0x100):
        assert parse(bytes((tag,)) + b"payload") == Skipped(f"unknown tag 0x{tag:02x}")


@EXPLORE
@given(st.binary() | st.text())
def test_parsing_never_raises(message: bytes | str) -> None:
    parse(message)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (pack_audio(b"OggS"), b"\x01OggS"),
        (pack_text("Grüß dich"), b"\x02Gr\xc3\xbc\xc3\x9f dich"),
        pytest.param(pack_text("a\udcffb"), b"\x02a?b", id="a byte of the command line that is no UTF-8"),
        (pack_text(""), b"\x02"),
        (pack_control(CONTROL_BOS), b"\x03bos"),
        (pack_control(CONTROL_EOS), b"\x03eos"),
    ],
)
def test_what_is_sent(packed: bytes, message: bytes) -> None:
    assert packed == message


@pytest.mark.parametrize("message", [Audio(b"OggS"), MetadataMessage({"session": "abc"})])
def test_bulk_and_unsafe_content_does_not_show_itself(message: Message) -> None:
    assert repr(message) in ("Audio()", "MetadataMessage()")
