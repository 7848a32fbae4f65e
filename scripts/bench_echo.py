"""What is left of an echo, and of speech during it, in rooms made of numbers: our engine and another.

    python scripts/bench_echo.py [--short]

A far voice speaks alone for 18 s, then a near one for 10 s, both for 17 s, and the far one again for 15 s
(--short: 8, 1, 4, 3 s). Of each room: how much quieter the echo got in the first 3 s, after that (in `moves`,
that includes what the move cost), and again after both had spoken; then of double talk, against the engine's
output without an echo, SI-SDR, gain, and the share of the near voice's pieces of 20 ms that are cut by more
than 15 dB; last the time for 10 ms, and that divided by the time for encoding 10 ms of Opus in the same run.
`none` is the microphone as it is. pywebrtc-audio is measured too where it is installed.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from echo_room import (
    FAR_DBFS,
    LONG,
    ROOMS,
    SHORT,
    Process,
    Schedule,
    cleaned,
    near_end,
    pcm,
    reduction_db,
    scene,
    voice,
)

from personaplex_cli.aec import open_canceller
from personaplex_cli.codec.stream import StreamEncoder
from personaplex_cli.pcm import PACKET_BYTES


def livekit() -> Process:
    return open_canceller().process


def pywebrtc_audio() -> Process:
    from pywebrtc_audio import AudioProcessor

    processor = AudioProcessor(24000, 1, echo_cancellation=True)

    def process(capture: bytes, reference: bytes) -> bytes:
        clean = processor.process(np.frombuffer(capture, "<i2"), np.frombuffer(reference, "<i2"))
        return bytes(clean.tobytes())

    return process


def none() -> Process:
    return lambda capture, reference: capture


def opus_ms() -> float:
    """For 10 ms, the best of five rounds over the far voice."""
    speech = pcm(voice("far", FAR_DBFS))
    blocks = [speech[at : at + PACKET_BYTES] for at in range(0, len(speech) - PACKET_BYTES + 1, PACKET_BYTES)]
    best = float("inf")
    for _ in range(5):
        encoder = StreamEncoder(1)
        encoder.headers()
        begin = time.perf_counter()
        for block in blocks:
            encoder.page(block)
        best = min(best, time.perf_counter() - begin)
    return best * 1000 / (2 * len(blocks))


def measure(new: Callable[[], Process], schedule: Schedule, unit_ms: float) -> None:
    for room in ROOMS:
        heard = scene(room, schedule)
        alone = cleaned(new(), heard.near, np.zeros_like(heard.reference))
        process = new()
        begin = time.perf_counter()
        clean = cleaned(process, heard.capture, heard.reference)
        each_ms = (time.perf_counter() - begin) * 10 / schedule.end
        parts = ((0, 3), (3, schedule.far_s), (schedule.quiet_again_at, schedule.end))
        reductions = "".join(f"{reduction_db(heard.capture, clean, *part):7.1f}" for part in parts)
        near = near_end(alone, clean, schedule.both_at, schedule.again_at)
        print(
            f"  {room.name:26}{reductions}{near.si_sdr_db:9.1f}{near.gain_db:7.1f}{near.cut_share:7.1%}"
            f"{each_ms:8.3f}{each_ms / unit_ms:6.2f}"
        )


def main() -> None:
    schedule = SHORT if "--short" in sys.argv else LONG
    unit_ms = opus_ms()
    print(f"Opus: {unit_ms:.3f} ms for 10 ms")
    engines = [none, livekit]
    if importlib.util.find_spec("pywebrtc_audio"):
        engines.append(pywebrtc_audio)
    for new in engines:
        title = f"{new.__name__:28}  0-3 s   3 s-  again   SI-SDR   gain    cut      ms  Opus"
        print(title)
        measure(new, schedule, unit_ms)


if __name__ == "__main__":
    main()
