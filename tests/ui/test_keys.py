from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli.ui.keys import (
    ESCAPE_WAIT_S,
    MAX_PASTE_CHARS,
    PASTE_WAIT_S,
    SEQUENCE_WAIT_S,
    Char,
    Key,
    KeyDecoder,
    Paste,
    Pressed,
)
from personaplex_cli.wire.text import safe_text

BEGIN, END = b"\x1b[200~", b"\x1b[201~"


def chars(text: str) -> list[Pressed]:
    return [Char(char) for char in text]


TABLE: list[tuple[bytes, list[Pressed]]] = [
    (b"aZ 1~", chars("aZ 1~")),
    ("äß€😀e\u0301\u200d".encode(), chars("äß€😀e\u0301\u200d")),
    (b"\r", [Key.ENTER]),
    (b"\n", [Key.ENTER]),
    (b"\t", [Key.TAB]),
    (b"\x7f\x08", [Key.BACKSPACE, Key.BACKSPACE]),
    (b"\x01\x05\x0b\x15\x17", [Key.CTRL_A, Key.CTRL_E, Key.CTRL_K, Key.CTRL_U, Key.CTRL_W]),
    (b"\x00\x02\x03\x04\x0c\x1a\x1c\x1f", []),
    (b"\x1b[A\x1b[B\x1b[C\x1b[D", [Key.UP, Key.DOWN, Key.RIGHT, Key.LEFT]),
    (b"\x1bOA\x1bOB\x1bOC\x1bOD", [Key.UP, Key.DOWN, Key.RIGHT, Key.LEFT]),
    (b"\x1b[H\x1b[F\x1bOH\x1bOF", [Key.HOME, Key.END, Key.HOME, Key.END]),
    (b"\x1b[1~\x1b[4~\x1b[7~\x1b[8~", [Key.HOME, Key.END, Key.HOME, Key.END]),
    (b"\x1b[3~\x1b[3;5~", [Key.DELETE, Key.DELETE]),
    (b"\x1b[1;5A\x1b[1;2D\x1bO5C\x1b[1;10H", [Key.UP, Key.LEFT, Key.RIGHT, Key.HOME]),
    (b"\x1b\x1b[A", [Key.UP]),  # Alt
    (b"\x1bOP\x1b[15~\x1b[24;2~\x1b[[A\x1b[[E\x1b[2~\x1b[5~\x1b[Z", []),  # other keys
    (b"\x1b[<0;10;20M\x1b[<0;10;20m\x1b[M abx", chars("x")),  # mouse
    (b"\x1b[M\xff\xe2~", []),
    (b"\x1b[I\x1b[Ox", chars("x")),  # focus
    (b"\x1b[?1;2c\x1b[24;80R\x1b[?2004;1$y\x1b[0n", []),  # answers
    (b"\x1b]11;rgb:0000/0000/0000\x07x", chars("x")),
    (b"\x1b]11;rgb:0000/0000/0000\x1b\\x", chars("x")),
    (b"\x1bP>|XTerm(380)\x1b\\\x1b_Gi=31;OK\x1b\\\x1b^p\x1b\\\x1bXs\x1b\\x", chars("x")),
    (b"\x1b]0;\xc3\xa4\x07", []),
    (b"\x1bf\x1b\x7fx", chars("x")),  # Alt and a character
    (b"\x1b\xc3\xa4\xc3\xb6", chars("ö")),
    (b"\x1b[12" + b"3" * 1000 + b"Ax", chars("x")),
    (b"\x1b[1;\rx", [Key.ENTER, Char("x")]),  # broken off
    (b"\x1b[1;\x1b[A", [Key.UP]),
    (b"a\xffb\xc3c\xe2\x82\xc3\xa4\xed\xa0\x80\xc0\xafd", chars("abcäd")),  # no UTF-8
    (b"\xe2\x1b[A\x82\xac", [Key.UP]),
    ("\x9b\u202e\u200b\ufeff\u2028x".encode(), chars("x")),  # controls and invisible
    (BEGIN + b"one\r\ntwo\rthree\nfour\r\n" + END + b"x", [Paste("one\ntwo\nthree\nfour\n"), Char("x")]),
    (BEGIN + "a\tb\x07\x00c\x1b[31md\x7f\u202eä".encode() + END, [Paste("a bc[31mdä")]),
    (BEGIN + b"\x1b[201\x1b[20" + END, [Paste("[201[20")]),
    (BEGIN + END + END + b"x", [Paste(""), Char("x")]),
    (BEGIN + b"a\xffb\xe2\x82" + END, [Paste("ab")]),
    (BEGIN + b"a" + BEGIN + b"b" + END, [Paste("a[200~b")]),
]


def decoded(*pieces: bytes) -> list[Pressed]:
    decoder = KeyDecoder()
    keys = [key for piece in pieces for key in decoder.feed(piece)]
    assert not decoder.waiting
    return keys


@pytest.mark.parametrize(("data", "keys"), TABLE)
def test_bytes_are_keys(data: bytes, keys: list[Pressed]) -> None:
    assert decoded(data) == keys


@pytest.mark.parametrize(("data", "keys"), TABLE)
def test_torn_anywhere_they_are_the_same_keys(data: bytes, keys: list[Pressed]) -> None:
    for at in range(1, min(len(data), 100)):
        assert decoded(data[:at], data[at:]) == keys
    assert decoded(*(bytes([byte]) for byte in data)) == keys


def test_a_lone_escape_is_a_key_when_nothing_follows() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"a\x1b") == [Char("a")]
    assert decoder.waiting
    assert decoder.wait_s == ESCAPE_WAIT_S
    assert decoder.timeout() == [Key.ESCAPE]
    assert not decoder.waiting
    assert decoder.timeout() == []
    assert decoder.feed(b"[A") == chars("[A")


@pytest.mark.parametrize("begun", [b"\x1b[", b"\x1bO", b"\x1b[1;5", b"\x1b]0;title", b"\x1bP", b"\x1b[M!"])
def test_part_of_a_sequence_is_nothing_when_nothing_follows(begun: bytes) -> None:
    decoder = KeyDecoder()
    assert decoder.feed(begun) == []
    assert decoder.waiting
    assert decoder.wait_s == SEQUENCE_WAIT_S
    assert decoder.timeout() == []
    assert not decoder.waiting
    assert decoder.feed(b"abc") == chars("abc")


def test_a_paste_that_never_ends() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(BEGIN + b"half\x1b[20") == []
    assert decoder.waiting
    assert decoder.wait_s == PASTE_WAIT_S
    assert decoder.timeout() == [Paste("half[20")]
    assert not decoder.waiting
    assert decoder.feed(b"a") == chars("a")


@pytest.mark.parametrize("char", ["a", "ä", "😀"])
def test_a_paste_is_bounded(char: str) -> None:
    fits = Paste(char * MAX_PASTE_CHARS)
    assert decoded(BEGIN + fits.text.encode() + END) == [fits]
    too_long = BEGIN + char.encode() * (MAX_PASTE_CHARS + 1) + END
    assert decoded(too_long) == [Paste(fits.text, cut=True)]


def test_nothing_of_a_huge_paste_is_taken_for_typing() -> None:
    pieces = [BEGIN, *[b"rm -rf\n" * 500] * 100, END, b"x"]
    paste, key = decoded(*pieces)
    assert isinstance(paste, Paste)
    assert (len(paste.text), paste.cut, key) == (MAX_PASTE_CHARS, True, Char("x"))


PARTS = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([BEGIN, END, b"\x1b", b"\x1b[", b"\x1b]", b"\x07", b"\x1b\\", b"\x1b[M", b"1;5A"]),
    st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(PARTS, max_size=12), st.integers(0, 100))
def test_whatever_comes_only_harmless_keys_come_of_it(parts: list[bytes], at: int) -> None:
    data = b"".join(parts)
    whole, torn = KeyDecoder(), KeyDecoder()
    keys = whole.feed(data)
    assert torn.feed(data[:at]) + torn.feed(data[at:]) == keys
    assert torn.waiting == whole.waiting
    for key in keys + whole.timeout():
        if isinstance(key, Char):
            assert len(key.text) == 1
            assert safe_text(key.text) == key.text
        elif isinstance(key, Paste):
            text = key.text.replace("\n", "")
            assert safe_text(text) == text
            assert "\r" not in key.text
    assert not whole.waiting
