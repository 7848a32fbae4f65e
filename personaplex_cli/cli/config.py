"""`personaplex config`"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplex_cli.cli.options import GlobalOptions, Json, ProfileOfCommand
from personaplex_cli.cli.output import print_error, print_json, print_note, print_table, print_text
from personaplex_cli.errors import ConfigError, UsageError
from personaplex_cli.wire.text import safe_text

if TYPE_CHECKING:
    from personaplex_cli.settings import Setting, Value

config = typer.Typer(
    name="config",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Settings for all calls: show them, and change them in the configuration file.

    What is given with a call comes before the environment, that before the profile that is used (--profile),
    and that before the rest of the file.

    \b
    Examples:
      personaplex config show
      personaplex config set voice NATM1
      personaplex config set max_duration 600 --profile work
      personaplex config edit
    """,
)


def _names(incomplete: str) -> Iterator[str]:
    """For completion by the Tab key."""
    from personaplex_cli.settings import BY_NAME

    return (name for name in BY_NAME if name.startswith(incomplete))


Name = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=_names, help="The setting: see config show --all.")
]
NewValue = Annotated[str, typer.Argument(metavar="VALUE", help="Without quotes; true or false for a switch.")]
All = Annotated[bool, typer.Option("--all", help="Show also what is set nowhere, and the defaults.")]


@config.command()
def show(
    context: typer.Context, all: All = False, profile: ProfileOfCommand = None, as_json: Json = False
) -> None:
    """Show what is set, and where it comes from. Keys and personas are not shown.

    \b
    Examples:
      personaplex config show
      personaplex config show --all --profile work
      personaplex config show --json
    """
    from personaplex_cli.cli.effective import DEFAULT, effective_settings

    file = context.ensure_object(GlobalOptions).config
    if file.note:
        print_note(file.note)
    found = [one for one in effective_settings(context) if all or one.origin != DEFAULT]
    if as_json:
        settings = [{"name": one.name, "value": one.value, "origin": one.origin} for one in found]
        print_json({"file": str(file.path), "profile": file.profile, "settings": settings})
    elif found:
        print_table([(one.name, safe_text(_text(one.value)), one.origin) for one in found])
    else:
        print_text(f"Nothing is set: there may be settings in {safe_text(str(file.path))}")


@config.command()
def path() -> None:
    """Print where the configuration file is, or would be.

    \b
    Examples:
      personaplex config path
      cat "$(personaplex config path)"
    """
    from personaplex_cli.config import config_path

    print_text(safe_text(str(config_path())))


@config.command()
def edit(context: typer.Context) -> None:
    """Open the configuration file in your editor (VISUAL or EDITOR), print where it is, and check it.

    A new one begins with all settings, each as a comment.

    \b
    Examples:
      personaplex config edit
      EDITOR=nano personaplex config edit
    """
    from personaplex_cli.cli.editor import edit_file
    from personaplex_cli.config import config_path
    from personaplex_cli.config_edit import create

    file = config_path()
    create(file, _template(context))
    print_text(safe_text(str(file)))
    while edit_file(Path(file).resolve()):
        error = _problem()
        if error is None:
            return
        print_error(error)
        if not typer.confirm("Edit it again?", default=True, err=True):
            raise typer.Exit(error.exit_code)


@config.command("set")
def set_(context: typer.Context, name: Name, value: NewValue, profile: ProfileOfCommand = None) -> None:
    """Write a setting into the configuration file; comments and order stay as they are.

    \b
    Examples:
      personaplex config set voice NATM1
      personaplex config set rate_per_minute 0.12
      personaplex config set persona @~/tutor.md --profile work
    """
    from personaplex_cli.config import config_path
    from personaplex_cli.config_edit import set_value
    from personaplex_cli.settings import API_KEY, PROFILE

    chosen = context.ensure_object(GlobalOptions).profile
    if name == API_KEY:
        raise UsageError(
            "A key is not given on the command line, where others can read it.", "Use personaplex login"
        )
    if name == PROFILE:
        _check_default_profile(value, chosen)
    set_value(config_path(), chosen, name, _parsed(_setting(name), value))
    print_note(f"{name} is set in {_place(chosen)}.")


@config.command()
def unset(context: typer.Context, name: Name, profile: ProfileOfCommand = None) -> None:
    """Take a setting out of the configuration file; comments and order stay as they are.

    \b
    Examples:
      personaplex config unset voice
      personaplex config unset voice --profile work
    """
    from personaplex_cli.config import config_path, shown_name
    from personaplex_cli.config_edit import unset_value

    chosen = context.ensure_object(GlobalOptions).profile
    was_there = unset_value(config_path(), chosen, name)
    print_note(f"{shown_name(name)} {'is no longer' if was_there else 'was not'} set in {_place(chosen)}.")


def _text(value: Value | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _place(profile: str | None) -> str:
    from personaplex_cli.config import config_path, shown_name

    return f"{'' if profile is None else f'profile {shown_name(profile)} of '}{config_path()}"


def _setting(name: str) -> Setting:
    """Raises UsageError."""
    from personaplex_cli.config import shown_name
    from personaplex_cli.settings import BY_NAME, near_setting

    if name not in BY_NAME:
        near = near_setting(name)
        hint = f"Is {near} meant?" if near else "personaplex config show --all lists the settings."
        raise UsageError(f"There is no setting '{shown_name(name)}'.", hint)
    return BY_NAME[name]


def _parsed(setting: Setting, text: str) -> Value:
    """Raises UsageError, which does not show the text."""
    try:
        value = setting.kind.parse(text)
    except ValueError:
        value = None
    if value is None or not setting.kind.accepts(value):
        hint = f"For example: personaplex config set {setting.name} {setting.example}"
        raise UsageError(f"{setting.name} must be {setting.kind.what}.", hint)
    return value


def _check_default_profile(name: str, within: str | None) -> None:
    from personaplex_cli.config import load_config

    if within is not None:
        raise UsageError("A profile cannot name a profile.", "personaplex config set profile NAME")
    load_config(name)


def _problem() -> ConfigError | None:
    from personaplex_cli.config import load_config

    try:
        load_config()
    except ConfigError as error:
        return error
    return None


def _template(context: typer.Context) -> str:
    """What a new file says: nothing, but everything as a comment."""
    from personaplex_cli.cli.effective import options_of_talk
    from personaplex_cli.settings import SETTINGS

    options = options_of_talk(context)
    lines = [
        "# Settings of personaplex for all calls. Take the # away before one to make it hold.",
        "# personaplex config show tells what holds, and where it comes from.",
    ]
    for setting in SETTINGS:
        about = setting.about or options[setting.name].help
        lines += ["", f"# {about}", f"# {setting.name} = {setting.example}"]
    lines += ["", "# With --profile work these come before the ones above.", "# [profiles.work]"]
    return "\n".join([*lines, '# voice = "VARF1"', ""])
