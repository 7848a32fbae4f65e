"""Keeps the ledger: what each call took, for `personaplex usage`.

A call's line is written when billing begins, rewritten in its place while the call goes on, and completed at
its end: a program that is killed leaves a line that says how long its call lasted at least. The disk is
only touched in a thread of the ledger's own, and a ledger that cannot be written costs the user a note and
no call.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from personaplex_cli.call_record import DROPPED, CallRecord, packed
from personaplex_cli.errors import ExitCode
from personaplex_cli.events import CallEnded, CallState, Event, StateChanged
from personaplex_cli.wire.text import safe_text

BEAT_S: Final = 10.0
"""How often the line of a call that goes on is brought up to date."""

CLOSE_LIMIT_S: Final = 1.0
"""For the disk to take the last line; then it is given up."""

MAX_WAITING: Final = 100
"""Lines that wait for a slow disk, two for a call. Further ones are dropped, and the user is told."""


class Ledger:
    """Writes the lines of the calls of this process. All but `close` on one thread; nothing waits."""

    def __init__(
        self,
        path: Path,
        tell: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        beat_s: float = BEAT_S,
    ) -> None:
        """`tell` gets a sentence for the user if the ledger cannot be written: once at most, from any
        thread."""
        self._path = path
        self._tell = tell
        self._clock = clock
        self._beat_s = beat_s
        self._told = False
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING)
        self._open: list[OpenCall] = []  # of the thread
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()  # not in `begin`: on a busy machine it takes some milliseconds

    def begin(self, record: CallRecord) -> OpenCall:
        """Enters a call from which money is taken from now on."""
        call = OpenCall(record, _Line(self._path), self._clock, self._enqueue)
        self._enqueue(lambda: self._begin(call))
        return call

    def close(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Waits until everything is on the disk, `limit_s` at the most. Any thread; may be called again."""
        if not self._thread.is_alive():
            return
        self._enqueue(None)
        self._thread.join(limit_s)
        if self._thread.is_alive():
            self._tell_once("the disk does not answer")

    def _enqueue(self, job: Callable[[], None] | None) -> None:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._tell_once("the disk does not answer")

    # --- the ledger's thread

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._beat_s)
            except queue.Empty:
                job = self._beat
            if job is None:
                return
            try:
                job()
            except OSError as error:
                self._tell_once(error.strerror or type(error).__name__)

    def _begin(self, call: OpenCall) -> None:
        self._open.append(call)
        call.write(sync=True)

    def _beat(self) -> None:
        self._open = [call for call in self._open if not call.completed]
        for call in self._open:
            call.write(sync=False)

    def _tell_once(self, why: str) -> None:
        if not self._told:
            self._told = True
            self._tell(safe_text(f"This call cannot be entered into the ledger {self._path}: {why}."))


class OpenCall:
    """A call that goes on. `live` and `complete` on the thread of `Ledger.begin`."""

    def __init__(
        self,
        record: CallRecord,
        line: _Line,
        clock: Callable[[], float],
        enqueue: Callable[[Callable[[], None]], None],
    ) -> None:
        self._record = record
        self._line = line
        self._clock = clock
        self._enqueue = enqueue
        self._began_s = clock()
        self._live_at_s: float | None = None
        self.completed = False

    def live(self) -> None:
        """The model is there."""
        self._live_at_s = self._clock()

    def complete(
        self,
        ended: str,
        exit_code: int,
        *,
        connected_s: float | None = None,
        live_s: float | None = None,
    ) -> None:
        """The call's end; None stands for the time until now. Only the first completion counts."""
        if self.completed:
            return
        so_far = self._so_far()
        self._record = replace(
            so_far,
            ended=ended,
            exit_code=exit_code,
            connected_s=so_far.connected_s if connected_s is None else connected_s,
            live_s=so_far.live_s if live_s is None else live_s,
        )
        self.completed = True
        self._enqueue(lambda: self.write(sync=True))

    def write(self, *, sync: bool) -> None:
        """Only the ledger's thread. Raises OSError."""
        self._line.write(packed(self._record if self.completed else self._so_far()), sync=sync)

    def _so_far(self) -> CallRecord:
        now_s = self._clock()
        live_s = 0.0 if self._live_at_s is None else now_s - self._live_at_s
        return replace(self._record, connected_s=now_s - self._began_s, live_s=live_s)


class Bookkeeper:
    """Enters calls as their events tell, one after the other. Event loop only."""

    def __init__(self, ledger: Ledger, make_record: Callable[[], CallRecord]) -> None:
        self._ledger = ledger
        self._make_record = make_record
        self._connecting_at_s = 0.0
        self._connected_at_s = 0.0
        self._call: OpenCall | None = None

    def listen(self, event: Event) -> None:
        match event:
            case StateChanged(at_s, CallState.CONNECTING):
                self._connecting_at_s = at_s
            case StateChanged(at_s, CallState.WAITING):
                self._connected_at_s = at_s
                self._call = self._ledger.begin(self._make_record())
            case StateChanged(state=CallState.LIVE) if self._call:
                self._call.live()
            case CallEnded(reason=reason, error=error) if self._call:
                connected_s = event.lasted_s - (self._connected_at_s - self._connecting_at_s)
                exit_code = error.exit_code if error else ExitCode.OK
                self._call.complete(
                    reason.name.lower(), exit_code, connected_s=connected_s, live_s=event.live_s
                )
                self._call = None

    def dropped(self) -> None:
        """The call was dropped without a last event; nothing if there is none."""
        if self._call is not None:
            self._call.complete(DROPPED, ExitCode.INTERRUPTED)
            self._call = None


class _Line:
    """One line of the file, of a process that shares it with others and with who edits it.

    A line that is not any more where it was written (the file was edited or deleted) is left alone and
    written anew at the end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at_bytes = 0
        self._written = b""

    def write(self, line: bytes, *, sync: bool) -> None:
        """Raises OSError."""
        if not (self._written and self._replace(line, sync)):
            self._append(line, sync)
        self._written = line

    def _replace(self, line: bytes, sync: bool) -> bool:
        try:
            with open(self._path, "r+b", buffering=0) as file:
                file.seek(self._at_bytes)
                if file.read(len(line)) != self._written:
                    return False
                file.seek(self._at_bytes)
                _write_whole(file.fileno(), line, sync)
        except FileNotFoundError:
            return False
        return True

    def _append(self, line: bytes, sync: bool) -> None:
        """Needs no lock: O_APPEND sets the place and writes in one, and the offset behind it is then ours.
        (Where a system does not keep to that, the line is found overwritten and appended anew.)"""
        if not self._path.parent.exists():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._path, "a+b", buffering=0, opener=_open_private) as file:
            end_bytes = file.seek(0, os.SEEK_END)
            file.seek(max(0, end_bytes - 1))
            whole = file.read(1) in (b"", b"\n")
            _write_whole(file.fileno(), line if whole else b"\n" + line, sync)
            self._at_bytes = file.tell() - len(line)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_whole(descriptor: int, data: bytes, sync: bool) -> None:
    if os.write(descriptor, data) < len(data):  # the disk is full; a second piece might not be beside it
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if sync:
        os.fsync(descriptor)
