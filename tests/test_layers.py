"""Keeps the architecture's rules: who may import whom, who owns which dependency, and what stays pure.

Every import counts: in a function, under `if TYPE_CHECKING`, relative, and by `import_module("…")`.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "personaplex_cli"

LAYERS = {
    "": 0,
    "errors": 0,
    "events": 0,
    "pcm": 0,
    "turns": 0,
    "wire": 1,
    "syslibs": 1,
    "dsp": 1,
    "codec": 2,
    "pipeline": 3,
    "call": 4,
}
LAYERS |= {"ui": 5, "standin": 5, "sessions": 5, "measure": 5, "doctor": 5, "cli": 6, "__main__": 6}
SERVICE_LAYER = 3  # every other module at the top: one file for one job

STRANGERS = ("pipeline",)  # packages whose modules do not import each other
APART = ({"ui", "standin"},)  # packages of one layer that do not import each other
OWNERS = {
    "pyogg": ("codec",),
    "sounddevice": ("devices",),
    "websockets": ("pipeline.websocket", "standin"),
    "httpx": ("auth", "route"),
    "rich": ("ui", "cli"),
    "typer": ("cli",),
    "soundfile": ("pipeline.files",),
    "livekit": ("aec",),
    "tomlkit": ("config_edit",),
    "keyring": ("api_keys",),
    "soxr": ("pipeline.files", "devices.format"),
}
PURE = (
    "wire",
    "dsp",
    "lag",
    "turns",
    "devices.timing",
    "pipeline.gate",
    "pipeline.playout",
    "pipeline.echo_alarm",
    "ui.view",
    "ui.lines",
)
"""No clock, no logging, no printing."""


def test_the_package_keeps_the_rules() -> None:
    root = Path(__file__).parents[1] / PACKAGE
    sources = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in root.rglob("*.py")}
    assert violations(sources) == []


def violations(sources: Mapping[str, str]) -> list[str]:
    """What is wrong with the modules `sources` ("wire/text.py" → its source), in words."""
    trees = {module_name(path): (path, ast.parse(source)) for path, source in sources.items()}
    imports = {name: list(imported(path, tree, trees.keys())) for name, (path, tree) in trees.items()}
    found = [text for name, targets in imports.items() for text in forbidden_imports(name, targets)]
    found += [f"{name} prints" for name, (_, tree) in trees.items() if within(name, PURE) and prints(tree)]
    own = {name: {to for inside, to in targets if inside and to != name} for name, targets in imports.items()}
    try:
        TopologicalSorter(own).prepare()
    except CycleError as error:
        found.append("cycle: " + " → ".join(error.args[1]))
    return found


def forbidden_imports(name: str, targets: list[tuple[bool, str]]) -> Iterator[str]:
    package = name.partition(".")[0]
    for inside, target in targets:
        other = target.partition(".")[0]
        if not inside:
            if other in OWNERS and not within(name, OWNERS[other]):
                yield f"{name} imports {other}, which belongs to {', '.join(OWNERS[other])}"
            if other in ("time", "logging", "datetime") and within(name, PURE):
                yield f"{name} imports {other}, and is meant to be pure"
        elif layer(target) > layer(name):
            yield f"{name} (layer {layer(name)}) imports {target} (layer {layer(target)})"
        elif package == other and package in STRANGERS and name not in (target, package):
            yield f"{name} imports its neighbour {target}"
        elif package != other and {package, other} in APART:
            yield f"{name} imports {target}"


def imported(path: str, tree: ast.Module, modules: Collection[str]) -> Iterator[tuple[bool, str]]:
    """What is imported: (True, "wire.text") for a module of ours, (False, "rich.live") for another's."""
    here = [PACKAGE, *Path(path).with_suffix("").parts]  # its last part goes away at the first dot
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = here[: -node.level] if node.level else []
            names += [".".join([*package, *filter(None, [node.module]), alias.name]) for alias in node.names]
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            names += [str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)]
    for name in names:
        first, _, inner = name.partition(".")
        while first == PACKAGE and inner and inner not in modules:  # it is something in a module
            inner = inner.rpartition(".")[0]
        yield (True, inner) if first == PACKAGE else (False, name)


def module_name(path: str) -> str:
    return ".".join(part for part in Path(path).with_suffix("").parts if part != "__init__")


def layer(name: str) -> int:
    return LAYERS.get(name.partition(".")[0], SERVICE_LAYER)


def within(name: str, places: Collection[str]) -> bool:
    return any(f"{name}.".startswith(f"{place}.") for place in places)


def called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def prints(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Call) and called(node) == "print" for node in ast.walk(tree))


OTHERS = ("pcm", "auth", "call", "codec/ogg", "pipeline/playout", "ui/live", "standin/server")
WORLD = {f"{name}.py": "" for name in OTHERS} | {"config.py": "def f():\n from . import auth"}


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("wire/text.py", "from personaplex_cli.pcm import silence", None),
        ("call.py", "from personaplex_cli.pipeline import playout", None),
        ("codec/__init__.py", "import time\nfrom pyogg import ogg", None),
        ("pcm.py", "from personaplex_cli import auth", "pcm (layer 0) imports auth (layer 3)"),
        ("wire/text.py", "def f():\n from ..codec.ogg import Page", "wire.text (layer 1) imports codec.ogg"),
        (
            "codec/__init__.py",
            "if TYPE_CHECKING:\n from .. import call",
            "codec (layer 2) imports call (layer 4)",
        ),
        ("call.py", "import_module('personaplex_cli.ui.live')", "call (layer 4) imports ui.live (layer 5)"),
        ("pipeline/gate.py", "from .playout import Playout", "pipeline.gate imports its neighbour"),
        ("ui/live.py", "import personaplex_cli.standin.server", "ui.live imports standin.server"),
        (
            "pipeline/files.py",
            "import sounddevice",
            "pipeline.files imports sounddevice, which belongs to devices",
        ),
        ("cli/app.py", "from httpx import get", "cli.app imports httpx, which belongs to auth"),
        (
            "wire/session.py",
            "from time import monotonic",
            "wire.session imports time, and is meant to be pure",
        ),
        ("pipeline/playout.py", "def f():\n print(1)", "pipeline.playout prints"),
        ("auth.py", "import personaplex_cli.config", "cycle: "),
    ],
)
def test_the_checker_finds_what_breaks_them(path: str, source: str, expected: str | None) -> None:
    found = violations({**WORLD, path: source})
    assert len(found) == (0 if expected is None else 1)
    assert expected is None or found[0].startswith(expected)
