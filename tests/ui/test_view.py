from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from personaplex_cli import pcm
from personaplex_cli.events import (
    AgentText,
    CallEnded,
    CallState,
    Counters,
    DeviceChanged,
    DeviceState,
    EndReason,
    Event,
    Levels,
    Metadata,
    Notice,
    ServerSaidError,
    StateChanged,
    UserText,
)
from personaplex_cli.ui import view
from personaplex_cli.ui.view import Line, LineKind, ViewState
from personaplex_cli.wire.text import safe_text

ENDED = CallEnded(75.0, EndReason.HUNG_UP, "", None, 75.0, 62.0, Counters())


def after(*events: Event) -> ViewState:
    state = ViewState()
    for event in events:
        state = view.reduce(state, event)
    return state


def said(*pieces: str) -> ViewState:
    return after(*(AgentText(1.0, piece) for piece in pieces))


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
    assert all(len(text) <= view.SENTENCE_MAX_CHARS for text in [*texts(state), state.running])


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


def test_injected_text_finishes_the_agents_sentence() -> None:
    state = after(AgentText(1.0, " I am"), UserText(1.1, " What\ntime? "), AgentText(1.2, " not"))
    assert state.finished == (Line(LineKind.AGENT, "I am"), Line(LineKind.USER, "What time?"))
    assert state.running == " not"


def test_notices_and_errors_leave_the_running_sentence() -> None:
    state = after(AgentText(1.0, "I"), Notice(1.1, "Muted."), ServerSaidError(1.2, "overloaded"))
    assert state.finished == (Line(LineKind.NOTICE, "Muted."), Line(LineKind.ERROR, "overloaded"))
    assert state.running == "I"


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
    loud, quiet = pcm.SPEECH_DBFS + 1, pcm.SPEECH_DBFS
    assert not after(Levels(1.0, quiet, quiet)).user_speaks(1.0)
    state = after(Levels(1.0, loud, quiet), Levels(1.1, quiet, loud))
    assert (state.user_dbfs, state.agent_dbfs) == (quiet, loud)
    assert [state.user_speaks(now_s) for now_s in (1.1, 1.29, 1.31)] == [True, True, False]
    assert [state.agent_speaks(now_s) for now_s in (1.1, 1.39, 1.41)] == [True, True, False]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (5.9, "0:05"), (62, "1:02"), (754, "12:34"), (3599.9, "59:59"), (3723, "1:02:03")],
)
def test_elapsed_text(seconds: float, text: str) -> None:
    assert view.elapsed_text(seconds) == text


PIECES = st.one_of(
    st.text(max_size=12),
    st.text(alphabet=' .!?…。！？"」)aB3你\n', max_size=12),
    st.just("word " * 150),
    st.just("x" * 700),
)
GAPS_S = st.sampled_from([0.0, 0.1, 1.3])
EXPLORE = settings(deadline=None, max_examples=40)


@EXPLORE
@given(st.lists(st.tuples(PIECES, GAPS_S, st.booleans()), max_size=30))
@example([("a.", 0.0, False), (" ", 0.0, True), ("b", 1.3, False)])
def test_nothing_the_agent_says_is_lost(script: list[tuple[str, float, bool]]) -> None:
    """However it is split: the finished texts are what was said, white space at the seams aside."""
    now_s = 0.0
    events: list[Event] = []
    for piece, gap_s, interrupted in script:
        now_s += gap_s
        events.append(AgentText(now_s, piece))
        if interrupted:
            events.append(UserText(now_s, "me"))
    state = view.flush(after(*events))
    rest = safe_text("".join(piece for piece, _, _ in script))
    for line in state.finished:
        if line.kind is LineKind.AGENT:
            rest = rest.lstrip()
            assert rest.startswith(line.text)
            assert len(line.text) <= view.SENTENCE_MAX_CHARS
            rest = rest.removeprefix(line.text)
    assert rest.strip() == ""


@EXPLORE
@given(st.lists(PIECES, max_size=20))
def test_a_finished_line_stays_finished(pieces: list[str]) -> None:
    events = [AgentText(1.0, piece) for piece in pieces]
    for earlier, later in pairwise(accumulate(events, view.reduce, initial=ViewState())):
        assert later.finished[: len(earlier.finished)] == earlier.finished
