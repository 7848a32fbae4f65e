"""A conversation: one call, or with --reconnect several, with a screen around them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import typer

from personaplex_cli.call import Call, Opening
from personaplex_cli.cli.bindings import line_of_keys
from personaplex_cli.cli.books import Books
from personaplex_cli.cli.controls import Controls, ends_there
from personaplex_cli.cli.native_stderr import native_stderr_held
from personaplex_cli.cli.output import print_warning
from personaplex_cli.cli.plan import (
    Ends,
    Plan,
    find_credentials,
    keeps_token,
    make_endpoint,
    make_plan,
)
from personaplex_cli.cli.signals import Interrupts, termination_interrupts
from personaplex_cli.cli.stdin_text import send_lines
from personaplex_cli.cli.talk_options import TalkOptions
from personaplex_cli.cli.terminal import Terminal
from personaplex_cli.earcons import Announcer
from personaplex_cli.ends import PIPE, SpeakerEnd
from personaplex_cli.errors import CredentialsError, ExitCode, PersonaplexError
from personaplex_cli.events import CalledAgain, CallEnded, EndReason, Event, Metadata, Notice, Written
from personaplex_cli.limits import Limits
from personaplex_cli.pipeline.websocket import VoiceSocket
from personaplex_cli.threads import in_thread
from personaplex_cli.tokens import forget_token
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.summary import dropped_lines, end_lines, end_reason
from personaplex_cli.wire.endpoint import Dialect, Endpoint, build_endpoint
from personaplex_cli.wire.text import redact, safe_text

if TYPE_CHECKING:
    from personaplex_cli.standin.server import StandIn

SWITCH_S: Final = 0.001
"""How long a busy thread may keep others from running. By default it is 5 ms, which sound devices whose
blocks last 7 ms do not forgive: with three busy threads 32 underflows in 10 s, with this none (measured)."""

RECONNECT_AFTER_S: Final = 10.0
"""A call that broke off earlier is not made again: each attempt is billed."""

MAX_UNUSED_CALLS: Final = 3
"""Calls in a row that broke off and in which the user said nothing; then no other is made: perhaps nobody is
there, and each begins the time of idleness anew."""

MAX_METADATA_CHARS: Final = 1000

OPENING_LIMIT_S: Final = 1.0
"""For devices and files to be opened when they are not needed any more."""

INSECURE: Final = (
    "the server's certificate is not checked (--insecure): anyone may listen, and take key and token."
)

MAX_WAITING_TEXTS: Final = 100
"""Texts that wait for a call that is live; who brings more has to wait."""


def converse(options: TalkOptions) -> None:
    """Holds the conversation. Raises PersonaplexError for what went wrong, `typer.Exit` for an abort."""
    sys.setswitchinterval(SWITCH_S)
    with termination_interrupts():
        plan = make_plan(options)
        if options.insecure:
            print_warning(INSECURE)
        conversation = Conversation(options, plan)
        try:
            with asyncio.Runner(loop_factory=_new_loop) as runner:
                ended = runner.run(conversation.run())
        except asyncio.CancelledError:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        finally:
            conversation.close()
    if isinstance(ended.error, CredentialsError) and keeps_token(options):
        forget_token()
    if ended.error is not None:
        raise ended.error


class Conversation:
    """`run` once."""

    def __init__(self, options: TalkOptions, plan: Plan) -> None:
        self._options = options
        self._plan = plan
        self._ends = Ends()
        self._standin: StandIn | None = None
        self._interrupts = Interrupts()
        self._secrets: tuple[str, ...] = ()
        self._metadata = "no metadata"
        self._announcer = Announcer()
        self._books: Books | None = None
        self._texts_lost = 0
        self._unused_calls = 0
        self.call: Call | None = None
        """The one that goes on."""

    async def run(self) -> CallEnded:
        """The end of the (last) call. Raises PersonaplexError where no call could be tried, and
        CancelledError when the user wanted out at once."""
        self._zero_s = time.monotonic()
        self._texts: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING_TEXTS)
        async with AsyncExitStack() as stack:
            stack.enter_context(self._interrupts)
            if not self._options.local:  # what costs nothing is not in the books
                self._books = Books(self._options, self._plan, self._tell_text)
            else:
                self._standin = await stack.enter_async_context(_stand_in())
            token = await self._prepare()
            self._terminal = stack.enter_context(self._open_terminal())
            stack.enter_context(native_stderr_held(show=self._options.debug))
            self._listen_to_user()
            # What is there by now stays: the collector need not look through all of it again and again, which
            # keeps every thread from running, sound's included, for tens of milliseconds.
            gc.freeze()
            return await self._hold(token)

    async def _hold(self, token: str | None) -> CallEnded:
        """The calls, and what is said after the last one."""
        try:
            ended = await self._calls(token)
        except asyncio.CancelledError:
            if self._books is not None:
                self._books.dropped()
            self._terminal.say_last(dropped_lines(self.close()))
            raise
        if unsent := self._texts.qsize() + self._texts_lost:
            self._tell_text(f"{unsent} of your texts could not be sent any more.")
        written: list[Written] = []
        try:
            written = await in_thread(self.close, name="close")
        except PersonaplexError as error:  # said after the end, unless the call has an error of its own
            ended = replace(ended, error=ended.error or error)
        self._terminal.say_last(end_lines(ended, written))
        if self._options.debug:
            self._terminal.say_last([str(ended.counters), self._metadata])
        return ended

    def _listen_to_user(self) -> None:
        """To keys, and to lines that come in."""
        controls = Controls(self, self._ends.source, self._ends.sink, self._terminal.by_lines)
        self._terminal.read_keys(controls.press)
        if self._options.stdin_text:
            send_lines(sys.stdin.fileno(), self.say)
        if self._options.push_to_talk:
            controls.switch_push_to_talk()

    def close(self) -> list[Written]:
        """What was written, now that it is complete. Any thread; may be called again. Raises UsageError."""
        written = self._ends.close()
        if self._books is not None:
            self._books.close()
        return written

    async def _prepare(self) -> str | None:
        """The token. Meanwhile the ends are opened: devices and the exchange each take a while."""
        opening = asyncio.ensure_future(in_thread(partial(self._ends.open, self._options), name="ends"))
        opening.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is looked at
        try:
            token, _ = await asyncio.gather(self._token(), asyncio.shield(opening))
        except BaseException:
            await asyncio.wait({opening}, timeout=OPENING_LIMIT_S)  # so that what it opened can be closed
            raise
        return token

    # --- what the user does

    def hang_up(self, reason: EndReason) -> None:
        if reason is not EndReason.BEGUN_ANEW:
            self._interrupts.interrupt(reason)
        elif self.call is not None:
            self.call.hang_up(reason)

    async def say(self, text: str) -> None:
        """Sends a text to the model, as soon as there is a call that is live. Waits while too many others
        do."""
        await self._texts.put(text)

    def tell(self, event: Event) -> None:
        if self.call is not None:
            self.call.tell(event)
        else:
            with contextlib.suppress(OSError):  # nobody looks, and there is no call to end for that
                self._listen(event)

    def _tell_text(self, text: str) -> None:
        self.tell(Notice(self.now_s(), text))

    def now_s(self) -> float:
        return time.monotonic() - self._zero_s

    # --- the calls

    async def _calls(self, token: str | None) -> CallEnded:
        limits = self._plan.limits
        while True:
            call = self._make_call(token, limits)
            self.call, self._interrupts.hang_up = call, call.hang_up
            ended = await call.run()
            self.call = None
            self._texts_lost += call.is_sending_text
            self._unused_calls = 0 if call.user_spoke else self._unused_calls + 1
            if not self._goes_on(ended):
                return ended
            limits = replace(limits, spent_s=limits.spent_s + ended.lasted_s)
            if over := limits.used_up():
                return replace(ended, reason=over[0], detail=over[1], error=None)
            self._tell_text(_seam_text(ended))
            self.tell(CalledAgain(self.now_s()))
            token = await self._token()

    def _goes_on(self, ended: CallEnded) -> bool:
        if self._interrupts.asked:
            return False
        if ended.reason is EndReason.BEGUN_ANEW:
            return True
        return self._options.reconnect and _broke_off(ended) and self._unused_calls < MAX_UNUSED_CALLS

    def _make_call(self, token: str | None, limits: Limits) -> Call:
        endpoint = self._endpoint(token)
        self._secrets = endpoint.secrets
        if self._books is not None:
            self._books.calls(endpoint)
        return Call(
            partial(VoiceSocket.connect, endpoint, self._plan.tls),
            self._ends.source,
            self._ends.sink,
            self._listen,
            limits=limits,
            opening=Opening(self._options.texts, self._options.bos_marker),
            texts=self._texts,
            secrets=endpoint.secrets,
            zero_s=self._zero_s,
        )

    async def _token(self) -> str | None:
        """A token that is valid now; the one before may have expired."""
        self._interrupts.hang_up = None  # there is no call: a signal just ends the waiting
        if self._standin is not None:
            return self._standin.issue_token()
        return await in_thread(lambda: find_credentials(self._options), name="credentials")

    def _endpoint(self, token: str | None) -> Endpoint:
        voice, persona = self._plan.voice, self._plan.persona
        if self._standin is None:
            return make_endpoint(self._options, voice, persona, token)
        url = self._standin.url
        return build_endpoint(Dialect.POLARGRID, url, voice=voice, persona=persona, token=token)

    def _open_terminal(self) -> Terminal:
        options = self._options
        terminal = Terminal(
            plain=options.plain,
            json=options.json,
            stdout_carries_audio=options.output == PIPE,
            stdin_is_free=PIPE not in (options.input, options.token),
        )
        space = options.push_to_talk or options.echo.half_duplex
        there = ends_there(self._ends.source, self._ends.sink)
        keys = line_of_keys(there, space=space) if terminal.reads_keys else ()
        return terminal.open(Fixed(self._plan.voice, self._plan.rate_per_minute, keys), self.now_s)

    def _listen(self, event: Event) -> None:
        if self._books is not None:
            self._books.listen(event)
        if isinstance(event, Metadata):
            text = safe_text(json.dumps(event.data))[:MAX_METADATA_CHARS]
            self._metadata = f"metadata: {redact(text, self._secrets)}"
        sink = self._ends.sink
        if (
            self._options.earcons
            and (earcon := self._announcer.earcon(event))
            and isinstance(sink, SpeakerEnd)
        ):
            sink.play_earcon(earcon)
        self._terminal.listen(event)


def _new_loop() -> asyncio.AbstractEventLoop:
    """A loop that does not wait, when it is closed, for a resolver that hangs (asyncio looks names up in
    threads). `app.main` ends the process without such threads."""

    async def do_not_wait(timeout: float | None = None) -> None: ...

    loop = asyncio.new_event_loop()
    loop.shutdown_default_executor = do_not_wait  # type: ignore[method-assign]
    return loop


def _stand_in() -> StandIn:
    from personaplex_cli.standin.server import StandIn

    return StandIn()


def _seam_text(ended: CallEnded) -> str:
    """About a call that another follows."""
    why = end_reason(ended)
    return f"Y{why[1:]}." if ended.reason is EndReason.BEGUN_ANEW else f"The call broke off: {why}."


def _broke_off(ended: CallEnded) -> bool:
    """Whether the server or the network ended a call that worked."""
    by_others = ended.reason in (EndReason.CONNECTION_LOST, EndReason.SERVER_CLOSED)
    return by_others and ended.live_s >= RECONNECT_AFTER_S and not isinstance(ended.error, CredentialsError)
