"""What is done about echo, and when; `test_aec.py` and `test_canceller.py` have the cancelling itself."""

from __future__ import annotations

import math
import time
from array import array

import pytest

from personaplex_cli import echo
from personaplex_cli.echo import HOLD_S, Alarmed, Cancelled, Echo, HalfDuplex, open_echo
from personaplex_cli.echo_options import EchoCancel, EchoOptions
from personaplex_cli.errors import ExitCode, MissingLibraryError
from personaplex_cli.events import EchoState
from personaplex_cli.headphones import LOUD_BLOCKS, UnlessHeadphones
from personaplex_cli.pcm import PACKET_SAMPLES, SAMPLE_RATE, Block, silence, to_pcm

BLOCK_SAMPLES = SAMPLE_RATE // 100
LOUD = to_pcm(array("h", [3000] * BLOCK_SAMPLES))
FAINT = to_pcm(array("h", [30] * BLOCK_SAMPLES))
LIMIT_S = 20.0
LOUDSPEAKER = "Built-in Speakers"
HEADPHONES = "WH-1000XM4 Headphones"


class Engine:
    """Takes nothing out, and says so: it turns what is captured upside down."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.references: list[bytes] = []

    def process(self, capture: bytes, reference: bytes) -> bytes:
        if self.error:
            raise self.error
        self.references.append(reference)
        return capture[::-1]

    def reset(self) -> None: ...


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, bool]]:
    """The extra is installed. How each engine was opened."""
    opened: list[dict[str, bool]] = []

    def open_canceller(**switches: bool) -> Engine:
        opened.append(switches)
        return Engine()

    monkeypatch.setattr(echo, "available", lambda: True)
    monkeypatch.setattr(echo, "open_canceller", open_canceller)
    return opened


# --- which way


@pytest.mark.parametrize(
    ("options", "speaker", "kind"),
    [
        (EchoOptions(), LOUDSPEAKER, Cancelled),
        (EchoOptions(), HEADPHONES, Alarmed),
        (EchoOptions(EchoCancel.ON), HEADPHONES, Cancelled),
        (EchoOptions(EchoCancel.OFF), LOUDSPEAKER, Echo),
        (EchoOptions(), None, Echo),
        (EchoOptions(half_duplex=True), LOUDSPEAKER, HalfDuplex),
        (EchoOptions(half_duplex=True), HEADPHONES, HalfDuplex),
        (EchoOptions(EchoCancel.OFF, noise_suppression=True), LOUDSPEAKER, Cancelled),
        (EchoOptions(gain_control=True), HEADPHONES, Cancelled),
        (EchoOptions(high_pass=True), HEADPHONES, Cancelled),
    ],
)
@pytest.mark.usefixtures("opened")
def test_what_is_chosen(options: EchoOptions, speaker: str | None, kind: type[Echo]) -> None:
    chosen = open_echo(options, speaker)
    assert type(chosen) is kind
    chosen.close()


@pytest.mark.parametrize(
    ("options", "speaker", "state"),
    [
        (EchoOptions(), LOUDSPEAKER, EchoState.CANCELLED),
        (EchoOptions(), HEADPHONES, EchoState.OFF),
        (EchoOptions(EchoCancel.OFF), LOUDSPEAKER, EchoState.OFF),
        (EchoOptions(), None, EchoState.OFF),
        (EchoOptions(half_duplex=True), LOUDSPEAKER, EchoState.HALF_DUPLEX),
        (EchoOptions(EchoCancel.OFF, noise_suppression=True), LOUDSPEAKER, EchoState.OFF),
        (EchoOptions(EchoCancel.ON, gain_control=True), HEADPHONES, EchoState.CANCELLED),
    ],
)
@pytest.mark.usefixtures("opened")
def test_what_is_said_to_be_done(options: EchoOptions, speaker: str | None, state: EchoState) -> None:
    """An engine that only suppresses noise cancels nothing."""
    chosen = open_echo(options, speaker)
    assert chosen.state is state
    chosen.close()


@pytest.mark.parametrize(
    ("options", "speaker", "wanted"),
    [
        (EchoOptions(), LOUDSPEAKER, {"cancel_echo"}),
        (EchoOptions(EchoCancel.OFF, noise_suppression=True), LOUDSPEAKER, {"noise_suppression"}),
        (EchoOptions(gain_control=True), HEADPHONES, {"gain_control"}),
        (EchoOptions(EchoCancel.ON, high_pass=True), HEADPHONES, {"cancel_echo", "high_pass"}),
    ],
)
def test_the_engine_does_what_is_asked_for_and_nothing_else(
    options: EchoOptions, speaker: str, wanted: set[str], opened: list[dict[str, bool]]
) -> None:
    open_echo(options, speaker)
    [switches] = opened
    assert {name for name, on in switches.items() if on} == wanted
    assert switches.keys() == {"cancel_echo", "noise_suppression", "high_pass", "gain_control"}


@pytest.mark.parametrize(
    ("options", "speaker", "kind"),
    [
        (EchoOptions(), LOUDSPEAKER, Alarmed),
        (EchoOptions(), HEADPHONES, Alarmed),
        (EchoOptions(EchoCancel.OFF), LOUDSPEAKER, Echo),
        (EchoOptions(), None, Echo),
        (EchoOptions(half_duplex=True), LOUDSPEAKER, HalfDuplex),
    ],
)
def test_without_the_extra(
    options: EchoOptions, speaker: str | None, kind: type[Echo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo, "available", lambda: False)
    monkeypatch.setattr(echo, "open_canceller", lambda **switches: pytest.fail("it is not there"))
    assert type(open_echo(options, speaker)) is kind


def test_without_the_extra_what_needs_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**switches: bool) -> None:
        raise MissingLibraryError("Echo cancellation is not installed.")

    monkeypatch.setattr(echo, "available", lambda: False)
    monkeypatch.setattr(echo, "open_canceller", missing)
    for options in (EchoOptions(EchoCancel.ON), EchoOptions(noise_suppression=True)):
        with pytest.raises(MissingLibraryError) as caught:
            open_echo(options, LOUDSPEAKER)
        assert caught.value.exit_code == ExitCode.AUDIO


# --- nothing


def test_nothing_is_done() -> None:
    way, told = Echo(), list[str]()
    given: list[tuple[bytes, float]] = []
    way.start(told.append)
    way.captures(lambda pcm, at_s: given.append((pcm, at_s)))(LOUD, 1.0)
    way.played(LOUD, 1.0)
    way.heard(Block(LOUD, 1.0))
    assert given == [(LOUD, 1.0)]
    assert (way.ducks(), way.blocks_dropped, told) == (False, 0, [])
    way.close()


# --- half-duplex


def test_half_duplex_is_said_once() -> None:
    way, told = HalfDuplex(), list[str]()
    way.start(told.append)
    way.start(told.append)
    assert len(told) == 1 and told[0].startswith("Half-duplex")


def test_the_microphone_is_shut_while_the_agent_is_heard_and_a_little_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    way = HalfDuplex()
    assert not way.ducks()
    way.played(LOUD, 100.03)
    assert way.ducks()
    for late_s, ducks in ((0.0, True), (HOLD_S - 0.001, True), (HOLD_S + 0.001, False)):
        now_s[0] = 100.04 + late_s
        assert way.ducks() == ducks


def test_silence_of_the_agent_opens_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    way = HalfDuplex()
    way.played(LOUD, now_s[0])
    while now_s[0] < 100.5:
        now_s[0] += 0.01
        way.played(FAINT if now_s[0] < 100.2 else silence(BLOCK_SAMPLES), now_s[0])
    assert not way.ducks()


# --- the alarm


def syllables(number: int) -> bytes:
    """10 ms of something that rises and falls like speech, and never twice alike within seconds."""
    level_db = -18 + 9 * math.sin(0.31 * number) + 9 * math.sin(0.13 * number + 0.002 * number * number)
    return to_pcm(array("h", [round(32768 * 10 ** (level_db / 20))] * BLOCK_SAMPLES))


def call(way: Echo, seconds: int, *, hears: bool) -> None:
    """An agent that talks, and a microphone that hears it 60 ms later, 10 dB less loud, or does not."""
    for packet in range(50 * seconds):
        at_s = 100.0 + 0.02 * packet
        for half in (0, 1):
            way.played(syllables(2 * packet + half), at_s + 0.01 * half)
        samples = array("h", syllables(2 * packet - 6) + syllables(2 * packet - 5))
        echoed = to_pcm(array("h", [sample // 3 for sample in samples]))
        way.heard(Block(echoed if hears and packet >= 3 else silence(PACKET_SAMPLES), at_s + 0.02))


def test_an_echo_is_told_once() -> None:
    way, told = Alarmed(), list[str]()
    way.start(told.append)
    call(way, 20, hears=True)
    assert told == [echo.ALARM_TEXT]
    assert not way.ducks() and way.state is EchoState.HEARD
    way.start(told.append)
    call(way, 20, hears=True)
    assert len(told) == 1


def test_no_echo_is_not_told() -> None:
    way, told = Alarmed(), list[str]()
    way.start(told.append)
    call(way, 20, hears=False)
    assert told == [] and way.state is EchoState.OFF


# --- the canceller


def test_a_canceller_stands_between_the_device_and_the_microphone(opened: list[dict[str, bool]]) -> None:
    way = open_echo(EchoOptions(EchoCancel.ON), LOUDSPEAKER)
    given: list[tuple[bytes, float]] = []
    captured = way.captures(lambda pcm, at_s: given.append((pcm, at_s)))
    pcm = b"".join(number.to_bytes(2, "little") for number in range(BLOCK_SAMPLES))
    for number in range(3):
        way.played(LOUD, 100.0 + 0.01 * number)
        captured(pcm, 100.0 + 0.01 * number)
    way.close()  # what was captured is delivered before
    assert [block for block, _ in given] == [pcm[::-1]] * 3
    assert [at_s for _, at_s in given] == pytest.approx([100.0, 100.01, 100.02])
    assert not way.ducks() and way.blocks_dropped == 0


def test_what_is_played_before_there_is_a_microphone_is_no_trouble() -> None:
    way = Cancelled(Engine())
    way.played(LOUD, 1.0)
    way.heard(Block(LOUD, 1.0))
    assert way.blocks_dropped == 0
    way.close()


def test_an_engine_that_fails_is_told_once_and_the_call_goes_on_without_it() -> None:
    engine, told = Engine(), list[str]()
    engine.error = ZeroDivisionError()
    way = Cancelled(engine)
    given: list[bytes] = []
    captured = way.captures(lambda pcm, at_s: given.append(pcm))
    way.start(told.append)
    captured(LOUD, 100.0)
    deadline_s = time.monotonic() + LIMIT_S
    while not given:
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    for _ in range(3):
        way.heard(Block(LOUD, 100.0))
    assert given == [LOUD]
    assert len(told) == 1 and "ZeroDivisionError" in told[0]
    assert way.state is EchoState.FAILED
    way.close()


# --- headphones that are found by measuring


def test_without_an_echo_the_engine_rests_until_there_is_one() -> None:
    engine = Engine()
    way = UnlessHeadphones(engine)
    around = Cancelled(way)
    for number in range(LOUD_BLOCKS):
        assert not way.resting
        heard = way.process(FAINT, syllables(number))
        assert heard == (FAINT[::-1] if number < LOUD_BLOCKS - 1 else FAINT)
    assert way.resting and around.state is EchoState.RESTING
    n_before = len(engine.references)
    for number in range(3000):
        reference = syllables(number)
        capture = to_pcm(array("h", [sample // 3 for sample in array("h", syllables(number - 6))]))
        way.process(capture if number > 6 else FAINT, reference)
    assert not way.resting and len(engine.references) > n_before
    assert around.state is EchoState.CANCELLED


def test_with_an_echo_the_engine_never_rests() -> None:
    way = UnlessHeadphones(Engine())
    for number in range(3000):
        way.process(syllables(number - 6) if number > 6 else FAINT, syllables(number))
        assert not way.resting


def test_an_agent_that_is_silent_decides_nothing() -> None:
    way = UnlessHeadphones(Engine())
    for _ in range(3000):
        way.process(silence(BLOCK_SAMPLES), silence(BLOCK_SAMPLES))
    assert not way.resting


def test_only_what_measures_may_rest(opened: list[dict[str, bool]]) -> None:
    def rests(options: EchoOptions) -> bool:
        chosen = open_echo(options, LOUDSPEAKER)
        assert isinstance(chosen, Cancelled)
        return isinstance(chosen._engine, UnlessHeadphones)

    assert rests(EchoOptions())
    assert not rests(EchoOptions(EchoCancel.ON))
    assert not rests(EchoOptions(noise_suppression=True))  # which goes on without an echo
