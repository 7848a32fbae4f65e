"""Packets → pages → packets. Pages are made and read by hand here (RFC 3533 section 6)."""

from __future__ import annotations

import random
import struct
import zlib
from ctypes import byref
from itertools import pairwise
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ogg_pages import read_pages, spoil

from personaplex_cli.codec.ogg import Hole, Packet, PacketReader, PageWriter, StreamBegan

EXPLORE = settings(derandomize=True, deadline=None, max_examples=30)
CONTINUED, BOS, EOS = 1, 2, 4
SERIAL = 42
LARGEST_PAGE = 27 + 255 + 255 * 255

Item: TypeAlias = StreamBegan | Packet | Hole

_BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def checksum(page: bytes) -> int:
    """Ogg's CRC is that of zlib with the bits the other way round, no start value and no inversion."""
    reversed_bits = zlib.crc32(page.translate(_BITS_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{reversed_bits:032b}"[::-1], 2)


def page(
    number: int, *packets: bytes, flags: int = 0, serial: int = SERIAL, granule: int = 0, ends: bool = True
) -> bytes:
    """One page; if not `ends`, its last packet (of n * 255 bytes) goes on in the next one."""
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes((len(packet) % 255,)) for packet in packets)
    if not ends:
        assert len(packets[-1]) % 255 == 0
        lacing = lacing[:-1]
    before = struct.pack("<4sBBqII", b"OggS", 0, flags, granule, serial, number)
    after = bytes((len(lacing),)) + lacing + b"".join(packets)
    return before + struct.pack("<I", checksum(before + bytes(4) + after)) + after


def read(*chunks: bytes, reader: PacketReader | None = None) -> list[Item]:
    reader = reader or PacketReader()
    return [item for chunk in chunks for item in reader.feed(chunk)]


def packets_of(items: list[Item]) -> list[bytes]:
    return [item.data for item in items if isinstance(item, Packet)]


def state_of(reference: Any) -> Any:
    """libogg's structure behind a `byref`."""
    return reference._obj


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


A, B, C, D, E = (bytes((letter,)) * 40 for letter in b"ABCDE")
STREAM = [page(0, A, flags=BOS), page(1, B), page(2, C), page(3, D), page(4, E, flags=EOS)]
ITEMS = [StreamBegan(SERIAL), *map(Packet, (A, B, C, D, E))]


# --- writing


def test_each_packet_is_one_page_and_the_numbers_have_no_gap() -> None:
    writer = PageWriter(0x1234_5678)
    made = [writer.page(packet, granule, eos=packet == C) for granule, packet in enumerate((A, b"", B, C))]
    pages = [read_pages(data) for data in made]
    assert [len(one) for one in pages] == [1, 1, 1, 1]
    for number, ((one,), packet) in enumerate(zip(pages, (A, b"", B, C), strict=True)):
        assert one.sound
        assert (one.serial, one.number, one.granule) == (0x1234_5678, number, number)
        assert one.packets == [packet]
    assert [one.flags for (one,) in pages] == [BOS, 0, 0, EOS]


@pytest.mark.parametrize("packet", [A, b"", bytes(254), bytes(255), bytes(256), bytes(510), bytes(1275)])
def test_a_page_to_the_byte(packet: bytes) -> None:
    writer = PageWriter(SERIAL)
    assert writer.page(packet, 0) == page(0, packet, flags=BOS)
    assert writer.page(packet, 2**40, eos=True) == page(1, packet, flags=EOS, granule=2**40)


@pytest.mark.parametrize(("n_bytes", "n_pages"), [(65_024, 1), (65_025, 2), (200_000, 4)])
def test_a_huge_packet_takes_several_pages_at_once(n_bytes: int, n_pages: int) -> None:
    packet = random.Random(1).randbytes(n_bytes)
    data = PageWriter(SERIAL).page(packet, 0)
    assert len(data) == n_bytes + n_bytes // 255 + 1 + 27 * n_pages
    assert read(data) == [StreamBegan(SERIAL), Packet(packet)]


@pytest.mark.parametrize("serial", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_any_serial_number(serial: int) -> None:
    data = PageWriter(serial).page(A, 0)
    assert read_pages(data)[0].serial == serial
    assert packets_of(read(data, page(1, B, serial=serial))) == [A, B]


def test_a_failure_of_libogg_is_an_error() -> None:
    writer = PageWriter(SERIAL)
    writer._ogg.ogg_stream_clear(byref(writer._stream))
    with pytest.raises(MemoryError):
        writer.page(A, 0)


# --- reading what is whole


@EXPLORE
@given(st.lists(st.integers(0, 10_000), max_size=8))
def test_it_may_be_cut_anywhere(places: list[int]) -> None:
    assert read(*cut(b"".join(STREAM), places)) == ITEMS


def test_byte_by_byte() -> None:
    assert read(*(bytes((byte,)) for byte in b"".join(STREAM))) == ITEMS


def test_nothing_is_nothing() -> None:
    assert read(b"") == []


@pytest.mark.parametrize(
    ("pages", "items"),
    [
        pytest.param(
            [page(0, A, flags=BOS), page(1, B, C, b"", D)],
            [StreamBegan(SERIAL), *map(Packet, (A, B, C, b"", D))],
            id="several packets on a page, one empty",
        ),
        pytest.param(
            [
                page(0, A, flags=BOS),
                page(1, B, bytes(510), ends=False),
                page(2, C, D, flags=CONTINUED),
            ],
            [StreamBegan(SERIAL), *map(Packet, (A, B, bytes(510) + C, D))],
            id="a packet over two pages",
        ),
        pytest.param(
            [page(0, A, flags=BOS), page(1), page(2, B)],
            [StreamBegan(SERIAL), Packet(A), Packet(B)],
            id="a page without packets",
        ),
        pytest.param(
            [page(7, A, flags=BOS), page(8, B)],
            [StreamBegan(SERIAL), Packet(A), Packet(B)],
            id="numbers that begin anywhere",
        ),
        pytest.param(
            [page(2**32 - 1, A, flags=BOS), page(0, B), page(1, C)],
            [StreamBegan(SERIAL), Packet(A), Packet(B), Packet(C)],
            id="numbers that begin again",
        ),
        pytest.param(
            [*STREAM, page(5, A)],
            [*ITEMS, Packet(A)],
            id="more after the end",
        ),
        pytest.param([*STREAM, *STREAM], [*ITEMS, *ITEMS], id="a chain, the same serial number"),
        pytest.param(
            [*STREAM[:2], page(0, C, flags=BOS, serial=7), page(1, D, serial=7)],
            [*ITEMS[:3], StreamBegan(7), Packet(C), Packet(D)],
            id="a chain, another serial number",
        ),
        pytest.param(STREAM[2:], ITEMS[3:], id="joined in the middle"),
        pytest.param(
            [page(2, bytes(10), B, flags=CONTINUED), page(3, C)],
            [Packet(B), Packet(C)],
            id="joined in the middle of a packet",
        ),
    ],
)
def test_legal_streams(pages: list[bytes], items: list[Item]) -> None:
    reader = PacketReader()
    assert read(*pages, reader=reader) == items
    assert read(b"".join(pages)) == items
    assert (reader.resyncs, reader.foreign_pages) == (0, 0)


def test_pages_of_other_streams_are_skipped_and_counted() -> None:
    reader = PacketReader()
    foreign = [page(number, b"foreign", serial=7) for number in range(3)]
    mixed = [STREAM[0], foreign[0], *STREAM[1:3], foreign[1], STREAM[3], foreign[2], STREAM[4]]
    assert read(*mixed, reader=reader) == ITEMS
    assert (reader.resyncs, reader.foreign_pages) == (0, 3)


# --- reading what is damaged


@pytest.mark.parametrize(
    ("pages", "items"),
    [
        pytest.param([*STREAM[:1], *STREAM[2:]], [*ITEMS[:2], Hole(1), *ITEMS[3:]], id="one page missing"),
        pytest.param([*STREAM[:1], *STREAM[4:]], [*ITEMS[:2], Hole(3), *ITEMS[5:]], id="three missing"),
        pytest.param(
            [page(0, A, flags=BOS), page(1, B, C, D), page(4, E)],
            [StreamBegan(SERIAL), *map(Packet, (A, B, C, D)), Hole(6), Packet(E)],
            id="as many packets as the page before had",
        ),
        pytest.param(
            [page(0, A, flags=BOS), page(1), page(3, E)],
            [StreamBegan(SERIAL), Packet(A), Hole(1), Packet(E)],
            id="the page before had none",
        ),
        pytest.param(
            [page(0, A, flags=BOS), page(1, bytes(255), ends=False), page(3, B, C, flags=CONTINUED)],
            [StreamBegan(SERIAL), Packet(A), Hole(1), Packet(C)],
            id="in the middle of a packet",
        ),
        pytest.param([*STREAM[:3], STREAM[1]], [*ITEMS[:4], Packet(B)], id="numbers that go back"),
    ],
)
def test_missing_pages_are_a_hole_of_their_size(pages: list[bytes], items: list[Item]) -> None:
    assert read(*pages) == items


def test_a_bad_checksum_costs_this_page_only() -> None:
    reader = PacketReader()
    items = read(*STREAM[:2], spoil(STREAM[2]), *STREAM[3:], reader=reader)
    assert items == [*ITEMS[:3], Hole(1), *ITEMS[4:]]
    assert reader.resyncs == 1


def test_any_flipped_byte_costs_this_page_only() -> None:
    """What comes after pushes the rest out: a page that claims to be longer is waited for."""
    for place in range(len(STREAM[2])):
        damaged = bytearray(STREAM[2])
        damaged[place] ^= 0xFF
        items = read(*STREAM[:2], bytes(damaged), *STREAM[3:], bytes(LARGEST_PAGE))
        assert items == [*ITEMS[:3], Hole(1), *ITEMS[4:]], f"byte {place}"


@pytest.mark.parametrize(
    "garbage", [b"\0", b"O", b"OggS", b"OggSOggS", b"Ogg" * 9, random.Random(2).randbytes(5000)]
)
def test_garbage_between_pages_loses_nothing(garbage: bytes) -> None:
    reader = PacketReader()
    stream = garbage.join([*STREAM, bytes(LARGEST_PAGE)])
    assert read(stream, reader=reader) == ITEMS
    assert reader.resyncs == 5
    assert read(*(bytes((byte,)) for byte in stream[:6000])) == read(stream[:6000])


def test_garbage_in_several_messages_is_one_loss_of_sync() -> None:
    reader = PacketReader()
    read(STREAM[0], b"abc", b"def", bytes(5000), *STREAM[1:], reader=reader)
    assert reader.resyncs == 1


def test_garbage_only_is_not_kept() -> None:
    reader, source = PacketReader(), random.Random(3)
    for _ in range(200):
        assert reader.feed(source.randbytes(10_000)) == []
    assert reader.resyncs == 1
    assert state_of(reader._sync_ref).storage < 4 * LARGEST_PAGE
    assert read(*STREAM, reader=reader) == ITEMS


def test_a_packet_without_end_is_not_kept() -> None:
    reader = PacketReader()
    reader.feed(STREAM[0])
    for number in range(1, 101):
        piece = page(number, bytes(255 * 255), flags=CONTINUED if number > 1 else 0, ends=False)
        assert reader.feed(piece) == []
    assert state_of(reader._stream_ref).body_storage < 40 * LARGEST_PAGE
    assert read(page(101, A, B, flags=CONTINUED), page(102, C), reader=reader) == [Packet(B), Packet(C)]


def test_a_packet_of_a_megabyte_is() -> None:
    packet = random.Random(4).randbytes(1_000_000)
    assert read(STREAM[0], PageWriter(SERIAL).page(packet, 0)) == [
        *ITEMS[:2],
        StreamBegan(SERIAL),
        Packet(packet),
    ]


CHUNKS = st.lists(
    st.binary(max_size=60)
    | st.sampled_from([*STREAM, spoil(STREAM[1]), STREAM[2][:30], STREAM[2][30:], b"OggS"])
    | st.builds(
        page,
        st.integers(0, 2**32 - 1),
        st.binary(max_size=300),
        flags=st.integers(0, 255),
        serial=st.sampled_from([SERIAL, 7]),
        granule=st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=12,
)


@EXPLORE
@given(CHUNKS, st.lists(st.integers(0, 10_000), max_size=4))
def test_whatever_comes_it_does_not_raise_and_the_cuts_do_not_matter(
    chunks: list[bytes], places: list[int]
) -> None:
    data = b"".join(chunks)
    whole, in_parts = PacketReader(), PacketReader()
    assert read(data, reader=whole) == read(*cut(data, places), reader=in_parts)
    assert (whole.resyncs, whole.foreign_pages) == (in_parts.resyncs, in_parts.foreign_pages)
