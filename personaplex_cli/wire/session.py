"""The client's side of one call as a state machine: messages in, messages out, time as an argument.

The caller owns socket and clock. It passes every received message to `receive`, sends what the `pack`
methods return in that order, asks `overdue` now and then, and turns the socket's end into words with
`explain_close`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from personaplex_cli.errors import (
    ConnectError,
    CredentialsError,
    PersonaplexError,
    ServerError,
)
from personaplex_cli.events import EndReason
from personaplex_cli.wire.messages import (
    CONTROL_BOS,
    CONTROL_EOS,
    ErrorMessage,
    Handshake,
    Message,
    MetadataMessage,
    Skipped,
    pack_audio,
    pack_control,
    pack_text,
    parse,
)
from personaplex_cli.wire.text import redact, redact_json, safe_text

DEAD_AFTER_S: Final = 10.0
"""A server answers each 80 ms of audio with 80 ms of its own; so much quiet means it is gone.
The upstream web client uses the same 10 s (docs/protocol.md section 2)."""

SESSION_S: Final = 360.0
"""moshi's Rust server drops a session after 4,500 steps, without a closing message: a normal end."""

SESSION_TOLERANCE_S: Final = 10.0

MAX_WORDS_CHARS: Final = 300
"""Of an error message: more than this explains nothing."""

EARLY_CLOSE_S: Final = 2.0
"""A close with code 1000 so soon after our first audio means that the server did not accept it."""

CLOSE_MEANINGS: Final = {
    1000: "normal closure",
    1001: "the server is going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no code given",
    1006: "no closing message",
    1007: "invalid data",
    1008: "policy violation",
    1009: "message too big",
    1010: "missing extension",
    1011: "internal error",
    1012: "the server restarts",
    1013: "try again later",
    1014: "bad gateway",
    1015: "TLS failure",
    3000: "unauthorized",
    3003: "forbidden",
}
"""RFC 6455 section 7.4.1 and IANA's registry of close codes."""

_CREDENTIAL_CODES: Final = {3000, 3003, 4001, 4003, 4401, 4403}
"""Codes that servers use for a token they no longer accept (the 4xxx ones after HTTP's 401 and 403)."""


class Order(Exception):
    """A message was asked for that the protocol does not allow at this point: a bug in the caller."""


@dataclass(frozen=True, slots=True)
class CloseStory:
    """Why the server's end of the connection went away."""

    reason: EndReason
    detail: str
    error: PersonaplexError | None


class Session:
    """One connection, from the upgrade to its close. Not thread-safe; times in seconds of one clock."""

    def __init__(self, *, handshake_timeout_s: float = 60.0, secrets: tuple[str, ...] = ()) -> None:
        self._handshake_timeout_s = handshake_timeout_s
        self._secrets = secrets
        self._opened_s = self._heard_s = 0.0
        self._first_audio_s: float | None = None
        self._finished = False
        self._live_s = 0.0
        self.live = False
        self.received = 0
        self.skipped = 0

    def opened(self, now_s: float) -> None:
        """The upgrade is done."""
        self._opened_s = self._heard_s = now_s

    def resumed(self, now_s: float) -> None:
        """We ourselves were stopped: only from now on does the server's silence count."""
        self._heard_s = now_s

    def receive(self, message: bytes | str, now_s: float) -> Message:
        """What the message means. The handshake makes the session live; a second one is skipped."""
        self._heard_s = now_s
        self.received += 1
        parsed = parse(message)
        if isinstance(parsed, Handshake):
            if self.live:
                parsed = Skipped("a second handshake")
            else:
                self.live = True
                self._live_s = now_s
        elif isinstance(parsed, ErrorMessage):
            words = redact(parsed.text[: 2 * MAX_WORDS_CHARS], self._secrets)
            parsed = ErrorMessage(words[:MAX_WORDS_CHARS])
        elif isinstance(parsed, MetadataMessage):
            parsed = MetadataMessage(redact_json(parsed.data, self._secrets))
        if isinstance(parsed, Skipped):
            self.skipped += 1
        return parsed

    def pack_audio(self, pages: bytes, now_s: float) -> bytes:
        """Raises Order before the handshake (the server would close) and after `pack_finish`."""
        self._check_live("audio")
        if self._first_audio_s is None:
            self._first_audio_s = now_s
        return pack_audio(pages)

    def pack_text(self, text: str) -> bytes:
        self._check_live("text")
        return pack_text(text)

    def pack_bos_marker(self) -> bytes:
        self._check_live("bos")
        return pack_control(CONTROL_BOS)

    def pack_finish(self, last_pages: bytes) -> list[bytes]:
        """The end of our stream: the page with the EOS flag, then control `eos`."""
        self._check_live("the end of audio")
        self._finished = True
        return [pack_audio(last_pages), pack_control(CONTROL_EOS)]

    def overdue(self, now_s: float) -> ConnectError | None:
        """The error if the server has been silent for longer than it may be."""
        if not self.live:
            if now_s - self._opened_s < self._handshake_timeout_s:
                return None
            return ConnectError(
                f"The model was not ready after {self._handshake_timeout_s:g} s.",
                "It may be busy with another session: try again, or wait longer with --handshake-timeout.",
            )
        if self._first_audio_s is None or now_s - max(self._heard_s, self._first_audio_s) < DEAD_AFTER_S:
            return None
        return ConnectError(f"The server has not answered for {DEAD_AFTER_S:g} s: the connection is dead.")

    def explain_close(self, code: int, reason: str, now_s: float) -> CloseStory:
        """What it means that the connection ended with this close code (1006 when there was none)."""
        meaning = CLOSE_MEANINGS.get(code, "private code" if code >= 4000 else "unknown code")
        detail = f"code {code}, {meaning}"
        if words := redact(safe_text(reason), self._secrets).strip():
            detail += f": {words}"
        if code in _CREDENTIAL_CODES:
            error: PersonaplexError = CredentialsError(
                f"The server no longer accepts the token ({detail}).", "Get a new one and call again."
            )
            return CloseStory(EndReason.SERVER_CLOSED, detail, error)
        if not self.live:
            return CloseStory(EndReason.NEVER_LIVE, detail, _closed_before_live(code, detail))
        if code == 1006 and not self._over_by_itself(now_s):
            return CloseStory(EndReason.CONNECTION_LOST, detail, ConnectError("The connection was lost."))
        if code not in (1000, 1001, 1005, 1006):
            return CloseStory(EndReason.SERVER_CLOSED, detail, ServerError(f"The server closed ({detail})."))
        if self._first_audio_s is None or now_s - self._first_audio_s < EARLY_CLOSE_S:
            error = ServerError(
                f"The server closed the call right after our first audio ({detail}).",
                "Servers do that when audio comes before the handshake or without a valid first page: "
                "is this the right --dialect and address?",
            )
            return CloseStory(EndReason.SERVER_CLOSED, detail, error)
        return CloseStory(EndReason.SERVER_CLOSED, detail, None)

    def _over_by_itself(self, now_s: float) -> bool:
        """Whether the session is as old as moshi's Rust server lets them become."""
        return abs(now_s - self._live_s - SESSION_S) < SESSION_TOLERANCE_S

    def _check_live(self, what: str) -> None:
        if not self.live:
            raise Order(f"{what} before the handshake")
        if self._finished:
            raise Order(f"{what} after the end of our stream")


def _closed_before_live(code: int, detail: str) -> PersonaplexError:
    if code == 1006:
        return ConnectError(
            "The server dropped the connection before the model was ready.",
            "A self-hosted server does that when it does not know the voice or cannot read the persona.",
        )
    return ServerError(f"The server closed before the model was ready ({detail}).")
