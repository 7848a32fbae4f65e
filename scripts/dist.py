"""The release check: builds sdist and wheel into dist/, looks into them, and tries the wheel.

    python scripts/dist.py

The wheel is built from the sdist. It is installed into an empty environment of its own, with pipx and uv too
where they are there, and tried far from this folder: nothing of the source tree can help it. Packages that it
depends on come from wherever pip is configured to find them. Exit status 1, with the reason, if anything is
not as it should be; then dist/ is not fit to be released.
"""

from __future__ import annotations

import array
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import wave
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from personaplex_cli import __version__
from personaplex_cli.codec.library import load
from personaplex_cli.errors import MissingLibraryError

ROOT: Final = Path(__file__).parents[1]
DIST: Final = ROOT / "dist"
PACKAGE: Final = "personaplex_cli"
STEM: Final = f"{PACKAGE}-{__version__}"
MAN_PAGE: Final = "share/man/man1/personaplex.1"
QUESTION: Final = ROOT / "examples" / "question.opus"

TRY_LIMIT_S: Final = 60.0
"""For one command of the program; the longest is a call of at most 20 s."""

TOOL_LIMIT_S: Final = 600.0
"""For a tool that may have to fetch packages, and to build those that come as source."""

MIN_PEAK: Final = 1000
"""Of 32767. The stand-in's clips peak at some 20,000."""

BIN: Final = "Scripts" if os.name == "nt" else "bin"


class NotFitError(Exception):
    """What is wrong with the release, in words."""


def main() -> int:
    try:
        sdist, wheel = build()
        check_contents(sdist, wheel)
        with tempfile.TemporaryDirectory() as folder:
            try_out(wheel, Path(folder))
    except NotFitError as error:
        print(f"dist: {error}", file=sys.stderr)
        return 1
    say(f"{sdist.name} and {wheel.name} are fit to be released")
    return 0


def build() -> tuple[Path, Path]:
    """Sdist and wheel, checked by twine; what lay in dist/ is gone."""
    say("building")
    shutil.rmtree(DIST, ignore_errors=True)
    run([sys.executable, "-m", "build", "--outdir", DIST, ROOT], TOOL_LIMIT_S)
    sdist, wheel = DIST / f"{STEM}.tar.gz", DIST / f"{STEM}-py3-none-any.whl"
    built = set(DIST.iterdir())
    if built != {sdist, wheel}:
        raise NotFitError(f"dist/ should hold {sdist.name} and {wheel.name}, and has {names(built)}")
    print(run([sys.executable, "-m", "twine", "check", "--strict", sdist, wheel], TOOL_LIMIT_S).strip())
    return sdist, wheel


def check_contents(sdist: Path, wheel: Path) -> None:
    """The wheel holds the whole package and the man page, and nothing else; the sdist all of that, and what
    the tests need."""
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if f"{STEM}.dist-info/" not in name}
    package = package_files()
    compare("the wheel", in_wheel, package | {f"{STEM}.data/data/{MAN_PAGE}"})
    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.removeprefix(f"{STEM}/") for member in archive if member.isfile()}
    needed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "docs/personaplex.1"}
    needed |= {"tests/conftest.py", "scripts/setup.sh", "examples/question.opus"}
    if missing := (package | needed) - in_sdist:
        raise NotFitError(f"the sdist lacks {names(missing)}")
    if junk := {name for name in in_sdist if "__pycache__" in name or name.startswith((".venv", "dist/"))}:
        raise NotFitError(f"the sdist has {names(junk)}")


def package_files() -> set[str]:
    """The paths of everything in the package's folder that is no by-product."""
    paths = (path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(ROOT).as_posix() for path in paths}


def compare(where: str, found: set[str], expected: set[str]) -> None:
    if missing := expected - found:
        raise NotFitError(f"{where} lacks {names(missing)}")
    if unexpected := found - expected:
        raise NotFitError(f"{where} has {names(unexpected)}, which nobody needs there")


def try_out(wheel: Path, folder: Path) -> None:
    """Install the wheel in every way there is, each time into nothing, and use what comes of it."""
    environment = clean_environment(folder)
    say("installing the wheel with pip into an empty environment")
    prefix = folder / "venv"
    venv.create(prefix, with_pip=True)
    pip_install(wheel, prefix, folder, environment)
    try_program(prefix / BIN / "personaplex", folder, environment)
    call_stand_in(prefix / BIN / "personaplex", folder, environment)
    for tool, arguments in (("pipx", ["install"]), ("uv", ["tool", "install"])):
        if shutil.which(tool) is None:
            say(f"{tool} is not installed here: not tried")
            continue
        say(f"installing the wheel with {tool}")
        run([tool, *arguments, wheel], TOOL_LIMIT_S, folder, environment)
        program = folder / f"{tool}-bin" / "personaplex"
        try_program(program, folder, environment)


def pip_install(wheel: Path, prefix: Path, folder: Path, environment: Mapping[str, str]) -> None:
    python = prefix / BIN / "python"
    # use-pep517: pyogg comes as source, and older pips complain about building it the way they do by default.
    options = ["--quiet", "--disable-pip-version-check", "--use-pep517"]
    run([python, "-m", "pip", "install", *options, wheel], TOOL_LIMIT_S, folder, environment)
    if not (prefix / MAN_PAGE).is_file():
        raise NotFitError(f"pip has not put the man page into {MAN_PAGE}")


def clean_environment(folder: Path) -> dict[str, str]:
    """This process's, with a home in `folder` and without what could lead back to the source tree, or is the
    user's own."""
    unwanted = ("PYTHON", "VIRTUAL_ENV", "PERSONAPLEX_", "POLARGRID_", "XDG_", "PIPX_", "UV_TOOL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return kept | {
        "HOME": str(folder),
        "USERPROFILE": str(folder),
        "PIPX_HOME": str(folder / "pipx"),
        "PIPX_BIN_DIR": str(folder / "pipx-bin"),
        "PIPX_MAN_DIR": str(folder / "pipx-man"),
        "UV_TOOL_DIR": str(folder / "uv"),
        "UV_TOOL_BIN_DIR": str(folder / "uv-bin"),
    }


def try_program(program: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """What needs neither native libraries nor a network."""

    def said(*arguments: str) -> str:
        return run([program, *arguments], TRY_LIMIT_S, folder, environment)

    if (version := said("--version")) != f"personaplex {__version__}\n":
        raise NotFitError(f"--version says {version!r}")
    expect(said("--help"), "--help", "talk", "voices", "regions", "--version")
    expect(said("voices"), "voices", "NATF0", "VARM4")
    expect(said("regions"), "regions", "yto-01", "Toronto")
    shipped = sorted(path.stem for path in (ROOT / PACKAGE / "persona_files").glob("*.md"))
    expect(said("personas", "list"), "personas list", *shipped)
    expect(said("--version", "--verbose"), "--version --verbose", "PortAudio", "websockets")


def call_stand_in(program: Path, folder: Path, environment: Mapping[str, str]) -> None:
    try:
        load()
    except MissingLibraryError as error:
        raise NotFitError(f"no call can be tried. {error} {error.hint}") from None
    say("calling the stand-in")
    shutil.copy(QUESTION, folder)
    call = ["talk", "--local", "--input", QUESTION.name, "--output", "answer.wav", "--max-duration", "20"]
    transcript = run([program, *call], TRY_LIMIT_S, folder, environment)
    expect(transcript, "the transcript", "I am the stand-in.", "of what you said.")
    with wave.open(str(folder / "answer.wav")) as file:
        samples = array.array("h", file.readframes(file.getnframes()))
        seconds = len(samples) / file.getframerate()
    peak = max(map(abs, samples), default=0)
    say(f"answer.wav: {seconds:.1f} s, peak {peak}")
    if peak < MIN_PEAK or seconds < 1:
        raise NotFitError("answer.wav holds no sound")


def run(
    command: Sequence[str | Path],
    limit_s: float,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What `command` prints on stdout. Raises NotFitError, with all that it said, if it fails."""
    line = " ".join(map(str, command))
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        raise NotFitError(f"{line}: not done after {limit_s:g} s") from None
    if done.returncode:
        raise NotFitError(f"{line}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def expect(text: str, what: str, *parts: str) -> None:
    for part in parts:
        if part not in text:
            raise NotFitError(f"{what} does not have {part!r}:\n{text}")


def names(paths: Iterable[str | Path]) -> str:
    return (
        ", ".join(sorted(Path(path).name if isinstance(path, Path) else path for path in paths)) or "nothing"
    )


def say(text: str) -> None:
    print(f"dist: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
