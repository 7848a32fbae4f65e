"""The shapes in which the stand-in's voice goes out, read by hand and by sphn."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import speech
import sphn
from ogg_pages import RATE, STEP, Page, Samples, likeness, packet_ms, read_pages, to_pcm

from personaplex_cli.standin.faults import Faults
from personaplex_cli.standin.voice import VoiceStream

N_STEPS = len(speech.question()) // STEP


def speak(voice: VoiceStream, *, damaged_at: int | None = None) -> list[bytes]:
    """The payloads of the question, headers first."""
    pcm = to_pcm(speech.question())
    payloads = voice.headers()
    for n in range(N_STEPS):
        payloads += voice.step(pcm[n * STEP * 2 : (n + 1) * STEP * 2], damaged=n == damaged_at)
    return payloads


def understood(payloads: list[bytes]) -> Samples:
    reader = sphn.OpusStreamReader(RATE)
    return np.concatenate([reader.append_bytes(payload) for payload in payloads])


def is_page(payload: bytes) -> bool:
    try:
        return len(read_pages(payload)) == 1
    except AssertionError:
        return False


def check_pages(pages: list[Page]) -> None:
    """One logical stream, as far as the shapes have it in common."""
    head, tags, *audio = pages
    assert head.bos and not any(page.bos for page in (tags, *audio))
    assert not any(page.eos for page in pages)
    assert {page.serial for page in pages} == {42}
    assert [page.number for page in pages] == list(range(len(pages)))
    assert all(len(page.packets) == 1 for page in pages)
    fields = struct.unpack("<8sBBHIhB", head.packets[0])
    assert fields == (b"OpusHead", 1, 1, 3840, RATE, 0, 0)
    assert tags.packets[0].startswith(b"OpusTags")
    assert head.granule == tags.granule == 0


@pytest.mark.parametrize("duration_ms", [20, 40, 80])
@pytest.mark.parametrize("granules_24k", [False, True])
def test_packets_and_granules(duration_ms: int, granules_24k: bool) -> None:
    payloads = speak(VoiceStream(Faults(packet_ms=duration_ms, granules_24k=granules_24k)))
    assert len(payloads) == 1 + N_STEPS
    pages = read_pages(b"".join(payloads))
    check_pages(pages)
    audio = pages[2:]
    assert len(audio) == N_STEPS * 80 // duration_ms
    assert {packet_ms(page.packets[0]) for page in audio} == {duration_ms}
    granules_per_packet = duration_ms * (24 if granules_24k else 48)
    assert [page.granule for page in audio] == [granules_per_packet * (n + 1) for n in range(len(audio))]
    assert all(page.sound for page in pages)
    assert likeness(speech.question()[: (N_STEPS - 1) * STEP], understood(payloads))[0] > 0.8


def test_one_message_for_each_step_holds_its_pages() -> None:
    payloads = speak(VoiceStream(Faults()))
    assert [len(read_pages(payload)) for payload in payloads] == [2, *[4] * N_STEPS]


def test_single_pages() -> None:
    payloads = speak(VoiceStream(Faults(single_pages=True)))
    assert len(payloads) == 2 + 4 * N_STEPS
    assert all(is_page(payload) for payload in payloads)
    check_pages(read_pages(b"".join(payloads)))


def test_split_pages() -> None:
    payloads = speak(VoiceStream(Faults(split_pages=True)))
    assert len(payloads) == 1 + N_STEPS
    assert not any(payload.startswith(b"OggS") for payload in payloads[1:])
    whole = b"".join(payloads)
    cut_off = whole.rindex(b"OggS")
    check_pages(read_pages(whole[:cut_off]))
    assert likeness(speech.question()[: (N_STEPS - 2) * STEP], understood(payloads))[0] > 0.8


def test_split_pages_of_80_ms() -> None:
    payloads = speak(VoiceStream(Faults(split_pages=True, packet_ms=80)))
    assert all(payloads)
    whole = b"".join(payloads)
    check_pages(read_pages(whole[: whole.rindex(b"OggS")]))


def test_a_new_stream_begins_anew() -> None:
    voice = VoiceStream(Faults())
    first = read_pages(b"".join(speak(voice)))
    second = read_pages(b"".join(voice.new_stream() + voice.step(bytes(STEP * 2), damaged=False)))
    check_pages(first)
    check_pages(second)
    assert second[2].granule == 960


def test_a_damaged_page_is_the_only_one() -> None:
    pages = read_pages(b"".join(speak(VoiceStream(Faults()), damaged_at=3)))
    check_pages(pages)
    assert [number for number, page in enumerate(pages) if not page.sound] == [2 + 3 * 4]


def test_nothing_random_is_in_it() -> None:
    assert speak(VoiceStream(Faults())) == speak(VoiceStream(Faults()))
