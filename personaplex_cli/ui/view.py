"""What a call looks like, as a value: events in, view state out.

No clock, no terminal: time comes in with the events, and as an argument where it goes on between them.
All times are seconds on the call's clock (`Event.at_s`). Every text is made safe for a terminal here, whoever
made the event: what a user injects has not been through the wire.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from personaplex_cli import pcm
from personaplex_cli.events import (
    AgentText,
    AudioDropped,
    Bookmark,
    CalledAgain,
    CallEnded,
    CallState,
    DeviceChanged,
    EchoChanged,
    EchoState,
    Event,
    IdleCountdown,
    Lag,
    Levels,
    LimitNear,
    MicrophoneChanged,
    Notice,
    ServerSaidError,
    Speaking,
    StateChanged,
    TextHeard,
    TurnEnded,
    UserText,
    VolumeChanged,
)
from personaplex_cli.turns import Side
from personaplex_cli.ui.lines import SENTENCE_MAX_CHARS, Line, LineKind, Spans, cut, joined, sentences, within
from personaplex_cli.ui.prompt import Prompt, PromptChanged
from personaplex_cli.ui.words import CALLED_AGAIN, device_text, dropped_text, elapsed_text, turn_text
from personaplex_cli.wire.text import safe_text

AGENT_SILENCE_S: Final = 1.2
"""A sentence to which nothing was added for so long is finished."""

UNRESOLVED_MAX_CHARS: Final = 4 * SENTENCE_MAX_CHARS
"""Text beyond this that nobody knows to have been heard is not waited for: a device that hangs."""

CLIPPED_HOLD_S: Final = 1.0
"""A level that was too high is shown for so long."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One side's level."""

    dbfs: float = pcm.SILENCE_DBFS
    speaks: bool = False
    clipped_s: float | None = None
    """When it was last too high."""

    def clipped(self, now_s: float) -> bool:
        return self.clipped_s is not None and now_s - self.clipped_s < CLIPPED_HOLD_S


@dataclass(frozen=True, slots=True)
class ViewState:
    """Everything a screen shows of a call."""

    state: CallState = CallState.CONNECTING
    begun_s: float = 0.0
    connected_since_s: float | None = None
    """When billing began."""
    billed_before_s: float = 0.0
    """How long earlier calls of the conversation were connected."""
    live_since_s: float | None = None
    user: Meter = Meter()
    agent: Meter = Meter()
    running: str = ""
    """What the agent said since its last finished sentence, as it came."""
    running_from: int = 0
    """Which character of the call's text `running` begins with."""
    running_s: float = 0.0
    """When the last piece of `running` came, or was heard."""
    resolved: int = 0
    """Up to which character of the call's text it is known whether it was heard."""
    unheard: Spans = ()
    """Of `running`, what was not heard; characters of the call's text."""
    microphone: MicrophoneChanged | None = None
    """As it was last changed; None: open."""
    volume_percent: int = 100
    lag: Lag | None = None
    echo: EchoState = EchoState.OFF
    idle_ends_at_s: float | None = None
    limit_ends_at_s: float | None = None
    """Once it is near."""
    prompt: Prompt | None = None
    finished: tuple[Line, ...] = ()
    """Lines nobody has shown yet; `take_finished` takes them out."""
    ended: CallEnded | None = None

    @property
    def heard_chars(self) -> int:
        """How much of `running` was heard, or passed over."""
        return max(0, self.resolved - self.running_from)

    def elapsed_s(self, now_s: float) -> float:
        """How long the conversation has lasted; while there is none yet, how long the call has been tried."""
        if self.ended is not None:
            return self.ended.lasted_s if self.live_since_s is None else self.ended.live_s
        return max(0.0, now_s - (self.begun_s if self.live_since_s is None else self.live_since_s))

    def billed_s(self, now_s: float) -> float:
        """How long the conversation has been connected, all its calls together."""
        this_s = 0.0 if self.connected_since_s is None else max(0.0, now_s - self.connected_since_s)
        return self.billed_before_s + this_s


def reduce(state: ViewState, event: Event) -> ViewState:
    """The state after `event`; time passes up to the event's first."""
    state = tick(state, event.at_s)
    match event:
        case AgentText() | TextHeard() | UserText() | Speaking() | TurnEnded():
            return _said(state, event)
        case StateChanged() | CalledAgain() | CallEnded():
            return _with_call_state(state, event)
        case Levels():
            return _with_levels(state, event)
        case MicrophoneChanged():
            return replace(state, microphone=event)
        case VolumeChanged(percent=percent):
            return replace(state, volume_percent=percent)
        case Lag():
            return replace(state, lag=event)
        case EchoChanged(state=echo):
            return replace(state, echo=echo)
        case IdleCountdown(ends_at_s=ends_at_s):
            return replace(state, idle_ends_at_s=ends_at_s)
        case LimitNear(at_s=at_s, left_s=left_s):
            return replace(state, limit_ends_at_s=at_s + left_s)
        case PromptChanged(prompt=prompt):
            return replace(state, prompt=prompt)
    return _with_told(state, event)


def tick(state: ViewState, now_s: float) -> ViewState:
    """The state when it is `now_s` and nothing happened: a sentence left alone for long is finished."""
    if state.running and now_s - state.running_s >= AGENT_SILENCE_S:
        return _finish(state, state.heard_chars)
    return state


def flush(state: ViewState) -> ViewState:
    """The state with the agent's running sentence finished where it stands."""
    return _finish(state, len(state.running))


def take_finished(state: ViewState) -> tuple[tuple[Line, ...], ViewState]:
    """The lines to show now, and the state without them."""
    return (state.finished, replace(state, finished=())) if state.finished else ((), state)


def _said(state: ViewState, event: Event) -> ViewState:
    """What was said, by whom, and what came of it."""
    match event:
        case AgentText(text=text):
            running = state.running + safe_text(text)
            return _finish_sentences(replace(state, running=running, running_s=event.at_s))
        case TextHeard(chars=chars, heard=heard):
            if not heard:
                state = replace(state, unheard=joined(state.unheard, state.resolved, chars))
            return _finish_sentences(
                replace(state, resolved=max(chars, state.resolved), running_s=event.at_s)
            )
        case UserText(text=text):
            return _with_line(state, LineKind.USER, safe_text(text))
        case Speaking(side=Side.AGENT, speaking=speaking):
            return replace(state, agent=replace(state.agent, speaks=speaking))
        case Speaking(speaking=speaking):
            if speaking and not state.agent.speaks:
                state = _finish(state, state.heard_chars)  # it stands above the answer to it
            return replace(state, user=replace(state.user, speaks=speaking))
        case TurnEnded(turn=turn):
            kind = LineKind.USER
            if turn.side is Side.AGENT:
                kind, state = LineKind.AGENT, _finish(state, state.heard_chars)
            return _with_line(state, kind, turn_text(turn, state.live_since_s or 0.0), aside=True)
    return state


def _with_call_state(state: ViewState, event: Event) -> ViewState:
    match event:
        case StateChanged(state=CallState.WAITING):
            return replace(state, state=CallState.WAITING, connected_since_s=event.at_s)
        case StateChanged(state=CallState.LIVE):
            return replace(state, state=CallState.LIVE, live_since_s=event.at_s)
        case StateChanged():
            return replace(state, state=event.state)
        case CalledAgain():
            before = flush(state)
            state = ViewState(
                begun_s=event.at_s,
                billed_before_s=before.billed_s(before.ended.at_s if before.ended else event.at_s),
                finished=before.finished,
                microphone=before.microphone,
                volume_percent=before.volume_percent,
                prompt=before.prompt,
            )
            return _with_line(state, LineKind.NEW_CALL, CALLED_AGAIN)
        case CallEnded():
            return replace(flush(state), ended=event, idle_ends_at_s=None, limit_ends_at_s=None)
    return state


def _with_told(state: ViewState, event: Event) -> ViewState:
    """With a line for what the user is told."""
    match event:
        case Notice(text=text):
            return _with_line(state, LineKind.NOTICE, safe_text(text))
        case ServerSaidError(text=text):
            return _with_line(state, LineKind.ERROR, safe_text(text))
        case DeviceChanged():
            return _with_line(state, LineKind.NOTICE, device_text(event))
        case AudioDropped():
            return _with_line(state, LineKind.NOTICE, dropped_text(event))
        case Bookmark(number=number):
            at = elapsed_text(state.elapsed_s(event.at_s))
            return _with_line(state, LineKind.NOTICE, f"Bookmark {number}, at {at}.")
    return state


def _with_levels(state: ViewState, levels: Levels) -> ViewState:
    user = replace(state.user, dbfs=levels.user_dbfs)
    agent = replace(state.agent, dbfs=levels.agent_dbfs)
    if levels.user_clipped:
        user = replace(user, clipped_s=levels.at_s)
    if levels.agent_clipped:
        agent = replace(agent, clipped_s=levels.at_s)
    return replace(state, user=user, agent=agent)


def _finish_sentences(state: ViewState) -> ViewState:
    """With the sentences that are whole, and known to have been heard or not, finished."""
    known = state.heard_chars
    if len(state.running) > UNRESOLVED_MAX_CHARS:
        known = len(state.running)
    for n_chars in sentences(state.running, known):
        state = _finish(state, n_chars)
    return state


def _finish(state: ViewState, n_chars: int) -> ViewState:
    """With the first `n_chars` of `running` in finished lines, none longer than `SENTENCE_MAX_CHARS`."""
    at = state.running_from
    for part in cut(state.running[:n_chars]):
        state = _with_line(state, LineKind.AGENT, part, unheard=within(state.unheard, at, at + len(part)))
        at += len(part)
    unheard = tuple(span for span in state.unheard if span[1] > at)
    return replace(state, running=state.running[n_chars:], running_from=at, unheard=unheard)


def _with_line(
    state: ViewState,
    kind: LineKind,
    text: str,
    *,
    aside: bool = False,
    unheard: Spans = (),
) -> ViewState:
    """Without the white space around it; without a line if that is all there is."""
    stripped = text.strip()
    if not stripped:
        return state
    begin = text.index(stripped)
    unheard = within(unheard, begin, begin + len(stripped))
    return replace(state, finished=(*state.finished, Line(kind, stripped, aside, unheard)))
