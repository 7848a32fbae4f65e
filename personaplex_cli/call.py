"""One conversation, wired: owns the tasks, the deadlines and the order of shutting down.

    source → encoder → socket  →  …server…  →  socket → playback → sink
                                                 └→ transcript → events
    what is typed → socket

A call is billed by wall-clock time, so whatever ends it, the socket is closed within `CLOSE_LIMIT_S`:
first in good order (last page, `eos`, close 1000), and when that takes too long, at once.
All times are those of the event loop's clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from personaplex_cli import endings
from personaplex_cli.ends import Sink, Source
from personaplex_cli.errors import PersonaplexError
from personaplex_cli.events import (
    CallEnded,
    CallState,
    DeviceChanged,
    DeviceState,
    EndReason,
    Event,
    IdleCountdown,
    LimitNear,
    Listener,
    Metadata,
    Notice,
    Reports,
    ServerSaidError,
    StateChanged,
    UserText,
)
from personaplex_cli.gauges import Gauges
from personaplex_cli.limits import Limits, LimitWatch
from personaplex_cli.pipeline.encoder import Encoder
from personaplex_cli.pipeline.playback import Playback
from personaplex_cli.pipeline.websocket import SocketClosed
from personaplex_cli.threads import in_thread
from personaplex_cli.turns import Side
from personaplex_cli.wire.messages import (
    Audio,
    ErrorMessage,
    Handshake,
    MetadataMessage,
    Skipped,
    Text,
)
from personaplex_cli.wire.session import CloseStory, Session
from personaplex_cli.wire.text import TranscriptDecoder

CLOSE_LIMIT_S: Final = 2.0
"""For saying goodbye in good order; then the connection is dropped."""

PLAYBACK_LIMIT_S: Final = 2.0
"""For decoding and writing what was received, after the socket is closed."""

WATCH_S: Final = 0.1
"""How often the limits and the gauges are looked at."""

AWAY_S: Final = 1.0
"""Who has not looked for so long was stopped (Ctrl-Z, a lid that was shut), and has not taken what came."""

LONG_WAIT_S: Final = 5.0
"""After so long without a handshake the user is told what may be the matter."""

MAX_USELESS: Final = 1000
"""Error messages and messages that are not understood, until the call is given up."""

MAX_TEXT_CHARS: Final = 4096
"""A longer piece of text is passed on in parts, so that no listener is busy with one for long."""

ERROR_LINGERS_S: Final = 5.0
"""A close so soon after an error message of the server is taken as its consequence."""

SERVER_CLOSED_NOTICE: Final = (
    "The server ended the session, as these servers do after some minutes. "
    "Call again to go on: it will be a new conversation."
)


class Socket(Protocol):
    async def send(self, message: bytes) -> None: ...

    async def receive(self) -> bytes | str: ...

    async def close(self) -> None: ...

    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Opening:
    """What is sent first, once the call is live."""

    texts: tuple[str, ...] = ()
    bos_marker: bool = False


class Call:
    """One call. `run` once; `hang_up` on the event loop, at any time."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Socket]],
        source: Source,
        sink: Sink,
        listener: Listener,
        *,
        limits: Limits,
        opening: Opening,
        texts: asyncio.Queue[str] | None = None,
        secrets: tuple[str, ...] = (),
        zero_s: float | None = None,
    ) -> None:
        """The ends belong to the caller, who closes them. `texts` are sent to the model when the call is
        live, one by one; what is left of them is for the next call. `zero_s` (event loop's clock) is the
        moment from which events count their seconds; None means the beginning of this call."""
        self._connect = connect
        self._source = source
        self._sink = sink
        self._listener = listener
        self._limits = limits
        self._opening = opening
        self._zero_s = zero_s
        self._encoder = Encoder()
        self._transcript = TranscriptDecoder()
        self._session = Session(handshake_timeout_s=limits.handshake_s, secrets=secrets)
        self._stream_begun = False
        self._live_at_s: float | None = None
        self._ended_at_s: float | None = None
        self._server_error: tuple[float, str] | None = None
        self._skips_told: set[str] = set()
        self._useless = 0
        self._texts: asyncio.Queue[str] = asyncio.Queue() if texts is None else texts
        self._sending_text = False
        self._watched: LimitWatch | None = None
        self._over = False
        self._reports = Reports(
            failed=lambda error: self._soon(self._fail, error),
            device=lambda role, state, name: self._soon(self._emit_device, role, state, name),
            notice=lambda text: self._soon(self._emit_notice, text),
        )

    async def run(self) -> CallEnded:
        """Holds the conversation and returns its last event, which was emitted too.

        Raises what was not foreseen (a bug), after everything is closed. Cancelling it drops the
        connection at once.
        """
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._live = asyncio.Event()
        self._end: asyncio.Future[CloseStory] = self._loop.create_future()
        zero_s = self._began_s if self._zero_s is None else self._zero_s
        self._playback = Playback(self._sink.write, self._reports.failed)
        self._gauges = Gauges(self._emit, zero_s, self._source, self._sink, self._playback, self._encoder)
        self._emit_state(CallState.CONNECTING)
        try:
            if self._sink_starts() and (socket := await self._connect_or_end()):
                await self._talk(socket)
            story = await self._end
        finally:
            # On a thread of its own: a disk that hangs must not hold up the loop.
            closing = in_thread(partial(self._playback.close, PLAYBACK_LIMIT_S), name="close-playback")
            complete = await asyncio.shield(closing)
        # Another call takes the speaker at once, and what it holds is not heard any more.
        self._gauges.finish(self._loop.time(), plays_on=story.reason is not EndReason.BEGUN_ANEW)
        if not complete:
            self._emit(Notice(self._now_s(), "The output did not take all of the agent's voice in time."))
        if story.reason is EndReason.SERVER_CLOSED and story.error is None:
            self._emit(Notice(self._now_s(), SERVER_CLOSED_NOTICE))
        self._over = True
        self._emit_state(CallState.ENDED)
        ended = self._ended(story)
        self._emit(ended)
        return ended

    def hang_up(self, reason: EndReason = EndReason.HUNG_UP) -> None:
        """Ends the call in good order."""
        self._finish(CloseStory(reason, "", None))

    @property
    def user_spoke(self) -> bool:
        return self._gauges.spoke_s(Side.USER) > -math.inf

    @property
    def is_sending_text(self) -> bool:
        """A text was taken and has not gone out."""
        return self._sending_text

    def tell(self, event: Event) -> None:
        """Something that the user did is told to who listens to the call."""
        self._emit(event)

    def put_off_idle(self) -> None:
        """The user is there, though nobody speaks."""
        if self._watched is not None:
            self._watched.put_off_idle(self._loop.time())

    # --- the data path

    async def _uplink(self, socket: Socket) -> None:
        await self._live.wait()
        if self._opening.bos_marker:
            await socket.send(self._session.pack_bos_marker())
        for header in self._encoder.headers():
            await socket.send(self._session.pack_audio(header, self._loop.time()))
        self._stream_begun = True
        self._source.start(self._reports)
        while True:
            block = await self._source.read()
            now_s = self._loop.time()
            self._gauges.captured(block, now_s)
            if pages := self._encoder.pages(block, now_s):
                await socket.send(self._session.pack_audio(pages, now_s))

    async def _typed(self, socket: Socket) -> None:
        await self._live.wait()
        for text in self._opening.texts:
            await self._send_text(socket, text)
        while True:
            await self._send_text(socket, await self._texts.get())

    async def _send_text(self, socket: Socket, text: str) -> None:
        self._sending_text = True
        await socket.send(self._session.pack_text(text))
        self._sending_text = False
        self.put_off_idle()
        self._emit(UserText(self._now_s(), text))

    async def _downlink(self, socket: Socket) -> None:
        while True:
            received = await socket.receive()
            await asyncio.sleep(0)  # let others run: a flood of messages would keep the loop to itself
            match self._session.receive(received, self._loop.time()):
                case Handshake():
                    self._live_at_s = self._loop.time()
                    self._emit_state(CallState.LIVE)
                    self._live.set()
                case Audio(payload):
                    now_s = self._loop.time()
                    self._gauges.arrived(now_s)
                    self._playback.feed(payload, now_s)
                case Text(payload):
                    self._emit_text(self._transcript.feed(payload))
                case ErrorMessage(text):
                    self._server_error = (self._loop.time(), text)
                    self._emit(ServerSaidError(self._now_s(), text))
                    self._count_useless()
                case MetadataMessage(data):
                    self._emit(Metadata(self._now_s(), data))
                case Skipped(why):
                    if why not in self._skips_told:
                        self._skips_told.add(why)
                        self._emit(Notice(self._now_s(), f"Skipped from the server: {why}."))
                    self._count_useless()

    def _count_useless(self) -> None:
        self._useless += 1
        if self._useless > MAX_USELESS:
            self._finish(endings.of_nonsense(MAX_USELESS))

    async def _watch(self) -> None:
        """Looks at the limits and the gauges."""
        opened_s = self._loop.time()
        watch = self._watched = LimitWatch(self._limits, opened_s)
        told = False
        looked_s = opened_s
        while True:
            await asyncio.sleep(WATCH_S)
            now_s = self._loop.time()
            if now_s - looked_s > AWAY_S:
                self._session.resumed(now_s)
            looked_s = now_s
            if error := self._session.overdue(now_s):
                reason = EndReason.CONNECTION_LOST if self._session.live else EndReason.NEVER_LIVE
                self._finish(CloseStory(reason, "", error))
            if self._session.live:
                self._gauges.look(now_s)
                over = self._look_at_limits(watch, now_s)
            else:
                over = watch.waiting(now_s)
                if not told and now_s - opened_s >= LONG_WAIT_S:
                    told = True
                    self._emit(Notice(self._now_s(), "The model may be busy with someone else."))
            for left_s in watch.take_warnings(now_s):
                self._emit(LimitNear(self._now_s(), left_s))
            if over:
                self._finish(CloseStory(*over, None))

    def _look_at_limits(self, watch: LimitWatch, now_s: float) -> tuple[EndReason, str] | None:
        idle_before_s = watch.idle_end_s
        over = watch.live(
            now_s,
            user_spoke_s=self._gauges.spoke_s(Side.USER),
            agent_spoke_s=self._gauges.spoke_s(Side.AGENT),
            input_finished=self._source.finished,
        )
        if watch.idle_end_s != idle_before_s:
            end_s = watch.idle_end_s
            ends_at_s = None if end_s is None else end_s - now_s + self._now_s()
            self._emit(IdleCountdown(self._now_s(), ends_at_s))
        return over

    # --- beginning and end

    def _sink_starts(self) -> bool:
        try:
            self._sink.start(self._reports)
        except PersonaplexError as error:
            self._fail(error)
            return False
        return True

    async def _connect_or_end(self) -> Socket | None:
        """The socket, or None when the call ended before there was one."""
        connecting = asyncio.ensure_future(self._connect())
        try:
            await asyncio.wait((connecting, self._end), return_when=asyncio.FIRST_COMPLETED)
            if not self._end.done():
                return connecting.result()
        except PersonaplexError as error:
            self._finish(CloseStory(EndReason.NEVER_LIVE, "", error))
        except asyncio.CancelledError:
            await _drop(connecting)
            raise
        await _drop(connecting)
        return None

    async def _talk(self, socket: Socket) -> None:
        """Everything between the upgrade and the closed socket."""
        self._session.opened(self._loop.time())
        paths = (self._uplink(socket), self._typed(socket), self._watch())
        tasks = [asyncio.ensure_future(path) for path in paths]
        downlink = asyncio.ensure_future(self._downlink(socket))
        for task in (*tasks, downlink):
            task.add_done_callback(self._path_ended)
        try:
            self._emit_state(CallState.WAITING)
            await asyncio.wait({self._end})
            self._emit_state(CallState.CLOSING)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            # The downlink goes on: what the server still says is not lost.
            with contextlib.suppress(TimeoutError, SocketClosed):
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await self._say_goodbye(socket)
                    await asyncio.wait({downlink})
        finally:
            socket.abort()
            for task in (*tasks, downlink):
                task.cancel()
            await asyncio.gather(*tasks, downlink, return_exceptions=True)
            self._ended_at_s = self._loop.time()
        self._emit_text(self._transcript.flush())

    async def _say_goodbye(self, socket: Socket) -> None:
        if self._stream_begun:
            for message in self._session.pack_finish(self._encoder.last_pages()):
                await socket.send(message)
        await socket.close()

    def _path_ended(self, task: asyncio.Future[None]) -> None:
        """A station's loop is over, which only an error does."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, SocketClosed):
            story = self._session.explain_close(error.code, error.reason, self._loop.time())
            self._finish(self._blame_error_message(story))
        elif isinstance(error, PersonaplexError):
            self._fail(error)
        elif error is not None:
            self._bug(error)

    def _blame_error_message(self, story: CloseStory) -> CloseStory:
        if self._server_error is None or self._loop.time() - self._server_error[0] > ERROR_LINGERS_S:
            return story
        return endings.of_server_error(self._server_error[1], story.detail)

    def _fail(self, error: BaseException) -> None:
        """An end, or the listener, failed. Event loop only."""
        if story := endings.of_failed_end(error):
            self._finish(story)
        else:
            self._bug(error)

    def _bug(self, error: BaseException) -> None:
        """What is not foreseen is raised by `run`, after everything is closed."""
        if not self._end.done():
            self._end.set_exception(error)

    def _soon(self, action: Callable[..., None], *arguments: object) -> None:
        """From any thread: `action` on the event loop, unless the call is over."""

        def act() -> None:
            if not self._over:
                action(*arguments)

        with contextlib.suppress(RuntimeError):  # the loop is closed: so is the call
            self._loop.call_soon_threadsafe(act)

    def _finish(self, story: CloseStory) -> None:
        """The first reason wins."""
        if not self._end.done():
            self._end.set_result(story)

    # --- events

    def _emit(self, event: Event) -> None:
        try:
            self._listener(event)
        except Exception as error:  # what is no OSError is a bug, and ends the call as one
            self._fail(error)

    def _emit_state(self, state: CallState) -> None:
        self._emit(StateChanged(self._now_s(), state))

    def _emit_device(self, role: str, state: DeviceState, name: str) -> None:
        self._emit(DeviceChanged(self._now_s(), role, state, name))

    def _emit_notice(self, text: str) -> None:
        self._emit(Notice(self._now_s(), text))

    def _emit_text(self, text: str) -> None:
        for at in range(0, len(text), MAX_TEXT_CHARS):
            self._gauges.text(text[at : at + MAX_TEXT_CHARS], self._loop.time())

    def _now_s(self) -> float:
        return self._loop.time() - (self._began_s if self._zero_s is None else self._zero_s)

    def _ended(self, story: CloseStory) -> CallEnded:
        ended_s = self._loop.time() if self._ended_at_s is None else self._ended_at_s
        live_s = 0.0 if self._live_at_s is None else ended_s - self._live_at_s
        return CallEnded(
            self._now_s(),
            story.reason,
            story.detail,
            story.error,
            ended_s - self._began_s,
            live_s,
            self._gauges.counters(self._session),
        )


async def _drop(connecting: asyncio.Future[Socket]) -> None:
    """Give up a connection being made, also one that was made in this very moment."""
    connecting.cancel()
    await asyncio.wait({connecting})
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().abort()
