"""The ledger of a conversation's calls: which are entered, and as what."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

from personaplex_cli.call_record import CallRecord, ledger_path
from personaplex_cli.cli.plan import Plan, region_name
from personaplex_cli.cli.talk_options import TalkOptions
from personaplex_cli.events import Event
from personaplex_cli.ledger import Bookkeeper, Ledger
from personaplex_cli.wire.endpoint import Endpoint


class Books:
    """Open from the first call to the last. Event loop only, apart from `close`."""

    def __init__(self, options: TalkOptions, plan: Plan, tell: Callable[[str], None]) -> None:
        """`tell` takes what the user should know, on the loop."""
        self._options = options
        self._plan = plan
        self._server = ""
        loop = asyncio.get_running_loop()

        def tell_from_thread(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell, text)

        self._ledger = Ledger(ledger_path(), tell_from_thread)
        self._bookkeeper = Bookkeeper(self._ledger, self._record)

    def calls(self, endpoint: Endpoint) -> None:
        """The next call goes there."""
        self._server = urlsplit(endpoint.address).hostname or ""

    def listen(self, event: Event) -> None:
        self._bookkeeper.listen(event)

    def dropped(self) -> None:
        """The call was dropped, without a last event."""
        self._bookkeeper.dropped()

    def close(self) -> None:
        """Waits a second at most, until all is on the disk. Any thread; may be called again."""
        self._ledger.close()

    def _record(self) -> CallRecord:
        options = self._options
        return CallRecord(
            server=self._server,
            dialect=options.dialect,
            region=region_name(options),
            voice=self._plan.voice,
            profile=options.config.profile,
            rate_per_minute=self._plan.rate_per_minute,
        )
