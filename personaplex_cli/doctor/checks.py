"""All checks, in the order in which they make sense to a user: machine, sound, access, server, a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from personaplex_cli.api_keys import READ_LIMIT_S
from personaplex_cli.auth import EXCHANGE_TIMEOUT_S
from personaplex_cli.devices.portaudio import LOAD_LIMIT_S
from personaplex_cli.doctor import chirp, libraries, machine, trial
from personaplex_cli.doctor.access import Access, Settings
from personaplex_cli.doctor.check import Check, Finding, ok, skipped
from personaplex_cli.doctor.reach import ROUNDS, Reach
from personaplex_cli.doctor.recording import PATIENCE_S, SETTLE_S
from personaplex_cli.doctor.sound import LEVEL_S, Sound
from personaplex_cli.ends import is_nothing
from personaplex_cli.errors import AudioError, ConfigError, ConnectError, PersonaplexError
from personaplex_cli.probe import TIMEOUT_S
from personaplex_cli.route import ROUTE_TIMEOUT_S
from personaplex_cli.wire.endpoint import Dialect

SOON_S: Final = 5.0
"""For what only looks at this machine, and takes milliseconds."""

OPENING_S: Final = 10.0
"""For devices to be opened and closed; each step of that has a shorter limit of its own."""

QUIET: Final = "Left out (--quiet)."
SAY_SOMETHING: Final = f"Say something, for {LEVEL_S:g} seconds ..."
THREE_CHIRPS: Final = "Three short chirps are played; please be quiet ..."
CALLING: Final = f"A call of {trial.CALL_S:g} seconds to the stand-in: it greets you, answer it ..."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be looked at: the options of a call, as far as they decide whether it works."""

    read_settings: Callable[[], Settings] = field(repr=False)
    """See `Access.read`."""
    check_call: Callable[[], object] = field(repr=False)
    """Raises PersonaplexError if a call would be refused because of its settings."""
    input_device: str | None = None
    output_device: str | None = None
    input_channel: int | None = None
    server: str | None = None
    region: str = ""
    dialect: Dialect = Dialect.POLARGRID
    sends_key: bool = False
    token: str | None = field(default=None, repr=False)
    auth_url: str | None = None
    ca_file: Path | None = None
    insecure: bool = False
    quiet: bool = False
    """No sound is made, and nothing recorded."""
    call: bool = False


def checks(wanted: Wanted) -> Iterator[Check]:
    """In order. Nothing is done before they are run."""
    place = machine.find_place()
    yield from _machine(place)
    yield from _sound(wanted, place)
    yield from _access(wanted)
    reach = Reach(wanted.server, wanted.region, wanted.dialect, wanted.ca_file, wanted.insecure)
    no_way = ConnectError("The server cannot be reached.", "Check the network.")
    # The probe and the router end by themselves before this.
    limit_s = ROUTE_TIMEOUT_S + (2 * ROUNDS + 1) * TIMEOUT_S + SOON_S
    yield Check("server", "Server", reach.check, limit_s, no_way)
    if wanted.call:
        yield _call(wanted, place)


def _machine(place: machine.Place) -> Iterator[Check]:
    stuck = PersonaplexError("This machine does not answer.")
    loading = AudioError("A library cannot be loaded.")
    child_s = libraries.CHILD_LIMIT_S + SOON_S
    yield Check("python", "Python", partial(machine.check_python, place), SOON_S, stuck)
    yield Check("opus", "Opus and Ogg", libraries.check_codec, child_s, loading)
    yield Check("sndfile", "Audio files", libraries.check_sndfile, child_s, loading)
    yield Check("canceller", "Echo canceller", libraries.check_canceller, SOON_S, loading)
    hung = AudioError("The sound system does not answer.", machine.HUNG_HINT)
    sound_system = partial(machine.check_sound_system, place)
    yield Check("sound_system", "Sound system", sound_system, machine.PACTL_LIMIT_S + SOON_S, hung)


def _sound(wanted: Wanted, place: machine.Place) -> Iterator[Check]:
    sound = Sound(wanted.input_device, wanted.output_device, wanted.input_channel, place)
    hung = AudioError("The sound system does not answer.", machine.HUNG_HINT)
    child_s = libraries.CHILD_LIMIT_S + SOON_S
    no_devices = is_nothing(wanted.input_device) and is_nothing(wanted.output_device)
    portaudio = (
        partial(skipped, "Not needed: no device is wanted.") if no_devices else libraries.check_portaudio
    )
    yield Check("portaudio", "PortAudio", portaudio, child_s, hung)
    opening_s, needs = LOAD_LIMIT_S + OPENING_S, ("portaudio",)
    yield Check("microphone", "Microphone", sound.check_microphone, opening_s, hung, needs)
    yield Check("speaker", "Speaker", sound.check_speaker, opening_s, hung, needs)
    level, echo = (_left_out, _left_out) if wanted.quiet else (sound.check_level, sound.check_echo)
    say, listen = ("", "") if wanted.quiet else (SAY_SOMETHING, THREE_CHIRPS)
    recording_s = SETTLE_S + PATIENCE_S + OPENING_S
    yield Check("level", "Microphone level", level, LEVEL_S + recording_s, hung, ("microphone",), say)
    both = ("microphone", "speaker")
    yield Check("echo", "Echo", echo, chirp.DURATION_S + recording_s, hung, both, listen)


def _left_out() -> Finding:
    return skipped(QUIET)


def _access(wanted: Wanted) -> Iterator[Check]:
    # What is said of the certificate of a server of one's own does not hold for PolarGrid's exchange.
    apart = wanted.server is not None and wanted.auth_url is None
    access = Access(
        read=wanted.read_settings,
        sends_key=wanted.sends_key,
        wants_none=wanted.dialect is Dialect.MOSHI,
        token_text=wanted.token,
        auth_url=wanted.auth_url,
        ca_file=None if apart else wanted.ca_file,
        insecure=False if apart else wanted.insecure,
    )
    unread = ConfigError("The configuration cannot be read.", "Is its folder on a network that is gone?")
    unanswered = ConnectError("The token exchange does not answer.", "Check the network.")
    read_s = 2 * READ_LIMIT_S + SOON_S
    yield Check("configuration", "Configuration", access.check_configuration, read_s, unread)
    yield Check(
        "settings",
        "Settings of a call",
        partial(_check_settings, wanted.check_call),
        ROUTE_TIMEOUT_S + read_s,
        unread,
        ("configuration",),
    )
    yield Check("key", "API key", access.check_key, SOON_S, unread, ("configuration",))
    limit_s = 2 * EXCHANGE_TIMEOUT_S + SOON_S
    yield Check("token", "Token", access.check_token, limit_s, unanswered, ("configuration",))
    yield Check("clock", "Clock", access.check_clock, SOON_S, unread, ("configuration",))


def _check_settings(check_call: Callable[[], object]) -> Finding:
    check_call()
    return ok("They go together.")


def _call(wanted: Wanted, place: machine.Place) -> Check:
    run = partial(trial.check_call, wanted.input_device, wanted.output_device, wanted.input_channel, place)
    hung = AudioError("The call to the stand-in did not end.")
    needs = ("opus", "microphone", "speaker")
    return Check("call", "Trial call", run, trial.CALL_S + LOAD_LIMIT_S + OPENING_S, hung, needs, CALLING)
