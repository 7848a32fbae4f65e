"""Echo cancellation of single blocks: WebRTC's AEC3, as LiveKit's wheel has it, behind two methods.

The extra `personaplex-cli[aec]` brings it. It is loaded when a canceller is opened: that takes 0.3 s.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from functools import partial
from typing import Final, Protocol

from personaplex_cli.errors import MissingLibraryError
from personaplex_cli.pcm import SAMPLE_BYTES, SAMPLE_RATE

BLOCK_SAMPLES: Final = SAMPLE_RATE // 100
"""10 ms, which WebRTC's audio processing works on."""

BLOCK_BYTES: Final = BLOCK_SAMPLES * SAMPLE_BYTES

DELAY_HINT_MS: Final = 0
"""The engine finds the delay by itself. A hint that is too large costs up to 18 dB in the first seconds."""

INSTALL_HINT: Final = "Install it: pip install 'personaplex-cli[aec]'"


class EchoCanceller(Protocol):
    """For one thread at a time."""

    def process(self, capture: bytes, reference: bytes) -> bytes:
        """10 ms of the microphone without the echo of `reference`: what was played a little earlier, never
        later, than its echo was captured. What comes out is 9 ms older than what goes in (15 ms with noise
        suppression). May raise anything."""

    def reset(self) -> None:
        """Forgets the room. After a jump between capture and reference it takes 1 s until 30 dB of the echo
        are gone again; left to itself the engine takes up to 3 s, and lets more through meanwhile."""


def available() -> bool:
    """Whether the extra is installed. Loads nothing of it."""
    try:
        return importlib.util.find_spec("livekit.rtc") is not None
    except ModuleNotFoundError:  # not even `livekit`, which other packages also put things in
        return False


def open_canceller(
    *,
    cancel_echo: bool = True,
    noise_suppression: bool = False,
    high_pass: bool = False,
    gain_control: bool = False,
) -> EchoCanceller:
    """Takes 0.3 s the first time. Raises MissingLibraryError.

    The engine puts its high-pass (60 Hz: -44 dB, 100 Hz: -0.5 dB) before the echo canceller in any case.
    """
    try:
        return _LiveKit(
            echo_cancellation=cancel_echo,
            noise_suppression=noise_suppression,
            high_pass_filter=high_pass,
            auto_gain_control=gain_control,
        )
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        message = f"Echo cancellation {'is not installed' if missing else 'cannot be loaded'}."
        raise MissingLibraryError(message, INSTALL_HINT) from None


class _LiveKit:
    def __init__(self, **switches: bool) -> None:
        """Raises ImportError, also when the native library of an installed wheel cannot be loaded."""
        logging.getLogger("livekit").addHandler(logging.NullHandler())  # it would write across the screen
        from livekit.rtc import AudioFrame
        from livekit.rtc.apm import AudioProcessingModule

        self._wrap = AudioFrame
        self._new_module = partial(AudioProcessingModule, **switches)
        self.reset()

    def reset(self) -> None:
        """Another one takes 1 ms; the old one is freed with its last reference."""
        self._module = self._new_module()
        self._module.set_stream_delay_ms(DELAY_HINT_MS)

    def process(self, capture: bytes, reference: bytes) -> bytes:
        captured, played = (
            self._wrap(bytearray(pcm), SAMPLE_RATE, 1, BLOCK_SAMPLES) for pcm in (capture, reference)
        )
        self._module.process_reverse_stream(played)
        self._module.process_stream(captured)  # in place
        return captured.data.tobytes()


_HEADPHONES: Final = re.compile(
    r"""head-?\s?(phone|set) | ear-?\s?(phone|piece|set|bud|pod) | airpod | \bin-ear
    | buds?\d*\b                                # Galaxy Buds2, FreeBuds
    | \b(wh|wf)-\d{3,4}xm\d | quietcomfort | \bqc\s?\d\d | \bjabra\s(elite|evolve)
    | kopfh(ö|oe?)rer | ohrh(ö|oe?)rer
    | casque | [ée]couteur
    | auricular | \bcascos | aud[ií]fonos | fones?\sde\souvido | auscultador
    | cuffi[ae]\b | auricolar
    | koptelefoon | hoofdtelefoon | oordopjes
    | hörlur | høretelefon | hodetelefon | kuuloke
    | słuchawki | sluchátka | slúchad | fejhallgató | kulaklık | căști
    | наушник | навушник | ακουστικά
    | ヘッド(ホン|フォン|セット) | イヤ(ホン|フォン) | 耳[机機] | 헤드(폰|셋) | 이어폰
    """,
    re.IGNORECASE | re.VERBOSE,
)

_LOUDSPEAKER: Final = re.compile(
    r"speaker|lautsprecher|haut-?parleur|altavo[zc]|altoparlant|alto-falante|luidspreker", re.IGNORECASE
)


def is_headphones(device_name: str) -> bool:
    """Whether an output's name says that only the user hears it. "Speakers / Headphones", one socket for
    both, does not. Many names say nothing ("USB Audio"), so False means little."""
    return bool(_HEADPHONES.search(device_name)) and not _LOUDSPEAKER.search(device_name)
