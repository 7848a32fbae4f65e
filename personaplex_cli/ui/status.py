"""The status line: what is worth knowing about a call at a glance. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.text import Text

from personaplex_cli.events import CallState, EchoState
from personaplex_cli.ui.look import Fixed
from personaplex_cli.ui.view import ViewState
from personaplex_cli.ui.words import elapsed_text

_ECHO_WORDS: Final = {
    EchoState.OFF: "",
    EchoState.CANCELLED: "echo cancelled",
    EchoState.RESTING: "no echo",
    EchoState.FAILED: "echo canceller failed",
    EchoState.HALF_DUPLEX: "half-duplex",
    EchoState.HEARD: "echo heard",
}


def status_row(state: ViewState, now_s: float, fixed: Fixed, width: int, dot: str) -> Text:
    """What there is room for, the most important first; the state alone may be wider."""
    parts = list(_parts(state, now_s, fixed))
    shown: list[tuple[int, str, str]] = []
    for part in sorted(parts, key=lambda part: part[0]):
        if not shown or _row([*shown, part], dot).cell_len <= width:
            shown.append(part)
    return _row([part for part in parts if part in shown], dot)


def _row(parts: list[tuple[int, str, str]], dot: str) -> Text:
    row = Text()
    for _, text, style in parts:
        row.append(dot if row else "", "dim").append(text, style)
    return row


def _parts(state: ViewState, now_s: float, fixed: Fixed) -> Iterator[tuple[int, str, str]]:
    """Importance (the least number is the most important), text and style, in the order on the screen."""
    live_text = fixed.live_text if state.state is CallState.LIVE else ""
    yield 0, live_text or str(state.state), ""
    yield 4, elapsed_text(state.elapsed_s(now_s)), "dim"
    if state.limit_ends_at_s is not None:
        yield 3, f"{elapsed_text(max(0.0, state.limit_ends_at_s - now_s))} left", "bold"
    if fixed.rate_per_minute is not None and state.connected_since_s is not None:
        yield 6, f"cost {state.billed_s(now_s) / 60 * fixed.rate_per_minute:.2f}", "dim"
    if text := _microphone_text(state):
        yield 1, text, "bold"
    if state.idle_ends_at_s is not None:
        yield 2, f"silent, ends in {max(0, round(state.idle_ends_at_s - now_s))} s", "bold"
    if state.lag is not None and state.state is CallState.LIVE:
        remote_ms = "?" if state.lag.remote_ms is None else f"{state.lag.remote_ms:.0f}"
        yield 5, f"lag {state.lag.local_ms:.0f} / {remote_ms} ms", "dim"
    if words := _ECHO_WORDS[state.echo]:
        troubles = state.echo in (EchoState.HEARD, EchoState.FAILED)
        yield (3, words, "bold") if troubles else (7, words, "dim")
    if state.volume_percent != 100:
        yield 8, f"volume {state.volume_percent} %", "dim"
    if fixed.voice:
        yield 9, fixed.voice, "dim"


def _microphone_text(state: ViewState) -> str:
    microphone = state.microphone
    if microphone is None:
        return ""
    if microphone.muted:
        return "muted"
    if microphone.talking:
        return "you are heard"
    return "space to talk" if microphone.push_to_talk else ""
