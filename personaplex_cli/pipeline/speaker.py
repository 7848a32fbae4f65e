"""The speaker: PortAudio's callback pulls blocks from the playout buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from personaplex_cli.devices import Device, close_stream, open_stream, start_stream
from personaplex_cli.errors import AudioError, PersonaplexError
from personaplex_cli.pcm import SAMPLE_RATE

BLOCK_SAMPLES: Final = SAMPLE_RATE * 10 // 1000


class Speaker:
    """One output device, opened here; plays silence until there is something to pull."""

    def __init__(self, device: Device, pull: Callable[[int], bytes]) -> None:
        """`pull` gives exactly as many samples of PCM as it is asked for; it is called on PortAudio's
        thread. Raises AudioError when the device cannot be opened."""
        self._pull = pull
        self._closing = False
        self._on_failure: Callable[[PersonaplexError], None] | None = None
        self.device_flags = 0
        self._stream = open_stream(
            "output",
            device,
            block_samples=BLOCK_SAMPLES,
            callback=self._callback,
            finished_callback=self._finished,
        )

    def start(self, on_failure: Callable[[PersonaplexError], None]) -> None:
        """Starts playing. `on_failure` is called on PortAudio's thread when the device is lost.
        Raises AudioError."""
        self._on_failure = on_failure
        if not self._stream.active:
            start_stream(self._stream, "output")

    def close(self) -> None:
        self._closing = True
        close_stream(self._stream)

    def _callback(self, outdata: Any, n_samples: int, times: Any, status: Any) -> None:
        if status:
            self.device_flags += 1
        outdata[:] = self._pull(n_samples)

    def _finished(self) -> None:
        """PortAudio's thread: the stream ended. Unless we closed it, the device is gone."""
        if not self._closing and self._on_failure is not None:
            self._on_failure(AudioError("The speaker is gone.", "Connect it again, or choose another one."))
