from __future__ import annotations

import threading
import time
from collections.abc import Callable

from personaplex_cli.doctor.check import (
    Check,
    Finding,
    Status,
    exit_code,
    failure,
    go_through,
    ok,
    skipped,
    warning,
)
from personaplex_cli.errors import AudioError, CredentialsError, ExitCode

HUNG = AudioError("The sound system does not answer.", "Restart it.")


def check(
    name: str,
    run: Callable[[], Finding] = lambda: ok("Good."),
    *,
    limit_s: float = 5.0,
    needs: tuple[str, ...] = (),
    prompt: str = "",
) -> Check:
    return Check(name, name.title(), run, limit_s, HUNG, needs, prompt)


def raises(error: Exception) -> Callable[[], Finding]:
    def run() -> Finding:
        raise error

    return run


def run_all(*checks: Check) -> list[Finding]:
    return [result.finding for result in go_through(checks, lambda check: None)]


def test_each_result_is_there_before_the_next_check_begins() -> None:
    begun: list[str] = []

    def begin() -> Finding:
        begun.append("second")
        return ok("Good.")

    results = go_through([check("first"), check("second", begin)], lambda check: None)
    assert next(results).check.name == "first"
    assert begun == []
    assert next(results).check.name == "second"
    assert begun == ["second"]


def test_an_error_of_ours_is_a_failure_of_its_kind() -> None:
    [finding] = run_all(check("key", raises(CredentialsError("No key.", "Get one."))))
    assert finding == Finding(Status.FAILURE, "No key.", "Get one.", {}, ExitCode.CREDENTIALS)


def test_a_fault_of_a_check_tells_nothing_secret_and_stops_nothing() -> None:
    broken, after = run_all(check("key", raises(ValueError("pg_secret"))), check("next"))
    assert broken.status is Status.FAILURE and broken.exit_code is ExitCode.INTERNAL
    assert "ValueError" in broken.text and "pg_secret" not in broken.text
    assert after.status is Status.OK


def test_what_hangs_is_left_behind() -> None:
    forever = threading.Event()

    def hang() -> Finding:
        forever.wait(20)
        return ok("Too late.")

    begun_s = time.monotonic()
    hung, after = run_all(check("sound", hang, limit_s=0.05), check("next"))
    assert time.monotonic() - begun_s < 2
    assert hung.text == "The sound system does not answer. (No answer within 0.05 s.)"
    assert (hung.hint, hung.exit_code) == ("Restart it.", ExitCode.AUDIO)
    assert after.status is Status.OK
    forever.set()


def test_what_needs_a_check_that_failed_or_was_skipped_is_not_looked_at() -> None:
    never = raises(AssertionError("was run"))
    *_, on_failed, on_skipped, on_warned = run_all(
        check("failed", lambda: failure(HUNG)),
        check("skipped", lambda: skipped("Not wanted.")),
        check("warned", lambda: warning("Hm.", "Do this.")),
        check("a", never, needs=("warned", "failed")),
        check("b", never, needs=("skipped",)),
        check("c", needs=("warned",)),
    )
    assert (on_failed.status, on_failed.text) == (Status.SKIPPED, "Not looked at, because of: Failed.")
    assert on_skipped.status is Status.SKIPPED
    assert on_warned.status is Status.OK


def test_prompts_are_announced_only_where_something_follows() -> None:
    announced: list[str] = []
    checks = [
        check("failed", lambda: failure(HUNG)),
        check("silent", prompt=""),
        check("level", prompt="Say something."),
        check("echo", prompt="Be quiet.", needs=("failed",)),
    ]
    list(go_through(checks, lambda check: announced.append(check.name)))
    assert announced == ["level"]


def test_the_exit_code_is_that_of_the_first_failure() -> None:
    checks = [
        check("warned", lambda: warning("Hm.", "Do this.")),
        check("key", raises(CredentialsError("No key."))),
        check("sound", lambda: failure(HUNG)),
    ]
    assert exit_code(list(go_through(checks, lambda check: None))) is ExitCode.CREDENTIALS
    assert exit_code(list(go_through(checks[:1], lambda check: None))) is ExitCode.OK
