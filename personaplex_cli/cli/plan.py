"""From the options of `personaplex talk` to a call in all its parts, checked before anything is connected."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from personaplex_cli.catalog import resolve_region, resolve_voice
from personaplex_cli.cli.output import print_note, print_warning
from personaplex_cli.cli.talk_options import AuthMode, TalkOptions
from personaplex_cli.codec.library import load as load_codec
from personaplex_cli.echo_options import EchoCancel, EchoOptions
from personaplex_cli.ends import NOTHING, PIPE, Sink, Source, is_nothing, open_sink, open_source
from personaplex_cli.errors import CredentialsError, UsageError
from personaplex_cli.events import Written
from personaplex_cli.limits import Limits
from personaplex_cli.wire.endpoint import (
    PERSONA_ADVICE_CHARS,
    Dialect,
    Endpoint,
    TokenIn,
    build_endpoint,
    polargrid_server,
)

if TYPE_CHECKING:
    import ssl

    from personaplex_cli.echo import Echo

PERSONA_FILE_LIMIT_BYTES: Final = 65_536
"""Far above what fits into an address; keeps us from reading a film."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a conversation consists of, apart from its ends."""

    voice: str
    persona: str | None = field(repr=False)
    limits: Limits
    tls: ssl.SSLContext | None


class Ends:
    """Where the audio comes from and goes to. Whoever has them closes them, also when `open` has failed or is
    still under way: a file to write to is begun before a microphone that does not answer."""

    source: Source
    sink: Sink

    def __init__(self) -> None:
        self._opened: list[Source | Sink] = []

    def open(self, options: TalkOptions) -> None:
        """Takes a quarter of a second with sound devices. Any thread. Raises UsageError, AudioError."""
        output = _output(options)
        echo = _echo(options, output)
        self.sink = open_sink(output, options.output_device, options.max_buffer_ms, echo)
        self._opened.append(self.sink)
        self.source = open_source(options.input, options.input_device, options.input_channel, echo)
        self._opened.append(self.source)

    def close(self) -> list[Written]:
        """What was written, now that it is complete. Any thread; may be called again. Raises UsageError."""
        for end in reversed(self._opened):
            end.close()
        written = self.sink.written if self._opened else None
        return [written] if written else []


def make_plan(options: TalkOptions) -> Plan:
    """Prints notes. Raises UsageError."""
    _check_combination(options)
    load_codec()
    voice = resolve_voice(options.voice)
    persona = _persona(options.persona)
    for note in (voice.note, _region_note(options), _persona_note(persona)):
        if note:
            print_note(note)
    if options.insecure:
        print_warning(
            "the server's certificate is not checked (--insecure): anyone may listen, and take key and token."
        )
    limits = Limits(
        handshake_s=_seconds("--handshake-timeout", options.handshake_timeout_s) or math.inf,
        max_duration_s=_seconds("--max-duration", options.max_duration_s),
        idle_s=_seconds("--idle-timeout", options.idle_timeout_s),
        tail_s=_seconds("--tail", options.tail_s) or 0.0,
    )
    # An address that cannot be used, or a persona that does not fit, is found without a token.
    tls = _tls(options, make_endpoint(options, voice.value.name, persona, None))
    return Plan(voice.value.name, persona, limits, tls)


def _echo(options: TalkOptions, output: str | None) -> Echo:
    """Only a microphone hears a speaker. Raises AudioError, MissingLibraryError."""
    from personaplex_cli.echo import Echo, open_echo

    if options.input is not None or is_nothing(options.input_device):
        return Echo()
    if output is not None or is_nothing(options.output_device):
        return open_echo(options.echo, None)
    from personaplex_cli.devices.listing import find_device

    return open_echo(options.echo, find_device(options.output_device, "output").name)


def make_endpoint(options: TalkOptions, voice: str, persona: str | None, token: str | None) -> Endpoint:
    """Where to call, unless the stand-in is called. Raises UsageError."""
    return build_endpoint(
        options.dialect,
        _server(options),
        voice=voice,
        persona=persona,
        token=token,
        token_in=options.token_in,
    )


def _server(options: TalkOptions) -> str:
    """An empty --server, of a variable that is not set, must not mean the service that is paid for."""
    if options.server is not None:
        return options.server
    return polargrid_server(resolve_region(options.region).value.name)


def find_credentials(options: TalkOptions) -> str | None:
    """The token or key to show to the server; None for a server of one's own that wants none.

    May block for some seconds, on the exchange. Prints a note. Raises PersonaplexError.
    """
    from personaplex_cli.tokens import is_header_token, validate_token

    if options.token is not None:
        return validate_token(_token_text(options.token)).value
    if options.dialect is Dialect.MOSHI:
        return None
    from personaplex_cli.auth import AUTH_URL, get_token
    from personaplex_cli.config import api_key, load_config

    config = load_config()
    if config.note:
        print_note(config.note)
    key = api_key(config)
    if options.auth is AuthMode.KEY:
        if options.token_in is TokenIn.HEADER and not is_header_token(key):
            message = "The API key has characters that cannot go into this header."
            raise CredentialsError(message, "Send it in the query: --token-in query")
        return key
    if options.server is not None and options.auth_url is None:
        # What is said of the certificate of a server of one's own does not hold for PolarGrid's exchange.
        return get_token(key, AUTH_URL).value
    url = options.auth_url or AUTH_URL
    return get_token(key, url, ca_file=options.ca_file, insecure=options.insecure).value


def keeps_token(options: TalkOptions) -> bool:
    """Whether the token of this conversation may have come from the cache."""
    exchanged = options.token is None and options.auth is AuthMode.JWT
    return exchanged and not options.local and options.dialect is Dialect.POLARGRID


def _token_text(token: str) -> str:
    if token != PIPE:
        return token
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("Standard input is closed.", "--token - reads the token from a pipe.")
    return sys.stdin.readline()


def _tls(options: TalkOptions, endpoint: Endpoint) -> ssl.SSLContext | None:
    """Loading all certificates takes a tenth of a second: only where they are needed."""
    if options.ca_file is None and (options.local or not endpoint.tls):
        return None
    from personaplex_cli.tls import tls_context

    return tls_context(options.ca_file, options.insecure)


def _check_combination(options: TalkOptions) -> None:
    if options.local and (options.server is not None or options.token is not None):
        raise UsageError("--local goes without --server and --token.", "The stand-in needs neither.")
    if _same_file(options.input, options.output):
        raise UsageError("The output would replace the input.", "Give --output another name.")
    if options.token == PIPE and options.input == PIPE:
        raise UsageError("The token and the voice cannot both come from standard input.")
    _check_echo(options.echo, has_microphone=options.input is None)
    if options.dialect is Dialect.MOSHI and options.server is None and not options.local:
        raise UsageError("--dialect moshi needs --server.", "Like --server ws://localhost:8998.")


def _check_echo(echo: EchoOptions, *, has_microphone: bool) -> None:
    if echo.half_duplex and (echo.processes or echo.cancel is EchoCancel.ON):
        raise UsageError("--half-duplex goes without processing of the microphone.", "Choose one of the two.")
    if not has_microphone and (echo.half_duplex or echo.processes or echo.cancel is EchoCancel.ON):
        raise UsageError("There is no microphone to process: the voice comes from --input.")


def _same_file(one: str | None, other: str | None) -> bool:
    try:
        return one is not None and other is not None and os.path.samefile(one, other)
    except (OSError, ValueError):  # one is not there, or is not a file's name
        return False


def _region_note(options: TalkOptions) -> str | None:
    return None if options.local or options.server is not None else resolve_region(options.region).note


def _output(options: TalkOptions) -> str | None:
    """With --input no sound device is used, unless one is asked for."""
    if options.output is None and options.input is not None and options.output_device is None:
        return NOTHING
    return options.output


def _persona(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    path = Path(os.path.expanduser(text[1:]))
    try:
        with path.open("rb") as file:
            data = file.read(PERSONA_FILE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "the name is not possible"
        raise UsageError(
            f"The persona file {path} cannot be read: {why}.",
            "--persona @FILE takes the persona from a file; without the @ the text itself is meant.",
        ) from None
    if len(data) > PERSONA_FILE_LIMIT_BYTES:
        raise UsageError(f"The persona file {path} is too long for a persona.")
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise UsageError(f"The persona file {path} is not UTF-8 text.") from None


def _persona_note(persona: str | None) -> str | None:
    if persona is None or len(persona) <= PERSONA_ADVICE_CHARS:
        return None
    return (
        f"The persona has {len(persona):,} characters: above {PERSONA_ADVICE_CHARS:,} the model takes "
        "noticeably longer to begin."
    )


def _seconds(option: str, value: float) -> float | None:
    """None for 0, which means no limit."""
    if not 0 <= value < math.inf:  # also refuses NaN
        raise UsageError(f"{option} takes a number of seconds, 0 or more.")
    return value or None
