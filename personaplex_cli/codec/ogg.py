"""Ogg (RFC 3533): packets → pages, and bytes cut anywhere → packets."""

from __future__ import annotations

import struct
from ctypes import POINTER, byref, c_char_p, c_ubyte, cast, memmove, string_at
from dataclasses import dataclass, field
from typing import Final

from personaplex_cli.codec.library import free_with, load

_PAGE_HEADER: Final = struct.Struct("<5xB8xiI")
"""Flags, serial number and page sequence number (RFC 3533 section 6)."""
_BOS: Final = 0x02

_MAX_OPEN_PAGES: Final = 16
"""A packet that has not ended after so many pages (1 MB) is given up: libogg would gather it without end."""


@dataclass(frozen=True, slots=True)
class StreamBegan:
    """A page with the BOS flag: a logical stream begins."""

    serial: int


@dataclass(frozen=True, slots=True)
class Packet:
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Hole:
    """Pages are missing here: about so many packets, going by the page before."""

    packets: int


class PageWriter:
    """One logical stream, one page for each packet, so that nothing waits (libogg left to itself gathers
    about 4 kB, seconds of speech). Not thread-safe."""

    def __init__(self, serial: int) -> None:
        self._libraries = load()
        self._ogg = self._libraries.ogg
        self._stream = self._libraries.ogg_stream_state()
        self._ogg.ogg_stream_init(byref(self._stream), serial)
        free_with(self, self._ogg.ogg_stream_clear, byref(self._stream))
        self._packet = self._libraries.ogg_packet()
        self._page = self._libraries.ogg_page()
        self._packets = 0

    def page(self, packet: bytes, granule: int, *, eos: bool = False) -> bytes:
        """The page (pages, from 65,025 bytes on) of one packet; the first one made has the BOS flag.

        `granule` is the granule position at the packet's end, in 48 kHz samples (RFC 7845 section 4).
        """
        self._packet.packet = cast(c_char_p(packet), POINTER(c_ubyte))
        self._packet.bytes = len(packet)
        self._packet.b_o_s = self._packets == 0
        self._packet.e_o_s = eos
        self._packet.granulepos = granule
        self._packet.packetno = self._packets
        self._packets += 1
        if self._ogg.ogg_stream_packetin(byref(self._stream), byref(self._packet)) != 0:
            raise MemoryError("ogg_stream_packetin")
        parts = []
        page = self._page
        while self._ogg.ogg_stream_flush(byref(self._stream), byref(page)):
            parts.append(string_at(page.header, page.header_len))
            parts.append(string_at(page.body, page.body_len))
        return b"".join(parts)


class PacketReader:
    """Bytes of a physical stream → packets, wherever the bytes are cut and whatever is broken in them.

    Pages of other logical streams are skipped; a page with the BOS flag replaces the stream that was read.
    A stream joined in the middle is read from where it is. Not thread-safe. Never raises on input.
    """

    def __init__(self) -> None:
        libraries = load()
        self._ogg = libraries.ogg
        self._page, self._packet = libraries.ogg_page(), libraries.ogg_packet()
        sync, stream = libraries.ogg_sync_state(), libraries.ogg_stream_state()
        # References are made once: this runs for every page, and making one costs as much as the call.
        self._sync_ref, self._stream_ref = byref(sync), byref(stream)
        self._page_ref, self._packet_ref = byref(self._page), byref(self._packet)
        self._ogg.ogg_sync_init(self._sync_ref)
        free_with(self, self._ogg.ogg_sync_clear, self._sync_ref)
        self._ogg.ogg_stream_init(self._stream_ref, 0)
        free_with(self, self._ogg.ogg_stream_clear, self._stream_ref)
        self._serial: int | None = None
        self._next_page = 0
        self._packets_per_page = 1
        self._open_pages = 0
        self._in_sync = True
        self.resyncs = 0
        """Runs of bytes that belonged to no valid page (garbage, a bad checksum)."""
        self.foreign_pages = 0
        """Pages of other logical streams."""

    def feed(self, data: bytes) -> list[StreamBegan | Packet | Hole]:
        """Everything that `data` completes, in order."""
        buffer = self._ogg.ogg_sync_buffer(self._sync_ref, len(data))
        memmove(buffer, data, len(data))
        self._ogg.ogg_sync_wrote(self._sync_ref, len(data))
        items: list[StreamBegan | Packet | Hole] = []
        while (found := self._ogg.ogg_sync_pageseek(self._sync_ref, self._page_ref)) != 0:
            if found > 0:
                self._in_sync = True
                self._read_page(items)
            elif self._in_sync:
                self._in_sync = False
                self.resyncs += 1
        return items

    def _read_page(self, items: list[StreamBegan | Packet | Hole]) -> None:
        flags, serial, number = _PAGE_HEADER.unpack(string_at(self._page.header, _PAGE_HEADER.size))
        if flags & _BOS:
            self._begin(serial, number)
            items.append(StreamBegan(serial))
        elif self._serial is None:
            self._begin(serial, number)
        elif serial != self._serial:
            self.foreign_pages += 1
            return
        if number > self._next_page:
            items.append(Hole((number - self._next_page) * self._packets_per_page))
        self._next_page = number + 1
        self._ogg.ogg_stream_pagein(self._stream_ref, self._page_ref)
        packets = 0
        # -1 stands for a gap, which has been reported already with its size.
        while (got := self._ogg.ogg_stream_packetout(self._stream_ref, self._packet_ref)) != 0:
            if got > 0:
                packets += 1
                items.append(Packet(string_at(self._packet.packet, self._packet.bytes)))
        self._packets_per_page = max(1, packets)
        self._open_pages = 0 if packets else self._open_pages + 1
        if self._open_pages > _MAX_OPEN_PAGES:
            self._begin(serial, self._next_page)

    def _begin(self, serial: int, number: int) -> None:
        self._ogg.ogg_stream_reset_serialno(self._stream_ref, serial)
        self._serial = serial
        self._next_page = number
        self._open_pages = 0
