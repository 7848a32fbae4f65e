"""A server that says what it hears, some seconds later, and how loud that was: for `personaplex mic`.

It stands where a call has its socket: what is heard has gone through all that a call does with a voice, and
nothing is sent anywhere.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from personaplex_cli.codec.stream import StreamEncoder
from personaplex_cli.events import Event, Levels, MicrophoneChanged
from personaplex_cli.pcm import PACKET_SAMPLES, SILENCE_DBFS, SPEECH_DBFS, STEP_PACKETS, STEP_S, silence
from personaplex_cli.pipeline.websocket import SocketClosed
from personaplex_cli.wire.messages import Audio, Tag, pack_audio, parse

MIN_DELAY_S: Final = 0.5
"""Nearer to oneself one cannot speak: delayed by 0.1 to 0.3 s, one's own voice makes people stutter."""

MAX_DELAY_S: Final = 10.0

_HEADERS: Final = 2
"""A stream begins with two messages without sound: identification and comments (RFC 7845 section 5)."""

_WAITING: Final = 4
"""Messages that are said and not yet taken; then whoever sends has to wait, as with a real socket."""

NOISE_SHARE: Final = 0.1
"""The noise of a room is what lies below the loudest of the quietest tenth: people who try a microphone
pause for longer than that."""


def whole_steps(delay_s: float) -> int:
    """The number of the model's steps that lasts nearest to `delay_s`: what is sent is cut in steps."""
    return round(delay_s / STEP_S)


class Loopback:
    """A `call.Socket`. Event loop only.

    The delay line begins full of silence and keeps its length: each step that comes in pushes the oldest out.
    So whatever stalls, or is dropped before it comes here, the delay does not grow.
    """

    def __init__(
        self, delay_steps: int, input_finished: Callable[[], bool], on_end: Callable[[], object]
    ) -> None:
        """Whatever comes in is said `delay_steps` later, at least two; the codec's look-ahead (2.5 ms) comes
        on top. `on_end` is called when all has been said that came before the input was finished."""
        self._line = deque(_silent_messages(delay_steps))
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._inbox.put_nowait(bytes((Tag.HANDSHAKE,)))
        self._input_finished = input_finished
        self._on_end = on_end
        self._left_steps = delay_steps + 1  # one more, for the look-ahead
        self._headers: list[bytes] = []

    async def send(self, message: bytes) -> None:
        match parse(message):
            case Audio(payload) if len(self._headers) < _HEADERS:
                self._headers.append(payload)
                if len(self._headers) == _HEADERS:
                    self._line[-1] += b"".join(self._headers)  # they take no time
            case Audio(payload):
                self._line.append(payload)
                await self._inbox.put(pack_audio(self._line.popleft()))
                self._count_down()

    async def receive(self) -> bytes:
        """Raises SocketClosed."""
        message = await self._inbox.get()
        if message is None:
            raise SocketClosed(1000, "")
        return message

    async def close(self) -> None:
        """What is still in the delay line is not said."""
        await self._inbox.put(None)

    def abort(self) -> None:
        while not self._inbox.empty():
            self._inbox.get_nowait()
        self._inbox.put_nowait(None)

    def _count_down(self) -> None:
        if self._input_finished():
            self._left_steps -= 1
            if self._left_steps == 0:
                self._on_end()


def _silent_messages(n_steps: int) -> Iterable[bytes]:
    """A stream of so many silent steps. The first two are one message: it goes out when the first step has
    come in, which is when one step ought to have been heard already."""
    stream = StreamEncoder(serial=0)
    packets = [
        stream.page(silence(PACKET_SAMPLES), eos=number == n_steps * STEP_PACKETS)
        for number in range(1, n_steps * STEP_PACKETS + 1)
    ]
    first = 2 * STEP_PACKETS
    yield b"".join((*stream.headers(), *packets[:first]))
    for at in range(first, len(packets), STEP_PACKETS):
        yield b"".join(packets[at : at + STEP_PACKETS])


class Loudness:
    """How loud the user's side was, from the levels that a call tells: of each tenth of a second the loudest
    20 ms, dBFS. Nothing counts while the user is muted."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        """How often there was which level, in whole dB: no more than 97 numbers, however long it lasts."""
        self._zeros_first = 0
        """Of these, how many were of zeros before there was anything else: a device that had not begun."""
        self._muted = False
        self.clipped = 0
        """Tenths of a second in which a sample was as large as samples can be."""

    def listen(self, event: Event) -> None:
        match event:
            case MicrophoneChanged(muted=muted):
                self._muted = muted
            case Levels(user_dbfs=dbfs, user_clipped=clipped) if not self._muted:
                self._counts[round(dbfs)] += 1
                self.clipped += clipped
                if self.all_zero:
                    self._zeros_first += 1

    @property
    def measured(self) -> bool:
        return bool(self._counts)

    @property
    def all_zero(self) -> bool:
        """There was not a single sample but zero: no room is as quiet as that."""
        return self.loudest_dbfs == SILENCE_DBFS

    @property
    def loudest_dbfs(self) -> float:
        return max(self._counts, default=SILENCE_DBFS)

    @property
    def usual_dbfs(self) -> float | None:
        """The median of what was as loud as speech; None if nothing was."""
        return _percentile({dbfs: n for dbfs, n in self._counts.items() if dbfs > SPEECH_DBFS}, 0.5)

    @property
    def noise_dbfs(self) -> float | None:
        """See `NOISE_SHARE`. None if it was digital silence."""
        begun = self._counts - Counter({round(SILENCE_DBFS): self._zeros_first})
        dbfs = _percentile(begun, NOISE_SHARE)
        return None if dbfs == SILENCE_DBFS else dbfs


def _percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The least level that at least this share of all lie at or below."""
    wanted = share * sum(counts.values())
    for dbfs in sorted(counts):
        wanted -= counts[dbfs]
        if wanted <= 0:
            return dbfs
    return None
