"""Between the callbacks of streams, one after the other, and whoever exchanges PCM with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from personaplex_cli.devices.device import Kind
from personaplex_cli.devices.format import Handler, StreamFormat, captured, rendered
from personaplex_cli.devices.timing import CallbackTiming
from personaplex_cli.pcm import SAMPLE_RATE


class Blocks:
    """Makes handlers, and lets only the current one through: a device that hung may wake up when another has
    taken its place."""

    def __init__(self, kind: Kind, exchange: Callable[..., Any]) -> None:
        """`exchange`: see `DeviceStream`."""
        self._kind = kind
        self._exchange = exchange
        self.current: Handler | None = None
        self.timing = CallbackTiming()
        self.failed = False
        """`exchange` has raised: it is not called any more."""
        self.on_failure: Callable[[Exception], None] = lambda error: None

    def handler(self, format: StreamFormat) -> Handler:
        """For one stream; it does nothing until it is made the current one."""
        return self._input_handler(format) if self._kind == "input" else self._output_handler(format)

    def fail(self, error: Exception) -> None:
        """A bug: the call must not go on, paid and unheard. Any thread."""
        self.failed = True
        self.current = None
        self.on_failure(error)

    def _input_handler(self, format: StreamFormat) -> Handler:
        convert = captured(format)

        def take(buffer: Any, n_samples: int, age_s: float, flagged: bool) -> None:
            if self.current is not take:
                return
            now_s = time.monotonic()
            self.timing.called(now_s, n_samples / format.rate_hz, flagged)
            try:
                if pcm := convert(buffer):
                    self._exchange(pcm, now_s - age_s)
            except Exception as error:
                self.fail(error)

        return take

    def _output_handler(self, format: StreamFormat) -> Handler:
        heard_s = 0.0

        def pull(n_samples: int) -> bytes:
            nonlocal heard_s
            at_s = heard_s
            heard_s += n_samples / SAMPLE_RATE
            pcm: bytes = self._exchange(n_samples, at_s)
            return pcm

        convert = rendered(format, pull)

        def give(buffer: Any, n_samples: int, ahead_s: float, flagged: bool) -> None:
            nonlocal heard_s
            if self.current is not give:
                buffer[:] = bytes(len(buffer))
                return
            now_s = time.monotonic()
            self.timing.called(now_s, n_samples / format.rate_hz, flagged)
            heard_s = now_s + ahead_s
            try:
                buffer[:] = convert(n_samples)
            except Exception as error:
                buffer[:] = bytes(len(buffer))
                self.fail(error)

        return give
