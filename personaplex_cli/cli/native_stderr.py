"""What C libraries write to file descriptor 2, which they do in the middle of a call."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_stderr_held(*, show: bool) -> Iterator[None]:
    """While the block runs, what is written to descriptor 2 goes into a file, so that it tears no screen;
    afterwards it is shown or thrown away. A process without the descriptor is left as it is."""
    try:
        held = tempfile.TemporaryFile()  # noqa: SIM115  closed below; may be impossible: nowhere to write
        original = os.dup(2)
    except OSError:
        yield
        return
    with held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
            if show:
                held.seek(0)
                print(held.read().decode("utf-8", "replace"), end="", file=sys.stderr)
