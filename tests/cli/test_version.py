from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import pytest

import personaplex_cli
from personaplex_cli.cli import version
from personaplex_cli.cli.app import run
from personaplex_cli.codec import library
from personaplex_cli.errors import ExitCode, MissingLibraryError

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture
def quick(monkeypatch: Patch) -> None:
    """No library is asked by a child."""
    monkeypatch.setattr(version, "_BY_CHILD", {})


def reported() -> dict[str, str]:
    """What is said, by name."""
    return parsed(version.report())


def parsed(lines: Iterable[str]) -> dict[str, str]:
    return {line[:16].strip(): line[16:] for line in lines}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("arguments", [["--version", "--verbose"], ["--verbose", "--version"]])
def test_verbose_in_either_order(capsys: Capture, arguments: list[str]) -> None:
    assert run(arguments) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["personaplex", personaplex_cli.__version__]
    assert len(lines) > 15


@pytest.mark.parametrize("arguments", [["--verbose"], ["--verbose", "voices"]])
def test_verbose_alone_is_an_error(capsys: Capture, arguments: list[str]) -> None:
    assert run(arguments) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")


def test_the_process_tells_all_and_no_secret(own_home: Path) -> None:
    folder = own_home / "own-config"
    folder.mkdir()
    (folder / "config.toml").write_text('api_key = "pg_secret1"\nbroken', "utf-8")
    secrets = {
        "POLARGRID_API_KEY": "pg_secret2",
        "PERSONAPLEX_TOKEN": "secret3",
        "PERSONAPLEX_PERSONA": "secret4",
        "HTTPS_PROXY": "http://user:secret5@proxy.example",
        "PULSE_SERVER": "secret6.example",
        "PERSONAPLEX_secret7": "",
    }
    environment = os.environ | secrets | {"PERSONAPLEX_CONFIG": str(folder / "config.toml")}
    result = subprocess.run(
        [sys.executable, "-m", "personaplex_cli", "--version", "--verbose"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "secret" not in result.stdout
    assert str(own_home) not in result.stdout
    said = parsed(result.stdout.splitlines())
    assert said["configuration"] == f"{Path('~/own-config/config.toml')} (is there)"
    for name in ("POLARGRID_API_KEY", "PERSONAPLEX_TOKEN", "PERSONAPLEX_PERSONA", "PERSONAPLEX_CONFIG"):
        assert name in said["variables"]
    assert said["proxies"] == "HTTPS_PROXY (set)"
    assert said["PulseAudio"] == "PULSE_SERVER is set"
    assert said["stdout"].startswith("no terminal, ")
    assert said["websockets"] == metadata.version("websockets")
    assert list(said)[-2:] == ["libsndfile", "PortAudio"]


@pytest.mark.usefixtures("quick")
def test_nothing_set(monkeypatch: Patch) -> None:
    for name in ("PERSONAPLEX_CONFIG", "PERSONAPLEX_CACHE_DIR", "TERM", "XDG_RUNTIME_DIR", "PULSE_SERVER"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("PERSONAPLEX_")]:
        monkeypatch.delenv(name)
    said = reported()
    assert said["variables"] == said["proxies"] == "none set"
    assert said["terminal"].startswith("TERM not set, ")
    assert said["PulseAudio"] == "no sign of it"
    assert said["configuration"].startswith("~") and said["configuration"].endswith("(not there)")


@pytest.mark.usefixtures("quick")
def test_a_terminal_sees_nothing_harmful(monkeypatch: Patch) -> None:
    monkeypatch.setenv("TERM", "a\x1b[2Jb")
    assert "\x1b" not in reported()["terminal"]


@pytest.mark.usefixtures("quick")
def test_a_socket_of_a_sound_server_is_seen(monkeypatch: Patch, tmp_path: Path) -> None:
    (tmp_path / "pipewire-0").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("PIPEWIRE_REMOTE", raising=False)
    assert reported()["PipeWire"] == "XDG_RUNTIME_DIR/pipewire-0 is there"


@pytest.mark.usefixtures("quick")
def test_a_configuration_elsewhere_is_named_in_full(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSONAPLEX_CONFIG", str(tmp_path / "c.toml"))
    assert reported()["configuration"] == f"{tmp_path / 'c.toml'} (not there)"


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_terminal_and_its_size(monkeypatch: Patch) -> None:
    import fcntl
    import pty
    import struct
    import termios

    keyboard, screen = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
    with open(keyboard, "rb"), open(screen, "w", encoding="utf-8") as stream:
        assert version._stream(stream) == "terminal, 97x31, utf-8"


def test_a_stream_that_is_closed_or_was_never_there() -> None:
    stream = io.StringIO()
    stream.close()
    assert version._stream(stream) == version._stream(None) == "closed"


# --- packages and libraries


@pytest.mark.usefixtures("quick")
def test_packages_are_those_of_the_metadata_without_development_s(monkeypatch: Patch) -> None:
    wanted = ["typer<1,>=0.27", "no-such-package>=1", "livekit<2; extra == 'aec'", 'pytest; extra == "dev"']
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    assert dict(version._packages()) == {
        "typer": metadata.version("typer"),
        "no-such-package": "not installed",
        "livekit": metadata.version("livekit"),
    }


@pytest.mark.usefixtures("quick")
def test_a_source_tree_that_is_not_installed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(version, "DISTRIBUTION", "no-such-package")
    assert reported()["no-such-package"] == "not installed as a package"


def raising(error: Exception) -> Callable[[], None]:
    def load() -> None:
        raise error

    return load


@pytest.mark.usefixtures("quick")
def test_libopus_that_is_not_there_or_not_itself(monkeypatch: Patch) -> None:
    monkeypatch.setattr(library, "load", raising(MissingLibraryError("The library libogg is not installed.")))
    assert reported()["libopus"] == "not found: The library libogg is not installed."
    monkeypatch.setattr(library, "load", raising(AttributeError("opus_encode")))
    assert reported()["libopus"] == "not usable: AttributeError"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('1.2.3')", "1.2.3"),
        ("raise OSError('PortAudio library not found')", "not found"),
        ("import no_such_module", "not usable: ModuleNotFoundError"),
        pytest.param(
            "import os; os.kill(os.getpid(), 9)",
            "crashed (signal 9)",
            marks=pytest.mark.skipif(os.name != "posix", reason="signals"),
        ),
    ],
)
def test_a_library_that_a_child_asks(monkeypatch: Patch, code: str, said: str) -> None:
    monkeypatch.setattr(version, "_BY_CHILD", {"lib": code})
    assert reported()["lib"] == said


def test_a_library_that_hangs(monkeypatch: Patch) -> None:
    monkeypatch.setattr(version, "CHILD_LIMIT_S", 0.1)
    monkeypatch.setattr(version, "_BY_CHILD", {"lib": "import time; time.sleep(60)"})
    assert reported()["lib"] == "no answer within 0.1 s"


def test_modules_in_the_current_folder_stay_out(monkeypatch: Patch, tmp_path: Path) -> None:
    (tmp_path / "no_such_module.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(version, "_BY_CHILD", {"lib": "import no_such_module; print('taken')"})
    assert reported()["lib"] == "not usable: ModuleNotFoundError"
