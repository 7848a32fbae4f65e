"""The microphone without the speaker's echo: what was played is laid beside what was captured.

Both devices' threads only append. One worker thread gives the engine 10 ms of either at a time, always as
much of the one as of the other: samples are counted, and an offset between the two counts says what belongs
together. Stamps serve to find that offset only, since single ones wander by 15 ms, and after each change the
engine needs a second.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from personaplex_cli.aec import BLOCK_BYTES, BLOCK_SAMPLES, EchoCanceller
from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE, silence

EARLY_SAMPLES: Final = SAMPLE_RATE * 20 // 1000
"""How much earlier than its echo the reference comes. A late one is fatal (10 ms late: 20 dB less), an early
one no trouble up to 0.4 s."""

TOO_EARLY_SAMPLES: Final = SAMPLE_RATE * 50 // 1000
"""Off by more than this, the reference is placed anew; that lets the echo through for up to a second."""

TOO_LATE_SAMPLES: Final = SAMPLE_RATE * 15 // 1000
"""The same towards late: what is left of EARLY_SAMPLES then still covers what a median of stamps is off by.
Two devices' clocks that differ by 50 ppm come that far in five minutes."""

SPARE_SAMPLES: Final = SAMPLE_RATE * 10 // 1000
"""How long before its use a reference has been written, at least: both devices' callbacks jitter."""

STAMPS: Final = 100
"""A second of 10 ms blocks."""

HISTORY_SAMPLES: Final = 2 * SAMPLE_RATE
"""What is kept of what was played. The delay of output and input together is less, Bluetooth included."""

HISTORY_BLOCKS: Final = 2 * STAMPS

PAUSE_SAMPLES: Final = SAMPLE_RATE * 250 // 1000
"""An output that wrote nothing for so long has stopped, and where it goes on is unknown."""

BEHIND_SAMPLES: Final = SAMPLE_RATE * 100 // 1000
"""Captured PCM that may wait for the worker. Beyond that new blocks are dropped, and counted; what was played
meanwhile goes with them."""


class Alignment:
    """Which sample of what was played goes with which of what was captured. Pure; samples are counted from 0
    on either side."""

    def __init__(self) -> None:
        self.offset: int | None = None
        """Add it to a captured sample's number to get the played one's; None: not known, take silence."""
        self.replacements = 0
        self._played_s: deque[float] = deque(maxlen=STAMPS)  # when sample 0 was heard, by each stamp
        self._captured_s: deque[float] = deque(maxlen=STAMPS)
        self._leads: deque[int] = deque(maxlen=STAMPS)
        self._written = self._paused_at = 0
        self._placed = False

    def played(self, first: int, heard_at_s: float) -> None:
        self._played_s.append(heard_at_s - first / SAMPLE_RATE)

    def captured(self, first: int, end: int, captured_at_s: float, written: int) -> None:
        """Samples `first` to `end` were captured, and delivered when `written` had been played."""
        self._captured_s.append(captured_at_s - first / SAMPLE_RATE)
        if written != self._written:  # what stands still tells nothing
            self._leads.append(written - end)
        self._written = written

    def update(self) -> bool:
        """Places the offset if it is time to; True if it has changed. Call after each `captured`."""
        if self.offset is None:
            if self._written <= self._paused_at:
                return False
            # Without stamps: what was just written. It has not been heard yet, so it is early.
            self._place(self._leads[-1] - SPARE_SAMPLES)
            return True
        if not (len(self._played_s) == len(self._captured_s) == STAMPS and self._leads):
            return False
        off = self.offset - self._wanted(STAMPS)
        if -TOO_LATE_SAMPLES <= off <= TOO_EARLY_SAMPLES:
            return False
        # The median of all jumps when half of the stamps have; the new place goes by that half alone.
        self._place(self._wanted(STAMPS // 2))
        return True

    def paused(self) -> None:
        """The output has stopped; the offset is sought anew when it goes on."""
        self._paused_at = self._written
        self.offset = None

    def _wanted(self, n_stamps: int) -> int:
        between_s = _median(list(self._captured_s)[-n_stamps:]) - _median(list(self._played_s)[-n_stamps:])
        by_stamps = round(between_s * SAMPLE_RATE) + EARLY_SAMPLES
        return min(by_stamps, int(_median(list(self._leads)[-n_stamps:])) - SPARE_SAMPLES)

    def _place(self, offset: int) -> None:
        self.replacements += self._placed
        self._placed = True
        self.offset = offset
        for stamps in (self._played_s, self._captured_s, self._leads):
            stamps.clear()


def _median(values: list[float] | list[int]) -> float:
    return sorted(values)[len(values) // 2]


class _History:
    """The last of what was played, by the number of the sample. Worker thread only."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self.end = 0

    def write(self, first: int, pcm: bytes) -> None:
        if first != self.end:  # nobody was listening meanwhile
            self._pcm.clear()
        self._pcm += pcm
        self.end = first + len(pcm) // SAMPLE_BYTES
        del self._pcm[: max(0, len(self._pcm) - HISTORY_SAMPLES * SAMPLE_BYTES)]

    def read(self, first: int) -> bytes:
        """10 ms; silence in place of what is not yet written, or no longer kept."""
        start = (first - self.end) * SAMPLE_BYTES + len(self._pcm)
        known = self._pcm[start : start + BLOCK_BYTES] if start >= 0 else b""
        return bytes(known).ljust(BLOCK_BYTES, b"\0")


class Canceller:
    """Owns the worker thread and, on it, the engine."""

    def __init__(self, engine: EchoCanceller, deliver: Callable[[bytes, float], None]) -> None:
        """`deliver` is called on the worker thread, in order: 10 ms of clean PCM, and when its first sample
        was captured. (The engine itself holds 9 ms back, which that time does not know of.)"""
        self._engine: EchoCanceller | None = engine
        self._deliver = deliver
        self._alignment = Alignment()
        self._history = _History()
        self._played: deque[tuple[int, bytes, float]] = deque(maxlen=HISTORY_BLOCKS)
        self._captured: queue.SimpleQueue[tuple[int, bytes, float, int] | None] = queue.SimpleQueue()
        self._n_played = self._n_captured = 0  # each written by the thread of its device alone
        self._n_accepted = self._n_dropped = 0
        self._n_taken = 0
        self._next = 0  # the sample that is to come
        self._rest = b""  # captured, and less than a block
        self._moved = False
        self._dry_samples = 0
        self.failure: Exception | None = None
        """What the engine raised. From then on the capture goes through as it is."""
        self._thread = threading.Thread(target=self._run, name="canceller", daemon=True)
        self._thread.start()

    @property
    def replacements(self) -> int:
        """How often the reference was placed anew; each time the echo comes through for up to a second."""
        return self._alignment.replacements

    @property
    def dropped_ms(self) -> int:
        """What was captured and not delivered, since the worker was behind."""
        return self._n_dropped * 1000 // SAMPLE_RATE

    def played(self, pcm: bytes, heard_at_s: float) -> None:
        """The speaker's thread: `pcm` was written, and its first sample is heard at `heard_at_s`, of the same
        clock as `captured_at_s`. Any duration. Without captures the oldest go after 200 blocks."""
        self._played.append((self._n_played, pcm, heard_at_s))
        self._n_played += len(pcm) // SAMPLE_BYTES

    def captured(self, pcm: bytes, captured_at_s: float) -> None:
        """The microphone's thread. Any duration. Never waits."""
        first, n_samples = self._n_captured, len(pcm) // SAMPLE_BYTES
        self._n_captured = first + n_samples
        if self._n_accepted - self._n_taken > BEHIND_SAMPLES:
            self._n_dropped += n_samples
        else:
            self._n_accepted += n_samples
            self._captured.put((first, pcm, captured_at_s, self._n_played))

    def close(self, limit_s: float) -> None:
        """Delivers what was captured and ends the worker. Any other thread; may be called again. After
        `limit_s` a worker that hangs in the engine is left behind."""
        self._captured.put(None)
        self._thread.join(limit_s)

    # --- worker thread

    def _run(self) -> None:
        while (taken := self._captured.get()) is not None:
            self._take(*taken)

    def _take(self, first: int, pcm: bytes, captured_at_s: float, written: int) -> None:
        if first != self._next:  # blocks between were dropped
            self._rest = b""
        end = first + len(pcm) // SAMPLE_BYTES
        self._align(first, end, captured_at_s, written)
        n_before = len(self._rest) // SAMPLE_BYTES
        self._rest += pcm
        for at in range(first - n_before, end - BLOCK_SAMPLES + 1, BLOCK_SAMPLES):
            block, self._rest = self._rest[:BLOCK_BYTES], self._rest[BLOCK_BYTES:]
            self._deliver(self._cleaned(block, at), captured_at_s + (at - first) / SAMPLE_RATE)
        self._next = end
        self._n_taken += end - first

    def _align(self, first: int, end: int, captured_at_s: float, written: int) -> None:
        while self._played:
            began, pcm, heard_at_s = self._played.popleft()
            self._alignment.played(began, heard_at_s)
            self._history.write(began, pcm)
        self._alignment.captured(first, end, captured_at_s, written)
        self._moved |= self._alignment.update()

    def _cleaned(self, block: bytes, first: int) -> bytes:
        engine = self._engine
        if engine is None:
            return block
        try:
            if self._moved:
                self._moved = False
                engine.reset()
            return engine.process(block, self._reference(first))
        except Exception as error:
            self.failure, self._engine = error, None
            return block

    def _reference(self, first: int) -> bytes:
        if self._alignment.offset is None:
            return silence(BLOCK_SAMPLES)
        wanted = first + self._alignment.offset
        self._dry_samples = self._dry_samples + BLOCK_SAMPLES if wanted >= self._history.end else 0
        if self._dry_samples > PAUSE_SAMPLES:
            self._alignment.paused()
        return self._history.read(wanted)
