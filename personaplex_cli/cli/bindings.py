"""The keys of a call and what they do: for the screen, the help and the README. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Binding:
    key: str
    """As it is written for people."""
    word: str
    """For the line of keys below a call."""
    does: str
    needs: str = ""
    """Without this in the call the key does nothing: "microphone", "speaker", "device", or nothing at all."""


BINDINGS: Final = (
    Binding(
        "space",
        "talk",
        "In push-to-talk and half-duplex calls: you are heard while you hold it; a tap begins, another ends.",
        "microphone",
    ),
    Binding("m", "mute", "Mutes the microphone, or opens it again.", "microphone"),
    Binding("t", "type", "Opens a line to type to the model, as Enter does. Up brings earlier lines."),
    Binding("+ -", "volume", "Plays the agent louder or softer.", "speaker"),
    Binding("d", "devices", "Lists the sound devices to choose another one.", "device"),
    Binding("p", "push-to-talk", "Begins or ends push-to-talk.", "microphone"),
    Binding("l", "flush", "Skips what the agent is late by.", "speaker"),
    Binding("b", "bookmark", "Marks this moment."),
    Binding("r", "new call", "Ends this call and begins a new one with the same settings."),
    Binding("?", "help", "Shows the keys."),
    Binding("q", "hang up", "Hangs up, as Ctrl-C does."),
)

LINE_ORDER: Final = ("m", "t", "q", "?", "+ -", "d", "b", "l", "r", "p")
"""Which keys stand in the line of keys, the most wanted first; `space` goes before them where it does
something from the start."""


def line_of_keys(ends: set[str], *, space: bool) -> tuple[tuple[str, str], ...]:
    """Key and word, for the ends that the call has."""
    bindings = {binding.key: binding for binding in BINDINGS}
    order = ("space", *LINE_ORDER) if space else LINE_ORDER
    wanted = (bindings[key] for key in order)
    return tuple((one.key, one.word) for one in wanted if not one.needs or one.needs in ends)


def help_rows(ends: set[str]) -> tuple[tuple[str, str], ...]:
    return tuple((one.key, one.does) for one in BINDINGS if not one.needs or one.needs in ends)
