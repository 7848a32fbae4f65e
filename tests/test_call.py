"""One call with everything around it faked, on a clock that only goes on when all wait."""

from __future__ import annotations

import asyncio
import math
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fakes import FakeSink, FakeSocket, FakeSource, VirtualTimeLoop, run_virtual
from ogg_pages import read_pages

from personaplex_cli.call import CLOSE_LIMIT_S, Call, Opening
from personaplex_cli.codec.stream import StreamDecoder, StreamEncoder
from personaplex_cli.errors import (
    AudioError,
    ConnectError,
    ExitCode,
    ServerError,
    UsageError,
)
from personaplex_cli.events import (
    AgentText,
    AudioDropped,
    Bookmark,
    CallEnded,
    CallState,
    DeviceChanged,
    DeviceCounters,
    DeviceState,
    EndReason,
    Event,
    IdleCountdown,
    Lag,
    Levels,
    LimitNear,
    Metadata,
    Notice,
    PlayoutCounters,
    Reports,
    ServerSaidError,
    Speaking,
    StateChanged,
    TextHeard,
    TurnEnded,
    UserText,
)
from personaplex_cli.limits import Limits
from personaplex_cli.pcm import PACKET_SAMPLES, SAMPLE_RATE, Block, level_dbfs, silence
from personaplex_cli.pipeline.websocket import SocketClosed
from personaplex_cli.turns import Side

LOUD = b"".join(
    struct.pack("<h", round(8000 * math.sin(2 * math.pi * 500 * i / SAMPLE_RATE)))
    for i in range(PACKET_SAMPLES)
)
QUIET = silence(PACKET_SAMPLES)
HANDSHAKE = b"\x00"
LATE_S = 2.2
"""After this a close is no longer taken as a complaint about our audio."""

Script = Callable[["Rig"], Coroutine[Any, Any, None]]


class Rig:
    """A call, and what is around it."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        opening: Opening | None = None,
        source: FakeSource | None = None,
        sink: FakeSink | None = None,
        texts: asyncio.Queue[str] | None = None,
        secrets: tuple[str, ...] = (),
        zero_s: float | None = None,
    ) -> None:
        self.socket = FakeSocket()
        self.source = source or FakeSource()
        self.sink = sink or FakeSink()
        self.events: list[Event] = []
        self.listener_error: OSError | None = None
        self.connect_error: Exception | None = None
        self.connect_hangs = False
        self.connected = self.connect_cancelled = False
        self.call = Call(
            self._connect,
            self.source,
            self.sink,
            self._listen,
            limits=limits or Limits(),
            opening=opening or Opening(),
            texts=texts,
            secrets=secrets,
            zero_s=zero_s,
        )

    async def _connect(self) -> FakeSocket:
        try:
            if self.connect_hangs:
                await asyncio.Event().wait()
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            self.connect_cancelled = True
            raise
        if self.connect_error:
            raise self.connect_error
        self.connected = True
        return self.socket

    def _listen(self, event: Event) -> None:
        if self.listener_error:
            raise self.listener_error
        self.events.append(event)

    def run(self, script: Script) -> CallEnded:
        """The call, with `script` beside it."""

        async def both() -> CallEnded:
            beside = asyncio.ensure_future(script(self))
            ended = await self.call.run()
            await beside
            return ended

        return run_virtual(both())

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def states(self) -> list[CallState]:
        return [event.state for event in self.of(StateChanged)]

    @property
    def notices(self) -> str:
        return " ".join(event.text for event in self.of(Notice))


async def go_live_and_hang_up(rig: Rig, *, after_s: float = 1.0) -> None:
    await asyncio.sleep(0.5)
    rig.socket.say(HANDSHAKE)
    await asyncio.sleep(after_s)
    rig.call.hang_up()


def go_live_and(say: Callable[[Rig], None], *, at_s: float = 0.5) -> Script:
    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        await asyncio.sleep(at_s)
        say(rig)

    return script


def tone_pages(n_packets: int) -> list[bytes]:
    return pages([LOUD] * n_packets)


def pages(packets: list[bytes]) -> list[bytes]:
    encoder = StreamEncoder(serial=42)
    return [*encoder.headers(), *map(encoder.page, packets)]


# --- the data path


def test_a_call_goes_through_its_states_and_ends_in_order() -> None:
    rig = Rig()
    ended = rig.run(go_live_and_hang_up)
    assert rig.states == [
        CallState.CONNECTING,
        CallState.WAITING,
        CallState.LIVE,
        CallState.CLOSING,
        CallState.ENDED,
    ]
    assert (ended.reason, ended.error) == (EndReason.HUNG_UP, None)
    assert rig.events[-1] is ended
    assert ended.live_s == pytest.approx(1.0, abs=0.05)
    assert ended.lasted_s == pytest.approx(1.5, abs=0.05)
    assert rig.socket.closed and rig.sink.started


def test_nothing_is_sent_before_the_handshake_and_the_source_starts_with_it() -> None:
    rig = Rig()
    seen = []

    async def script(rig: Rig) -> None:
        await asyncio.sleep(3)
        seen.append((len(rig.socket.sent), rig.source.started))
        rig.socket.say(HANDSHAKE)
        await asyncio.sleep(0.5)
        rig.call.hang_up()

    rig.run(script)
    assert seen == [(0, False)]
    assert rig.source.started


def test_the_stream_is_the_bos_page_alone_then_tags_then_the_pages_of_each_step_and_eos() -> None:
    rig = Rig(source=FakeSource(LOUD))
    rig.run(go_live_and_hang_up)
    *audio, last, eos = rig.socket.messages
    assert all(message[0] == 0x01 for message in audio)
    assert audio[0][1:5] == b"OggS" and audio[0][1 + 5] == 0x02 and audio[0][29:37] == b"OpusHead"
    assert len(audio[0]) == 1 + 47
    assert audio[1][29:37] == b"OpusTags"
    assert len(audio[2:]) == 12
    times = [at_s for at_s, _ in rig.socket.sent][2:-2]
    assert times[-1] - times[0] == pytest.approx(0.08 * (len(times) - 1), abs=0.002)
    assert {message.count(b"OggS") for message in audio[2:]} == {4}
    n_last = last.count(b"OggS")
    assert 1 <= n_last <= 4 and last[last.rindex(b"OggS") + 5] == 0x04
    assert eos == b"\x03eos"
    decoder = StreamDecoder()
    pcm = b"".join(decoder.feed(message[1:]) for message in rig.socket.messages[:-1])
    assert len(pcm) == (4 * len(audio[2:]) + n_last) * PACKET_SAMPLES * 2
    assert decoder.holes == 0


def test_texts_go_out_once_after_the_headers() -> None:
    rig = Rig(opening=Opening(texts=("Hello.", "Grüße!"), bos_marker=True))
    rig.run(go_live_and_hang_up)
    kinds = [message[:1] for message in rig.socket.messages[:5]]
    assert kinds == [b"\x03", b"\x01", b"\x01", b"\x02", b"\x02"]
    assert rig.socket.messages[0] == b"\x03bos"
    assert rig.socket.messages[4][1:].decode() == "Grüße!"
    assert [event.text for event in rig.of(UserText)] == ["Hello.", "Grüße!"]


def test_what_the_agent_says_is_heard_and_read() -> None:
    rig = Rig()

    def say(rig: Rig) -> None:
        for page in tone_pages(10):
            rig.socket.say(b"\x01" + page)
        for piece in (" Gr", "<0xC3>", "<0xBC>", "ße"):
            rig.socket.say(b"\x02" + piece.encode())
        rig.call.hang_up()

    ended = rig.run(go_live_and(say))
    assert len(rig.sink.heard) == 10 * PACKET_SAMPLES * 2
    assert "".join(event.text for event in rig.of(AgentText)) == " Grüße"
    assert ended.counters.received_ms == 200
    assert ended.counters.streams == 1


def test_the_agent_is_heard_while_the_user_speaks() -> None:
    rig = Rig(source=FakeSource(LOUD))

    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        for page in tone_pages(50):
            rig.socket.say(b"\x01" + page)
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        rig.call.hang_up()

    rig.run(script)
    both = [event for event in rig.of(Levels) if event.user_dbfs > -20 and event.agent_dbfs > -20]
    assert len(both) >= 5
    assert len(rig.sink.heard) == 50 * PACKET_SAMPLES * 2


def test_what_is_received_goes_on_with_the_time_it_came() -> None:
    rig = Rig()
    began_s = []

    async def script(rig: Rig) -> None:
        began_s.append(asyncio.get_running_loop().time())
        rig.socket.say(HANDSHAKE)
        for at_s, page in zip((1, 2, 3, 4), tone_pages(2), strict=True):
            await asyncio.sleep(began_s[0] + at_s - asyncio.get_running_loop().time())
            rig.socket.say(b"\x01" + page)
        await asyncio.sleep(0.1)
        rig.call.hang_up()

    rig.run(script)
    assert rig.sink.arrived_s == pytest.approx([began_s[0] + 3, began_s[0] + 4])


def test_how_late_the_conversation_is_is_told_twice_a_second() -> None:
    """A server that answers each packet 300 ms after it came, and a speaker that holds 40 ms."""
    rig = Rig()
    rig.sink.lag_ms = 40.0

    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        await asyncio.sleep(0.3)
        for page in tone_pages(500):
            rig.socket.say(b"\x01" + page)
            await asyncio.sleep(0.02)
        rig.call.hang_up()

    ended = rig.run(script)
    lags = rig.of(Lag)
    assert 18 <= len(lags) <= 22
    assert [lag.local_ms for lag in lags] == [40.0] * len(lags)
    assert all(lag.remote_ms == pytest.approx(300, abs=60) for lag in lags[2:])
    assert ended.counters.lag_remote_ms == pytest.approx(300, abs=60)
    assert ended.counters.lag_local_ms == 40


def test_what_is_dropped_of_the_agent_is_told_when_it_happens() -> None:
    rig = Rig()

    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        for dropped_ms in (0, 0, 1500, 1500, 1900):
            rig.sink.playout = PlayoutCounters(dropped_ms=dropped_ms)
            await asyncio.sleep(1)
        rig.call.hang_up()

    rig.run(script)
    told = [(event.side, event.milliseconds) for event in rig.of(AudioDropped)]
    assert told == [(Side.AGENT, 1500), (Side.AGENT, 400)]
    assert [event.at_s for event in rig.of(AudioDropped)] == pytest.approx([2.5, 4.5], abs=0.6)


def test_the_ends_counters_are_those_of_the_call() -> None:
    rig = Rig()
    rig.sink.playout, rig.sink.device = PlayoutCounters(underruns=3), DeviceCounters(late_ms=7)
    rig.source.device, rig.source.echo_blocks_dropped = DeviceCounters(restarts=2), 5
    counters = rig.run(go_live_and_hang_up).counters
    assert (counters.playout, counters.speaker) == (rig.sink.playout, rig.sink.device)
    assert (counters.microphone, counters.echo_blocks_dropped) == (rig.source.device, 5)


def test_text_held_back_is_shown_at_the_end() -> None:
    rig = Rig()

    def say(rig: Rig) -> None:
        rig.socket.say(b"\x02and then <0x")
        rig.call.hang_up()

    rig.run(go_live_and(say))
    assert "".join(event.text for event in rig.of(AgentText)) == "and then <0x"


def test_what_the_server_says_while_we_close_is_not_lost() -> None:
    rig = Rig()

    class LastWords(FakeSocket):
        async def close(self) -> None:
            self.say(b"\x02 bye")
            await super().close()

    rig.socket = LastWords()
    rig.run(go_live_and_hang_up)
    assert [event.text for event in rig.of(AgentText)] == [" bye"]


def test_other_messages_are_told_and_counted() -> None:
    rig = Rig()

    def say(rig: Rig) -> None:
        for message in (b"\x7f", b"\x7f", b"", "text", HANDSHAKE, b"\x06", b"\x03\x01"):
            rig.socket.say(message)
        rig.socket.say(b'\x04{"model": "x"}')
        rig.call.hang_up()

    ended = rig.run(go_live_and(say))
    assert ended.counters.messages_skipped == 5
    assert ended.counters.messages_received == 9
    assert rig.notices.count("0x7f") == 1
    assert [event.data for event in rig.of(Metadata)] == [{"model": "x"}]


def test_blocks_too_old_are_dropped_after_a_stall_of_the_socket() -> None:
    class Stalling(FakeSocket):
        async def send(self, message: bytes) -> None:
            if len(self.sent) == 4:
                await asyncio.sleep(1.0)
            await super().send(message)

    class Capturing(FakeSource):
        """Blocks with the time they were captured, which waits for nobody, like a microphone's."""

        started_s = 0.0

        def start(self, reports: Reports) -> None:
            super().start(reports)
            self.started_s = asyncio.get_running_loop().time()

        async def read(self) -> Block:
            self.given += 1
            at_s = self.started_s + 0.02 * self.given
            await asyncio.sleep(max(0.0, at_s - asyncio.get_running_loop().time()))
            return Block(self.pcm, at_s)

    rig = Rig(source=Capturing())
    rig.socket = Stalling()
    ended = rig.run(lambda rig: go_live_and_hang_up(rig, after_s=2.0))
    assert ended.counters.packets_dropped in (36, 40)  # of 1 s, all but the last 200 ms, in whole steps
    sent = b"".join(message[1:] for message in rig.socket.messages[:-1])
    numbers = [page.number for page in read_pages(sent)]
    assert numbers == list(range(len(numbers)))
    times = [at_s for at_s, _ in rig.socket.sent]
    assert len([at_s for at_s in times if at_s > times[-1] - 0.5]) <= 9  # real-time pace again


# --- what is typed


def waiting(*texts: str) -> asyncio.Queue[str]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    for text in texts:
        queue.put_nowait(text)
    return queue


def texts_sent(rig: Rig) -> list[str]:
    return [message[1:].decode() for message in rig.socket.messages if message[:1] == b"\x02"]


def test_texts_that_are_typed_go_out_in_order_after_the_opening() -> None:
    texts = waiting("two", "three")
    rig = Rig(texts=texts, opening=Opening(texts=("one",)))

    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        await asyncio.sleep(0.5)
        texts.put_nowait("four")
        texts.put_nowait("fünf")
        await asyncio.sleep(0.5)
        rig.call.hang_up()

    rig.run(script)
    assert texts_sent(rig) == ["one", "two", "three", "four", "fünf"]
    assert [event.text for event in rig.of(UserText)] == texts_sent(rig)
    assert [event.at_s for event in rig.of(UserText)] == pytest.approx([0.5, 0.5, 0.5, 1.0, 1.0], abs=0.02)


def test_texts_wait_for_a_call_that_is_live() -> None:
    texts = waiting("Hello")
    rig = Rig(texts=texts)

    async def script(rig: Rig) -> None:
        await asyncio.sleep(3)
        rig.call.hang_up()

    rig.run(script)
    assert texts_sent(rig) == [] and not rig.of(UserText)
    assert texts.get_nowait() == "Hello"  # for the next call


def test_what_is_typed_while_a_call_closes_is_for_the_next_one() -> None:
    texts = waiting()
    rig = Rig(texts=texts)

    class Slow(FakeSocket):
        async def close(self) -> None:
            texts.put_nowait("too late")
            await asyncio.sleep(0.5)
            await super().close()

    rig.socket = Slow()
    rig.run(go_live_and_hang_up)
    assert texts_sent(rig) == [] and texts.get_nowait() == "too late"


def test_a_text_is_told_when_it_was_sent() -> None:
    """Not while the socket takes nothing."""

    class Stalling(FakeSocket):
        async def send(self, message: bytes) -> None:
            if message[:1] == b"\x02":
                await asyncio.sleep(1.0)
            await super().send(message)

    rig = Rig(texts=waiting("Hello", "again"))
    rig.socket = Stalling()
    rig.run(lambda rig: go_live_and_hang_up(rig, after_s=2.5))
    times = [at_s for at_s, message in rig.socket.sent if message[:1] == b"\x02"]
    assert [event.at_s for event in rig.of(UserText)] == pytest.approx([1.5, 2.5], abs=0.02)
    assert times[1] - times[0] == pytest.approx(1.0)


# --- what is told along the way


def test_what_the_user_does_is_told_to_who_listens() -> None:
    rig = Rig()

    def act(rig: Rig) -> None:
        rig.call.tell(Bookmark(7.0, 1))
        rig.call.hang_up()

    rig.run(go_live_and(act))
    assert rig.of(Bookmark) == [Bookmark(7.0, 1)]


def test_events_count_from_where_the_conversation_began() -> None:
    """Of which this may not be the first call."""
    rig = Rig(source=FakeSource(LOUD), zero_s=900.0)  # the loop's clock begins at 1000
    ended = rig.run(lambda rig: go_live_and_hang_up(rig, after_s=2.0))
    assert rig.events[0].at_s == pytest.approx(100.0)
    assert all(100 <= event.at_s <= 103 for event in rig.events)
    [turn] = [event.turn for event in rig.of(TurnEnded)]
    assert (turn.start_s, turn.end_s) == pytest.approx((100.5, 102.5), abs=0.05)
    assert ended.lasted_s == pytest.approx(2.5, abs=0.05)


def test_what_was_heard_and_who_spoke_is_told() -> None:
    rig = Rig()

    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        for page in pages([LOUD] * 50 + [QUIET] * 100):
            rig.socket.say(b"\x01" + page)
            await asyncio.sleep(0.02)
        rig.socket.say(b"\x02Hello")
        await asyncio.sleep(0.3)
        rig.sink.heard_ms = rig.sink.heard_at_close_ms = 2000.0
        rig.socket.say(b"\x02 there")
        await asyncio.sleep(0.3)
        rig.call.hang_up()

    rig.run(script)
    assert [(event.side, event.speaking) for event in rig.of(Speaking)] == [
        (Side.AGENT, True),
        (Side.AGENT, False),
    ]
    assert [event.turn.side for event in rig.of(TurnEnded)] == [Side.AGENT]
    assert [(event.chars, event.heard) for event in rig.of(TextHeard)] == [(5, True), (11, False)]
    assert rig.events.index(rig.of(TextHeard)[-1]) < rig.events.index(rig.of(StateChanged)[-1])


def test_a_long_piece_of_text_is_told_in_parts_and_heard_as_one() -> None:
    rig = Rig()

    def say(rig: Rig) -> None:
        rig.socket.say(b"\x02" + b"x" * 10_000)

    async def script(rig: Rig) -> None:
        await go_live_and(say)(rig)
        await asyncio.sleep(0.5)
        rig.call.hang_up()

    rig.run(script)
    assert [len(event.text) for event in rig.of(AgentText)] == [4096, 4096, 1808]
    assert rig.of(TextHeard)[0].chars == 10_000


async def sign_of_life(rig: Rig, duration_s: int) -> None:
    """Otherwise the server would be taken for dead."""
    for _ in range(duration_s):
        rig.socket.say(b"\x01")
        await asyncio.sleep(1)


def test_the_end_by_idleness_is_told_and_taken_back() -> None:
    rig = Rig(limits=Limits(idle_s=20))

    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        await sign_of_life(rig, 15)
        rig.call.put_off_idle()
        await sign_of_life(rig, 25)

    ended = rig.run(script)
    assert ended.reason is EndReason.IDLE
    first, back, second = rig.of(IdleCountdown)
    assert (first.at_s, first.ends_at_s) == pytest.approx((10.5, 20.5), abs=0.25)
    assert back.ends_at_s is None and back.at_s == pytest.approx(15.5, abs=0.25)
    assert second.at_s == pytest.approx(25.5, abs=0.25)
    assert second.ends_at_s == pytest.approx(rig.of(StateChanged)[-2].at_s, abs=0.11)


def test_to_put_off_idleness_before_the_call_is_connected_does_nothing() -> None:
    rig = Rig()
    rig.call.put_off_idle()
    rig.connect_error = ConnectError("refused")

    async def nothing(rig: Rig) -> None: ...

    assert rig.run(nothing).reason is EndReason.NEVER_LIVE


def test_the_time_limit_is_told_before_it_comes() -> None:
    rig = Rig(limits=Limits(max_duration_s=30, spent_s=8))

    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        await sign_of_life(rig, 22)

    ended = rig.run(script)
    assert ended.reason is EndReason.MAX_DURATION
    told = [(event.at_s, event.left_s) for event in rig.of(LimitNear)]
    assert told == [(pytest.approx(12.1, abs=0.15), 10.0), (pytest.approx(16.1, abs=0.15), 6.0)]


# --- how calls end


def test_a_connection_that_cannot_be_made_ends_the_call_with_its_error() -> None:
    rig = Rig()
    rig.connect_error = ConnectError("refused")

    async def nothing(rig: Rig) -> None: ...

    ended = rig.run(nothing)
    assert (ended.reason, ended.error) == (EndReason.NEVER_LIVE, rig.connect_error)
    assert rig.states == [CallState.CONNECTING, CallState.ENDED]


def test_hanging_up_while_connecting_gives_the_connection_up() -> None:
    rig = Rig()
    rig.connect_hangs = True

    async def main() -> CallEnded:
        asyncio.get_running_loop().call_later(1, rig.call.hang_up)
        ended = await rig.call.run()
        assert rig.connect_cancelled  # not by the end of the loop
        return ended

    ended = run_virtual(main())
    assert (ended.reason, ended.error) == (EndReason.HUNG_UP, None)
    assert ended.lasted_s == pytest.approx(1.0, abs=0.1)


def test_a_connection_made_in_the_moment_of_hanging_up_is_dropped() -> None:
    """The connection is made, and before the call hears of it, the user hangs up."""

    class Connecting(Rig):
        async def _connect(self) -> FakeSocket:
            socket = await super()._connect()
            self.call.hang_up()
            return socket

    rig = Connecting()

    async def nothing(rig: Rig) -> None: ...

    ended = rig.run(nothing)
    assert (ended.reason, ended.error) == (EndReason.HUNG_UP, None)
    assert rig.connected
    assert rig.socket.aborted and not rig.socket.sent
    assert CallState.WAITING not in rig.states


def test_hanging_up_before_the_handshake_sends_no_audio() -> None:
    rig = Rig()

    async def script(rig: Rig) -> None:
        await asyncio.sleep(2)
        rig.call.hang_up()

    ended = rig.run(script)
    assert ended.reason is EndReason.HUNG_UP
    assert rig.socket.sent == [] and rig.socket.closed
    assert ended.live_s == 0


def test_a_model_that_is_never_ready_is_given_up_and_explained() -> None:
    rig = Rig(limits=Limits(handshake_s=20))

    async def nothing(rig: Rig) -> None: ...

    ended = rig.run(nothing)
    assert ended.reason is EndReason.NEVER_LIVE
    assert isinstance(ended.error, ConnectError) and "20 s" in str(ended.error)
    assert ended.lasted_s == pytest.approx(20.1, abs=0.3)
    assert rig.notices.count("busy") == 1
    assert rig.socket.closed


def test_a_process_that_was_stopped_gives_the_server_ten_seconds_anew() -> None:
    rig = Rig(limits=Limits(idle_s=None))

    async def stop_for_a_minute(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.selector.now_s += 60

    ended = rig.run(stop_for_a_minute)
    assert ended.reason is EndReason.CONNECTION_LOST  # it says nothing more, and that is noticed
    assert 71 <= ended.lasted_s <= 72


def test_a_server_that_falls_silent_is_dead_after_ten_seconds() -> None:
    rig = Rig(source=FakeSource(LOUD))

    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)

    ended = rig.run(script)
    assert ended.reason is EndReason.CONNECTION_LOST
    assert ended.error is not None and ended.error.exit_code is ExitCode.CONNECTION
    assert ended.live_s == pytest.approx(10, abs=0.4)


@pytest.mark.parametrize(
    ("code", "at_s", "reason", "exit_code"),
    [
        (1000, LATE_S, EndReason.SERVER_CLOSED, None),
        (1000, 0.5, EndReason.SERVER_CLOSED, ExitCode.SERVER),
        (1006, LATE_S, EndReason.CONNECTION_LOST, ExitCode.CONNECTION),
        (1011, LATE_S, EndReason.SERVER_CLOSED, ExitCode.SERVER),
        (4401, LATE_S, EndReason.SERVER_CLOSED, ExitCode.CREDENTIALS),
    ],
)
def test_the_servers_close_is_explained(
    code: int, at_s: float, reason: EndReason, exit_code: ExitCode | None
) -> None:
    rig = Rig()
    ended = rig.run(go_live_and(lambda rig: rig.socket.hang_up(code, "why\x1b[2J"), at_s=at_s))
    assert ended.reason is reason
    assert (ended.error.exit_code if ended.error else None) == exit_code
    assert f"code {code}" in ended.detail and "\x1b" not in ended.detail
    assert ("new conversation" in rig.notices) == (exit_code is None)


def test_an_error_message_is_shown_and_blamed_for_the_close_after_it() -> None:
    rig = Rig(secrets=("topsecret-token",))

    def say(rig: Rig) -> None:
        rig.socket.say(b"\x05out of memory for topsecret-token")
        rig.socket.hang_up(1000)

    ended = rig.run(go_live_and(say, at_s=LATE_S))
    assert [event.text for event in rig.of(ServerSaidError)] == ["out of memory for [hidden]"]
    assert ended.reason is EndReason.SERVER_ERROR
    assert isinstance(ended.error, ServerError) and "out of memory" in str(ended.error)


def test_an_error_message_ends_nothing_by_itself() -> None:
    rig = Rig(limits=Limits(max_duration_s=3))
    ended = rig.run(go_live_and(lambda rig: rig.socket.say(b"\x05hiccup")))
    assert (ended.reason, ended.error) == (EndReason.MAX_DURATION, None)
    assert [event.text for event in rig.of(ServerSaidError)] == ["hiccup"]


@pytest.mark.parametrize(
    ("limits", "reason", "at_s"),
    [
        (Limits(max_duration_s=4), EndReason.MAX_DURATION, 4.1),
        (Limits(idle_s=5), EndReason.IDLE, 5.5),
        (Limits(tail_s=2), EndReason.INPUT_ENDED, 3.5),
    ],
)
def test_limits_end_a_call_in_order(limits: Limits, reason: EndReason, at_s: float) -> None:
    ends_after = 50 if reason is EndReason.INPUT_ENDED else None
    rig = Rig(limits=limits, source=FakeSource(ends_after=ends_after))
    ended = rig.run(go_live_and(lambda rig: None))
    assert (ended.reason, ended.error) == (reason, None)
    assert ended.lasted_s == pytest.approx(at_s, abs=0.3)
    assert rig.socket.closed and rig.socket.messages[-1] == b"\x03eos"


@pytest.mark.parametrize("goes_on", [True, False])
def test_the_tail_waits_for_the_agent_to_finish(goes_on: bool) -> None:
    """Whether silence comes then, or no audio at all."""
    rig = Rig(limits=Limits(tail_s=1), source=FakeSource(ends_after=10))

    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        for page in pages([LOUD] * 100 + [QUIET] * (200 if goes_on else 0)):
            rig.socket.say(b"\x01" + page)
            await asyncio.sleep(0.02)

    ended = rig.run(script)
    assert ended.reason is EndReason.INPUT_ENDED
    assert ended.live_s == pytest.approx(3.1, abs=0.15)


# --- what goes wrong on this side


def test_what_the_ends_report_from_their_threads_is_told_and_ends_nothing() -> None:
    rig = Rig()

    def report(rig: Rig) -> None:
        def from_elsewhere() -> None:
            rig.source.reports.device("microphone", DeviceState.LOST, "Headset")
            rig.sink.reports.device("speaker", DeviceState.REPLACED, "HDMI")
            rig.source.reports.notice("There is an echo.")

        thread = threading.Thread(target=from_elsewhere)
        thread.start()
        thread.join()

    async def script(rig: Rig) -> None:
        await go_live_and(report)(rig)
        await asyncio.sleep(1)
        rig.call.hang_up()

    ended = rig.run(script)
    assert (ended.reason, ended.error) == (EndReason.HUNG_UP, None)
    changes = [(event.role, event.state, event.name) for event in rig.of(DeviceChanged)]
    assert changes == [
        ("microphone", DeviceState.LOST, "Headset"),
        ("speaker", DeviceState.REPLACED, "HDMI"),
    ]
    assert "There is an echo." in rig.notices


def test_what_the_ends_report_after_the_call_is_not_told() -> None:
    rig = Rig()

    async def main() -> CallEnded:
        beside = asyncio.ensure_future(go_live_and_hang_up(rig))
        ended = await rig.call.run()
        await beside
        rig.source.reports.device("microphone", DeviceState.LOST, "Headset")
        rig.source.reports.notice("There is an echo.")
        rig.source.reports.failed(ZeroDivisionError())
        await asyncio.sleep(1)
        return ended

    ended = run_virtual(main())
    assert rig.events[-1] is ended and rig.of(DeviceChanged) == []
    rig.sink.reports.notice("The loop is closed.")  # and that is no error


def test_a_device_that_fails_ends_the_call_in_order() -> None:
    rig = Rig()
    error = AudioError("The microphone is gone.")
    ended = rig.run(go_live_and(lambda rig: rig.source.reports.failed(error)))
    assert (ended.reason, ended.error) == (EndReason.AUDIO_FAILED, error)
    assert rig.socket.closed and rig.socket.messages[-1] == b"\x03eos"


def test_a_sink_that_does_not_start_is_found_before_connecting() -> None:
    class Broken(FakeSink):
        def start(self, reports: Reports) -> None:
            raise AudioError("The speaker does not start.")

    rig = Rig(sink=Broken())

    async def nothing(rig: Rig) -> None: ...

    ended = rig.run(nothing)
    assert ended.reason is EndReason.AUDIO_FAILED
    assert ended.error is not None and ended.error.exit_code is ExitCode.AUDIO
    assert not rig.socket.aborted and rig.states == [CallState.CONNECTING, CallState.ENDED]


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (BrokenPipeError(32, "Broken pipe"), None),
        (OSError(28, "No space left on device"), ExitCode.USAGE),
        (UsageError("Writing answer.wav failed"), ExitCode.USAGE),
    ],
)
def test_an_output_that_fails_ends_the_call_in_order(error: Exception, exit_code: ExitCode | None) -> None:
    rig = Rig()
    rig.sink.error = error

    def say(rig: Rig) -> None:
        for page in tone_pages(2):
            rig.socket.say(b"\x01" + page)

    ended = rig.run(go_live_and(say))
    assert ended.reason is EndReason.OUTPUT_FAILED
    assert (ended.error.exit_code if ended.error else None) == exit_code
    assert rig.socket.closed


def test_a_listener_that_fails_ends_the_call_in_order() -> None:
    rig = Rig()

    def say(rig: Rig) -> None:
        rig.listener_error = BrokenPipeError(32, "Broken pipe")

    ended = rig.run(go_live_and(say))
    assert (ended.reason, ended.error) == (EndReason.OUTPUT_FAILED, None)
    assert rig.socket.closed


def test_a_bug_on_the_thread_of_a_device_closes_everything_and_is_raised() -> None:
    rig = Rig()
    with pytest.raises(ZeroDivisionError):
        rig.run(go_live_and(lambda rig: rig.sink.reports.failed(ZeroDivisionError())))
    assert rig.socket.closed


def test_a_bug_closes_everything_and_is_raised() -> None:
    class Broken(FakeSource):
        async def read(self) -> Any:
            raise ZeroDivisionError

    rig = Rig(source=Broken())
    with pytest.raises(ZeroDivisionError):
        rig.run(go_live_and(lambda rig: None))
    assert rig.socket.closed


# --- closing takes no longer than it may


def test_a_server_that_does_not_answer_the_close_is_dropped_in_time() -> None:
    rig = Rig()
    rig.socket.close_hangs = True
    ended = rig.run(go_live_and_hang_up)
    assert rig.socket.aborted and not rig.socket.closed
    assert ended.lasted_s - 1.5 == pytest.approx(CLOSE_LIMIT_S, abs=0.1)
    assert rig.socket.messages[-1] == b"\x03eos"


def test_a_socket_that_takes_nothing_is_dropped_in_time() -> None:
    rig = Rig()

    async def script(rig: Rig) -> None:
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        await asyncio.sleep(0.5)
        rig.socket.send_hangs = True
        await asyncio.sleep(0.5)
        rig.call.hang_up()

    ended = rig.run(script)
    assert rig.socket.aborted
    assert ended.lasted_s - 1.5 == pytest.approx(CLOSE_LIMIT_S, abs=0.1)


def test_cancelling_drops_the_connection_at_once() -> None:
    rig = Rig()

    async def main() -> float:
        task = asyncio.ensure_future(rig.call.run())
        await asyncio.sleep(0.5)
        rig.socket.say(HANDSHAKE)
        rig.socket.close_hangs = True
        await asyncio.sleep(0.5)
        rig.call.hang_up()
        await asyncio.sleep(0.1)
        before_s = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return asyncio.get_running_loop().time() - before_s

    assert run_virtual(main()) < 0.1
    assert rig.socket.aborted


def test_cancelling_while_connecting_gives_the_connection_up() -> None:
    rig = Rig()
    rig.connect_hangs = True

    async def main() -> None:
        task = asyncio.ensure_future(rig.call.run())
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rig.connect_cancelled  # not by the end of the loop

    run_virtual(main())


def test_a_socket_that_is_gone_when_we_say_goodbye_is_no_error() -> None:
    class Gone(FakeSocket):
        gone = False

        async def send(self, message: bytes) -> None:
            if self.gone:
                raise SocketClosed(1006, "")
            await super().send(message)

    rig = Rig()
    rig.socket = Gone()

    def say(rig: Rig) -> None:
        rig.socket.gone = True  # type: ignore[attr-defined]
        rig.call.hang_up()

    ended = rig.run(go_live_and(say))
    assert (ended.reason, ended.error) == (EndReason.HUNG_UP, None)


def test_silence_is_sent_when_the_input_is_over() -> None:
    rig = Rig(source=FakeSource(LOUD, ends_after=10), limits=Limits(tail_s=1))
    rig.run(go_live_and(lambda rig: None))
    decoder = StreamDecoder()
    levels = [level_dbfs(decoder.feed(message[1:])) for message in rig.socket.messages[2:-1]]
    assert len(levels) > 12
    assert max(levels[:3]) > -20
    assert max(levels[5:]) < -70
