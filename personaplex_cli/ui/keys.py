"""Bytes from a terminal → keys. Pure: how long to wait for the rest of a sequence is said, not measured.

Follows ECMA-48 (control sequences) and xterm's "Control Sequences" (keys, bracketed paste). Whatever else a
terminal sends, such as mouse reports and answers to questions, is recognised by its shape and swallowed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from personaplex_cli.wire.text import safe_text

PASTE_ON: Final = "\x1b[?2004h"
PASTE_OFF: Final = "\x1b[?2004l"

MAX_PASTE_CHARS: Final = 10_000

ESCAPE_WAIT_S: Final = 0.05
"""A terminal sends a sequence at once, and even over a network it is rarely torn right behind its ESC; more
than this would be felt as a slow Escape key."""

SEQUENCE_WAIT_S: Final = 0.5
"""Nobody waits for a sequence that has clearly begun, so a slow network gets its time. Not more, because
Alt-] looks like the beginning of an answer, and what is typed behind it is swallowed."""

PASTE_WAIT_S: Final = 2.0
"""A paste whose end never comes (a terminal that died) is over after so long a silence. There is no size at
which it is: the rest of a big one would be taken for typing."""

_PASTE_END: Final = b"\x1b[201~"
_MAX_PASTE_BYTES: Final = 4 * MAX_PASTE_CHARS
_MAX_SEQUENCE_BYTES: Final = 32
"""Longer than any key's; of a longer one the beginning is kept, which is no key."""

_ESC: Final = 0x1B
_BEL: Final = 0x07
_REPLACEMENT: Final = "\ufffd"


class Key(StrEnum):
    """A key that is no character."""

    UP = "up"
    DOWN = "down"
    LEFT = "left"
    RIGHT = "right"
    HOME = "home"
    END = "end"
    DELETE = "delete"
    BACKSPACE = "backspace"
    ENTER = "enter"
    ESCAPE = "escape"
    TAB = "tab"
    CTRL_A = "ctrl-a"
    CTRL_E = "ctrl-e"
    CTRL_K = "ctrl-k"
    CTRL_U = "ctrl-u"
    CTRL_W = "ctrl-w"


@dataclass(frozen=True, slots=True)
class Char:
    """One character (code point) that `safe_text` leaves as it is; may be a combining mark or a joiner."""

    text: str


@dataclass(frozen=True, slots=True)
class Paste:
    """A bracketed paste, at most `MAX_PASTE_CHARS` characters. Each line break is "\\n", each tab a space;
    other controls and what `safe_text` would not let through are left out. `cut`: there was more."""

    text: str
    cut: bool = False


Pressed = Key | Char | Paste

_CONTROLS: Final = {
    "\x01": Key.CTRL_A,
    "\x05": Key.CTRL_E,
    "\x08": Key.BACKSPACE,
    "\t": Key.TAB,
    "\n": Key.ENTER,
    "\x0b": Key.CTRL_K,
    "\r": Key.ENTER,
    "\x15": Key.CTRL_U,
    "\x17": Key.CTRL_W,
    "\x1b": Key.ESCAPE,
    "\x7f": Key.BACKSPACE,
}
_FINALS: Final = {
    "A": Key.UP,
    "B": Key.DOWN,
    "C": Key.RIGHT,
    "D": Key.LEFT,
    "H": Key.HOME,
    "F": Key.END,
}
_NUMBERS: Final = {"1": Key.HOME, "3": Key.DELETE, "4": Key.END, "7": Key.HOME, "8": Key.END}

# A sequence without its ESC. The number behind the semicolon, or alone in old terminals, is the modifier.
_ARROW: Final = re.compile(rb"\[(?:1(?:;\d+)?)?([A-DFH])|O\d?([A-DFH])")
_NUMBERED: Final = re.compile(rb"\[(\d+)(?:;\d+)?~")

_BYTES_BEHIND: Final = {b"[M": 3, b"[[": 1}
"""Sequences that go on behind their final byte: mouse reports of the oldest kind; function keys on Linux's
console."""


def key_for(char: str) -> Key | Char | None:
    """What a character that a terminal sends, in no sequence, stands for; None: nothing."""
    if char in _CONTROLS:
        return _CONTROLS[char]
    return Char(char) if safe_text(char) == char else None


class KeyDecoder:
    """What a terminal sends, in pieces torn anywhere, → keys. Not thread-safe; keeps at most 40 kB."""

    def __init__(self) -> None:
        self._take: Callable[[int], list[Pressed]] = self._take_plain
        self._utf8 = codecs.getincrementaldecoder("utf-8")("ignore")
        self._alt = False  # the character that is coming was pressed with Alt
        self._sequence = bytearray()
        self._to_skip = 0
        self._paste: _PasteBuffer | None = None

    @property
    def waiting(self) -> bool:
        """More is to come: when nothing does for `wait_s`, `timeout` is to be called."""
        return self._paste is not None or self._take != self._take_plain

    @property
    def wait_s(self) -> float:
        """How long to wait for more while `waiting`."""
        if self._paste is not None:
            return PASTE_WAIT_S
        return ESCAPE_WAIT_S if self._take == self._take_escape else SEQUENCE_WAIT_S

    def feed(self, data: bytes) -> list[Pressed]:
        """The keys that `data` completes. Never raises on input: what is no UTF-8 is left out."""
        keys: list[Pressed] = []
        at = 0
        while at < len(data):
            if self._paste is None:
                keys += self._take(data[at])
                at += 1
            elif (rest := self._paste.take(data[at:])) is None:
                break
            else:
                keys += self._end_paste()
                at = len(data) - len(rest)
        return keys

    def timeout(self) -> list[Pressed]:
        """What is pending stands for, now that nothing follows: a lone ESC is the key, a paste is over, part
        of a sequence is nothing."""
        if self._paste is not None:
            return self._end_paste()
        keys: list[Pressed] = [Key.ESCAPE] if self._take == self._take_escape else []
        self._take = self._take_plain
        return keys

    def _take_plain(self, byte: int) -> list[Pressed]:
        if byte == _ESC:
            self._take = self._take_escape
        if byte < 0x80:
            self._utf8.reset()
            self._alt = False
            text = "" if byte == _ESC else chr(byte)
        else:
            text = self._utf8.decode(bytes([byte]))
        if not text or self._alt:
            self._alt = self._alt and not text
            return []
        key = key_for(text)
        return [] if key is None else [key]

    def _take_escape(self, byte: int) -> list[Pressed]:
        if byte in b"[O":
            self._sequence[:] = bytes([byte])
            self._take = self._take_sequence
        elif byte in b"]PX^_":  # OSC, DCS, SOS, PM, APC: a text follows
            self._take = self._take_answer
        elif byte != _ESC:  # of several ESC (Alt with an arrow; the key held down) one counts
            # Alt with a character is no key of ours. The end of an answer (ESC \) looks the same.
            self._take = self._take_plain
            self._alt = byte >= 0x80
            if self._alt:
                return self._take_plain(byte)
        return []

    def _take_sequence(self, byte: int) -> list[Pressed]:
        if not 0x20 <= byte < 0x7F:  # broken off
            self._take = self._take_plain
            return self._take_plain(byte)
        if len(self._sequence) < _MAX_SEQUENCE_BYTES:
            self._sequence.append(byte)
        return [] if byte < 0x40 else self._end_sequence(bytes(self._sequence))

    def _end_sequence(self, sequence: bytes) -> list[Pressed]:
        self._take = self._take_plain
        if behind := _BYTES_BEHIND.get(sequence):
            self._to_skip = behind
            self._take = self._skip
        elif arrow := _ARROW.fullmatch(sequence):
            return [_FINALS[(arrow[1] or arrow[2]).decode()]]
        elif numbered := _NUMBERED.fullmatch(sequence):
            number = numbered[1].decode()
            if number == "200":
                self._paste = _PasteBuffer()
            return [_NUMBERS[number]] if number in _NUMBERS else []
        return []

    def _take_answer(self, byte: int) -> list[Pressed]:
        if byte == _BEL:
            self._take = self._take_plain
        elif byte == _ESC:
            self._take = self._take_escape
        return []

    def _skip(self, byte: int) -> list[Pressed]:
        self._to_skip -= 1
        if self._to_skip == 0:
            self._take = self._take_plain
        return []

    def _end_paste(self) -> list[Pressed]:
        paste, self._paste = self._paste, None
        return [] if paste is None else [paste.result()]


class _PasteBuffer:
    """What is between the marks of a paste."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._tail = b""  # may be the beginning of the mark at the end
        self._cut = False

    def take(self, data: bytes) -> bytes | None:
        """What follows the end of the paste; None if that is not in `data`."""
        data = self._tail + data
        text, end, rest = data.partition(_PASTE_END)
        if not end:
            held = len(_PASTE_END) - 1
            text, self._tail = data[:-held], data[-held:]
        else:
            self._tail = b""
        room = _MAX_PASTE_BYTES - len(self._kept)
        self._kept += text[:room]
        self._cut = self._cut or len(text) > room
        return rest if end else None

    def result(self) -> Paste:
        text = bytes(self._kept + self._tail).decode("utf-8", "ignore")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        text = "\n".join(safe_text(line).replace(_REPLACEMENT, "") for line in lines)
        return Paste(text[:MAX_PASTE_CHARS], self._cut or len(text) > MAX_PASTE_CHARS)
