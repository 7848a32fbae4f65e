"""The playback thread: payloads from the socket → PCM for the sink (playout buffer, file, pipe).

It keeps decoding and writing away from the event loop, so that neither a burst nor a slow disk delays
the socket, and away from the speaker's callback.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

from personaplex_cli.codec.stream import StreamDecoder
from personaplex_cli.pcm import SILENCE_DBFS, duration_ms, level_dbfs

QUEUE_PAYLOADS: Final = 1500
"""Thirty seconds at one payload for each 20 ms. Beyond that the oldest are dropped; the decoder conceals
the hole."""

QUEUE_BYTES: Final = 4 * 1024 * 1024
"""The same for payloads that are large: many minutes of Opus."""


DECODE_BYTES: Final = 4096
"""What is decoded in one go. Packets can be one byte long and 60 ms: a megabyte of them would be a gigabyte
of PCM."""


class Playback:
    """Owns the decoder. `feed`, `take_level_dbfs` and `close` are for one other thread, the event loop's."""

    def __init__(
        self, write: Callable[[bytes, float], None], on_failure: Callable[[Exception], None]
    ) -> None:
        """`write` takes PCM, and when its payload was fed; it is called on the playback thread, as is
        `on_failure`, once, with what `write` raised; the thread goes on decoding then, without writing."""
        self._write: Callable[[bytes, float], None] | None = write
        self._on_failure = on_failure
        self._payloads: queue.Queue[tuple[bytes, float] | None] = queue.Queue(QUEUE_PAYLOADS + 1)
        self._level_dbfs = SILENCE_DBFS
        self.decoder = StreamDecoder()
        self._fed_bytes = self._lost_bytes = self._taken_bytes = 0
        self.received: tuple[float, float] = (0.0, 0.0)
        """When the newest audio that was decoded had come, and how many milliseconds were decoded in all."""
        self.payloads_dropped = 0
        self._thread = threading.Thread(target=self._run, name="playback", daemon=True)
        self._thread.start()

    def feed(self, payload: bytes, arrived_s: float) -> None:
        """`arrived_s` is when it came from the socket. Never blocks."""
        self._fed_bytes += len(payload)
        while self._payloads.qsize() >= QUEUE_PAYLOADS or self._queued_bytes > QUEUE_BYTES:
            try:
                self._lost_bytes += len((self._payloads.get_nowait() or (b"",))[0])
            except queue.Empty:  # the thread has taken the last one meanwhile
                break
            self.payloads_dropped += 1
        self._payloads.put_nowait((payload, arrived_s))

    @property
    def _queued_bytes(self) -> int:
        """Each number is written by one thread only."""
        return self._fed_bytes - self._lost_bytes - self._taken_bytes

    def take_level_dbfs(self) -> float:
        """The loudest audio decoded since the last call."""
        level, self._level_dbfs = self._level_dbfs, SILENCE_DBFS
        return level

    def close(self, limit_s: float) -> bool:
        """Decode and write what is queued, then end the thread; False if that took longer than allowed."""
        self._payloads.put_nowait(None)
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (item := self._payloads.get()) is not None:
                payload, arrived_s = item
                self._taken_bytes += len(payload)
                for at in range(0, len(payload), DECODE_BYTES):
                    self._play(self.decoder.feed(payload[at : at + DECODE_BYTES]), arrived_s)
        except Exception as error:  # a bug: the call must not go on, paid and unheard
            self._on_failure(error)

    def _play(self, pcm: bytes, arrived_s: float) -> None:
        if not pcm:
            return
        self.received = (arrived_s, self.received[1] + duration_ms(pcm))
        self._level_dbfs = max(self._level_dbfs, level_dbfs(pcm))
        if self._write is None:
            return
        try:
            self._write(pcm, arrived_s)
        except Exception as error:  # passed on: the call ends with it, in order
            self._write = None
            self._on_failure(error)
