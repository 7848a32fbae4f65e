"""`personaplex regions`"""

from __future__ import annotations

from personaplex_cli.catalog import DEFAULT_REGION, REGIONS
from personaplex_cli.cli.options import Json
from personaplex_cli.cli.output import print_json, print_table, print_text


def regions(as_json: Json = False) -> None:
    """List the regions and what else they may be called.

    \b
    Examples:
      personaplex regions
      personaplex regions --json
      personaplex talk --region montreal
    """
    if as_json:
        print_json([{"name": r.name, "city": r.city, "aliases": r.aliases} for r in REGIONS])
        return
    print_table([(region.name, region.city or "", ", ".join(region.aliases)) for region in REGIONS])
    print_text(f"\nWithout --region it is {DEFAULT_REGION}. A name that is not listed is tried as it is.")
