"""Why a call ended, where it was not the server's closing message that says so."""

from __future__ import annotations

from personaplex_cli.errors import AudioError, PersonaplexError, ServerError, UsageError
from personaplex_cli.events import EndReason
from personaplex_cli.wire.session import CloseStory


def of_failed_end(error: BaseException) -> CloseStory | None:
    """The source, the sink or a listener failed with `error`; None if that is a bug and no ending."""
    match error:
        case AudioError():
            return CloseStory(EndReason.AUDIO_FAILED, "", error)
        case PersonaplexError():
            return CloseStory(EndReason.OUTPUT_FAILED, "", error)
        case BrokenPipeError():  # `| head` has seen enough
            return CloseStory(EndReason.OUTPUT_FAILED, "nobody reads it any more", None)
        case OSError():
            told = UsageError(f"The output cannot be written: {error.strerror}.")
            return CloseStory(EndReason.OUTPUT_FAILED, "", told)
    return None


def of_server_error(words: str, detail: str) -> CloseStory:
    """The server reported an error, and closed then."""
    return CloseStory(EndReason.SERVER_ERROR, detail, ServerError(f"The server reported an error: {words}"))


def of_nonsense(count: int) -> CloseStory:
    """The server sent `count` messages that were of no use."""
    error = ServerError(f"The server sent {count:,} messages of no use: this is no conversation.")
    return CloseStory(EndReason.SERVER_ERROR, "", error)
