"""Measures what the live view costs: a call with it against the same call with `--json > /dev/null`.

    python scripts/bench_screen.py [--minutes M] [--load]

Both calls, one after the other, last M minutes (5) on the virtual sound card, with the stand-in in a process
of its own: a question is spoken into the microphone again and again, and the stand-in repeats it, so that
both sides speak, text comes, and the meters move. The live view has a window of 120 columns and 30 rows.

--load keeps one more process busy all the time. Needs what virtual_audio.sh needs. Linux only.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr
from bench_latency import load
from rig import PATIENCE_S, SCRIPTS, Client, Environment, card

QUESTION: Final = SCRIPTS.parent / "examples" / "question.opus"
PAUSE_S: Final = 6.0
"""After the question, for the answer."""
SETTLED_S: Final = 3.0
"""Before CPU is counted."""


@dataclass(frozen=True)
class Cost:
    share: float
    """Of a core."""
    underruns: int
    late_ms: int
    """All but one in a thousand of the speaker's callbacks were late by this, or less."""


@contextmanager
def stand_in() -> Iterator[str]:
    """The URL of one that runs."""
    command = [sys.executable, "-m", "personaplex_cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=SCRIPTS.parent)
    try:
        assert process.stdout
        found = None
        while found is None:
            found = re.search(r"ws://127\.0\.0\.1:\d+", process.stdout.readline())
        yield found[0]
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@contextmanager
def speech(environment: Environment, folder: Path) -> Iterator[None]:
    """The question, spoken into the card's microphone again and again."""
    sound, rate = soundfile.read(QUESTION, dtype="float32")
    path = folder / "question.wav"
    pause = np.zeros(round(PAUSE_S * 48_000), np.float32)
    soundfile.write(path, np.concatenate([soxr.resample(sound, rate, 48_000), pause]), 48_000)
    loop = f"while paplay --device=micfeed {path}; do :; done"
    process = subprocess.Popen(["sh", "-c", loop], env=environment, start_new_session=True)
    try:
        yield
    finally:
        subprocess.run(["pkill", "-g", str(process.pid)], check=False)
        process.wait(PATIENCE_S)


def measure(url: str, environment: Environment, minutes: float, *, screen: bool) -> Cost:
    talk = ["talk", "--server", url, "--dialect", "moshi", "--idle-timeout", "0", "--echo-cancel", "off"]
    command = [sys.executable, "-m", "personaplex_cli", "--debug", *talk]
    if not screen:
        command = ["sh", "-c", 'exec "$@" > /dev/null', "sh", *command, "--json"]
    client = Client(command, environment, screen=screen)
    try:
        time.sleep(SETTLED_S)
        begin_s, used_s = time.monotonic(), client.cpu_s()
        time.sleep(minutes * 60)
        share = (client.cpu_s() - used_s) / (time.monotonic() - begin_s)
    finally:
        said = client.close()
    return Cost(share, _counter(said, r"underruns=(\d+)"), _counter(said, r"speaker=.*?late_ms=(\d+)"))


def _counter(said: str, pattern: str) -> int:
    """From the counters that --debug shows at the end, whatever the window has made of their line."""
    found = re.search(pattern, re.sub(r"\s", "", said))
    if found is None:
        sys.exit(f"bench_screen: the call did not end with its counters:\n{said[-2000:]}")
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description="What the live view costs.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--load", action="store_true")
    arguments = parser.parse_args()
    with card() as environment, stand_in() as url, load(arguments.load):
        folder = Path(environment["XDG_CONFIG_HOME"])
        with speech(environment, folder):
            json = measure(url, environment, arguments.minutes, screen=False)
            live = measure(url, environment, arguments.minutes, screen=True)
    print(f"  {'':44}{'live view':>12}{'--json':>12}{'ratio':>8}")
    ratio = f"{live.share / json.share:.2f}"
    print(f"  {'share of a core':44}{live.share:>11.1%} {json.share:>11.1%}{ratio:>8}")
    print(f"  {'speaker callbacks late by at most (99.9 %)':44}{live.late_ms:>9} ms{json.late_ms:>9} ms")
    print(f"  {'underruns':44}{live.underruns:>12}{json.underruns:>12}")


if __name__ == "__main__":
    main()
