"""What the Tab key offers for the value of an option, beside what Typer knows from enumerations."""

from __future__ import annotations

from personaplex_cli.catalog import AUTO_REGION, REGIONS, VOICES


def voice_names() -> list[tuple[str, str]]:
    """Each voice and what it is like. Typer leaves out what does not begin with the text typed so far."""
    return [(voice.name, voice.group.title) for voice in VOICES]


def region_names() -> list[tuple[str, str]]:
    """Each region and its city, and the word that leaves the choice to the router."""
    return [
        *((region.name, region.city or "") for region in REGIONS),
        (AUTO_REGION, "the router chooses"),
    ]
