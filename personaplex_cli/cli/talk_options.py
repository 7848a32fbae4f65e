"""What `personaplex talk` was asked for, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from personaplex_cli.echo_options import EchoOptions
from personaplex_cli.wire.endpoint import Dialect, TokenIn


class AuthMode(StrEnum):
    JWT = "jwt"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class TalkOptions:
    """As they were given; nothing is checked yet. Limits in seconds, 0 for none."""

    voice: str
    voice_is_chosen: bool
    """On the command line: then it is used whatever the persona's file says."""
    persona: str | None = field(repr=False)
    region: str
    input: str | None
    output: str | None
    texts: tuple[str, ...] = field(repr=False)
    token: str | None = field(repr=False)
    auth: AuthMode
    token_in: TokenIn
    auth_url: str | None
    server: str | None
    dialect: Dialect
    ca_file: Path | None
    insecure: bool
    local: bool
    input_device: str | None
    output_device: str | None
    input_channel: int | None
    max_buffer_ms: int
    echo: EchoOptions
    handshake_timeout_s: float
    max_duration_s: float
    idle_timeout_s: float
    tail_s: float
    bos_marker: bool
    push_to_talk: bool
    stdin_text: bool
    plain: bool
    json: bool
    earcons: bool
    reconnect: bool
    debug: bool
