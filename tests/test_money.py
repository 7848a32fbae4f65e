"""What keeps a call from being paid for in vain: whole calls, in rooms that are never silent, on a clock that
only goes on when all wait."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import speech
from fakes import FakeSink, FakeSocket, FakeSource, run_virtual
from rich.text import Text

from personaplex_cli.call import Call, Opening
from personaplex_cli.cli.controls import Controls
from personaplex_cli.codec.stream import StreamDecoder, StreamEncoder
from personaplex_cli.earcons import Announcer, Earcon
from personaplex_cli.events import CallEnded, EndReason, Event, IdleCountdown, Levels, LimitNear, TurnEnded
from personaplex_cli.limits import Limits
from personaplex_cli.pacing import PACKET_S
from personaplex_cli.pcm import PACKET_BYTES, PACKET_SAMPLES, SAMPLE_RATE, SPEECH_DBFS, Block, silence
from personaplex_cli.pipeline.gate import Gate
from personaplex_cli.pipeline.pipes import NullSource, PipeSource
from personaplex_cli.ui.jsonl import event_line
from personaplex_cli.ui.keys import Char, Key
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.status import status_row
from personaplex_cli.ui.view import ViewState, reduce
from personaplex_cli.ui.words import told_text

ROOMS = Path(__file__).parent / "fixtures" / "room"
HANDSHAKE = b"\x00"
SIGN_OF_LIFE = b"\x01"
CONNECT_S = 0.1
IDLE_S = 12.0
ACT_S = 8.0
"""Something happens then, in the second half of `IDLE_S`."""
LATE_S = 1.0
"""How much later than it should a call may end."""

Samples = np.ndarray[Any, np.dtype[np.float64]]
Act = Callable[["Rig"], Awaitable[None] | None]


@cache
def room(name: str) -> Samples:
    pcm = StreamDecoder().feed((ROOMS / f"{name}.opus").read_bytes())
    whole = pcm[: len(pcm) // PACKET_BYTES * PACKET_BYTES]
    return np.frombuffer(whole, "<i2").astype(np.float64)


def loudness_db(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(samples**2)))


class Room(FakeSource):
    """The microphone stands in a room whose noise goes round and round."""

    def __init__(self, name: str, *, from_s: float = 0.0, question_at_s: float | None = None) -> None:
        """`from_s`: where in the noise the call begins. The question, asked once, is 15 dB louder."""
        super().__init__()
        noise = np.roll(room(name), -round(from_s * SAMPLE_RATE))
        first = noise.copy()
        if question_at_s is not None:
            voice = speech.question().astype(np.float64)
            voice *= 10 ** ((loudness_db(noise) + 15 - loudness_db(voice)) / 20)
            at = round(question_at_s * SAMPLE_RATE)
            first[at : at + len(voice)] += voice
        self._rounds = first.round().astype("<i2").tobytes(), noise.round().astype("<i2").tobytes()

    async def read(self) -> Block:
        number, at = divmod(self.given * PACKET_BYTES, len(self._rounds[0]))
        self.pcm = self._rounds[min(number, 1)][at : at + PACKET_BYTES]
        return await super().read()


class Muted(Room):
    """The question is asked behind a gate that is shut by then."""

    def __init__(self) -> None:
        super().__init__("noisy", question_at_s=ACT_S)
        self._gate = Gate()

    async def read(self) -> Block:
        self._gate.muted = self.given * PACKET_S >= ACT_S - 1
        return self._gate.passed(await super().read())


class Rig:
    """A call that is live as soon as it is connected; the server sends something every five seconds."""

    def __init__(self, source: Any, limits: Limits, *, alive: bool = True) -> None:
        self.socket = FakeSocket()
        self.events: list[Event] = []
        self._alive = alive
        self.call: Call | None = Call(
            self._connect, source, FakeSink(), self.events.append, limits=limits, opening=Opening()
        )

    async def _connect(self) -> FakeSocket:
        await asyncio.sleep(CONNECT_S)
        if self._alive:
            self.socket.say(HANDSHAKE)
        return self.socket

    def run(self, act: Act = lambda rig: None, at_s: float = ACT_S) -> CallEnded:
        """With `act` so long after the call became live."""

        async def main() -> CallEnded:
            assert self.call is not None
            beside = [asyncio.ensure_future(self._live()), asyncio.ensure_future(self._act(act, at_s))]
            ended = await self.call.run()
            for task in beside:
                task.cancel()
            for result in await asyncio.gather(*beside, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result
            return ended

        return run_virtual(main())

    async def _live(self) -> None:
        for _ in range(200):
            await asyncio.sleep(5)
            self.socket.say(SIGN_OF_LIFE)
        self.socket.hang_up()  # a call that nothing else ends

    async def _act(self, act: Act, at_s: float) -> None:
        await asyncio.sleep(CONNECT_S + at_s)
        if (doing := act(self)) is not None:
            await doing

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    # What keys act on.

    async def say(self, text: str) -> None: ...

    def now_s(self) -> float:
        return 0.0

    def tell(self, event: Event) -> None: ...

    def hang_up(self, reason: EndReason) -> None: ...


def idle_after(ended: CallEnded, live_s: float) -> None:
    """The call ended by idleness, when it should."""
    assert (ended.reason, ended.error) == (EndReason.IDLE, None)
    assert live_s - 0.1 <= ended.live_s <= live_s + LATE_S


# --- a room is not somebody


@pytest.mark.parametrize(("name", "idle_s"), [("quiet", 30), ("noisy", 60)])
def test_a_call_in_which_nobody_speaks_ends_although_the_room_is_not_silent(name: str, idle_s: float) -> None:
    rig = Rig(Room(name, from_s=8), Limits(idle_s=idle_s))
    idle_after(rig.run(), idle_s)
    assert rig.of(TurnEnded) == []
    (countdown,) = rig.of(IdleCountdown)
    assert countdown.ends_at_s == pytest.approx(CONNECT_S + idle_s, abs=0.2)


def test_noise_that_is_there_from_the_first_puts_nothing_off() -> None:
    """The call begins while a car goes by: for a second it may be somebody, which is taken back."""
    rig = Rig(Room("noisy"), Limits(idle_s=30))
    idle_after(rig.run(), 30)
    assert rig.of(TurnEnded) == []


def test_the_noisy_room_is_louder_than_what_would_be_speech_without_noise() -> None:
    """Or the tests here would not show anything."""
    for name, least_dbfs, most_dbfs in (("quiet", -63, -57), ("noisy", -50, -38)):
        rig = Rig(Room(name), Limits(max_duration_s=19, idle_s=None))
        rig.run()
        levels = np.array([event.user_dbfs for event in rig.of(Levels)][5:])
        assert least_dbfs <= np.median(levels) <= most_dbfs
        assert (np.mean(levels > SPEECH_DBFS) > 0.5) is np.bool_(name == "noisy")
        assert loudness_db(room(name)) - 20 * math.log10(32768) == pytest.approx(np.median(levels), abs=6)


# --- what is activity


@pytest.mark.parametrize("name", ["quiet", "noisy"])
def test_the_user_s_voice_over_the_noise_counts(name: str) -> None:
    rig = Rig(Room(name, question_at_s=ACT_S), Limits(idle_s=IDLE_S))
    begins_s, ends_s = ACT_S, ACT_S + len(speech.question()) / SAMPLE_RATE
    idle_after(rig.run(), ends_s - 0.3 + IDLE_S)
    (told,) = rig.of(TurnEnded)
    assert (told.turn.start_s, told.turn.end_s) == pytest.approx(
        (CONNECT_S + begins_s, CONNECT_S + ends_s), abs=0.35
    )


def agent_says(rig: Rig) -> None:
    clip = np.concatenate([speech.clip("noted"), np.zeros(PACKET_SAMPLES)])
    pcm = (clip * 32767).astype("<i2").tobytes()
    encoder = StreamEncoder(serial=1)
    packets = [pcm[at : at + PACKET_BYTES] for at in range(0, len(pcm) - PACKET_BYTES, PACKET_BYTES)]
    for page in (*encoder.headers(), *map(encoder.page, packets)):
        rig.socket.say(b"\x01" + page)


def user_presses_a_key(rig: Rig) -> None:
    Controls(rig, NullSource(), FakeSink(), bool).press([Char("x")])


def user_types(rig: Rig) -> None:
    controls = Controls(rig, NullSource(), FakeSink(), bool)
    controls.press([Char("t")])
    controls.press([Char("H"), Char("i"), Key.ENTER])


@pytest.mark.parametrize("act", [agent_says, user_presses_a_key, user_types])
def test_so_does_the_agent_s_voice_and_what_the_user_presses(act: Act) -> None:
    rig = Rig(Room("noisy"), Limits(idle_s=IDLE_S))
    idle_after(rig.run(act), ACT_S + IDLE_S)
    first, taken_back, second = rig.of(IdleCountdown)
    assert first.ends_at_s == pytest.approx(CONNECT_S + IDLE_S, abs=LATE_S)
    assert taken_back.ends_at_s is None and taken_back.at_s == pytest.approx(CONNECT_S + ACT_S, abs=0.2)
    assert second.ends_at_s == pytest.approx(CONNECT_S + ACT_S + IDLE_S, abs=LATE_S)


async def agent_is_silent(rig: Rig) -> None:
    """As a server does that has nothing to say: it sends all the same."""
    encoder = StreamEncoder(serial=1)
    for header in encoder.headers():
        rig.socket.say(b"\x01" + header)
    while True:
        rig.socket.say(b"\x01" + encoder.page(silence(PACKET_SAMPLES)))
        await asyncio.sleep(PACKET_S)


def test_silence_of_either_side_does_not() -> None:
    idle_after(Rig(NullSource(), Limits(idle_s=IDLE_S)).run(agent_is_silent, at_s=1), IDLE_S)


def test_nor_does_a_voice_that_is_muted() -> None:
    idle_after(Rig(Muted(), Limits(idle_s=IDLE_S)).run(), IDLE_S)


def test_nor_does_a_pipe_that_brings_nothing() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb"):
        source = PipeSource(pipe)
        idle_after(Rig(source, Limits(idle_s=IDLE_S)).run(), IDLE_S)
        assert source.silence_inserted > 100
        source.close()


def test_without_an_idle_limit_a_call_goes_on() -> None:
    def hang_up(rig: Rig) -> None:
        assert rig.call is not None
        rig.call.hang_up()

    rig = Rig(FakeSource(), Limits(idle_s=None))
    ended = rig.run(hang_up, at_s=30)
    assert (ended.reason, round(ended.live_s)) == (EndReason.HUNG_UP, 30)
    assert rig.of(IdleCountdown) == []


# --- the time limit


LIMITS = [
    (Limits(math.inf, 600), [(480, 120), (540, 60), (590, 10)]),
    (Limits(math.inf, 100), [(80, 20), (90, 10)]),
    (Limits(math.inf, 100, budget=1.0), [(80, 20), (90, 10)]),
    (Limits(math.inf, 600, spent_s=400), [(140, 60), (190, 10)]),
    (Limits(math.inf, 600, budget=6.0, spent_s=595), []),
]
"""And when it is told that how many seconds are left: not in the first half of a call."""


@pytest.mark.parametrize(("limits", "told"), LIMITS)
def test_the_time_limit_is_told_and_kept_while_the_model_is_waited_for(
    limits: Limits, told: list[tuple[float, float]]
) -> None:
    """Which is paid for, too."""
    limit_kept(Rig(FakeSource(), limits, alive=False), limits, told)


def test_the_time_limit_is_told_and_kept_whoever_speaks() -> None:
    limits = Limits(max_duration_s=20, budget=0.2, idle_s=None)
    limit_kept(Rig(Room("noisy", question_at_s=17.8), limits), limits, [(10, 10), (16, 4)])


def limit_kept(rig: Rig, limits: Limits, told: list[tuple[float, float]]) -> None:
    ended = rig.run()
    assert limits.max_duration_s is not None
    reason = EndReason.MAX_DURATION if limits.budget is None else EndReason.BUDGET
    assert (ended.reason, ended.error) == (reason, None)
    left_s = limits.max_duration_s - limits.spent_s
    assert left_s <= ended.lasted_s - CONNECT_S <= left_s + LATE_S
    warnings = [(event.at_s - CONNECT_S, event.left_s) for event in rig.of(LimitNear)]
    assert [left for _, left in warnings] == [left for _, left in told]
    assert [at_s for at_s, _ in warnings] == pytest.approx([at_s for at_s, _ in told], abs=0.15)


def test_that_a_limit_is_near_is_seen_heard_and_read_by_programs() -> None:
    rig = Rig(NullSource(), Limits(math.inf, 100, budget=1.0), alive=False)
    rig.run()
    view, rows = ViewState(), []
    for event in rig.events:
        view = reduce(view, event)
        if isinstance(event, LimitNear):
            rows.append(status_row(view, event.at_s + 1, Fixed(), 80, " · "))
    assert [row.plain.split(" · ")[-1] for row in rows if isinstance(row, Text)] == ["0:19 left", "0:09 left"]
    texts = [text for event in rig.events if (text := told_text(event))]
    assert texts == [f"The time limit is reached in {left_s} s." for left_s in (20, 10)]
    lines = [json.loads(line) for event in rig.events if (line := event_line(event))]
    near = [line for line in lines if line["type"] == "limit_near"]
    assert [line["left_s"] for line in near] == [20.0, 10.0]
    assert lines[-1]["reason"] == "budget"
    announcer = Announcer()
    earcons = [announcer.earcon(event) for event in rig.events]
    assert earcons.count(Earcon.WARNING) == 2
