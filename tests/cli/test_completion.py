"""What the Tab key offers, by the protocols that Typer's scripts for bash, zsh and fish speak."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from personaplex_cli.catalog import REGIONS, VOICES
from personaplex_cli.cli.app import run
from personaplex_cli.cli.completion import _REQUEST

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch

SHELLS = ("bash", "zsh", "fish")

needs_bash = pytest.mark.skipif(os.name != "posix" or not shutil.which("bash"), reason="needs bash")


def request(shell: str, line: str) -> dict[str, str]:
    """The environment by which the script of `shell` asks what may follow `line`."""
    if shell == "bash":
        words = line.split()
        place = len(words) - (not line.endswith(" "))
        return {_REQUEST: "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(place)}
    action = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    return {_REQUEST: f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line, **action}


def values(shell: str, answer: str) -> list[str]:
    """What is offered, without what is said about it."""
    if shell == "zsh":
        return re.findall(r'^(?:_arguments \'\*: :\(\()?"([^"]+)"', answer, re.MULTILINE)
    return [line.partition("\t")[0] for line in answer.splitlines()]


@pytest.fixture(autouse=True)
def columns(monkeypatch: Patch) -> None:
    """A terminal that is narrower than what is said about many an option."""
    monkeypatch.setenv("COLUMNS", "40")


@pytest.fixture
def offered(capsys: Capture, monkeypatch: Patch) -> Callable[[str, str], list[str]]:
    """Asks in this process."""

    def ask(shell: str, line: str) -> list[str]:
        for name, value in request(shell, line).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            run([])
        assert ended.value.code == 0
        return values(shell, capsys.readouterr().out)

    return ask


Offered = Callable[[str, str], list[str]]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_program_answers_its_scripts(shell: str) -> None:
    """As the scripts start it: by nothing but the environment. (bash is there to do it itself: see below.)"""
    result = subprocess.run(
        [sys.executable, "-m", "personaplex_cli"],
        env=os.environ | request(shell, "personaplex talk --voice NATF"),
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert values(shell, result.stdout) == ["NATF0", "NATF1", "NATF2", "NATF3"]


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_and_options(offered: Offered, shell: str) -> None:
    assert {"talk", "voices", "regions", "devices", "personas"} <= set(offered(shell, "personaplex "))
    assert offered(shell, "personaplex ta") == ["talk"]
    assert {"list", "show"} <= set(offered(shell, "personaplex personas "))
    assert offered(shell, "personaplex talk --dia") == ["--dialect"]
    assert set(offered(shell, "personaplex --ver")) == {"--version", "--verbose"}
    assert offered(shell, "personaplex --version --deb") == ["--debug"]


@pytest.mark.parametrize("shell", SHELLS)
def test_values(offered: Offered, shell: str) -> None:
    regions = [region.name for region in REGIONS]
    assert offered(shell, "personaplex talk --voice ") == [voice.name for voice in VOICES]
    assert offered(shell, "personaplex talk --region ") == [*regions, "auto"]
    assert offered(shell, "personaplex talk --region sfo") == ["sfo-01", "sfo-03"]
    assert offered(shell, "personaplex talk --dialect ") == ["polargrid", "moshi"]
    assert offered(shell, "personaplex talk --local --auth k") == ["key"]


@pytest.mark.parametrize(("line", "offers"), [("talk --vo", True), ("talk --input ", False)])
def test_fish_is_told_whether_there_is_anything_or_files_may_follow(
    monkeypatch: Patch, line: str, offers: bool
) -> None:
    for name, value in request("fish", f"personaplex {line}").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "is-args")
    with pytest.raises(SystemExit) as ended:
        run([])
    assert ended.value.code == (0 if offers else 1)


def test_zsh_and_fish_say_what_a_value_is(capsys: Capture, monkeypatch: Patch) -> None:
    for shell, said in (("zsh", '"NATM1":"natural male"'), ("fish", "NATM1\tnatural male")):
        for name, value in request(shell, "personaplex talk --voice NATM1").items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            run([])
        assert said in capsys.readouterr().out


def test_a_value_for_bash_loads_nothing_heavy() -> None:
    heavy = {"rich", "httpx", "numpy", "sounddevice", "websockets", "asyncio", "ssl", "tomlkit", "keyring"}
    code = (
        "import atexit, sys; from personaplex_cli.cli.app import run; "
        f"atexit.register(lambda: print(sorted({heavy} & sys.modules.keys()), file=sys.stderr)); run([])"
    )
    environment = os.environ | request("bash", "personaplex talk --region s")
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stdout.split() == ["sfo-01", "sfo-03", "sea-01"]
    assert result.stderr == "[]\n"


# --- the scripts


@pytest.fixture
def path(tmp_path: Path, monkeypatch: Patch) -> None:
    """`personaplex` is a command."""
    program = tmp_path / "personaplex"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m personaplex_cli "$@"\n', "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@needs_bash
@pytest.mark.skipif(sys.platform != "linux", reason="a shell under another's name needs /proc")
@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_that_of_the_shell(shell: str) -> None:
    """bash under that shell's name; a second command keeps it from becoming the program."""
    line = f"exec -a {shell} bash --norc -c 'personaplex --show-completion; true'"
    script = bash(line)
    assert f"{_REQUEST}=complete_{shell}" in script
    assert "personaplex" in script


@needs_bash
@pytest.mark.usefixtures("path")
def test_bash_completes_by_the_script() -> None:
    script = """
        eval "$(personaplex --show-completion)"
        complete -p personaplex
        COMP_WORDS=(personaplex talk --dialect "") COMP_CWORD=3
        _personaplex_completion personaplex
        echo "${COMPREPLY[*]}"
    """
    registered, *replies = bash(script).split("\n", 1)
    assert registered == "complete -o default -F _personaplex_completion personaplex"
    assert replies[0].split() == ["polargrid", "moshi"]


def bash(script: str) -> str:
    result = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return result.stdout


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.usefixtures("path")
def test_fish_completes_by_the_script() -> None:
    script = """
        personaplex --show-completion | source
        complete --do-complete "personaplex talk --dia"
        complete --do-complete "personaplex talk --dialect "
    """
    result = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True)
    assert result.stderr == ""
    offers = [line.partition("\t")[0] for line in result.stdout.splitlines()]
    assert offers[0] == "--dialect"
    assert sorted(offers[1:]) == ["moshi", "polargrid"]


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")])
def test_the_shell_can_read_its_script(
    monkeypatch: Patch, capsys: Capture, tmp_path: Path, shell: str, check: str
) -> None:
    if os.name != "posix" or shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    monkeypatch.setenv(_REQUEST, f"source_{shell}")
    with pytest.raises(SystemExit):
        run([])
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out, "utf-8")
    result = subprocess.run([shell, check, script], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
