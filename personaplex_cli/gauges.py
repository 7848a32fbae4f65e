"""What is measured in a call while it goes on, told as events: levels, turns, lag, what was heard.

Everything about the agent's side is told when it is heard, not when its audio arrives. Where that is, the
sink knows; which text belongs there, the playback thread: it takes the text's marks in between the audio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from personaplex_cli.ends import Sink, Source
from personaplex_cli.events import (
    AgentText,
    AudioDropped,
    Counters,
    EchoChanged,
    EchoState,
    Event,
    Lag,
    Levels,
    Speaking,
    TextHeard,
    TurnEnded,
    Underrun,
)
from personaplex_cli.lag import LagGauge
from personaplex_cli.pcm import PACKET_MS, SILENCE_DBFS, Block, is_clipped, level_dbfs
from personaplex_cli.pipeline.encoder import Encoder
from personaplex_cli.pipeline.playback import Playback
from personaplex_cli.turns import Side, Turn, Turns
from personaplex_cli.wire.session import Session

BATCH_S: Final = 0.2
"""No level is dated back by more than twice the time between two looks."""


@dataclass(slots=True)
class _Loudest:
    """Of one side since the last report."""

    dbfs: float = SILENCE_DBFS
    clipped: bool = False

    def add(self, dbfs: float, clipped: bool) -> None:
        self.dbfs = max(self.dbfs, dbfs)
        self.clipped = self.clipped or clipped

    def take(self) -> tuple[float, bool]:
        taken = (self.dbfs, self.clipped)
        self.dbfs, self.clipped = SILENCE_DBFS, False
        return taken


class Gauges:
    """Of one call. Event loop only; all times are those of the loop's clock until they are in an event."""

    def __init__(
        self,
        emit: Callable[[Event], None],
        zero_s: float,
        source: Source,
        sink: Sink,
        playback: Playback,
        encoder: Encoder,
    ) -> None:
        """`zero_s` is when the events' clock was 0."""
        self._emit = emit
        self._zero_s = zero_s
        self._source = source
        self._sink = sink
        self._playback = playback
        self._encoder = encoder
        self._turns = Turns()
        self._spoke = {side: False for side in Side}
        self._user = _Loudest()
        self._agent = _Loudest()
        self._lag = LagGauge()
        self._chars = self._told_chars = 0
        self._skipped_ms: list[tuple[float, float]] = []
        self._echo = EchoState.OFF
        # A microphone outlives calls, and so does its counter.
        self._told = {"user": source.packets_dropped * PACKET_MS}

    def captured(self, block: Block, now_s: float) -> None:
        """20 ms of the user's side, on its way to the server."""
        dbfs = level_dbfs(block.pcm)
        self._user.add(dbfs, is_clipped(block.pcm))
        self._tell_turns(self._turns.level(Side.USER, block.at_s - self._zero_s, dbfs), now_s)

    def arrived(self, now_s: float) -> None:
        """Audio came from the server."""
        self._lag.arrived(now_s, self._encoder.packets * PACKET_MS)

    def text(self, text: str, now_s: float) -> None:
        """A piece of the agent's text; it belongs to the audio that has come so far."""
        self._chars += len(text)
        self._emit(AgentText(now_s - self._zero_s, text))
        self._playback.mark(self._chars)

    def spoke_s(self, side: Side) -> float:
        """When it last spoke; -inf if it never did."""
        return self._zero_s + self._turns.spoke_s(side)

    def counters(self, session: Session) -> Counters:
        """So far."""
        decoder, playback = self._playback.decoder, self._playback
        remote_ms, local_ms = self._lag.medians()
        return Counters(
            packets_sent=self._encoder.packets,
            packets_dropped=self._encoder.dropped + self._source.packets_dropped,
            silence_inserted=self._source.silence_inserted,
            messages_received=session.received,
            messages_skipped=session.skipped,
            payloads_dropped=playback.payloads_dropped,
            holes=decoder.holes,
            resyncs=decoder.resyncs,
            packets_bad=decoder.packets_bad,
            streams=decoder.streams,
            received_ms=round(playback.received[1]),
            lag_remote_ms=None if remote_ms is None else round(remote_ms),
            lag_local_ms=None if local_ms is None else round(local_ms),
            echo_blocks_dropped=self._source.echo_blocks_dropped,
            playout=self._sink.playout,
            microphone=self._source.device,
            speaker=self._sink.device,
        )

    def look(self, now_s: float) -> None:
        """To be called ten times a second: tells what has changed."""
        heard_ms = self._sink.heard_ms
        self._hear(now_s, heard_ms)
        self._tell_turns(self._turns.tick(now_s - self._zero_s), now_s)
        self._tell_text(heard_ms, now_s)
        self._tell_levels(now_s)
        self._tell_speaking(now_s)
        self._tell_echo(now_s)
        self._lag.look(now_s, *self._playback.received, self._sink.lag_ms)
        if reading := self._lag.take(now_s):
            self._emit(Lag(now_s - self._zero_s, *reading))
            self._tell_losses(now_s)

    def finish(self, now_s: float, *, plays_on: bool = True) -> None:
        """The call is over and all that was received is decoded: what is open is told as it stands.
        `plays_on`: what is still held will be heard."""
        heard_ms = self._sink.heard_at_close_ms if plays_on else self._sink.heard_ms
        self._hear(now_s, heard_ms)
        self._tell_text(heard_ms, now_s)
        if self._chars > self._told_chars:
            self._emit(TextHeard(now_s - self._zero_s, self._chars, heard=False))
        # After the text: a turn's end is taken for that of the sentence.
        self._tell_turns(self._turns.finish(), now_s)
        self._tell_losses(now_s)

    def _hear(self, now_s: float, heard_ms: float) -> None:
        """Takes the levels of what has been heard since the last look."""
        self._note_skipped()
        until_ms = min(heard_ms, self._playback.received[1])
        levels = self._playback.levels
        while levels and levels[0].end_ms <= until_ms:
            level = levels.popleft()
            if self._was_skipped(level.end_ms):
                continue
            self._agent.add(level.dbfs, level.clipped)
            at_s = now_s - min((until_ms - level.end_ms) / 1000, BATCH_S)
            self._tell_turns(self._turns.level(Side.AGENT, at_s - self._zero_s, level.dbfs), now_s)

    def _note_skipped(self) -> None:
        for begin_ms, end_ms in self._sink.take_skipped_ms():
            if self._skipped_ms and begin_ms <= self._skipped_ms[-1][1]:
                begin_ms = self._skipped_ms.pop()[0]
            self._skipped_ms.append((begin_ms, end_ms))

    def _was_skipped(self, at_ms: float) -> bool:
        return any(begin_ms < at_ms <= end_ms for begin_ms, end_ms in self._skipped_ms)

    def _tell_text(self, heard_ms: float, now_s: float) -> None:
        marks = self._playback.marks
        told: list[tuple[int, bool]] = []
        while marks and marks[0][1] <= max(0.0, heard_ms):
            chars, at_ms = marks.popleft()
            heard = not self._was_skipped(at_ms)
            if told and told[-1][1] == heard:
                told.pop()
            told.append((chars, heard))
        for chars, heard in told:
            self._emit(TextHeard(now_s - self._zero_s, chars, heard))
            self._told_chars = chars
        self._skipped_ms = [span for span in self._skipped_ms if span[1] > heard_ms]

    def _tell_levels(self, now_s: float) -> None:
        user_dbfs, user_clipped = self._user.take()
        agent_dbfs, agent_clipped = self._agent.take()
        self._emit(Levels(now_s - self._zero_s, user_dbfs, agent_dbfs, user_clipped, agent_clipped))

    def _tell_speaking(self, now_s: float) -> None:
        for side in Side:
            speaking = self._turns.speaking(side)
            if speaking != self._spoke[side]:
                self._spoke[side] = speaking
                self._emit(Speaking(now_s - self._zero_s, side, speaking))

    def _tell_turns(self, turns: list[Turn], now_s: float) -> None:
        for turn in turns:
            self._emit(TurnEnded(now_s - self._zero_s, turn))

    def _tell_echo(self, now_s: float) -> None:
        if self._source.echo != self._echo:
            self._echo = self._source.echo
            self._emit(EchoChanged(now_s - self._zero_s, self._echo))

    def _tell_losses(self, now_s: float) -> None:
        """What is not heard at all is told when it happens, not only at the end."""
        at_s = now_s - self._zero_s
        if times := self._more("underruns", self._sink.playout.underruns):
            self._emit(Underrun(at_s, times))
        if lost_ms := self._more("agent", self._sink.playout.dropped_ms):
            self._emit(AudioDropped(at_s, Side.AGENT, lost_ms))
        packets = self._encoder.dropped + self._source.packets_dropped
        if lost_ms := self._more("user", packets * PACKET_MS):
            self._emit(AudioDropped(at_s, Side.USER, lost_ms))

    def _more(self, name: str, count: int) -> int:
        """By how much a counter has grown since it was last told; one that was begun anew has not."""
        grown = max(0, count - self._told.get(name, 0))
        self._told[name] = count
        return grown
