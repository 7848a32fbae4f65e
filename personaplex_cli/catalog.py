"""Voices and regions: their names, what the names mean, and what users may write for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from personaplex_cli.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resolved(Generic[T]):
    """What a text stands for."""

    value: T
    note: str | None = None
    """Something to tell the user about how the text was understood."""


@dataclass(frozen=True, slots=True)
class VoiceGroup:
    prefix: str
    style: str
    """"natural" (NAT) or "varied" (VAR)."""
    gender: str
    """"female" (F) or "male" (M)."""
    size: int

    @property
    def title(self) -> str:
        return f"{self.style} {self.gender}"


@dataclass(frozen=True, slots=True)
class Voice:
    name: str
    """As the server knows it, without a suffix."""
    group: VoiceGroup


@dataclass(frozen=True, slots=True)
class Region:
    name: str
    city: str | None
    """None for a region that this program does not know."""
    aliases: tuple[str, ...] = ()


# Names and sizes: docs/protocol.md section 2.
VOICE_GROUPS: Final = (
    VoiceGroup("NATF", "natural", "female", 4),
    VoiceGroup("NATM", "natural", "male", 4),
    VoiceGroup("VARF", "varied", "female", 5),
    VoiceGroup("VARM", "varied", "male", 5),
)

VOICES: Final = tuple(Voice(f"{group.prefix}{n}", group) for group in VOICE_GROUPS for n in range(group.size))

DEFAULT_VOICE: Final = "NATF0"

# The edges of PolarGrid's SDK 0.10.0 (docs/protocol.md names its sources).
REGIONS: Final = (
    Region("yto-01", "Toronto", ("toronto", "yto")),
    Region("yul-01", "Montreal", ("montreal", "yul")),
    Region("yul-02", "Montreal"),
    Region("yvr-02", "Vancouver", ("vancouver", "yvr")),
    Region("nyc-01", "New York", ("new-york", "newyork", "nyc")),
    Region("nyc-02", "New York"),
    Region("was-01", "Washington DC"),
    Region("mia-01", "Miami"),
    Region("chi-01", "Chicago"),
    Region("dfw-01", "Dallas", ("dallas", "dfw")),
    Region("dfw-02", "Dallas"),
    Region("phx-01", "Phoenix"),
    Region("lax-01", "Los Angeles"),
    Region("sfo-01", "San Francisco", ("san-francisco", "sanfrancisco", "sf", "sfo")),
    Region("sfo-03", "San Francisco"),
    Region("sea-01", "Seattle"),
)

DEFAULT_REGION: Final = "yto-01"

AUTO_REGION: Final = "auto"
"""Stands for the region that PolarGrid's router chooses."""

_VOICE_BY_NAME: Final = {voice.name: voice for voice in VOICES}

_REGION_BY_NAME: Final = {name: region for region in REGIONS for name in (region.name, *region.aliases)}

_REGION_FORM: Final = re.compile("[a-z]{3}-[0-9]{2}")


def resolve_voice(text: str) -> Resolved[Voice]:
    """The voice meant by `text`, in any case and with or without `.pt`. Raises UsageError."""
    wanted = text.strip().upper()
    name = wanted.removesuffix(".PT")
    if name not in _VOICE_BY_NAME:
        groups = ", ".join(f"{g.prefix}0 to {g.prefix}{g.size - 1} ({g.title})" for g in VOICE_GROUPS)
        raise UsageError(f"There is no voice {text!r}.", f"Voices: {groups}.")
    note = None if name == wanted else f"The voice is {name}: its name has no .pt here."
    return Resolved(_VOICE_BY_NAME[name], note)


def resolve_region(text: str) -> Resolved[Region]:
    """The region meant by `text`: a name or an alias, in any case. A name that is not in the list but looks
    like one is taken with a note, since edges come and go. Raises UsageError for anything else, also for
    `auto`: nobody is asked here."""
    name = text.strip().lower()
    if name in _REGION_BY_NAME:
        return Resolved(_REGION_BY_NAME[name])
    if is_region_name(name):
        return Resolved(
            Region(name, None), f"The region {name} is not in the list of this version; trying it."
        )
    names = ", ".join(region.name for region in REGIONS)
    raise UsageError(f"There is no region {text!r}.", f"Regions: {names}; {AUTO_REGION} chooses one.")


def is_region_name(text: str) -> bool:
    """Whether `text` looks like the name of a region, known or not."""
    return _REGION_FORM.fullmatch(text) is not None


def is_auto_region(text: str) -> bool:
    """Whether `text` leaves the choice to the router, in any case."""
    return text.strip().lower() == AUTO_REGION
