"""Options that several commands share, and what the program's own options set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from personaplex_cli.config import Config


@dataclass
class GlobalOptions:
    """The context's `obj`. Made by `app.run`, filled when the options before the command are read."""

    debug: bool = False
    profile: str | None = None
    """As asked for; the file may name one, too."""
    profile_may_be_new: bool = False
    only_checks: bool = False
    """`talk` is to find what is wrong with its options, and not to call."""

    @cached_property
    def config(self) -> Config:
        """Read when it is first needed: what needs none works with a broken one, and is not held up.
        Raises ConfigError, UsageError."""
        from personaplex_cli.config import load_config

        return load_config(self.profile, may_be_new=self.profile_may_be_new)


def _profile_names(incomplete: str) -> Iterator[str]:
    """For completion by the Tab key."""
    from personaplex_cli.config import profile_names

    return (name for name in profile_names() if name.startswith(incomplete))


def _choose_profile(context: typer.Context, name: str | None) -> str | None:
    if name is not None:
        context.ensure_object(GlobalOptions).profile = name
    return name


def _begin_profile(context: typer.Context, name: str | None) -> str | None:
    if name is not None:
        context.ensure_object(GlobalOptions).profile_may_be_new = True
    return _choose_profile(context, name)


def _profile_option(callback: Any, **more: Any) -> Any:
    # Eager: the other options have their defaults from it.
    return typer.Option(
        "--profile",
        metavar="NAME",
        is_eager=True,
        callback=callback,
        autocompletion=_profile_names,
        help="The part of the configuration to use: [profiles.NAME].",
        **more,
    )


Profile = Annotated[str | None, _profile_option(_choose_profile, envvar="PERSONAPLEX_PROFILE")]

ProfileOfCommand = Annotated[str | None, _profile_option(_choose_profile)]
"""The same after a command in which it is usual."""

NewProfile = Annotated[str | None, _profile_option(_begin_profile)]
"""One that need not be there."""


def switch(name: str, help: str, **more: Any) -> Any:
    """An option that is on or off. Off, too, can be said: the environment or the configuration may say on."""
    return typer.Option(f"--{name}/--no-{name}", help=help, show_default=False, **more)


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

AuthUrl = Annotated[
    str | None,
    typer.Option(
        "--auth-url", metavar="URL", envvar="PERSONAPLEX_AUTH_URL", help="Where the API key becomes a token."
    ),
]

CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        envvar="PERSONAPLEX_CA_FILE",
        help="Trust the certificates in this PEM file, and no others.",
    ),
]

Insecure = Annotated[
    bool,
    switch(
        "insecure",
        "Do not check the server's certificate (a test server).",
        envvar="PERSONAPLEX_INSECURE",
    ),
]


def is_on_the_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def for_polargrid(context: typer.Context, ca_file: Path | None, insecure: bool) -> tuple[Path | None, bool]:
    """How certificates of PolarGrid's are checked: what environment and configuration say for all calls is
    about a server of one's own, where they name one. Raises ConfigError, UsageError."""
    config = context.ensure_object(GlobalOptions).config
    if not os.environ.get("PERSONAPLEX_SERVER") and config.get("server") is None:
        return ca_file, insecure
    own_file = ca_file if is_on_the_command_line(context, "ca_file") else None
    return own_file, insecure and is_on_the_command_line(context, "insecure")
