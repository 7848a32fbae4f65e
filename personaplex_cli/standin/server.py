"""The stand-in: a local server that speaks the protocol, as strictly as the real ones.

One port answers the token endpoint (`POST /v1/auth/token`) and the voice endpoint in both dialects.
"""

from __future__ import annotations

import asyncio
import http
import json
import logging
import secrets
import time
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import jwt
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from personaplex_cli.catalog import VOICES
from personaplex_cli.errors import UsageError
from personaplex_cli.standin.behaviours import clip
from personaplex_cli.standin.faults import Faults
from personaplex_cli.standin.session import StandInSession
from personaplex_cli.wire.endpoint import PATHS, Dialect
from personaplex_cli.wire.messages import Tag

TOKEN_PATH: Final = "/v1/auth/token"
API_KEY_PREFIX: Final = "pg_"

_CLOSE_TIMEOUT_S: Final = 1.0


class StandIn:
    """`async with StandIn() as standin:` serves on `standin.url` until the block ends."""

    def __init__(self, faults: Faults | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._faults = faults or Faults()
        self._host = host
        self._port = port
        self._secret = secrets.token_hex(32)
        self._server: Server | None = None

    async def __aenter__(self) -> StandIn:
        """Raises UsageError when it cannot listen there, MissingLibraryError without libopus or libogg."""
        clip("greeting")  # decoded now, not in the first moment of the first call
        try:
            self._server = await serve(
                self._voice,
                self._host,
                self._port,
                process_request=self._answer_http,
                create_connection=_WithoutPongs,
                compression=None,
                ping_interval=None,
                close_timeout=_CLOSE_TIMEOUT_S,
                logger=_silent_logger(),
            )
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "this is no address"
            raise UsageError(
                f"The stand-in cannot listen on {self._host}, port {self._port}: {why}.",
                "The address must be one of this machine's, and the port free: see --host and --port.",
            ) from None
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self._port}"

    @property
    def auth_url(self) -> str:
        return f"http{self.url.removeprefix('ws')}{TOKEN_PATH}"

    def issue_token(self) -> str:
        """A token as the token endpoint gives it."""
        now_s = int(time.time())
        lifetime_s = int(self._faults.token_lifetime)
        claims = {"iss": "personaplex stand-in", "iat": now_s, "exp": now_s + lifetime_s}
        return jwt.encode(claims, self._secret, algorithm="HS256")

    # --- before the upgrade

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        url = urlsplit(request.path)
        if url.path == TOKEN_PATH:
            return self._answer_token(connection, request)
        params = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path == PATHS[Dialect.MOSHI]:
            return None
        if url.path != PATHS[Dialect.POLARGRID]:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "There is nothing here.\n")
        if why := self._refuses(request, params):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, f"{why}\n")
        voice = params.get("voice", "")
        if voice not in _VOICE_NAMES:
            return connection.respond(http.HTTPStatus.BAD_REQUEST, f"Unknown voice: {voice[:20]}\n")
        return None

    def _answer_token(self, connection: ServerConnection, request: Request) -> Response:
        if request.method != "POST":
            return connection.respond(http.HTTPStatus.METHOD_NOT_ALLOWED, "Use POST.\n")
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not key.startswith(API_KEY_PREFIX):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "This is no API key.\n")
        body = {"token": self.issue_token(), "expires_in": self._faults.token_lifetime}
        response = connection.respond(http.HTTPStatus.OK, json.dumps(body))
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    def _refuses(self, request: Request, params: dict[str, str]) -> str | None:
        """Why the credentials are not good enough, or None."""
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        bearers = [item.strip().removeprefix("bearer.") for item in offered if "bearer." in item]
        token = bearers[0] if bearers else params.get("token")
        if not token:
            return "There is no token."
        if token.startswith(API_KEY_PREFIX):
            return None
        try:
            jwt.decode(token, self._secret, algorithms=["HS256"])
        except jwt.ExpiredSignatureError:
            return "The token has expired."
        except jwt.InvalidTokenError:
            return "The token is not valid."
        return None

    # --- after the upgrade

    async def _voice(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        url = urlsplit(connection.request.path)
        moshi = url.path == PATHS[Dialect.MOSHI]
        if moshi and not _nvidia_accepts(parse_qs(url.query, keep_blank_values=True)):
            connection.transport.abort()  # without a word, as NVIDIA's server does
            return
        try:
            if not await self._handshake(connection, early_audio_is_queued=moshi):
                return
            await StandInSession(connection, self._faults).run()
        except ConnectionClosed:
            pass

    async def _handshake(self, connection: ServerConnection, *, early_audio_is_queued: bool) -> bool:
        """Sends the handshake after the delay; False if audio came before it, which ends the call."""
        try:
            async with asyncio.timeout(self._faults.handshake_delay):
                if early_audio_is_queued:
                    await connection.wait_closed()
                while True:
                    message = await connection.recv()
                    if message[:1] == bytes((Tag.AUDIO,)):
                        await connection.close()
                        return False
        except TimeoutError:
            pass
        await connection.send(bytes((Tag.HANDSHAKE,)))
        return True


class _WithoutPongs(ServerConnection):
    """PolarGrid's runtime does not answer pings on this path: a client that counts on it must notice."""

    def __init__(self, protocol: ServerProtocol, *args: Any, **kwargs: Any) -> None:
        super().__init__(protocol, *args, **kwargs)
        send_frame = protocol.send_frame

        def without_pongs(frame: Frame) -> None:
            if frame.opcode is not Opcode.PONG:
                send_frame(frame)

        protocol.send_frame = without_pongs  # type: ignore[method-assign]


_VOICE_NAMES: Final = {voice.name for voice in VOICES}


def _nvidia_accepts(query: dict[str, list[str]]) -> bool:
    """Kyutai's server takes no parameters; NVIDIA's wants a voice it knows and a text that is not empty."""
    if not query:
        return True
    voice = query.get("voice_prompt", [""])[-1]
    return voice.removesuffix(".pt") in _VOICE_NAMES and bool(query.get("text_prompt", [""])[-1])


def _silent_logger() -> logging.Logger:
    logger = logging.getLogger("personaplex.standin")
    logger.disabled = True
    return logger
