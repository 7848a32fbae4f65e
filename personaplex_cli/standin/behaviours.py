"""What the stand-in says: a greeting, then a parrot that takes turns. Pure: one step in, one step out.

Like the model it works in steps of 80 ms and takes one only when it has heard one, silence included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Final

from personaplex_cli.codec.stream import StreamDecoder
from personaplex_cli.pcm import SAMPLE_BYTES, SPEECH_DBFS, STEP_MS, STEP_SAMPLES, level_dbfs, silence

STEP_BYTES: Final = STEP_SAMPLES * SAMPLE_BYTES

TURN_END_STEPS: Final = 7
"""So many quiet steps (560 ms) mean that you have finished: longer than a pause between two sentences."""

SHORTEST_STEPS: Final = 2
"""Less speech than this (160 ms) is a click or a cough, and is not repeated."""

LONGEST_STEPS: Final = 30_000 // STEP_MS
"""The parrot's memory: half a minute."""


@dataclass(frozen=True, slots=True)
class Step:
    pcm: bytes = field(repr=False)
    pieces: tuple[str, ...] = ()
    """Transcript tokens that go with this step."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech to come, and when which token goes with it."""

    pcm: bytes = field(repr=False)
    pieces: tuple[tuple[int, str], ...]
    """Step number and token, in order."""

    def steps(self) -> Iterator[Step]:
        for number, at in enumerate(range(0, len(self.pcm), STEP_BYTES)):
            pcm = self.pcm[at : at + STEP_BYTES].ljust(STEP_BYTES, b"\0")
            yield Step(pcm, tuple(piece for step, piece in self.pieces if step == number))


class Parrot:
    """Greets, then repeats what it heard after you stopped; stops at once when you speak into it."""

    def __init__(self) -> None:
        self._speech = deque(clip("greeting").steps())
        self._heard: list[bytes] = []
        self._before = silence(STEP_SAMPLES)  # so that the first consonant is not lost
        self._loud_steps = 0
        self._quiet_steps = 0

    def step(self, heard: bytes) -> Step:
        """One step of the agent for one step of the user (each 1,920 samples)."""
        loud = level_dbfs(heard) > SPEECH_DBFS
        if loud:
            self._speech.clear()
        self._listen(heard, loud)
        return self._speech.popleft() if self._speech else Step(silence(STEP_SAMPLES))

    def read(self, text: str) -> None:
        """Answers a text that was typed."""
        noted = clip("noted")
        end = (len(noted.pcm) - 1) // STEP_BYTES
        quoted = ((end, piece) for piece in to_pieces(f" You wrote: {text}"))
        self._speech.extend(Utterance(noted.pcm, (*noted.pieces, *quoted)).steps())

    def _listen(self, heard: bytes, loud: bool) -> None:
        if loud and not self._heard:
            self._heard.append(self._before)
        self._before = heard
        if not self._heard:
            return
        self._loud_steps += loud
        self._quiet_steps = 0 if loud else self._quiet_steps + 1
        if len(self._heard) < LONGEST_STEPS:
            self._heard.append(heard)
        if self._quiet_steps == TURN_END_STEPS:
            self._answer()

    def _answer(self) -> None:
        spoken = self._heard[: len(self._heard) - TURN_END_STEPS + 1]
        if self._loud_steps >= SHORTEST_STEPS:
            seconds = len(spoken) * STEP_MS / 1000
            pieces = to_pieces(f" ♪ I repeat {seconds:.1f} seconds of what you said.")
            spread = tuple((i * len(spoken) // len(pieces), piece) for i, piece in enumerate(pieces))
            self._speech.extend(Utterance(b"".join(spoken), spread).steps())
        self._heard = []
        self._loud_steps = self._quiet_steps = 0


class Mute:
    """An agent that never says anything: silence for each step."""

    def step(self, heard: bytes) -> Step:
        return Step(silence(STEP_SAMPLES))

    def read(self, text: str) -> None: ...


Agent = Parrot | Mute


def to_pieces(text: str) -> tuple[str, ...]:
    """`text` as a SentencePiece model would give it: words with their space before, long ones in two, and
    characters outside Latin-1 as byte-fallback pieces."""
    pieces: list[str] = []
    for word in text.replace(" ", "\0 ").split("\0"):
        if not word:
            continue
        if any(ord(character) > 0xFF for character in word):
            pieces += _with_fallback(word)
        elif len(word) > 6:
            pieces += [word[:4], word[4:]]
        else:
            pieces.append(word)
    return tuple(pieces)


def _with_fallback(word: str) -> Iterator[str]:
    for character in word:
        if ord(character) <= 0xFF:
            yield character
        else:
            yield from (f"<0x{byte:02X}>" for byte in character.encode())


@cache
def clip(name: str) -> Utterance:
    """A clip of the package with its transcript (`scripts/make_speech.sh` makes both)."""
    folder = resources.files("personaplex_cli.standin") / "clips"
    pcm = StreamDecoder().feed((folder / f"{name}.opus").read_bytes())
    pieces = []
    for line in (folder / f"{name}.txt").read_text("utf-8").splitlines():
        start_ms, word = line.split("\t")
        pieces += [(int(start_ms) // STEP_MS, piece) for piece in to_pieces(" " + word)]
    return Utterance(pcm, tuple(pieces))
