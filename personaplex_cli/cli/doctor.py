"""`personaplex doctor`"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

# Typer carries its own copy of click, whose exceptions have no public names.
from typer._click.exceptions import ClickException

from personaplex_cli.catalog import DEFAULT_REGION
from personaplex_cli.cli.options import (
    AuthUrl,
    CaFile,
    GlobalOptions,
    Insecure,
    Json,
    is_on_the_command_line,
)
from personaplex_cli.cli.output import print_json, print_text
from personaplex_cli.cli.talk import (
    Auth,
    InputChannel,
    InputDevice,
    OutputDevice,
    Plain,
    Region,
    Server,
    ServerDialect,
    TokenText,
)
from personaplex_cli.cli.talk_options import AuthMode
from personaplex_cli.errors import CredentialsError, UsageError
from personaplex_cli.wire.endpoint import Dialect
from personaplex_cli.wire.text import safe_text

if TYPE_CHECKING:
    from personaplex_cli.doctor.access import Settings
    from personaplex_cli.doctor.check import Check, Result
    from personaplex_cli.doctor.checks import Wanted

SWITCH_S: Final = 0.001
"""As in calls (see `conversation`): what is measured is what calls will be like."""


def doctor(
    context: typer.Context,
    as_json: Json = False,
    call: Annotated[
        bool, typer.Option("--call", help="Also hold a call of ten seconds with the stand-in.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Make no sound and record nothing: no level, no echo.")
    ] = False,
    plain: Plain = False,
    region: Region = DEFAULT_REGION,
    server: Server = None,
    dialect: ServerDialect = Dialect.POLARGRID,
    token: TokenText = None,
    auth: Auth = AuthMode.JWT,
    auth_url: AuthUrl = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
    input_device: InputDevice = None,
    output_device: OutputDevice = None,
    input_channel: InputChannel = None,
) -> None:
    """Look whether everything is ready for a call, and say what to do where it is not.

    It records three seconds, plays three chirps, exchanges the key for a token and connects to the region,
    but makes no call that is billed. The exit code is 0 only when a call would work.

    \b
    Examples:
      personaplex doctor
      personaplex doctor --quiet
      personaplex doctor --call --input-device headset --output-device headset
      personaplex doctor --json
    """
    from personaplex_cli.doctor.checks import Wanted
    from personaplex_cli.ends import PIPE

    wanted = Wanted(
        read_settings=partial(_settings, context),
        check_call=partial(_check_call, context),
        input_device=input_device,
        output_device=output_device,
        input_channel=input_channel,
        server=server,
        region=region,
        dialect=dialect,
        sends_key=auth is AuthMode.KEY,
        token=sys.stdin.readline() if token == PIPE and sys.stdin else token,
        auth_url=auth_url,
        ca_file=ca_file,
        insecure=insecure,
        quiet=quiet,
        call=call,
    )
    _diagnose(wanted, as_json, plain, context.ensure_object(GlobalOptions).debug)


def _diagnose(wanted: Wanted, as_json: bool, plain: bool, debug: bool) -> None:
    """Prints each result as it comes, or all of them as JSON. Raises `typer.Exit` where a call would not
    work."""
    from personaplex_cli.cli import diagnosis
    from personaplex_cli.doctor.check import exit_code

    show = None if as_json else diagnosis.painter(sys.stdout, plain)
    results = []
    for result in _results(wanted, debug):
        results.append(result)
        if show is not None:
            show(result)
    if as_json:
        print_json(diagnosis.described(results))
    else:
        print_text(diagnosis.summary(results))
    if code := exit_code(results):
        raise typer.Exit(code)


def _settings(context: typer.Context) -> Settings:
    """Raises ConfigError, UsageError."""
    from personaplex_cli.api_keys import find_key
    from personaplex_cli.cli.effective import DEFAULT, effective_settings
    from personaplex_cli.doctor.access import Settings, SetValue

    config = context.ensure_object(GlobalOptions).config
    try:
        effective = effective_settings(context)
    except ClickException as error:  # a variable of the environment, for an option of talk
        raise UsageError(error.format_message(), "See personaplex talk --help") from None
    values = [
        SetValue(one.name, safe_text(str(one.value)), one.origin)
        for one in effective
        if one.origin != DEFAULT
    ]
    found = Settings(config.path, config.profile, config.note, values)
    try:
        key = find_key(config, lambda note: None)  # `effective_settings` has told
    except CredentialsError as error:
        return replace(found, key_error=error)
    return replace(found, key=key.text, key_origin=key.origin)


def _check_call(context: typer.Context) -> None:
    """Raises PersonaplexError if `talk` would refuse its settings."""
    from personaplex_cli.cli.effective import call_context

    program = context.ensure_object(GlobalOptions)
    program.only_checks = True
    try:
        with call_context(context, _given(context)) as call:
            call.command.invoke(call)
    except ClickException as error:  # a variable of the environment
        raise UsageError(error.format_message(), "See personaplex talk --help") from None
    finally:
        program.only_checks = False


def _given(context: typer.Context) -> list[str]:
    """What was said to us and would be said to `talk`."""
    arguments = []
    for name in ("region", "server", "dialect", "auth_url", "ca_file", "input_device", "output_device"):
        if is_on_the_command_line(context, name):
            value = context.params[name]
            text = value.value if isinstance(value, Enum) else str(value)
            arguments += [f"--{name.replace('_', '-')}", text]
    return arguments


def _results(wanted: Wanted, debug: bool) -> Iterator[Result]:
    from personaplex_cli.cli.native_stderr import native_stderr_held
    from personaplex_cli.doctor.check import go_through
    from personaplex_cli.doctor.checks import checks

    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        with native_stderr_held(show=debug):
            yield from go_through(checks(wanted), _announce)
    finally:
        sys.setswitchinterval(before_s)


def _announce(check: Check) -> None:
    """On stderr: a program that reads the JSON has a user, too."""
    print(check.prompt, file=sys.stderr, flush=True)
