"""`personaplex mic`: its options."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Final

import typer

from personaplex_cli.cli.options import GlobalOptions, is_on_the_command_line
from personaplex_cli.cli.talk import (
    EchoCancellation,
    GainControl,
    HighPass,
    InputChannel,
    InputDevice,
    NoiseSuppression,
    OutputDevice,
    Plain,
)
from personaplex_cli.cli.talk_options import echo_for_this_call
from personaplex_cli.echo_options import MAX_BUFFER_MS, EchoCancel, EchoOptions
from personaplex_cli.errors import UsageError

DELAY_S: Final = 2.0
"""Long enough to say something first and then to listen."""

Delay = Annotated[
    float, typer.Option("--delay", metavar="SECONDS", help="How much later: 0.5 to 10, in steps of 0.08.")
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="FILE|-", help="Hear an audio file, or raw s16le 24 kHz mono from stdin."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="FILE|-|none",
        help="Write what is heard to a .wav, .flac or .ogg file, raw to stdout, or nowhere.",
    ),
]
MaxDuration = Annotated[
    float, typer.Option("--max-duration", metavar="SECONDS", help="End after this time; 0: never.")
]


def mic(
    context: typer.Context,
    delay: Delay = DELAY_S,
    input: Input = None,
    output: Output = None,
    input_device: InputDevice = None,
    output_device: OutputDevice = None,
    input_channel: InputChannel = None,
    echo_cancel: EchoCancellation = EchoCancel.AUTO,
    noise_suppression: NoiseSuppression = False,
    high_pass: HighPass = False,
    gain_control: GainControl = False,
    max_duration: MaxDuration = 0.0,
    plain: Plain = False,
) -> None:
    """Hear yourself as the model hears you, two seconds later. Ctrl-C or q ends it.

    What the microphone hears goes through all that a call does with it, and comes back to the speaker.
    Nothing is sent anywhere. At the end it is said how loud you were.

    \b
    Examples:
      personaplex mic
      personaplex mic --delay 4 --input-device headset
      personaplex mic --noise-suppression --output heard.wav
    """
    echo = EchoOptions(echo_cancel, False, noise_suppression, high_pass, gain_control)
    _check_seconds(delay, max_duration)
    from personaplex_cli.cli.rehearsal import MicOptions, rehearse

    rehearse(
        MicOptions(
            input=input,
            output=output,
            input_device=input_device,
            output_device=output_device,
            input_channel=input_channel,
            max_buffer_ms=MAX_BUFFER_MS,
            echo=echo_for_this_call(echo, input is None, partial(is_on_the_command_line, context)),
            delay_s=delay,
            max_duration_s=max_duration or None,
            plain=plain,
            debug=context.ensure_object(GlobalOptions).debug,
        )
    )


def _check_seconds(delay_s: float, max_duration_s: float) -> None:
    from personaplex_cli.loopback import MAX_DELAY_S, MIN_DELAY_S

    if not MIN_DELAY_S <= delay_s <= MAX_DELAY_S:  # also refuses NaN
        raise UsageError(f"--delay takes {MIN_DELAY_S:g} to {MAX_DELAY_S:g} seconds.")
    if not 0 <= max_duration_s < math.inf:
        raise UsageError("--max-duration takes a number of seconds, 0 or more.")
