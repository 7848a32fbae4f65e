"""Who speaks when, in a call of two sides, told by their levels alone. Pure: times come with the levels.

Speech: a stretch begins when a side's level has been above a threshold for 60 ms, and is over when it has
been below a lower one for 200 ms. Both lie above the side's noise, which is learned. Noise that begins is
taken for speech until it has been steady for a second, and then taken back: it ended where it began.

Turn: from the first to the last of a side's stretches that follow each other after less than a second, unless
the other side took its turn in the pause: began to speak there, or just before and was waited for.

Kind: if the other side was silent when the turn began, or about to end its own, a plain turn. Otherwise, if
the other's turn was over with this one or soon after, an interruption; if it went on, a backchannel ("mm-hm")
when short, else an overlap. What the other side only coughs or clicks changes nothing.

When: the sides' levels may come 0.3 s apart. Nothing is concluded from a moment until both are past it, so
the same levels make the same turns however they interleave. A turn is told 0.4 s after the other began in its
pause, or 1.4 s after its end, or up to 0.5 s later if the other stops only then; even if it was mere noise.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from personaplex_cli.pcm import PACKET_MS, SPEECH_DBFS

LEVEL_S: Final = PACKET_MS / 1000
ON_DBFS: Final = SPEECH_DBFS
OFF_DBFS: Final = SPEECH_DBFS - 5  # lower than what begins speech, since words end quieter than they begin
ON_LEVELS: Final = 60 // PACKET_MS  # above the threshold: a click or a key lasts for one or two
OFF_S: Final = 0.2  # silence that ends a stretch: a plosive has 0.05 to 0.15 s of it in the middle of a word
ON_ABOVE_FLOOR_DB: Final = 14.0
OFF_ABOVE_FLOOR_DB: Final = 8.0
"""The mean of noise whose levels spread by 2 dB is 1.5 dB above its floor, three times the spread 7.5 dB.
With 12 dB, keys that were typed while a car went by were speech: its noise rises faster than its floor."""
LOOK_LEVELS: Final = 100 // PACKET_MS  # one look at the noise: their mean is even; speech has such gaps
STEADY_LOOKS: Final = 10
STEADY_DB: Final = 7.0
"""Looks of a second that differ by no more are noise: if its levels spread by 2 dB, they differ by 3 dB. In
speech without its pauses they differed by 9 dB and more (five spoken clips)."""
MINIMUM_LOOKS: Final = 40  # noise that is not steady: its least level in 4 s, by when speech has had gaps
LOUDEST_FLOOR_DBFS: Final = -38.0  # lets a held tone of -30 dBFS go on, and speech is seldom quieter
DIGITAL_DBFS: Final = -80.0  # no room is so quiet: a mute, and the noise after it will be as before it
PAUSE_S: Final = 1.0  # silence that ends a turn: most pauses are shorter, and who waits longer has yielded
SMALL_OVERLAP_S: Final = 0.25  # who begins so shortly before an end has foreseen it: people react in 0.2 s
YIELDS_S: Final = 0.5  # who is interrupted may take so long to stop: models need a few steps of 80 ms
BACKCHANNEL_S: Final = 1.0  # the longest that is still a "mm-hm" or "yes, right"
LEAST_SPEECH_S: Final = 0.12  # in a turn: less is a cough or a click, and the shortest words have 0.15 s
SLACK_S: Final = 0.4  # later levels of a side count as silence: 0.3 s, and 0.1 s in which they are collected
SETTLED_S: Final = OFF_S + LEAST_SPEECH_S  # so long before a level it is known what is over, or but a cough
LOOK_S: Final = 0.1  # how often it is seen what can be decided: as often as levels arrive
_ROUNDING_S: Final = 1e-6  # times are sums of many 20 ms


class Side(StrEnum):
    USER = "user"
    AGENT = "agent"


class TurnKind(StrEnum):
    TURN = "turn"
    INTERRUPTION = "interruption"
    BACKCHANNEL = "backchannel"
    OVERLAP = "overlap"


@dataclass(frozen=True, slots=True)
class Turn:
    side: Side
    start_s: float
    end_s: float
    kind: TurnKind
    overlap_s: float  # for how long both spoke during it


class NoiseFloor:
    """How loud a side's noise is at least. Falls within 0.2 s; rises after a steady second, or 4 s of any."""

    def __init__(self) -> None:
        self.dbfs = -math.inf  # there was no noise yet
        self.looks: deque[tuple[float, float, float, float]] = deque(maxlen=MINIMUM_LOOKS)
        """Of 100 ms each: the levels' mean, least and most, and when they ended."""
        self._levels: list[float] = []

    def level(self, at_s: float, dbfs: float) -> bool:
        """True if the floor is another one now."""
        levels, before = self._levels, self.dbfs
        if dbfs > DIGITAL_DBFS:
            levels.append(dbfs)
        if len(levels) < LOOK_LEVELS:
            return False
        mean = sum(levels) / LOOK_LEVELS
        self.looks.append((mean, min(levels), max(levels), at_s))
        levels.clear()
        self.dbfs = mean if mean < before else max(before, min(self._least(), LOUDEST_FLOOR_DBFS))
        return self.dbfs != before

    def _least(self) -> float:
        """-inf if it cannot be told from speech."""
        means = [mean for mean, _, _, _ in list(self.looks)[-STEADY_LOOKS:]]
        if len(means) == STEADY_LOOKS and max(means) - min(means) <= STEADY_DB:
            return min(means)
        return min(least for _, least, _, _ in self.looks) if len(self.looks) == MINIMUM_LOOKS else -math.inf


class VoiceActivity:
    """Levels of one side → speech or not. A level takes 1 µs."""

    def __init__(self) -> None:
        self.speaking = False
        self.started_s = self.ended_s = -math.inf
        """Of the last stretch of speech; known 60 ms and 200 ms later. Equal if it was noise."""
        self.known_s = -math.inf  # up to when levels came, or time passed
        self._loud_s = -math.inf  # while speaking: the last end of a level that was not below `_off_dbfs`
        self._rising, self._rose_s = 0, -math.inf  # levels above `_on_dbfs` in a row, and since when
        self._on_dbfs, self._off_dbfs = ON_DBFS, OFF_DBFS
        self._floor = NoiseFloor()

    def level(self, at_s: float, dbfs: float) -> bool | None:
        """The level of the 20 ms that end at `at_s`: True when speech began, False when it ended, else None.

        A time before the last one counts as the last one, and a gap of 200 ms as silence.
        """
        changed = self.passed(at_s - LEVEL_S) if at_s - LEVEL_S > self.known_s + OFF_S else None
        began_s = max(at_s - LEVEL_S, self.known_s)
        self.known_s = at_s = max(at_s, self.known_s)
        if self._floor.level(at_s, dbfs):
            self._adapt()
        if self.speaking:
            if dbfs < self._off_dbfs:
                return self.passed(at_s)
            self._loud_s = at_s
            return None
        self._rising = self._rising + 1 if dbfs > self._on_dbfs else 0
        if self._rising == 1:
            self._rose_s = began_s
        if self._rising < ON_LEVELS:
            return changed
        self.speaking, self.started_s, self._loud_s = True, self._rose_s, at_s
        return True

    def passed(self, now_s: float) -> bool | None:
        """Time passed without levels, as silence would."""
        if now_s > self.known_s + OFF_S:
            self._rising = 0
        self.known_s = max(now_s, self.known_s)
        return self.end() if self.known_s - self._loud_s >= OFF_S - _ROUNDING_S else None

    def end(self) -> bool | None:
        """No more levels come: False if that ended speech."""
        if not self.speaking:
            return None
        self.speaking, self._rising, self.ended_s = False, 0, self._loud_s
        return False

    def _adapt(self) -> None:
        """The noise is known better: what was taken for speech may have been part of it."""
        before, looks = self._off_dbfs, self._floor.looks
        self._on_dbfs = max(ON_DBFS, self._floor.dbfs + ON_ABOVE_FLOOR_DB)
        self._off_dbfs = max(OFF_DBFS, self._floor.dbfs + OFF_ABOVE_FLOOR_DB)
        if self.speaking and self._off_dbfs > before:
            loud = (end_s for _, _, most, end_s in reversed(looks) if most > self._on_dbfs)
            last_s = next(loud, looks[0][-1] - LOOK_LEVELS * LEVEL_S)
            self._loud_s = max(self.started_s, min(self._loud_s, last_s))


@dataclass(slots=True, eq=False)
class _Talk:
    """A turn that is not decided."""

    start_s: float
    end_s: float
    over: _Talk | None  # what the other side was saying when it began
    spoken_s: float = 0.0
    overlap_s: float = 0.0
    closes_s: float = math.inf  # in a pause: what begins after this belongs to another turn

    def kind(self, settled_s: float) -> TurnKind | None:
        """None while it cannot be told. For a turn that is over."""
        if self.over is None:
            return TurnKind.TURN
        other_end_s = settled_s if self.over.closes_s == math.inf else self.over.end_s
        went_on = other_end_s > self.end_s + YIELDS_S + _ROUNDING_S
        if not went_on and settled_s <= self.over.closes_s:
            return None
        if other_end_s - self.start_s < SMALL_OVERLAP_S - _ROUNDING_S:
            return TurnKind.TURN
        if not went_on:
            return TurnKind.INTERRUPTION
        short = self.end_s - self.start_s <= BACKCHANNEL_S + _ROUNDING_S
        return TurnKind.BACKCHANNEL if short else TurnKind.OVERLAP


class _Party:
    """One side up to the settled time, and the begins and ends of its speech after that."""

    def __init__(self, side: Side) -> None:
        self.side, self.voice = side, VoiceActivity()
        self.edges: deque[tuple[float, bool]] = deque()  # when, and whether speech began
        self.since_s: float | None = None  # when the current stretch began
        self.coughs = False  # it is too short to matter to the other side
        self.talk: _Talk | None = None
        self.undecided: deque[_Talk] = deque()

    def heard(self, changed: bool | None) -> None:
        if changed is not None:
            self.edges.append((self.voice.started_s if changed else self.voice.ended_s, changed))

    def pass_to(self, at_s: float) -> None:
        if self.talk is not None and at_s > self.talk.closes_s:
            if self.talk.spoken_s >= LEAST_SPEECH_S - _ROUNDING_S:
                self.undecided.append(self.talk)
            self.talk = None

    def began(self, at_s: float, other: _Party) -> None:
        self.since_s = at_s
        self.coughs = bool(self.edges) and self.edges[0][0] - at_s < LEAST_SPEECH_S - _ROUNDING_S
        if self.talk is None:
            over = other.since_s is not None and other.since_s < at_s and not other.coughs
            self.talk = _Talk(at_s, at_s, other.talk if over else None)
        self.talk.closes_s = math.inf
        if not self.coughs and other.talk is not None and other.since_s is None:
            other.talk.closes_s = min(other.talk.closes_s, at_s)

    def ended(self, at_s: float, other: _Party) -> None:
        assert self.talk is not None and self.since_s is not None
        began_s, self.since_s = self.since_s, None
        if at_s > began_s:  # else it was noise
            self.talk.end_s = at_s
        self.talk.spoken_s += at_s - began_s
        self.talk.closes_s = self.talk.end_s + PAUSE_S - _ROUNDING_S
        if other.talk is None or at_s <= began_s:
            return
        if other.since_s is not None:
            both_s = max(0.0, at_s - max(began_s, other.since_s))
            self.talk.overlap_s += both_s
            other.talk.overlap_s += both_s
        elif not self.coughs and began_s > other.talk.end_s - SMALL_OVERLAP_S + _ROUNDING_S:
            other.talk.closes_s = min(other.talk.closes_s, at_s)  # it waited until this was said

    def decided(self, settled_s: float) -> Iterator[Turn]:
        while self.undecided and (kind := self.undecided[0].kind(settled_s)):
            talk = self.undecided.popleft()
            talk.over = None  # which has one, too: all that was ever said would be kept
            yield Turn(self.side, talk.start_s, talk.end_s, kind, talk.overlap_s)


class Turns:
    """Both sides of a call, in seconds of any one clock. For one thread; a level takes 3 µs."""

    def __init__(self) -> None:
        self._user, self._agent = self._parties = (_Party(Side.USER), _Party(Side.AGENT))
        self._next_look_s = -math.inf

    def level(self, side: Side, at_s: float, dbfs: float) -> list[Turn]:
        """The level of the 20 ms of that side that end at `at_s`; the turns that are decided now."""
        party, other = (self._user, self._agent) if side is Side.USER else (self._agent, self._user)
        party.heard(party.voice.level(at_s, dbfs))
        if other.voice.known_s < at_s - SLACK_S:
            other.heard(other.voice.passed(at_s - SLACK_S))
        return self._look()

    def speaking(self, side: Side) -> bool:
        """As of its last level; not settled."""
        return (self._user if side is Side.USER else self._agent).voice.speaking

    def spoke_s(self, side: Side) -> float:
        """When it was last known to speak, as is known now: noise that was taken for speech is taken back.
        -inf if it never did."""
        voice = (self._user if side is Side.USER else self._agent).voice
        return voice.known_s if voice.speaking else voice.ended_s

    def tick(self, now_s: float) -> list[Turn]:
        """Time passes, whether or not levels come; the turns that are decided now."""
        for party in self._parties:
            party.heard(party.voice.passed(now_s - SLACK_S))
        return self._look()

    def finish(self) -> list[Turn]:
        """The call is over: what is open is decided as it stands. Nothing may come after it."""
        for party in self._parties:
            party.heard(party.voice.end())
        return self._decided(math.inf)

    def _look(self) -> list[Turn]:
        settled_s = min(self._user.voice.known_s, self._agent.voice.known_s) - SETTLED_S
        return self._decided(settled_s) if settled_s >= self._next_look_s else []

    def _decided(self, settled_s: float) -> list[Turn]:
        self._next_look_s = settled_s + LOOK_S
        while ahead := [one for one in self._parties if one.edges and one.edges[0][0] <= settled_s]:
            party = min(ahead, key=lambda one: one.edges[0])  # at the same time, ends go before begins
            other = self._agent if party is self._user else self._user
            at_s, began = party.edges.popleft()
            party.pass_to(at_s)
            other.pass_to(at_s)
            (party.began if began else party.ended)(at_s, other)
        self._user.pass_to(settled_s)
        self._agent.pass_to(settled_s)
        decided = (turn for party in self._parties for turn in party.decided(settled_s))
        return sorted(decided, key=lambda turn: turn.start_s)
