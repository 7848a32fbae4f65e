"""Hearing oneself: a call whose other side says what it hears, with a screen around it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import typer

from personaplex_cli.call import Call, Opening
from personaplex_cli.cli.controls import Controls, ends_there
from personaplex_cli.cli.conversation import OPENING_LIMIT_S, SWITCH_S
from personaplex_cli.cli.native_stderr import native_stderr_held
from personaplex_cli.cli.plan import Ends, check_ends
from personaplex_cli.cli.signals import Interrupts, termination_interrupts
from personaplex_cli.cli.terminal import Terminal
from personaplex_cli.codec.library import load as load_codec
from personaplex_cli.echo_options import EchoOptions
from personaplex_cli.ends import PIPE, MicrophoneEnd
from personaplex_cli.errors import ExitCode, PersonaplexError
from personaplex_cli.events import (
    AudioDropped,
    CallEnded,
    CallState,
    EndReason,
    Event,
    Lag,
    Notice,
    StateChanged,
    TurnEnded,
    Written,
)
from personaplex_cli.limits import Limits
from personaplex_cli.loopback import Loopback, Loudness, whole_steps
from personaplex_cli.pcm import PACKET_MS, SPEECH_DBFS
from personaplex_cli.threads import in_thread
from personaplex_cli.ui.keys import Char, Pressed
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.screen import View
from personaplex_cli.ui.summary import end_reason
from personaplex_cli.ui.words import elapsed_text

_KEYS: Final = (("m", "mute", "microphone"), ("+ -", "volume", "speaker"), ("q", "end", ""))
"""Key, word, and the end that it needs."""

_READ: Final = frozenset("m+-=q")
"""The others mean nothing without a model."""

ALL_ZERO: Final = (
    "The microphone gave nothing but zeros, which no room does: it is switched off or muted, or this program "
    "may not use it."
)

_UNTOLD: Final = (AudioDropped, Lag, TurnEnded)
"""Of a conversation between two; what was dropped is in the summary."""


@dataclass(frozen=True, slots=True)
class MicOptions:
    """What `personaplex mic` was asked for, checked."""

    input: str | None
    output: str | None
    input_device: str | None
    output_device: str | None
    input_channel: int | None
    max_buffer_ms: int
    echo: EchoOptions
    delay_s: float
    max_duration_s: float | None
    plain: bool
    debug: bool


def rehearse(options: MicOptions) -> None:
    """Raises PersonaplexError for what went wrong, `typer.Exit` for an abort."""
    sys.setswitchinterval(SWITCH_S)
    with termination_interrupts():
        check_ends(options)
        load_codec()
        rehearsal = Rehearsal(options)
        try:
            ended = asyncio.run(rehearsal.run())
        except asyncio.CancelledError:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        finally:
            rehearsal.close()
    if ended.error is not None:
        raise ended.error


class Rehearsal:
    """A `controls.Conversation`. `run` once."""

    def __init__(self, options: MicOptions) -> None:
        self._options = options
        self._ends = Ends()
        self._interrupts = Interrupts()
        self._loudness = Loudness()
        self.call: Call | None = None

    async def run(self) -> CallEnded:
        """Raises PersonaplexError where it could not begin, and CancelledError when the user wanted out at
        once."""
        self._zero_s = time.monotonic()
        with ExitStack() as stack:
            stack.enter_context(self._interrupts)
            await self._open_ends()
            self._terminal = stack.enter_context(self._open_terminal())
            stack.enter_context(native_stderr_held(show=self._options.debug))
            self._controls = Controls(self, self._ends.source, self._ends.sink, self._terminal.by_lines)
            self._terminal.read_keys(self._press)
            return await self._hold()

    def close(self) -> list[Written]:
        """What was written, now that it is complete. Any thread; may be called again. Raises UsageError."""
        return self._ends.close()

    async def _open_ends(self) -> None:
        opening = asyncio.ensure_future(in_thread(partial(self._ends.open, self._options), name="ends"))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait({opening}, timeout=OPENING_LIMIT_S)  # so that what it opened can be closed
            raise

    async def _hold(self) -> CallEnded:
        self.call = self._make_call()
        self._interrupts.hang_up = self.call.hang_up
        try:
            ended = await self.call.run()
        except asyncio.CancelledError:
            self._terminal.say_last([f"Ended at once.{_wrote(self.close())}"])
            raise
        written: list[Written] = []
        try:
            written = await in_thread(self.close, name="close")
        except PersonaplexError as error:  # said after the end, unless there is another error
            ended = replace(ended, error=ended.error or error)
        self._terminal.say_last([f"Ended: {end_reason(ended)}.{_wrote(written)}"])
        microphone = isinstance(self._ends.source, MicrophoneEnd)
        self._terminal.say_last(loudness_lines(self._loudness, microphone=microphone))
        self._terminal.say_last(_losses_lines(ended))
        if self._options.debug:
            self._terminal.say_last([str(ended.counters)])
        return ended

    def _make_call(self) -> Call:
        source = self._ends.source
        server = Loopback(whole_steps(self._options.delay_s), lambda: source.finished, self._input_ended)

        async def connect() -> Loopback:
            return server

        # The server says when the input is over.
        limits = Limits(max_duration_s=self._options.max_duration_s, idle_s=None, tail_s=float("inf"))
        return Call(
            connect,
            source,
            self._ends.sink,
            self._listen,
            limits=limits,
            opening=Opening(),
            zero_s=self._zero_s,
        )

    def _input_ended(self) -> None:
        if self.call is not None:
            self.call.hang_up(EndReason.INPUT_ENDED)

    # --- the terminal

    def _open_terminal(self) -> Terminal:
        terminal = Terminal(
            plain=self._options.plain,
            json=False,
            stdout_carries_audio=self._options.output == PIPE,
            stdin_is_free=self._options.input != PIPE,
            suspended="Suspended: fg goes on with it.",
        )
        there = {"", *ends_there(self._ends.source, self._ends.sink)}
        keys = tuple((key, word) for key, word, needs in _KEYS if needs in there)
        fixed = Fixed(
            keys=keys if terminal.reads_keys else (),
            live_text=f"hearing yourself, {self._options.delay_s:.1f} s later",
            other_side="Heard",
        )
        return terminal.open(fixed, self.now_s)

    def _press(self, keys: list[Pressed]) -> None:
        self._controls.press([key for key in keys if isinstance(key, Char) and key.text in _READ])

    def _listen(self, event: Event) -> None:
        self._loudness.listen(event)
        if isinstance(event, StateChanged):
            self._tell_state(event)
        elif not isinstance(event, _UNTOLD):
            self._terminal.listen(event)

    def _tell_state(self, event: StateChanged) -> None:
        """Of the states of a call only one is worth telling where there is nobody to call."""
        if event.state is not CallState.LIVE:
            return
        if self._terminal.view is View.LIVE:
            self._terminal.listen(event)
        else:
            text = f"You hear yourself {self._options.delay_s:.1f} s later. Ctrl-C ends it."
            self._terminal.listen(Notice(event.at_s, text))

    # --- what the keys act on

    async def say(self, text: str) -> None:
        """There is nobody to read it, and no key that leads here."""

    def tell(self, event: Event) -> None:
        with contextlib.suppress(OSError):  # nobody looks
            self._listen(event)

    def now_s(self) -> float:
        return time.monotonic() - self._zero_s

    def hang_up(self, reason: EndReason) -> None:
        self._interrupts.interrupt(reason)


def loudness_lines(loudness: Loudness, *, microphone: bool) -> list[str]:
    """How loud the user was, and what to do about it."""
    if not loudness.measured:
        return []
    if loudness.all_zero:
        return [ALL_ZERO if microphone else "The input was nothing but zeros."]
    parts = [f"Your level: loudest {loudness.loudest_dbfs:.0f} dBFS"]
    if loudness.usual_dbfs is None:
        parts.append(f"all below {SPEECH_DBFS:.0f} dBFS, too quiet to be taken for speech")
    else:
        parts.append(f"usually {loudness.usual_dbfs:.0f} dBFS")
    if loudness.noise_dbfs is not None:
        parts.append(f"noise {loudness.noise_dbfs:.0f} dBFS")
    clipped = f"clipped for {loudness.clipped / 10:.1f} s: turn the microphone down"
    return [f"{', '.join(parts)}; {clipped if loudness.clipped else 'nothing clipped'}."]


def _losses_lines(ended: CallEnded) -> list[str]:
    losses = list(_losses(ended))
    return [f"Along the way: {'; '.join(losses)}."] if losses else []


def _losses(ended: CallEnded) -> Iterator[str]:
    counters = ended.counters
    if dropped_ms := counters.packets_dropped * PACKET_MS:
        yield f"{dropped_ms / 1000:.2f} s of your voice dropped"
    if silent_ms := counters.silence_inserted * PACKET_MS:
        yield f"{silent_ms / 1000:.2f} s of silence where your side had nothing"
    if flagged := counters.microphone.flagged:
        yield f"the microphone was late or overrun {flagged:,}×"
    if underruns := counters.playout.underruns:
        yield f"the speaker ran dry {underruns:,}×"
    if dropped_ms := counters.playout.dropped_ms:
        yield f"{dropped_ms / 1000:.2f} s not played, to catch up"
    if counters.echo_blocks_dropped:
        yield "the echo canceller did not keep up"


def _wrote(written: Sequence[Written]) -> str:
    texts = (f"{one.name} ({elapsed_text(one.duration_s or 0.0)})" for one in written)
    return f" Wrote {', '.join(texts)}." if written else ""
