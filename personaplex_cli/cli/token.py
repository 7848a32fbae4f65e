"""`personaplex token`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from personaplex_cli.cli.options import AuthUrl, CaFile, GlobalOptions, Insecure, Json, for_polargrid
from personaplex_cli.cli.output import print_json, print_note, print_text, print_warning

if TYPE_CHECKING:
    from personaplex_cli.tokens import Token


def token(
    context: typer.Context,
    as_json: Json = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Get a new token, and keep none on the disk.")
    ] = False,
    auth_url: AuthUrl = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
) -> None:
    """Exchange the API key for a short-lived token and print it.

    The key comes from POLARGRID_API_KEY, the configuration file or the keyring (personaplex login). A token
    is kept until a minute before it expires.

    \b
    Examples:
      TOKEN=$(personaplex token)
      personaplex token --json --no-cache
    """
    import time

    from personaplex_cli.api_keys import find_key
    from personaplex_cli.auth import AUTH_URL, get_token

    config = context.ensure_object(GlobalOptions).config
    if config.note:
        print_note(config.note)
    if auth_url is None:
        ca_file, insecure = for_polargrid(context, ca_file, insecure)
    if insecure:
        print_warning("the server's certificate is not checked (--insecure): the API key may go to anyone.")
    key = find_key(config, print_note)
    result = get_token(
        key.text, auth_url or AUTH_URL, use_cache=not no_cache, ca_file=ca_file, insecure=insecure
    )
    if as_json:
        print_json(_described(result, now=time.time()))
    else:
        print_text(result.value)


def _described(result: Token, *, now: float) -> dict[str, Any]:
    """The token with its lifetime (whole seconds) and those of its claims that are no secret."""
    from datetime import UTC, datetime

    at = result.expires_at
    return {
        "token": result.value,
        "expires_at": None if at is None else datetime.fromtimestamp(int(at), UTC).isoformat(),
        "expires_in": None if at is None else max(0, int(at - now)),
        "claims": result.claims,
    }
