from __future__ import annotations

from typing import NamedTuple

import pytest

from personaplex_cli.codec.stream import StreamDecoder
from personaplex_cli.pcm import PACKET_BYTES, Block, duration_ms, silence
from personaplex_cli.pipeline.encoder import MAX_AGE_S, Encoder

BLOCK = Block(b"\x00\x10" * (PACKET_BYTES // 2), 100.0)


class PageHeader(NamedTuple):
    """The fields of an Ogg page (RFC 3533) that a gap would show in."""

    flags: int
    granule: int
    serial: int
    number: int

    @classmethod
    def of(cls, page: bytes) -> PageHeader:
        assert page.startswith(b"OggS\0") and page.count(b"OggS") == 1
        numbers = (page[5:6], page[6:14], page[14:18], page[18:22])
        return cls(*(int.from_bytes(number, "little") for number in numbers))


@pytest.mark.parametrize(
    ("age_s", "dropped"), [(0.0, 0), (-0.1, 0), (0.199, 0), (MAX_AGE_S, 0), (0.201, 1), (60.0, 1)]
)
def test_what_is_older_than_200_ms_is_dropped(age_s: float, dropped: int) -> None:
    encoder = Encoder()
    encoder.headers()
    page = encoder.page(Block(BLOCK.pcm, 0.0), age_s)
    assert (page is None) == bool(dropped)
    assert (encoder.packets, encoder.dropped) == (1 - dropped, dropped)


def test_pages_are_one_stream_without_a_gap_whatever_is_dropped() -> None:
    encoder = Encoder()
    bos, tags = encoder.headers()
    pages = [encoder.page(BLOCK, 100.0 + late_s) for late_s in (0, 0.1, 0.3, 5, 0, 0.25, 0.19)]
    kept = [page for page in pages if page]
    headers = [PageHeader.of(page) for page in (bos, tags, *kept, encoder.last_page())]
    assert len(kept) == 4 and encoder.dropped == 3 and encoder.packets == 5
    assert [header.number for header in headers] == list(range(7))
    assert [header.flags for header in headers] == [2, 0, 0, 0, 0, 0, 4]  # BOS … EOS
    assert [header.granule for header in headers] == [0, 0, 960, 1920, 2880, 3840, 4800]
    assert len({header.serial for header in headers}) == 1


def test_the_stream_decodes_without_a_hole_and_the_end_is_a_packet_of_its_own() -> None:
    encoder, decoder = Encoder(), StreamDecoder()
    pcm = decoder.feed(b"".join(encoder.headers()))
    for late_s in (0, 1, 0, 1, 0):
        pcm += decoder.feed(encoder.page(BLOCK, 100.0 + late_s) or b"")
    pcm += decoder.feed(encoder.last_page())
    assert duration_ms(pcm) == 4 * 20
    assert (decoder.streams, decoder.holes, decoder.packets_bad, decoder.resyncs) == (1, 0, 0, 0)


def test_each_stream_has_a_serial_number_of_its_own() -> None:
    assert len({PageHeader.of(Encoder().headers()[0]).serial for _ in range(20)}) > 1


def test_a_call_without_audio_has_a_last_page_too() -> None:
    encoder = Encoder()
    encoder.headers()
    assert PageHeader.of(encoder.last_page()).flags == 4


def test_a_block_of_another_length_is_a_fault_of_the_program() -> None:
    encoder = Encoder()
    encoder.headers()
    with pytest.raises(ValueError, match="2 bytes"):
        encoder.page(Block(silence(1), 0.0), 0.0)
