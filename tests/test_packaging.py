"""What is shipped: metadata, package data, the man page. `make dist` builds the wheel itself and tries it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import personaplex_cli
from personaplex_cli.call_record import ledger_path
from personaplex_cli.cli.app import app
from personaplex_cli.config import config_path
from personaplex_cli.personas import personas_folder
from personaplex_cli.tokens import cache_path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "personaplex_cli"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]

needs_groff = pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")


@pytest.fixture(scope="module")
def manpage() -> ModuleType:
    return load_script("manpage")


@pytest.fixture(scope="module")
def dist() -> ModuleType:
    return load_script("dist")


def load_script(name: str) -> ModuleType:
    """scripts/NAME.py, which finds its neighbours as it does when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        spec = importlib.util.spec_from_file_location(f"{name}_script", ROOT / "scripts" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def groff(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", *options],
        input=text,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )


# --- metadata and package data


def test_the_version_is_the_package_s() -> None:
    source = (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text("utf-8")
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert f'__version__ = "{personaplex_cli.__version__}"' in source


def test_the_command_is_a_function() -> None:
    (target,) = PROJECT["project"]["scripts"].values()
    module, _, name = target.partition(":")
    assert callable(getattr(import_module(module), name))


def test_files_that_the_metadata_names_are_there() -> None:
    project = PROJECT["project"]
    for name in (project["readme"], *project["license-files"], *WHEEL["shared-data"]):
        assert (ROOT / name).is_file()
    assert WHEEL["packages"] == [PACKAGE.name]


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="needs git's checkout")
def test_no_file_of_the_package_is_left_out_of_the_wheel() -> None:
    """The build leaves out what .gitignore names: a folder called build, for example."""
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.suffix for path in files} >= {".py", ".opus", ".txt", ".md"}
    names = "\n".join(map(str, files))
    ignored = subprocess.run(
        ["git", "-C", ROOT, "check-ignore", "--no-index", "--stdin"],
        input=names,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ignored.stdout == ""


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_help_names_every_target() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    shown = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True).stdout
    assert targets is not None
    assert set(re.findall(r"^ +make (\w+) +\S", shown, re.MULTILINE)) == set(targets[1].split())


# --- the man page


def test_the_man_page_is_up_to_date(manpage: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    status = manpage.main(["--check"])
    assert status == 0, capsys.readouterr().err


def test_a_man_page_that_is_out_of_date_is_noticed_and_written(
    manpage: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "personaplex.1"
    assert manpage.main(["--check"], page) == 1
    page.write_text("old", "utf-8")
    capsys.readouterr()
    assert manpage.main(["--check"], page) == 1
    assert capsys.readouterr().err == "personaplex.1 does not say what the program does: run make man\n"
    assert manpage.main([], page) == 0
    assert page.read_text("utf-8") == manpage.page()
    assert manpage.main(["--check"], page) == 0


def test_a_wrong_option_of_the_script_is_an_error(manpage: ModuleType) -> None:
    assert manpage.main(["--chek"]) == 2


@needs_groff
def test_the_page_says_what_the_help_says(manpage: ModuleType) -> None:
    """Each command's help, word for word, in the page as people see it."""
    page = words(groff(manpage.page()).stdout)
    group: Any = typer.main.get_command(app)
    context = group.make_context("personaplex", [], resilient_parsing=True)
    helps = list(all_helps(group, context))
    assert len(helps) > 10
    for help_text in helps:
        about, _, options = help_text.partition("Options:\n")
        usage, *paragraphs = about.split("\n\n")
        assert words(usage.removeprefix("Usage:")) in page
        for paragraph in paragraphs:
            if not paragraph.lstrip().startswith("Arguments:"):
                assert words(paragraph).removeprefix("Examples: ") in page
        for row in re.split(r"\n  (?=\S)", options.partition("\n\n")[0]):
            if "--help" not in row:
                assert words(row) in page


def all_helps(command: Any, context: Any) -> list[str]:
    """As `--help` prints them, for a command and those below it."""
    helps = [command.get_help(context)]
    for name, below in getattr(command, "commands", {}).items():
        helps += all_helps(below, below.make_context(name, [], parent=context, resilient_parsing=True))
    return helps


def words(text: str) -> str:
    """`text` on one line, and without the lines' ends that fall into a word with a hyphen."""
    return re.sub(r"(?<=[-/|]) ", "", " ".join(text.split()))


@needs_groff
@pytest.mark.parametrize("width", [60, 80, 200])
def test_groff_has_nothing_to_say_against_it(manpage: ModuleType, width: int) -> None:
    assert groff(manpage.page(), f"-rLL={width}n").stderr == ""


@needs_groff
def test_text_is_shown_as_it_is(manpage: ModuleType) -> None:
    texts = [r"\fBa\e", ".SH a", "'b'", "--c-d", '"e" `f`', "~/g ^h", "naïve… → 語", "a \\", "...", "'"]
    lines = [f".PP\n{manpage.escaped(text)}" for text in texts]
    shown = groff("\n".join(['.TH T 1 "" "" ""', ".SH A", *lines, ""]))
    assert shown.stderr == ""
    assert re.findall(r"^ {7}(\S.*)$", shown.stdout, re.MULTILINE) == texts


def test_the_page_is_ascii(manpage: ModuleType) -> None:
    assert manpage.page().isascii()


@pytest.mark.skipif(sys.platform != "linux", reason="the paths of Linux")
def test_the_page_names_the_files(
    manpage: ModuleType, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONFIG_HOME", "CACHE_HOME", "DATA_HOME", "STATE_HOME"):
        monkeypatch.delenv(f"XDG_{name}")
    for name in ("PERSONAPLEX_CONFIG", "PERSONAPLEX_CACHE_DIR", "PERSONAPLEX_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    paths = (config_path(), personas_folder(), cache_path(), ledger_path())
    assert [Path(name).expanduser() for name in manpage.FILES] == list(paths)


# --- the release check


def test_the_wheel_must_hold_all_of_the_package_and_nothing_else(dist: ModuleType) -> None:
    expected = dist.package_files()
    assert "personaplex_cli/standin/clips/greeting.opus" in expected
    dist.compare("the wheel", expected, expected)
    with pytest.raises(dist.NotFitError, match="the wheel lacks personaplex_cli/__main__.py"):
        dist.compare("the wheel", expected - {"personaplex_cli/__main__.py"}, expected)
    with pytest.raises(dist.NotFitError, match="the wheel has tests/conftest.py, which nobody needs"):
        dist.compare("the wheel", expected | {"tests/conftest.py"}, expected)


def test_the_wheel_is_tried_without_the_source_tree_and_the_user_s_own(
    dist: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "POLARGRID_API_KEY", "PERSONAPLEX_SERVER"):
        monkeypatch.setenv(name, "x")
    environment = dist.clean_environment(tmp_path)
    assert not {name for name in environment if name.startswith(("PYTHON", "VIRTUAL", "POLAR", "PERSONA"))}
    assert environment["HOME"] == str(tmp_path)
    assert "PATH" in environment


def test_what_a_failing_command_said_is_shown(dist: ModuleType) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    with pytest.raises(dist.NotFitError, match=r"exit status 3\nout\nerr\n"):
        dist.run([sys.executable, "-S", "-c", code], 30)


def test_a_command_that_hangs_is_ended(dist: ModuleType) -> None:
    with pytest.raises(dist.NotFitError, match=r"not done after 0\.1 s"):
        dist.run([sys.executable, "-S", "-c", "import time; time.sleep(60)"], 0.1)
