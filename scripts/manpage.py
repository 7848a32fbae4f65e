"""Writes the man page, docs/personaplex.1, from what the program says of itself.

    python scripts/manpage.py            write it
    python scripts/manpage.py --check    only look: exit status 1 if it is out of date

The texts are those of `--help`, so the two agree. The wheel puts the page where `man` looks for it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import typer
from readme import VARIABLES, attribute_docs

from personaplex_cli import __doc__ as summary
from personaplex_cli import __version__
from personaplex_cli.cli.app import app
from personaplex_cli.cli.bindings import BINDINGS
from personaplex_cli.errors import ExitCode

PAGE: Final = Path(__file__).parents[1] / "docs" / "personaplex.1"
HOW_TO_UPDATE: Final = "make man"

FILES: Final = {
    "~/.config/personaplex/config.toml": "The configuration; it may hold the API key.",
    "~/.config/personaplex/personas/": "Your own personas.",
    "~/.cache/personaplex/token.json": "The token, until it expires.",
    "~/.local/state/personaplex/ledger.jsonl": "The ledger: each call, how long it took, what it cost.",
}
"""On Linux, where no variable XDG_... says otherwise."""

ESCAPES: Final = {
    "\\": r"\e",
    "-": r"\-",
    "'": r"\(aq",
    '"': r"\(dq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
}
"""What roff would act on, or print as a typesetter would: a hyphen, a curved quotation mark, an accent."""


def main(arguments: Sequence[str], path: Path = PAGE) -> int:
    if list(arguments) not in ([], ["--check"]):
        print("usage: scripts/manpage.py [--check]", file=sys.stderr)
        return 2
    new = page()
    if path.exists() and path.read_text("utf-8") == new:
        return 0
    if arguments:
        print(f"{path.name} does not say what the program does: run {HOW_TO_UPDATE}", file=sys.stderr)
        return 1
    path.write_text(new, "utf-8", newline="\n")
    print(f"{path.name}: written anew")
    return 0


def page() -> str:
    """The whole page, in ASCII."""
    group: Any = typer.main.get_command(app)
    context = _context(group, None, "personaplex")
    description, examples = _described(group)
    sections = {
        "NAME": [f"personaplex \\- {escaped(_as_phrase(summary))}"],
        "SYNOPSIS": [_usage(group, context)],
        "DESCRIPTION": description,
        "OPTIONS": ["These go before the command.", *_parameters(group, context)],
        "COMMANDS": _commands(group, context),
        "KEYS": ["During a call, at a terminal:", *_list((one.key, one.does) for one in BINDINGS)],
        "ENVIRONMENT": _list(_variables(group, context)),
        "FILES": ["On Linux, unless variables XDG_... say otherwise:", *_list(FILES.items())],
        "EXIT STATUS": _list((str(ExitCode[name].value), text) for name, text in attribute_docs(ExitCode)),
        "EXAMPLES": examples,
    }
    lines = [
        f'.\\" Made by scripts/manpage.py: change the texts in the program, then run {HOW_TO_UPDATE}.',
        f'.TH PERSONAPLEX 1 "" "personaplex {__version__}" "User Commands"',
        *(".nh", ".ad l"),  # a name that is broken, or stretched, cannot be searched for
    ]
    for title, content in sections.items():
        lines += [f".SH {title}", *content]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """`text` so that roff prints it as it is, also at the beginning of a line."""
    line = "".join(ESCAPES.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)
    return rf"\&{line}" if line.startswith(".") else line


def _commands(group: Any, parent: Any) -> list[str]:
    """A section for each command, those of a group after it."""
    lines = []
    for name, command in group.commands.items():
        context = _context(command, parent, name)
        text, examples = _described(command)
        lines += [f".SS {escaped(context.command_path)}", _usage(command, context), ".PP", *text]
        lines += _parameters(command, context)
        if examples:
            lines += [".PP", "Examples:", *examples]
        if hasattr(command, "commands"):
            lines += _commands(command, context)
    return lines


def _described(command: Any) -> tuple[list[str], list[str]]:
    """What the help says before the options, and its examples."""
    text: list[str] = []
    examples: list[str] = []
    for paragraph in inspect.cleandoc(command.help).split("\n\n"):
        if paragraph.startswith("\b\nExamples:\n"):
            examples += _verbatim(paragraph.split("\n")[2:])
            continue
        text += [".PP"] if text else []
        if paragraph.startswith("\b\n"):  # not to be wrapped
            title, *lines = paragraph.split("\n")[1:]
            text += [escaped(title), *_verbatim(lines)]
        else:
            text.append(escaped(" ".join(paragraph.split())))
    return text, examples


def _parameters(command: Any, context: Any) -> list[str]:
    """Arguments and options as the help has them, but for --help itself, which all have."""
    records = [
        parameter.get_help_record(context)
        for parameter in command.get_params(context)
        if "--help" not in parameter.opts or context.parent is None
    ]
    return _list(record for record in records if record is not None)


def _variables(group: Any, context: Any) -> Iterator[tuple[str, str]]:
    options: dict[str, list[str]] = {}
    for command, option in _options(group, context):
        for name in [option.envvar] if isinstance(option.envvar, str) else option.envvar or []:
            options.setdefault(name, []).append(f"{command} {option.opts[0]}")
    for name, text in VARIABLES.items():
        yield name, text.replace("`", "")  # the README's
    for name, used in options.items():
        yield name, f"The same as {', '.join(used)}."


def _options(group: Any, context: Any) -> Iterator[tuple[str, Any]]:
    """Each parameter of the group and its commands, after the words that lead to it."""
    for option in group.params:
        yield context.command_path, option
    for name, command in getattr(group, "commands", {}).items():
        yield from _options(command, _context(command, context, name))


def _context(command: Any, parent: Any, name: str) -> Any:
    return command.make_context(name, [], parent=parent, resilient_parsing=True)


def _usage(command: Any, context: Any) -> str:
    pieces = " ".join(command.collect_usage_pieces(context))
    return rf"\fB{escaped(context.command_path)}\fR {escaped(pieces)}"


def _list(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Names in bold, their placeholders in italics, and what is said of them."""
    lines = []
    for name, text in rows:
        lines += [".TP", _highlighted(name), escaped(" ".join(text.split()))]
    return lines


def _highlighted(name: str) -> str:
    words, is_option = [], name.startswith("-")
    for word in re.split("( )", name):
        font = "I" if is_option and not word.startswith("-") else "B"
        words.append(word if word == " " else rf"\f{font}{escaped(word)}\fR")
    return "".join(words)


def _verbatim(lines: Iterable[str]) -> list[str]:
    return [".RS 4", ".nf", *(escaped(line.strip()) for line in lines), ".fi", ".RE"]


def _as_phrase(sentence: str | None) -> str:
    """As NAME wants it: no capital, no full stop."""
    text = (sentence or "").strip().removesuffix(".")
    return text[:1].lower() + text[1:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
