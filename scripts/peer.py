"""moshi's own client (`python -m moshi.client`, from PyPI), in an environment of its own.

The package asks for torch and more, which the model needs and the client does not. So it is installed alone,
beside what the client imports (in the versions that moshi asks for), and is started without the package's
`__init__.py`, which imports the model. `moshi/client.py` itself is as published.

    PYTHON peer.py --host H --port P      what `python -m moshi.client --host H --port P` does; PYTHON is that
                                          environment's
"""

from __future__ import annotations

import importlib.util
import runpy
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

MOSHI = "moshi==0.2.13"
NEEDED = ("aiohttp>=3.10.5,<3.12", "numpy>=1.26,<2.3", "sounddevice==0.5", "sphn>=0.2,<0.3")
INSTALL_LIMIT_S = 600


class NotInstalledError(Exception):
    """moshi's client cannot be had here; the text says why."""


def peer_python(folder: Path) -> Path:
    """The Python of the environment in `folder`, made if it is not there. Raises NotInstalledError."""
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists() or done.read_text() != MOSHI:
        try:
            venv.create(folder, with_pip=True, clear=True)
            for wanted in (("--no-deps", MOSHI), NEEDED):
                _pip(python, *wanted)
            done.write_text(MOSHI)
        except (OSError, subprocess.SubprocessError) as error:
            words = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise NotInstalledError(words[-1] if words else type(error).__name__) from None
    return python


def _pip(python: Path, *wanted: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *wanted]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)


def _run_client() -> None:
    spec = importlib.util.find_spec("moshi")
    assert spec and spec.submodule_search_locations
    package = ModuleType("moshi")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["moshi"] = package
    runpy.run_module("moshi.client", run_name="__main__")


if __name__ == "__main__":
    _run_client()
