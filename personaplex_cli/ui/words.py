"""What happened, in the words that a user reads. Pure."""

from __future__ import annotations

from typing import Final

from personaplex_cli.events import (
    AudioDropped,
    DeviceChanged,
    DeviceState,
    EchoChanged,
    EchoState,
    Event,
    IdleCountdown,
    LimitNear,
    MicrophoneChanged,
    VolumeChanged,
)
from personaplex_cli.turns import Side, Turn, TurnKind
from personaplex_cli.wire.text import safe_text

CALLED_AGAIN: Final = "the agent remembers nothing of what was said before"


def elapsed_text(seconds: float) -> str:
    """A duration as people write it: 0:05, 12:34, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def turn_text(turn: Turn, live_since_s: float) -> str:
    """About a turn: of the user's all that is known, of the agent's only what its text does not say."""
    spoke = f"spoke for {turn.end_s - turn.start_s:.1f} s"
    if turn.side is Side.USER:
        begun = elapsed_text(max(0.0, turn.start_s - live_since_s))
        how = {
            TurnKind.TURN: "",
            TurnKind.INTERRUPTION: ", interrupting the agent",
            TurnKind.BACKCHANNEL: ", a backchannel",
            TurnKind.OVERLAP: ", over the agent",
        }[turn.kind]
        return f"({begun}: {spoke}{how})"
    return {
        TurnKind.TURN: "",
        TurnKind.INTERRUPTION: "(interrupted you)",
        TurnKind.BACKCHANNEL: "(a backchannel, while you spoke)",
        TurnKind.OVERLAP: f"({spoke} while you did)",
    }[turn.kind]


def dropped_text(event: AudioDropped) -> str:
    seconds = f"{event.milliseconds / 1000:.1f} s"
    if event.side is Side.AGENT:
        return f"{seconds} of the agent's audio dropped to catch up."
    return f"{seconds} of your voice dropped, which could not be sent in time."


def device_text(event: DeviceChanged) -> str:
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


def told_text(event: Event) -> str:
    """About what a status line shows, for those who have none; "" for what goes on all the time."""
    match event:
        case MicrophoneChanged(muted=True):
            return "You are muted."
        case MicrophoneChanged(push_to_talk=True, talking=False):
            return "You are heard when you press the space key."
        case MicrophoneChanged():
            return "You are heard."
        case VolumeChanged(percent=percent):
            return f"The volume is {percent} %."
        case EchoChanged(state=EchoState.CANCELLED):
            return "Echo is cancelled."
        case EchoChanged(state=EchoState.RESTING):
            return "There is no echo to cancel."
        case IdleCountdown(at_s=at_s, ends_at_s=float(ends_at_s)):
            return f"Nobody speaks: the call ends in {ends_at_s - at_s:.0f} s."
        case IdleCountdown():
            return "The call goes on."
        case LimitNear(left_s=left_s):
            return f"The time limit is reached in {left_s:.0f} s."
    return ""
