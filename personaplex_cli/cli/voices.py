"""`personaplex voices`"""

from __future__ import annotations

from personaplex_cli.catalog import DEFAULT_VOICE, VOICE_GROUPS, VOICES
from personaplex_cli.cli.options import Json
from personaplex_cli.cli.output import print_json, print_table, print_text


def voices(as_json: Json = False) -> None:
    """List the voices.

    \b
    Examples:
      personaplex voices
      personaplex voices --json
      personaplex talk --voice VARM2
    """
    if as_json:
        print_json([{"name": v.name, "style": v.group.style, "gender": v.group.gender} for v in VOICES])
        return
    print_table(
        [(group.title, *_padded([v.name for v in VOICES if v.group is group])) for group in VOICE_GROUPS]
    )
    print_text(f"\nNAT is natural, VAR varied, F female, M male. Without --voice it is {DEFAULT_VOICE}.")


def _padded(names: list[str]) -> list[str]:
    most = max(group.size for group in VOICE_GROUPS)
    return names + [""] * (most - len(names))
