"""What `personaplex talk` was asked for, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from personaplex_cli.echo_options import EchoCancel, EchoOptions
from personaplex_cli.wire.endpoint import Dialect, TokenIn

if TYPE_CHECKING:
    from personaplex_cli.config import Config


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
    budget: float
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
    config: Config


def for_this_call(options: TalkOptions, chosen: Callable[[str], bool]) -> TalkOptions:
    """`options` without what environment and configuration say for all calls where it does not go with what
    was `chosen` for this one, on the command line. What was chosen stays, and is checked later."""
    from personaplex_cli.ends import is_nothing

    idle = []
    if options.local:
        idle += ["server", "token"]
    if options.json:
        idle.append("plain")
    if options.input is not None or is_nothing(options.input_device):
        idle.append("push_to_talk")
    if options.input is not None:  # then the agent is heard only where this very call says so
        idle.append("output_device")
    if options.dialect is Dialect.MOSHI:  # one's own server takes no money
        idle.append("budget")
    nothing = dict.fromkeys(("server", "token", "output_device"))
    off = {**nothing, "plain": False, "push_to_talk": False, "budget": 0.0}
    changes = {name: off[name] for name in idle if not chosen(name)}
    echo = echo_for_this_call(options.echo, options.input is None, chosen)
    return replace(options, **changes, echo=echo)  # type: ignore[arg-type]


def echo_for_this_call(echo: EchoOptions, has_microphone: bool, chosen: Callable[[str], bool]) -> EchoOptions:
    """`echo` without what goes with none of what was `chosen`, or without a microphone."""
    names = {one.name: "echo_cancel" if one.name == "cancel" else one.name for one in fields(EchoOptions)}
    given = {field: getattr(echo, field) for field, name in names.items() if chosen(name)}
    alone = EchoOptions(**given)
    if not has_microphone or alone.half_duplex:
        return alone
    if alone.processes or alone.cancel is EchoCancel.ON:
        return replace(echo, half_duplex=False)
    return echo
