from __future__ import annotations

import pytest

from personaplex_cli.catalog import (
    DEFAULT_REGION,
    DEFAULT_VOICE,
    REGIONS,
    VOICES,
    resolve_region,
    resolve_voice,
)
from personaplex_cli.errors import ExitCode, UsageError


def test_there_are_18_voices_in_four_groups() -> None:
    sizes: dict[str, int] = {}
    for voice in VOICES:
        sizes[voice.group.title] = sizes.get(voice.group.title, 0) + 1
    assert sizes == {"natural female": 4, "natural male": 4, "varied female": 5, "varied male": 5}
    assert len({voice.name for voice in VOICES}) == 18


def test_the_defaults_are_in_the_catalog() -> None:
    assert resolve_voice(DEFAULT_VOICE).value.name == DEFAULT_VOICE
    assert resolve_region(DEFAULT_REGION).value.city == "Toronto"


@pytest.mark.parametrize("text", ["NATF0", "natf0", " NatF0 "])
def test_a_voice_is_found_in_any_case(text: str) -> None:
    resolved = resolve_voice(text)
    assert (resolved.value.name, resolved.note) == ("NATF0", None)


@pytest.mark.parametrize("text", ["VARM4.pt", "varm4.PT"])
def test_the_suffix_pt_is_dropped_with_a_note(text: str) -> None:
    resolved = resolve_voice(text)
    assert resolved.value.name == "VARM4"
    assert resolved.note is not None and "VARM4" in resolved.note and ".pt" in resolved.note


@pytest.mark.parametrize(
    "text", ["", "NATF4", "NATF", "NATF0.pt.pt", "NATF٠", "\x1b[31mNATF0", "NATF0 NATM0"]
)
def test_an_unknown_voice_lists_the_voices(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_voice(text)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "\x1b" not in str(caught.value)
    for part in ("NATF0 to NATF3", "NATM0 to NATM3", "VARF0 to VARF4", "VARM0 to VARM4"):
        assert part in (caught.value.hint or "")


def test_no_two_regions_share_a_name_or_alias() -> None:
    names = [name for region in REGIONS for name in (region.name, *region.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("toronto", "yto-01"),
        ("YTO", "yto-01"),
        ("Vancouver", "yvr-02"),
        ("yvr", "yvr-02"),
        ("montreal", "yul-01"),
        ("yul", "yul-01"),
        ("YUL-02", "yul-02"),
        ("new-york", "nyc-01"),
        ("newyork", "nyc-01"),
        ("nyc", "nyc-01"),
        ("dallas", "dfw-01"),
        ("dfw", "dfw-01"),
        ("san-francisco", "sfo-01"),
        ("sanfrancisco", "sfo-01"),
        ("sf", "sfo-01"),
        (" sfo ", "sfo-01"),
        ("sfo-03", "sfo-03"),
    ],
)
def test_regions_and_their_aliases(text: str, name: str) -> None:
    resolved = resolve_region(text)
    assert (resolved.value.name, resolved.note) == (name, None)


def test_an_unlisted_region_of_the_usual_form_is_taken_with_a_note() -> None:
    resolved = resolve_region("AMS-07")
    assert (resolved.value.name, resolved.value.city) == ("ams-07", None)
    assert resolved.note is not None and "ams-07" in resolved.note


@pytest.mark.parametrize("text", ["", "paris", "ams", "ams-7", "ams-٠٧", "evil.example/yto-01", "yto-01\nx"])
def test_any_other_region_lists_the_regions(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_region(text)
    assert "yto-01, yul-01" in (caught.value.hint or "")
