"""What is told of a call while it goes on, with both of its ends, the decoder and the clock faked."""

from __future__ import annotations

import math
from array import array
from collections import deque
from typing import Any, cast

import pytest
from fakes import FakeSink, FakeSource

from personaplex_cli.codec.stream import StreamDecoder
from personaplex_cli.events import (
    AgentText,
    AudioDropped,
    EchoChanged,
    EchoState,
    Event,
    Lag,
    Levels,
    PlayoutCounters,
    Speaking,
    TextHeard,
    TurnEnded,
    Underrun,
)
from personaplex_cli.gauges import Gauges
from personaplex_cli.pcm import PACKET_MS, PACKET_SAMPLES, SILENCE_DBFS, Block, silence, to_pcm
from personaplex_cli.pipeline.encoder import Encoder
from personaplex_cli.pipeline.playback import DecodedLevel, Playback
from personaplex_cli.turns import Side, TurnKind
from personaplex_cli.wire.session import Session

LOUD = to_pcm(array("h", [3277, -3277] * (PACKET_SAMPLES // 2)))
LOUD_DBFS = -20.0
CLIPPED = to_pcm(array("h", [32_767, -32_767] * (PACKET_SAMPLES // 2)))
QUIET = silence(PACKET_SAMPLES)
ZERO_S = 5000.0
"""When the conversation's clock was 0, by the loop's."""


class FakePlayback:
    """Decodes nothing: what is `received` has these levels."""

    def __init__(self) -> None:
        self.received = (0.0, 0.0)
        self.levels: deque[DecodedLevel] = deque()
        self.marks: deque[tuple[int, float]] = deque()
        self.payloads_dropped = 0
        self.decoder = StreamDecoder()

    def mark(self, number: int) -> None:
        self.marks.append((number, self.received[1]))

    def decode(self, dbfs: float, n_levels: int = 1, at_s: float = 0.0, *, clipped: bool = False) -> None:
        for _ in range(n_levels):
            end_ms = self.received[1] + PACKET_MS
            self.levels.append(DecodedLevel(end_ms, dbfs, clipped))
            self.received = (at_s, end_ms)


class Rig:
    """Gauges on a clock of their own, which begins with the conversation's 0."""

    def __init__(self, source: FakeSource | None = None) -> None:
        self.events: list[Event] = []
        self.source = source or FakeSource()
        self.sink = FakeSink()
        self.sink.heard_ms = self.sink.heard_at_close_ms = 0.0
        self.playback = FakePlayback()
        self.encoder = Encoder()
        self.gauges = Gauges(
            self.events.append,
            ZERO_S,
            self.source,
            self.sink,
            cast(Playback, self.playback),
            self.encoder,
        )
        self.now_s = 0.0

    def look(self) -> list[Event]:
        """What the next look tells."""
        before = len(self.events)
        self.now_s += 0.1
        self.gauges.look(ZERO_S + self.now_s)
        return self.events[before:]

    def hear(self, user: bytes, n_looks: int, agent_dbfs: float = SILENCE_DBFS) -> None:
        """Goes on for so long, the agent's audio heard as it comes."""
        for _ in range(n_looks):
            for packet in range(5):
                at_s = ZERO_S + self.now_s + 0.02 * (packet + 1)
                self.gauges.captured(Block(user, at_s), at_s)
                self.playback.decode(agent_dbfs, at_s=at_s)
            self.sink.heard_ms = self.sink.heard_at_close_ms = self.playback.received[1]
            self.look()

    def finish(self) -> list[Event]:
        before = len(self.events)
        self.gauges.finish(ZERO_S + self.now_s)
        return self.events[before:]

    def lag_counted(self) -> tuple[int | None, int | None]:
        counters = self.gauges.counters(Session())
        return counters.lag_remote_ms, counters.lag_local_ms

    def of(self, kind: type[Event]) -> list[Any]:
        return of(kind, self.events)


def of(kind: type[Event], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def heard(events: list[Event]) -> list[tuple[int, bool]]:
    return [(event.chars, event.heard) for event in of(TextHeard, events)]


# --- text


def test_text_is_heard_when_playing_has_passed_its_audio() -> None:
    rig = Rig()
    rig.gauges.text("Hello", ZERO_S)
    rig.playback.decode(LOUD_DBFS, 10)
    rig.gauges.text(" there", ZERO_S)
    rig.playback.decode(LOUD_DBFS, 10)
    rig.gauges.text("!", ZERO_S)
    assert [event.text for event in rig.of(AgentText)] == ["Hello", " there", "!"]
    told = []
    for heard_ms in (-30.0, 0.0, 199.0, 200.0, 399.9, 400.0, 400.0):
        rig.sink.heard_ms = heard_ms
        told.append(heard(rig.look()))
    # The first piece has no audio before it: nothing has to be waited for.
    assert told == [[(5, True)], [], [], [(11, True)], [], [(12, True)], []]


def test_pieces_that_are_heard_together_are_told_together() -> None:
    rig = Rig()
    for piece in ("One", " two", " three"):
        rig.playback.decode(LOUD_DBFS, 5)
        rig.gauges.text(piece, ZERO_S)
    rig.sink.heard_ms = 250.0
    assert heard(rig.look()) == [(7, True)]
    rig.sink.heard_ms = 300.0
    assert heard(rig.look()) == [(13, True)]


def test_where_writing_is_all_there_is_text_is_heard_when_it_is_decoded() -> None:
    rig = Rig()
    rig.sink.heard_ms = float("inf")
    rig.gauges.text("Hello", ZERO_S)
    assert heard(rig.look()) == [(5, True)]
    rig.playback.decode(LOUD_DBFS, 4)
    rig.gauges.text(" there", ZERO_S)
    [levels] = of(Levels, told := rig.look())
    assert heard(told) == [(11, True)] and levels.agent_dbfs == LOUD_DBFS


def test_text_whose_audio_was_skipped_is_told_as_unheard() -> None:
    rig = Rig()
    for piece in ("a", "b", "c", "d", "e"):
        rig.playback.decode(LOUD_DBFS, 10)
        rig.gauges.text(piece, ZERO_S)
    rig.sink.heard_ms = 200.0
    assert heard(rig.look()) == [(1, True)]
    rig.sink.skipped_ms = [(300.0, 800.0)]
    assert heard(rig.look()) == []
    rig.sink.heard_ms = 1000.0
    assert heard(rig.look()) == [(4, False), (5, True)]


def test_a_skipped_stretch_that_is_told_in_parts_is_one() -> None:
    rig = Rig()
    for piece in ("a", "b", "c"):
        rig.playback.decode(LOUD_DBFS, 10)
        rig.gauges.text(piece, ZERO_S)
    rig.sink.skipped_ms = [(100.0, 180.0), (180.0, 260.0)]
    rig.look()
    rig.sink.skipped_ms = [(260.0, 300.0)]
    rig.look()
    assert rig.gauges._skipped_ms == [(100.0, 300.0)]  # a device that hangs makes no long list
    rig.sink.heard_ms = 600.0
    assert heard(rig.look()) == [(1, False), (3, True)]


def test_text_of_which_the_end_was_heard_is_heard() -> None:
    """Its mark stands at its end, and that was played."""
    rig = Rig()
    rig.playback.decode(LOUD_DBFS, 10)
    rig.gauges.text("a", ZERO_S)
    rig.sink.skipped_ms = [(0.0, 199.0)]
    rig.sink.heard_ms = 200.0
    assert heard(rig.look()) == [(1, True)]


def test_what_was_not_heard_when_the_call_ends_never_will_be() -> None:
    rig = Rig()
    for piece in ("a", "b", "c"):
        rig.playback.decode(LOUD_DBFS, 10)
        rig.gauges.text(piece, ZERO_S)
    rig.sink.heard_ms = 200.0
    rig.look()
    rig.sink.heard_at_close_ms = 400.0  # so much of it is still heard out
    assert heard(rig.finish()) == [(2, True), (3, False)]


def test_when_all_was_heard_the_end_tells_nothing_more() -> None:
    rig = Rig()
    rig.playback.decode(LOUD_DBFS, 10)
    rig.gauges.text("a", ZERO_S)
    rig.sink.heard_ms = rig.sink.heard_at_close_ms = 200.0
    assert heard(rig.look()) == [(1, True)]
    assert heard(rig.finish()) == []


def test_a_mark_that_was_lost_is_made_good_at_the_end() -> None:
    rig = Rig()
    rig.gauges.text("lost", ZERO_S)
    rig.playback.marks.clear()
    rig.sink.heard_ms = rig.sink.heard_at_close_ms = float("inf")
    assert heard(rig.look() + rig.finish()) == [(4, False)]


def test_a_call_without_text_has_none_to_tell_of() -> None:
    rig = Rig()
    rig.hear(QUIET, 5)
    rig.finish()
    assert not rig.of(TextHeard)


# --- levels and speech


def test_the_agents_levels_are_told_when_they_are_heard() -> None:
    rig = Rig()
    rig.playback.decode(LOUD_DBFS, 5)
    rig.playback.decode(-40.0, 5, clipped=True)
    told = []
    for heard_ms in (0.0, 19.9, 20.0, 110.0, 200.0, 300.0):
        rig.sink.heard_ms = heard_ms
        [levels] = of(Levels, rig.look())
        told.append((levels.agent_dbfs, levels.agent_clipped))
    nothing = (SILENCE_DBFS, False)
    assert told == [nothing, nothing, (LOUD_DBFS, False), (LOUD_DBFS, False), (-40.0, True), nothing]


def test_levels_that_were_skipped_are_not_told() -> None:
    rig = Rig()
    rig.playback.decode(-40.0, 5)
    rig.playback.decode(LOUD_DBFS, 5, clipped=True)
    rig.sink.skipped_ms = [(100.0, 200.0)]
    rig.sink.heard_ms = 200.0
    [levels] = of(Levels, rig.look())
    assert (levels.agent_dbfs, levels.agent_clipped) == (-40.0, False)
    assert not rig.playback.levels


def test_the_users_loudest_level_is_told_once() -> None:
    rig = Rig()
    for pcm in (QUIET, LOUD, QUIET, CLIPPED, QUIET):
        rig.gauges.captured(Block(pcm, ZERO_S), ZERO_S)
    first, second = of(Levels, rig.look() + rig.look())
    assert first.user_dbfs == pytest.approx(0, abs=0.1) and first.user_clipped
    assert (second.user_dbfs, second.user_clipped) == (SILENCE_DBFS, False)
    assert not first.agent_clipped


def test_a_side_that_begins_and_stops_to_speak_is_told_once_each() -> None:
    rig = Rig()
    rig.hear(LOUD, 10)
    rig.hear(QUIET, 10)
    rig.hear(QUIET, 10, LOUD_DBFS)
    rig.hear(QUIET, 10)
    told = [(event.side, event.speaking) for event in rig.of(Speaking)]
    assert told == [(Side.USER, True), (Side.USER, False), (Side.AGENT, True), (Side.AGENT, False)]
    times = [event.at_s for event in rig.of(Speaking)]
    assert times == pytest.approx([0.1, 1.2, 2.1, 3.2], abs=0.11)


def test_the_agent_speaks_when_it_is_heard_and_not_when_its_audio_comes() -> None:
    rig = Rig()
    rig.playback.decode(LOUD_DBFS, 50)
    for _ in range(10):
        rig.look()
    assert not rig.of(Speaking) and rig.gauges.spoke_s(Side.AGENT) == -math.inf
    for _ in range(5):
        rig.sink.heard_ms += 100
        rig.look()
    [began] = rig.of(Speaking)
    assert began.speaking and began.side is Side.AGENT
    assert began.at_s == pytest.approx(1.1)
    assert rig.gauges.spoke_s(Side.AGENT) == pytest.approx(ZERO_S + rig.now_s, abs=0.11)


def test_turns_are_told_with_the_conversations_times() -> None:
    rig = Rig()
    rig.hear(LOUD, 10)
    rig.hear(QUIET, 5)
    rig.hear(QUIET, 20, LOUD_DBFS)
    rig.hear(QUIET, 20)
    user, agent = (event.turn for event in rig.of(TurnEnded))
    assert (user.side, agent.side) == (Side.USER, Side.AGENT)
    assert (user.start_s, user.end_s) == pytest.approx((0.0, 1.0), abs=0.021)
    assert (agent.start_s, agent.end_s) == pytest.approx((1.5, 3.5), abs=0.021)
    assert user.kind is agent.kind is TurnKind.TURN
    assert all(event.turn.end_s < event.at_s <= event.turn.end_s + 1.6 for event in rig.of(TurnEnded))


def test_a_turn_that_is_open_at_the_end_is_told_then() -> None:
    rig = Rig()
    rig.hear(LOUD, 10)
    assert not rig.of(TurnEnded)
    [ended] = of(TurnEnded, rig.finish())
    assert (ended.turn.side, ended.at_s) == (Side.USER, pytest.approx(1.0))
    assert ended.turn.end_s == pytest.approx(1.0, abs=0.021)


def test_the_end_of_a_turn_that_the_end_cuts_off_comes_after_its_text() -> None:
    """Else the sentence would be shown in two lines."""
    rig = Rig()
    rig.gauges.text("I have", ZERO_S)
    rig.hear(QUIET, 10, LOUD_DBFS)
    for piece in (" read", " that."):
        rig.gauges.text(piece, ZERO_S)
        rig.playback.decode(LOUD_DBFS, 10)
    rig.sink.heard_at_close_ms = rig.sink.heard_ms + 100
    told = [type(event) for event in rig.finish() if isinstance(event, TextHeard | TurnEnded)]
    assert told == [TextHeard, TextHeard, TurnEnded]


@pytest.mark.parametrize(("heard_at_close_ms", "sides"), [(400.0, [Side.AGENT]), (20.0, [])])
def test_what_the_agent_says_in_the_last_moment_counts_if_it_will_be_heard(
    heard_at_close_ms: float, sides: list[Side]
) -> None:
    rig = Rig()
    rig.playback.decode(LOUD_DBFS, 20)
    for _ in range(5):
        rig.look()
    rig.sink.heard_at_close_ms = heard_at_close_ms
    assert [event.turn.side for event in of(TurnEnded, rig.finish())] == sides


def test_levels_that_come_at_once_are_not_dated_back_for_longer_than_two_looks() -> None:
    """Where writing is all there is, a burst has been heard when it is decoded."""
    rig = Rig()
    for _ in range(20):
        rig.look()
    rig.playback.decode(LOUD_DBFS, 100)
    rig.sink.heard_ms = float("inf")
    rig.look()
    for _ in range(20):
        rig.look()
    [ended] = rig.of(TurnEnded)
    assert ended.turn.start_s >= 2.1 - 0.2 - 0.021
    assert ended.turn.end_s == pytest.approx(2.1)


# --- losses


def test_losses_are_told_once_when_they_happen() -> None:
    rig = Rig()
    rig.hear(QUIET, 10)
    rig.sink.playout = PlayoutCounters(underruns=2, dropped_ms=1500)
    rig.source.packets_dropped = 3
    rig.hear(QUIET, 10)
    rig.sink.playout = PlayoutCounters(underruns=3, dropped_ms=1500)
    rig.source.packets_dropped = 3
    rig.encoder.dropped = 4
    rig.hear(QUIET, 10)
    rig.finish()
    assert [event.times for event in rig.of(Underrun)] == [2, 1]
    told = [(event.side, event.milliseconds) for event in rig.of(AudioDropped)]
    assert told == [(Side.AGENT, 1500), (Side.USER, 60), (Side.USER, 80)]
    assert all(1.0 < event.at_s < 1.7 for event in rig.of(AudioDropped)[:2])


def test_losses_of_the_last_moment_are_told_at_the_end() -> None:
    rig = Rig()
    rig.hear(QUIET, 10)
    rig.sink.playout = PlayoutCounters(dropped_ms=80)
    [lost] = of(AudioDropped, rig.finish())
    assert (lost.at_s, lost.side, lost.milliseconds) == (pytest.approx(1.0), Side.AGENT, 80)


def test_what_a_microphone_lost_in_an_earlier_call_is_not_told_again() -> None:
    source = FakeSource()
    source.packets_dropped = 7
    rig = Rig(source)
    rig.hear(QUIET, 10)
    assert not rig.of(AudioDropped)
    source.packets_dropped = 8
    rig.hear(QUIET, 10)
    assert [event.milliseconds for event in rig.of(AudioDropped)] == [PACKET_MS]


def test_a_counter_that_begins_anew_tells_only_of_what_comes_then() -> None:
    rig = Rig()
    for underruns in (5, 0, 2):
        rig.sink.playout = PlayoutCounters(underruns=underruns)
        rig.hear(QUIET, 10)
    assert [event.times for event in rig.of(Underrun)] == [5, 2]


# --- echo and lag


def test_what_is_done_about_echo_is_told_when_it_changes() -> None:
    rig = Rig()
    rig.look()
    for state in (EchoState.CANCELLED, EchoState.CANCELLED, EchoState.RESTING, EchoState.OFF):
        rig.source.echo = state
        rig.look()
    told = [(event.at_s, event.state) for event in rig.of(EchoChanged)]
    assert told == [
        (pytest.approx(0.2), EchoState.CANCELLED),
        (pytest.approx(0.4), EchoState.RESTING),
        (pytest.approx(0.5), EchoState.OFF),
    ]


def test_lag_is_told_twice_a_second_and_its_median_at_the_end() -> None:
    rig = Rig()
    rig.sink.lag_ms = 40.0
    assert rig.lag_counted() == (None, None)
    rig.hear(QUIET, 30)
    assert [event.local_ms for event in rig.of(Lag)] == [40.0] * 6
    assert rig.lag_counted() == (None, 40)


def test_lag_of_network_and_model_is_what_was_sent_and_is_not_answered() -> None:
    rig = Rig()
    rig.encoder.packets = 20
    for _ in range(10):
        rig.gauges.arrived(ZERO_S + rig.now_s)
        rig.playback.decode(SILENCE_DBFS, 5, at_s=ZERO_S + rig.now_s)
        rig.encoder.packets += 5
        rig.look()
    remote = [event.remote_ms for event in rig.of(Lag)]
    assert remote == [300.0, 300.0]
