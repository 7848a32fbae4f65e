"""What is wrong with a persona's file, or could be better. Nothing found ever quotes the file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from personaplex_cli.catalog import DEFAULT_REGION, DEFAULT_VOICE
from personaplex_cli.errors import UsageError
from personaplex_cli.persona_format import Draft, faults, parse, read_text
from personaplex_cli.personas import is_name, length_note, own_files
from personaplex_cli.wire.endpoint import Dialect, build_endpoint, polargrid_server


@dataclass(frozen=True, slots=True)
class Finding:
    text: str
    is_problem: bool
    """It must be changed. Otherwise it is a hint."""
    line: int | None = None
    """From 1."""


@dataclass(frozen=True, slots=True)
class Report:
    characters: int | None
    """Of the prompt; None if the file cannot be read."""
    encoded_bytes: int | None
    """What the prompt takes in the address of a call."""
    findings: tuple[Finding, ...]


_SECRETS: Final = (
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("a token (JWT)", r"\beyJ[\w-]{8,1000}\.[\w-]{8}"),
    ("an API key", r"\b(?:pg_|sk-|sk_|rk_|gh[opsur]_|github_pat_|glpat-|xox[abprs]-|AIza)[\w-]{12,}"),
    ("an API key", r"\bAKIA[0-9A-Z]{16}\b"),
    ("a password", r"(?i)\b(?:pass(?:word|phrase|wd)|(?:api|access|secret)[ _-]?key)\s*[:=]\s*\S"),
    ("a key in hexadecimal", r"\b[0-9A-Fa-f]{32,}\b"),
)
"""What keys look like, the surest sign first."""

_KINDS: Final = tuple((kind, re.compile(pattern)) for kind, pattern in _SECRETS)

_LONG_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{40,}")

_MARKUP: Final = re.compile(r"^ {0,3}(?:#{1,6}\s|[-*+]\s|\d+[.)]\s|```|>\s|\|)|\*\*\S|\]\(", re.MULTILINE)

_PLACEHOLDER: Final = re.compile(r"<[A-Za-z][^<>\n]{0,40}>|\{\{|\[[A-Z][A-Z ]+\]")

# The forms of the prompts it was trained with, from NVIDIA's description of the model.
_OPENINGS: Final = re.compile(r"you (?:are|work for|enjoy)\b", re.IGNORECASE)
_SERVICE: Final = re.compile(r"you work for\b", re.IGNORECASE)
_SERVICE_NAME: Final = re.compile(r"\byour name is\b", re.IGNORECASE)


def check_persona(path: Path) -> Report:
    """All findings in a file. Never raises a PersonaplexError: a file that cannot be read is a finding."""
    try:
        text = read_text(path)
    except UsageError as error:
        return Report(None, None, (Finding(_with_hint(error), True),))
    secrets = tuple(find_secrets(text))
    try:
        draft = parse(text, path)
    except UsageError as error:
        return Report(None, None, (Finding(_with_hint(error), True), *secrets))
    found = (*_faults(draft), *_size(draft.prompt), *secrets, *_style(draft.prompt))
    return Report(len(draft.prompt), len(quote(draft.prompt, safe="")), found)


def check_own() -> list[tuple[str, Report]]:
    """Of all the user's files, in order, with their names. Raises UsageError if the folder cannot be read."""
    files = own_files()
    names = Counter(file.name.casefold() for file in files)
    reports = []
    for file in files:
        report = check_persona(file.path)
        found = list(report.findings)
        if not is_name(file.name):
            found.insert(0, Finding("The file's name is none that a persona can have.", True))
        if names[file.name.casefold()] > 1:
            found.insert(0, Finding("Another file has the same name.", True))
        reports.append((file.name, replace(report, findings=tuple(found))))
    return reports


def find_secrets(text: str) -> Iterator[Finding]:
    """The lines that seem to hold a key or password: servers and their logs see what a persona says."""
    for number, line in enumerate(text.split("\n"), 1):
        if kind := _kind_of_secret(line):
            yield Finding(f"This looks like {kind}. Servers may log personas.", True, number)


def _kind_of_secret(line: str) -> str | None:
    for kind, form in _KINDS:
        if form.search(line):
            return kind
    mixed = (
        re.search("[0-9]", run) and run != run.lower() and run != run.upper()
        for run in _LONG_RUN.findall(line)
    )
    return "a key in base64" if any(mixed) else None


def _faults(draft: Draft) -> Iterator[Finding]:
    for fault in faults(draft):
        yield Finding(f"{fault.text} {fault.hint or ''}".rstrip(), True, fault.line)


def _size(prompt: str) -> Iterator[Finding]:
    """As a call with the usual server finds it: the address has to hold the whole prompt."""
    if not prompt:
        return
    server = polargrid_server(DEFAULT_REGION)
    try:
        build_endpoint(Dialect.POLARGRID, server, voice=DEFAULT_VOICE, persona=prompt)
    except UsageError as error:
        yield Finding(_with_hint(error), True)
        return
    if note := length_note(prompt):
        yield Finding(note, False)


def _style(prompt: str) -> Iterator[Finding]:
    if prompt and not _OPENINGS.match(prompt):
        yield Finding(
            "PersonaPlex knows prompts that begin with `You are ...` (an assistant), `You work for "
            "... and your name is ...` (a service) or `You enjoy having a good conversation.` (a chat).",
            False,
        )
    if _SERVICE.match(prompt) and not _SERVICE_NAME.search(prompt):
        yield Finding("After `You work for ...` the model expects `and your name is ...`.", False)
    if _MARKUP.search(prompt):
        yield Finding("Headings, lists and other markup mean nothing to the model: write sentences.", False)
    if _PLACEHOLDER.search(prompt):
        yield Finding("There seems to be a placeholder left that was to be filled in.", False)


def _with_hint(error: UsageError) -> str:
    return f"{error} {error.hint or ''}".rstrip()
