"""Between a device's own format and the program's: channels and sample rate.

Most devices, or the sound servers before them, take 24 kHz mono. The others are opened in a format of their
own, and their blocks are converted as they come and go, which takes about 20 µs for 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from personaplex_cli.devices.device import ROLE, Device, Kind
from personaplex_cli.errors import AudioError
from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE

_QUALITY: Final = "LQ"
"""The recipe of soxr's with the shortest linear-phase filter. In its streaming mode it gives what it has in
portions of 20 ms (40 ms at 8 kHz); the next better one, MQ, holds 15 to 37 ms more (measured)."""

BLOCK_S: Final[dict[Kind, float]] = {"input": 240 / SAMPLE_RATE, "output": 160 / SAMPLE_RATE}
"""What a device takes and gives at a time: 10 ms and 6.7 ms. A device holds two. Measured on PulseAudio
from the callback to the ear: 20 ms with blocks of 10 ms, 10 ms with 6.7 ms; 5 ms gain nothing more."""

Handler = Callable[[Any, int, float, bool], None]
"""What a stream calls for each block: the buffer to read or to fill, its length in samples for each channel,
the seconds since its first sample was captured (until it will be heard), and whether the host says that
something was lost before it."""


def cannot_be_opened(kind: Kind, device: Device, why: str) -> AudioError:
    """`why` in words safe for a terminal."""
    return AudioError(
        f"The {ROLE[kind]} {device.name!r} cannot be opened: {why}.",
        "Another program may be using it. Choose another device with "
        f"--{kind}-device; personaplex devices lists them.",
    )


class FormatRefused(Exception):
    """A device does not open in a format; says why, in words safe for a terminal."""


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What a stream on a device carries, interleaved, 16 bits each."""

    rate_hz: int = SAMPLE_RATE
    channels: int = 1
    chosen: int | None = None
    """The one channel that is listened to, counted from 0; None for what the device is by itself."""

    @property
    def needs_conversion(self) -> bool:
        return self.rate_hz != SAMPLE_RATE or self.channels != 1


def formats(kind: Kind, device: Device, channel: int | None) -> Iterator[StreamFormat]:
    """In what formats to try a device, the best first. `channel` counts from 1. Raises AudioError."""
    most = device.channels(kind)
    if channel is not None and channel > most:
        has = "one channel" if most == 1 else f"{most} channels"
        raise AudioError(f"{device.name!r} has {has}; there is no channel {channel}.", "See --input-channel.")
    chosen = None if channel is None else channel - 1
    few = 1 if chosen is None else most
    many = most if kind == "input" or most < 2 else 2
    # Stereo at least: there are devices that say they have one channel, and mean two.
    counts = [n for n in dict.fromkeys((few, max(many, few), 2)) if chosen is None or chosen < n]
    for rate_hz in dict.fromkeys((SAMPLE_RATE, device.default_rate_hz, 48_000, 44_100)):
        for channels in counts:
            yield StreamFormat(rate_hz, channels, chosen)


def captured(format: StreamFormat) -> Callable[[Any], bytes]:
    """A function from the blocks of a stream, in order, to PCM."""
    if not format.needs_conversion:
        return bytes
    import numpy as np

    resampler = _resampler(format.rate_hz, SAMPLE_RATE)

    def convert(block: Any) -> bytes:
        samples = np.frombuffer(block, np.int16).reshape(-1, format.channels)
        if format.chosen is not None:
            mono = samples[:, format.chosen]
        elif format.channels == 2:
            mono = (samples.sum(axis=1, dtype=np.int32) >> 1).astype(np.int16)
        else:  # who has more than two has them for different things
            mono = samples[:, 0]
        if resampler is not None:
            mono = resampler.resample_chunk(np.ascontiguousarray(mono))
        return bytes(mono.tobytes())

    return convert


def rendered(format: StreamFormat, pull: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """A function that gives so many samples for each channel of a stream, from the PCM of `pull`."""
    if not format.needs_conversion:
        return pull
    import numpy as np

    resampler = _resampler(SAMPLE_RATE, format.rate_hz)
    ready = bytearray()

    def mono(n_samples: int) -> bytes:
        if resampler is None:
            return pull(n_samples)
        wanted = n_samples * SAMPLE_BYTES
        while len(ready) < wanted:
            missing = (wanted - len(ready)) // SAMPLE_BYTES
            pcm = pull(max(1, missing * SAMPLE_RATE // format.rate_hz))
            ready.extend(resampler.resample_chunk(np.frombuffer(pcm, np.int16)).tobytes())
        taken = bytes(ready[:wanted])
        del ready[:wanted]
        return taken

    def spread(n_samples: int) -> bytes:
        """On the first two channels: the others are behind the listener, or someone else's."""
        block = np.zeros((n_samples, format.channels), np.int16)
        block[:, :2] = np.frombuffer(mono(n_samples), np.int16)[:, np.newaxis]
        return block.tobytes()

    return spread if format.channels > 1 else mono


def _resampler(from_hz: int, to_hz: int) -> Any:
    if from_hz == to_hz:
        return None
    import soxr

    return soxr.ResampleStream(from_hz, to_hz, 1, dtype="int16", quality=_QUALITY)
