"""The program: its commands, and how its errors become text and exit codes."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from contextlib import suppress
from functools import cache
from io import TextIOWrapper
from typing import Annotated, Any, Final

import typer

# Typer carries its own copy of click, whose exceptions have no public names.
from typer._click.exceptions import ClickException, NoArgsIsHelpError
from typer._click.exceptions import UsageError as CommandLineError
from typer._click.globals import get_current_context

from personaplex_cli import __version__
from personaplex_cli.cli.completion import keep_texts_on_one_line
from personaplex_cli.cli.config import config
from personaplex_cli.cli.devices import devices
from personaplex_cli.cli.doctor import doctor
from personaplex_cli.cli.login import login, logout
from personaplex_cli.cli.mic import mic
from personaplex_cli.cli.options import GlobalOptions, Profile
from personaplex_cli.cli.output import print_error, print_text
from personaplex_cli.cli.personas import personas
from personaplex_cli.cli.regions import regions
from personaplex_cli.cli.serve import serve
from personaplex_cli.cli.talk import talk
from personaplex_cli.cli.token import token
from personaplex_cli.cli.usage import usage
from personaplex_cli.cli.voices import voices
from personaplex_cli.errors import ExitCode, PersonaplexError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Commands import what they need when they run: `--help` and `voices` are there at once.
app.command()(talk)
app.command()(voices)
app.add_typer(personas)
app.command()(regions)
app.command()(doctor)
app.command()(devices)
app.command()(mic)
app.command()(token)
app.command()(login)
app.command()(logout)
app.add_typer(config)
app.command()(usage)
app.command()(serve)

CONFIGURED: Final = ("talk", "doctor", "mic", "regions", "token", "login")
"""The commands whose options have their defaults from the configuration."""


class _Defaults(dict[str, Any]):
    """What the configuration says, by the names of options: a default map that is read when it is needed."""

    def __init__(self, options: GlobalOptions) -> None:
        self._options = options

    def get(self, name: str, default: Any = None) -> Any:
        """Raises ConfigError, UsageError. Help and completion are as they are without a file, and do not care
        if it is broken."""
        context = get_current_context(silent=True)
        if context is not None and context.resilient_parsing:
            return default
        try:
            return self._options.config.defaults.get(name, default)
        except PersonaplexError:
            # It says itself what is wrong with a file, and goes on.
            if context is not None and context.info_name == "doctor":
                return default
            raise


def _print_version(context: typer.Context, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:  # the latter for completion
        return
    if context.params["verbose"]:
        from personaplex_cli.cli.version import report

        for line in report():
            print_text(line)
    else:
        print_text(f"personaplex {__version__}")
    raise typer.Exit


@app.callback()
def personaplex(
    context: typer.Context,
    profile: Profile = None,
    debug: Annotated[
        bool,
        typer.Option("--debug", "-v", help="Show tracebacks, all counters, and what sound libraries say."),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, help="Print the version.")
    ] = False,
    # Eager: wherever it stands, it is known when --version is looked at.
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            is_eager=True,
            help="With --version: print what a bug report needs, without secrets.",
        ),
    ] = False,
) -> None:
    """Talk to full-duplex voice models from a terminal.

    \b
    Examples:
      personaplex talk --local
      personaplex talk --voice NATM1 --persona "You are a patient teacher of French."
      personaplex voices
    """
    if verbose:
        raise UsageError("--verbose goes with --version.", "To see more of what goes on: --debug")
    options = context.ensure_object(GlobalOptions)
    options.debug = debug
    context.default_map = {name: _Defaults(options) for name in CONFIGURED}


def main() -> None:
    """Run the command of `sys.argv` and exit. Of all PersonaplexErrors, this is where they end."""
    _occupy_standard_descriptors()
    _keep_stderr()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a device's name may not exist in the terminal's encoding
    code = run(sys.argv[1:])
    if _portaudio_hangs() or _threads_left():  # the usual way out would wait for them
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # gone, closed, or never there
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _portaudio_hangs() -> bool:
    if "personaplex_cli.devices.portaudio" not in sys.modules:  # not worth importing without sound
        return False
    from personaplex_cli.devices.portaudio import stuck

    return stuck()


def _threads_left() -> bool:
    """Threads that the interpreter would join: a name that is still being looked up."""
    return any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


def _occupy_standard_descriptors() -> None:
    """Where one was closed, a socket or file of ours would get its number, and what C libraries print."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:  # print() would take stdout instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _keep_stderr() -> None:
    """A descriptor of its own: sounddevice puts number 2 on the null device while PortAudio looks for
    devices, and that may never end."""
    if isinstance(sys.stderr, TextIOWrapper):
        sys.stderr.flush()
        encoding = sys.stderr.encoding
        sys.stderr = open(os.dup(2), "w", buffering=1, encoding=encoding, closefd=False)  # noqa: SIM115


@cache
def command() -> Any:
    """What Typer makes of `app`, for click to run."""
    return typer.main.get_command(app)


def run(arguments: list[str]) -> int:
    """Run one command; errors are printed. Returns the exit code, which after Ctrl-C is 130 (from Typer).

    Arguments are taken as they are: without this, Typer would expand wildcards in them on Windows.
    """
    options = GlobalOptions()
    keep_texts_on_one_line()
    try:
        result = command()(arguments, prog_name="personaplex", obj=options, standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.OK
    except PersonaplexError as error:
        if options.debug:
            traceback.print_exception(error)
        print_error(error)
        return error.exit_code
    except ClickException as error:
        return _show_command_line_error(error)
    except typer.Abort:  # Ctrl-C, or the end of input, at a question
        return ExitCode.INTERRUPTED
    except Exception as error:
        if options.debug:
            traceback.print_exception(error)
        # Only the name: nobody has looked at what the text may hold.
        name = type(error).__name__
        print(f"internal error: {name} (personaplex --debug ... shows the traceback)", file=sys.stderr)
        return ExitCode.INTERNAL


def _show_command_line_error(error: ClickException) -> int:
    """An error that Typer found, in the form that all errors have here."""
    if isinstance(error, NoArgsIsHelpError):  # its text is the help
        error.show()
        return error.exit_code
    context = error.ctx if isinstance(error, CommandLineError) else None
    command = context.command_path if context else "personaplex"
    print_error(UsageError(error.format_message(), f"See {command} --help"))
    return error.exit_code
