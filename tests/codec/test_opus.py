"""PCM ↔ packets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ogg_pages import likeness, packet_ms, rms_dbfs, to_pcm, to_samples

from personaplex_cli.codec import opus
from personaplex_cli.codec.opus import OpusDecoder, OpusEncoder
from personaplex_cli.pcm import PACKET_BYTES, SAMPLE_RATE, silence

EXPLORE = settings(derandomize=True, deadline=None, max_examples=50)
DURATIONS_MS = [2.5, 5, 10, 20, 40, 60, 80, 100, 120]
BYTES_PER_MS = 48
TONE = 0.3 * np.sin(2 * np.pi * 220 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
TONE_PCM = to_pcm(TONE)


def test_the_encoder_looks_ahead_2_5_ms() -> None:
    assert OpusEncoder().lookahead_samples == 60


@pytest.mark.parametrize("duration_ms", DURATIONS_MS)
def test_every_legal_duration(duration_ms: float) -> None:
    n_bytes = round(duration_ms * BYTES_PER_MS)
    encoder, decoder = OpusEncoder(), OpusDecoder()
    heard = b""
    for at in range(0, len(TONE_PCM) - n_bytes + 1, n_bytes):
        packet = encoder.encode(TONE_PCM[at : at + n_bytes])
        assert packet_ms(packet) == duration_ms
        pcm = decoder.decode(packet)
        assert pcm is not None and len(pcm) == n_bytes
        heard += pcm
    alike, at_s = likeness(TONE[2400:19200], to_samples(heard)[2400:])
    assert alike > 0.95


@pytest.mark.parametrize(
    "n_bytes", [0, 1, 2, PACKET_BYTES - 2, PACKET_BYTES - 1, PACKET_BYTES + 1, 3 * 960 + 2, 96_000]
)
def test_other_sizes_are_refused(n_bytes: int) -> None:
    encoder = OpusEncoder()
    with pytest.raises(ValueError, match=f"{n_bytes} bytes"):
        encoder.encode(bytes(n_bytes))
    assert encoder.encode(bytes(PACKET_BYTES))


def test_silence_is_encoded_like_anything_else() -> None:
    """The server is driven by our packets: none of the 1 or 2 bytes that stand for "nothing to send"."""
    encoder = OpusEncoder()
    packets = [encoder.encode(silence(480)) for _ in range(250)]
    assert min(map(len, packets)) > 2


def test_every_configuration_mono_and_stereo() -> None:
    """The packet's parts are empty, which is legal: it was lost on the way to the one who sends it on."""
    decoder = OpusDecoder()
    for toc in range(0, 256, 4):  # 32 configurations, mono and stereo
        for packet in (
            bytes((toc,)),
            bytes((toc | 1,)),
            bytes((toc | 2, 0)),
            bytes((toc | 3, 1)),
            bytes((toc | 3, 2)),
        ):
            pcm = decoder.decode(packet)
            assert pcm is not None
            assert len(pcm) == packet_ms(packet) * BYTES_PER_MS


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff", id="no count of parts"),
        pytest.param(b"\xff\x00", id="no parts"),
        pytest.param(b"\x1b\x03", id="three parts of 60 ms"),
        pytest.param(b"\xe3\x31", id="49 parts of 2.5 ms"),
        pytest.param(b"\xfd\x00", id="two equal parts of half a byte"),
        pytest.param(b"\xfe\x09\x00", id="a part longer than the packet"),
        pytest.param(b"\xfc" + bytes(1276), id="a part longer than there is"),
    ],
)
def test_what_is_no_packet(packet: bytes) -> None:
    decoder = OpusDecoder()
    assert decoder.decode(packet) is None
    pcm = decoder.decode(OpusEncoder().encode(bytes(PACKET_BYTES)))
    assert pcm is not None and len(pcm) == PACKET_BYTES


@EXPLORE
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_arbitrary_packets_do_not_raise(packets: list[bytes]) -> None:
    decoder = OpusDecoder()
    for packet in packets:
        pcm = decoder.decode(packet)
        if pcm is not None:
            assert len(pcm) % (2.5 * BYTES_PER_MS) == 0
            assert 0 < len(pcm) <= 120 * BYTES_PER_MS


@pytest.mark.parametrize("duration_ms", DURATIONS_MS)
def test_concealment_goes_on_with_the_sound(duration_ms: float) -> None:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    for at in range(0, 20 * PACKET_BYTES, PACKET_BYTES):
        decoder.decode(encoder.encode(TONE_PCM[at : at + PACKET_BYTES]))
    concealed = decoder.conceal(round(duration_ms * SAMPLE_RATE / 1000))
    assert len(concealed) == duration_ms * BYTES_PER_MS
    assert rms_dbfs(to_samples(concealed)) > rms_dbfs(TONE) - 12


@pytest.mark.parametrize("n_samples", [0, -60, 1, 61])
def test_concealment_comes_in_parts_of_2_5_ms(n_samples: int) -> None:
    with pytest.raises(ValueError, match=f"{n_samples} samples"):
        OpusDecoder().conceal(n_samples)


@pytest.mark.parametrize("what", [OpusEncoder, OpusDecoder])
def test_a_failure_of_libopus_is_an_error(monkeypatch: pytest.MonkeyPatch, what: type) -> None:
    def create(*arguments: Any) -> None:
        arguments[-1]._obj.value = -7

    fake = SimpleNamespace(opus_encoder_create=create, opus_decoder_create=create)
    monkeypatch.setattr(opus, "load", lambda: SimpleNamespace(opus=fake))
    with pytest.raises(MemoryError):
        what()
