"""What the echo canceller does to an echo, and to speech during one, in rooms made of numbers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from echo_room import ROOMS, SHORT, NearEnd, Room, Scene, cleaned, near_end, reduction_db, scene
from ogg_pages import Samples

from personaplex_cli.aec import available, open_canceller

pytestmark = pytest.mark.skipif(not available(), reason="the extra aec is not installed")

LEAST_DB = 30
MOVED_S = 2
"""After the path moved it takes so long until that is reached again."""

DOUBLE_TALK = {
    "80 ms, -6 dB": NearEnd(si_sdr_db=3.0, gain_db=-3.2, cut_share=0.42),
    "80 ms, -12 dB": NearEnd(si_sdr_db=6.0, gain_db=-2.0, cut_share=0.27),
    "80 ms, -6 dB, +50 ppm": NearEnd(si_sdr_db=1.2, gain_db=-4.0, cut_share=0.42),
    "80 ms, -6 dB, saturated": NearEnd(si_sdr_db=2.1, gain_db=-3.4, cut_share=0.45),
}
"""What is left of the near voice, at least: a little less than the engine left when it was chosen."""


@cache
def in_room(room: Room) -> tuple[Scene, Samples]:
    heard = scene(room, SHORT)
    return heard, cleaned(open_canceller().process, heard.capture, heard.reference)


@cache
def without_echo() -> Samples:
    heard = scene(ROOMS[0], SHORT)  # its near voice and noise are those of every room
    return cleaned(open_canceller().process, heard.near, np.zeros_like(heard.reference))


SOME_ROOMS = [room for room in ROOMS if room.name not in ("40 ms, -12 dB", "300 ms, -12 dB")]
"""Without echoes that are as late as others and quieter; scripts/bench_echo.py tries them all."""


@pytest.mark.parametrize("room", SOME_ROOMS, ids=lambda room: room.name)
def test_after_3_s_30_db_of_the_echo_are_gone(room: Room) -> None:
    heard, clean = in_room(room)
    begins_s = SHORT.moves_at + MOVED_S if room.moves else 3
    for part in ((begins_s, SHORT.far_s), (SHORT.quiet_again_at, SHORT.end)):
        assert reduction_db(heard.capture, clean, *part) >= LEAST_DB


@pytest.mark.parametrize(
    "room", [room for room in ROOMS if room.name in DOUBLE_TALK], ids=lambda room: room.name
)
def test_double_talk_leaves_as_much_of_the_near_voice_as_it_did(room: Room) -> None:
    _, clean = in_room(room)
    left = near_end(without_echo(), clean, SHORT.both_at, SHORT.again_at)
    least = DOUBLE_TALK[room.name]
    assert left.si_sdr_db >= least.si_sdr_db
    assert left.gain_db >= least.gain_db
    assert left.cut_share <= least.cut_share


def test_speech_alone_is_left_alone() -> None:
    heard = scene(ROOMS[0], SHORT)
    assert abs(reduction_db(heard.near, without_echo(), SHORT.far_s, SHORT.both_at)) < 1
