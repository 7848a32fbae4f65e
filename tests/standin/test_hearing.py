"""How strictly the stand-in hears: streams made by sphn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import speech
import sphn
from ogg_pages import RATE, STEP, likeness, make_page, read_pages, spoil, to_samples

from personaplex_cli.standin.behaviours import STEP_BYTES
from personaplex_cli.standin.session import Hearing, Refused

BOS = 2


def stream() -> list[bytes]:
    """The question as sphn writes it, page by page: OpusHead, OpusTags, packets of 40 ms."""
    writer = sphn.OpusStreamWriter(RATE)
    samples = speech.question()
    steps = (samples[at : at + STEP] for at in range(0, len(samples) - STEP + 1, STEP))
    return [page.whole for page in read_pages(b"".join(writer.append_pcm(step) for step in steps))]


@pytest.fixture
def hearing() -> Hearing:
    return Hearing()


def feed(hearing: Hearing, pages: list[bytes]) -> list[bytes]:
    return [step for page in pages for step in hearing.feed(page)]


def refuses(hearing: Hearing, payload: bytes) -> bool:
    try:
        hearing.feed(payload)
    except Refused:
        return True
    return False


@pytest.mark.parametrize("pages_per_message", [1, 2, 3, 1000])
def test_a_step_for_each_80_ms(hearing: Hearing, pages_per_message: int) -> None:
    pages = stream()
    messages = [pages[at : at + pages_per_message] for at in range(0, len(pages), pages_per_message)]
    steps = feed(hearing, [b"".join(message) for message in messages])
    assert len(steps) == len(speech.question()) // STEP
    assert {len(step) for step in steps} == {STEP_BYTES}
    heard = to_samples(b"".join(steps))
    assert likeness(speech.question()[: len(heard) - STEP], heard)[0] > 0.8


def test_a_stream_cut_anywhere_after_its_first_page(hearing: Hearing) -> None:
    head, *rest = stream()
    data = b"".join(rest)
    cuts = np.sort(np.random.default_rng(5).integers(0, len(data), 60)).tolist()
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    steps = feed(hearing, [head, *pieces])
    assert len(steps) == len(speech.question()) // STEP


def test_the_first_message_must_hold_the_first_page(hearing: Hearing) -> None:
    assert refuses(hearing, stream()[0][:-1])


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"garbage",
        b"garbage" + stream()[0],
        stream()[1],
        stream()[2],
        spoil(stream()[0]),
        make_page(stream()[0][28:], number=0),
        make_page(b"OpusTags" + bytes(8), number=0, flags=BOS),
        make_page(b"vorbis", number=0, flags=BOS),
    ],
    ids=[
        "nothing",
        "garbage",
        "garbage before",
        "tags",
        "audio",
        "damaged",
        "no flag",
        "tags with flag",
        "no Opus",
    ],
)
def test_no_valid_first_page(hearing: Hearing, first: bytes) -> None:
    assert refuses(hearing, first)


@pytest.mark.parametrize("n_before", [1, 2, 6])
def test_a_second_stream(hearing: Hearing, n_before: int) -> None:
    pages = stream()
    feed(hearing, pages[:n_before])
    assert refuses(hearing, pages[0])


def test_a_damaged_page(hearing: Hearing) -> None:
    pages = stream()
    feed(hearing, pages[:6])
    # A damaged page is known to be one when the next begins.
    assert refuses(hearing, spoil(pages[6]) + pages[7])


def test_a_missing_page(hearing: Hearing) -> None:
    pages = stream()
    feed(hearing, pages[:6])
    assert refuses(hearing, pages[7])


def test_missing_tags(hearing: Hearing) -> None:
    head, _, audio, *_ = stream()
    feed(hearing, [head])
    packet = read_pages(audio)[0].packets[0][:200]
    assert refuses(hearing, make_page(packet, number=1, granule=1920))


def test_a_packet_that_is_not_opus(hearing: Hearing) -> None:
    pages = stream()
    feed(hearing, pages[:2])
    # Code 3 with a count of none (RFC 6716 section 3.2.5).
    assert refuses(hearing, make_page(b"\xff\x00", number=2, granule=960))
