"""A short call to the stand-in through the real devices: all of the program but the network."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from personaplex_cli.call import Call, Opening
from personaplex_cli.catalog import DEFAULT_VOICE
from personaplex_cli.devices.listing import find_device
from personaplex_cli.doctor.check import Finding, failure, ok, warning
from personaplex_cli.doctor.machine import Place
from personaplex_cli.echo import open_echo
from personaplex_cli.echo_options import MAX_BUFFER_MS, EchoOptions
from personaplex_cli.errors import AudioError, PersonaplexError, ServerError
from personaplex_cli.events import CallEnded, EchoChanged, EchoState, EndReason, Event, Levels
from personaplex_cli.limits import Limits
from personaplex_cli.pcm import SILENCE_DBFS, SPEECH_DBFS
from personaplex_cli.pipeline.websocket import VoiceSocket
from personaplex_cli.soundcard import MicrophoneSource, SpeakerSink
from personaplex_cli.standin.server import StandIn
from personaplex_cli.wire.endpoint import Dialect, build_endpoint

CALL_S: Final = 10.0

MAX_UNDERRUNS: Final = 3
"""On one machine there is no uneven network to blame: more mean that it is too busy."""

BUSY_HINT: Final = "Close what keeps this machine busy, or allow more delay: --max-buffer 600"


@dataclass
class Impression:
    """What was seen of a call. Event loop only."""

    user_dbfs: float = SILENCE_DBFS
    agent_dbfs: float = SILENCE_DBFS
    echo: EchoState = EchoState.OFF
    ended: CallEnded | None = field(default=None)

    def listen(self, event: Event) -> None:
        match event:
            case Levels():
                self.user_dbfs = max(self.user_dbfs, event.user_dbfs)
                self.agent_dbfs = max(self.agent_dbfs, event.agent_dbfs)
            case EchoChanged():
                self.echo = event.state
            case CallEnded():
                self.ended = event


def check_call(
    input_device: str | None,
    output_device: str | None,
    channel: int | None,
    place: Place,
    duration_s: float = CALL_S,
) -> Finding:
    """Blocks for so long, and some seconds more at most. Raises PersonaplexError."""
    impression = asyncio.run(_call(input_device, output_device, channel, duration_s))
    assert impression.ended is not None
    if impression.ended.error is not None:
        raise impression.ended.error
    return call_finding(impression, impression.ended, place)


async def _call(
    input_device: str | None, output_device: str | None, channel: int | None, duration_s: float
) -> Impression:
    """Raises AudioError, MissingLibraryError, UsageError."""
    impression = Impression()
    async with AsyncExitStack() as stack:
        standin = await stack.enter_async_context(StandIn())
        echo = open_echo(EchoOptions(), find_device(output_device, "output").name)
        sink = SpeakerSink(output_device, MAX_BUFFER_MS, echo)
        stack.callback(sink.close)
        source = MicrophoneSource(input_device, channel, echo)
        stack.callback(source.close)
        token = standin.issue_token()
        endpoint = build_endpoint(
            Dialect.POLARGRID, standin.url, voice=DEFAULT_VOICE, persona=None, token=token
        )
        call = Call(
            partial(VoiceSocket.connect, endpoint, None),
            source,
            sink,
            impression.listen,
            limits=Limits(max_duration_s=duration_s, idle_s=None),
            opening=Opening(),
            secrets=endpoint.secrets,
        )
        await call.run()
    return impression


def call_finding(impression: Impression, ended: CallEnded, place: Place) -> Finding:
    """In words."""
    counters = ended.counters
    underruns = counters.playout.underruns + counters.speaker.flagged
    figures = {
        "lasted_s": round(ended.lasted_s, 1),
        "greeting_dbfs": round(impression.agent_dbfs, 1),
        "microphone_dbfs": round(impression.user_dbfs, 1),
        "underruns": underruns,
        "lag_ms": counters.lag_local_ms,
        "echo": impression.echo.value,
    }
    if problem := _problem(impression, ended, place):
        return failure(problem, **figures)
    lag = "" if counters.lag_local_ms is None else f", {counters.lag_local_ms} ms behind"
    text = (
        f"{ended.lasted_s:.0f} s with the stand-in: greeting played{lag}, you at "
        f"{impression.user_dbfs:.0f} dBFS, underruns: {underruns}."
    )
    if impression.echo is EchoState.HEARD:
        hint = "Put on headphones, or see what is said about echo above."
        return warning(f"{text} The microphone hears the speaker.", hint, **figures)
    return warning(text, BUSY_HINT, **figures) if underruns > MAX_UNDERRUNS else ok(text, **figures)


def _problem(impression: Impression, ended: CallEnded, place: Place) -> PersonaplexError | None:
    if ended.reason is not EndReason.MAX_DURATION:
        return ServerError(f"The call to the stand-in ended early: {ended.reason.value}.")
    if impression.agent_dbfs < SPEECH_DBFS:
        return AudioError("The greeting never got to the speaker.", "Try another one: --output-device")
    if impression.user_dbfs <= SILENCE_DBFS:
        return AudioError("Nothing came from the microphone in the call.", place.microphone_hint)
    return None
