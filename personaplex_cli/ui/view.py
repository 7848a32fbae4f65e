"""What a call looks like, as a value: events in, view state out.

No clock, no terminal: time comes in with the events, and as an argument where it goes on between them.
All times are seconds on the call's clock (`Event.at_s`). Every text is made safe for a terminal here, whoever
made the event: what a user injects has not been through the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from personaplex_cli import pcm
from personaplex_cli.events import (
    AgentText,
    CalledAgain,
    CallEnded,
    CallState,
    DeviceChanged,
    DeviceState,
    Event,
    Levels,
    Notice,
    ServerSaidError,
    StateChanged,
    UserText,
)
from personaplex_cli.wire.text import safe_text

SENTENCE_MAX_CHARS: Final = 600
"""A sentence longer than this is cut, so that neither the state nor the time to draw it can grow."""

AGENT_SILENCE_S: Final = 1.2
"""A sentence to which nothing was added for so long is finished."""

CALLED_AGAIN: Final = "the agent remembers nothing of what was said before"

SPEECH_HOLD_S: Final = 0.3
"""Who was heard speaks for this much longer: the gaps between syllables are no pauses."""

# A full stop ends a sentence only before white space, so "3.5" and "example.com" stay whole; Chinese and
# Japanese put none there. Further text must follow, because quotes and more dots may still come in the next
# piece. The quantifiers are possessive: "..." must not be taken for "." followed by text; and a run of dots
# is looked at once, from its first: a million of them would take minutes.
_CLOSING: Final = r"""["'”’»)\]」』）】]"""
_SENTENCE_END: Final = re.compile(
    rf"(?<![.!?…])[.!?…]++{_CLOSING}*+(?=\s+\S)|(?<![。！？])[。！？]++{_CLOSING}*+(?=\s*\S)"
)


class LineKind(StrEnum):
    """What a finished line is; the value is its label on the screen."""

    AGENT = "agent"
    USER = "you"
    NOTICE = "note"
    ERROR = "error"
    NEW_CALL = "new call"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that will not change any more. `text` is not empty and holds no line break."""

    kind: LineKind
    text: str


@dataclass(frozen=True, slots=True)
class ViewState:
    """Everything a screen shows of a call."""

    state: CallState = CallState.CONNECTING
    live_since_s: float | None = None
    user_dbfs: float = pcm.SILENCE_DBFS
    agent_dbfs: float = pcm.SILENCE_DBFS
    user_heard_s: float | None = None
    """When the user was last above the level of speech."""
    agent_heard_s: float | None = None
    running: str = ""
    """What the agent said since its last finished sentence, as it came."""
    running_s: float = 0.0
    """When the last piece of `running` came."""
    finished: tuple[Line, ...] = ()
    """Lines nobody has shown yet; `take_finished` takes them out."""
    ended: CallEnded | None = None

    def elapsed_s(self, now_s: float) -> float:
        """How long the conversation has lasted; while there is none yet, how long the call has been tried."""
        if self.ended is not None:
            return self.ended.lasted_s if self.live_since_s is None else self.ended.live_s
        return max(0.0, now_s - (self.live_since_s or 0.0))

    def user_speaks(self, now_s: float) -> bool:
        return self.user_heard_s is not None and now_s - self.user_heard_s < SPEECH_HOLD_S

    def agent_speaks(self, now_s: float) -> bool:
        return self.agent_heard_s is not None and now_s - self.agent_heard_s < SPEECH_HOLD_S


def reduce(state: ViewState, event: Event) -> ViewState:
    """The state after `event`; time passes up to the event's first."""
    state = tick(state, event.at_s)
    match event:
        case AgentText(text=text):
            sentences, running = _split(state.running + safe_text(text))
            state = replace(state, running=running, running_s=event.at_s)
            return _with_lines(state, LineKind.AGENT, sentences)
        case Levels():
            return _with_levels(state, event)
        case UserText(text=text):
            return _with_lines(flush(state), LineKind.USER, [safe_text(text)])
        case Notice(text=text):
            return _with_lines(state, LineKind.NOTICE, [safe_text(text)])
        case DeviceChanged():
            return _with_lines(state, LineKind.NOTICE, [_device_text(event)])
        case CalledAgain():
            state = replace(flush(state), ended=None, live_since_s=None)
            return _with_lines(state, LineKind.NEW_CALL, [CALLED_AGAIN])
        case ServerSaidError(text=text):
            return _with_lines(state, LineKind.ERROR, [safe_text(text)])
        case StateChanged():
            return _with_call_state(state, event)
        case CallEnded():
            return replace(flush(state), ended=event)
    return state


def tick(state: ViewState, now_s: float) -> ViewState:
    """The state when it is `now_s` and nothing happened: a sentence left alone for long is finished."""
    if state.running and now_s - state.running_s >= AGENT_SILENCE_S:
        return flush(state)
    return state


def flush(state: ViewState) -> ViewState:
    """The state with the agent's running sentence finished where it stands."""
    return _with_lines(replace(state, running=""), LineKind.AGENT, [state.running])


def take_finished(state: ViewState) -> tuple[tuple[Line, ...], ViewState]:
    """The lines to show now, and the state without them."""
    return (state.finished, replace(state, finished=())) if state.finished else ((), state)


def elapsed_text(seconds: float) -> str:
    """A duration as people write it: 0:05, 12:34, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _with_lines(state: ViewState, kind: LineKind, texts: Iterable[str]) -> ViewState:
    shown = [text.strip() for text in texts]
    lines = tuple(Line(kind, text) for text in shown if text)
    return replace(state, finished=state.finished + lines) if lines else state


def _device_text(event: DeviceChanged) -> str:
    role, name = event.role, safe_text(event.name)
    match event.state:
        case DeviceState.LOST:
            meanwhile = "silence is sent" if role == "microphone" else "nothing is heard"
            return f"The {role} {name!r} is gone; {meanwhile} until it is back."
        case DeviceState.BACK:
            return f"The {role} {name!r} is back."
        case DeviceState.REPLACED:
            return f"The {role} is {name!r} now, until the other one is back."
        case DeviceState.CHANGED:
            return f"The {role} is {name!r} now."
        case DeviceState.REFUSED:
            return f"The {role} stays: {name}"


def _with_levels(state: ViewState, levels: Levels) -> ViewState:
    user_speaks = levels.user_dbfs > pcm.SPEECH_DBFS
    agent_speaks = levels.agent_dbfs > pcm.SPEECH_DBFS
    return replace(
        state,
        user_dbfs=levels.user_dbfs,
        agent_dbfs=levels.agent_dbfs,
        user_heard_s=levels.at_s if user_speaks else state.user_heard_s,
        agent_heard_s=levels.at_s if agent_speaks else state.agent_heard_s,
    )


def _with_call_state(state: ViewState, event: StateChanged) -> ViewState:
    if event.state is CallState.LIVE and state.live_since_s is None:
        state = replace(state, live_since_s=event.at_s)
    return replace(state, state=event.state)


def _split(text: str) -> tuple[list[str], str]:
    """The finished sentences at the front of `text`, and the rest."""
    sentences: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(text):
        sentences += _cut(text[start : end.end()])
        start = end.end()
    *too_long, rest = _cut(text[start:])
    return sentences + too_long, rest


def _cut(text: str) -> list[str]:
    """`text` in parts of at most `SENTENCE_MAX_CHARS`, cut at spaces where there are any."""
    parts: list[str] = []
    while len(text) > SENTENCE_MAX_CHARS:
        space = text.rfind(" ", 1, SENTENCE_MAX_CHARS)
        cut = space if space > 0 else SENTENCE_MAX_CHARS
        parts.append(text[:cut])
        text = text[cut:]
    return [*parts, text]
