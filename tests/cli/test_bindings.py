from __future__ import annotations

import pytest

from personaplex_cli.cli.bindings import BINDINGS, LINE_ORDER, help_rows, line_of_keys

ALL = {"microphone", "speaker", "device"}


def keys(rows: tuple[tuple[str, str], ...]) -> list[str]:
    return [key for key, _ in rows]


def test_every_key_is_in_the_help_and_in_the_line() -> None:
    written = [binding.key for binding in BINDINGS]
    assert len(set(written)) == len(written)
    assert keys(help_rows(ALL)) == written
    assert sorted(keys(line_of_keys(ALL, space=True))) == sorted(written)
    assert keys(line_of_keys(ALL, space=False)) == list(LINE_ORDER)


def test_the_talk_key_comes_first_where_it_does_something_from_the_start() -> None:
    assert line_of_keys(ALL, space=True)[0] == ("space", "talk")
    assert "space" not in keys(line_of_keys(ALL, space=False))


@pytest.mark.parametrize(
    ("ends", "without"),
    [
        (set(), {"space", "m", "p", "+ -", "l", "d"}),
        ({"microphone", "device"}, {"+ -", "l"}),
        ({"speaker", "device"}, {"space", "m", "p"}),
    ],
)
def test_keys_that_would_do_nothing_are_not_offered(ends: set[str], without: set[str]) -> None:
    written = {binding.key for binding in BINDINGS}
    assert set(keys(help_rows(ends))) == written - without
    assert set(keys(line_of_keys(ends, space=True))) == written - without


def test_how_to_hang_up_type_and_mute_fits_a_narrow_window() -> None:
    assert line_of_keys(ALL, space=False)[:4] == (
        ("m", "mute"),
        ("t", "type"),
        ("q", "hang up"),
        ("?", "help"),
    )
