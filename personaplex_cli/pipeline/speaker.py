"""The speaker: PortAudio's callback pulls blocks from the playout buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from personaplex_cli.devices import Device, DeviceStream
from personaplex_cli.errors import PersonaplexError


class Speaker:
    """One output device, opened here; plays silence until there is something to pull."""

    def __init__(self, device: Device, pull: Callable[[int], bytes]) -> None:
        """`pull` gives exactly as many samples of PCM as it is asked for; it is called on PortAudio's
        thread. Raises AudioError when the device cannot be opened."""
        self._pull = pull
        self._stream = DeviceStream("output", device, self._play)

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """Starts playing. `on_failure` is called on PortAudio's thread when the device is lost.
        Raises AudioError."""
        self._stream.start(on_failure)

    def close(self) -> None:
        self._stream.close()

    @property
    def device_flags(self) -> int:
        return self._stream.flags

    def _play(self, buffer: Any, n_samples: int) -> None:
        buffer[:] = self._pull(n_samples)
