"""`personaplex devices`"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from personaplex_cli.cli.options import Json
from personaplex_cli.cli.output import print_json, print_note, print_table

if TYPE_CHECKING:
    from personaplex_cli.devices.device import Device


def devices(as_json: Json = False) -> None:
    """List the sound devices.

    \b
    Examples:
      personaplex devices
      personaplex devices --json
      personaplex talk --input-device 3 --output-device headphones
    """
    from personaplex_cli.devices.listing import NO_DEVICES_HINT, list_devices

    found = list_devices()
    if as_json:
        print_json([asdict(device) for device in found])
    elif found:
        heading = ("", "name", "host API", "in", "out", "Hz", "")
        print_table([heading, *map(_row, found)])
    else:
        print_note(f"There are no sound devices. {' '.join(NO_DEVICES_HINT.splitlines())}")


def _row(device: Device) -> tuple[str, ...]:
    defaults = [kind for kind in ("input", "output") if device.is_default(kind)]
    return (
        f"{device.index:>3}",
        device.name,
        device.host_api,
        str(device.input_channels),
        str(device.output_channels),
        str(device.default_rate_hz),
        f"default {' and '.join(defaults)}" if defaults else "",
    )
