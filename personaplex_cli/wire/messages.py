"""One WebSocket message: a tag byte and a payload (docs/protocol.md section 3)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from personaplex_cli.wire.text import safe_text


class Tag(IntEnum):
    HANDSHAKE = 0x00
    AUDIO = 0x01
    TEXT = 0x02
    CONTROL = 0x03
    METADATA = 0x04
    ERROR = 0x05
    PING = 0x06


CONTROL_BOS: Final = b"bos"
CONTROL_EOS: Final = b"eos"

_CONTROL_NAMES: Final = {
    CONTROL_BOS: "bos",
    CONTROL_EOS: "eos",
    # The one-byte codes of moshi's rust/protocol.md (kyutai-labs/moshi).
    b"\x00": "start",
    b"\x01": "end of turn",
    b"\x02": "pause",
    b"\x03": "restart",
}


@dataclass(frozen=True, slots=True)
class Handshake:
    """The model is ready. Versions are None in the short form (docs/protocol.md section 3)."""

    protocol_version: int | None
    model_version: int | None


@dataclass(frozen=True, slots=True)
class Audio:
    payload: bytes = field(repr=False)
    """Part of an Ogg/Opus stream, cut anywhere."""


@dataclass(frozen=True, slots=True)
class Text:
    payload: bytes
    """Token pieces in UTF-8, possibly cut inside a character: feed to `TranscriptDecoder`."""


@dataclass(frozen=True, slots=True)
class Control:
    name: str
    """One of "bos", "eos", "start", "end of turn", "pause", "restart", or "unknown"."""


@dataclass(frozen=True, slots=True)
class MetadataMessage:
    data: Any = field(repr=False)
    """Parsed JSON, or the text as it came when it is none."""


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    text: str
    """Safe to show."""


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class Skipped:
    why: str


Message = Handshake | Audio | Text | Control | MetadataMessage | ErrorMessage | Ping | Skipped


def parse(message: bytes | str) -> Message:
    """What a received WebSocket message means. Never raises: what is not understood is `Skipped`."""
    if isinstance(message, str):
        return Skipped("a message of type text")
    if not message:
        return Skipped("an empty message")
    payload = message[1:]
    match message[0]:
        case Tag.HANDSHAKE:
            return _handshake(payload)
        case Tag.AUDIO:
            return Audio(payload)
        case Tag.TEXT:
            return Text(payload)
        case Tag.CONTROL:
            return Control(_CONTROL_NAMES.get(payload, "unknown"))
        case Tag.METADATA:
            return MetadataMessage(_json_or_text(payload))
        case Tag.ERROR:
            return ErrorMessage(safe_text(payload.decode("utf-8", "replace")))
        case Tag.PING:
            return Ping()
        case tag:
            return Skipped(f"unknown tag 0x{tag:02x}")


def pack_audio(page: bytes) -> bytes:
    return bytes((Tag.AUDIO,)) + page


def pack_text(text: str) -> bytes:
    return bytes((Tag.TEXT,)) + text.encode("utf-8", "replace")


def pack_control(word: bytes) -> bytes:
    return bytes((Tag.CONTROL,)) + word


def _handshake(payload: bytes) -> Handshake:
    if len(payload) != 8:  # empty (moshi Python), one byte (moshi web client), or something newer
        return Handshake(None, None)
    return Handshake(int.from_bytes(payload[:4], "little"), int.from_bytes(payload[4:], "little"))


def _json_or_text(payload: bytes) -> Any:
    text = payload.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
