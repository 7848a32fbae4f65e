"""A stream that goes on for as long as it is wanted, on a PortAudio that is a fake. Its times are shortened;
the tests wait for what happens, and do not depend on how fast it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from fake_portaudio import LIMIT_S, FakeSounddevice, FakeStream, PortAudioError, listed_device, until

from personaplex_cli.devices import portaudio, stream
from personaplex_cli.devices.device import Device, Kind
from personaplex_cli.devices.listing import list_devices
from personaplex_cli.devices.stream import DeviceStream
from personaplex_cli.errors import AudioError
from personaplex_cli.events import DeviceState

A_WHILE_S = 0.05
"""For what must not happen: many times as long as it would take."""

BUILT_IN = listed_device("Built-in", inputs=2, outputs=2, rate_hz=44_100)
HEADSET = listed_device("USB Headset")
BLOCK = b"\1\2" * 240


@pytest.fixture(autouse=True)
def quick(card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices; the built-in one is the default. A stream without callbacks is not lost, unless a test
    says so."""
    card.present = [BUILT_IN, HEADSET]
    card._initialize()
    card.calls.clear()
    monkeypatch.setattr(stream, "WATCH_S", 0.002)
    monkeypatch.setattr(stream, "BACK_OFF_S", (0.0, 0.002, 0.005))
    monkeypatch.setattr(stream, "SILENT_LIMIT_S", 1000.0)
    monkeypatch.setattr(stream, "REPLACE_AFTER_S", 1000.0)
    monkeypatch.setattr(stream, "RETURN_CHECK_S", 0.01)

    def listed_afresh() -> list[Device]:
        """A PortAudio of its own, which sees what is plugged in."""
        before, card._listed = card._listed, [dict(entry, index=n) for n, entry in enumerate(card.present)]
        try:
            return list_devices()
        finally:
            card._listed = before

    monkeypatch.setattr(stream, "listed_afresh", listed_afresh)


class User:
    """Whoever has a stream: what was exchanged, told and reported."""

    def __init__(self, kind: Kind = "input", spec: str | None = "headset") -> None:
        self.heard: list[bytes] = []
        self.stamps_s: list[float] = []
        self.told: list[tuple[DeviceState, str]] = []
        self.failures: list[Exception] = []
        self.bug: Exception | None = None
        self.on_told: Callable[[], None] = lambda: None
        self.kind = kind
        self.stream = DeviceStream(kind, spec, self.take if kind == "input" else self.give)

    def start(self) -> User:
        self.stream.start(self.tell, self.failures.append)
        return self

    def take(self, pcm: bytes, at_s: float) -> None:
        if self.bug:
            raise self.bug
        self.heard.append(pcm)
        self.stamps_s.append(at_s)

    def give(self, n_samples: int, at_s: float) -> bytes:
        if self.bug:
            raise self.bug
        self.stamps_s.append(at_s)
        return b"\1\2" * n_samples

    def tell(self, kind: Kind, state: DeviceState, name: str) -> None:
        assert kind == self.kind
        self.told.append((state, name))
        self.on_told()

    def was_told(self, *states: DeviceState) -> None:
        until(lambda: len(self.told) >= len(states))
        assert [state for state, _ in self.told] == list(states)


def hears(user: User, device: FakeStream) -> bool:
    """Whether a callback of the device's reaches the user."""
    before = len(user.stamps_s)
    if user.kind == "input":
        device.capture(BLOCK * device.options["channels"])
    else:
        device.play(240)
    return len(user.stamps_s) > before


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What PortAudio hangs at; nobody waits long for it. In the end it goes on."""
    for limit in ("LOAD_LIMIT_S", "OPEN_LIMIT_S", "CLOSE_LIMIT_S"):
        monkeypatch.setattr(portaudio, limit, 0.02)
    goes_on = threading.Event()
    yield goes_on
    goes_on.set()
    portaudio.call(lambda: None, LIMIT_S)


# --- as long as nothing happens


def test_what_is_captured_comes_with_the_time_of_its_first_sample(card: FakeSounddevice) -> None:
    user = User().start()
    before_s = time.monotonic()
    card.stream.capture(BLOCK, age_s=0.03)
    after_s = time.monotonic()
    assert user.heard == [BLOCK]
    assert before_s - 0.03 <= user.stamps_s[0] + 1e-6 and user.stamps_s[0] <= after_s - 0.03 + 1e-6


def test_what_is_played_is_asked_for_with_the_time_when_it_is_heard(card: FakeSounddevice) -> None:
    user = User("output").start()
    before_s = time.monotonic()
    assert card.stream.play(240, ahead_s=0.02) == BLOCK
    assert before_s + 0.02 <= user.stamps_s[0] + 1e-6 and user.stamps_s[0] <= time.monotonic() + 0.02


def test_a_converted_speaker_says_when_each_part_is_heard(card: FakeSounddevice) -> None:
    """What is pulled for one block in several parts is heard one after the other."""
    card.refused = {(24_000, 1), (24_000, 2)}
    user = User("output").start()
    before_s = time.monotonic()
    block = card.stream.play(960)
    assert len(block) == 2 * 960
    assert len(user.stamps_s) > 1
    steps_s = [b - a for a, b in zip(user.stamps_s, user.stamps_s[1:], strict=False)]
    assert all(step_s > 0 for step_s in steps_s)
    assert user.stamps_s[-1] - before_s < 0.1


@pytest.mark.parametrize("kind", ["input", "output"])
def test_refused_formats_are_passed_over(kind: Kind, card: FakeSounddevice) -> None:
    card.refused = {(24_000, 1), (24_000, 2), (48_000, 1)}
    user = User(kind).start()
    [(_, device)] = card.opened
    assert (device.options["samplerate"], device.options["channels"]) == (48_000, 2)
    if kind == "input":
        for _ in range(10):
            device.capture(b"\0\x10" * 2 * 480)
        assert 75 < sum(map(len, user.heard)) / 48 <= 100  # of 100 ms
    else:
        assert len(device.play(480)) == 4 * 480


def test_a_device_that_refuses_all_formats_says_why_the_first_was(card: FakeSounddevice) -> None:
    card.refused = {(rate_hz, n) for rate_hz in (24_000, 48_000, 44_100) for n in (1, 2)}
    with pytest.raises(AudioError, match="microphone 'USB Headset' cannot be opened: Invalid sample rate"):
        User()
    assert stream._streams == []


def test_latency_and_flags_are_the_device_s(card: FakeSounddevice) -> None:
    user = User().start()
    card.stream.capture(BLOCK, "input overflow")
    card.stream.capture(BLOCK)
    assert user.stream.latency_s == FakeStream.latency
    assert user.stream.timing.flagged == 1


def test_starting_again_only_changes_who_is_told(card: FakeSounddevice) -> None:
    user = User().start()
    told: list[DeviceState] = []
    user.stream.start(lambda kind, state, name: told.append(state), user.failures.append)
    assert card.stream.calls == ["start"]
    card.stream.lose()
    until(lambda: told == [DeviceState.LOST, DeviceState.BACK])
    assert user.told == []


def test_a_device_that_does_not_start_is_closed_again(card: FakeSounddevice) -> None:
    user = User()
    card.stream.start_error = PortAudioError("Unanticipated host error")
    with pytest.raises(AudioError, match="microphone does not start"):
        user.start()
    assert card.stream.calls == ["start", "stop", "close"]


@pytest.mark.parametrize("kind", ["input", "output"])
def test_our_own_close_is_no_loss_and_its_last_callbacks_do_nothing(
    kind: Kind, card: FakeSounddevice
) -> None:
    user = User(kind).start()
    user.stream.close()
    user.stream.close()
    assert card.stream.calls == ["start", "stop", "close"]
    assert not hears(user, card.stream)
    if kind == "output":
        assert not any(card.stream.play(240))
    time.sleep(A_WHILE_S)
    assert user.told == [] and len(card.opened) == 1 and user.stream.latency_s == 0.0


# --- what is lost


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_stream_that_ends_by_itself_is_opened_again(kind: Kind, card: FakeSounddevice) -> None:
    user = User(kind).start()
    first = card.stream
    first.lose()
    user.was_told(DeviceState.LOST, DeviceState.BACK)
    assert {name for _, name in user.told} == {"USB Headset"}
    assert user.stream.restarts == 1
    assert card.devices_opened() == ["USB Headset"] * 2
    assert hears(user, card.stream) and not hears(user, first)


def test_a_device_that_stays_away_is_tried_again_and_again(card: FakeSounddevice) -> None:
    user = User().start()
    card.open_error = PortAudioError("Device unavailable", -9985)
    card.stream.lose()
    user.was_told(DeviceState.LOST)
    assert user.stream.latency_s == 0.0
    time.sleep(A_WHILE_S)
    assert len(user.told) == 1
    card.open_error = None
    user.was_told(DeviceState.LOST, DeviceState.BACK)
    assert user.stream.restarts == 1


def test_a_stream_whose_callbacks_stop_coming_is_lost(
    card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = User()
    user.on_told = lambda: monkeypatch.setattr(stream, "SILENT_LIMIT_S", 1000.0)
    user.start()
    hears(user, card.stream)
    monkeypatch.setattr(stream, "SILENT_LIMIT_S", 0.03)
    user.was_told(DeviceState.LOST, DeviceState.BACK)
    assert hears(user, card.stream)


def test_callbacks_that_come_keep_a_stream(card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose lateness is far below the limit, on any machine that is alive."""
    monkeypatch.setattr(stream, "SILENT_LIMIT_S", 0.5)
    user = User().start()
    began_s = last_s = time.monotonic()
    while time.monotonic() < began_s + 0.7:
        assert hears(user, card.stream)
        if time.monotonic() > last_s + 0.4:
            pytest.skip("this machine stands still")
        last_s = time.monotonic()
        time.sleep(0.01)
    assert user.told == []


def test_a_sound_server_that_hangs_is_left_alone_until_it_answers(
    card: FakeSounddevice, hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = User()
    user.on_told = lambda: monkeypatch.setattr(stream, "SILENT_LIMIT_S", 1000.0)
    user.start()
    first = card.stream
    first.close_waits_for = hang
    monkeypatch.setattr(stream, "SILENT_LIMIT_S", 0.02)
    user.was_told(DeviceState.LOST)
    time.sleep(A_WHILE_S)
    assert portaudio.stuck() and len(card.opened) == 1
    assert not hears(user, first)  # its callbacks come again: too late
    hang.set()
    user.was_told(DeviceState.LOST, DeviceState.BACK)
    assert first.calls[-1] == "close" and not hears(user, first) and hears(user, card.stream)


def test_another_device_stands_in_and_the_wanted_one_comes_back(
    card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "REPLACE_AFTER_S", 0.01)
    user = User().start()
    card.present = [BUILT_IN]
    card.stream.lose()
    user.was_told(DeviceState.LOST, DeviceState.REPLACED)
    assert user.told[-1][1] == user.stream.device.name == "Built-in"
    stand_in = card.stream
    assert hears(user, stand_in)
    time.sleep(A_WHILE_S)
    assert len(user.told) == 2  # it is looked for, and is not there
    card.present = [BUILT_IN, HEADSET]
    user.was_told(DeviceState.LOST, DeviceState.REPLACED, DeviceState.BACK)
    assert user.told[-1][1] == user.stream.device.name == "USB Headset"
    assert stand_in.calls == ["start", "stop", "close"]
    assert hears(user, card.stream) and not hears(user, stand_in)
    assert user.stream.restarts == 2


def test_portaudio_looks_again_only_for_a_device_that_is_there(
    card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment that closes all streams, the one that stands in too."""
    monkeypatch.setattr(stream, "REPLACE_AFTER_S", 0.01)
    user = User().start()
    card.present = [BUILT_IN]
    card._initialize()
    card.stream.lose()
    user.was_told(DeviceState.LOST, DeviceState.REPLACED)
    stand_in = card.stream
    time.sleep(A_WHILE_S)
    assert stand_in.calls == ["start"] and "terminate" not in card.calls
    card.present = [HEADSET, BUILT_IN]
    user.was_told(DeviceState.LOST, DeviceState.REPLACED, DeviceState.BACK)
    assert "terminate" in card.calls and stand_in.calls[-1] == "close"
    assert user.stream.device.name == "USB Headset" and hears(user, card.stream)


def test_nobody_stands_in_before_the_time(card: FakeSounddevice) -> None:
    user = User().start()
    card.present = [BUILT_IN]
    card.stream.lose()
    user.was_told(DeviceState.LOST)
    time.sleep(A_WHILE_S)
    assert len(user.told) == 1 and card.devices_opened() == ["USB Headset"]


def test_who_follows_the_default_goes_to_what_is_the_default_now(card: FakeSounddevice) -> None:
    user = User(spec=None).start()
    assert user.stream.device.name == "Built-in"
    card.present, card.default.device = [HEADSET], (0, 0)
    card.stream.lose()
    user.was_told(DeviceState.LOST, DeviceState.BACK)
    assert user.told[-1][1] == user.stream.device.name == "USB Headset"
    time.sleep(A_WHILE_S)
    assert len(user.told) == 2  # that is what was wanted


def test_a_device_that_portaudio_does_not_see_makes_it_look_again_with_all_streams_closed(
    card: FakeSounddevice,
) -> None:
    """As when a headset is plugged in again, under another number."""
    user, other = User().start(), User("output", "built-in").start()
    microphone, speaker = card.opened[0][1], card.opened[1][1]
    terminate = card._terminate

    def closed_first() -> None:
        assert microphone.calls[-1] == speaker.calls[-1] == "close"
        terminate()

    card._terminate = closed_first  # type: ignore[method-assign]
    card.present = [BUILT_IN]
    card._initialize()
    microphone.lose()
    user.was_told(DeviceState.LOST)
    card.present = [listed_device("HDMI", inputs=0), HEADSET, BUILT_IN]
    card.default.device = (1, 2)
    user.was_told(DeviceState.LOST, DeviceState.BACK)
    assert "terminate" in card.calls
    opened = {kind: device for kind, device in card.opened}
    assert opened["input"].options["device"] == 1 and opened["output"].options["device"] == 2
    assert hears(user, opened["input"]) and hears(other, opened["output"])
    assert other.told == [] and other.stream.restarts == 1  # for a moment only


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_stream_that_waits_for_its_start_is_none_the_worse(comes_back: bool, card: FakeSounddevice) -> None:
    """A microphone starts with the handshake; the speaker may be lost, and PortAudio look again, before."""
    speaker, waiting = User("output").start(), User("input", "built-in")
    card.present = [BUILT_IN]
    card._initialize()
    next(device for kind, device in card.opened if kind == "output").lose()
    speaker.was_told(DeviceState.LOST)
    card.present = [HEADSET, BUILT_IN] if comes_back else [HEADSET]
    speaker.was_told(DeviceState.LOST, DeviceState.BACK)
    assert "start" not in next(device for kind, device in reversed(card.opened) if kind == "input").calls
    waiting.start()
    if not comes_back:
        waiting.was_told(DeviceState.LOST)
        card.present = [HEADSET, BUILT_IN]
        waiting.was_told(DeviceState.LOST, DeviceState.BACK)
    assert hears(waiting, next(device for kind, device in reversed(card.opened) if kind == "input"))


# --- another device


def test_going_over_to_another_device(card: FakeSounddevice) -> None:
    user = User().start()
    first = card.stream
    user.stream.change("built-in")
    user.was_told(DeviceState.CHANGED)
    assert user.told[0][1] == user.stream.device.name == "Built-in"
    assert first.calls == ["start", "stop", "close"]
    assert hears(user, card.stream) and not hears(user, first)
    assert user.stream.restarts == 1
    card.stream.lose()  # from now on it is the one that is wanted
    user.was_told(DeviceState.CHANGED, DeviceState.LOST, DeviceState.BACK)
    assert user.told[-1][1] == "Built-in"


def test_going_over_to_a_device_that_has_just_come(card: FakeSounddevice) -> None:
    card.present = [BUILT_IN]
    card._initialize()
    user = User(spec=None).start()
    card.present = [BUILT_IN, HEADSET]
    user.stream.change("USB Headset, ALSA")
    user.was_told(DeviceState.CHANGED)
    assert user.told[0][1] == user.stream.device.name == "USB Headset"
    assert hears(user, card.stream)


@pytest.mark.parametrize("why", ["unknown", "does not open", "does not start"])
def test_a_device_that_cannot_be_had_changes_nothing(
    why: str, card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = User().start()
    first = card.stream
    if why == "does not open":
        card.open_error = PortAudioError("Device unavailable", -9985)
    if why == "does not start":
        monkeypatch.setattr(FakeStream, "start", lambda self: self.stop(True) or 1 / 0)
        monkeypatch.setattr(card, "PortAudioError", ZeroDivisionError)
    user.stream.change("organ" if why == "unknown" else "built-in")
    user.was_told(DeviceState.REFUSED)
    assert ("organ" if why == "unknown" else "'Built-in' cannot be opened") in user.told[0][1]
    assert first.calls == ["start"] and hears(user, first)
    assert user.stream.restarts == 0 and user.stream.device.name == "USB Headset"


def test_another_device_can_be_asked_for_while_the_first_is_lost(card: FakeSounddevice) -> None:
    user = User().start()
    card.present = [BUILT_IN]
    card.stream.lose()
    user.was_told(DeviceState.LOST)
    user.stream.change("built-in")
    user.was_told(DeviceState.LOST, DeviceState.CHANGED)
    assert hears(user, card.stream)


def test_a_refusal_while_the_first_is_lost_leaves_it_looked_for(card: FakeSounddevice) -> None:
    user = User().start()
    card.present = [BUILT_IN]
    card.stream.lose()
    user.was_told(DeviceState.LOST)
    user.stream.change("organ")
    until(lambda: DeviceState.REFUSED in [state for state, _ in user.told])
    card.present = [BUILT_IN, HEADSET]
    until(lambda: user.told[-1] == (DeviceState.BACK, "USB Headset"))
    assert hears(user, card.stream)


# --- bugs


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_bug_in_who_exchanges_is_reported_once_and_silence_follows(
    kind: Kind, card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SILENT_LIMIT_S", 0.01)  # what is silent from now on is no lost device
    user = User(kind)
    user.bug = ZeroDivisionError()
    user.start()
    device = card.stream
    for _ in range(3):
        if kind == "input":
            device.capture(BLOCK)
        else:
            assert not any(device.play(240))
    assert user.failures == [user.bug]
    time.sleep(A_WHILE_S)
    assert len(card.opened) == 1 and user.told == []
    user.stream.close()
    assert device.calls == ["start", "stop", "close"]


def test_a_bug_on_the_keeper_s_thread_is_reported(
    card: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = User().start()

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(stream, "list_devices", broken)
    card.stream.lose()
    until(lambda: user.failures)
    assert [type(error) for error in user.failures] == [ZeroDivisionError]


# --- the end, whatever happens meanwhile


def assert_closes(user: User) -> None:
    before_s = time.monotonic()
    user.stream.close()
    assert time.monotonic() - before_s < 5
    assert user.stream._keeper is not None
    user.stream._keeper.join(LIMIT_S)
    assert not user.stream._keeper.is_alive()


def test_closing_while_the_device_is_lost(card: FakeSounddevice) -> None:
    user = User().start()
    card.present = [BUILT_IN]
    card.stream.lose()
    user.was_told(DeviceState.LOST)
    assert_closes(user)
    assert not hears(user, card.stream)


def test_closing_a_device_that_hangs(card: FakeSounddevice, hang: threading.Event) -> None:
    user = User().start()
    card.stream.close_waits_for = hang
    assert_closes(user)
    assert card.stream.calls == ["start", "stop"] and not hears(user, card.stream)


def test_closing_while_a_device_is_being_opened_leaves_none_open(
    card: FakeSounddevice, hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes so long that closing does not wait for it."""
    monkeypatch.setattr(stream, "SWAP_LIMIT_S", 0.02)
    monkeypatch.setattr(portaudio, "OPEN_LIMIT_S", LIMIT_S)
    user = User().start()
    opening = threading.Event()
    real_open = card._open

    def slow_open(*arguments: object) -> FakeStream:
        opening.set()
        hang.wait()
        return real_open(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(card, "_open", slow_open)
    card.stream.lose()
    assert opening.wait(LIMIT_S)
    before_s = time.monotonic()
    user.stream.close()
    assert time.monotonic() - before_s < 5
    hang.set()
    assert user.stream._keeper is not None
    user.stream._keeper.join(LIMIT_S)
    assert not user.stream._keeper.is_alive()
    assert all(device.calls[-1] == "close" for _, device in card.opened)
    assert not any(hears(user, device) for _, device in card.opened)
