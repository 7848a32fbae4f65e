from __future__ import annotations

import pytest

from personaplex_cli.cli.dialogs import Choosing, Dialog, Helping, Typing, choices
from personaplex_cli.devices.device import Device, Kind
from personaplex_cli.ui.editor import History
from personaplex_cli.ui.keys import Char, Key, Paste, Pressed
from personaplex_cli.ui.prompt import Choice, Help, TypedLine


def press(dialog: Dialog, *keys: Pressed | str) -> bool:
    """A text stands for its characters. True when the last key, and no other, ended the dialog."""
    pressed = [
        one for key in keys for one in ([key] if isinstance(key, Key | Paste | Char) else map(Char, key))
    ]
    over = [dialog.press(key) for key in pressed]
    assert not any(over[:-1])
    return over[-1]


def device(number: int, inputs: int = 1, outputs: int = 1, default: bool = False) -> Device:
    return Device(number, f"Device {number}", "ALSA", inputs, outputs, 48_000, default, default)


# --- typing


def test_a_line_is_typed_and_taken() -> None:
    typing = Typing(History())
    assert not press(typing, "Helo", Key.LEFT, "l")
    assert typing.prompt == TypedLine("Hello", 4)
    assert typing.text == ""
    assert press(typing, Key.ENTER)
    assert typing.text == "Hello"


@pytest.mark.parametrize("keys", [("Hello", Key.ESCAPE), (Key.ENTER,), ("  ", Key.ENTER)], ids=str)
def test_nothing_to_send(keys: tuple[Pressed | str, ...]) -> None:
    history = History()
    typing = Typing(history)
    assert press(typing, *keys)
    assert typing.text == ""
    again = Typing(history)
    press(again, Key.UP)
    assert again.prompt == TypedLine("", 0)


def test_a_paste_is_one_line_until_enter() -> None:
    typing = Typing(History())
    assert not press(typing, Paste("one\ntwo\n"))
    assert typing.prompt == TypedLine("one two", 7)
    assert press(typing, Key.ENTER)
    assert typing.text == "one two"


def test_earlier_lines_come_back() -> None:
    history = History()
    for text in ("one", "two"):
        press(Typing(history), text, Key.ENTER)
    typing = Typing(history)
    press(typing, "thr", Key.UP, Key.UP)
    assert typing.prompt == TypedLine("one", 3)
    press(typing, Key.DOWN, Key.DOWN)
    assert typing.prompt == TypedLine("thr", 3)


@pytest.mark.parametrize("leave", [Key.ESCAPE, Key.ENTER])
def test_the_way_up_begins_anew_in_every_dialog(leave: Key) -> None:
    history = History()
    for text in ("one", "two"):
        press(Typing(history), text, Key.ENTER)
    press(Typing(history), Key.UP, Key.UP, Key.CTRL_U, leave)
    typing = Typing(history)
    press(typing, Key.UP)
    assert typing.prompt == TypedLine("two", 3)


# --- choosing a device


def choosing(n_devices: int) -> Choosing:
    return Choosing([("input", device(number)) for number in range(1, n_devices + 1)])


def test_what_there_is_to_choose() -> None:
    dialog = Choosing([("input", device(3, default=True)), ("output", device(4))])
    options = ("microphone: Device 3, ALSA (default)", "speaker: Device 4, ALSA")
    assert dialog.prompt == Choice("Devices", options, 0)


@pytest.mark.parametrize(
    ("n_devices", "keys", "number"),
    [
        (3, (), 1),
        (3, (Key.DOWN,), 2),
        (3, (Key.UP,), 3),
        (3, (Key.DOWN,) * 3, 1),
        (3, ("2",), 2),
        (3, ("23",), 3),
        (3, ("9",), 1),
        (12, ("12",), 12),
        (12, ("15",), 5),
        (12, ("112",), 12),
        (12, ("1", Key.DOWN, "2"), 2),
        (3, ("x", Key.LEFT, Paste("2"), Char("٣"), Char("²")), 1),
    ],
)
def test_a_device_is_chosen(n_devices: int, keys: tuple[Pressed | str, ...], number: int) -> None:
    dialog = choosing(n_devices)
    assert press(dialog, *keys, Key.ENTER)
    assert dialog.chosen == ("input", device(number))


@pytest.mark.parametrize("key", [Key.ESCAPE, Char("q")])
def test_a_choice_can_be_left(key: Pressed) -> None:
    dialog = choosing(3)
    assert press(dialog, "2", key)
    assert dialog.chosen is None


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["input"], [("input", 3), ("input", 1)]),
        (["output"], [("output", 3), ("output", 2)]),
        (["input", "output"], [("input", 3), ("input", 1), ("output", 3), ("output", 2)]),
    ],
)
def test_devices_stand_by_what_they_are_for_the_default_ones_first(
    kinds: list[Kind], expected: list[tuple[Kind, int]]
) -> None:
    devices = [device(1, outputs=0), device(2, inputs=0), device(3, default=True)]
    assert [(kind, one.index) for kind, one in choices(devices, kinds)] == expected


# --- help


def test_any_key_ends_the_help_and_a_paste_does_not() -> None:
    rows = (("m", "Mutes."),)
    assert Helping(rows).prompt == Help(rows)
    assert all(press(Helping(rows), key) for key in (Char("x"), Key.ENTER, Key.ESCAPE, Key.UP))
    assert not press(Helping(rows), Paste("text"))
