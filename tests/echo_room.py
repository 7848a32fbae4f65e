"""A room made of numbers: a loudspeaker, a microphone, two voices, and how much of the echo is left.

Both voices are espeak-ng's (scripts/make_fixtures.sh). The echo is the far voice through a reverberant
impulse response; the microphone also hears the near voice and noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr
from ogg_pages import RATE, Samples

FAR_DBFS: Final = -20.0
NEAR_DBFS: Final = -24.0
NOISE_DBFS: Final = -62.0
DECAY_S: Final = 0.18
"""Until the reverberation is 60 dB down: a furnished office."""
BAND_HZ: Final = (150, 9000)
"""What a small loudspeaker gives out."""
SATURATION: Final = 0.4
"""Where the overdriven loudspeaker bends (tanh): 12 dB above the far voice's RMS, 7 dB below its peaks. Of
what it gives out, 17 % (-15.5 dB) is distortion."""
BLOCK: Final = RATE // 100

_CLIPS: Final = Path(__file__).parent / "fixtures" / "echo"

Process = Callable[[bytes, bytes], bytes]
"""10 ms of capture and of reference → 10 ms without the echo."""


@dataclass(frozen=True)
class Room:
    """A path from the loudspeaker to the microphone."""

    name: str
    delay_ms: int = 80
    gain_db: float = -6
    """Of the echo against the far voice, in RMS."""
    drift_ppm: float = 0
    """How much faster the loudspeaker's clock runs than the microphone's."""
    saturates: bool = False
    moves: bool = False
    """In the middle of the far voice's first part the path becomes another one, 40 ms longer."""


@dataclass(frozen=True)
class Schedule:
    """Who speaks when: the far voice, the near one, both, the far one again."""

    far_s: float
    near_s: float
    both_s: float
    again_s: float

    @property
    def both_at(self) -> float:
        return self.far_s + self.near_s

    @property
    def again_at(self) -> float:
        return self.both_at + self.both_s

    @property
    def quiet_again_at(self) -> float:
        """The near voice's last sound has come out of the engine, which delays it by 9 to 15 ms."""
        return self.again_at + 0.1

    @property
    def moves_at(self) -> float:
        return self.far_s / 2

    @property
    def end(self) -> float:
        return self.again_at + self.again_s


SHORT: Final = Schedule(far_s=8, near_s=1, both_s=4, again_s=3)
LONG: Final = Schedule(far_s=18, near_s=10, both_s=17, again_s=15)

ROOMS: Final = (
    Room("40 ms, -6 dB", delay_ms=40),
    Room("40 ms, -12 dB", delay_ms=40, gain_db=-12),
    Room("80 ms, -6 dB"),
    Room("80 ms, -12 dB", gain_db=-12),
    Room("150 ms, -6 dB", delay_ms=150),
    Room("300 ms, -6 dB", delay_ms=300),
    Room("300 ms, -12 dB", delay_ms=300, gain_db=-12),
    Room("80 ms, -6 dB, +50 ppm", drift_ppm=50),
    Room("80 ms, -6 dB, -50 ppm", drift_ppm=-50),
    Room("80 ms, -6 dB, saturated", saturates=True),
    Room("80 ms, -6 dB, moves", moves=True),
)


@dataclass(frozen=True)
class Scene:
    """What was played and what the microphone heard of it, of equal length, from -1 to 1."""

    schedule: Schedule
    reference: Samples
    capture: Samples
    near: Samples
    """The capture without the echo."""


def scene(room: Room, schedule: Schedule, seed: int = 1) -> Scene:
    n_samples = round(schedule.end * RATE)
    far = loop(voice("far", FAR_DBFS), n_samples)
    far[at(schedule.far_s) : at(schedule.both_at)] = 0
    near = loop(voice("near", NEAR_DBFS), n_samples)
    near[: at(schedule.far_s)] = 0
    near[at(schedule.again_at) :] = 0
    heard = near + noise(n_samples, NOISE_DBFS, seed)
    return Scene(schedule, far, heard + echo(far, room, schedule, seed), heard)


def echo(far: Samples, room: Room, schedule: Schedule, seed: int = 1) -> Samples:
    """What of `far` comes back at the microphone."""
    played = np.tanh(far / SATURATION).astype(np.float32) * SATURATION if room.saturates else far
    if room.drift_ppm:
        played = soxr.resample(played, RATE * (1 + room.drift_ppm * 1e-6), RATE, "VHQ")
        played = np.pad(played, (0, max(0, far.size - played.size)))[: far.size]
    back = reverberate(played, room.delay_ms, seed)
    if room.moves:
        moved = at(schedule.moves_at)
        back[moved:] = reverberate(played, room.delay_ms + 40, seed + 100)[moved:]
    wanted = rms(far) * 10 ** (room.gain_db / 20)
    result: Samples = back * np.float32(wanted / rms(back))
    return result


def reverberate(played: Samples, delay_ms: int, seed: int) -> Samples:
    """`played` through an impulse response of its own for each seed, `delay_ms` later."""
    n_taps = round(DECAY_S * RATE)
    tail = np.random.default_rng(seed).standard_normal(n_taps) * 10 ** (-3 * np.arange(n_taps) / n_taps)
    tail[0] = 4  # the direct sound
    size = 1 << (played.size + n_taps).bit_length()
    spectrum = np.fft.rfft(tail, size)
    frequency = np.fft.rfftfreq(size, 1 / RATE)
    spectrum[(frequency < BAND_HZ[0]) | (frequency > BAND_HZ[1])] = 0
    sound = np.fft.irfft(spectrum * np.fft.rfft(played, size), size)
    delay = RATE * delay_ms // 1000
    result: Samples = np.zeros_like(played)
    result[delay:] = sound[: played.size - delay]
    return result


@cache
def _clip(name: str) -> Samples:
    samples, rate = soundfile.read(_CLIPS / f"{name}.opus", dtype="float32")
    assert rate == RATE
    result: Samples = samples
    return result


def voice(name: str, dbfs: float) -> Samples:
    """ "far" (19 s) or "near" (9 s), at this RMS."""
    samples = _clip(name)
    result: Samples = samples * np.float32(10 ** (dbfs / 20) / rms(samples))
    return result


def noise(n_samples: int, dbfs: float, seed: int = 1) -> Samples:
    samples = np.random.default_rng(seed + 1000).standard_normal(n_samples)
    return (samples * 10 ** (dbfs / 20)).astype(np.float32)


def loop(samples: Samples, n_samples: int) -> Samples:
    return np.resize(samples, n_samples)


def cleaned(process: Process, capture: Samples, reference: Samples) -> Samples:
    """What `process` makes of the two, 10 ms at a time."""
    captured, played = pcm(capture), pcm(reference)
    step = 2 * BLOCK
    blocks = range(0, len(captured) - step + 1, step)
    done = b"".join(process(captured[i : i + step], played[i : i + step]) for i in blocks)
    return np.frombuffer(done, "<i2").astype(np.float32) / np.float32(32768)


def reduction_db(before: Samples, after: Samples, from_s: float, to_s: float) -> float:
    """How much quieter `after` is between two times."""
    part = slice(at(from_s), at(to_s))
    return float(20 * np.log10(rms(before[part]) / rms(after[part])))


@dataclass(frozen=True)
class NearEnd:
    """What double talk left of the near voice, against the same engine's output without an echo."""

    si_sdr_db: float
    gain_db: float
    cut_share: float
    """Of the near voice's 20 ms pieces: those more than 15 dB quieter."""


def near_end(alone: Samples, both: Samples, from_s: float, to_s: float) -> NearEnd:
    """`alone`: the engine's output without the far voice; `both`: with it."""
    want, got = (samples[at(from_s) : at(to_s)].astype(np.float64) for samples in (alone, both))
    scale = float(np.dot(got, want) / np.dot(want, want))
    rest = got - scale * want
    size = 2 * BLOCK
    want_pieces, got_pieces = (x[: x.size // size * size].reshape(-1, size) for x in (want, got))
    want_power, got_power = (np.mean(pieces**2, axis=1) + 1e-12 for pieces in (want_pieces, got_pieces))
    spoken = want_power > 10 ** ((NEAR_DBFS - 15) / 10)
    cut = got_power[spoken] < want_power[spoken] * 10**-1.5
    return NearEnd(
        si_sdr_db=float(10 * np.log10(np.sum((scale * want) ** 2) / np.sum(rest**2))),
        gain_db=float(10 * np.log10(np.sum(got**2) / np.sum(want**2))),
        cut_share=float(np.mean(cut)),
    )


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)) + 1e-16))


def pcm(samples: Samples) -> bytes:
    return bytes((np.clip(samples, -1, 32767 / 32768) * 32768).round().astype("<i2").tobytes())


def at(seconds: float) -> int:
    return round(seconds * RATE)
