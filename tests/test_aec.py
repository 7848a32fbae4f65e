"""The echo canceller's engine: what it takes and gives, and what is said without it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from echo_room import BLOCK, SHORT, Room, cleaned, noise, reduction_db, scene, voice
from ogg_pages import RATE, Samples

from personaplex_cli import aec
from personaplex_cli.errors import MissingLibraryError

needs_engine = pytest.mark.skipif(not aec.available(), reason="the extra aec is not installed")


def tone(hz: float) -> Samples:
    samples = 0.1 * np.sin(2 * np.pi * hz * np.arange(3 * RATE) / RATE)
    return samples.astype(np.float32)


def loss_db(engine: aec.EchoCanceller, samples: Samples) -> float:
    """Of what is captured while nothing is played, after a second."""
    return reduction_db(samples, cleaned(engine.process, samples, np.zeros_like(samples)), 1, 3)


@needs_engine
def test_it_gives_as_much_as_it_takes() -> None:
    block = bytes(aec.BLOCK_BYTES)
    assert len(aec.open_canceller().process(block, block)) == aec.BLOCK_BYTES == 2 * BLOCK


@needs_engine
def test_what_it_is_given_stays_as_it_is() -> None:
    loud = np.full(BLOCK, 1000, "<i2").tobytes()
    kept = bytes(bytearray(loud))
    aec.open_canceller().process(loud, loud)
    assert loud == kept


@needs_engine
def test_speech_arrives_9_ms_later_and_as_loud() -> None:
    near = voice("near", -24)[: 4 * RATE]
    clean = cleaned(aec.open_canceller().process, near, np.zeros_like(near))
    likeness = [float(np.dot(near[: clean.size - late], clean[late:])) for late in range(480)]
    assert int(np.argmax(likeness)) == pytest.approx(0.0093 * RATE, abs=24)
    assert abs(reduction_db(near, clean, 0, 4)) < 1


@needs_engine
def test_noise_suppression_is_off_unless_chosen() -> None:
    hiss = noise(3 * RATE, -50)
    assert loss_db(aec.open_canceller(), hiss) < 3
    assert loss_db(aec.open_canceller(noise_suppression=True), hiss) > 8


@needs_engine
def test_the_high_pass_is_a_switch_only_without_the_canceller() -> None:
    hum = tone(50)
    assert abs(loss_db(aec.open_canceller(cancel_echo=False), hum)) < 1
    assert loss_db(aec.open_canceller(cancel_echo=False, high_pass=True), hum) > 20
    assert loss_db(aec.open_canceller(), hum) > 20


@needs_engine
def test_gain_control_is_off_unless_chosen() -> None:
    quiet = voice("near", -45)[: 3 * RATE]
    assert abs(loss_db(aec.open_canceller(), quiet)) < 1.5
    assert loss_db(aec.open_canceller(gain_control=True), quiet) < -3


@needs_engine
def test_after_a_reset_it_learns_another_room() -> None:
    engine = aec.open_canceller()
    for room in (Room("one"), Room("another", delay_ms=30)):
        heard = scene(room, SHORT)
        part = slice(0, 3 * RATE)
        clean = cleaned(engine.process, heard.capture[part], heard.reference[part])
        assert reduction_db(heard.capture, clean, 1, 3) > 25
        engine.reset()


def test_what_is_not_installed_is_said_without_loading_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget(monkeypatch)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    assert not aec.available()
    with pytest.raises(MissingLibraryError, match="not installed") as caught:
        aec.open_canceller()
    assert caught.value.hint == "Install it: pip install 'personaplex-cli[aec]'"


def test_a_wheel_that_cannot_be_loaded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aec, "_LiveKit", _raises(ImportError("failed to load liblivekit_ffi.so")))
    with pytest.raises(MissingLibraryError, match="cannot be loaded"):
        aec.open_canceller()


@needs_engine
def test_asking_whether_it_is_installed_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget(monkeypatch)
    assert aec.available()
    assert "livekit.rtc" not in sys.modules


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "livekit"]:
        monkeypatch.delitem(sys.modules, name)


def _raises(error: Exception) -> Callable[..., None]:
    def fail(**_: bool) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "name",
    [
        "Headphones (Realtek(R) Audio)",
        "External Headphones",
        "Headset (WH-1000XM4 Stereo)",
        "WF-1000XM5",
        "Anna's AirPods Pro",
        "Galaxy Buds2 Pro (1F2A)",
        "HUAWEI FreeBuds 4i",
        "Head-set earphone",
        "EarPods",
        "Bose QC 35 II",
        "Bose QuietComfort Ultra",
        "Jabra Evolve2 65",
        "Kopfhörer (High Definition Audio)",
        "KOPFHOERER",
        "Casque (Périphérique High Definition Audio)",
        "Écouteurs",
        "Auriculares (Realtek)",
        "Cuffie (Realtek)",
        "Fones de ouvido",
        "Koptelefoon",
        "Hörlurar",
        "Słuchawki (Realtek)",
        "Наушники",
        "ヘッドホン",
        "耳机 (Realtek)",
        "헤드폰",
    ],
)
def test_headphones_by_name(name: str) -> None:
    assert aec.is_headphones(name)


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "pulse",
        "Speakers (Realtek(R) Audio)",
        "Speakers / Headphones (Realtek Audio)",
        "Lautsprecher/Kopfhörer (Realtek)",
        "MacBook Pro Speakers",
        "HomePod",
        "Kitchen Home Pod",
        "USB Audio Device",
        "HDA Intel PCH: ALC257 Analog (hw:0,0)",
        "LG HDR 4K",
        "Jabra SPEAK 510",
        "Buddy's monitor",
        "",
    ],
)
def test_what_others_hear_too_or_nobody_knows(name: str) -> None:
    assert not aec.is_headphones(name)
