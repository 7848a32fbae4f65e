"""From the options of `personaplex talk` to a call, and to the way the program ends."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from personaplex_cli.call import Call, Opening
from personaplex_cli.catalog import resolve_region, resolve_voice
from personaplex_cli.cli.native_stderr import native_stderr_held
from personaplex_cli.cli.output import print_note, print_warning
from personaplex_cli.cli.signals import Interrupts
from personaplex_cli.cli.talk_options import AuthMode, TalkOptions
from personaplex_cli.codec.library import load as load_codec
from personaplex_cli.ends import NOTHING, PIPE, Sink, Source, open_sink, open_source
from personaplex_cli.errors import CredentialsError, ExitCode, UsageError
from personaplex_cli.events import CalledAgain, CallEnded, EndReason, Notice, Written
from personaplex_cli.limits import Limits
from personaplex_cli.pipeline.websocket import VoiceSocket
from personaplex_cli.tls import tls_context
from personaplex_cli.tokens import forget_token, validate_token
from personaplex_cli.ui.screen import open_screen
from personaplex_cli.ui.summary import dropped_lines, end_lines
from personaplex_cli.wire.endpoint import (
    PERSONA_ADVICE_CHARS,
    Dialect,
    Endpoint,
    build_endpoint,
    polargrid_server,
)

if TYPE_CHECKING:
    import ssl

    from personaplex_cli.standin.server import StandIn
    from personaplex_cli.ui.screen import Screen

PERSONA_FILE_LIMIT_BYTES: Final = 65_536
"""Far above what fits into an address; keeps us from reading a film."""

RECONNECT_AFTER_S: Final = 10.0
"""A call that broke off earlier is not made again."""

SCREEN_LIMIT_S: Final = 1.0
"""For the last lines to reach the terminal or pipe; the socket is closed by then."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A call in all its parts, checked, before anything is connected."""

    voice: str
    persona: str | None
    limits: Limits
    tls: ssl.SSLContext | None
    source: Source
    sink: Sink


def converse(options: TalkOptions) -> None:
    """Holds the conversation. Raises PersonaplexError for what went wrong, `typer.Exit` for an abort."""
    plan = _plan(options)
    try:
        token = None if options.local else _credentials(options)
        ended = asyncio.run(_converse(options, plan, token))
    except asyncio.CancelledError:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        _close(plan)
    if isinstance(ended.error, CredentialsError):
        forget_token()
    if ended.error is not None:
        raise ended.error


def _close(plan: Plan) -> list[Written]:
    """What was written, now that it is complete."""
    plan.source.close()
    plan.sink.close()
    return [plan.sink.written] if plan.sink.written else []


def _plan(options: TalkOptions) -> Plan:
    """Everything that can be wrong on this side is found here, before it costs anything."""
    _check_combination(options)
    load_codec()
    voice = resolve_voice(options.voice)
    persona = _persona(options.persona)
    for note in (voice.note, _persona_note(persona)):
        if note:
            print_note(note)
    if options.insecure:
        print_warning("the server's certificate is not checked (--insecure): anyone may be listening.")
    limits = Limits(
        handshake_s=_seconds("--handshake-timeout", options.handshake_timeout_s) or math.inf,
        max_duration_s=_seconds("--max-duration", options.max_duration_s),
        idle_s=_seconds("--idle-timeout", options.idle_timeout_s),
        tail_s=_seconds("--tail", options.tail_s) or 0.0,
    )
    # An address that cannot be used, or a persona that does not fit, is found without a token.
    endpoint = build_endpoint(options.dialect, _server(options), voice=voice.value.name, persona=persona)
    tls = tls_context(options.ca_file, options.insecure) if endpoint.tls or options.ca_file else None
    sink = open_sink(_output(options), options.output_device)
    try:
        source = open_source(options.input, options.input_device)
    except BaseException:
        sink.close()
        raise
    return Plan(voice.value.name, persona, limits, tls, source, sink)


async def _converse(options: TalkOptions, plan: Plan, token: str | None) -> CallEnded:
    zero_s = asyncio.get_running_loop().time()
    async with AsyncExitStack() as stack:
        standin = await stack.enter_async_context(_stand_in()) if options.local else None
        screen = open_screen(
            sys.stdout,
            sys.stderr,
            stdout_carries_audio=options.output == PIPE,
            voice=plan.voice,
            clock_s=lambda: time.monotonic() - zero_s,
        )
        last_lines: list[str] = []
        stack.callback(lambda: screen.close(SCREEN_LIMIT_S, last_lines))
        stack.enter_context(native_stderr_held(show=options.debug))
        try:
            ended = await _calls(options, plan, screen, standin, token, zero_s)
        except asyncio.CancelledError:
            last_lines += dropped_lines(_close(plan))
            raise
        last_lines += end_lines(ended, _close(plan))
        if options.debug:
            last_lines.append(str(ended.counters))
        return ended


async def _calls(
    options: TalkOptions,
    plan: Plan,
    screen: Screen,
    standin: StandIn | None,
    token: str | None,
    zero_s: float,
) -> CallEnded:
    """One call, or with --reconnect as many as it takes; the last one's end."""
    limits = plan.limits
    while True:
        endpoint = _local_endpoint(plan, standin) if standin else _endpoint(options, plan, token)
        ended = await _call(options, plan, endpoint, screen, limits, zero_s)
        if not (options.reconnect and _may_call_again(ended)):
            return ended
        limits = replace(limits, spent_s=limits.spent_s + ended.lasted_s)
        screen.listen(Notice(time.monotonic() - zero_s, f"The call broke off: {ended.reason}."))
        screen.listen(CalledAgain(time.monotonic() - zero_s))
        if not options.local and options.token is None:  # the one before may have expired
            token = await asyncio.to_thread(_credentials, options)


async def _call(
    options: TalkOptions, plan: Plan, endpoint: Endpoint, screen: Screen, limits: Limits, zero_s: float
) -> CallEnded:
    call = Call(
        lambda: VoiceSocket.connect(endpoint, plan.tls),
        plan.source,
        plan.sink,
        screen.listen,
        limits=limits,
        opening=Opening(options.texts, options.bos_marker),
        secrets=endpoint.secrets,
        zero_s=zero_s,
    )
    with Interrupts(asyncio.current_task(), call.hang_up):
        return await call.run()


def _may_call_again(ended: CallEnded) -> bool:
    """Whether the server or the network ended a call that worked. One that breaks off at once would break off
    again, and each attempt is billed."""
    broke_off = ended.reason in (EndReason.CONNECTION_LOST, EndReason.SERVER_CLOSED)
    return broke_off and ended.live_s >= RECONNECT_AFTER_S and not isinstance(ended.error, CredentialsError)


# --- where to, and with what


def _stand_in() -> StandIn:
    from personaplex_cli.standin.server import StandIn

    return StandIn()


def _local_endpoint(plan: Plan, standin: StandIn) -> Endpoint:
    return build_endpoint(
        Dialect.POLARGRID, standin.url, voice=plan.voice, persona=plan.persona, token=standin.issue_token()
    )


def _endpoint(options: TalkOptions, plan: Plan, token: str | None) -> Endpoint:
    return build_endpoint(
        options.dialect,
        _server(options),
        voice=plan.voice,
        persona=plan.persona,
        token=token,
        token_in=options.token_in,
    )


def _server(options: TalkOptions) -> str:
    return options.server or polargrid_server(resolve_region(options.region).value.name)


def _credentials(options: TalkOptions) -> str | None:
    """The token or key to show to the server; None for a server of one's own that wants none."""
    if options.token is not None:
        text = sys.stdin.readline() if options.token == PIPE and sys.stdin else options.token
        return validate_token(text).value
    if options.dialect is Dialect.MOSHI:
        return None
    from personaplex_cli.auth import AUTH_URL, get_token
    from personaplex_cli.config import api_key, load_config

    config = load_config()
    if config.note:
        print_note(config.note)
    key = api_key(config)
    if options.auth is AuthMode.KEY:
        return key
    url = options.auth_url or AUTH_URL
    return get_token(key, url, ca_file=options.ca_file, insecure=options.insecure).value


# --- checking


def _check_combination(options: TalkOptions) -> None:
    if options.local and (options.server or options.token):
        raise UsageError("--local goes without --server and --token.", "The stand-in needs neither.")
    if options.token == PIPE and options.input == PIPE:
        raise UsageError("The token and the voice cannot both come from standard input.")
    if options.dialect is Dialect.MOSHI and not (options.server or options.local):
        raise UsageError("--dialect moshi needs --server.", "Like --server ws://localhost:8998.")
    if not options.local and not options.server and (note := resolve_region(options.region).note):
        print_note(note)


def _output(options: TalkOptions) -> str | None:
    """With --input no sound device is used, unless one is asked for."""
    if options.output is None and options.input is not None and options.output_device is None:
        return NOTHING
    return options.output


def _persona(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    path = Path(text[1:]).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(PERSONA_FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"The persona file {path} cannot be read: {error.strerror}.",
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
