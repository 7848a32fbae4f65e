"""Writes the parts of README.md that the program itself knows: keys, commands, environment and so on.

    python scripts/readme.py            write them
    python scripts/readme.py --check    only look: exit status 1 if one of them is out of date

Each part stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; all else is left as it is.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

import typer

from personaplex_cli.api_keys import API_KEY_VARIABLE
from personaplex_cli.call_record import STATE_DIR_VARIABLE
from personaplex_cli.cli.app import app
from personaplex_cli.cli.bindings import BINDINGS
from personaplex_cli.config import CONFIG_VARIABLE
from personaplex_cli.errors import ExitCode
from personaplex_cli.route import ROUTE_URL_VARIABLE
from personaplex_cli.settings import BOOLEAN, SETTINGS
from personaplex_cli.standin.faults import Faults
from personaplex_cli.tokens import CACHE_DIR_VARIABLE

README: Final = Path(__file__).parents[1] / "README.md"
HOW_TO_UPDATE: Final = "make readme"

VARIABLES: Final = {
    API_KEY_VARIABLE: "The API key; comes before the one in the configuration file or the keyring.",
    CONFIG_VARIABLE: "The configuration file, in place of `config.toml` in the usual folder of your system.",
    CACHE_DIR_VARIABLE: (
        "The folder in which the token and the router's answer are kept, in place of the usual one of your "
        "system."
    ),
    STATE_DIR_VARIABLE: (
        "The folder in which the ledger of calls is kept, in place of the usual one of your system."
    ),
    ROUTE_URL_VARIABLE: "The router that `--region auto` asks, in place of PolarGrid's.",
}
"""Those that are no option of a command."""


def main(arguments: Sequence[str], path: Path = README) -> int:
    if list(arguments) not in ([], ["--check"]):
        print("usage: scripts/readme.py [--check]", file=sys.stderr)
        return 2
    text = path.read_text("utf-8")
    new = updated(text)
    if new == text:
        return 0
    if arguments:
        print(f"{path.name} does not say what the program does: run {HOW_TO_UPDATE}", file=sys.stderr)
        return 1
    path.write_text(new, "utf-8", newline="\n")
    print(f"{path.name}: written anew")
    return 0


def updated(text: str) -> str:
    """`text` with each generated part as it should be. Raises ValueError if a marker is missing."""
    parts = {
        "keys": keys_part(),
        "settings": settings_part(),
        "commands": commands_part(),
        "environment": environment_part(),
        "exit codes": exit_codes_part(),
        "faults": faults_part(),
    }
    for name, part in parts.items():
        begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise ValueError(f"README.md needs one {begin.strip()} with one {end} after it")
        before, rest = text.split(begin)
        after = rest.split(end)[1]
        text = f"{before}{begin}\n{part}\n\n{end}{after}"
    return text


def keys_part() -> str:
    rows = [(" ".join(f"`{key}`" for key in one.key.split()), one.does) for one in BINDINGS]
    return _table(("key", "what it does"), rows)


def commands_part() -> str:
    group: Any = typer.main.get_command(app)
    context = group.make_context("personaplex", [], resilient_parsing=True)
    return "\n\n".join(
        [
            _list_of_commands(group, context),
            "Options that go before the command:",
            _parameters(group, context),
            *(_command(one, context, name) for name, one in group.commands.items()),
        ]
    )


def settings_part() -> str:
    """Each setting with what the option of the same name says of itself."""
    group: Any = typer.main.get_command(app)
    options = {option.name: option for option in group.commands["talk"].params}
    rows = []
    for setting in SETTINGS:
        meaning = setting.about or options[setting.name].help
        example = "true` or `false" if setting.kind is BOOLEAN else setting.example
        rows.append((f"`{setting.name}`", f"`{example}`", meaning))
    return _table(("setting", "for example", "meaning"), rows)


def environment_part() -> str:
    """Options that can be set in the environment, and `VARIABLES`."""
    options: dict[str, list[str]] = {}
    for words, option in _all_parameters(typer.main.get_command(app), ()):
        names = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
        for variable in names:
            options.setdefault(variable, []).append(f"`{' '.join((*words, option.opts[0]))}`")
    rows = [*VARIABLES.items(), *((name, " and ".join(used)) for name, used in options.items())]
    return _table(("variable", "what it sets"), [(f"`{name}`", text) for name, text in rows])


def exit_codes_part() -> str:
    rows = [(str(ExitCode[name].value), text) for name, text in attribute_docs(ExitCode)]
    return _table(("exit code", "meaning"), rows)


def faults_part() -> str:
    rows = []
    for name, text in attribute_docs(Faults):
        value = "=NUMBER"
        if isinstance(getattr(Faults(), name), bool):
            value = ""
        elif at := re.match(r"(AT\S*)\. ", text):
            value, text = f"={at[1]}", text[at.end() :]
        rows.append((f"`{name.replace('_', '-')}{value}`", text))
    return _table(("fault", "what happens"), rows)


def attribute_docs(of: type) -> Iterator[tuple[str, str]]:
    """Each attribute of a class with the string that follows it, in order."""
    (definition,) = ast.parse(inspect.getsource(of)).body
    assert isinstance(definition, ast.ClassDef)
    for attribute, following in zip(definition.body, definition.body[1:], strict=False):
        targets = attribute.targets if isinstance(attribute, ast.Assign) else []
        if isinstance(attribute, ast.AnnAssign):
            targets = [attribute.target]
        match targets, following:
            case [ast.Name(name)], ast.Expr(ast.Constant(str(text))):
                yield name, inspect.cleandoc(text).replace("\n", " ")


def _command(command: Any, parent: Any, name: str) -> str:
    """A section: what the help says, in its paragraphs, and the options, or the commands of a group."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    depth = len(context.command_path.split())
    parts = [f"{'#' * (depth + 1)} {context.command_path}"]
    for paragraph in inspect.cleandoc(command.help).split("\n\n"):
        # \b stands before what is not to be wrapped: examples and lists.
        if not paragraph.startswith("\b\n"):
            parts.append(" ".join(paragraph.split()))
            continue
        title, *lines = paragraph.removeprefix("\b\n").split("\n")
        if title == "Examples:":
            parts.append("\n".join(["```sh", *map(str.strip, lines), "```"]))
        else:
            parts.append("\n".join(["```text", *map(str.strip, (title, *lines)), "```"]))
    inner = getattr(command, "commands", {})
    parts.append(_list_of_commands(command, context) if inner else _parameters(command, context))
    parts += [_command(one, context, word) for word, one in inner.items()]
    return "\n\n".join(filter(None, parts))


def _list_of_commands(group: Any, context: Any) -> str:
    rows = []
    for name, one in group.commands.items():
        anchor = f"{context.command_path} {name}".replace(" ", "-")
        rows.append((f"[`{name}`](#{anchor})", _summary(one.help)))
    return _table(("command", "what it does"), rows)


def _parameters(command: Any, context: Any) -> str:
    """Empty where a command has none."""
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            rows.append((f"`{record[0]}`", parameter.help, _default(parameter)))
    return _table(("option", "meaning", "default"), rows) if rows else ""


def _all_parameters(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Those of a command and of all below it, each after the words that lead to it."""
    for parameter in command.params:
        yield words, parameter
    for name, one in getattr(command, "commands", {}).items():
        yield from _all_parameters(one, (*words, name))


def _default(option: Any) -> str:
    default = option.default
    if default is None or getattr(option, "is_flag", False):
        return ""
    if isinstance(default, Enum):
        default = default.value
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _summary(help_text: str) -> str:
    """The first sentence."""
    first = " ".join(inspect.cleandoc(help_text).split("\n\n")[0].split())
    return re.split(r"(?<=\.) ", first)[0]


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
