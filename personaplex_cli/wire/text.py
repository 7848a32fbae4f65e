"""Text from the server: token pieces → characters, and characters → characters that do no harm.

docs/protocol.md section 3: pieces are joined as they come; characters outside the vocabulary arrive as
byte-fallback pieces (`<0xE2>`), one byte at a time; a UTF-8 sequence can be split between two messages.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from typing import Any, Final
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

_HIDDEN: Final = "[hidden]"
_SHOWN_OF_SECRET_CHARS: Final = 16
"""The shortest part of a secret that is hidden; shorter ones may be there by chance."""

_MARKS: Final = "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_TOO_MANY_MARKS: Final = re.compile(f"(?<={_MARKS}{{8}}){_MARKS}")
"""No writing puts so many marks on one letter, and terminals choke on thousands."""

_BYTE_PIECE: Final = re.compile("<0x([0-9A-Fa-f]{2})>")
_BYTE_PIECE_BEGUN: Final = re.compile(r"<(?:0(?:x[0-9A-Fa-f]{0,2})?)?\Z")


def safe_text(text: str) -> str:
    """`text` without anything a terminal would act on, as long as before: each line break and tab becomes a
    space, each other control, format-override or invisible character U+FFFD. Joiners (for emoji and scripts
    that need them) and direction marks stay. Rich markup is not touched: show the result as
    `rich.text.Text`."""
    return _TOO_MANY_MARKS.sub(_REPLACEMENT, _HARMFUL.sub(_REPLACEMENT, _BLANK.sub(" ", text)))


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with what a server has echoed of a secret replaced: the whole, also as `safe_text`,
    percent-encoding, JSON or HTML leave it, and any part of at least 16 characters.

    Secrets under 6 characters are left: a persona "Hi" would blank out half of what a server says. Takes time
    in proportion to both lengths: for texts of some hundred characters.
    """
    import html  # not at the top: every command imports this module, and this is for the rare case
    import json

    for secret in secrets:
        if len(secret) < 6:
            continue
        plain = safe_text(secret)
        forms = {secret, plain, quote(secret), quote_plus(secret), html.escape(plain)}
        forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, _HIDDEN)
        for form in forms:
            text = _without_parts(text, form)
    return text


def redact_json(value: Any, secrets: Iterable[str], *, max_chars: int = 4_000) -> Any:
    """`value`, parsed from JSON, with the secrets in its texts and names replaced as `redact` does; None
    where its JSON is longer than `max_chars`, or too deep to look at."""
    import json

    try:
        text = json.dumps(value, ensure_ascii=False)
        return json.loads(redact(text, secrets)) if len(text) <= max_chars else None
    except (ValueError, RecursionError):  # what is left is no JSON any more
        return None


def _without_parts(text: str, secret: str) -> str:
    parts: list[str] = []
    at = 0
    while at < len(text):
        end = at + _SHOWN_OF_SECRET_CHARS
        if end > len(text) or text[at:end] not in secret:
            parts.append(text[at])
            at += 1
            continue
        while end < len(text) and text[at : end + 1] in secret:
            end += 1
        parts.append(_HIDDEN)
        at = end
    return "".join(parts)


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
