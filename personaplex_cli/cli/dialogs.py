"""What a user does in more than one key: a text to type, a device to choose. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from personaplex_cli.devices.device import ROLE, Device, Kind
from personaplex_cli.ui.editor import History, Line, press
from personaplex_cli.ui.keys import Char, Key, Paste, Pressed
from personaplex_cli.ui.prompt import Choice, Help, Prompt, TypedLine

DEVICES_TITLE: Final = "Devices"


class Dialog(Protocol):
    @property
    def prompt(self) -> Prompt: ...

    def press(self, key: Pressed) -> bool:
        """True when the dialog is over."""


class Typing:
    """A line to type; `text` is it, once the dialog is over."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._line = Line()
        self.text = ""

    @property
    def prompt(self) -> Prompt:
        return TypedLine(self._line.text, self._line.cursor)

    def press(self, key: Pressed) -> bool:
        match key:
            case Key.ENTER:
                self.text = self._line.text.strip()
            case Key.ESCAPE:
                pass
            case Key.UP:
                self._line = self._history.earlier(self._line)
            case Key.DOWN:
                self._line = self._history.later(self._line)
            case _:
                self._line = press(self._line, key)
        over = key in (Key.ENTER, Key.ESCAPE)
        if over:
            self._history.add(self.text)  # without a text, too: the next way up begins anew
        return over


class Choosing:
    """A device to choose; `chosen` is it, once the dialog is over, if one was."""

    def __init__(self, devices: Sequence[tuple[Kind, Device]]) -> None:
        """At least one."""
        self._devices = devices
        self._selected = 0
        self._typed = ""
        self.chosen: tuple[Kind, Device] | None = None

    @property
    def prompt(self) -> Prompt:
        options = tuple(_option(kind, device) for kind, device in self._devices)
        return Choice(DEVICES_TITLE, options, self._selected)

    def press(self, key: Pressed) -> bool:
        match key:
            case Key.ENTER:
                self.chosen = self._devices[self._selected]
                return True
            case Key.ESCAPE | Char("q"):
                return True
            case Key.UP | Key.DOWN:
                self._typed = ""
                self._select(self._selected + (1 if key is Key.DOWN else -1))
            case Char(text=digit) if digit in "0123456789":
                # Of several digits the last ones count that make a number in the list.
                typed = self._typed + digit
                endings = (typed[at:] for at in range(len(typed)))
                self._typed = next((end for end in endings if 0 < int(end) <= len(self._devices)), "")
                self._select(int(self._typed or 1) - 1)
        return False

    def _select(self, number: int) -> None:
        self._selected = number % len(self._devices)


class Helping:
    """The keys, until one is pressed."""

    def __init__(self, rows: tuple[tuple[str, str], ...]) -> None:
        self._rows = rows

    @property
    def prompt(self) -> Prompt:
        return Help(self._rows)

    def press(self, key: Pressed) -> bool:
        return not isinstance(key, Paste)


def choices(devices: Sequence[Device], kinds: Sequence[Kind]) -> list[tuple[Kind, Device]]:
    """All devices for each of `kinds`, the system's default ones first."""
    found = [(kind, device) for kind in kinds for device in devices if device.channels(kind)]
    return sorted(found, key=lambda one: (kinds.index(one[0]), not one[1].is_default(one[0])))


def _option(kind: Kind, device: Device) -> str:
    return f"{ROLE[kind]}: {device.label}{' (default)' if device.is_default(kind) else ''}"
