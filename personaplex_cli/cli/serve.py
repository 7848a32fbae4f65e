"""`personaplex serve`"""

from __future__ import annotations

from typing import Annotated

import typer

from personaplex_cli.cli.output import print_text

Host = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")]
Port = Annotated[
    int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="The port; 0 takes a free one.")
]
Fault = Annotated[
    list[str] | None,
    typer.Option("--fault", metavar="NAME[=VALUE]", help="Do something wrong; may be repeated."),
]


def serve(host: Host = "127.0.0.1", port: Port = 8998, fault: Fault = None) -> None:
    """Run the stand-in: a local server that greets you and repeats what you say. Ctrl-C ends it.

    It speaks both dialects, wants a token on the path of PolarGrid's (any key that begins with pg_ gets one)
    and is as strict as the real servers. Its faults show what a client makes of them:

    \b
      handshake-delay=3  token-lifetime=5   silent           odd-messages
      stall=3:2          burst=3:2          error=3          garbage=3
      close=5:1011       drop=5             second-bos=3     granules-24k
      packet-ms=80       single-pages       split-pages

    \b
    Examples:
      personaplex serve
      personaplex serve --port 9000 --fault handshake-delay=3 --fault close=20
      personaplex talk --server ws://127.0.0.1:8998 --dialect moshi
    """
    import asyncio

    asyncio.run(_serve(host, port, fault or []))


async def _serve(host: str, port: int, faults: list[str]) -> None:
    from personaplex_cli.cli.signals import until_interrupted
    from personaplex_cli.standin.faults import parse_faults
    from personaplex_cli.standin.server import StandIn

    async with StandIn(parse_faults(faults), host=host, port=port) as standin:
        print_text(f"The stand-in listens on {standin.url}")
        print_text(f"  personaplex talk --server {standin.url} --dialect moshi")
        print_text(
            "  POLARGRID_API_KEY=pg_any personaplex talk "
            f"--server {standin.url} --auth-url {standin.auth_url}"
        )
        await until_interrupted()
