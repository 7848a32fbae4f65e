"""Text from the server: token pieces → characters, and characters → characters that do no harm.

docs/protocol.md section 3: pieces are joined as they come; characters outside the vocabulary arrive as
byte-fallback pieces (`<0xE2>`), one byte at a time; a UTF-8 sequence can be split between two messages.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

_BLANK: Final = re.compile("[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]")
"""What would break or move a line. Each for itself, so that a text cut in two comes out as the whole does."""

_HARMFUL: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 and C1 controls: escape sequences begin with one of these
    "\u180e\u200b\ufeff"  # invisible
    "\u202a-\u202e\u2066-\u2069"  # bidirectional embeddings, overrides and isolates
    "\u2060-\u2065\u206a-\u206f\ufff9-\ufffb"  # invisible operators, deprecated format characters
    "\U000e0000-\U000e007f"  # tag characters: text that nobody sees
    "\ud800-\udfff"  # lone surrogates: cannot be written as UTF-8
    "]"
)

_REPLACEMENT: Final = "\ufffd"

_BYTE_PIECE: Final = re.compile("<0x([0-9A-Fa-f]{2})>")
_BYTE_PIECE_BEGUN: Final = re.compile(r"<(?:0(?:x[0-9A-Fa-f]{0,2})?)?\Z")


def safe_text(text: str) -> str:
    """`text` without anything a terminal would act on, as long as before: each line break and tab becomes a
    space, each other control, format-override or invisible character U+FFFD. Joiners (for emoji and scripts
    that need them) and direction marks stay. Rich markup is not touched: show the result as
    `rich.text.Text`."""
    return _HARMFUL.sub(_REPLACEMENT, _BLANK.sub(" ", text))


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with each secret that a server may have echoed replaced, also as `safe_text` and
    percent-encoding leave it.

    Secrets under 6 characters are left: a persona "Hi" would blank out half of what a server says."""
    for secret in secrets:
        if len(secret) < 6:
            continue
        for form in (secret, safe_text(secret), quote(secret), quote_plus(secret)):
            text = text.replace(form, "[hidden]")
    return text


class TranscriptDecoder:
    """Assembles the payloads of text messages, in order, into text that is safe to show.

    Not thread-safe. Never raises on input: what is no UTF-8 becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._byte_run = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # the beginning of what may become a byte-fallback piece

    def feed(self, payload: bytes) -> str:
        """The characters that `payload` completes; may be empty."""
        text = self._held + self._utf8.decode(payload)
        begun = _BYTE_PIECE_BEGUN.search(text)
        end = begun.start() if begun else len(text)
        self._held = text[end:]
        return safe_text(self._assemble(text[:end]))

    def flush(self) -> str:
        """What is still held back, at the end of the call."""
        text = self._held + self._utf8.decode(b"", final=True)
        self._held = ""
        return safe_text(self._assemble(text) + self._byte_run.decode(b"", final=True))

    def _assemble(self, text: str) -> str:
        parts = []
        at = 0
        for piece in _BYTE_PIECE.finditer(text):
            parts.append(self._literal(text[at : piece.start()]))
            parts.append(self._byte_run.decode(bytes.fromhex(piece[1])))
            at = piece.end()
        parts.append(self._literal(text[at:]))
        return "".join(parts)

    def _literal(self, text: str) -> str:
        """Text between byte pieces ends a run of them: a sequence left incomplete there stays broken."""
        return self._byte_run.decode(b"", final=True) + text if text else ""
