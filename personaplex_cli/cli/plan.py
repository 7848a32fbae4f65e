"""From the options of `personaplex talk` to a call in all its parts, checked before anything is connected."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from personaplex_cli.catalog import DEFAULT_REGION, Resolved, is_auto_region, resolve_region, resolve_voice
from personaplex_cli.cli.output import print_note
from personaplex_cli.cli.talk_options import AuthMode, TalkOptions
from personaplex_cli.codec.library import load as load_codec
from personaplex_cli.echo_options import EchoCancel, EchoOptions
from personaplex_cli.ends import NOTHING, PIPE, Sink, Source, is_nothing, open_sink, open_source
from personaplex_cli.errors import CredentialsError, UsageError
from personaplex_cli.events import Written
from personaplex_cli.limits import Limits
from personaplex_cli.persona_format import Persona
from personaplex_cli.personas import length_note, resolve_persona
from personaplex_cli.route import routed_region
from personaplex_cli.wire.endpoint import (
    Dialect,
    Endpoint,
    TokenIn,
    build_endpoint,
    polargrid_server,
)

if TYPE_CHECKING:
    import ssl

    from personaplex_cli.echo import Echo


@dataclass(frozen=True, slots=True)
class Plan:
    """What a conversation consists of, apart from its ends."""

    voice: str
    persona: str | None = field(repr=False)
    limits: Limits
    rate_per_minute: float | None
    """What the user has set that a minute costs; None for servers that cost nothing, and unless it is set."""
    tls: ssl.SSLContext | None


class EndOptions(Protocol):
    """What is to be known to open the ends: a part of `TalkOptions`."""

    @property
    def input(self) -> str | None: ...
    @property
    def output(self) -> str | None: ...
    @property
    def input_device(self) -> str | None: ...
    @property
    def output_device(self) -> str | None: ...
    @property
    def input_channel(self) -> int | None: ...
    @property
    def max_buffer_ms(self) -> int: ...
    @property
    def echo(self) -> EchoOptions: ...


class Ends:
    """Where the audio comes from and goes to. Whoever has them closes them, also when `open` has failed or is
    still under way: a file to write to is begun before a microphone that does not answer."""

    source: Source
    sink: Sink

    def __init__(self) -> None:
        self._opened: list[Source | Sink] = []

    def open(self, options: EndOptions) -> None:
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


def make_plan(options: TalkOptions, tell: Callable[[str], object] = print_note) -> Plan:
    """`tell` takes notes for the user. Raises PersonaplexError."""
    _check_combination(options)
    load_codec()
    persona = resolve_persona(options.persona)
    voice = resolve_voice(_voice(options, persona))
    prompt = persona.prompt if persona else None
    for note in (voice.note, _region_note(options), length_note(prompt or "")):
        if note:
            tell(note)
    rate = _rate_per_minute(options)
    duration_s, budget = _time_limit(options, rate)
    limits = Limits(
        handshake_s=_seconds("--handshake-timeout", options.handshake_timeout_s) or math.inf,
        max_duration_s=duration_s,
        budget=budget,
        idle_s=_seconds("--idle-timeout", options.idle_timeout_s),
        tail_s=_seconds("--tail", options.tail_s) or 0.0,
    )
    # An address that cannot be used, or a persona that does not fit, is found without a token.
    tls = _tls(options, make_endpoint(options, voice.value.name, prompt, None))
    return Plan(voice.value.name, prompt, limits, rate, tls)


def _voice(options: TalkOptions, persona: Persona | None) -> str:
    """A persona has its own voice, unless another one is asked for with this very call."""
    own = persona.voice if persona and not options.voice_is_chosen else None
    return own or options.voice


def _echo(options: EndOptions, output: str | None) -> Echo:
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
    return polargrid_server(_region(options).value)


def _region(options: TalkOptions) -> Resolved[str]:
    """Its name. May block for some seconds, on the router. Raises UsageError."""
    if not is_auto_region(options.region):
        region = resolve_region(options.region)
        return Resolved(region.value.name, region.note)
    return Resolved(DEFAULT_REGION) if options.local else routed_region(options.ca_file, options.insecure)


def _rate_per_minute(options: TalkOptions) -> float | None:
    if options.local or options.dialect is Dialect.MOSHI:
        return None
    return options.config.rate_per_minute


def find_credentials(options: TalkOptions) -> str | None:
    """The token or key to show to the server; None for a server of one's own that wants none.

    May block for some seconds, on the exchange. Prints a note. Raises PersonaplexError.
    """
    from personaplex_cli.tokens import is_header_token, validate_token

    if options.token is not None:
        return validate_token(_token_text(options.token)).value
    if options.dialect is Dialect.MOSHI:
        return None
    from personaplex_cli.api_keys import find_key
    from personaplex_cli.auth import AUTH_URL, get_token

    if options.config.note:
        print_note(options.config.note)
    key = find_key(options.config, print_note).text
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
    check_ends(options)
    _check_views(options)
    _check_stdin(options)
    if options.dialect is Dialect.MOSHI and options.server is None and not options.local:
        raise UsageError("--dialect moshi needs --server.", "Like --server ws://localhost:8998.")


def check_ends(options: EndOptions) -> None:
    """Raises UsageError."""
    if _same_file(options.input, options.output):
        raise UsageError("The output would replace the input.", "Give --output another name.")
    _check_echo(options.echo, has_microphone=options.input is None)


def _check_views(options: TalkOptions) -> None:
    if options.plain and options.json:
        raise UsageError("--plain and --json are two ways to show a call.", "Choose one of the two.")
    if options.push_to_talk and (options.input is not None or is_nothing(options.input_device)):
        raise UsageError("--push-to-talk needs a microphone.")


def _check_stdin(options: TalkOptions) -> None:
    """One thing at a time comes from there."""
    wanted = {"the token": options.token == PIPE, "the voice": options.input == PIPE}
    wanted["texts"] = options.stdin_text
    names = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(names) > 1:
        raise UsageError(f"{names[0].capitalize()} and {names[1]} cannot both come from standard input.")
    if options.stdin_text and (sys.stdin is None or sys.stdin.closed or sys.stdin.isatty()):
        raise UsageError(
            "Nothing is piped in.",
            "--stdin-text sends lines of a pipe or file; in a terminal press t to type.",
        )


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


def region_name(options: TalkOptions) -> str | None:
    """Of PolarGrid's; None for other servers."""
    return None if options.local or options.server is not None else _region(options).value


def _region_note(options: TalkOptions) -> str | None:
    return None if options.local or options.server is not None else _region(options).note


def _output(options: EndOptions) -> str | None:
    """With --input no sound device is used, unless one is asked for."""
    if options.output is None and options.input is not None and options.output_device is None:
        return NOTHING
    return options.output


def _time_limit(options: TalkOptions, rate: float | None) -> tuple[float | None, float | None]:
    """How many seconds the conversation may last, and the budget if that is what they are reckoned from.
    Raises UsageError."""
    duration_s = _seconds("--max-duration", options.max_duration_s)
    if not 0 <= options.budget < math.inf:
        raise UsageError("--budget takes an amount of money, 0 or more.")
    if not options.budget or options.local:
        return duration_s, None
    if options.dialect is Dialect.MOSHI:
        raise UsageError("--budget goes without --dialect moshi: your own server costs nothing.")
    if not rate:
        raise UsageError(
            "--budget needs to know what a minute costs.",
            "Write it into the configuration: rate_per_minute = 0.12 (in the currency of the budget).",
        )
    affordable_s = options.budget / rate * 60
    if duration_s is not None and duration_s <= affordable_s:
        return duration_s, None
    return affordable_s, options.budget


def _seconds(option: str, value: float) -> float | None:
    """None for 0, which means no limit."""
    if not 0 <= value < math.inf:  # also refuses NaN
        raise UsageError(f"{option} takes a number of seconds, 0 or more.")
    return value or None
