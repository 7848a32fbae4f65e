from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from personaplex_cli.events import (
    AgentText,
    AudioDropped,
    Bookmark,
    CalledAgain,
    CallEnded,
    CallState,
    Counters,
    DeviceChanged,
    DeviceState,
    EchoChanged,
    EchoState,
    EndReason,
    Event,
    IdleCountdown,
    Levels,
    LimitNear,
    Metadata,
    MicrophoneChanged,
    Notice,
    ServerSaidError,
    Speaking,
    StateChanged,
    TextHeard,
    TurnEnded,
    UserText,
    VolumeChanged,
)
from personaplex_cli.turns import Side, Turn, TurnKind
from personaplex_cli.ui import view
from personaplex_cli.ui.lines import SENTENCE_MAX_CHARS, Line, LineKind
from personaplex_cli.ui.prompt import PromptChanged, TypedLine
from personaplex_cli.ui.view import ViewState
from personaplex_cli.wire.text import safe_text

ENDED = CallEnded(75.0, EndReason.HUNG_UP, "", None, 75.0, 62.0, Counters())


def after(*events: Event) -> ViewState:
    state = ViewState()
    for event in events:
        state = view.reduce(state, event)
    return state


def heard(*pieces: str, at_s: float = 1.0) -> list[Event]:
    """The agent's first words in a call, each heard as it comes."""
    ends = accumulate(len(piece) for piece in pieces)
    return [
        event
        for piece, end in zip(pieces, ends, strict=True)
        for event in (AgentText(at_s, piece), TextHeard(at_s, end, True))
    ]


def said(*pieces: str) -> ViewState:
    return after(*heard(*pieces))


def texts(state: ViewState) -> list[str]:
    return [line.text for line in state.finished]


@pytest.mark.parametrize(
    ("pieces", "finished", "running"),
    [
        pytest.param([" Hello", " there", "."], [], " Hello there.", id="nothing follows yet"),
        pytest.param(["Hello. "], [], "Hello. ", id="only white space follows"),
        pytest.param(["Hello.", " How"], ["Hello."], " How", id="text follows"),
        pytest.param(["Really?!", " Yes! No… So"], ["Really?!", "Yes!", "No…"], " So", id="terminators"),
        pytest.param(["Well", ".", ".", ".", " fine"], ["Well..."], " fine", id="dots one by one"),
        pytest.param(["3", ".", "5 is more"], [], "3.5 is more", id="decimal"),
        pytest.param(["see example.com now"], [], "see example.com now", id="dot inside a word"),
        pytest.param(['He said "no."', ' "Oh."', " A"], ['He said "no."', '"Oh."'], " A", id="quotes"),
        pytest.param(["(Yes.)", " B"], ["(Yes.)"], " B", id="bracket"),
        pytest.param(["你好。", "今天"], ["你好。"], "今天", id="no space after it"),
        pytest.param(
            ["他说：「好！", "」", "然后"], ["他说：「好！」"], "然后", id="corner bracket comes late"
        ),
        pytest.param(["什么？", "！", "好"], ["什么？！"], "好", id="full-width terminators one by one"),
        pytest.param(["one\ntwo"], [], "one two", id="a line break is a space"),
        pytest.param(["\x1b[31mred"], [], "\ufffd[31mred", id="an escape sequence is no longer one"),
    ],
)
def test_sentences(pieces: list[str], finished: list[str], running: str) -> None:
    state = said(*pieces)
    assert (texts(state), state.running) == (finished, running)
    assert all(line.kind is LineKind.AGENT for line in state.finished)


def test_a_long_sentence_is_finished_at_a_space() -> None:
    words = "word " * 150
    state = said(words)
    assert texts(state) == [("word " * 120).strip()]
    assert state.running.split() == ["word"] * 30


def test_a_long_word_is_cut() -> None:
    state = said("x" * 10_000)
    assert "".join(texts(state)) + state.running == "x" * 10_000
    assert all(len(text) <= SENTENCE_MAX_CHARS for text in [*texts(state), state.running])


def test_silence_finishes_a_sentence() -> None:
    state = said("Well")
    assert view.tick(state, 2.1).running == "Well"
    assert texts(view.tick(state, 2.2)) == ["Well"]
    assert view.tick(state, 2.2).running == ""
    later = view.reduce(state, AgentText(2.2, " so"))
    assert (texts(later), later.running) == (["Well"], " so")


def test_time_alone_changes_nothing_else() -> None:
    state = after(StateChanged(0.0, CallState.LIVE))
    assert view.tick(state, 1000.0) is state


def test_whatever_else_is_shown_leaves_the_running_sentence() -> None:
    state = after(
        *heard(" I", " am"),
        UserText(1.1, " What\ntime? "),
        Notice(1.1, "Muted."),
        ServerSaidError(1.2, "overloaded"),
        AgentText(1.3, " not"),
    )
    assert state.finished == (
        Line(LineKind.USER, "What time?"),
        Line(LineKind.NOTICE, "Muted."),
        Line(LineKind.ERROR, "overloaded"),
    )
    assert state.running == " I am not"


@pytest.mark.parametrize(
    ("role", "state", "name", "text"),
    [
        (
            "microphone",
            DeviceState.LOST,
            "Headset",
            "The microphone 'Headset' is gone; silence is sent until it is back.",
        ),
        ("speaker", DeviceState.LOST, "Box", "The speaker 'Box' is gone; nothing is heard until it is back."),
        ("speaker", DeviceState.BACK, "Box", "The speaker 'Box' is back."),
        ("speaker", DeviceState.REPLACED, "HDMI", "The speaker is 'HDMI' now, until the other one is back."),
        ("speaker", DeviceState.CHANGED, "HDMI", "The speaker is 'HDMI' now."),
        ("microphone", DeviceState.REFUSED, "There is no 'x'.", "The microphone stays: There is no 'x'."),
    ],
)
def test_what_becomes_of_a_device_is_a_notice(role: str, state: DeviceState, name: str, text: str) -> None:
    assert after(DeviceChanged(1.0, role, state, name)).finished == (Line(LineKind.NOTICE, text),)


@pytest.mark.parametrize("state", DeviceState)
def test_names_of_devices_are_made_harmless(state: DeviceState) -> None:
    assert "\x1b" not in texts(after(DeviceChanged(1.0, "speaker", state, "Box\x1b[2J")))[0]


def test_text_of_anyone_is_made_harmless() -> None:
    state = after(UserText(1.0, "\x1b[2J"), Notice(1.0, "\x9b2J"), ServerSaidError(1.0, "\u202eabc\r\n"))
    assert texts(state) == ["\ufffd[2J", "\ufffd2J", "\ufffdabc"]


def test_blank_lines_are_not_shown() -> None:
    assert after(UserText(0.0, " "), Notice(0.0, "\n"), AgentText(0.0, "  "), ENDED).finished == ()


def test_the_end_finishes_what_runs() -> None:
    state = after(AgentText(74.9, "Good"), ENDED)
    assert (texts(state), state.running, state.ended) == (["Good"], "", ENDED)


def test_metadata_is_not_shown() -> None:
    assert after(Metadata(0.0, {"a": 1})) == ViewState()


def test_finished_lines_are_taken_once() -> None:
    state = after(Notice(0.0, "one"), Notice(0.0, "two"))
    lines, state = view.take_finished(state)
    assert [line.text for line in lines] == ["one", "two"]
    assert view.take_finished(state) == ((), state)


def test_elapsed() -> None:
    connecting = after(StateChanged(0.0, CallState.WAITING))
    assert connecting.elapsed_s(3.0) == 3.0
    live = view.reduce(connecting, StateChanged(10.0, CallState.LIVE))
    assert live.elapsed_s(12.5) == 2.5
    assert live.elapsed_s(9.9) == 0.0
    closing = view.reduce(live, StateChanged(70.0, CallState.CLOSING))
    assert (closing.state, closing.elapsed_s(71.0)) == (CallState.CLOSING, 61.0)
    assert view.reduce(closing, ENDED).elapsed_s(99.0) == 62.0
    assert view.reduce(connecting, ENDED).elapsed_s(99.0) == 75.0


def test_who_speaks() -> None:
    state = after(Speaking(1.0, Side.USER, True))
    assert (state.user.speaks, state.agent.speaks) == (True, False)
    state = view.reduce(view.reduce(state, Speaking(2.0, Side.AGENT, True)), Speaking(2.1, Side.USER, False))
    assert (state.user.speaks, state.agent.speaks) == (False, True)


def test_too_high_a_level_is_marked_for_a_second() -> None:
    state = after(Levels(1.0, 0.0, -20.0, user_clipped=True), Levels(1.1, -30.0, -20.0))
    assert (state.user.dbfs, state.agent.dbfs) == (-30.0, -20.0)
    assert [state.user.clipped(now_s) for now_s in (1.0, 1.9, 2.1)] == [True, True, False]
    assert not state.agent.clipped(1.0)
    assert after(Levels(1.0, 0.0, 0.0, agent_clipped=True)).agent.clipped(1.5)


# --- what was heard, and what was not


def test_a_sentence_is_finished_when_it_was_heard_and_not_when_it_arrives() -> None:
    arrived = after(AgentText(1.0, "Hello. How are"))
    assert (texts(arrived), arrived.heard_chars) == ([], 0)
    half = view.reduce(arrived, TextHeard(1.1, 3, True))
    assert (texts(half), half.heard_chars) == ([], 3)
    whole = view.reduce(half, TextHeard(1.2, 8, True))
    assert (texts(whole), whole.running, whole.heard_chars) == (["Hello."], " How are", 2)


def parts(line: Line) -> list[tuple[str, bool]]:
    return [(text, heard) for text, heard in line.parts() if text]


def test_what_is_never_heard_is_marked_where_it_stood() -> None:
    state = after(
        AgentText(1.0, "One two three four. Five"),
        TextHeard(1.1, 4, True),
        TextHeard(1.2, 7, False),
        TextHeard(1.3, 13, False),  # in two pieces, and still one mark
        TextHeard(1.4, 24, True),
    )
    [line] = state.finished
    assert line.text == "One two three four."
    assert parts(line) == [("One ", True), ("[not heard: two three]", False), (" four.", True)]
    [_, last] = view.flush(state).finished
    assert parts(last) == [("Five", True)]


def test_a_mark_goes_on_in_the_next_sentence() -> None:
    state = view.flush(
        after(AgentText(1.0, "Oh no. Not you"), TextHeard(1.1, 3, True), TextHeard(1.2, 14, False))
    )
    assert [parts(line) for line in state.finished] == [
        [("Oh ", True), ("[not heard: no.]", False)],
        [("[not heard: Not you]", False)],
    ]


def test_what_is_left_at_the_end_is_marked_when_it_is_known_not_to_have_been_heard() -> None:
    state = after(AgentText(1.0, "Good bye"), TextHeard(1.1, 4, True), TextHeard(1.2, 8, False), ENDED)
    assert parts(state.finished[0]) == [("Good ", True), ("[not heard: bye]", False)]
    assert parts(after(*heard("Good bye"), TextHeard(1.2, 8, False), ENDED).finished[0]) == [
        ("Good bye", True)
    ]


@pytest.mark.parametrize(
    "piece", ["word " * 10, "x" * 30, "。" * 30, "Yes. No. " * 5, "x" * 10_000], ids=lambda piece: piece[:9]
)
def test_text_that_nobody_ever_hears_does_not_fill_the_memory(piece: str) -> None:
    state = ViewState()
    shown = 0
    for _ in range(3 if len(piece) > 1000 else 150):
        lines, state = view.take_finished(view.reduce(state, AgentText(1.0, piece)))
        shown += sum(len(line.text) for line in lines)
        assert len(state.running) <= view.UNRESOLVED_MAX_CHARS
        assert all(len(line.text) <= SENTENCE_MAX_CHARS for line in lines)
    assert shown > 0


def test_unheard_marks_do_not_fill_the_memory() -> None:
    state = after(
        *(event for n in range(1, 300) for event in (AgentText(1.0, "x"), TextHeard(1.0, n, False)))
    )
    assert len(state.unheard) == 1


def test_what_was_told_of_text_beyond_the_end_does_no_harm() -> None:
    state = after(AgentText(1.0, "Hello. You"), TextHeard(1.0, 99, False), AgentText(1.1, " too. And"))
    assert texts(state) == ["Hello.", "You too."]


# --- turns, and where they stand


def turn(side: Side, kind: TurnKind, at_s: float = 63.0) -> TurnEnded:
    return TurnEnded(at_s, Turn(side, 61.0, 63.3, kind, 0.5))


def test_turns_stand_below_what_was_said_before_them() -> None:
    """The user's after the agent's sentence that they answer, though that has no full stop."""
    state = after(
        *heard(" How are you", at_s=60.0),
        Speaking(60.5, Side.USER, True),
        turn(Side.USER, TurnKind.TURN, 60.9),
        AgentText(61.0, " Fine. I"),
        TextHeard(61.0, 20, True),
    )
    assert [line.kind for line in state.finished] == [LineKind.AGENT, LineKind.USER, LineKind.AGENT]
    assert texts(state)[::2] == ["How are you", "Fine."]


def test_an_agent_that_was_interrupted_stands_above_the_interruption() -> None:
    state = after(
        *heard(" I think that", at_s=60.0),
        Speaking(60.0, Side.AGENT, True),
        Speaking(60.1, Side.USER, True),
        turn(Side.AGENT, TurnKind.TURN, 60.8),
        turn(Side.USER, TurnKind.INTERRUPTION, 60.9),
    )
    assert texts(state)[0] == "I think that"
    assert [line.kind for line in state.finished] == [LineKind.AGENT, LineKind.USER]
    assert state.running == ""


def test_a_backchannel_leaves_the_agents_sentence_whole() -> None:
    state = after(
        *heard(" I think", at_s=60.0),
        Speaking(60.0, Side.AGENT, True),
        Speaking(60.1, Side.USER, True),
        turn(Side.USER, TurnKind.BACKCHANNEL, 60.9),
    )
    assert [line.kind for line in state.finished] == [LineKind.USER]
    assert state.running == " I think"


@pytest.mark.parametrize("kind", TurnKind)
def test_a_turn_of_the_agent_takes_along_only_what_was_heard_of_it(kind: TurnKind) -> None:
    state = after(AgentText(60.0, " I think so"), TextHeard(60.0, 8, True), turn(Side.AGENT, kind, 60.9))
    assert texts(state)[0] == "I think"
    assert state.running == " so"


def test_lines_about_turns_are_told_from_what_was_said() -> None:
    [line] = after(StateChanged(60.0, CallState.LIVE), turn(Side.USER, TurnKind.TURN)).finished
    assert line == Line(LineKind.USER, "(0:01: spoke for 2.3 s)", aside=True)


# --- more calls than one


def test_a_new_call_begins_anew_and_keeps_what_the_user_has_set() -> None:
    state = after(
        StateChanged(0.1, CallState.WAITING),
        StateChanged(1.0, CallState.LIVE),
        *heard(" Hello. I"),
        MicrophoneChanged(1.0, True, True, False),
        VolumeChanged(1.0, 80),
        EchoChanged(1.0, EchoState.CANCELLED),
        IdleCountdown(1.1, 20.0),
        LimitNear(1.1, 60.0),
        PromptChanged(1.1, TypedLine("abc", 3)),
        CalledAgain(50.0),
    )
    assert texts(state)[:2] == ["Hello.", "I"]
    assert state.finished[-1].kind is LineKind.NEW_CALL
    assert state.microphone == MicrophoneChanged(1.0, True, True, False)
    assert (state.volume_percent, state.prompt) == (80, TypedLine("abc", 3))
    assert (state.idle_ends_at_s, state.limit_ends_at_s, state.echo) == (None, None, EchoState.OFF)
    assert state.elapsed_s(53.0) == 3.0
    assert state.billed_s(53.0) == pytest.approx(49.9)
    again = view.reduce(view.reduce(state, AgentText(54.0, "Who. Me")), TextHeard(54.0, 5, True))
    assert texts(again)[-1] == "Who."  # characters are counted anew


def test_billing_begins_when_the_call_is_connected() -> None:
    state = after(StateChanged(0.0, CallState.CONNECTING))
    assert state.billed_s(5.0) == 0.0
    state = view.reduce(
        view.reduce(state, StateChanged(5.0, CallState.WAITING)), StateChanged(9.0, CallState.LIVE)
    )
    assert state.billed_s(15.0) == 10.0


def test_bookmarks_are_told_on_the_clock_that_is_shown() -> None:
    state = after(StateChanged(10.0, CallState.LIVE), Bookmark(75.0, 3))
    assert texts(state) == ["Bookmark 3, at 1:05."]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (AudioDropped(1.0, Side.AGENT, 1234), "1.2 s of the agent's audio dropped to catch up."),
        (AudioDropped(1.0, Side.USER, 400), "0.4 s of your voice dropped, which could not be sent in time."),
    ],
)
def test_what_is_lost_is_told_at_once(event: Event, text: str) -> None:
    assert after(event).finished == (Line(LineKind.NOTICE, text),)


PIECES = st.one_of(
    st.text(max_size=12),
    st.text(alphabet=' .!?…。！？"」)aB3你\n', max_size=12),
    st.just("word " * 150),
    st.just("x" * 700),
)
HEARD = st.sampled_from([True, False, None])
GAPS_S = st.sampled_from([0.0, 0.1, 1.3])
EXPLORE = settings(deadline=None, max_examples=25)


@EXPLORE
@given(st.lists(st.tuples(PIECES, GAPS_S, st.booleans(), HEARD), max_size=30))
@example([("a.", 0.0, False, True), (" ", 0.0, True, None), ("b", 1.3, False, False)])
def test_nothing_the_agent_says_is_lost(script: list[tuple[str, float, bool, bool | None]]) -> None:
    """However it is split: the finished texts are what was said, white space at the seams aside."""
    now_s, chars = 0.0, 0
    events: list[Event] = []
    for piece, gap_s, interrupted, heard in script:
        now_s += gap_s
        events.append(AgentText(now_s, piece))
        chars += len(piece)
        if heard is not None:
            events.append(TextHeard(now_s, chars, heard))
        if interrupted:
            events.append(Speaking(now_s, Side.USER, True))
    state = view.flush(after(*events))
    rest = safe_text("".join(piece for piece, *_ in script))
    for line in state.finished:
        if line.kind is LineKind.AGENT:
            rest = rest.lstrip()
            assert rest.startswith(line.text)
            assert len(line.text) <= SENTENCE_MAX_CHARS
            rest = rest.removeprefix(line.text)
            marked = "".join(text for text, _ in line.parts())
            assert marked.replace("[not heard: ", "").replace("]", "") == line.text.replace("]", "")
    assert rest.strip() == ""


@EXPLORE
@given(st.lists(PIECES, max_size=20))
def test_a_finished_line_stays_finished(pieces: list[str]) -> None:
    events = heard(*pieces)
    for earlier, later in pairwise(accumulate(events, view.reduce, initial=ViewState())):
        assert later.finished[: len(earlier.finished)] == earlier.finished
