"""What a user can say about echo, and about what else is done to the microphone.

Apart from `echo`, which needs what these options are about.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_BUFFER_MS: Final = 400
"""What --max-buffer is unless it is given. Waiting longer costs a conversation more than a gap does."""


class EchoCancel(StrEnum):
    AUTO = "auto"
    """When the extra is installed, and the output is not known to be headphones."""
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class EchoOptions:
    cancel: EchoCancel = EchoCancel.AUTO
    half_duplex: bool = False
    """No cancellation: the microphone is shut while the agent is heard."""
    noise_suppression: bool = False
    high_pass: bool = False
    gain_control: bool = False

    @property
    def processes(self) -> bool:
        """Whether anything else than echo is to be taken out of the microphone."""
        return self.noise_suppression or self.high_pass or self.gain_control
