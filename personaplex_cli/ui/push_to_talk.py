"""One key to talk with: tapped, it switches talking on and off; held down, it talks until it is let go.

A terminal tells when a key is pressed and never when it is let go. A key held down is seen only by its
auto-repeat: further presses, the first after an initial delay, the others in quick succession. By default:
X11 660 ms and 40 ms, GNOME 500 and 30, Windows 500 and 33, macOS 500 and 90 at most, Linux's console 250 and
92. So a press is judged by how long after the one before it comes:

    after              while talking by one press                      while not talking
    less than 0.12 s   auto-repeat, no finger is so quick: held        held: talks
    0.12 to 0.2 s      no key repeats so soon: a second tap, off       a tap: on
    0.2 to 0.7 s       the first repeat or a second tap: as held       a tap: on
    more than 0.7 s    a second tap: off                               a tap: on

While held, every press keeps it held, and talking ends when none has come for 0.2 s. That makes both meanings
of a press between 0.2 and 0.7 s right: a key that is held repeats in time; a second tap switches off, 0.2 s
late. And it mends what was judged wrong: with an initial delay of more than 0.7 s, or a press that switched
off and was held on to, the next repeat says that the key is down. A key that is down talks, and when it is
let go, talking is off.

What cannot be told: a key let go before its first repeat was tapped, so talking stays on.
"""

from __future__ import annotations

from typing import Final

REPEAT_MAX_S: Final = 0.12
"""The slowest usual auto-repeat (92 ms) and some jitter. Quick fingers tap 8 times a second."""

FIRST_REPEAT_MIN_S: Final = 0.2
FIRST_REPEAT_MAX_S: Final = 0.7
"""The usual initial delays, 250 to 660 ms, and some jitter."""

RELEASE_S: Final = 0.2
"""Two of the slowest usual repeats: one may be late."""


class TalkKey:
    """Whether the user talks. Times are seconds on any one clock that does not go back. Not thread-safe."""

    def __init__(self) -> None:
        self._talking = False
        self._held = False
        self._pressed_s = float("-inf")

    @property
    def talking(self) -> bool:
        """As of the last `pressed` or `tick`."""
        return self._talking

    def pressed(self, now_s: float) -> None:
        """The terminal sent the key."""
        self.tick(now_s)
        after_s, self._pressed_s = now_s - self._pressed_s, now_s
        first_repeat = self._talking and FIRST_REPEAT_MIN_S <= after_s <= FIRST_REPEAT_MAX_S
        if self._held or first_repeat or after_s < REPEAT_MAX_S:
            self._talking = self._held = True
        else:
            self._talking = not self._talking

    def tick(self, now_s: float) -> None:
        """Time has passed; to be called a few times in `RELEASE_S` while `talking`."""
        if self._held and now_s - self._pressed_s > RELEASE_S:
            self._talking = self._held = False
