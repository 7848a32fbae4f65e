"""What the stand-in says, step by step."""

from __future__ import annotations

import numpy as np
import pytest
import speech
from ogg_pages import STEP, Samples, likeness, to_pcm, to_samples

from personaplex_cli.pcm import SILENCE_DBFS, level_dbfs
from personaplex_cli.standin.behaviours import (
    LONGEST_STEPS,
    STEP_BYTES,
    TURN_END_STEPS,
    Agent,
    Mute,
    Parrot,
    Step,
    Utterance,
    clip,
    to_pieces,
)
from personaplex_cli.wire.text import TranscriptDecoder

SILENCE = bytes(STEP_BYTES)
GREETING_STEPS = len(list(clip("greeting").steps()))


def loud_steps(count: int, seed: int = 1) -> list[bytes]:
    """Noise, each step another one."""
    random = np.random.default_rng(seed)
    return [to_pcm(random.normal(0, 0.1, STEP).astype(np.float32)) for _ in range(count)]


def steps_of(samples: Samples) -> list[bytes]:
    pcm = to_pcm(samples)
    return [pcm[at : at + STEP_BYTES].ljust(STEP_BYTES, b"\0") for at in range(0, len(pcm), STEP_BYTES)]


def run(agent: Agent, heard: list[bytes]) -> list[Step]:
    said = [agent.step(step) for step in heard]
    assert all(len(step.pcm) == STEP_BYTES for step in said)
    return said


def sound(steps: list[Step]) -> bytes:
    return b"".join(step.pcm for step in steps)


def text(steps: list[Step]) -> str:
    decoder = TranscriptDecoder()
    pieces = [decoder.feed(piece.encode()) for step in steps for piece in step.pieces]
    return "".join(pieces) + decoder.flush()


def is_silent(steps: list[Step]) -> bool:
    return level_dbfs(sound(steps)) == SILENCE_DBFS and not text(steps)


@pytest.fixture
def greeted() -> Parrot:
    """A parrot that has said its greeting."""
    parrot = Parrot()
    run(parrot, [SILENCE] * GREETING_STEPS)
    return parrot


def test_greets_and_then_is_silent() -> None:
    parrot = Parrot()
    greeting = run(parrot, [SILENCE] * GREETING_STEPS)
    assert likeness(speech.clip("greeting"), to_samples(sound(greeting)))[0] > 0.99
    assert text(greeting) == " Hello! I am the stand-in. I repeat what you say."
    assert is_silent(run(parrot, [SILENCE] * 50))


def test_each_word_comes_with_the_step_in_which_it_is_said() -> None:
    steps = run(Parrot(), [SILENCE] * GREETING_STEPS)
    for start_ms, word in speech.words("greeting"):
        step = steps[start_ms // 80]
        assert any((" " + word).startswith(piece) for piece in step.pieces), word


def test_repeats_what_it_heard_with_its_onset(greeted: Parrot) -> None:
    before = to_pcm(np.full(STEP, 0.001, np.float32))  # quiet: the beginning of the first sound
    spoken = loud_steps(5)
    meanwhile = run(greeted, [before, *spoken, *[SILENCE] * (TURN_END_STEPS - 1)])
    assert is_silent(meanwhile)
    answer = run(greeted, [SILENCE] * 8)
    assert sound(answer[:7]) == before + b"".join(spoken) + SILENCE
    assert is_silent(answer[7:])
    assert text(answer) == " ♪ I repeat 0.6 seconds of what you said."


def test_a_pause_inside_a_sentence_does_not_end_the_turn(greeted: Parrot) -> None:
    heard = [*loud_steps(3), *[SILENCE] * (TURN_END_STEPS - 1), *loud_steps(3, seed=2)]
    assert is_silent(run(greeted, [*heard, *[SILENCE] * (TURN_END_STEPS - 1)]))
    answer = run(greeted, [SILENCE] * (len(heard) + 5))
    assert b"".join(heard) in sound(answer)


def test_repeats_speech(greeted: Parrot) -> None:
    heard = steps_of(speech.question())
    answer = run(greeted, [*heard, *[SILENCE] * (len(heard) + 10)])
    assert likeness(speech.question(), to_samples(sound(answer)))[0] > 0.99


def test_stops_at_once_when_it_is_spoken_into() -> None:
    parrot = Parrot()
    assert not is_silent(run(parrot, [SILENCE] * 5))
    assert is_silent(run(parrot, [*loud_steps(2), *[SILENCE] * (TURN_END_STEPS - 1)]))


def test_listens_while_it_speaks(greeted: Parrot) -> None:
    run(greeted, [*loud_steps(20), *[SILENCE] * (TURN_END_STEPS + 3)])
    interruption = loud_steps(4, seed=3)
    assert is_silent(run(greeted, [*interruption, *[SILENCE] * (TURN_END_STEPS - 1)]))
    assert b"".join(interruption) in sound(run(greeted, [SILENCE] * 10))


def test_a_click_is_not_repeated(greeted: Parrot) -> None:
    assert is_silent(run(greeted, [*loud_steps(1), *[SILENCE] * 20]))


def test_clicks_in_two_turns_do_not_add_up(greeted: Parrot) -> None:
    click = [*loud_steps(1), *[SILENCE] * TURN_END_STEPS]
    assert is_silent(run(greeted, [*click, *click, *[SILENCE] * 20]))


def test_its_memory_is_bounded(greeted: Parrot) -> None:
    spoken = loud_steps(LONGEST_STEPS + 100)
    run(greeted, [*spoken, *[SILENCE] * (TURN_END_STEPS - 1)])
    answer = run(greeted, [SILENCE] * (LONGEST_STEPS + 100))
    n_repeated = sum(level_dbfs(step.pcm) > -60 for step in answer)
    assert LONGEST_STEPS - 10 <= n_repeated <= LONGEST_STEPS
    assert b"".join(spoken[:100]) in sound(answer)


def test_answers_a_text(greeted: Parrot) -> None:
    greeted.read("good morning")
    answer = run(greeted, [SILENCE] * 30)
    assert likeness(speech.clip("noted"), to_samples(sound(answer)))[0] > 0.99
    assert text(answer) == " I have read that. You wrote: good morning"


def test_a_text_of_any_length_is_answered(greeted: Parrot) -> None:
    greeted.read("word " * 5000)
    assert text(run(greeted, [SILENCE] * 30)).endswith(" word ")


def test_the_mute_agent_says_nothing() -> None:
    mute = Mute()
    mute.read("good morning")
    assert is_silent(run(mute, [*loud_steps(3), *[SILENCE] * 30]))


@pytest.mark.parametrize(
    ("words", "pieces"),
    [
        ("", ()),
        (" ", (" ",)),
        (" Hello!", (" Hel", "lo!")),
        (" I am", (" I", " am")),
        ("one two", ("one", " two")),
        (" café", (" café",)),
        (" ♪a", (" ", "<0xE2>", "<0x99>", "<0xAA>", "a")),
        ("😀", ("<0xF0>", "<0x9F>", "<0x98>", "<0x80>")),
    ],
)
def test_pieces_are_those_of_a_sentencepiece_model(words: str, pieces: tuple[str, ...]) -> None:
    assert to_pieces(words) == pieces


@pytest.mark.parametrize("words", ["Müller 漢字 sagt: „ja“", "a\ttab", "  two  spaces  ", "e\u0301 👍🏽"])
def test_pieces_joined_are_the_text(words: str) -> None:
    step = Step(SILENCE, to_pieces(words))
    assert text([step]) == words.replace("\t", " ")


def test_the_last_step_of_an_utterance_is_filled_up_with_silence() -> None:
    steps = list(Utterance(b"\1" * (STEP_BYTES + 2), ((0, "a"), (1, "b"), (1, "c"))).steps())
    assert [step.pcm for step in steps] == [b"\1" * STEP_BYTES, b"\1\1" + bytes(STEP_BYTES - 2)]
    assert [step.pieces for step in steps] == [("a",), ("b", "c")]


@pytest.mark.parametrize("name", ["greeting", "noted"])
def test_every_word_of_a_clip_is_said_within_it(name: str) -> None:
    utterance = clip(name)
    said = [piece for step in utterance.steps() for piece in step.pieces]
    assert len(said) == len(utterance.pieces)
    assert len(utterance.pcm) / 2 == pytest.approx(len(speech.clip(name)), abs=STEP)
