from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import personaplex_cli
from personaplex_cli.cli import app as app_module
from personaplex_cli.cli.app import run
from personaplex_cli.errors import AudioError, ExitCode, PersonaplexError

Capture = pytest.CaptureFixture[str]

PROGRAM = [sys.executable, "-m", "personaplex_cli"]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A program whose one command `fail` raises what is put in here."""
    to_raise: list[BaseException] = []
    program = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    program.callback()(app_module.personaplex)

    @program.command()
    def fail() -> None:
        raise to_raise[0]

    monkeypatch.setattr(app_module, "command", lambda: typer.main.get_command(program))
    return to_raise


def test_help_names_every_command_and_has_examples(capsys: Capture) -> None:
    assert run(["--help"]) == ExitCode.OK
    out = capsys.readouterr().out
    for name in ("voices", "regions", "devices", "token"):
        assert f"\n  {name} " in out
    assert "Examples:\n" in out


@pytest.mark.parametrize("command", ["voices", "regions", "devices", "token"])
def test_each_command_has_help_with_examples(capsys: Capture, command: str) -> None:
    assert run([command, "-h"]) == ExitCode.OK
    assert f"Examples:\n    {'TOKEN=$(' if command == 'token' else ''}personaplex {command}" in (
        capsys.readouterr().out
    )


def test_no_command_shows_the_help_and_is_a_usage_error(capsys: Capture) -> None:
    assert run([]) == ExitCode.USAGE
    assert "Commands:" in capsys.readouterr().err


def test_version(capsys: Capture) -> None:
    assert run(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out == f"personaplex {personaplex_cli.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said", "see"),
    [
        (["nothing"], "error: No such command 'nothing'.", "personaplex --help"),
        (["voices", "--jsn"], "error: No such option: --jsn", "personaplex voices --help"),
        (
            ["token", "--auth-url"],
            "error: Option '--auth-url' requires an argument.",
            "personaplex --help",
        ),
    ],
)
def test_a_wrong_command_line(capsys: Capture, arguments: list[str], said: str, see: str) -> None:
    assert run(arguments) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said) and err.endswith(f"  See {see}\n")


def test_an_error_is_a_line_and_its_hint(capsys: Capture, failing: list[BaseException]) -> None:
    failing.append(AudioError("There is no microphone.", "Plug one in.\nOr use a file."))
    assert run(["fail"]) == ExitCode.AUDIO
    assert capsys.readouterr() == ("", "error: There is no microphone.\n  Plug one in.\n  Or use a file.\n")


def test_debug_adds_the_traceback(capsys: Capture, failing: list[BaseException]) -> None:
    failing.append(PersonaplexError("No."))
    assert run(["--debug", "fail"]) == ExitCode.SERVER
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and err.endswith("error: No.\n")


def test_a_fault_of_the_program_is_one_line_without_details(
    capsys: Capture, failing: list[BaseException]
) -> None:
    failing.append(ValueError("pg_secret"))
    assert run(["fail"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("internal error: ValueError") and err.count("\n") == 1
    assert "pg_secret" not in err


def test_a_fault_of_the_program_with_debug(capsys: Capture, failing: list[BaseException]) -> None:
    failing.append(ValueError("what"))
    assert run(["-v", "fail"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_130_and_quiet(capsys: Capture, failing: list[BaseException]) -> None:
    failing.append(KeyboardInterrupt())
    assert run(["fail"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr() == ("", "")


def test_a_command_chooses_its_exit_code(failing: list[BaseException]) -> None:
    failing.append(typer.Exit(4))
    assert run(["fail"]) == ExitCode.CONNECTION


def test_the_process_ends_with_the_exit_code() -> None:
    result = subprocess.run([*PROGRAM, "nothing"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def buffering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)


@pytest.mark.usefixtures("buffering")
@pytest.mark.parametrize("arguments", [["voices"], ["--help"]])
def test_a_closed_pipe_is_met_quietly(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run([*PROGRAM, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (1, b"")


@pytest.mark.usefixtures("buffering")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_is_an_error_of_one_line() -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run([*PROGRAM, "voices"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.returncode == ExitCode.USAGE
    assert result.stderr == b"error: Standard output cannot be written: No space left on device.\n"


def test_quick_commands_load_nothing_heavy() -> None:
    heavy = {"rich", "httpx", "numpy", "sounddevice", "websockets", "asyncio", "ssl", "jwt", "pyogg"}
    code = (
        "import sys; from personaplex_cli.cli.app import run; "
        "[run([name]) for name in ('--help', 'voices', 'regions', '--version')]; "
        f"print(sorted({heavy} & sys.modules.keys()), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n"


def test_a_name_the_terminal_cannot_show_is_no_fault() -> None:
    code = (
        "from personaplex_cli.cli import app, output; "
        "app.run = lambda arguments: output.print_text('\\u266b'); app.main()"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert result.stdout == b"?" + os.linesep.encode()
