"""`personaplex login` and `personaplex logout`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personaplex_cli.cli.options import (
    AuthUrl,
    CaFile,
    GlobalOptions,
    Insecure,
    NewProfile,
    ProfileOfCommand,
    for_polargrid,
)
from personaplex_cli.cli.output import print_note, print_warning
from personaplex_cli.errors import CredentialsError, PersonaplexError
from personaplex_cli.wire.text import safe_text

if TYPE_CHECKING:
    from personaplex_cli.api_keys import Key, KeyringError

NoCheck = Annotated[bool, typer.Option("--no-check", help="Keep the key without exchanging it for a token.")]
InFile = Annotated[
    bool,
    typer.Option("--file", help="Keep the key in the configuration file, which nobody else can read then."),
]


def login(
    context: typer.Context,
    profile: NewProfile = None,
    no_check: NoCheck = False,
    file: InFile = False,
    auth_url: AuthUrl = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
) -> None:
    """Keep an API key in the system's keyring, or with --file in the configuration file.

    The key is asked for and not shown; where there is no terminal it is read from standard input. It is
    exchanged for a token first, to see that it is good.

    \b
    Examples:
      personaplex login
      personaplex login --profile work
      personaplex login --file < key.txt
    """
    from personaplex_cli.api_keys import Key, check_key

    program = context.ensure_object(GlobalOptions)
    path = program.config.path  # one that is broken is found before a key is asked for
    key = Key(_asked(), "as given")
    check_key(key)
    if auth_url is None:
        ca_file, insecure = for_polargrid(context, ca_file, insecure)
    if not no_check:
        _check(key, auth_url, ca_file, insecure)
    print_note(f"The key is kept in {_keep(path, program.profile, key.text, in_file=file)}.")
    used = _in_force(program.profile)
    if used is not None and used.text != key.text:
        print_warning(f"there is another key, which comes before it: {used.origin}.")


def logout(context: typer.Context, profile: ProfileOfCommand = None) -> None:
    """Forget the API key that login has kept, and the token made of it.

    \b
    Examples:
      personaplex logout
      personaplex logout --profile work
    """
    from personaplex_cli.api_keys import drop_key
    from personaplex_cli.config_edit import unset_value
    from personaplex_cli.settings import API_KEY
    from personaplex_cli.tokens import forget_token

    program = context.ensure_object(GlobalOptions)
    path, own = program.config.path, program.profile
    forget_token()
    places = [str(path)] if unset_value(path, own, API_KEY) else []
    places += ["the system's keyring"] if drop_key(own) else []
    whose = "" if own is None else f" of the profile {own}"
    print_note(
        f"The key{whose} is gone from {' and '.join(places)}." if places else f"No key{whose} was kept."
    )
    if left := _in_force(own):
        print_note(f"There is another key: {left.origin}.")


def _asked() -> str:
    """Raises CredentialsError if there is nothing."""
    if sys.stdin is None or sys.stdin.closed:
        raise CredentialsError("Standard input is closed: there is nowhere to read the key from.")
    key = _typed() if sys.stdin.isatty() else sys.stdin.readline()
    if not key.strip():
        raise CredentialsError("No key was given.", "It begins with pg_.")
    return key.strip()


def _typed() -> str:
    """Not by `typer.prompt`, which asks before it hides what is typed. Raises `typer.Abort` for Ctrl-C."""
    import getpass

    try:
        return getpass.getpass("API key (not shown): ")
    except (KeyboardInterrupt, EOFError):
        typer.echo(err=True)
        raise typer.Abort from None


def _check(key: Key, auth_url: str | None, ca_file: Path | None, insecure: bool) -> None:
    """Raises PersonaplexError."""
    from personaplex_cli.auth import AUTH_URL, get_token

    if insecure:
        print_warning("the server's certificate is not checked (--insecure): the API key may go to anyone.")
    try:
        get_token(key.text, auth_url or AUTH_URL, use_cache=False, ca_file=ca_file, insecure=insecure)
    except PersonaplexError as error:
        more = "Nothing was kept. To keep the key all the same: personaplex login --no-check"
        error.hint = "\n".join(filter(None, (error.hint, more)))
        raise


def _keep(path: Path, profile: str | None, key: str, *, in_file: bool) -> str:
    """Returns where. Raises CredentialsError, ConfigError."""
    from personaplex_cli.api_keys import KeyringError, keep_key
    from personaplex_cli.config_edit import add_profile, set_value
    from personaplex_cli.settings import API_KEY

    if not in_file:
        try:
            keep_key(key, profile)
        except KeyringError as error:
            _offer_the_file(error, path)
        else:
            if profile is not None:
                add_profile(path, profile)
            return "the system's keyring"
    set_value(path, profile, API_KEY, key)
    return f"{path}, which only you can read"


def _offer_the_file(error: KeyringError, path: Path) -> None:
    """Where there is nobody to ask, or the answer is no, raises CredentialsError."""
    from personaplex_cli.api_keys import API_KEY_VARIABLE

    if sys.stdin.isatty():
        print_warning(f"{error} {error.hint or ''}".strip())
        if typer.confirm(f"Keep the key in {safe_text(str(path))}, for you alone to read?", err=True):
            return
    ways = (
        "Nothing was kept. What is possible without a keyring:\n"
        "the configuration file, for you alone to read: personaplex login --file\n"
        f"or the environment of a terminal: read -rs {API_KEY_VARIABLE} && export {API_KEY_VARIABLE}"
    )
    raise CredentialsError(str(error), "\n".join(filter(None, (error.hint, ways))))


def _in_force(profile: str | None) -> Key | None:
    """The key that the next call would use."""
    from personaplex_cli.api_keys import look_for_key
    from personaplex_cli.config import load_config

    return look_for_key(load_config(profile), print_note)
