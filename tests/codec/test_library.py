"""Loading libogg and libopus: what is there, what is said when one is not, and what is left as it was."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from personaplex_cli.codec import library
from personaplex_cli.errors import AudioError, ExitCode, MissingLibraryError
from personaplex_cli.syslibs import install_hint


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if nothing had been loaded in this process."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyogg"]:
        monkeypatch.delitem(sys.modules, name)
    library.load.cache_clear()
    yield
    library.load.cache_clear()


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """A system on which one library is not installed."""
    open_library, find_library = ctypes.CDLL, ctypes.util.find_library

    def opened(name: str | None, *arguments: Any, **more: Any) -> ctypes.CDLL:
        if name is not None and f"{missing}." in name:
            raise OSError(f"{name}: cannot open shared object file")
        return open_library(name, *arguments, **more)

    monkeypatch.setattr(ctypes, "CDLL", opened)
    monkeypatch.setattr(
        ctypes.util, "find_library", lambda name: None if name == missing else find_library(name)
    )


@pytest.mark.usefixtures("fresh")
def test_both_are_loaded_once() -> None:
    libraries = library.load()
    assert libraries.opus.opus_get_version_string().startswith(b"libopus ")
    assert libraries.ogg.ogg_sync_pageseek
    assert library.load() is libraries


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("path", ["/usr/bin:/bin", "", None])
def test_loading_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    if path is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", path)
    find_library = ctypes.util.find_library
    library.load()
    assert os.environ.get("PATH") == path
    assert ctypes.util.find_library is find_library


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("missing", ["ogg", "opus"])
def test_a_missing_library_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, missing: Any) -> None:
    without(monkeypatch, missing)
    path, find_library = os.environ["PATH"], ctypes.util.find_library
    with pytest.raises(MissingLibraryError) as raised:
        library.load()
    assert str(raised.value) == f"The library lib{missing} is not installed."
    assert raised.value.hint == install_hint(missing)
    assert isinstance(raised.value, AudioError) and raised.value.exit_code == ExitCode.AUDIO
    assert os.environ["PATH"] == path
    assert ctypes.util.find_library is find_library


@pytest.mark.usefixtures("fresh")
def test_a_library_in_an_unusual_place_is_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_CANDIDATES", {sys.platform: ("/nowhere/lib{}.so",)})
    searched = []
    find_library = ctypes.util.find_library

    def find(name: str) -> str | None:
        searched.append(name)
        return find_library(name)

    monkeypatch.setattr(ctypes.util, "find_library", find)
    library.load()
    assert searched == ["ogg", "opus"]  # and none of the six others that pyogg knows


@pytest.mark.usefixtures("fresh")
def test_on_windows_the_search_is_pyogg_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    find_library = ctypes.util.find_library
    monkeypatch.setattr(sys, "platform", "win32")
    with library._quick_find_library():
        assert ctypes.util.find_library is find_library
