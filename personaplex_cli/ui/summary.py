"""The last lines of a call: why it ended, how long it lasted, what it left."""

from __future__ import annotations

from collections.abc import Sequence

from personaplex_cli import pcm
from personaplex_cli.events import CallEnded, Counters, Written
from personaplex_cli.ui.view import elapsed_text


def end_lines(ended: CallEnded, written: Sequence[Written] = ()) -> list[str]:
    """One line that says why the call ended, how long it lasted and what was written where; and a second one
    if anything was dropped, missing or repaired. `ended.error` is not in them: it is shown as an error.
    """
    line = f"Call ended: {end_reason(ended)}.{_wrote(written)}"
    troubles = _troubles(ended.counters)
    return [line, f"Along the way: {'; '.join(troubles)}."] if troubles else [line]


def end_reason(ended: CallEnded) -> str:
    """Why it ended and after how long, as a part of a sentence."""
    why = f"{ended.reason} ({ended.detail})" if ended.detail else str(ended.reason)
    return f"{why}, after {_duration_text(ended)}"


def dropped_lines(written: Sequence[Written] = ()) -> list[str]:
    """The line for a call that was not ended but dropped, by a second Ctrl-C."""
    return [f"Call dropped at once.{_wrote(written)}"]


def _wrote(written: Sequence[Written]) -> str:
    return f" Wrote {', '.join(_written_text(one) for one in written)}." if written else ""


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
    agent_dropped_s = counters.playout_dropped_ms / 1000
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
        (counters.underruns, f"the speaker ran dry {_times(counters.underruns, 'time')}"),
        (counters.playout_dropped_ms, f"{agent_dropped_s:.2f} s of the agent's audio skipped to catch up"),
        (counters.messages_skipped, f"{_times(counters.messages_skipped, 'unknown message')} skipped"),
        (
            counters.device_flags,
            f"the sound device was late or overrun {_times(counters.device_flags, 'time')}",
        ),
    ]
    return [text for count, text in found if count]


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
