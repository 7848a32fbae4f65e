"""What the Tab key offers for the value of an option, beside what Typer knows from enumerations."""

from __future__ import annotations

import os
from typing import Final

from personaplex_cli.catalog import AUTO_REGION, REGIONS, VOICES

_REQUEST: Final = "_PERSONAPLEX_COMPLETE"
"""Set by the scripts that Typer makes for shells; its name follows from the program's."""


def keep_texts_on_one_line() -> None:
    """When a shell asks. Typer would wrap what it says of an option at the terminal's width, and fish would
    take the second line for another thing to offer."""
    if _REQUEST in os.environ:
        os.environ["COLUMNS"] = "10000"


def voice_names() -> list[tuple[str, str]]:
    """Each voice and what it is like. Typer leaves out what does not begin with the text typed so far."""
    return [(voice.name, voice.group.title) for voice in VOICES]


def region_names() -> list[tuple[str, str]]:
    """Each region and its city, and the word that leaves the choice to the router."""
    return [
        *((region.name, region.city or "") for region in REGIONS),
        (AUTO_REGION, "the router chooses"),
    ]
