"""The playback thread: payloads from the socket → PCM for the sink (playout buffer, file, pipe).

It keeps decoding and writing away from the event loop, so that neither a burst nor a slow disk delays
the socket, and away from the speaker's callback.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from personaplex_cli.codec.stream import StreamDecoder
from personaplex_cli.pcm import PACKET_BYTES, duration_ms, is_clipped, level_dbfs

QUEUE_PAYLOADS: Final = 1500
"""Thirty seconds at one payload for each 20 ms. Beyond that the oldest are dropped; the decoder conceals
the hole."""

QUEUE_BYTES: Final = 4 * 1024 * 1024
"""The same for payloads that are large: many minutes of Opus."""


NOTES: Final = 3000
"""Levels and marks that wait for somebody to look: a minute. The oldest go."""

DECODE_BYTES: Final = 4096
"""What is decoded in one go. Packets can be one byte long and 60 ms: a megabyte of them would be a gigabyte
of PCM."""


@dataclass(frozen=True, slots=True)
class DecodedLevel:
    """Of 20 ms of the agent's audio, or of less at the end of a packet."""

    end_ms: float
    """Where in all that was decoded it ends."""
    dbfs: float
    clipped: bool


class Playback:
    """Owns the decoder. `feed`, `mark` and `close` are for one other thread, the event loop's."""

    def __init__(
        self, write: Callable[[bytes, float], None], on_failure: Callable[[Exception], None]
    ) -> None:
        """`write` takes PCM, and when its payload was fed; it is called on the playback thread, as is
        `on_failure`, once, with what `write` raised; the thread goes on decoding then, without writing."""
        self._write: Callable[[bytes, float], None] | None = write
        self._on_failure = on_failure
        # Payloads, and between them marks: at most as many, and what closes.
        self._queue: queue.Queue[tuple[bytes, float] | int | None] = queue.Queue(QUEUE_PAYLOADS + 1)
        self.levels: deque[DecodedLevel] = deque(maxlen=NOTES)
        """What was decoded and nobody has looked at yet."""
        self.marks: deque[tuple[int, float]] = deque(maxlen=NOTES)
        """Each mark with how many milliseconds were decoded when it came by."""
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
        while self._queue.qsize() >= QUEUE_PAYLOADS or self._queued_bytes > QUEUE_BYTES:
            try:
                oldest = self._queue.get_nowait()
            except queue.Empty:  # the thread has taken the last one meanwhile
                break
            if isinstance(oldest, tuple):
                self._lost_bytes += len(oldest[0])
                self.payloads_dropped += 1
        self._queue.put_nowait((payload, arrived_s))

    def mark(self, number: int) -> None:
        """Note where in the decoded audio `number` stands: after all that was fed. A mark can be lost when
        payloads are dropped; so numbers should grow, and each stand for the ones before it. Never blocks."""
        if self._queue.qsize() < QUEUE_PAYLOADS:
            self._queue.put_nowait(number)

    @property
    def _queued_bytes(self) -> int:
        """Each number is written by one thread only."""
        return self._fed_bytes - self._lost_bytes - self._taken_bytes

    def close(self, limit_s: float) -> bool:
        """Decode and write what is queued, then end the thread; False if that took longer than allowed."""
        self._queue.put_nowait(None)
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, int):
                    self.marks.append((item, self.received[1]))
                    continue
                payload, arrived_s = item
                self._taken_bytes += len(payload)
                for at in range(0, len(payload), DECODE_BYTES):
                    self._play(self.decoder.feed(payload[at : at + DECODE_BYTES]), arrived_s)
        except Exception as error:  # a bug: the call must not go on, paid and unheard
            self._on_failure(error)

    def _play(self, pcm: bytes, arrived_s: float) -> None:
        if not pcm:
            return
        self._note_levels(pcm)
        self.received = (arrived_s, self.received[1] + duration_ms(pcm))
        if self._write is None:
            return
        try:
            self._write(pcm, arrived_s)
        except Exception as error:  # passed on: the call ends with it, in order
            self._write = None
            self._on_failure(error)

    def _note_levels(self, pcm: bytes) -> None:
        at_ms = self.received[1]
        for at in range(0, len(pcm), PACKET_BYTES):
            part = pcm[at : at + PACKET_BYTES]
            at_ms += duration_ms(part)
            self.levels.append(DecodedLevel(at_ms, level_dbfs(part), is_clipped(part)))
