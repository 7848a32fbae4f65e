"""The keys of a call: what each of them does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, Protocol

from personaplex_cli.call import Call
from personaplex_cli.cli.bindings import help_rows
from personaplex_cli.cli.dialogs import Choosing, Dialog, Helping, Typing, choices
from personaplex_cli.devices.device import Device, Kind
from personaplex_cli.ends import MicrophoneEnd, Sink, Source, SpeakerEnd
from personaplex_cli.events import (
    Bookmark,
    EchoState,
    EndReason,
    Event,
    MicrophoneChanged,
    Notice,
    VolumeChanged,
)
from personaplex_cli.threads import in_thread
from personaplex_cli.ui.editor import History
from personaplex_cli.ui.keys import Char, Key, Paste, Pressed
from personaplex_cli.ui.prompt import PromptChanged
from personaplex_cli.ui.push_to_talk import TalkKey

VOLUME_STEP_PERCENT: Final = 10

AGAIN_S: Final = 1.0
"""Pressed again so soon, `r` is held down or a slip, and means no further call: each is billed. A held key
repeats within 0.7 s."""

TALK_TICK_S: Final = 0.05
"""How soon it is seen that the talk key was let go."""


class Conversation(Protocol):
    """What the keys act on. Event loop only."""

    call: Call | None
    """The one that goes on."""

    async def say(self, text: str) -> None: ...

    def now_s(self) -> float: ...

    def tell(self, event: Event) -> None: ...

    def hang_up(self, reason: EndReason) -> None: ...


def ends_there(source: Source, sink: Sink) -> set[str]:
    """What there is to steer, as `bindings.Binding.needs` names it."""
    there = {
        name
        for name, is_there in (
            ("microphone", isinstance(source, MicrophoneEnd)),
            ("speaker", isinstance(sink, SpeakerEnd)),
        )
        if is_there
    }
    return there | ({"device"} if there else set())


class Controls:
    """Of one conversation, for all of its calls. Event loop only."""

    def __init__(
        self, conversation: Conversation, source: Source, sink: Sink, by_lines: Callable[[bool], object]
    ) -> None:
        """`by_lines` is told when a text is typed, which the terminal may do by itself, and when no more."""
        self._conversation = conversation
        self._microphone = source if isinstance(source, MicrophoneEnd) else None
        self._speaker = sink if isinstance(sink, SpeakerEnd) else None
        self._ends = ends_there(source, sink)
        self._by_lines = by_lines
        self._dialog: Dialog | None = None
        self._history = History()
        self._talk_key = TalkKey()
        self._bookmarks = 0
        self._anew_s = float("-inf")  # when a new call was last asked for
        self._tasks: set[asyncio.Task[None]] = set()
        self._actions: dict[str, Callable[[], object]] = {
            " ": self._talk,
            "m": self._mute,
            "t": self._type,
            "+": partial(self._turn_up, VOLUME_STEP_PERCENT),
            "=": partial(self._turn_up, VOLUME_STEP_PERCENT),  # where + needs Shift
            "-": partial(self._turn_up, -VOLUME_STEP_PERCENT),
            "d": self._list_devices,
            "p": self.switch_push_to_talk,
            "l": self._flush,
            "b": self._bookmark,
            "r": self._begin_anew,
            "?": partial(self._open, Helping(help_rows(self._ends))),
            "q": partial(conversation.hang_up, EndReason.HUNG_UP),
        }

    def press(self, keys: list[Pressed]) -> None:
        """What a user pressed, in order. A key that fails is told, and ends no call."""
        if self._conversation.call is not None:
            self._conversation.call.put_off_idle()
        for key in keys:
            try:
                if self._dialog is not None:
                    self._answer(self._dialog, key)
                else:
                    self._act(key)
            except Exception as error:
                self._tell_failure(error)

    def _tell_failure(self, error: BaseException) -> None:
        text = f"What this key does has failed ({type(error).__name__}). The call goes on."
        self._conversation.tell(Notice(self._conversation.now_s(), text))

    def _act(self, key: Pressed) -> None:
        match key:
            case Char(text=text) if text in self._actions:
                self._actions[text]()
            case Key.ENTER:
                self._type()
            case Paste():  # one text, and no keys
                self._type()
                self.press([key])

    def _open(self, dialog: Dialog) -> None:
        self._dialog = dialog
        if isinstance(dialog, Typing):
            self._by_lines(True)
        self._ask(dialog)

    def _answer(self, dialog: Dialog, key: Pressed) -> None:
        if not dialog.press(key):
            self._ask(dialog)
            return
        self._dialog = None
        self._conversation.tell(PromptChanged(self._conversation.now_s(), None))
        match dialog:
            case Typing():
                self._by_lines(False)
                if dialog.text:
                    self._begin(self._conversation.say(dialog.text))
            case Choosing(chosen=(kind, device)):
                self._use(kind, device)

    def _ask(self, dialog: Dialog) -> None:
        self._conversation.tell(PromptChanged(self._conversation.now_s(), dialog.prompt))

    def _type(self) -> None:
        self._open(Typing(self._history))

    # --- the microphone

    def _mute(self) -> None:
        if self._microphone is not None:
            self._microphone.gate.muted = not self._microphone.gate.muted
            self._tell_microphone()

    def switch_push_to_talk(self) -> None:
        """On or off; a tap on the talk key before it does not keep the microphone open."""
        if self._microphone is not None:
            gate = self._microphone.gate
            gate.push_to_talk = not gate.push_to_talk
            gate.talking, self._talk_key = False, TalkKey()
            self._tell_microphone()

    def _talk(self) -> None:
        if self._microphone is None:
            return
        half_duplex = self._microphone.echo is EchoState.HALF_DUPLEX
        if not (self._microphone.gate.push_to_talk or half_duplex):  # the user is heard anyway
            return
        self._talk_key.pressed(self._conversation.now_s())
        self._follow_talk_key()

    def _follow_talk_key(self) -> None:
        assert self._microphone is not None
        gate = self._microphone.gate
        self._talk_key.tick(self._conversation.now_s())
        if gate.talking != self._talk_key.talking:
            gate.talking = self._talk_key.talking
            self._tell_microphone()
            if gate.talking:
                self._watch_talk_key()

    def _watch_talk_key(self) -> None:
        """As long as the user talks: only the clock tells that a key was let go."""
        self._follow_talk_key()
        if self._talk_key.talking:
            asyncio.get_running_loop().call_later(TALK_TICK_S, self._watch_talk_key)

    def _tell_microphone(self) -> None:
        assert self._microphone is not None
        gate = self._microphone.gate
        now_s = self._conversation.now_s()
        self._conversation.tell(MicrophoneChanged(now_s, gate.muted, gate.push_to_talk, gate.talking))

    # --- the speaker

    def _turn_up(self, percent: int) -> None:
        if self._speaker is not None:
            volume = self._speaker.volume
            volume.percent += percent
            self._conversation.tell(VolumeChanged(self._conversation.now_s(), volume.percent))

    def _flush(self) -> None:
        if self._speaker is not None:
            self._speaker.flush()

    # --- devices

    def _list_devices(self) -> None:
        if self._microphone is not None or self._speaker is not None:
            self._begin(self._offer_devices())

    async def _offer_devices(self) -> None:
        from personaplex_cli.devices.listing import listed_afresh

        kinds: list[Kind] = []
        if self._microphone is not None:
            kinds.append("input")
        if self._speaker is not None:
            kinds.append("output")
        found = choices(await in_thread(listed_afresh, name="list-devices"), kinds)
        if not found:
            self._conversation.tell(Notice(self._conversation.now_s(), "No sound devices are found."))
        elif self._dialog is None:
            self._open(Choosing(found))

    def _use(self, kind: Kind, device: Device) -> None:
        end = self._microphone if kind == "input" else self._speaker
        if end is not None:
            end.use_device(device.label)

    def _begin_anew(self) -> None:
        before_s, self._anew_s = self._anew_s, self._conversation.now_s()
        if self._anew_s - before_s >= AGAIN_S:
            self._conversation.hang_up(EndReason.BEGUN_ANEW)

    def _bookmark(self) -> None:
        self._bookmarks += 1
        self._conversation.tell(Bookmark(self._conversation.now_s(), self._bookmarks))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._tell_failure(error)
