"""What all tests share: a home folder of their own, and a server that exchanges keys."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

# Before NumPy is there, in this process or in a program that is started: its threads would spin on the
# processors that other tests and calls need, some 0.1 s for each start.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from fake_portaudio import FakeSounddevice

from personaplex_cli.devices import listing, portaudio, stream

_FIRST = (
    "test_end_to_end.py",
    "test_card_losses.py",
    "test_card_echo.py",
    "test_virtual_card.py",
    "test_keys_on_terminal.py",
    "test_doctor_on_card.py",
    "test_talk_command.py",
)
"""What waits most, so that the rest goes on beside it."""

_UNWANTED = ("PERSONAPLEX_", "POLARGRID_", "XDG_", "SSL_CERT_")


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # of pytest-xdist, which would begin with what has most tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _FIRST.index(item.path.name) if item.path.name in _FIRST else len(_FIRST))


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Paths where nothing is yet. (A tmp_path for each test would take seconds, all in all.)"""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder; the configuration file and the cache folder lie in it. No test sees the user's
    own key, keyring, configuration, cache or proxies."""
    for name in os.environ:
        if name.startswith(_UNWANTED) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = next(homes)
    home.mkdir()
    for name in ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("PERSONAPLEX_CONFIG", str(home / "config.toml"))
    monkeypatch.setenv("PERSONAPLEX_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    return home


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSounddevice]:
    """PortAudio is a fake, with a headset that is the default for both directions; nothing else has devices.
    Streams that a test leaves open are closed."""
    card = FakeSounddevice()
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    monkeypatch.setattr(listing, "pulse_devices", list)
    monkeypatch.setattr(portaudio, "_abandoned", [])
    yield card
    for left in list(stream._streams):
        left.close()


@dataclass
class TokenServer:
    """Answers every POST alike, and keeps what was asked."""

    url: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"token": "abc"}'
    silent_until: threading.Event | None = None
    """Set: no answer before this."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers (names in lower case) of each request."""


@pytest.fixture
def token_server() -> Iterator[TokenServer]:
    """On a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            known.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            if known.silent_until:
                known.silent_until.wait()
            self.send_response(known.status)
            for name, value in known.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(known.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        known = TokenServer(f"http://127.0.0.1:{server.server_port}/v1/auth/token")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield known
        if known.silent_until:
            known.silent_until.set()
        server.shutdown()
        thread.join()
