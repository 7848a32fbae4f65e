"""Microphone and speaker: which they are, whether they open, how loud the one is and whether it hears the
other."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

from personaplex_cli.aec import INSTALL_HINT, available, is_headphones
from personaplex_cli.devices.device import ROLE, Device, Kind
from personaplex_cli.devices.format import FormatRefused, StreamFormat, cannot_be_opened, formats
from personaplex_cli.devices.listing import find_device, list_devices
from personaplex_cli.devices.portaudio import PortAudioStream
from personaplex_cli.doctor import chirp
from personaplex_cli.doctor.check import Finding, failure, ok, skipped, warning
from personaplex_cli.doctor.level import Level, Verdict, judge
from personaplex_cli.doctor.machine import Place
from personaplex_cli.doctor.recording import play_and_record, record
from personaplex_cli.ends import is_nothing
from personaplex_cli.errors import AudioError
from personaplex_cli.pcm import SAMPLE_RATE

LEVEL_S: Final = 3.0

FAINT_DB: Final = -40.0
"""An echo so far below what is played is not heard as speech: an agent at -20 dBFS comes back at -60."""

CANCELLED_BELOW_MS: Final = 450.0
"""The engine was measured up to 300 ms, and the search for an echo ends at 500 ms."""

NO_DEVICE_WANTED: Final = "None is wanted."


@dataclass
class Sound:
    """The checks of one microphone and one speaker, for one thread after the other."""

    input_device: str | None
    output_device: str | None
    input_channel: int | None
    place: Place

    def check_microphone(self) -> Finding:
        return self._check_device("input", self.input_device, self.input_channel)

    def check_speaker(self) -> Finding:
        return self._check_device("output", self.output_device, None)

    def check_level(self) -> Finding:
        """Raises AudioError."""
        level = judge(record(self.input_device, self.input_channel, LEVEL_S))
        return level_finding(level, self.place)

    def check_echo(self) -> Finding:
        """Raises AudioError."""
        pcm = chirp.chirps()
        recorder, player = play_and_record(pcm, self.output_device, self.input_device, self.input_channel)
        if judge(recorder.pcm).verdict is Verdict.DEAD:
            return skipped("The microphone gives nothing but digital silence, and so no echo.")
        begins = (round(begin_s * SAMPLE_RATE) for begin_s in chirp.BEGINS_S)
        expected = [recorder.timeline.sample(player.timeline.time_s(begin)) for begin in begins]
        speaker = find_device(self.output_device, "output").name
        return echo_finding(chirp.find(recorder.pcm, expected), speaker)

    @cached_property
    def _devices(self) -> list[Device]:
        return list_devices()

    def _check_device(self, kind: Kind, spec: str | None, channel: int | None) -> Finding:
        if is_nothing(spec):
            return skipped(NO_DEVICE_WANTED)
        if not any(device.channels(kind) for device in self._devices):
            text = f"There is no {ROLE[kind]}{self.place.words}."
            return failure(AudioError(text, self.place.no_device_hint), host_apis=[])
        device = find_device(spec, kind)
        format = accepted_format(kind, device, channel)
        how = f"converted from {_format_words(format)}" if format.needs_conversion else "taken as it is"
        text = f"{device.label} ({device.default_rate_hz} Hz by default); 24000 Hz mono is {how}."
        host_apis = sorted({device.host_api for device in self._devices})
        return ok(
            text,
            device=asdict(device),
            host_apis=host_apis,
            native=not format.needs_conversion,
            opened_rate_hz=format.rate_hz,
            opened_channels=format.channels,
        )


def accepted_format(kind: Kind, device: Device, channel: int | None) -> StreamFormat:
    """The best format that `device` opens in. Raises AudioError."""
    refusal = ""
    for format in formats(kind, device, channel):
        if device.pulse_name:  # the server converts
            return format
        try:
            PortAudioStream(kind, device, format, lambda *_: None, lambda: None).close()
        except FormatRefused as error:
            refusal = refusal or str(error)
        else:
            return format
    raise cannot_be_opened(kind, device, refusal)


def _format_words(format: StreamFormat) -> str:
    channels = "mono" if format.channels == 1 else f"{format.channels} channels"
    return f"{format.rate_hz} Hz, {channels}"


def level_finding(level: Level, place: Place) -> Finding:
    """In words."""
    figures: dict[str, Any] = {
        name: round(value, 1) if isinstance(value, float) else value for name, value in asdict(level).items()
    }
    loud = f"speech {level.speech_dbfs:.0f} dBFS, peak {level.peak_dbfs:.0f}, noise {level.noise_dbfs:.0f}"
    hint = f"Say something in your usual voice. If you did: turn it up.\n{place.microphone_hint}"
    match level.verdict:
        case Verdict.DEAD:
            error = AudioError(
                "The microphone gives nothing but digital silence: it is muted, or this program may not "
                "use it.",
                place.microphone_hint,
            )
            return failure(error, **figures)
        case Verdict.CLIPPED:
            text = f"Too loud: {level.clipped_samples} samples are cut off ({loud})."
            return warning(text, "Turn the microphone down, or its boost off.", **figures)
        case Verdict.QUIET:
            text = (
                f"No speech: the loudest is {level.speech_dbfs:.0f} dBFS, the noise {level.noise_dbfs:.0f}."
            )
            return warning(text, hint, **figures)
        case Verdict.NOISY:
            text = f"As loud as speech all the time ({loud})."
            hint = "A noisy place, or turned up too far. Try --noise-suppression, or a headset."
            return warning(text, hint, **figures)
        case Verdict.GOOD:
            return ok(f"Good: {loud}.", **figures)


def echo_finding(path: chirp.EchoPath, speaker: str) -> Finding:
    """What to do about the echo, in words."""
    figures = {
        "heard": path.heard,
        "delay_ms": round(path.delay_ms, 1) if path.heard else None,
        "level_db": round(path.level_db, 1) if path.heard else None,
        "confidence": round(min(path.confidence, 1000.0), 2),
        "canceller_installed": available(),
        "called_headphones": is_headphones(speaker),
    }
    if not path.heard:
        return ok("The microphone does not hear the speaker: headphones, or it is turned down.", **figures)
    found = f"{max(0.0, path.delay_ms):.0f} ms later, {-path.level_db:.0f} dB below what is played"
    if path.level_db < FAINT_DB:
        return ok(f"The microphone hears the speaker too faintly to matter ({found}).", **figures)
    by_itself = available() and not is_headphones(speaker)
    if by_itself and path.delay_ms < CANCELLED_BELOW_MS:
        text = f"The microphone hears the speaker ({found}); echo cancellation will take that out."
        return ok(text, **figures)
    return warning(
        f"The microphone hears the speaker ({found}): the agent would hear itself.",
        _echo_hint(path, by_itself),
        **figures,
    )


def _echo_hint(path: chirp.EchoPath, by_itself: bool) -> str:
    lines = ["Best: put on headphones."]
    if path.delay_ms < CANCELLED_BELOW_MS and not by_itself:
        switch = "echo cancellation: --echo-cancel on"
        lines.append(f"Or {switch}" if available() else f"Or echo cancellation. {INSTALL_HINT}")
    lines.append("Or: personaplex talk --push-to-talk, or --half-duplex")
    return "\n".join(lines)
