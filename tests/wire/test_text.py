"""The transcript: pieces → characters that do no harm."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from personaplex_cli.wire.text import TranscriptDecoder, redact, redact_json, safe_text

EXPLORE = settings(derandomize=True, deadline=None, max_examples=40)
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # emoji held together by zero-width joiners
ARABIC = "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643\u0645"
HEBREW = "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u200f(\u05d8\u05d5\u05d1)\u200e"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # needs a zero-width non-joiner
HINDI = "\u0915\u094d\u200d\u0937"
HEART = "\u2764\ufe0f"  # variation selector


def decode(*payloads: bytes) -> str:
    """All that comes out, the end of the call included."""
    decoder = TranscriptDecoder()
    return "".join([*map(decoder.feed, payloads), decoder.flush()])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def harmful(text: str) -> list[str]:
    """By what Unicode says of each character, not by a list of ours."""
    return [character for character in text if _is_harmful(character)]


def _is_harmful(character: str) -> bool:
    code, category = ord(character), unicodedata.category(character)
    if (
        category == "Cf"
    ):  # joiners and marks that scripts need, soft hyphens, and beside them what is unwanted
        in_general_punctuation = 0x2000 <= code < 0x2070 and character not in "\u200c\u200d\u200e\u200f"
        return in_general_punctuation or 0xE0000 <= code < 0xE0080
    return category in ("Cc", "Cs", "Zl", "Zp")


@pytest.mark.parametrize(
    ("payloads", "text"),
    [
        pytest.param([b"Hel", b"lo", b" world"], "Hello world", id="joined as they come"),
        pytest.param([b"", b"a", b""], "a", id="empty payloads"),
        pytest.param([b"<0xE2><0x82><0xAC>"], "\u20ac", id="run in one payload"),
        pytest.param([b"<0xE2>", b"<0x82>", b"<0xAC>"], "\u20ac", id="run over payloads"),
        pytest.param([b"<0xe2><0x82><0xaC>"], "\u20ac", id="lower case"),
        pytest.param([b"<0xE2><0x82", b"><0x", b"AC", b"> 5"], "\u20ac 5", id="pieces cut inside"),
        pytest.param([b"<0xF0>", b"<0x9F><0x98>", b"<0x80>!"], "\U0001f600!", id="four bytes"),
        pytest.param([b"a<0x41>b<0x42>"], "aAbB", id="ASCII as pieces"),
        pytest.param([b"<0xE2><0x82>x<0xAC>"], "\ufffdx\ufffd", id="run broken by literal text"),
        pytest.param([b"<0xE2>", b"<0x82>", b"x"], "\ufffdx", id="run broken by a later payload"),
        pytest.param([b"<0xE2>", b"\xe2\x82\xac"], "\ufffd\u20ac", id="run broken by whole UTF-8"),
        pytest.param([b"<0xE2><0x82>"], "\ufffd", id="run incomplete at the end"),
        pytest.param([b"<0xE2><0x82><0x"], "\ufffd<0x", id="piece incomplete at the end"),
        pytest.param([b"<0xFF><0x41>"], "\ufffdA", id="no UTF-8 in pieces"),
        pytest.param([b"\xe2", b"\x82", b"\xac"], "\u20ac", id="UTF-8 cut at each byte"),
        pytest.param([b"\xe2\x82"], "\ufffd", id="UTF-8 incomplete at the end"),
        pytest.param([b"\xe2", b"abc\xff"], "\ufffdabc\ufffd", id="no UTF-8"),
        pytest.param([b"1 < 2 <", b" 3"], "1 < 2 < 3", id="literal <"),
        pytest.param([b"<", b"0", b"x", b"4", b"1", b">"], "A", id="a piece cut at each byte"),
        pytest.param([b"<0", b"1>"], "<01>", id="no piece: no x"),
        pytest.param([b"<0x", b"G1>"], "<0xG1>", id="no piece: no hexadecimal digit"),
        pytest.param([b"<0x4", b">"], "<0x4>", id="no piece: one digit"),
        pytest.param([b"<0x41", b"1>"], "<0x411>", id="no piece: three digits"),
        pytest.param([b"<<0x41>>"], "<A>", id="a piece in brackets"),
        pytest.param([b"<0x<0x41>"], "<0xA", id="begun twice"),
        pytest.param([b"<0xE2><", b"0x82><0xAC>"], "\u20ac", id="held back within a run"),
        pytest.param([b"<0X41>"], "<0X41>", id="capital X"),
        pytest.param([b"<0x1B>[31m"], "\ufffd[31m", id="ESC as a piece"),
        pytest.param([b"<0x0A>"], " ", id="line feed as a piece"),
        pytest.param([b"<0xC2>", b"<0x9B>"], "\ufffd", id="CSI as pieces"),
        pytest.param([b"<0xED><0xA0><0x80>"], "\ufffd\ufffd\ufffd", id="a surrogate as pieces"),
        pytest.param([b"[bold]a[/bold]"], "[bold]a[/bold]", id="markup is not touched"),
    ],
)
def test_pieces_become_text(payloads: list[bytes], text: str) -> None:
    assert decode(*payloads) == text


def test_only_what_may_begin_a_piece_is_held_back() -> None:
    decoder = TranscriptDecoder()
    assert decoder.feed(b"a <") == "a "
    assert decoder.feed(b"0xE2") == ""
    assert decoder.feed(b"\n") == "<0xE2 "
    assert decoder.feed(b"<\n") == "< "
    assert decoder.flush() == ""


def test_after_a_flush_it_starts_afresh() -> None:
    decoder = TranscriptDecoder()
    decoder.feed(b"<0xE2>\xe2<")
    decoder.flush()
    assert decoder.feed(b"0x41>\xac") + decoder.flush() == "0x41>\ufffd"


PIECES = st.lists(
    st.text(max_size=4).map(str.encode)
    | st.binary(max_size=3)
    | st.integers(0, 255).map(lambda byte: b"<0x%02X>" % byte)
    | st.sampled_from([b"<0xE2><0x82><0xAC>", b"<", b"<0x", b"<0x4", "\U0001f600".encode(), b"\r\n", b">"]),
    max_size=8,
).map(b"".join)


@EXPLORE
@given(PIECES, st.lists(st.integers(0, 10_000), max_size=6))
@example(b"a\r\n\nb", [1, 2, 3])
@example(b"<0xE2><0x82><0xAC>", list(range(1, 15)))
def test_however_it_is_cut_the_text_is_the_same(data: bytes, places: list[int]) -> None:
    assert decode(*cut(data, places)) == decode(data)


@EXPLORE
@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="\ufffd<")), st.data())
def test_text_that_does_no_harm_comes_out_as_it_went_in(text: str, data: st.DataObject) -> None:
    encoded = text.encode()
    places = data.draw(st.lists(st.integers(0, 10_000), max_size=6))
    assert decode(*cut(encoded, places)) == text
    assert decode(b"".join(b"<0x%02X>" % byte for byte in encoded)) == text


@EXPLORE
@given(st.binary() | PIECES, st.lists(st.integers(0, 10_000), max_size=3))
def test_nothing_harmful_comes_out(data: bytes, places: list[int]) -> None:
    text = decode(*cut(data, places))
    assert harmful(text) == []
    text.encode()


@EXPLORE
@given(st.text(st.characters()))
@example("".join(map(chr, range(0x3000))))
@example("".join(map(chr, range(0xD800, 0xE000))))
@example("".join(map(chr, range(0xE0000, 0xE0100))))
def test_safe_text_is_safe(text: str) -> None:
    safe = safe_text(text)
    assert harmful(safe) == []
    assert len(safe) == len(text)
    assert safe_text(safe) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a\tb\nc\r\nd\u2028e\x85f", "a b c  d e f"),
        pytest.param("\x1b[2J", "\ufffd[2J", id="CSI"),
        pytest.param("\x9b2J", "\ufffd2J", id="C1 CSI"),
        pytest.param("\x1b]8;;http://x\x07y", "\ufffd]8;;http://x\ufffdy", id="OSC"),
        pytest.param("\x9d0;title\x9c", "\ufffd0;title\ufffd", id="C1 OSC"),
        pytest.param("a\x00\x08\x7fb", "a\ufffd\ufffd\ufffdb", id="NUL, backspace, delete"),
        pytest.param(BIDI, "\ufffd" * len(BIDI), id="bidirectional overrides"),
        pytest.param("\U000e0041\U000e007f", "\ufffd\ufffd", id="tag characters"),
        pytest.param("\ud83d", "\ufffd", id="a lone surrogate"),
        pytest.param("\ufeff\u200b\u2060", "\ufffd\ufffd\ufffd", id="invisible"),
    ],
)
def test_harmful_characters_are_replaced(text: str, safe: str) -> None:
    assert safe_text(text) == safe


@pytest.mark.parametrize(
    "text", [FAMILY, ARABIC, HEBREW, PERSIAN, HINDI, HEART, "na\u00efve caf\u00e9", "\u4f60\u597d"]
)
def test_what_scripts_need_stays(text: str) -> None:
    assert safe_text(text) == text
    assert decode(*(bytes((byte,)) for byte in text.encode())) == text


SECRET = "You are Ann; be kind & brief"


@pytest.mark.parametrize(
    ("text", "secrets", "redacted"),
    [
        (f"bad token {SECRET}.", [SECRET], "bad token [hidden]."),
        (f"{SECRET}{SECRET}", [SECRET], "[hidden][hidden]"),
        (f"GET /?p={quote(SECRET)} failed", [SECRET], "GET /?p=[hidden] failed"),
        (f"GET /?p={quote_plus(SECRET)} failed", [SECRET], "GET /?p=[hidden] failed"),
        (safe_text("said: Be\nkind\t!"), ["Be\nkind\t!"], "said: [hidden]"),
        ("one123 and two123", ["one123", "two123"], "[hidden] and [hidden]"),
        pytest.param("Hi, this", ["Hi", ""], "Hi, this", id="too short to be looked for"),
        ("nothing of it", [SECRET], "nothing of it"),
        ("no secrets", [], "no secrets"),
    ],
)
def test_echoed_secrets_are_hidden(text: str, secrets: list[str], redacted: str) -> None:
    assert redact(text, secrets) == redacted


def test_secrets_in_parsed_json_are_hidden() -> None:
    secret = 'Say "hi"\nto Zoë'
    data = {"a": [f"1 {secret} 2", 3, None, True, {secret: 0.5}], "b": "nothing"}
    assert redact_json(data, [secret]) == {
        "a": ["1 [hidden] 2", 3, None, True, {"[hidden]": 0.5}],
        "b": "nothing",
    }


def test_json_that_takes_too_long_to_look_at_is_left_out() -> None:
    assert redact_json("x" * 4000, [SECRET]) is None
    deep: list[object] = []
    for _ in range(1500):
        deep = [deep]
    assert redact_json(deep, [SECRET]) is None
