"""The user's editor, on a file of the program."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from personaplex_cli.cli.output import print_note
from personaplex_cli.errors import UsageError


def edit_file(path: Path) -> bool:
    """Opens `path` in the editor and waits until that is closed. False, with a note, where there is none to
    open, or no terminal to open it in. Raises UsageError if it cannot be started, or fails."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        return False
    editor = os.environ.get("VISUAL", "").strip() or os.environ.get("EDITOR", "").strip()
    if not editor:
        print_note("No editor is set (VISUAL or EDITOR): open the file in one yourself.")
        return False
    try:
        with _interrupts_left_to_the_editor():
            code = subprocess.run(_command(editor, path), check=False).returncode
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "this is no command"
        hint = "Set VISUAL or EDITOR to a command, like export VISUAL=nano"
        raise UsageError(f"The editor {editor} cannot be started: {why}.", hint) from None
    if code:
        raise UsageError(f"The editor {editor} ended with exit status {code}.", f"It was to edit {path}")
    return True


def _command(editor: str, path: Path) -> str | list[str]:
    """It may have arguments, like `code --wait`."""
    if os.name == "nt":
        return f"{editor} {subprocess.list2cmdline([str(path)])}"
    return [*shlex.split(editor), str(path)]


@contextmanager
def _interrupts_left_to_the_editor() -> Iterator[None]:
    """Ctrl-C reaches both of us, and means something else there. (A handler, since a signal that is ignored
    would be ignored in the editor, too.)"""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
