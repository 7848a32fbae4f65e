"""The keys of a call, with a conversation and ends that only note what is done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from fakes import FakeSink, FakeSource, run_virtual

from personaplex_cli.call import Call
from personaplex_cli.cli.bindings import BINDINGS, LINE_ORDER, help_rows, line_of_keys
from personaplex_cli.cli.controls import AGAIN_S, Controls, ends_there
from personaplex_cli.devices import listing
from personaplex_cli.devices.device import Device
from personaplex_cli.dsp.volume import Volume
from personaplex_cli.earcons import Earcon
from personaplex_cli.ends import MicrophoneEnd, SpeakerEnd
from personaplex_cli.events import (
    Bookmark,
    EndReason,
    Event,
    MicrophoneChanged,
    Notice,
    VolumeChanged,
)
from personaplex_cli.pipeline.gate import Gate
from personaplex_cli.ui.keys import Char, Key, Paste, Pressed
from personaplex_cli.ui.prompt import Choice, Help, PromptChanged, TypedLine

ALL = {"microphone", "speaker", "device"}


class FakeCall:
    def __init__(self) -> None:
        self.put_off = 0

    def put_off_idle(self) -> None:
        self.put_off += 1


class FakeConversation:
    def __init__(self) -> None:
        self.fake_call = FakeCall()
        self.call: Call | None = cast(Call, self.fake_call)
        self.said: list[str] = []
        self.told: list[Event] = []
        self.hung_up: list[EndReason] = []
        self.places: asyncio.Semaphore | None = None
        """For texts; None: as many as come."""

    async def say(self, text: str) -> None:
        if self.places is not None:
            await self.places.acquire()
        self.said.append(text)

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def tell(self, event: Event) -> None:
        self.told.append(event)

    def hang_up(self, reason: EndReason) -> None:
        self.hung_up.append(reason)


class FakeMicrophone(FakeSource):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.used: list[str] = []

    def use_device(self, spec: str) -> None:
        self.used.append(spec)


class FakeSpeaker(FakeSink):
    def __init__(self) -> None:
        super().__init__()
        self.volume = Volume()
        self.used: list[str] = []
        self.flushed = 0
        self.earcons: list[Earcon] = []

    def use_device(self, spec: str) -> None:
        self.used.append(spec)

    def flush(self) -> None:
        self.flushed += 1

    def play_earcon(self, earcon: Earcon) -> None:
        self.earcons.append(earcon)


class Rig:
    def __init__(self, *, microphone: bool = True, speaker: bool = True) -> None:
        self.conversation = FakeConversation()
        self.microphone = FakeMicrophone()
        self.speaker = FakeSpeaker()
        source: FakeSource = self.microphone if microphone else FakeSource()
        sink: FakeSink = self.speaker if speaker else FakeSink()
        self.by_lines: list[bool] = []
        self.controls = Controls(self.conversation, source, sink, self.by_lines.append)

    def press(self, *keys: Pressed | str) -> None:
        """Texts are typed."""
        for key in keys:
            if isinstance(key, str) and not isinstance(key, Key):
                self.controls.press([Char(character) for character in key])
            else:
                self.controls.press([key])

    def told(self, kind: type[Event] = Event) -> list[Any]:
        return [event for event in self.conversation.told if isinstance(event, kind)]

    @property
    def prompt(self) -> object:
        return self.told(PromptChanged)[-1].prompt

    @property
    def microphone_told(self) -> list[tuple[bool, bool, bool]]:
        return [(one.muted, one.push_to_talk, one.talking) for one in self.told(MicrophoneChanged)]


def at_keys(script: Callable[[Rig], Awaitable[object]], **ends: bool) -> Rig:
    """The rig after `script`, on a clock that goes on only when all wait."""

    async def main() -> Rig:
        rig = Rig(**ends)
        await script(rig)
        return rig

    return run_virtual(main())


def pressed(*keys: Pressed | str, **ends: bool) -> Rig:
    """The rig after `keys`, and after all that they have begun."""

    async def script(rig: Rig) -> None:
        for key in keys:
            rig.press(key)
            await settled()

    return at_keys(script, **ends)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def device(name: str, *, inputs: int = 0, outputs: int = 0, default: bool = False) -> Device:
    return Device(0, name, "Fake", inputs, outputs, 48_000, default, default)


# --- the ends


def test_what_there_is_to_steer() -> None:
    assert isinstance(FakeMicrophone(), MicrophoneEnd) and isinstance(FakeSpeaker(), SpeakerEnd)
    assert ends_there(FakeMicrophone(), FakeSpeaker()) == ALL
    assert ends_there(FakeMicrophone(), FakeSink()) == {"microphone", "device"}
    assert ends_there(FakeSource(), FakeSpeaker()) == {"speaker", "device"}
    assert ends_there(FakeSource(), FakeSink()) == set()


def test_the_line_of_keys_has_those_that_do_something() -> None:
    assert [key for key, _ in line_of_keys(set(), space=False)] == ["t", "q", "?", "b", "r"]
    assert [key for key, _ in line_of_keys(ALL, space=True)] == ["space", *LINE_ORDER]
    assert [key for key, _ in line_of_keys({"microphone", "device"}, space=False)] == [
        key for key in LINE_ORDER if key not in ("+ -", "l")
    ]
    assert {key for key, _ in help_rows(ALL)} == {binding.key for binding in BINDINGS}


@pytest.mark.parametrize("key", [" ", "m", "p", "+", "=", "-", "l", "d"])
def test_a_key_without_its_end_does_nothing(key: str) -> None:
    rig = pressed(key, microphone=False, speaker=False)
    assert rig.told() == [] and rig.conversation.hung_up == [] and rig.conversation.said == []


@pytest.mark.parametrize("key", ["x", "M", "Q", "0", "ß", Key.UP, Key.ESCAPE, Key.BACKSPACE, Key.TAB])
def test_a_key_without_a_meaning_does_nothing(key: Pressed | str) -> None:
    rig = pressed(key)
    assert rig.told() == [] and rig.conversation.hung_up == [] and rig.speaker.flushed == 0


def test_whatever_is_pressed_shows_that_somebody_is_there() -> None:
    rig = pressed("x", "b", Key.UP)
    assert rig.conversation.fake_call.put_off == 3


def test_keys_between_two_calls_are_no_error() -> None:
    async def script(rig: Rig) -> None:
        rig.conversation.call = None
        rig.press("mb", "r")

    rig = at_keys(script)
    assert rig.microphone.gate.muted and rig.conversation.hung_up == [EndReason.BEGUN_ANEW]


# --- the call


def test_hanging_up_and_beginning_anew() -> None:
    assert pressed("q").conversation.hung_up == [EndReason.HUNG_UP]
    assert pressed("r").conversation.hung_up == [EndReason.BEGUN_ANEW]


def test_a_held_key_begins_one_new_call_and_not_one_for_each_repeat() -> None:
    async def script(rig: Rig) -> None:
        rig.press("r")
        await asyncio.sleep(0.66)
        for _ in range(40):
            rig.press("r")
            await asyncio.sleep(0.04)
        assert rig.conversation.hung_up == [EndReason.BEGUN_ANEW]
        await asyncio.sleep(AGAIN_S)
        rig.press("r")

    assert at_keys(script).conversation.hung_up == [EndReason.BEGUN_ANEW] * 2


def test_bookmarks_are_numbered_and_dated() -> None:
    async def script(rig: Rig) -> None:
        for _ in range(2):
            rig.press("b")
            await asyncio.sleep(1)

    first, second = at_keys(script).told(Bookmark)
    assert (first.number, second.number) == (1, 2)
    assert second.at_s - first.at_s == pytest.approx(1)


def test_the_keys_are_shown_until_the_next_one() -> None:
    rig = pressed("?")
    assert rig.prompt == Help(help_rows(ALL))
    rig = pressed("?", "q")  # which only closes it
    assert rig.prompt is None and rig.conversation.hung_up == []
    rig = pressed("?", "q", "q")
    assert rig.conversation.hung_up == [EndReason.HUNG_UP]
    rig = pressed("?", microphone=False, speaker=False)
    assert rig.prompt == Help(help_rows(set()))


# --- the microphone


def test_muting() -> None:
    rig = pressed("m")
    assert rig.microphone.gate.muted and rig.microphone_told == [(True, False, False)]
    rig = pressed("m", "m")
    assert not rig.microphone.gate.muted
    assert rig.microphone_told == [(True, False, False), (False, False, False)]


def test_push_to_talk() -> None:
    rig = pressed("p")
    assert rig.microphone.gate.push_to_talk and not rig.microphone.gate.open
    rig = pressed("p", "p")
    assert rig.microphone_told == [(False, True, False), (False, False, False)]
    assert rig.microphone.gate.open


def test_a_tap_before_push_to_talk_does_not_keep_the_microphone_open() -> None:
    async def script(rig: Rig) -> None:
        rig.press(" ")
        await asyncio.sleep(3)
        rig.press("p")
        assert not rig.microphone.gate.open
        await asyncio.sleep(3)
        rig.press(" ")
        assert rig.microphone.gate.open

    assert at_keys(script).microphone_told == [(False, True, False), (False, True, True)]


def test_a_tap_talks_until_the_next_one() -> None:
    async def script(rig: Rig) -> None:
        rig.press("p", " ")
        await asyncio.sleep(3)
        assert rig.microphone.gate.open
        rig.press(" ")
        assert not rig.microphone.gate.open
        await asyncio.sleep(3)

    assert at_keys(script).microphone_told == [
        (False, True, False),
        (False, True, True),
        (False, True, False),
    ]


@pytest.mark.parametrize("initial_delay_s", [0.25, 0.5, 0.66])
def test_a_held_key_talks_until_it_is_let_go(initial_delay_s: float) -> None:
    times: list[float] = []

    async def script(rig: Rig) -> None:
        rig.press("p", " ")
        await asyncio.sleep(initial_delay_s)
        for _ in range(40):
            rig.press(" ")
            assert rig.microphone.gate.open
            await asyncio.sleep(0.033)
        times.append(rig.conversation.now_s())
        await asyncio.sleep(1)
        assert not rig.microphone.gate.open

    rig = at_keys(script)
    assert rig.microphone_told == [(False, True, False), (False, True, True), (False, True, False)]
    assert rig.told(MicrophoneChanged)[-1].at_s - times[0] == pytest.approx(0.2, abs=0.06)


def test_talking_while_muted_is_told_and_opens_nothing() -> None:
    rig = pressed("p", "m", " ")
    assert rig.microphone_told[-1] == (True, True, True)
    assert not rig.microphone.gate.open


def test_nothing_waits_for_the_talk_key_when_nobody_talks() -> None:
    """A timer that went on would keep the machine awake."""

    async def script(rig: Rig) -> None:
        rig.press("p")
        for _ in range(5):
            rig.press(" ")
            await asyncio.sleep(1)
        rig.press(" ")
        await asyncio.sleep(1)
        loop = cast(Any, asyncio.get_running_loop())
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    assert [talking for _, _, talking in at_keys(script).microphone_told] == [False, *[True, False] * 3]


# --- the speaker


@pytest.mark.parametrize(("keys", "percent"), [("+", 110), ("=", 110), ("-", 90), ("+-", 100), ("---", 70)])
def test_the_volume(keys: str, percent: int) -> None:
    rig = pressed(keys)
    assert rig.speaker.volume.percent == rig.told(VolumeChanged)[-1].percent == percent


def test_the_volume_has_bounds() -> None:
    louder, softer = pressed("+" * 15), pressed("-" * 15)
    assert [event.percent for event in louder.told(VolumeChanged)] == [*range(110, 201, 10), *[200] * 5]
    assert [event.percent for event in softer.told(VolumeChanged)] == [*range(90, -1, -10), *[0] * 5]


def test_flushing() -> None:
    assert pressed("l").speaker.flushed == 1


# --- typing


def test_a_typed_text_is_sent() -> None:
    rig = pressed("t", "Hi there", Key.ENTER)
    assert rig.conversation.said == ["Hi there"]
    assert [event.prompt for event in rig.told(PromptChanged)][:3] == [
        TypedLine("", 0),
        TypedLine("H", 1),
        TypedLine("Hi", 2),
    ]
    assert rig.prompt is None
    assert rig.by_lines == [True, False]


def test_enter_opens_the_line_too() -> None:
    assert pressed(Key.ENTER, "x", Key.ENTER).conversation.said == ["x"]


@pytest.mark.parametrize("keys", [(Key.ENTER,), ("   ", Key.ENTER), ("never mind", Key.ESCAPE)])
def test_nothing_is_sent_of_an_empty_line_or_one_that_was_given_up(keys: tuple[Pressed | str, ...]) -> None:
    rig = pressed("t", *keys)
    assert rig.conversation.said == [] and rig.prompt is None and rig.by_lines == [True, False]


def test_keys_are_characters_while_a_text_is_typed() -> None:
    rig = pressed("t", "qmr? +-dplb", Key.ENTER)
    assert rig.conversation.said == ["qmr? +-dplb"] and rig.conversation.hung_up == []
    assert rig.speaker.volume.percent == 100 and not rig.microphone.gate.muted


def test_keys_that_come_together_are_taken_one_after_the_other() -> None:
    keys: list[Pressed] = [Char("t"), Char("m"), Key.ENTER, Char("m")]

    async def script(rig: Rig) -> None:
        rig.controls.press(keys)
        await settled()

    rig = at_keys(script)
    assert rig.conversation.said == ["m"] and rig.microphone.gate.muted


def test_a_line_is_edited() -> None:
    rig = pressed("t", "Hallo", Key.LEFT, Key.LEFT, Key.LEFT, Key.BACKSPACE, "e", Key.END, "!", Key.ENTER)
    assert rig.conversation.said == ["Hello!"]


def test_a_paste_opens_the_line_and_waits_for_enter() -> None:
    rig = pressed(Paste("from\nelsewhere q"))
    assert rig.conversation.said == [] and rig.conversation.hung_up == []
    assert rig.prompt == TypedLine("from elsewhere q", 16)
    assert pressed(Paste("x"), Paste("y"), Key.ENTER).conversation.said == ["xy"]


def test_a_paste_is_nothing_while_something_else_is_asked() -> None:
    assert isinstance(pressed("?", Paste("x")).prompt, Help)


@pytest.mark.usefixtures("devices")
def test_a_paste_chooses_no_device() -> None:
    rig = choosing(Paste("2"))
    assert isinstance(rig.prompt, Choice) and rig.prompt.selected == 0 and rig.microphone.used == []


def test_earlier_lines_come_back() -> None:
    lines = ("t", "one", Key.ENTER, "t", "two", Key.ENTER)
    assert pressed(*lines, "t", Key.UP, Key.ENTER).conversation.said[-1] == "two"
    assert pressed(*lines, "t", Key.UP, Key.UP, Key.ENTER).conversation.said[-1] == "one"
    rig = pressed(*lines, "t", "thr", Key.UP, Key.UP, Key.DOWN, Key.DOWN, "ee", Key.ENTER)
    assert rig.conversation.said[-1] == "three"
    assert pressed(*lines, "t", "gone", Key.ESCAPE, "t", Key.UP, Key.ENTER).conversation.said[-1] == "two"


def test_a_text_that_has_to_wait_holds_up_no_key() -> None:
    async def script(rig: Rig) -> None:
        rig.conversation.places = asyncio.Semaphore(0)
        rig.press("t", "one", Key.ENTER, "m", "t", "two", Key.ENTER)
        await settled()
        assert rig.conversation.said == [] and rig.microphone.gate.muted
        for _ in range(2):
            rig.conversation.places.release()
        await settled()

    assert at_keys(script).conversation.said == ["one", "two"]


# --- devices


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        device("Box", outputs=2),
        device("Headset", inputs=1, outputs=2, default=True),
        device("Webcam", inputs=2),
    ]
    monkeypatch.setattr(listing, "listed_afresh", lambda: found)


def choosing(*keys: Pressed | str, **ends: bool) -> Rig:
    """The rig after `d`, when the devices are listed, and then `keys`."""

    async def script(rig: Rig) -> None:
        rig.press("d")
        await asyncio.gather(*rig.controls._tasks)
        rig.press(*keys)

    return at_keys(script, **ends)


@pytest.mark.usefixtures("devices")
def test_devices_are_listed_for_both_directions() -> None:
    rig = choosing()
    prompt = rig.prompt
    assert isinstance(prompt, Choice) and prompt.selected == 0
    assert prompt.options == (
        "microphone: Headset, Fake (default)",
        "microphone: Webcam, Fake",
        "speaker: Headset, Fake (default)",
        "speaker: Box, Fake",
    )


@pytest.mark.usefixtures("devices")
def test_devices_are_listed_for_the_ends_that_there_are() -> None:
    only_speaker, only_microphone = choosing(microphone=False).prompt, choosing(speaker=False).prompt
    assert isinstance(only_speaker, Choice) and isinstance(only_microphone, Choice)
    assert [option.split(":")[0] for option in only_speaker.options] == ["speaker"] * 2
    assert [option.split(":")[0] for option in only_microphone.options] == ["microphone"] * 2


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize(
    ("keys", "microphone", "speaker"),
    [
        ((Key.ENTER,), "Headset", None),
        ((Key.DOWN, Key.ENTER), "Webcam", None),
        ((Key.UP, Key.ENTER), None, "Box"),
        (("3", Key.ENTER), None, "Headset"),
        (("9", Key.DOWN, Key.ENTER), "Webcam", None),  # there is no ninth
        ((Key.DOWN, Key.ESCAPE), None, None),
        ((Key.DOWN, "q"), None, None),
        (("mtrb", Key.DOWN, Key.ENTER), "Webcam", None),
    ],
)
def test_a_device_is_chosen(
    keys: tuple[Pressed | str, ...], microphone: str | None, speaker: str | None
) -> None:
    rig = choosing(*keys)
    assert rig.microphone.used == ([f"{microphone}, Fake"] if microphone else [])
    assert rig.speaker.used == ([f"{speaker}, Fake"] if speaker else [])
    assert rig.prompt is None
    assert rig.conversation.hung_up == [] and not rig.told(Bookmark) and not rig.microphone.gate.muted


def test_a_number_of_two_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [device(f"Mic {number}", inputs=1) for number in range(1, 15)]
    monkeypatch.setattr(listing, "listed_afresh", lambda: found)
    assert choosing("12", Key.ENTER).microphone.used == ["Mic 12, Fake"]
    assert choosing("124", Key.ENTER).microphone.used == ["Mic 4, Fake"]  # there is no 24th


def test_without_devices_there_is_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "listed_afresh", list)
    rig = choosing()
    assert not rig.told(PromptChanged)
    assert [notice.text for notice in rig.told(Notice)] == ["No sound devices are found."]


@pytest.mark.usefixtures("devices")
def test_a_list_that_comes_while_something_else_is_asked_does_not_disturb() -> None:
    async def script(rig: Rig) -> None:
        rig.press("d", "t", "Hel")
        await asyncio.gather(*rig.controls._tasks)
        rig.press("lo", Key.ENTER)
        await settled()

    rig = at_keys(script)
    assert rig.conversation.said == ["Hello"]
    assert not any(isinstance(event.prompt, Choice) for event in rig.told(PromptChanged))
