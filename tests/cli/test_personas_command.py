"""`personaplex personas`, and what `talk` makes of a persona."""

from __future__ import annotations

import io
import json
import shlex
import signal
import sys
from pathlib import Path

import pytest

from personaplex_cli.cli import conversation
from personaplex_cli.cli.app import run
from personaplex_cli.cli.plan import Plan, make_plan
from personaplex_cli.errors import ExitCode
from personaplex_cli.personas import create_persona, find_persona, personas_folder

Capture = pytest.CaptureFixture[str]

PROMPT = "You are Zebedee, who keeps bees."


class Typed(io.StringIO):
    """What somebody types in a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (sys.stdin, sys.stdout):  # by class: the test itself has others than its fixtures
        monkeypatch.setattr(type(stream), "isatty", lambda _: True)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)


def editor(folder: Path, source: str) -> str:
    """A command that runs `source` on the file, whose path is in `path`."""
    script = folder / "an editor.py"
    script.write_text(f"import pathlib, sys\npath = pathlib.Path(sys.argv[-1])\n{source}\n")
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(script))} --wait"


# --- list and show


def test_the_list_names_own_and_built_in_ones(capsys: Capture) -> None:
    create_persona("bees", f"---\nname: A keeper\nvoice: VARM1\n---\n{PROMPT}")
    create_persona("broken", "---\n")
    assert run(["personas", "list"]) == ExitCode.OK
    rows = {
        line.split()[0]: " ".join(line.split())
        for line in capsys.readouterr().out.split("\n\n")[0].splitlines()
    }
    assert rows["bees"] == f"bees VARM1 yours {len(PROMPT)} characters A keeper"
    assert rows["broken"] == "broken yours cannot be used see personaplex personas check broken"
    assert rows["teacher"].startswith("teacher NATF2 built in ")
    assert list(rows) == sorted(rows)


def test_the_list_as_json_has_no_prompt_in_it(capsys: Capture) -> None:
    path = create_persona("bees", f"---\nvoice: VARM1\n---\n{PROMPT}")
    assert run(["personas", "list", "--json"]) == ExitCode.OK
    out = capsys.readouterr().out
    listed = {one["name"]: one for one in json.loads(out)}
    assert listed["bees"] == {
        "name": "bees",
        "built_in": False,
        "path": str(path),
        "title": None,
        "voice": "VARM1",
        "characters": len(PROMPT),
        "problem": None,
    }
    assert listed["friend"]["built_in"] is True
    assert "Zebedee" not in out


def test_show_prints_the_prompt_and_nothing_else_on_stdout(capsys: Capture) -> None:
    path = create_persona("bees", f"---\nvoice: VARM1\n---\n{PROMPT}\n\n\x1b[31mRed.")
    assert run(["personas", "show", "BEES"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert out == f"{PROMPT}\n\n\ufffd[31mRed.\n"
    assert "VARM1" in err and str(path) in err
    assert run(["personas", "show", f"@{path}"]) == ExitCode.OK
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("command", ["show", "edit", "rm", "check"])
def test_a_persona_that_there_is_not(command: str, capsys: Capture) -> None:
    assert run(["personas", command, "techer"]) == ExitCode.USAGE
    assert "Is teacher meant?" in capsys.readouterr().err


# --- new and edit


def test_a_new_one_without_a_terminal_is_only_written(capsys: Capture) -> None:
    assert run(["personas", "new", "bees", "--voice", "varm1"]) == ExitCode.OK
    path = personas_folder() / "bees.md"
    assert capsys.readouterr() == (f"{path}\n", "")
    assert "\nvoice: VARM1\n" in path.read_text("utf-8")
    assert run(["personas", "check", "bees"]) == ExitCode.OK
    assert "nothing to complain" in capsys.readouterr().out


def test_a_new_one_that_cannot_be(capsys: Capture) -> None:
    for arguments, words in (
        (["../bees"], "cannot have this name"),
        (["bees", "--voice", "NATX1"], "no voice 'NATX1'"),
    ):
        assert run(["personas", "new", *arguments]) == ExitCode.USAGE
        assert words in capsys.readouterr().err
    assert not personas_folder().exists()
    assert run(["personas", "new", "teacher"]) == ExitCode.OK
    assert "comes before it" in capsys.readouterr().err
    assert run(["personas", "new", "Teacher"]) == ExitCode.USAGE
    assert "personas edit Teacher" in capsys.readouterr().err


def test_the_editor_gets_the_file_and_what_it_wrote_is_checked(
    terminal: None, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "no-such-editor")
    monkeypatch.setenv("VISUAL", editor(tmp_path, "path.write_text('Act well.\\npassword: tulip')"))
    assert run(["personas", "new", "bees"]) == ExitCode.OK
    err = capsys.readouterr().err
    assert find_persona("bees").path.read_text() == "Act well.\npassword: tulip"
    assert "warning: line 2: This looks like a password" in err
    assert "note: PersonaPlex knows" in err
    assert "tulip" not in err


def test_editing_a_built_in_one_makes_a_copy(
    terminal: None, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", editor(tmp_path, "path.write_text(path.read_text() + ' Sing.')"))
    for _ in range(2):
        assert run(["personas", "edit", "friend"]) == ExitCode.OK
    assert capsys.readouterr().err.count("built in") == 1
    own = find_persona("friend")
    assert not own.is_shipped and own.path.read_text("utf-8").endswith(" Sing. Sing.")


@pytest.mark.skipif(sys.platform == "win32", reason="consoles have other ways")
def test_ctrl_c_in_the_editor_does_not_end_the_program(
    terminal: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import os, signal\nos.kill(os.getppid(), signal.SIGINT)\npath.write_text('You are Bea.')"
    monkeypatch.setenv("VISUAL", editor(tmp_path, source))
    before = signal.getsignal(signal.SIGINT)
    assert run(["personas", "new", "bees"]) == ExitCode.OK
    assert find_persona("bees").path.read_text() == "You are Bea."
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("", ExitCode.OK, "No editor is set"),
        ("no-such-editor-anywhere", ExitCode.USAGE, "cannot be started"),
        ("vi '", ExitCode.USAGE, "cannot be started: this is no command"),
        (f"{shlex.quote(sys.executable)} -c 'raise SystemExit(3)'", ExitCode.USAGE, "exit status 3"),
    ],
)
def test_an_editor_that_does_not_work(
    command: str,
    code: ExitCode,
    words: str,
    terminal: None,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDITOR", command)
    assert run(["personas", "new", "bees"]) == code
    out, err = capsys.readouterr()
    assert words in err and out == f"{find_persona('bees').path}\n"


# --- rm


@pytest.mark.parametrize(("typed", "is_left"), [("y\n", False), ("n\n", True), ("\n", True)])
def test_rm_asks(
    typed: str, is_left: bool, terminal: None, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = create_persona("bees", PROMPT)
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    assert run(["personas", "rm", "bees"]) == ExitCode.OK
    assert path.exists() == is_left
    assert str(path) in capsys.readouterr().err


def test_rm_removes_nothing_when_nobody_answers(
    terminal: None, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = create_persona("bees", PROMPT)
    monkeypatch.setattr(sys, "stdin", Typed())
    assert run(["personas", "rm", "bees"]) == ExitCode.INTERRUPTED
    assert path.exists() and "internal error" not in capsys.readouterr().err


def test_rm_without_a_terminal_needs_yes(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = create_persona("friend", PROMPT)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run(["personas", "rm", "friend"]) == ExitCode.USAGE
    assert "--yes" in capsys.readouterr().err and path.exists()
    assert run(["personas", "rm", "friend", "--yes"]) == ExitCode.OK
    assert "built-in one" in capsys.readouterr().err and not path.exists()
    assert run(["personas", "rm", "friend", "--yes"]) == ExitCode.USAGE
    assert "is built in and cannot be removed" in capsys.readouterr().err


# --- check


def test_check_prints_problems_and_hints_and_fails_for_problems_only(capsys: Capture) -> None:
    assert run(["personas", "check"]) == ExitCode.OK
    assert "no personas of your own" in capsys.readouterr().err
    hinted = create_persona("hinted", "Act well.")
    assert run(["personas", "check"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert out.startswith("hinted: 9 characters, 11 bytes in an address\n  hint: PersonaPlex knows")
    create_persona("bad", "You are Bea.\npassword: tulip")
    assert run(["personas", "check"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert "\n  problem: line 2: This looks like a password" in out
    assert "Not usable as it is: bad." in err and "tulip" not in out + err
    assert run(["personas", "check", "teacher", f"@{hinted}"]) == ExitCode.OK


def test_check_as_json(capsys: Capture) -> None:
    path = create_persona("bad", "You are Bea.\npassword: tulip")
    assert run(["personas", "check", "--json", f"@{path}", "teacher"]) == ExitCode.USAGE
    bad, good = json.loads(capsys.readouterr().out)
    assert (bad["persona"], bad["characters"]) == (f"@{path}", 28)
    assert [(one["problem"], one["line"]) for one in bad["findings"]] == [(True, 2)]
    assert good["persona"] == "teacher" and good["findings"] == []
    assert run(["personas", "check", "--json", "teacher"]) == ExitCode.OK


def test_no_subcommand_shows_what_there_is(capsys: Capture) -> None:
    assert run(["personas"]) == ExitCode.USAGE
    assert "Examples:" in capsys.readouterr().err
    for command in ("list", "show", "new", "edit", "rm", "check"):
        assert run(["personas", command, "--help"]) == ExitCode.OK
        assert f"Examples:\n    personaplex personas {command}" in (capsys.readouterr().out)


# --- talk


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """What calls would have been made of."""
    made: list[Plan] = []
    monkeypatch.setattr(conversation, "converse", lambda options: made.append(make_plan(options)))
    return made


@pytest.mark.parametrize(
    ("options", "variable", "voice"),
    [
        ([], None, "VARM1"),
        ([], "NATM0", "VARM1"),
        (["--voice", "NATM3"], "NATM0", "NATM3"),
        (["--voice", "NATF0"], None, "NATF0"),
    ],
)
def test_a_personas_own_voice_is_used_unless_another_is_asked_for(
    options: list[str],
    variable: str | None,
    voice: str,
    plans: list[Plan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = create_persona("bees", f"---\nvoice: varm1\n---\n{PROMPT}")
    if variable:
        monkeypatch.setenv("PERSONAPLEX_VOICE", variable)
    for persona in ("bees", f"@{path}"):
        assert run(["talk", "--local", "--persona", persona, *options]) == ExitCode.OK
    assert [(plan.voice, plan.persona) for plan in plans] == [(voice, PROMPT)] * 2


def test_a_persona_without_a_voice_has_that_of_the_call(
    plans: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    create_persona("bees", PROMPT)
    monkeypatch.setenv("PERSONAPLEX_VOICE", "NATM2")
    monkeypatch.setenv("PERSONAPLEX_PERSONA", "bees")
    assert run(["talk", "--local"]) == ExitCode.OK
    assert run(["talk", "--local", "--persona", PROMPT]) == ExitCode.OK
    assert [(plan.voice, plan.persona) for plan in plans] == [("NATM2", PROMPT)] * 2


def test_a_call_with_a_persona_that_cannot_be(plans: list[Plan], capsys: Capture) -> None:
    create_persona("bad", "---\nvoice: NATX1\n---\nYou are Zebedee.")
    for persona, words in (
        ("bad", "line 2: There is no such voice"),
        ("frend", "Is friend meant?"),
        ("Zebedee", "may also hold a persona that is one word"),
    ):
        assert run(["talk", "--local", "--persona", persona]) == ExitCode.USAGE
        err = capsys.readouterr().err
        assert words in err and "Zebedee" not in err
    assert plans == []
