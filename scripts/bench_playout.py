"""Compares the playout buffer with those of moshi's clients, on simulated networks.

    python scripts/bench_playout.py [SECONDS] [SEED]

The networks and the policies are those of tests/playout_simulation.py. For each network, and for speech
with and without pauses: the delay that the policy adds, underruns and gaps, and what is lost of speech and
of silence, for SECONDS (600) of virtual time. "cut" is speech taken out by whole pitch periods, "taken" and
"put" are silence. The ratios are to the web client in the same run. Exit status 1 if ours has more
underruns, or drops more speech, than the web client.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from playout_simulation import POLICIES, Content, Result, Trace, dialogue, monologue, run, traces  # noqa: E402

from personaplex_cli.pcm import SAMPLE_RATE, STEP_SAMPLES  # noqa: E402
from personaplex_cli.pipeline.playout import Playout  # noqa: E402

PHASE_S = 0.0037  # of the pulls: somewhere between two arrivals
COLUMNS = [("mean ms", 9), ("p95", 7), ("underruns", 11), ("gap", 7)]
COLUMNS += [("dropped", 9), ("cut", 7), ("taken", 7), ("put", 7)]
HEAD = f"{'network':14}{'policy':12}" + "".join(f"{name:>{width}}" for name, width in COLUMNS)


def line(trace: Trace, name: str, result: Result) -> str:
    lost_s = [result.gap_s, result.dropped_speech_s, result.cut_speech_s]
    lost_s += [result.dropped_silence_s + result.removed_silence_s, result.inserted_s]
    values = [f"{result.mean_ms:.1f}", f"{result.p95_ms:.1f}", f"{result.per_min(result.underruns):.2f}"]
    values += [f"{result.per_min(amount_s) * 1000:.0f}" for amount_s in lost_s]
    cells = (f"{value:>{width}}" for value, (_, width) in zip(values, COLUMNS, strict=True))
    return f"{trace.name:14}{name:12}" + "".join(cells)


def compare(trace: Trace, content: Content, duration_s: float) -> bool:
    """Prints the network's lines; whether ours keeps to the bars."""
    results = {name: run(policy(content, duration_s), trace, PHASE_S) for name, policy in POLICIES.items()}
    ours, web = results["ours"], results["web client"]
    for name, result in results.items():
        ratios = f"  delay x{result.mean_ms / web.mean_ms:.2f}"
        if web.underruns:
            ratios += f", underruns x{result.underruns / web.underruns:.2f}"
        print(line(trace, name, result) + ratios)
    return ours.underruns <= web.underruns and ours.dropped_speech_s <= web.dropped_speech_s


def time_pulls() -> None:
    """Prints what a pull of 10 ms costs, when there is audio and when it runs dry."""
    playout = Playout()
    step = dialogue().steps[3]
    playing: list[float] = []
    dry: list[float] = []
    now_s = 0.0
    for i in range(20_000):
        if i % 8 == 0 and i % 80:
            playout.push(step, now_s)
        concealed = playout.concealed_samples
        begin = time.perf_counter()
        playout.pull(240, now_s)
        taken = time.perf_counter() - begin
        (playing if playout.concealed_samples == concealed else dry).append(taken)
        now_s += 240 / SAMPLE_RATE
    pushes = []
    for step in dialogue().steps:
        begin = time.perf_counter()
        playout.push(step, now_s)
        pushes.append(time.perf_counter() - begin)
        playout.pull(STEP_SAMPLES, now_s)
        now_s += STEP_SAMPLES / SAMPLE_RATE
    for what, times in (("pull", playing), ("pull, dry", dry), ("push of a step", pushes)):
        times.sort()
        print(
            f"{what}: median {median(times) * 1e6:.1f} µs, p99 {times[len(times) * 99 // 100] * 1e6:.1f} µs"
        )


def main() -> int:
    duration_s = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    kept = True
    for content in (dialogue(), monologue()):
        silence = sum(content.quiet) / len(content.quiet)
        print(f"\n{content.name}, {silence:.0%} silence; after p95, by the minute: underruns, and ms\n{HEAD}")
        for trace in traces(duration_s, seed):
            kept &= compare(trace, content, duration_s)
    print()
    time_pulls()
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
