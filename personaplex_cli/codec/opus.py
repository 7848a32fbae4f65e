"""Opus (RFC 6716): PCM ↔ packets, by libopus."""

from __future__ import annotations

from ctypes import byref, c_int, c_int32, create_string_buffer, string_at
from typing import Final

from personaplex_cli.codec.library import free_with, load
from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE

_APPLICATION_RESTRICTED_LOWDELAY: Final = 2051
_SET_BITRATE: Final = 4002
_SET_COMPLEXITY: Final = 4010
_GET_LOOKAHEAD: Final = 4027
_MAX_PACKET_BYTES: Final = 1275 * 6 + 7
"""More than the largest packet there is: 120 ms in six parts (RFC 6716 section 3.4)."""
_MAX_PACKET_SAMPLES: Final = SAMPLE_RATE * 120 // 1000
"""The longest packet there is."""


BITRATE: Final = 64_000
"""Bits per second. At 64 kbit/s the low-delay mode, at its lowest complexity, is at least as near to the
speech that goes in as libopus' mode for voice at its own choice of 17 to 27 kbit/s: the distance of the log
spectra is 2.4 dB against 3.6 for one clip, 2.7 against 2.8 for another."""

COMPLEXITY: Final = 0
"""Of 10; at this bit rate the others are no nearer, and take up to three times as long."""


class OpusEncoder:
    """24 kHz mono PCM → packets, in the low-delay mode (RFC 6716 section 2.1.2 calls it CELT-only): it looks
    ahead 2.5 ms instead of 6.5 ms, and takes a sixth of the time that the mode for voice takes.

    Discontinuous transmission stays off: the server is driven by our packets, silence included.
    Not thread-safe.
    """

    def __init__(self) -> None:
        self._opus = load().opus
        error = c_int()
        application = _APPLICATION_RESTRICTED_LOWDELAY
        self._state = self._opus.opus_encoder_create(SAMPLE_RATE, 1, application, byref(error))
        if error.value != 0:
            raise MemoryError("opus_encoder_create")
        free_with(self, self._opus.opus_encoder_destroy, self._state)
        self._opus.opus_encoder_ctl(self._state, _SET_BITRATE, c_int32(BITRATE))
        self._opus.opus_encoder_ctl(self._state, _SET_COMPLEXITY, c_int32(COMPLEXITY))
        self._packet = create_string_buffer(_MAX_PACKET_BYTES)

    @property
    def lookahead_samples(self) -> int:
        """The encoder's delay in samples at 24 kHz."""
        value = c_int32()
        self._opus.opus_encoder_ctl(self._state, _GET_LOOKAHEAD, byref(value))
        return value.value

    def encode(self, pcm: bytes) -> bytes:
        """One packet. Raises ValueError unless `pcm` lasts 2.5, 5, 10, 20, 40, 60, 80, 100 or 120 ms."""
        n_samples, half = divmod(len(pcm), SAMPLE_BYTES)
        if half:
            raise ValueError(f"half a sample ({len(pcm)} bytes)")
        n_bytes = self._opus.opus_encode(self._state, pcm, n_samples, self._packet, _MAX_PACKET_BYTES)
        if n_bytes < 0:
            raise ValueError(f"libopus: {self._opus.opus_strerror(n_bytes).decode()} ({len(pcm)} bytes)")
        return string_at(self._packet, n_bytes)


class OpusDecoder:
    """Packets of any legal duration, mono or stereo → 24 kHz mono PCM. Not thread-safe."""

    def __init__(self) -> None:
        self._opus = load().opus
        error = c_int()
        self._state = self._opus.opus_decoder_create(SAMPLE_RATE, 1, byref(error))
        if error.value != 0:
            raise MemoryError("opus_decoder_create")
        free_with(self, self._opus.opus_decoder_destroy, self._state)
        self._pcm = create_string_buffer(_MAX_PACKET_SAMPLES * SAMPLE_BYTES)

    def decode(self, packet: bytes) -> bytes | None:
        """The packet's PCM, or None if it is not a valid packet."""
        if not packet:  # libopus would take it for a lost packet
            return None
        n_samples = self._opus.opus_decode(
            self._state, packet, len(packet), self._pcm, _MAX_PACKET_SAMPLES, 0
        )
        return None if n_samples < 0 else string_at(self._pcm, n_samples * SAMPLE_BYTES)

    def conceal(self, n_samples: int) -> bytes:
        """PCM in place of lost packets: `n_samples` is a multiple of 60 (2.5 ms), at most 2,880."""
        made = self._opus.opus_decode(self._state, None, 0, self._pcm, n_samples, 0)
        if made < 0:
            raise ValueError(f"libopus: {self._opus.opus_strerror(made).decode()} ({n_samples} samples)")
        return string_at(self._pcm, made * SAMPLE_BYTES)
