"""Times our Ogg/Opus codec against sphn's, the one that moshi's own servers and client use.

    python scripts/bench_codec.py [ROUNDS]

The signal is speech of the stand-in, in packets of 20 ms, each with its page. A round encodes and decodes all
of it with either codec, in turn; the best of ROUNDS rounds (15) counts, since whatever else the machine does
only adds time. Both decode the same pages, ours. Exit status 1 if ours takes more than 1.3 times as long for
encoding and decoding together.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import sphn

import personaplex_cli.standin
from personaplex_cli.codec.stream import StreamDecoder, StreamEncoder
from personaplex_cli.pcm import PACKET_BYTES, SAMPLE_RATE

BAR = 1.3
Value = TypeVar("Value")
SIGNAL = Path(personaplex_cli.standin.__file__).parent / "clips" / "greeting.opus"


def seconds(step: Callable[[Value], object], inputs: Sequence[Value]) -> float:
    begin = time.perf_counter()
    for value in inputs:
        step(value)
    return time.perf_counter() - begin


def speech() -> list[bytes]:
    """The signal, cut into packets' worth of PCM."""
    pcm = StreamDecoder().feed(SIGNAL.read_bytes())
    return [pcm[at : at + PACKET_BYTES] for at in range(0, len(pcm) - PACKET_BYTES + 1, PACKET_BYTES)]


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    blocks = speech()
    floats = [np.frombuffer(block, "<i2").astype(np.float32) / 32768 for block in blocks]
    encoder = StreamEncoder(1)
    headers = encoder.headers()
    pages = [encoder.page(block) for block in blocks]

    best = {"encode": [float("inf")] * 2, "decode": [float("inf")] * 2}
    for _ in range(rounds):
        encoder, decoder = StreamEncoder(1), StreamDecoder()
        encoder.headers()
        sphn_encoder = sphn.OpusStreamWriter(SAMPLE_RATE)
        sphn_decoder = sphn.OpusStreamReader(SAMPLE_RATE)
        for header in headers:
            decoder.feed(header)
            sphn_decoder.append_bytes(header)
        taken = {
            "encode": [seconds(encoder.page, blocks), seconds(sphn_encoder.append_pcm, floats)],
            "decode": [seconds(decoder.feed, pages), seconds(sphn_decoder.append_bytes, pages)],
        }
        for what, times in taken.items():
            best[what] = [min(pair) for pair in zip(best[what], times, strict=True)]

    best["together"] = [sum(times) for times in zip(*best.values(), strict=True)]
    print(f"µs for each of {len(blocks)} packets of 20 ms, best of {rounds} rounds; bar: {BAR:.2f} together")
    print(f"  {'':10}{'ours':>8}{'sphn':>8}{'ratio':>8}")
    for what, (ours, other) in best.items():
        us = 1e6 / len(blocks)
        print(f"  {what:10}{ours * us:8.1f}{other * us:8.1f}{ours / other:8.2f}")
    ours, other = best["together"]
    return int(ours > BAR * other)


if __name__ == "__main__":
    sys.exit(main())
