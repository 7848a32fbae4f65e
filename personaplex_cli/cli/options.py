"""Options that several commands share, and what the program's own options set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass
class GlobalOptions:
    """The context's `obj`. Made by `app.run`, filled when the options before the command are read."""

    debug: bool = False


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
    typer.Option(
        "--insecure",
        envvar="PERSONAPLEX_INSECURE",
        help="Do not check the server's certificate (a test server).",
    ),
]
