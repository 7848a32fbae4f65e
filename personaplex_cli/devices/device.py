"""What a sound device is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["input", "output"]

ROLE: Final = {"input": "microphone", "output": "speaker"}


@dataclass(frozen=True, slots=True)
class Device:
    """A sound device as it is listed. Its texts are safe for a terminal."""

    index: int
    """The number it has in the list; may change when devices come and go."""
    name: str
    host_api: str
    input_channels: int
    output_channels: int
    default_rate_hz: int
    is_default_input: bool
    is_default_output: bool
    pulse_name: str = ""
    """What PulseAudio's own programs call it; empty for a device of PortAudio."""

    def channels(self, kind: Kind) -> int:
        return self.input_channels if kind == "input" else self.output_channels

    def is_default(self, kind: Kind) -> bool:
        return self.is_default_input if kind == "input" else self.is_default_output

    @property
    def label(self) -> str:
        return f"{self.name}, {self.host_api}"
