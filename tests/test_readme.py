"""README.md says what the program does: its generated parts, its links, its command lines."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from personaplex_cli.cli.app import command
from personaplex_cli.errors import ExitCode

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text("utf-8")
GENERATED_PARTS = ("settings", "commands", "environment", "exit codes", "faults")


class Documented:
    """The class."""

    one = 1
    """The first,
    in two lines."""
    two = 2
    three: int = 3
    """Last."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """scripts/readme.py"""
    spec = importlib.util.spec_from_file_location("readme_script", ROOT / "scripts" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for part in GENERATED_PARTS:
        name = f"{part.replace(' ', '_')}_part"
        setattr(module, name, cache(getattr(module, name)))  # each is looked at several times
    return module


# --- the generated parts


def test_the_readme_is_up_to_date(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    status = script.main(["--check"])
    assert status == 0, capsys.readouterr().err


@pytest.mark.parametrize("part", GENERATED_PARTS)
def test_a_part_that_is_out_of_date_is_noticed_and_written(
    script: ModuleType, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "README.md"
    stale.write_text(TEXT.replace(f"<!-- end: {part} -->", f"old\n<!-- end: {part} -->"), "utf-8")
    assert script.main(["--check"], stale) == 1
    assert capsys.readouterr().err == "README.md does not say what the program does: run make readme\n"
    assert script.main([], stale) == 0
    assert stale.read_text("utf-8") == TEXT
    assert script.main(["--check"], stale) == 0


def test_a_missing_marker_is_an_error(script: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"<!-- begin: faults --> with one <!-- end: faults -->"):
        script.updated(TEXT.replace("<!-- end: faults -->", ""))


def test_a_wrong_option_of_the_script_is_an_error(script: ModuleType) -> None:
    assert script.main(["--chek"]) == 2


def test_docs_of_attributes(script: ModuleType) -> None:
    assert list(script.attribute_docs(Documented)) == [
        ("one", "The first, in two lines."),
        ("three", "Last."),
    ]


def test_every_exit_code_has_its_row() -> None:
    for code in ExitCode:
        assert f"\n| {code.value} | " in TEXT


def test_every_environment_variable_is_there(script: ModuleType) -> None:
    """Also those that are no option: constants whose name ends in _VARIABLE."""
    variables = {
        str(node.value.value)
        for path in (ROOT / "personaplex_cli").rglob("*.py")
        if "_VARIABLE" in (text := path.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id.endswith("_VARIABLE")
        and isinstance(node.value, ast.Constant)
    }
    assert variables == set(script.VARIABLES)
    for name in variables:
        assert f"\n| `{name}` | " in TEXT


# --- links


def links() -> list[str]:
    outside_code = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", outside_code)


def anchors() -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere() -> None:
    found = links()
    assert "docs/screen.svg" in found and "docs/protocol.md" in found
    for link in found:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        assert path or anchor in anchors(), link


# --- command lines


def command_lines() -> Iterator[list[str]]:
    """The arguments of every call of personaplex in a block of code."""
    for block in re.findall(r"^ *```(?:sh|powershell)\n(.*?)^ *```", TEXT, flags=re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            # PATH, substitutions, pipes and redirections are the shell's.
            for call in re.findall(r"(?:^|[\s(|])personaplex ([^|)]*)", line):
                yield shlex.split(re.split(" [<>] ", call)[0], comments=True)


def test_there_are_command_lines() -> None:
    assert len(list(command_lines())) > 30


@pytest.mark.parametrize("arguments", list(command_lines()), ids=" ".join)
def test_command_lines_are_understood(arguments: list[str]) -> None:
    group: Any = command()
    if all(argument.startswith("-") for argument in arguments):
        assert set(arguments) <= {spelling for option in group.params for spelling in option.opts}
    else:
        understand(group, "personaplex", arguments, None)


def understand(command: Any, name: str, arguments: list[str], parent: Any) -> None:
    """Raises what the command line raises."""
    context = command.make_context(name, arguments, parent=parent)
    if hasattr(command, "commands"):
        word, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        understand(inner, word, rest, context)
