"""libogg and libopus through pyogg, with prototypes of our own.

pyogg 0.6.14a1 loads the libraries and declares their structures. Its wrapper functions are not used: some
call undefined names, those of libopus exist only where libopusfile is installed too, and
`ogg_sync_buffer` is declared to return a copy. So the loaded libraries are opened a second time (the same
handle) and the few functions used here are declared on that.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_int32, c_long, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from personaplex_cli.errors import MissingLibraryError
from personaplex_cli.syslibs import install_hint

_CANDIDATES: Final = {
    "linux": ("lib{}.so.0",),
    "darwin": (
        "/opt/homebrew/lib/lib{}.0.dylib",
        "/usr/local/lib/lib{}.0.dylib",
        "/opt/local/lib/lib{}.0.dylib",
    ),
}
"""File names tried before `ctypes.util.find_library`, which starts programs (ldconfig, gcc) to find out."""


@dataclass(frozen=True, slots=True)
class Libraries:
    """The two libraries and pyogg's structures.

    Calls of libopus release the interpreter lock, those of libogg keep it: they take less than a microsecond
    and come ten to a page, and a thread that lets go of the lock may wait 5 ms to get it back.
    """

    ogg: ctypes.PyDLL
    opus: ctypes.CDLL
    ogg_page: Any
    ogg_packet: Any
    ogg_stream_state: Any
    ogg_sync_state: Any


@cache
def load() -> Libraries:
    """Raises MissingLibraryError, which names the package to install on this system."""
    with _quick_find_library(), _path_kept():
        import pyogg.ogg
        import pyogg.opus
    structures = pyogg.ogg
    ogg, opus = structures.libogg, pyogg.opus.libopus
    if ogg is None:
        raise _missing("ogg")
    if opus is None:
        raise _missing("opus")
    return Libraries(
        _declare_ogg(ctypes.PyDLL(ogg._name), structures),
        _declare_opus(ctypes.CDLL(opus._name)),
        structures.ogg_page,
        structures.ogg_packet,
        structures.ogg_stream_state,
        structures.ogg_sync_state,
    )


def free_with(owner: object, free: Callable[..., object], state: object) -> None:
    """Call `free(state)` when `owner` is gone. Not when the interpreter ends: a daemon thread may still be
    at work on it then."""
    weakref.finalize(owner, free, state).atexit = False


def _missing(library: Literal["ogg", "opus"]) -> MissingLibraryError:
    return MissingLibraryError(f"The library lib{library} is not installed.", install_hint(library))


@contextmanager
def _quick_find_library() -> Iterator[None]:
    """While pyogg is imported: look in the usual places first, and only for the two libraries used here.
    pyogg asks for eight, which takes a fifth of a second."""
    original = ctypes.util.find_library

    def find(name: str) -> str | None:
        if name not in ("ogg", "opus"):
            return None
        for candidate in _CANDIDATES.get(sys.platform, ()):
            try:
                ctypes.CDLL(candidate.format(name))
            except OSError:
                continue
            return candidate.format(name)
        return original(name)

    if sys.platform == "win32":  # the wheel for Windows brings the libraries and finds them by PATH
        yield
        return
    ctypes.util.find_library = find
    try:
        yield
    finally:
        ctypes.util.find_library = original


@contextmanager
def _path_kept() -> Iterator[None]:
    """pyogg appends to PATH when it is imported; programs we start must not inherit that."""
    path = os.environ.get("PATH")
    os.environ.setdefault("PATH", "")
    try:
        yield
    finally:
        if path is None:
            del os.environ["PATH"]
        else:
            os.environ["PATH"] = path


def _declare_ogg(ogg: ctypes.PyDLL, structures: Any) -> ctypes.PyDLL:
    page, packet = POINTER(structures.ogg_page), POINTER(structures.ogg_packet)
    stream, sync = POINTER(structures.ogg_stream_state), POINTER(structures.ogg_sync_state)
    for name, result, arguments in (
        ("ogg_stream_init", c_int, [stream, c_int]),
        ("ogg_stream_clear", c_int, [stream]),
        ("ogg_stream_reset_serialno", c_int, [stream, c_int]),
        ("ogg_stream_packetin", c_int, [stream, packet]),
        ("ogg_stream_flush", c_int, [stream, page]),
        ("ogg_stream_pagein", c_int, [stream, page]),
        ("ogg_stream_packetout", c_int, [stream, packet]),
        ("ogg_sync_init", c_int, [sync]),
        ("ogg_sync_clear", c_int, [sync]),
        ("ogg_sync_buffer", c_void_p, [sync, c_long]),
        ("ogg_sync_wrote", c_int, [sync, c_long]),
        ("ogg_sync_pageseek", c_long, [sync, page]),
    ):
        function = getattr(ogg, name)
        function.restype, function.argtypes = result, arguments
    return ogg


def _declare_opus(opus: ctypes.CDLL) -> ctypes.CDLL:
    for name, result, arguments in (
        ("opus_get_version_string", c_char_p, []),
        ("opus_strerror", c_char_p, [c_int]),
        ("opus_encoder_create", c_void_p, [c_int32, c_int, c_int, POINTER(c_int)]),
        ("opus_encoder_destroy", None, [c_void_p]),
        # Variadic: only the fixed arguments are declared, the rest is passed as ctypes instances.
        ("opus_encoder_ctl", c_int, [c_void_p, c_int]),
        ("opus_encode", c_int32, [c_void_p, c_char_p, c_int, c_char_p, c_int32]),
        ("opus_decoder_create", c_void_p, [c_int32, c_int, POINTER(c_int)]),
        ("opus_decoder_destroy", None, [c_void_p]),
        ("opus_decode", c_int, [c_void_p, c_char_p, c_int32, c_char_p, c_int, c_int]),
    ):
        function = getattr(opus, name)
        function.restype, function.argtypes = result, arguments
    return opus
