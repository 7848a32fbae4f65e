"""`personaplex talk`: its options."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from personaplex_cli.catalog import DEFAULT_REGION, DEFAULT_VOICE
from personaplex_cli.cli.completion import region_names, voice_names
from personaplex_cli.cli.options import (
    AuthUrl,
    CaFile,
    GlobalOptions,
    Insecure,
    is_on_the_command_line,
    switch,
)
from personaplex_cli.cli.talk_options import AuthMode, TalkOptions, for_this_call
from personaplex_cli.echo_options import MAX_BUFFER_MS, EchoCancel, EchoOptions
from personaplex_cli.wire.endpoint import Dialect, TokenIn

Voice = Annotated[
    str,
    typer.Option(
        "--voice",
        metavar="NAME",
        envvar="PERSONAPLEX_VOICE",
        help="Who speaks: see personaplex voices.",
        autocompletion=voice_names,
    ),
]
Persona = Annotated[
    str | None,
    typer.Option(
        "--persona",
        metavar="NAME|@FILE|TEXT",
        envvar="PERSONAPLEX_PERSONA",
        help="Who the agent is: a name (personaplex personas list), a file, or the text itself.",
    ),
]
Region = Annotated[
    str,
    typer.Option(
        "--region",
        metavar="NAME",
        envvar="PERSONAPLEX_REGION",
        help="Where: see personaplex regions; auto lets the router choose.",
        autocompletion=region_names,
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="FILE|-", help="Speak from an audio file, or raw s16le 24 kHz mono from stdin."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="FILE|-|none",
        help="Write the agent's voice to a .wav, .flac or .ogg file, raw to stdout, or nowhere.",
    ),
]
Text = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT", help="Inject text once the call is live; may be repeated."),
]
TokenText = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="JWT|-",
        envvar="PERSONAPLEX_TOKEN",
        help="Use this token; - reads it from stdin. (Never an API key.)",
    ),
]
Auth = Annotated[
    AuthMode,
    typer.Option(
        "--auth", envvar="PERSONAPLEX_AUTH", help="Exchange the API key for a token, or send the key itself."
    ),
]
TokenPlace = Annotated[
    TokenIn,
    typer.Option(
        "--token-in", envvar="PERSONAPLEX_TOKEN_IN", help="Where the token goes; queries end up in logs."
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", envvar="PERSONAPLEX_SERVER", help="Another server (ws, wss, http, https)."
    ),
]
ServerDialect = Annotated[
    Dialect,
    typer.Option(
        "--dialect",
        envvar="PERSONAPLEX_DIALECT",
        help="What the server speaks: moshi for NVIDIA PersonaPlex and Kyutai Moshi of your own.",
    ),
]
Local = Annotated[
    bool, typer.Option("--local", help="Talk to the stand-in inside this program: no key, no network.")
]
InputDevice = Annotated[
    str | None,
    typer.Option(
        "--input-device",
        metavar="NAME|INDEX|none",
        envvar="PERSONAPLEX_INPUT_DEVICE",
        help="The microphone: see personaplex devices.",
    ),
]
OutputDevice = Annotated[
    str | None,
    typer.Option(
        "--output-device",
        metavar="NAME|INDEX|none",
        envvar="PERSONAPLEX_OUTPUT_DEVICE",
        help="The speaker: see personaplex devices.",
    ),
]
InputChannel = Annotated[
    int | None,
    typer.Option(
        "--input-channel",
        metavar="NUMBER",
        min=1,
        envvar="PERSONAPLEX_INPUT_CHANNEL",
        help="The one channel of the microphone to listen to, from 1.",
    ),
]
MaxBuffer = Annotated[
    int,
    typer.Option(
        "--max-buffer",
        metavar="MS",
        min=0,
        max=2000,
        envvar="PERSONAPLEX_MAX_BUFFER",
        help="The longest the agent may be delayed to cover an uneven network; less is snappier.",
    ),
]
EchoCancellation = Annotated[
    EchoCancel,
    typer.Option(
        "--echo-cancel",
        envvar="PERSONAPLEX_ECHO_CANCEL",
        help="Keep the speaker out of the microphone; auto: if installed, and without headphones.",
    ),
]
HalfDuplex = Annotated[bool, switch("half-duplex", "Send silence while the agent is heard.")]
NoiseSuppression = Annotated[
    bool, switch("noise-suppression", "Send less of the room's noise (with the extra aec).")
]
HighPass = Annotated[bool, switch("high-pass", "Send no rumble below 100 Hz (with the extra aec).")]
GainControl = Annotated[bool, switch("gain-control", "Even out how loud you are (with the extra aec).")]
HandshakeTimeout = Annotated[
    float,
    typer.Option(
        "--handshake-timeout", metavar="SECONDS", help="How long to wait for the model; 0: for ever."
    ),
]
MaxDuration = Annotated[
    float, typer.Option("--max-duration", metavar="SECONDS", help="Hang up after this time; 0: never.")
]
Budget = Annotated[
    float,
    typer.Option(
        "--budget",
        metavar="AMOUNT",
        help="Hang up when the conversation has cost so much; needs rate_per_minute in the configuration.",
    ),
]
IdleTimeout = Annotated[
    float, typer.Option("--idle-timeout", metavar="SECONDS", help="Hang up when nobody speaks; 0: never.")
]
Tail = Annotated[
    float,
    typer.Option(
        "--tail",
        metavar="SECONDS",
        help="Hang up when the agent has been silent for so long after --input.",
    ),
]
BosMarker = Annotated[
    bool, switch("bos-marker", "Send a bos control message first (a server that wants it).")
]
Reconnect = Annotated[
    bool, switch("reconnect", "Call again when a call breaks off: a new conversation, and more to pay.")
]
PushToTalk = Annotated[bool, switch("push-to-talk", "Be heard only while you press space.")]
StdinText = Annotated[
    bool, typer.Option("--stdin-text", help="Send each line of standard input to the model as a text.")
]
Plain = Annotated[
    bool,
    switch(
        "plain",
        "Only append lines, in plain words: for screen readers.",
        envvar=["PERSONAPLEX_PLAIN", "ACCESSIBLE"],
    ),
]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print each event as a line of JSON: see docs/events.md.")
]
Earcons = Annotated[
    bool,
    switch(
        "earcons",
        "Play short tones when the call begins and ends, when you mute, and before a limit.",
        envvar="PERSONAPLEX_EARCONS",
    ),
]


def talk(
    context: typer.Context,
    voice: Voice = DEFAULT_VOICE,
    persona: Persona = None,
    region: Region = DEFAULT_REGION,
    input: Input = None,
    output: Output = None,
    text: Text = None,
    token: TokenText = None,
    auth: Auth = AuthMode.JWT,
    token_in: TokenPlace = TokenIn.HEADER,
    auth_url: AuthUrl = None,
    server: Server = None,
    dialect: ServerDialect = Dialect.POLARGRID,
    ca_file: CaFile = None,
    insecure: Insecure = False,
    local: Local = False,
    input_device: InputDevice = None,
    output_device: OutputDevice = None,
    input_channel: InputChannel = None,
    max_buffer: MaxBuffer = MAX_BUFFER_MS,
    echo_cancel: EchoCancellation = EchoCancel.AUTO,
    half_duplex: HalfDuplex = False,
    noise_suppression: NoiseSuppression = False,
    high_pass: HighPass = False,
    gain_control: GainControl = False,
    push_to_talk: PushToTalk = False,
    stdin_text: StdinText = False,
    plain: Plain = False,
    json: JsonLines = False,
    earcons: Earcons = False,
    handshake_timeout: HandshakeTimeout = 60.0,
    max_duration: MaxDuration = 0.0,
    budget: Budget = 0.0,
    idle_timeout: IdleTimeout = 60.0,
    tail: Tail = 3.0,
    reconnect: Reconnect = False,
    bos_marker: BosMarker = False,
) -> None:
    """Hold a conversation. Ctrl-C hangs up; twice, at once.

    Microphone and speaker are used unless --input or --output say otherwise; with --input FILE the agent
    is heard only if --output says where. Calls are billed by time until they end.

    \b
    Examples:
      personaplex talk --local
      personaplex talk --voice NATM1 --persona "You are a patient teacher of French."
      personaplex talk --persona @tutor.txt --max-duration 600
      personaplex talk --input question.wav --output answer.wav
      personaplex talk --server ws://localhost:8998 --dialect moshi
    """
    from personaplex_cli.cli.conversation import converse
    from personaplex_cli.cli.plan import make_plan

    program = context.ensure_object(GlobalOptions)
    chosen = partial(is_on_the_command_line, context)
    options = TalkOptions(
        voice=voice,
        voice_is_chosen=chosen("voice"),
        persona=persona,
        region=region,
        input=input,
        output=output,
        texts=tuple(text or ()),
        token=token,
        auth=auth,
        token_in=token_in,
        auth_url=auth_url,
        server=server,
        dialect=dialect,
        ca_file=ca_file,
        insecure=insecure,
        local=local,
        input_device=input_device,
        output_device=output_device,
        input_channel=input_channel,
        max_buffer_ms=max_buffer,
        echo=EchoOptions(echo_cancel, half_duplex, noise_suppression, high_pass, gain_control),
        handshake_timeout_s=handshake_timeout,
        max_duration_s=max_duration,
        budget=budget,
        idle_timeout_s=idle_timeout,
        tail_s=tail,
        bos_marker=bos_marker,
        push_to_talk=push_to_talk,
        stdin_text=stdin_text,
        plain=plain,
        json=json,
        earcons=earcons,
        reconnect=reconnect,
        debug=program.debug,
        config=program.config,
    )
    options = for_this_call(options, chosen)
    if program.only_checks:
        make_plan(options, tell=lambda note: None)
    else:
        converse(options)
