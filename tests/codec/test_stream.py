"""Ogg/Opus as a stream, against encoders and decoders that are not ours: opus-tools and sphn."""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sphn
from hypothesis import given, settings
from hypothesis import strategies as st
from ogg_pages import Samples, likeness, make_page, read_pages, rms_dbfs, spoil, to_pcm, to_samples

from personaplex_cli.codec.ogg import PageWriter
from personaplex_cli.codec.opus import OpusEncoder
from personaplex_cli.codec.stream import StreamDecoder, StreamEncoder, opus_head, opus_tags
from personaplex_cli.pcm import PACKET_BYTES, SAMPLE_RATE

EXPLORE = settings(derandomize=True, deadline=None, max_examples=30)
FIXTURES = Path(__file__).parent.parent / "fixtures" / "ogg"
SERIAL = 42
BYTES_PER_MS = 48
HEAD = b"OpusHead\x01\x01\x78\x00\xc0\x5d\x00\x00\x00\x00\x00"
"""Version 1, one channel, pre-skip 120, 24,000 Hz, gain 0, mapping 0."""
LOOKAHEAD_S = 0.0025
VOICE_LOOKAHEAD_S = 0.0065
"""Of libopus' other modes, which others use."""


def sweep(from_hz: float, to_hz: float, duration_s: float = 0.6) -> Samples:
    """What scripts/make_fixtures.sh makes with sox."""
    t = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * (from_hz * t + (to_hz - from_hz) * t * t / (2 * duration_s))
    return (0.5 * np.sin(phase)).astype(np.float32)


UP, DOWN = sweep(300, 3000), sweep(3000, 300)
PCM = to_pcm(UP)
N_PACKETS = len(PCM) // PACKET_BYTES


@cache
def our_stream(serial: int = SERIAL) -> list[bytes]:
    """Our stream of `UP`: two header pages and one page for each packet, the last with EOS."""
    encoder = StreamEncoder(serial)
    head, tags = encoder.headers()
    blocks = [PCM[at : at + PACKET_BYTES] for at in range(0, len(PCM), PACKET_BYTES)]
    return [head, tags, *[encoder.page(block, eos=at == N_PACKETS - 1) for at, block in enumerate(blocks)]]


def decode(*chunks: bytes, decoder: StreamDecoder | None = None) -> bytes:
    decoder = decoder or StreamDecoder()
    return b"".join(map(decoder.feed, chunks))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def assert_alike(speech: Samples, recording: Samples, *, after_s: float = LOOKAHEAD_S) -> None:
    alike, at_s = likeness(speech, recording)
    assert alike > 0.95
    assert at_s == pytest.approx(after_s, abs=0.001)


# --- what we write


def test_the_first_page_is_opus_head_alone() -> None:
    first = our_stream()[0]
    assert len(first) == 47
    (page,) = read_pages(first)
    assert page.bos and page.sound and page.granule == 0 and page.packets == [HEAD]
    assert opus_head(120) == HEAD


def test_the_second_page_is_opus_tags_alone() -> None:
    (page,) = read_pages(our_stream()[1])
    (tags,) = page.packets
    vendor = tags[12:-4]
    assert not page.bos and page.sound and page.granule == 0
    assert tags == b"OpusTags" + struct.pack("<I", len(vendor)) + vendor + bytes(4)
    assert vendor.startswith(b"libopus ")
    assert opus_tags(b"me") == b"OpusTags\x02\x00\x00\x00me\x00\x00\x00\x00"


def test_then_each_packet_has_its_page() -> None:
    pages = [page for data in our_stream() for page in read_pages(data)]
    assert len(pages) == N_PACKETS + 2
    assert [page.number for page in pages] == list(range(N_PACKETS + 2))
    assert [page.granule for page in pages] == [0, 0, *range(960, 960 * N_PACKETS + 1, 960)]
    assert {page.serial for page in pages} == {SERIAL}
    assert {len(page.packets) for page in pages} == {1}
    assert all(page.sound for page in pages)
    assert [page.bos for page in pages] == [True] + [False] * (N_PACKETS + 1)
    assert [page.eos for page in pages] == [False] * (N_PACKETS + 1) + [True]


@pytest.mark.parametrize("n_bytes", [0, 1, 480, PACKET_BYTES - 1, PACKET_BYTES + 1, 2 * PACKET_BYTES])
def test_a_block_that_does_not_last_20_ms_is_refused(n_bytes: int) -> None:
    encoder = StreamEncoder(SERIAL)
    encoder.headers()
    with pytest.raises(ValueError, match=str(n_bytes)):
        encoder.page(bytes(n_bytes))
    (page,) = read_pages(encoder.page(bytes(PACKET_BYTES)))
    assert (page.number, page.granule) == (2, 960)


def opus_tool(name: str, *arguments: str | Path) -> str:
    """Runs a program of opus-tools; what it printed."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed (opus-tools)")
    done = subprocess.run([name, *arguments], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_opusinfo_finds_nothing_wrong(tmp_path: Path) -> None:
    path = tmp_path / "ours.opus"
    path.write_bytes(b"".join(our_stream()))
    told = opus_tool("opusinfo", path)
    assert "WARNING" not in told and "ERROR" not in told
    for line in (
        "Pre-skip: 120",
        "Channels: 1",
        "Original sample rate: 24000 Hz",
        "Packet duration:   20.0ms (max),   20.0ms (avg),   20.0ms (min)",
        "Page duration:     20.0ms (max),   20.0ms (avg),   20.0ms (min)",
        "Logical stream 1 ended",
    ):
        assert line in told


def test_of_a_call_cut_off_it_misses_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "ours.opus"
    path.write_bytes(b"".join(our_stream()[:-5]))
    told = opus_tool("opusinfo", path)
    warnings = re.findall("(?:WARNING|ERROR).*", told)
    assert warnings and all("EOS" in warning for warning in warnings)


def test_opusdec_hears_what_was_said(tmp_path: Path) -> None:
    path, wav = tmp_path / "ours.opus", tmp_path / "ours.wav"
    path.write_bytes(b"".join(our_stream()))
    opus_tool("opusdec", "--quiet", "--rate", str(SAMPLE_RATE), path, wav)
    heard, rate = soundfile.read(wav, dtype="float32")
    assert rate == SAMPLE_RATE
    assert len(heard) == len(UP) - 60  # it cuts the pre-skip off
    assert_alike(UP[240:-400], heard, after_s=240 / SAMPLE_RATE)


def test_sphn_hears_what_was_said() -> None:
    reader = sphn.OpusStreamReader(SAMPLE_RATE)
    heard = [reader.append_bytes(page) for page in our_stream()]
    assert [len(samples) for samples in heard] == [0, 0] + [480] * N_PACKETS
    assert_alike(UP[:-200], np.concatenate(heard))


def test_we_hear_what_we_said() -> None:
    decoder = StreamDecoder()
    heard = [decoder.feed(page) for page in our_stream()]
    assert [len(pcm) for pcm in heard] == [0, 0] + [PACKET_BYTES] * N_PACKETS
    assert_alike(UP[:-200], to_samples(b"".join(heard)))


# --- what others write

GOLDEN: dict[str, Samples] = {
    "mono-20ms.opus": UP,
    "mono-40ms.opus": UP,
    "mono-60ms.opus": UP,
    "stereo-20ms.opus": ((UP + DOWN) / 2).astype(np.float32),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_streams_of_opusenc(name: str) -> None:
    decoder = StreamDecoder()
    heard = decode((FIXTURES / name).read_bytes(), decoder=decoder)
    assert_alike(GOLDEN[name], to_samples(heard), after_s=VOICE_LOOKAHEAD_S)
    assert len(heard) == 620 * BYTES_PER_MS  # the pre-skip stays, and the last packet is whole
    assert (decoder.streams, decoder.holes, decoder.packets_bad, decoder.resyncs) == (1, 0, 0, 0)


@pytest.mark.parametrize("name", GOLDEN)
def test_their_cuts_do_not_matter(name: str) -> None:
    data = (FIXTURES / name).read_bytes()
    whole = decode(data)
    assert decode(*(data[at : at + 1] for at in range(len(data)))) == whole

    @settings(EXPLORE, max_examples=10)  # of a whole file each, beside every byte by itself
    @given(st.lists(st.integers(0, 10_000), max_size=8))
    def check(places: list[int]) -> None:
        assert decode(*cut(data, places)) == whole

    check()


@pytest.mark.parametrize("n_samples", [240, 480, 960, 1440, 1920, 2400])
def test_streams_of_sphn(n_samples: int) -> None:
    """What moshi's servers send: pre-skip 3840, input rate 48,000, packets of up to 80 ms, no end."""
    writer = sphn.OpusStreamWriter(SAMPLE_RATE)
    payloads = [writer.append_pcm(UP[at : at + n_samples]) for at in range(0, len(UP), n_samples)]
    (head,) = read_pages(payloads[0])[0].packets
    assert head[10:16] == struct.pack("<HI", 3840, 48_000)
    decoder = StreamDecoder()
    heard = decode(*payloads, decoder=decoder)
    assert_alike(UP[:-1920], to_samples(heard), after_s=VOICE_LOOKAHEAD_S)
    assert (decoder.streams, decoder.holes, decoder.packets_bad, decoder.resyncs) == (1, 0, 0, 0)
    assert decode(b"".join(payloads)) == heard


def stream_of(duration_ms: float, n_packets: int = 12) -> list[bytes]:
    """A stream with packets that last so long."""
    encoder, writer = OpusEncoder(), PageWriter(SERIAL)
    n_bytes = round(duration_ms * BYTES_PER_MS)
    pcm = (PCM * 4)[: n_packets * n_bytes]
    packets = [encoder.encode(pcm[at : at + n_bytes]) for at in range(0, len(pcm), n_bytes)]
    return [writer.page(packet, 0) for packet in (opus_head(312), opus_tags(b"x"), *packets)]


@pytest.mark.parametrize("duration_ms", [2.5, 5, 10, 20, 40, 60, 80, 100, 120])
def test_packets_of_any_duration_whole_and_with_holes(duration_ms: float) -> None:
    pages = stream_of(duration_ms)
    n_bytes = round(12 * duration_ms * BYTES_PER_MS)
    assert len(decode(*pages)) == n_bytes
    decoder = StreamDecoder()
    heard = decode(*pages[:5], *pages[7:9], spoil(pages[9]), *pages[10:], decoder=decoder)
    assert len(heard) == n_bytes
    assert (decoder.holes, decoder.resyncs) == (2, 1)


def test_the_packets_may_change_their_duration() -> None:
    encoder, writer = OpusEncoder(), PageWriter(SERIAL)
    sizes = [960, 5760, 120, 1920]
    packets = [encoder.encode(PCM[:n_bytes]) for n_bytes in sizes]
    pages = [writer.page(packet, 0) for packet in (opus_head(312), opus_tags(b""), *packets)]
    decoder = StreamDecoder()
    assert [len(decoder.feed(page)) for page in pages] == [0, 0, *sizes]


def test_granule_positions_are_not_looked_at() -> None:
    """Some servers count at 24 kHz."""
    source = random.Random(5)
    packets = [read_pages(page)[0].packets[0] for page in our_stream()]
    pages = [
        make_page(packet, number=number, granule=source.randrange(-(2**63), 2**63), flags=2 * (number == 0))
        for number, packet in enumerate(packets)
    ]
    assert decode(*pages) == decode(*our_stream())


# --- damage

WHOLE = decode(*our_stream())


@pytest.mark.parametrize("n_lost", [1, 2, 10])
def test_missing_pages_are_concealed_and_the_duration_stays(n_lost: int) -> None:
    pages, decoder = our_stream(), StreamDecoder()
    heard = decode(*pages[:12], *pages[12 + n_lost :], decoder=decoder)
    assert decoder.holes == 1
    assert len(heard) == len(WHOLE)
    begin = 10 * PACKET_BYTES
    assert heard[:begin] == WHOLE[:begin]
    concealed = to_samples(heard[begin : begin + PACKET_BYTES])
    assert rms_dbfs(concealed) > rms_dbfs(UP) - 12


def test_a_long_hole_is_not_filled() -> None:
    pages, decoder = our_stream(), StreamDecoder()
    heard = decode(*pages[:4], *pages[20:], decoder=decoder)
    assert len(heard) == len(WHOLE) - 6 * PACKET_BYTES
    assert decoder.holes == 1


def test_a_page_number_from_nowhere_makes_no_more_than_that() -> None:
    pages, decoder = our_stream(), StreamDecoder()
    packet = read_pages(pages[4])[0].packets[0]
    heard = decode(*pages[:4], make_page(packet, number=2**32 - 1), decoder=decoder)
    assert len(heard) == 13 * PACKET_BYTES


def test_several_packets_on_a_missing_page_are_all_concealed() -> None:
    data = (FIXTURES / "mono-20ms.opus").read_bytes()  # five to a page
    pages = [page.whole for page in read_pages(data)]
    decoder = StreamDecoder()
    assert len(decode(*pages[:4], *pages[5:], decoder=decoder)) == len(decode(data))
    assert decoder.holes == 1


@pytest.mark.parametrize("place", [0, 4, 5, 6, 14, 18, 22, 28, -1])
def test_a_flipped_byte_is_a_hole(place: int) -> None:
    pages = list(our_stream())
    damaged = bytearray(pages[12])
    damaged[place] ^= 0x55
    decoder = StreamDecoder()
    heard = decode(*pages[:12], bytes(damaged), *pages[13:], decoder=decoder)
    assert len(heard) == len(WHOLE)
    assert (decoder.holes, decoder.resyncs, decoder.packets_bad) == (1, 1, 0)


def test_garbage_between_pages_is_not_heard() -> None:
    source, decoder = random.Random(6), StreamDecoder()
    mixed = [data for page in our_stream() for data in (source.randbytes(100), page)]
    assert decode(*mixed, decoder=decoder) == WHOLE
    assert (decoder.holes, decoder.resyncs) == (0, N_PACKETS + 2)


def test_garbage_only_is_silence() -> None:
    source, decoder = random.Random(7), StreamDecoder()
    assert decode(*(source.randbytes(5000) for _ in range(20)), decoder=decoder) == b""
    assert (decoder.streams, decoder.holes, decoder.resyncs) == (0, 0, 1)


@pytest.mark.parametrize("packet", [b"", b"\xff", b"\xff\x00"])
def test_a_bad_packet_is_concealed(packet: bytes) -> None:
    pages, decoder = our_stream(), StreamDecoder()
    bad = make_page(packet, number=12)
    heard = decode(*pages[:12], bad, *pages[13:], decoder=decoder)
    assert len(heard) == len(WHOLE)
    assert (decoder.packets_bad, decoder.holes) == (1, 0)


@pytest.mark.parametrize("serial", [SERIAL, 7])
def test_a_second_stream_gets_a_decoder_of_its_own(serial: int) -> None:
    decoder = StreamDecoder()
    assert (
        decode(*our_stream()[:9], *our_stream(serial), decoder=decoder) == WHOLE[: 7 * PACKET_BYTES] + WHOLE
    )
    assert (decoder.streams, decoder.holes) == (2, 0)


def test_other_streams_in_between_are_not_heard() -> None:
    decoder = StreamDecoder()
    mixed = [
        data
        for number, page in enumerate(our_stream())
        for data in (page, make_page(b"\xfc\x00", number=number, serial=7))
    ]
    assert decode(*mixed, decoder=decoder) == WHOLE
    assert (decoder.streams, decoder.holes) == (1, 0)


def test_a_stream_joined_in_the_middle() -> None:
    decoder = StreamDecoder()
    heard = decode(*our_stream()[12:], decoder=decoder)
    assert len(heard) == len(WHOLE) - 10 * PACKET_BYTES
    # The decoder has to find itself again, which takes a while with a tone that never stops.
    assert_alike(UP[12_600:13_800], to_samples(heard), after_s=(12_600 - 4800) / SAMPLE_RATE + LOOKAHEAD_S)
    assert (decoder.streams, decoder.holes, decoder.resyncs) == (0, 0, 0)


CHUNKS = st.lists(
    st.binary(max_size=50)
    | st.sampled_from(our_stream()[:8])
    | st.sampled_from([spoil(page) for page in our_stream()[:8]])
    | st.builds(
        make_page,
        st.binary(max_size=40),
        number=st.integers(0, 2**32 - 1),
        granule=st.integers(-(2**63), 2**63 - 1),
        flags=st.integers(0, 7),
    ),
    max_size=10,
)


@EXPLORE
@given(CHUNKS, st.lists(st.integers(0, 10_000), max_size=4))
def test_whatever_comes_it_does_not_raise_and_the_cuts_do_not_matter(
    chunks: list[bytes], places: list[int]
) -> None:
    data = b"".join(chunks)
    whole = decode(data)
    assert decode(*cut(data, places)) == whole
    # A chunk is one page at most: a hole and a packet.
    assert len(whole) <= len(chunks) * 11 * 120 * BYTES_PER_MS
