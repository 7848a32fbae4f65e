"""What a check is, what it comes to, and how checks are gone through without ever hanging."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from personaplex_cli.errors import ExitCode, PersonaplexError

POLL_S: Final = 0.2
"""How often Ctrl-C is looked for while a check runs (Windows does not interrupt a longer wait)."""


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """A call would work, though not as well as it could."""
    FAILURE = "failure"
    """A call would not work."""
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. Texts hold no secret; they may hold names that others chose."""

    status: Status
    text: str
    hint: str = ""
    """What to do, in lines; empty if there is nothing."""
    figures: dict[str, Any] = field(default_factory=dict)
    """The same in numbers and names, for programs; JSON can hold it. Names carry units."""
    exit_code: ExitCode = ExitCode.OK
    """Of a failure: what kind it is."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    """For programs; stays as it is."""
    title: str
    run: Callable[[], Finding]
    """On a thread of its own. A PersonaplexError that it raises is a failure of that kind."""
    limit_s: float
    hangs: PersonaplexError
    """What it means when the limit is over."""
    needs: tuple[str, ...] = ()
    """Checks that must not have failed, or been skipped, before this one makes sense."""
    prompt: str = ""
    """What the user should know, or do, before it begins."""


@dataclass(frozen=True, slots=True)
class Result:
    check: Check
    finding: Finding


def ok(text: str, **figures: Any) -> Finding:
    return Finding(Status.OK, text, figures=figures)


def warning(text: str, hint: str, **figures: Any) -> Finding:
    return Finding(Status.WARNING, text, hint, figures)


def skipped(text: str, hint: str = "", **figures: Any) -> Finding:
    return Finding(Status.SKIPPED, text, hint, figures)


def failure(error: PersonaplexError, **figures: Any) -> Finding:
    return Finding(Status.FAILURE, str(error), error.hint or "", figures, error.exit_code)


def go_through(checks: Iterable[Check], announce: Callable[[Check], object]) -> Iterator[Result]:
    """Each result as soon as it is known. `announce` is called before a check with a prompt is run. A check
    that exceeds its limit is left behind on its thread."""
    usable: set[str] = set()
    titles: dict[str, str] = {}
    for check in checks:
        titles[check.name] = check.title
        missing = [titles[need] for need in check.needs if need not in usable]
        if missing:
            finding = skipped(f"Not looked at, because of: {', '.join(missing)}.")
        else:
            if check.prompt:
                announce(check)
            finding = _run(check)
        if finding.status in (Status.OK, Status.WARNING):
            usable.add(check.name)
        yield Result(check, finding)


def exit_code(results: Iterable[Result]) -> ExitCode:
    """That of the first failure."""
    codes = (r.finding.exit_code for r in results if r.finding.status is Status.FAILURE)
    return next(codes, ExitCode.OK)


def _run(check: Check) -> Finding:
    found: list[Finding] = []
    done = threading.Event()

    def work() -> None:
        found.append(_outcome(check))
        done.set()

    # No daemon: `app.main` ends the process at once where such a thread is left, by a limit or by Ctrl-C. The
    # usual way out would end PortAudio under it, and hang.
    threading.Thread(target=work, name=f"check-{check.name}", daemon=False).start()
    left_s = check.limit_s
    while left_s > 0 and not done.wait(min(left_s, POLL_S)):
        left_s -= POLL_S
    with contextlib.suppress(IndexError):
        return found[0]
    finding = failure(check.hangs)
    return replace(finding, text=f"{finding.text} (No answer within {check.limit_s:g} s.)")


def _outcome(check: Check) -> Finding:
    try:
        return check.run()
    except PersonaplexError as error:
        return failure(error)
    except Exception as error:
        # Only the name: nobody has looked at what the text may hold.
        return Finding(
            Status.FAILURE,
            f"The check itself failed ({type(error).__name__}).",
            exit_code=ExitCode.INTERNAL,
        )
