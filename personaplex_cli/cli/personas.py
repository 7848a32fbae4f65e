"""`personaplex personas`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from personaplex_cli.cli.options import Json
from personaplex_cli.cli.output import print_json, print_note, print_table, print_text, print_warning
from personaplex_cli.errors import ExitCode, UsageError
from personaplex_cli.wire.text import safe_text

if TYPE_CHECKING:
    from personaplex_cli.persona_check import Finding, Report

TEMPLATE: Final = """\
---
# Lines up here that begin with # are comments. Below the second line of dashes every word is for the model.
#
# It was trained with three kinds of prompts, and follows them best:
#   You are a patient teacher. Explain one thing at a time and ask what was understood.
#   You work for Spoke and Chain which is a bicycle shop and your name is Nora Feld. Information: ...
#   You enjoy having a good conversation. You are Sam, an old friend.
# Some sentences are enough; above 1,000 characters the model takes longer to begin.
#
# name: what personaplex personas list says about it
{voice}
---

You enjoy having a good conversation. You are curious, and your answers are short.
"""

personas = typer.Typer(
    name="personas",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""List, write and check personas: files that say who the agent is.

    \b
    Examples:
      personaplex personas list
      personaplex personas new tutor --voice NATM1
      personaplex personas check tutor
      personaplex talk --persona tutor
    """,
)


def _names(incomplete: str) -> list[str]:
    """For completion by the Tab key."""
    from personaplex_cli.personas import list_personas

    try:
        names = [file.name for file in list_personas()]
    except UsageError:  # a folder that cannot be read: the shell would print that over the line
        return []
    return [name for name in names if name.casefold().startswith(incomplete.casefold())]


Name = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=_names, help="The persona: see personas list.")
]
NameOrFile = Annotated[
    str, typer.Argument(metavar="NAME|@FILE", autocompletion=_names, help="The persona, or a file with one.")
]
NamesOrFiles = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME|@FILE]...", autocompletion=_names, help="Without any: all of your own."),
]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, - and _; up to 40.")]
ItsVoice = Annotated[
    str | None, typer.Option("--voice", metavar="NAME", help="Who speaks: see personaplex voices.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@personas.command("list")
def list_(as_json: Json = False) -> None:
    """List the personas: your own, and those that are built in.

    \b
    Examples:
      personaplex personas list
      personaplex personas list --json
    """
    from personaplex_cli.personas import list_personas

    described = [_described(file) for file in list_personas()]
    if as_json:
        print_json(described)
    else:
        print_table([_row(one) for one in described])
        print_text(
            "\nTo call one: personaplex talk --persona NAME. Its voice is used unless --voice is given."
        )


@personas.command()
def show(persona: NameOrFile) -> None:
    """Print a persona's prompt. Its voice and file are named on stderr.

    \b
    Examples:
      personaplex personas show teacher
      personaplex personas show @tutor.md
    """
    from personaplex_cli.persona_format import read_persona
    from personaplex_cli.personas import persona_path

    path = persona_path(persona)
    found = read_persona(path)
    print_note(f"voice {found.voice or 'as the call has it'}, from {path}")
    print_text("\n".join(map(safe_text, found.prompt.split("\n"))))


@personas.command()
def new(name: NewName, voice: ItsVoice = None) -> None:
    """Begin a persona of your own, print where it is, and open it in your editor (VISUAL or EDITOR).

    \b
    Examples:
      personaplex personas new tutor
      personaplex personas new tutor --voice NATM1
    """
    from personaplex_cli.catalog import DEFAULT_VOICE, resolve_voice
    from personaplex_cli.personas import create_persona, is_shipped

    chosen = resolve_voice(voice) if voice is not None else None
    if chosen and chosen.note:
        print_note(chosen.note)
    line = f"voice: {chosen.value.name}" if chosen else f"# voice: {DEFAULT_VOICE}"
    path = create_persona(name, TEMPLATE.format(voice=line))
    if is_shipped(name):
        print_note("A built-in persona has this name; yours comes before it.")
    _edit(path)


@personas.command()
def edit(name: Name) -> None:
    """Open a persona in your editor (VISUAL or EDITOR), and print where it is.

    Of one that is built in, a copy becomes your own.

    \b
    Examples:
      personaplex personas edit tutor
      EDITOR=nano personaplex personas edit teacher
    """
    from personaplex_cli.personas import copy_persona, find_persona

    file = find_persona(name)
    path = copy_persona(file) if file.is_shipped else file.path
    if file.is_shipped:
        print_note(f"{file.name} is built in: this is a copy of your own, which comes before it.")
    _edit(path)


@personas.command()
def rm(name: Name, yes: Yes = False) -> None:
    """Remove a persona of your own.

    \b
    Examples:
      personaplex personas rm tutor
      personaplex personas rm tutor --yes
    """
    from personaplex_cli.personas import find_persona, is_shipped, remove_persona

    file = find_persona(name)
    if not (yes or file.is_shipped):
        if not (sys.stdin and sys.stdin.isatty()):
            raise UsageError("There is no terminal to ask in.", "--yes removes without asking.")
        if not _confirmed(f"Remove {safe_text(str(file.path))}?"):
            print_note("Nothing was removed.")
            return
    remove_persona(file)
    if is_shipped(file.name):
        print_note(f"From now on {file.name} is the built-in one.")


@personas.command()
def check(persona: NamesOrFiles = None, as_json: Json = False) -> None:
    """Look for what is wrong with personas: broken files, unknown voices, prompts that do not fit into a
    call's address, keys and passwords, and a style that the model was not trained with.

    Hints may be ignored; with problems the exit code is 2.

    \b
    Examples:
      personaplex personas check
      personaplex personas check tutor @draft.md
      personaplex personas check --json
    """
    from personaplex_cli.persona_check import check_own, check_persona
    from personaplex_cli.personas import persona_path

    named = persona or []
    reports = [(text, check_persona(persona_path(text))) for text in named] if named else check_own()
    if as_json:
        print_json([_reported(name, report) for name, report in reports])
    elif not reports:
        print_note("You have no personas of your own: begin one with personaplex personas new NAME")
    for name, report in [] if as_json else reports:
        print_text("\n".join(_report_lines(name, report)))
    if bad := [name for name, report in reports if any(one.is_problem for one in report.findings)]:
        raise UsageError(f"Not usable as it is: {', '.join(bad)}.", "Each problem is named with its line.")


def _confirmed(question: str) -> bool:
    """Asked on stderr. Raises `typer.Exit` for Ctrl-C, and when standard input ends."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        typer.echo(err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _edit(path: Path) -> None:
    from personaplex_cli.cli.editor import edit_file
    from personaplex_cli.persona_check import check_persona

    print_text(safe_text(str(path)))
    if edit_file(path):
        for finding in check_persona(path).findings:
            (print_warning if finding.is_problem else print_note)(_placed(finding))


def _described(file: Any) -> dict[str, Any]:
    from personaplex_cli.persona_format import read_persona

    about: dict[str, Any] = {"name": file.name, "built_in": file.is_shipped, "path": str(file.path)}
    try:
        persona = read_persona(file.path)
    except UsageError as error:
        return about | {"title": None, "voice": None, "characters": None, "problem": str(error)}
    length = len(persona.prompt)
    return about | {"title": persona.title, "voice": persona.voice, "characters": length, "problem": None}


def _row(about: dict[str, Any]) -> tuple[str, ...]:
    usable = about["problem"] is None
    length = f"{about['characters']:,} characters" if usable else "cannot be used"
    title = safe_text(about["title"] or "") if usable else f"see personaplex personas check {about['name']}"
    origin = "built in" if about["built_in"] else "yours"
    return (about["name"], about["voice"] or "", origin, length, title)


def _reported(name: str, report: Report) -> dict[str, Any]:
    findings = [{"problem": one.is_problem, "line": one.line, "text": one.text} for one in report.findings]
    return {
        "persona": name,
        "characters": report.characters,
        "encoded_bytes": report.encoded_bytes,
        "findings": findings,
    }


def _report_lines(name: str, report: Report) -> list[str]:
    size = ""
    if report.characters is not None:
        size = f": {report.characters:,} characters, {report.encoded_bytes:,} bytes in an address"
    kinds = {True: "problem", False: "hint"}
    lines = [f"  {kinds[one.is_problem]}: {safe_text(_placed(one))}" for one in report.findings]
    return [f"{safe_text(name)}{size}{'' if lines else ': nothing to complain about'}", *lines]


def _placed(finding: Finding) -> str:
    return finding.text if finding.line is None else f"line {finding.line}: {finding.text}"
