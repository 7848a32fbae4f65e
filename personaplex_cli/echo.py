"""What is done about the microphone hearing the speaker: one way for each conversation.

With headphones nothing has to be. Otherwise the echo is cancelled, where the extra for that is installed; or
the microphone is shut while the agent is heard (half-duplex); or the user is told, once, if there is an echo.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from personaplex_cli.aec import EchoCanceller, available, is_headphones, open_canceller
from personaplex_cli.echo_options import EchoCancel, EchoOptions
from personaplex_cli.events import EchoState
from personaplex_cli.headphones import UnlessHeadphones
from personaplex_cli.pacing import PACKET_S
from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE, STEP_S, Block, level_dbfs
from personaplex_cli.pipeline.canceller import Canceller
from personaplex_cli.pipeline.echo_alarm import EchoAlarm

Deliver = Callable[[bytes, float], None]
"""PCM, and when its first sample was captured."""

HOLD_S: Final = 0.2 + STEP_S
"""How long the microphone stays shut after the agent was heard: a room reverberates, and speech has gaps. It
is decided for a whole step, which began so much earlier."""

QUIET_DBFS: Final = -50.0

CLOSE_LIMIT_S: Final = 0.5

PLAYED_BLOCKS: Final = 100
"""What was played and not yet compared, at most; the oldest go. Two thirds of a second."""

ALARM_TEXT: Final = (
    "The microphone hears the speaker, so the agent hears itself. Use headphones, or install echo "
    "cancellation (pip install 'personaplex-cli[aec]'), or call with --half-duplex."
)


class Echo:
    """Nothing is done: the base of the other ways."""

    needs_stamps = False
    """Whether it has to be known exactly when what was captured."""

    @property
    def state(self) -> EchoState:
        return EchoState.OFF

    @property
    def blocks_dropped(self) -> int:
        """Blocks of the microphone, 10 ms each, that were lost here."""
        return 0

    def start(self, tell: Callable[[str], None]) -> None:
        """With each call; `tell` takes what the user should know."""

    def captures(self, deliver: Deliver) -> Deliver:
        """What the microphone's device is to call in place of `deliver`."""
        return deliver

    def played(self, pcm: bytes, heard_s: float) -> None:
        """Speaker's thread: just what the device was given, and when its first sample will be heard."""

    def heard(self, block: Block) -> None:
        """Event loop: what the microphone gives."""

    def ducks(self) -> bool:
        """Event loop: whether the microphone is to be silent now."""
        return False

    def close(self) -> None:
        """Any thread."""


class HalfDuplex(Echo):
    """The microphone is shut while the agent is heard."""

    def __init__(self) -> None:
        self._heard_s = float("-inf")
        self._told = False

    @property
    def state(self) -> EchoState:
        return EchoState.HALF_DUPLEX

    def start(self, tell: Callable[[str], None]) -> None:
        if not self._told:
            self._told = True
            tell("Half-duplex: you are not heard while the agent speaks; wait until it pauses.")

    def played(self, pcm: bytes, heard_s: float) -> None:
        if level_dbfs(pcm) > QUIET_DBFS:
            self._heard_s = heard_s + len(pcm) / (SAMPLE_BYTES * SAMPLE_RATE)

    def ducks(self) -> bool:
        return time.monotonic() < self._heard_s + HOLD_S


class Alarmed(Echo):
    """The user is told, once, if the microphone hears the speaker."""

    def __init__(self) -> None:
        self._alarm: EchoAlarm | None = EchoAlarm()
        self._played: deque[tuple[bytes, float]] = deque(maxlen=PLAYED_BLOCKS)
        self._tell: Callable[[str], None] = lambda text: None

    @property
    def state(self) -> EchoState:
        return EchoState.HEARD if self._alarm is None else EchoState.OFF

    def start(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def played(self, pcm: bytes, heard_s: float) -> None:
        self._played.append((pcm, heard_s))

    def heard(self, block: Block) -> None:
        if self._alarm is None:
            return
        while self._played:
            pcm, heard_s = self._played.popleft()
            self._alarm.played(level_dbfs(pcm), heard_s)
        if self._alarm.captured(level_dbfs(block.pcm), block.at_s - PACKET_S):
            self._alarm = None
            self._tell(ALARM_TEXT)


class Cancelled(Echo):
    """A canceller stands between the microphone's device and the microphone."""

    needs_stamps = True

    def __init__(self, engine: EchoCanceller, *, cancels: bool = True) -> None:
        """`cancels` is false for an engine that only does something else to the microphone."""
        self._engine = engine
        self._cancels = cancels
        self._failed = False
        self._canceller: Canceller | None = None
        self._tell: Callable[[str], None] = lambda text: None

    def start(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def captures(self, deliver: Deliver) -> Deliver:
        self._canceller = Canceller(self._engine, deliver)
        return self._canceller.captured

    def played(self, pcm: bytes, heard_s: float) -> None:
        if self._canceller is not None:
            self._canceller.played(pcm, heard_s)

    def heard(self, block: Block) -> None:
        if self._canceller is not None and self._canceller.failure is not None:
            name = type(self._canceller.failure).__name__
            self._canceller.failure = None
            self._failed = True
            self._tell(f"Echo cancellation has failed ({name}); the call goes on without it.")

    @property
    def state(self) -> EchoState:
        if not self._cancels:
            return EchoState.OFF
        if self._failed:
            return EchoState.FAILED
        resting = isinstance(self._engine, UnlessHeadphones) and self._engine.resting
        return EchoState.RESTING if resting else EchoState.CANCELLED

    @property
    def blocks_dropped(self) -> int:
        return 0 if self._canceller is None else self._canceller.dropped_ms // 10

    def close(self) -> None:
        if self._canceller is not None:
            self._canceller.close(CLOSE_LIMIT_S)


def open_echo(options: EchoOptions, speaker: str | None) -> Echo:
    """What is to be done with a microphone and a speaker of that name; None where there is no speaker. Takes
    0.3 s where an engine is loaded. Raises MissingLibraryError."""
    if options.half_duplex:
        return HalfDuplex()
    headphones = speaker is None or is_headphones(speaker)
    wanted = options.cancel is EchoCancel.AUTO and not headphones and available()
    cancel = options.cancel is EchoCancel.ON or wanted
    if cancel or options.processes:
        engine = open_canceller(
            cancel_echo=cancel,
            noise_suppression=options.noise_suppression,
            high_pass=options.high_pass,
            gain_control=options.gain_control,
        )
        may_rest = wanted and not options.processes
        return Cancelled(UnlessHeadphones(engine) if may_rest else engine, cancels=cancel)
    # Headphones too can be replaced by a loudspeaker, when they are lost.
    return Echo() if options.cancel is EchoCancel.OFF or speaker is None else Alarmed()
