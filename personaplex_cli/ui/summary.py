"""The last lines of a call: why it ended, how long it lasted, what it left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from personaplex_cli import pcm
from personaplex_cli.events import CallEnded, Counters, DeviceCounters, Written
from personaplex_cli.ui.words import elapsed_text

LATE_MS: Final = 20
"""Callbacks that are late by less are covered by what the device holds."""


def end_lines(ended: CallEnded, written: Sequence[Written] = ()) -> list[str]:
    """One line that says why the call ended, how long it lasted and what was written where; and a second one
    if anything was dropped, missing or repaired. `ended.error` is not in them: it is shown as an error.
    """
    line = f"Call ended: {end_reason(ended)}.{_wrote(written)}"
    lines = [f"{line}{_lag_text(ended.counters)}"]
    if troubles := _troubles(ended.counters):
        lines.append(f"Along the way: {'; '.join(troubles)}.")
    return lines


def end_reason(ended: CallEnded) -> str:
    """Why it ended and after how long, as a part of a sentence."""
    why = f"{ended.reason} ({ended.detail})" if ended.detail else str(ended.reason)
    return f"{why}, after {_duration_text(ended)}"


def dropped_lines(written: Sequence[Written] = ()) -> list[str]:
    """The line for a call that was not ended but dropped, by a second Ctrl-C."""
    return [f"Call dropped at once.{_wrote(written)}"]


def _wrote(written: Sequence[Written]) -> str:
    return f" Wrote {', '.join(_written_text(one) for one in written)}." if written else ""


def _lag_text(counters: Counters) -> str:
    """Only where there was a speaker: files and pipes have no lag of their own."""
    if not counters.lag_local_ms:
        return ""
    remote = "" if counters.lag_remote_ms is None else f", network and model {counters.lag_remote_ms} ms"
    return f" Lag: ours {counters.lag_local_ms} ms{remote}."


def _duration_text(ended: CallEnded) -> str:
    live, whole = elapsed_text(ended.live_s), elapsed_text(ended.lasted_s)
    if not ended.live_s:
        return whole
    return live if live == whole else f"{live} ({whole} in all)"


def _written_text(written: Written) -> str:
    if written.duration_s is None:
        return written.name
    return f"{written.name} ({elapsed_text(written.duration_s)})"


def _troubles(counters: Counters) -> list[str]:
    """What went wrong on the way, in plain words. Counters that tell of no trouble are not here."""
    silence_s = counters.silence_inserted * pcm.PACKET_MS / 1000
    playout = counters.playout
    silence_ms, speech_ms = playout.silence_removed_ms, playout.speech_cut_ms
    found = [
        (
            counters.packets_dropped,
            f"{_times(counters.packets_dropped, 'block')} of your voice not sent in time",
        ),
        (counters.silence_inserted, f"{silence_s:.2f} s of silence sent while your side had nothing"),
        (counters.holes, f"{_times(counters.holes, 'gap')} in the agent's audio"),
        (
            0 if counters.holes else counters.resyncs,  # a damaged page leaves a gap, too
            f"unusable data skipped {_times(counters.resyncs, 'time')}",
        ),
        (counters.packets_bad, f"{_times(counters.packets_bad, 'audio packet')} could not be decoded"),
        (
            counters.payloads_dropped,
            f"{_times(counters.payloads_dropped, 'audio message')} dropped because playback was too slow",
        ),
        (counters.echo_blocks_dropped, "the echo canceller did not keep up"),
        (playout.underruns, f"the speaker ran dry {_times(playout.underruns, 'time')}"),
        (playout.concealed_ms, f"{_seconds(playout.concealed_ms)} of late audio concealed"),
        (silence_ms, f"{_seconds(silence_ms)} of the agent's silence skipped"),
        (speech_ms, f"{_seconds(speech_ms)} of the agent's speech left out to play faster"),
        (playout.dropped_ms, f"{_seconds(playout.dropped_ms)} of the agent's audio dropped to catch up"),
        (counters.messages_skipped, f"{_times(counters.messages_skipped, 'unknown message')} skipped"),
        *_device_troubles("microphone", counters.microphone),
        *_device_troubles("speaker", counters.speaker),
    ]
    return [text for count, text in found if count]


def _device_troubles(role: str, device: DeviceCounters) -> list[tuple[int, str]]:
    late = f"the {role}'s callbacks were up to {device.late_ms} ms late (99.9 %)"
    return [
        (device.flagged, f"the {role} was late or overrun {_times(device.flagged, 'time')}"),
        (device.restarts, f"the {role} was opened again {_times(device.restarts, 'time')}"),
        (device.late_ms >= LATE_MS, late),
    ]


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.2f} s"


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
