"""`personaplex config`, and what commands make of the configuration."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import keyring.core
import pytest
import typer
from test_config import KEY, write_config
from test_keyring import Backend

from personaplex_cli.catalog import DEFAULT_VOICE
from personaplex_cli.cli import conversation
from personaplex_cli.cli.app import CONFIGURED, app, run
from personaplex_cli.cli.plan import make_plan
from personaplex_cli.cli.talk_options import TalkOptions
from personaplex_cli.config import config_path, load_config
from personaplex_cli.echo_options import EchoCancel, EchoOptions
from personaplex_cli.errors import ExitCode
from personaplex_cli.settings import BY_NAME, SETTINGS

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch

SECRET = "tulip"

FILE = f"""\
voice = "NATM1"
api_key = "{KEY}"
persona = "You are {SECRET}."
server = "wss://{SECRET}:{SECRET}@voice.example:8998/chat?key={SECRET}"
rate_per_minute = 0.12

[profiles.work]
voice = "VARF1"
earcons = true
"""


@pytest.fixture
def terminal(capsys: Capture, monkeypatch: Patch) -> None:
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(type(stream), "isatty", lambda _: True)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)


def editor(folder: Path, source: str) -> str:
    """A command that runs `source` on the file, whose path is in `path`."""
    script = folder / "editor.py"
    script.write_text(f"import pathlib, sys\npath = pathlib.Path(sys.argv[-1])\n{source}\n")
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"


def rows(capsys: Capture) -> dict[str, str]:
    """What `show` printed, by names."""
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines}


# --- show


def test_nothing_is_set(capsys: Capture) -> None:
    assert run(["config", "show"]) == ExitCode.OK
    assert capsys.readouterr() == (f"Nothing is set: there may be settings in {config_path()}\n", "")


def test_show_names_each_origin_and_no_secret(capsys: Capture, monkeypatch: Patch) -> None:
    write_config(FILE)
    monkeypatch.setenv("PERSONAPLEX_REGION", "nyc")
    monkeypatch.setenv("ACCESSIBLE", "1")
    assert run(["--profile", "work", "config", "show"]) == ExitCode.OK
    assert rows(capsys) == {
        "api_key": "set file, line 2",
        "rate_per_minute": "0.12 file, line 5",
        "profile": "work option --profile",
        "voice": "VARF1 profile work, line 8",
        "persona": "14 characters file, line 3",
        "region": "nyc environment PERSONAPLEX_REGION",
        "server": "wss://voice.example:8998/chat?... file, line 4",
        "plain": "true environment ACCESSIBLE",
        "earcons": "true profile work, line 9",
    }


@pytest.mark.parametrize("options", [[], ["--json"], ["--all"], ["--all", "--json"]])
def test_show_has_no_secret_in_any_form(options: list[str], capsys: Capture, monkeypatch: Patch) -> None:
    write_config(FILE.replace('"NATM1"', '"NATM1"\ninput_device = "pg_oops"'))
    monkeypatch.setenv("PERSONAPLEX_AUTH_URL", f"https://me:{SECRET}@[oops")
    assert run(["config", "show", *options]) == ExitCode.OK
    out, err = capsys.readouterr()
    for secret in (SECRET, KEY, "pg_oops"):
        assert secret not in out + err


@pytest.mark.parametrize("server", [f"user:{SECRET}@voice.example", f"wss://voice.example/{KEY}"])
def test_show_has_no_secret_of_an_address_that_is_none(server: str, capsys: Capture) -> None:
    write_config(f'server = "{server}"\n')
    assert run(["config", "show"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert out.startswith("server") and SECRET not in out and KEY not in out


def test_show_all_has_every_setting_with_its_default(capsys: Capture) -> None:
    assert run(["config", "show", "--all"]) == ExitCode.OK
    shown = rows(capsys)
    assert list(shown) == list(BY_NAME)
    assert shown["voice"] == f"{DEFAULT_VOICE} default"
    assert shown["max_buffer"] == "400 default"
    assert shown["tail"] == "3 default"
    assert shown["api_key"] == shown["server"] == "- default"


def test_show_as_json(capsys: Capture) -> None:
    path = write_config(FILE)
    assert run(["config", "show", "--profile", "work", "--json"]) == ExitCode.OK
    shown = json.loads(capsys.readouterr().out)
    assert (shown["file"], shown["profile"]) == (str(path), "work")
    assert {"name": "voice", "value": "VARF1", "origin": "profile work, line 8"} in shown["settings"]
    assert {"name": "earcons", "value": True, "origin": "profile work, line 9"} in shown["settings"]
    assert {"name": "rate_per_minute", "value": 0.12, "origin": "file, line 5"} in shown["settings"]


@pytest.mark.parametrize(
    ("arguments", "variable", "content", "origin"),
    [
        (["--profile", "work"], "home", "", "work option --profile"),
        ([], "home", "", "home environment PERSONAPLEX_PROFILE"),
        ([], "", 'profile = "home"\n', "home file, line 1"),
    ],
)
def test_show_says_who_chose_the_profile(
    arguments: list[str], variable: str, content: str, origin: str, capsys: Capture, monkeypatch: Patch
) -> None:
    write_config(f"{content}[profiles.work]\n[profiles.home]\n")
    monkeypatch.setenv("PERSONAPLEX_PROFILE", variable)
    for line in ([*arguments, "config", "show"], ["config", "show", *arguments]):
        assert run(line) == ExitCode.OK
        assert rows(capsys)["profile"] == origin


def test_show_says_that_the_key_is_in_the_keyring(capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setattr(keyring.core, "_keyring_backend", Backend(default=KEY))
    assert run(["config", "show"]) == ExitCode.OK
    assert rows(capsys) == {"api_key": "set keyring"}


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_show_says_that_others_can_read_the_key(capsys: Capture) -> None:
    write_config(FILE, 0o644)
    assert run(["config", "show"]) == ExitCode.OK
    assert "chmod 600" in capsys.readouterr().err


def test_show_names_mistakes(capsys: Capture) -> None:
    write_config(f'voice = "{KEY}"\n')
    assert run(["config", "show"]) == ExitCode.CREDENTIALS
    out, err = capsys.readouterr()
    assert out == "" and f"{config_path()}, line 1: voice must be" in err and KEY not in err


# --- path, set, unset


def test_path(capsys: Capture) -> None:
    assert run(["config", "path"]) == ExitCode.OK
    assert capsys.readouterr().out == f"{config_path()}\n"


@pytest.mark.parametrize(
    ("name", "given", "written"),
    [
        ("profile", "work", '"work"'),
        ("persona", "Say \"hi\".\nThen 'bye'.", None),
        ("plain", "yes", "true"),
        ("max_buffer", "250", "250"),
        ("max_duration", "600", "600"),
        ("tail", "0.5", "0.5"),
        ("input_device", "3", '"3"'),
    ],
)
def test_set_and_unset(name: str, given: str, written: str | None) -> None:
    path = write_config("[profiles.work]\n")
    assert run(["config", "set", name, given]) == ExitCode.OK
    assert load_config().get(name) == (given if written is None else tomllib.loads(f"x = {written}")["x"])
    assert written is None or path.read_text().startswith(f"{name} = {written}\n")
    assert run(["config", "unset", name]) == ExitCode.OK
    assert load_config().get(name) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["config", "set", "voice", "VARF1", "--profile", "work"],
        ["--profile", "work", "config", "set", "voice", "VARF1"],
    ],
)
def test_set_in_a_profile(arguments: list[str], capsys: Capture) -> None:
    assert run(arguments) == ExitCode.OK
    assert capsys.readouterr() == ("", f"note: voice is set in profile work of {config_path()}.\n")
    assert config_path().read_text() == '[profiles.work]\nvoice = "VARF1"\n'
    assert run(["config", "unset", "voice", "--profile", "work"]) == ExitCode.OK
    assert config_path().read_text() == "[profiles.work]\n"
    assert run(["config", "unset", "voice"]) == ExitCode.OK
    assert "voice is no longer set" in (err := capsys.readouterr().err) and "voice was not set" in err


def test_a_negative_number_is_no_option(capsys: Capture) -> None:
    assert run(["config", "set", "--", "max_duration", "-1"]) == ExitCode.USAGE
    assert "max_duration must be a number of seconds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["api_key", KEY], "Use personaplex login"),
        (["voise", "x"], "Is voice meant?"),
        ([KEY, "x"], "There is no setting 'pg_…'."),
        (["voice", KEY], "voice must be the name of a voice."),
        (["max_buffer", KEY], "max_buffer must be a whole number from 0 to 2000."),
        (["max_buffer", "2001"], "For example: personaplex config set max_buffer 250"),
        (["plain", "1"], "plain must be true or false."),
        (["tail", "nan"], "tail must be a number of seconds"),
        (["profile", "nobody"], "There is no profile nobody"),
        (["profile", "work", "--profile", "work"], "A profile cannot name a profile."),
        (["voice", "NATM1", "--profile", "default"], "No profile can be called default"),
    ],
)
def test_what_cannot_be_set(arguments: list[str], said: str, capsys: Capture) -> None:
    path = write_config("[profiles.work]\n")
    assert run(["config", "set", *arguments]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == "" and said in err and KEY not in err
    assert path.read_text() == "[profiles.work]\n"


def test_what_is_no_setting_can_be_unset(capsys: Capture) -> None:
    path = write_config(f'{KEY} = 1\nvoise = "x"\n')
    for name in ("voise", KEY):
        assert run(["config", "unset", name]) == ExitCode.OK
    assert path.read_text() == ""
    assert KEY not in capsys.readouterr().err


# --- edit


def test_a_new_file_begins_with_every_setting_as_a_comment(
    terminal: None, tmp_path: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("EDITOR", editor(tmp_path, "pass"))
    assert run(["config", "edit"]) == ExitCode.OK
    assert capsys.readouterr() == (f"{config_path()}\n", "")
    text = config_path().read_text()
    assert tomllib.loads(text) == {}
    for setting in SETTINGS:
        assert f"\n# {setting.name} = {setting.example}\n" in text
    config_path().write_text(
        "\n".join(line.removeprefix("# ") for line in text.splitlines() if " = " in line or "[pro" in line)
    )
    load_config("work")  # all of it is right


def test_the_file_behind_a_link_is_edited(
    terminal: None, tmp_path: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    target = tmp_path / "dotfiles.toml"
    target.write_text("")
    config_path().symlink_to(target)
    monkeypatch.setenv("EDITOR", editor(tmp_path, f"assert path == pathlib.Path({str(target)!r})"))
    assert run(["config", "edit"]) == ExitCode.OK


def test_without_a_terminal_there_is_the_path(capsys: Capture) -> None:
    assert run(["config", "edit"]) == ExitCode.OK
    assert capsys.readouterr() == (f"{config_path()}\n", "")
    assert config_path().exists()


@pytest.mark.parametrize(("answers", "code"), [([True], ExitCode.OK), ([False], ExitCode.CREDENTIALS)])
def test_mistakes_are_told_and_can_be_edited_again(
    answers: list[bool],
    code: ExitCode,
    terminal: None,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: Patch,
) -> None:
    source = "path.write_text('voice = \"NATM1\"' if path.read_text() == 'voise = 1' else 'voise = 1')"
    monkeypatch.setenv("EDITOR", editor(tmp_path, source))
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: answers.pop(0))
    assert run(["config", "edit"]) == code
    assert answers == []
    assert f"error: {config_path()}, line 1: unknown setting 'voise'." in capsys.readouterr().err


def test_ctrl_c_at_a_question_is_130(terminal: None, tmp_path: Path, monkeypatch: Patch) -> None:
    def abort(*_: object, **__: object) -> None:
        raise typer.Abort

    monkeypatch.setenv("EDITOR", editor(tmp_path, "path.write_text('voise = 1')"))
    monkeypatch.setattr(typer, "confirm", abort)
    assert run(["config", "edit"]) == ExitCode.INTERRUPTED


# --- what commands make of it


@pytest.fixture
def calls(monkeypatch: Patch) -> list[TalkOptions]:
    """What `talk` would do."""
    calls: list[TalkOptions] = []
    monkeypatch.setattr(conversation, "converse", calls.append)
    return calls


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["talk", "--help"],
        ["voices"],
        ["config", "path"],
        ["usage"],
    ],
)
def test_what_needs_no_configuration_works_with_a_broken_one(arguments: list[str], capsys: Capture) -> None:
    write_config("voice = ")
    assert run(["--profile", "nobody", *arguments]) == ExitCode.OK
    assert capsys.readouterr().err == ""


def test_help_says_what_is_built_in_not_what_the_file_says(capsys: Capture) -> None:
    write_config('voice = "NATM1"')
    assert run(["talk", "--help"]) == ExitCode.OK
    assert f"default: {DEFAULT_VOICE}]" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", sorted(set(CONFIGURED) - {"doctor"}))  # which is for what is broken
def test_what_needs_it_names_its_mistakes(command: str, capsys: Capture) -> None:
    write_config("\nvoise = 1")
    assert run([command]) == ExitCode.CREDENTIALS
    assert ", line 2: unknown setting 'voise'." in capsys.readouterr().err
    write_config("[profiles.work]\n")
    assert run(["--profile", "wrok", command]) == ExitCode.USAGE
    assert "The profiles are: work." in capsys.readouterr().err


def test_configured_commands_are_commands() -> None:
    group: Any = typer.main.get_command(app)
    assert set(CONFIGURED) <= set(group.commands)


def test_quick_commands_do_not_read_it() -> None:
    code = (
        "import sys; from personaplex_cli.cli.app import run; "
        "[run([name]) for name in ('--help', 'voices', '--version')]; "
        "unwanted = {'tomllib', 'tomlkit', 'keyring', 'personaplex_cli.config', 'personaplex_cli.api_keys'}; "
        "print(sorted(unwanted & sys.modules.keys()), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n"


def test_reading_needs_no_writer(monkeypatch: Patch) -> None:
    code = (
        "import sys; from personaplex_cli.config import load_config; load_config(); "
        "print(sorted({'tomlkit', 'keyring'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_a_local_call_has_no_use_for_the_server_of_the_file(calls: list[TalkOptions]) -> None:
    write_config('server = "ws://a.example"\nvoice = "NATM1"\n')
    assert run(["talk", "--local"]) == ExitCode.OK
    assert (calls[0].server, calls[0].voice) == (None, "NATM1")
    assert run(["talk", "--local", "--server", "ws://b.example"]) == ExitCode.OK
    assert calls[1].server == "ws://b.example"  # a contradiction, which is told later


MICROPHONE = 'push_to_talk = true\necho_cancel = "on"\nnoise_suppression = true\n'


@pytest.mark.parametrize(
    ("content", "options", "name", "value"),
    [
        ("plain = true", ["--json"], "plain", False),
        ("plain = true", ["--json", "--plain"], "plain", True),
        ("plain = true", ["--no-plain"], "plain", False),
        ("push_to_talk = true", ["--input", "x.wav"], "push_to_talk", False),
        ("push_to_talk = true", ["--input-device", "none"], "push_to_talk", False),
        ("push_to_talk = true", ["--input", "x.wav", "--push-to-talk"], "push_to_talk", True),
        ("push_to_talk = true", [], "push_to_talk", True),
        ('output_device = "headset"', ["--input", "x.wav"], "output_device", None),
        ('output_device = "headset"', ["--input", "x", "--output-device", "2"], "output_device", "2"),
        ('output_device = "headset"', [], "output_device", "headset"),
        ("budget = 5", ["--dialect", "moshi"], "budget", 0.0),
        ("budget = 5", ["--dialect", "moshi", "--budget", "6"], "budget", 6.0),
        (MICROPHONE, ["--input", "x.wav"], "echo", EchoOptions()),
        (MICROPHONE, ["--half-duplex"], "echo", EchoOptions(half_duplex=True)),
        (
            MICROPHONE,
            ["--no-noise-suppression"],
            "echo",
            EchoOptions(EchoCancel.ON),
        ),
        ("half_duplex = true", ["--gain-control"], "echo", EchoOptions(gain_control=True)),
        ("half_duplex = true", ["--echo-cancel", "on"], "echo", EchoOptions(EchoCancel.ON)),
        ("half_duplex = true", [], "echo", EchoOptions(half_duplex=True)),
        (
            "half_duplex = true",
            ["--half-duplex", "--high-pass"],
            "echo",
            EchoOptions(half_duplex=True, high_pass=True),
        ),
    ],
)
def test_what_holds_for_all_calls_gives_way_to_what_is_asked_for(
    content: str, options: list[str], name: str, value: Any, calls: list[TalkOptions]
) -> None:
    write_config(content)
    assert run(["talk", *options]) == ExitCode.OK
    assert getattr(calls[0], name) == value


def test_a_plan_is_made_of_the_profile(calls: list[TalkOptions], tmp_path: Path) -> None:
    write_config(
        'rate_per_minute = 0.5\npersona = "@bees.md"\n'
        "[profiles.work]\nrate_per_minute = 0.25\nmax_duration = 60\n"
    )
    (config_path().parent / "bees.md").write_text("You keep bees.")
    assert run(["--profile", "work", "talk"]) == ExitCode.OK
    plan = make_plan(calls[0])
    assert (plan.rate_per_minute, plan.limits.max_duration_s) == (0.25, 60)
    assert plan.persona == "You keep bees."
    assert KEY not in repr(calls[0])
