"""Times the start of `personaplex` against the libraries it cannot do without.

    python scripts/bench_startup.py [ROUNDS]

Runs the commands in turn, ROUNDS times (20), and compares the medians: `personaplex --help` and `personaplex
voices` may take 1.6 times as long as `python -c "import typer, rich"`. Exit status 1 if one takes longer.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

BAR = 1.6
PROGRAM = str(Path(sys.executable).with_name("personaplex"))
BASELINE = [sys.executable, "-c", "import typer, rich"]
COMMANDS = {
    "personaplex --help": [PROGRAM, "--help"],
    "personaplex voices": [PROGRAM, "voices"],
}


def run_ms(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begin) * 1000


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    commands = {'python -c "import typer, rich"': BASELINE, **COMMANDS}
    for command in commands.values():  # once each for the file cache and the .pyc files
        run_ms(command)
    # In turn, so that whatever else the machine does meets all of them.
    taken_ms: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            taken_ms[name].append(run_ms(command))

    medians_ms = {name: median(times) for name, times in taken_ms.items()}
    baseline_ms = next(iter(medians_ms.values()))
    print(f"median of {rounds} runs; bar: {BAR:.2f}")
    for name, value_ms in medians_ms.items():
        print(f"  {name:30} {value_ms:7.1f} ms  {value_ms / baseline_ms:5.2f}")
    return int(any(medians_ms[name] > BAR * baseline_ms for name in COMMANDS))


if __name__ == "__main__":
    sys.exit(main())
