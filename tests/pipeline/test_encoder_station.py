from __future__ import annotations

import pytest
from ogg_pages import read_pages

from personaplex_cli.codec.stream import StreamDecoder
from personaplex_cli.pcm import PACKET_BYTES, STEP_PACKETS, Block, duration_ms, silence
from personaplex_cli.pipeline.encoder import Encoder

BLOCK = Block(b"\x00\x10" * (PACKET_BYTES // 2), 100.0)


def send(encoder: Encoder, *late_s: float) -> list[bytes]:
    """What comes of a step of blocks for each of these, all so late."""
    return [encoder.pages(BLOCK, 100.0 + seconds) for seconds in late_s for _ in range(STEP_PACKETS)]


@pytest.mark.parametrize(("age_s", "dropped"), [(0.0, 0), (-0.1, 0), (0.199, 0), (0.201, 4), (60.0, 4)])
def test_a_step_whose_newest_audio_is_older_than_200_ms_is_dropped(age_s: float, dropped: int) -> None:
    encoder = Encoder()
    encoder.headers()
    pages = b"".join(encoder.pages(Block(BLOCK.pcm, 0.02 * number), 0.06 + age_s) for number in range(4))
    assert len(read_pages(pages)) == 4 - dropped
    assert (encoder.packets, encoder.dropped) == (4 - dropped, dropped)


def test_the_pages_of_a_step_come_when_it_is_complete() -> None:
    encoder = Encoder()
    encoder.headers()
    assert [len(read_pages(pages)) for pages in send(encoder, 0, 0, 5, 0)] == [0, 0, 0, 4] * 2 + [0] * 4 + [
        0,
        0,
        0,
        4,
    ]


def test_a_step_is_sent_whole_or_not_at_all() -> None:
    """However its packets are late; the server's steps go on beginning where ours do."""
    encoder = Encoder()
    encoder.headers()
    late_s = [0, 0, 5, 5] + [5, 0, 0, 0] + [0, 0, 0, 0] + [0.3, 0.3, 0.3, 0.1] + [0.25, 1, 1, 1]
    sent = [len(read_pages(encoder.pages(BLOCK, 100.0 + seconds))) for seconds in late_s]
    assert sent[STEP_PACKETS - 1 :: STEP_PACKETS] == [4, 0, 4, 0, 4]


def test_pages_are_one_stream_without_a_gap_whatever_is_dropped() -> None:
    encoder = Encoder()
    data = b"".join([*encoder.headers(), *send(encoder, 0, 0.3, 0.1, 5), encoder.last_pages()])
    pages = read_pages(data)
    assert encoder.dropped == 8 and encoder.packets == 9
    assert [page.number for page in pages] == list(range(11))
    assert [page.flags for page in pages] == [2, *[0] * 9, 4]  # BOS … EOS
    assert [page.granule for page in pages] == [0, 0, *range(960, 10 * 960, 960)]
    assert len({page.serial for page in pages}) == 1 and all(page.sound for page in pages)


def test_the_stream_decodes_without_a_hole_and_the_end_is_a_packet_of_its_own() -> None:
    encoder, decoder = Encoder(), StreamDecoder()
    data = b"".join([*encoder.headers(), *send(encoder, 0, 1, 0, 1, 0), encoder.last_pages()])
    assert duration_ms(decoder.feed(data)) == 13 * 20
    assert (decoder.streams, decoder.holes, decoder.packets_bad, decoder.resyncs) == (1, 0, 0, 0)


def test_the_end_brings_what_waits_for_the_rest_of_its_step() -> None:
    encoder = Encoder()
    encoder.headers()
    assert [encoder.pages(BLOCK, 100.0) for _ in range(3)] == [b""] * 3
    assert [page.eos for page in read_pages(encoder.last_pages())] == [False, False, False, True]


def test_each_stream_has_a_serial_number_of_its_own() -> None:
    assert len({read_pages(Encoder().headers()[0])[0].serial for _ in range(20)}) > 1


def test_a_call_without_audio_has_a_last_page_too() -> None:
    encoder = Encoder()
    encoder.headers()
    assert [page.flags for page in read_pages(encoder.last_pages())] == [4]


def test_a_block_of_another_length_is_a_fault_of_the_program() -> None:
    encoder = Encoder()
    encoder.headers()
    with pytest.raises(ValueError, match="2 bytes"):
        encoder.pages(Block(silence(1), 0.0), 0.0)
