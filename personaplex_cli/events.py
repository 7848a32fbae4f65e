"""What happens in a call, as values.

A call emits these to whoever listens (screen, later recording and statistics) and knows none of its
listeners. Every event is frozen, carries `at_s` (seconds since the conversation began) and
holds no secret: no key, no token, no persona. Texts that came from the server are already harmless on a
terminal (`wire.text.safe_text`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from personaplex_cli.errors import PersonaplexError
from personaplex_cli.turns import Side, Turn


class CallState(StrEnum):
    CONNECTING = "connecting"
    """Socket, TLS and upgrade."""
    WAITING = "waiting for the model"
    """Connected; the handshake message has not come: the persona is being read, or the server is busy."""
    LIVE = "live"
    CLOSING = "closing"
    ENDED = "ended"


class DeviceState(StrEnum):
    """What became of a sound device during a call."""

    LOST = "lost"
    """It went away, or does not answer any more."""
    BACK = "back"
    REPLACED = "replaced"
    """Another one stands in for it until it is back."""
    CHANGED = "changed"
    """The user wanted another one."""
    REFUSED = "refused"
    """The one that the user wanted cannot be used; the one before is kept."""


class EchoState(StrEnum):
    """What is done about the microphone hearing the speaker."""

    OFF = "off"
    CANCELLED = "cancelled"
    RESTING = "nothing to cancel"
    """The canceller is there and has found that the microphone does not hear the speaker."""
    FAILED = "canceller failed"
    HALF_DUPLEX = "half-duplex"
    HEARD = "heard"
    """Nothing is done, and the microphone hears the speaker."""


class EndReason(StrEnum):
    HUNG_UP = "you hung up"
    BEGUN_ANEW = "you began a new call"
    TERMINATED = "the program was told to end"
    INPUT_ENDED = "the input ended"
    MAX_DURATION = "the time limit was reached"
    BUDGET = "the budget is used up"
    IDLE = "nobody spoke"
    SERVER_CLOSED = "the server closed the call"
    CONNECTION_LOST = "the connection was lost"
    SERVER_ERROR = "the server failed"
    AUDIO_FAILED = "the sound failed"
    OUTPUT_FAILED = "the output failed"
    NEVER_LIVE = "the call never began"


@dataclass(frozen=True, slots=True)
class PlayoutCounters:
    """What became of the agent's audio between the decoder and the speaker."""

    underruns: int = 0
    """Times there was nothing to play in the middle of the agent's audio."""
    concealed_ms: int = 0
    """Played in place of what was late: the last sound, repeated and faded."""
    silence_removed_ms: int = 0
    """Left out where the agent was silent, to catch up."""
    speech_cut_ms: int = 0
    """Left out of the agent's speech to catch up, in whole pitch periods: it speaks a little faster."""
    dropped_ms: int = 0
    """Skipped to catch up: more than a second was late, or the user asked for it."""


@dataclass(frozen=True, slots=True)
class DeviceCounters:
    """How well a sound device did."""

    flagged: int = 0
    """Overflows and underflows that the host reported."""
    restarts: int = 0
    """Times it was opened again, or another one in its place."""
    late_ms: int = 0
    """All but one in a thousand of its callbacks were late by this, or less; 100 also stands for more."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What was counted in a call. Everything that was dropped, skipped or repaired has its number here."""

    packets_sent: int = 0
    """Opus packets of ours that went into pages and out."""
    packets_dropped: int = 0
    """What was dropped of the user's audio, before encoding and in units of a packet, because it was older
    than 200 ms when it could go."""
    silence_inserted: int = 0
    """Packets of silence sent because the source had nothing in time (a stalled microphone, a slow pipe)."""
    messages_received: int = 0
    messages_skipped: int = 0
    """Messages skipped: unknown tag, empty, or of WebSocket type text."""
    payloads_dropped: int = 0
    """Audio payloads dropped because the playback thread was 30 s behind."""
    holes: int = 0
    """Places where the server's Ogg stream was damaged or incomplete; concealed."""
    resyncs: int = 0
    """Stretches of what the server sent that belonged to no valid page (each bad checksum is one)."""
    packets_bad: int = 0
    """Opus packets of the server that could not be decoded; concealed."""
    streams: int = 0
    """Logical Ogg streams (BOS pages) the server began; more than one is a chained stream."""
    received_ms: int = 0
    """Agent's audio decoded."""
    lag_remote_ms: int | None = None
    """Median of what `Lag` told; None when it told nothing."""
    lag_local_ms: int | None = None
    echo_blocks_dropped: int = 0
    """10 ms blocks of the microphone that the echo canceller did not get to in time."""
    playout: PlayoutCounters = PlayoutCounters()
    microphone: DeviceCounters = DeviceCounters()
    speaker: DeviceCounters = DeviceCounters()


@dataclass(frozen=True, slots=True)
class Written:
    """A file that a call has written."""

    name: str
    """As the user named it."""
    duration_s: float | None = None
    """How much sound is in it, or None for what is not sound."""


@dataclass(frozen=True, slots=True)
class Event:
    at_s: float
    """Seconds on the conversation's clock, which is 0 when its first call begins."""


@dataclass(frozen=True, slots=True)
class StateChanged(Event):
    state: CallState


@dataclass(frozen=True, slots=True)
class AgentText(Event):
    """A piece of what the agent says: append it as it is, it brings its own spaces."""

    text: str


@dataclass(frozen=True, slots=True)
class TextHeard(Event):
    """What became of the agent's text, in order: the audio that belongs to it was heard, or never will be."""

    chars: int
    """Up to this character, counted over all `AgentText` of the call."""
    heard: bool
    """False: its audio was skipped to catch up, or the call ended before."""


@dataclass(frozen=True, slots=True)
class UserText(Event):
    """Text that was injected into the call."""

    text: str


@dataclass(frozen=True, slots=True)
class Speaking(Event):
    """A side has begun to speak, or has stopped, as `turns.VoiceActivity` defines it. The agent speaks when
    it is heard, not when its audio arrives."""

    side: Side
    speaking: bool


@dataclass(frozen=True, slots=True)
class TurnEnded(Event):
    """A turn is over, and it is known what it was. Its times are on the conversation's clock."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Levels(Event):
    """Loudest 20 ms of each side since the last such event (dBFS); ten times a second at most. The user's are
    what is sent, the agent's what is heard."""

    user_dbfs: float
    agent_dbfs: float
    user_clipped: bool = False
    """A sample was as large as samples can be."""
    agent_clipped: bool = False

    def or_louder(self, other: Levels) -> Levels:
        """One for the time of both."""
        return Levels(
            max(self.at_s, other.at_s),
            max(self.user_dbfs, other.user_dbfs),
            max(self.agent_dbfs, other.agent_dbfs),
            self.user_clipped or other.user_clipped,
            self.agent_clipped or other.agent_clipped,
        )


@dataclass(frozen=True, slots=True)
class Lag(Event):
    """How late the conversation is, by counting samples; twice a second at most."""

    remote_ms: float | None
    """Network and model: sent and not yet answered. None until the first answer."""
    local_ms: float
    """Ours: received and not yet heard."""


@dataclass(frozen=True, slots=True)
class DeviceChanged(Event):
    """A sound device was lost, is back, or was replaced. While it is lost, silence is sent or nothing is
    heard, and the call goes on."""

    role: str
    """Either "microphone" or "speaker"."""
    state: DeviceState
    name: str
    """Of the device; for `REFUSED`, why."""


@dataclass(frozen=True, slots=True)
class Underrun(Event):
    """There was nothing to play in the middle of the agent's audio."""

    times: int
    """Since the last such event."""


@dataclass(frozen=True, slots=True)
class AudioDropped(Event):
    """Audio of this side was dropped for good, because it came too late."""

    side: Side
    milliseconds: int
    """Since the last such event."""


@dataclass(frozen=True, slots=True)
class EchoChanged(Event):
    state: EchoState


@dataclass(frozen=True, slots=True)
class MicrophoneChanged(Event):
    """What is sent of the microphone has been changed by the user."""

    muted: bool
    push_to_talk: bool
    talking: bool
    """The key is held (or was tapped): the user is heard, also in push-to-talk and half-duplex calls."""


@dataclass(frozen=True, slots=True)
class VolumeChanged(Event):
    percent: int
    """100: as it came."""


@dataclass(frozen=True, slots=True)
class Bookmark(Event):
    """The user wants to find this moment again."""

    number: int
    """From 1, over all calls of the conversation."""


@dataclass(frozen=True, slots=True)
class IdleCountdown(Event):
    """Nobody has spoken for a while."""

    ends_at_s: float | None
    """When the call will be ended for that (the conversation's clock); None when somebody speaks again."""


@dataclass(frozen=True, slots=True)
class LimitNear(Event):
    """The limit of time or money comes near: when a fifth of it is left, a minute, and ten seconds."""

    left_s: float


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Something the user should know and that ends nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class CalledAgain(Event):
    """A call that broke off is followed by another, which is a new conversation: models keep no state."""


@dataclass(frozen=True, slots=True)
class ServerSaidError(Event):
    """An error message of the server (tag 0x05)."""

    text: str


@dataclass(frozen=True, slots=True)
class Metadata(Event):
    """Metadata of the server (tag 0x04), parsed from JSON. Its texts are NOT yet safe for a terminal."""

    data: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallEnded(Event):
    """The last event of every call."""

    reason: EndReason
    detail: str
    """A sentence part that says more, or "" (a close code and what it means, for example)."""
    error: PersonaplexError | None
    """Why the process will not exit with 0, or None if the call ended as asked."""
    lasted_s: float
    """Seconds from the beginning until the socket was closed."""
    live_s: float
    """Seconds from the handshake until the socket was closed."""
    counters: Counters


Listener = Callable[[Event], None]
"""Called on the event loop; must return quickly and not raise (an OSError it raises ends the call)."""


@dataclass(frozen=True, slots=True)
class Reports:
    """What an end tells the call that uses it, from any thread."""

    failed: Callable[[Exception], None]
    """It cannot go on: the call ends with this error."""
    device: Callable[[str, DeviceState, str], None]
    """Role, state and name of a sound device that was lost, is back, and so on."""
    notice: Callable[[str], None]
    """Something the user should know and that ends nothing."""
