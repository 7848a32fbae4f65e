"""The client's side of a call as a state machine; time goes in as an argument."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from personaplex_cli.errors import ConnectError, CredentialsError, ExitCode, PersonaplexError, ServerError
from personaplex_cli.events import EndReason
from personaplex_cli.wire.messages import (
    Audio,
    ErrorMessage,
    Handshake,
    Message,
    MetadataMessage,
    Ping,
    Skipped,
    Text,
)
from personaplex_cli.wire.session import CLOSE_MEANINGS, Order, Session

TOKEN = "eyJhbGciOi.eyJzdWIi"
OPENED_S = 100.0
LIVE_S = 103.0
AUDIO_S = 104.0


def waiting() -> Session:
    session = Session(secrets=(TOKEN,))
    session.opened(OPENED_S)
    return session


def live() -> Session:
    session = waiting()
    session.receive(b"\x00", LIVE_S)
    return session


def talking() -> Session:
    session = live()
    session.pack_audio(b"OggS", AUDIO_S)
    return session


def finished() -> Session:
    session = talking()
    session.pack_finish(b"OggS")
    return session


def test_metadata_shows_no_secret() -> None:
    received = live().receive(b'\x04{"token": "' + TOKEN.encode() + b'", "model": "m"}', AUDIO_S)
    assert received == MetadataMessage({"token": "[hidden]", "model": "m"})


SENDS: list[Callable[[Session], object]] = [
    lambda session: session.pack_audio(b"OggS", AUDIO_S),
    lambda session: session.pack_text("hello"),
    lambda session: session.pack_bos_marker(),
    lambda session: session.pack_finish(b"OggS"),
]


@pytest.mark.parametrize("send", SENDS)
@pytest.mark.parametrize(
    ("state", "words"), [(Session, "before the handshake"), (waiting, "before"), (finished, "after the end")]
)
def test_nothing_goes_out_before_the_handshake_or_after_the_end(
    state: Callable[[], Session], words: str, send: Callable[[Session], object]
) -> None:
    with pytest.raises(Order, match=words):
        send(state())


def test_what_goes_out_in_a_call() -> None:
    session = live()
    assert session.pack_bos_marker() == b"\x03bos"
    assert session.pack_audio(b"OggS1", AUDIO_S) == b"\x01OggS1"
    assert session.pack_text("hi") == b"\x02hi"
    assert session.pack_finish(b"OggS2") == [b"\x01OggS2", b"\x03eos"]


def test_the_handshake_makes_it_live() -> None:
    session = waiting()
    assert not session.live
    assert session.receive(b"\x00\x01\0\0\0\x02\0\0\0", LIVE_S) == Handshake(1, 2)
    assert session.live


def test_other_messages_do_not() -> None:
    session = waiting()
    for message in (b"\x01OggS", b"\x02text", b"\x06", b"\x03bos", "\x00", b""):
        session.receive(message, LIVE_S)
    assert not session.live


def test_messages_are_counted_and_a_second_handshake_is_skipped() -> None:
    session = waiting()
    messages: list[tuple[bytes | str, Message]] = [
        (b"\x01early", Audio(b"early")),
        (b"\x00", Handshake(None, None)),
        (b"\x00", Skipped("a second handshake")),
        (b"\x06", Ping()),
        (b"\x02a", Text(b"a")),
        (b"\x99", Skipped("unknown tag 0x99")),
        (b"", Skipped("an empty message")),
        ("text", Skipped("a message of type text")),
    ]
    for message, expected in messages:
        assert session.receive(message, LIVE_S) == expected
    assert session.live
    assert (session.received, session.skipped) == (8, 4)


def test_an_echoed_token_is_hidden_in_an_error_message() -> None:
    said = live().receive(b"\x05bad token " + TOKEN.encode() + b"\x1b[m", LIVE_S)
    assert said == ErrorMessage("bad token [hidden]\ufffd[m")


# --- overdue


@pytest.mark.parametrize(
    ("timeout_s", "after_s", "overdue"),
    [(60.0, 0.0, False), (60.0, 59.9, False), (60.0, 60.0, True), (60.0, 1e6, True), (1.5, 1.5, True)],
)
def test_the_handshake_has_its_time(timeout_s: float, after_s: float, overdue: bool) -> None:
    session = Session(handshake_timeout_s=timeout_s)
    session.opened(OPENED_S)
    session.receive(b"\x06", OPENED_S + after_s)  # a ping is no handshake
    error = session.overdue(OPENED_S + after_s)
    assert (error is not None) == overdue
    if error:
        assert str(error) == f"The model was not ready after {timeout_s:g} s."
        assert error.hint and error.exit_code == ExitCode.CONNECTION


def test_once_live_there_is_no_hurry_before_audio_was_sent() -> None:
    assert live().overdue(LIVE_S + 3600) is None


@pytest.mark.parametrize(
    ("heard_s", "now_s", "dead"),
    [
        pytest.param(None, AUDIO_S + 9.99, False, id="since our first audio"),
        pytest.param(None, AUDIO_S + 10, True, id="since our first audio, over"),
        pytest.param(AUDIO_S + 5, AUDIO_S + 14.99, False, id="since the last message"),
        pytest.param(AUDIO_S + 5, AUDIO_S + 15, True, id="since the last message, over"),
    ],
)
def test_ten_seconds_of_silence_are_a_dead_connection(
    heard_s: float | None, now_s: float, dead: bool
) -> None:
    session = talking()
    if heard_s is not None:
        session.receive(b"\x01", heard_s)
    error = session.overdue(now_s)
    assert (error is not None) == dead
    if error:
        assert "10 s" in str(error) and error.exit_code == ExitCode.CONNECTION


def test_more_audio_of_ours_does_not_put_it_off() -> None:
    session = talking()
    session.pack_audio(b"OggS", AUDIO_S + 9)
    assert session.overdue(AUDIO_S + 10) is not None


# --- the end

CREDENTIALS_CODES = [3000, 3003, 4001, 4003, 4401, 4403]
LONG_AFTER_S = AUDIO_S + 2.0
SOON_AFTER_S = AUDIO_S + 1.99


@pytest.mark.parametrize(
    ("state", "code", "now_s", "reason", "error"),
    [
        *[(waiting, code, LIVE_S, EndReason.SERVER_CLOSED, CredentialsError) for code in CREDENTIALS_CODES],
        *[
            (talking, code, LONG_AFTER_S, EndReason.SERVER_CLOSED, CredentialsError)
            for code in CREDENTIALS_CODES
        ],
        (waiting, 1006, LIVE_S, EndReason.NEVER_LIVE, ConnectError),
        *[
            (waiting, code, LIVE_S, EndReason.NEVER_LIVE, ServerError)
            for code in (1000, 1001, 1008, 1011, 1013, 4000)
        ],
        (live, 1006, LIVE_S, EndReason.CONNECTION_LOST, ConnectError),
        (talking, 1006, LONG_AFTER_S, EndReason.CONNECTION_LOST, ConnectError),
        *[
            (talking, code, LONG_AFTER_S, EndReason.SERVER_CLOSED, ServerError)
            for code in (1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014, 1015, 3001, 4000, 4999)
        ],
        (live, 1000, LIVE_S, EndReason.SERVER_CLOSED, ServerError),
        (talking, 1000, AUDIO_S, EndReason.SERVER_CLOSED, ServerError),
        (talking, 1000, SOON_AFTER_S, EndReason.SERVER_CLOSED, ServerError),
        (talking, 1000, LONG_AFTER_S, EndReason.SERVER_CLOSED, None),
        (talking, 1001, LONG_AFTER_S, EndReason.SERVER_CLOSED, None),
    ],
)
def test_why_the_connection_ended(
    state: Callable[[], Session],
    code: int,
    now_s: float,
    reason: EndReason,
    error: type[PersonaplexError] | None,
) -> None:
    story = state().explain_close(code, "", now_s)
    assert story.reason is reason
    assert story.detail.startswith(f"code {code}, ")
    assert type(story.error) is (error or type(None))


@pytest.mark.parametrize(("error", "exit_code"), [(ConnectError, 4), (ServerError, 5), (CredentialsError, 3)])
def test_exit_codes(error: type[PersonaplexError], exit_code: int) -> None:
    assert error.exit_code == exit_code


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        *[(code, f"code {code}, {meaning}") for code, meaning in CLOSE_MEANINGS.items()],
        (1011, "code 1011, internal error"),
        (1005, "code 1005, no code given"),
        (2999, "code 2999, unknown code"),
        (4000, "code 4000, private code"),
    ],
)
def test_codes_are_put_into_words(code: int, detail: str) -> None:
    assert talking().explain_close(code, "", LONG_AFTER_S).detail == detail


def test_an_early_close_suspects_our_first_audio() -> None:
    error = talking().explain_close(1000, "", SOON_AFTER_S).error
    assert error and "right after our first audio" in str(error)
    assert error.hint and "--dialect" in error.hint


def test_a_drop_before_the_handshake_suspects_voice_and_persona() -> None:
    error = waiting().explain_close(1006, "", LIVE_S).error
    assert error and error.hint and "voice" in error.hint and "persona" in error.hint


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("", ""),
        ("  \n ", ""),
        ("session over", ": session over"),
        ("a\x1b]0;title\x07\r\nb\u202e", ": a\ufffd]0;title\ufffd  b\ufffd"),
        (f"token {TOKEN} expired", ": token [hidden] expired"),
    ],
)
def test_the_server_s_reason_is_cleaned(reason: str, words: str) -> None:
    for state, code in product([waiting, talking], [1000, 1006, 1011, 4001]):
        story = state().explain_close(code, reason, LONG_AFTER_S)
        assert story.detail == f"code {code}, {CLOSE_MEANINGS.get(code, 'private code')}{words}"
        shown = f"{story}{story.error}{story.error and story.error.hint}"
        assert TOKEN not in shown
        assert "\x1b" not in shown and "\u202e" not in shown
