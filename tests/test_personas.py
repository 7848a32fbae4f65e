"""Persona files: which are found, what they say, what is wrong with them, and how they are written."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli.errors import UsageError
from personaplex_cli.persona_check import check_own, check_persona
from personaplex_cli.persona_format import Persona, faults, parse
from personaplex_cli.personas import (
    copy_persona,
    create_persona,
    find_persona,
    list_personas,
    own_files,
    personas_folder,
    remove_persona,
    resolve_persona,
)

PRIVATE = "Zebedee keeps bees"
PROMPT = f"You are {PRIVATE}."

posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes")


def write(name: str, text: str | bytes) -> Path:
    """One of the user's."""
    path = personas_folder() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(path: Path) -> list[tuple[int | None, str]]:
    return [(one.line, one.text) for one in check_persona(path).findings if one.is_problem]


def hints(path: Path) -> list[str]:
    return [one.text for one in check_persona(path).findings if not one.is_problem]


# --- forms


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", f"  {PROMPT}\n", Persona(PROMPT)),
        ("a.txt", f"---\nname: x\n---\n{PROMPT}", Persona(f"---\nname: x\n---\n{PROMPT}")),
        ("a.md", f"\ufeff{PROMPT}\n", Persona(PROMPT)),
        ("a.md", "You are one.\n\n---\n\nYou are two.", Persona("You are one.\n\n---\n\nYou are two.")),
        ("a.md", f"---\n---\n{PROMPT}", Persona(PROMPT)),
        ("a.md", f"---\r\nvoice: natm1\r\n---\r\n\r\n{PROMPT}\r\n", Persona(PROMPT, "NATM1")),
        ("a.md", f"---\nname: 'Bea'\n\n# why\nvoice: \"VARF2.pt\" # low\n---\n{PROMPT}", ("VARF2", "Bea")),
        ("a.MARKDOWN", f"---\nvoice:\nname: # none\n---\n{PROMPT}", Persona(PROMPT)),
        ("a.toml", f'prompt = "{PROMPT}"', Persona(PROMPT)),
        ("a.toml", f'name = "Bea"\r\nvoice = "varf2"\r\nprompt = """\r\n{PROMPT}\r\n"""', ("VARF2", "Bea")),
        ("noodle", f"{PROMPT}\r\nHi.\r\n", Persona(f"{PROMPT}\nHi.")),
    ],
)
def test_what_a_file_says(name: str, text: str, expected: Persona | tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    if isinstance(expected, tuple):
        expected = Persona(PROMPT, *expected)
    assert resolve_persona(f"@{path}") == expected


BROKEN = [
    ("a.md", f"---\nvoice: NATM1\n\n{PROMPT}", "no second ---", None),
    ("a.md", f"---\nvoice: NATM1\n{PROMPT}\n---\nx", "line 3 is neither", None),
    ("a.md", f"---\nvoice: NATM1\nvoice: NATM2\n---\n{PROMPT}", "line 3 has a key that is there", None),
    ("a.md", f"---\nname: x\nZebedee: keeps bees\n---\n{PROMPT}", "unknown key", 3),
    ("a.md", f"---\nvoice: {PRIVATE}\n---\n{PROMPT}", "no such voice", 2),
    ("a.md", f"---\nname: {PRIVATE}\n---\n  \n", "no prompt", None),
    ("a.txt", " \n", "no prompt", None),
    ("a.toml", f'# {PRIVATE}\nprompt = "{PRIVATE}\n', "not valid TOML: line 2", None),
    ("a.toml", f'name = "{PRIVATE}"', "no prompt", None),
    ("a.toml", f'prompt = ["{PRIVATE}"]', "prompt must be a string", 1),
    ("a.toml", f'prompt = "{PRIVATE}"\nvoice = 3', "voice must be a string", 2),
    ("a.toml", f'prompt = "{PRIVATE}"\n\nvioce = "NATM1"', "unknown key", 3),
    ("a.toml", f'prompt = "{PRIVATE}"\n[voice]\nZebedee = 1', "voice must be a string", 2),
    ("a.toml", f'prompt = "{PRIVATE}"\n[Zebedee]\nx = 1', "unknown key", 2),
    ("a.toml", "x = " + "[" * 3000, "TOML", None),
    ("a.toml", "Zebedee = 1" + "_9" * 5000, "TOML", None),
]


@pytest.mark.parametrize(("name", "text", "words", "line"), BROKEN)
def test_a_file_that_is_not_right(name: str, text: str, words: str, line: int | None, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=words) as raised:
        resolve_persona(f"@{path}")
    said = f"{raised.value} {raised.value.hint}"
    assert str(path) in said and "Zebedee" not in said
    assert line is None or f"line {line}:" in said
    found = problems(path)
    assert len(found) == 1 and words in found[0][1] and found[0][0] == line
    assert "Zebedee" not in found[0][1]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from((".md", ".toml", ".txt")), st.sampled_from(("", "---\n")), st.text())
def test_any_text_is_a_persona_or_explained(suffix: str, start: str, text: str) -> None:
    try:
        draft = parse(start + text, Path(f"a{suffix}"))
    except UsageError:
        return
    assert draft.prompt or faults(draft)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    cases: list[tuple[bytes, str]] = [(b"\xff\xfe\x00", "not UTF-8"), (b"x" * 65_537, "too long")]
    path = tmp_path / "a.md"
    for content, words in cases:
        path.write_bytes(content)
        assert [words in text for _, text in problems(path)] == [True]
    assert "cannot be read" in problems(tmp_path)[0][1]
    assert "cannot be read" in problems(tmp_path / "none.md")[0][1]
    assert check_persona(path).characters is None


# --- names


def test_the_shipped_ones_are_beyond_reproach() -> None:
    shipped = list_personas()
    assert {"assistant", "teacher", "friend"} <= {file.name for file in shipped}
    assert len(shipped) == 6 and all(file.is_shipped for file in shipped)
    for file in shipped:
        report = check_persona(file.path)
        assert report.findings == () and (report.characters or 0) < 600
        persona = resolve_persona(file.name)
        assert persona and persona.voice and persona.title


def test_own_ones_come_before_those_that_ship_whatever_the_case() -> None:
    write("Teacher.md", PROMPT)
    assert resolve_persona("TEACHER") == Persona(PROMPT)
    assert [(file.name, file.is_shipped) for file in list_personas() if file.name.lower() == "teacher"] == [
        ("Teacher", False)
    ]


def test_only_files_that_are_personas_are_found() -> None:
    for name in ("a.md~", ".a.md", "b.jpg", "two words.md", "con.md", "x" * 41 + ".md", "-f.md"):
        write(name, PROMPT)
    (personas_folder() / "folder.md").mkdir()
    write("mine.txt", PROMPT)
    assert [file.name for file in list_personas() if not file.is_shipped] == ["mine"]


def test_two_files_of_one_name_are_not_chosen_from() -> None:
    write("mine.md", PROMPT)
    write("mine.toml", PROMPT)
    with pytest.raises(UsageError, match="mine.md and mine.toml"):
        find_persona("mine")


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("techer", "Is teacher meant?"),
        ("Frend", "Is friend meant?"),
        ("Hi!", "personas list"),
        ("../teacher", "@FILE"),
        ("teacher.md", "@FILE"),
    ],
)
def test_one_word_that_is_no_name(text: str, near: str) -> None:
    with pytest.raises(UsageError, match="no persona of that name") as raised:
        resolve_persona(text)
    assert raised.value.hint and near in raised.value.hint
    assert text not in f"{raised.value}{raised.value.hint}"


@pytest.mark.parametrize(
    "text", ["", "  ", "You are Bea.", " teacher of French ", "あなたは親切な先生です。", "x" * 256]
)
def test_other_text_is_the_persona_itself(text: str) -> None:
    assert resolve_persona(text) == Persona(text)


def test_a_name_may_have_blanks_around_it_and_no_persona_is_none() -> None:
    assert resolve_persona(" teacher\n") == resolve_persona("teacher")
    assert resolve_persona(None) is None


# --- writing


@posix_only
def test_what_is_written_is_private() -> None:
    path = create_persona("mine", PROMPT)
    assert path == personas_folder() / "mine.md" and path.read_text("utf-8") == PROMPT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "a b", "-a", "_a", "con", "LPT1", "x" * 41, "é", "a.md", "a\n"]
)
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match="cannot have this name"):
        create_persona(name, PROMPT)
    assert not personas_folder().exists()


def test_nothing_is_written_over() -> None:
    path = write("Mine.toml", "x")
    with pytest.raises(UsageError, match="already"):
        create_persona("mine", PROMPT)
    assert path.read_text() == "x" and len(own_files()) == 1


def test_of_many_who_write_at_once_one_wins() -> None:
    results: list[str] = []

    def create(text: str) -> None:
        try:
            create_persona("mine", text)
            results.append(text)
        except UsageError as error:
            assert "already" in str(error) or "cannot be written" in str(error)

    threads = [threading.Thread(target=create, args=(f"You are {number}.",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [find_persona("mine").path.read_text()] == results
    assert len(list(personas_folder().iterdir())) == 1


def test_what_could_not_be_written_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left"):
        create_persona("mine", PROMPT)
    assert list(personas_folder().iterdir()) == []


def test_a_folder_that_is_a_file() -> None:
    personas_folder().write_text("x")
    for attempt in (lambda: create_persona("mine", PROMPT), list_personas):
        with pytest.raises(UsageError, match="personas.* cannot be"):
            attempt()


def test_a_copy_of_a_shipped_one_is_the_users_to_change_and_to_remove() -> None:
    shipped = find_persona("friend")
    copy_persona(shipped)
    own = find_persona("friend")
    assert not own.is_shipped and own.path.read_text("utf-8") == shipped.path.read_text("utf-8")
    remove_persona(own)
    assert find_persona("friend") == shipped
    with pytest.raises(UsageError, match="built in"):
        remove_persona(shipped)
    assert shipped.path.exists()


# --- check


@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        ("pg_0123456789abcdef", "an API key"),
        ("sk-proj-abcdefghijklmnopqrst", "an API key"),
        ("ghp_abcdefghijklmnopqrst0123", "an API key"),
        ("AKIAABCDEFGHIJKLMNOP", "an API key"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefgh", "a token (JWT)"),
        ("d41d8cd98f00b204e9800998ecf8427e", "hexadecimal"),
        ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEYx", "base64"),
        ("Password: tulip", "a password"),
        ("the API key = tulip", "a password"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
    ],
)
@pytest.mark.parametrize("start", ["", "---\nvoice: NATM1\n---\n"])
def test_secrets_are_found_and_not_shown(secret: str, kind: str, start: str, tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text(f"{start}You are Bea.\nYou know {secret} by heart.\n")
    assert [(line, kind in text, secret in text) for line, text in problems(path)] == [
        (start.count("\n") + 2, True, False)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "You keep a secret. The secret ingredient: basil. Ask for the password, then wait.",
        "See https://shop.example/opening-hours-of-all-our-many-shops-in-2025 or MODEL-2025-" + "X" * 40,
        "You know that 4111 is a number, as is 20250101, and that pg_dump makes a copy.",
        "You like Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogoch and well-known-words.",
    ],
)
def test_what_is_no_secret(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    assert problems(path) == []


def test_secrets_are_found_in_broken_files_too(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('prompt = "pg_0123456789abcdef')
    assert [line for line, _ in problems(path)] == [None, 1]


def test_how_much_fits_into_an_address(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("You are " + "é" * 992, "utf-8")
    report = check_persona(path)
    assert (report.characters, report.encoded_bytes, report.findings) == (1000, 12 + 992 * 6, ())
    path.write_text("You are " + "x" * 993, "utf-8")
    assert problems(path) == [] and "1,001 characters" in hints(path)[0]
    path.write_text("You are " + "é" * 1400, "utf-8")
    assert "too long" in problems(path)[0][1] and "8,192" in problems(path)[0][1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Act as a pirate.", "begin with"),
        ("Du bist ein Lehrer.", "begin with"),
        ("You work for Acme which is a shop.", "your name is"),
        ("You are Bea.\n\n## Rules\n\nBe kind.", "markup"),
        ("You are Bea.\n- be kind\n- be short", "markup"),
        ("You are Bea. Be **kind**.", "markup"),
        ("You work for <company> and your name is Bea.", "placeholder"),
        ("You are [YOUR NAME].", "placeholder"),
    ],
)
def test_styles_that_the_model_does_not_know(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text(text)
    assert problems(path) == []
    assert [words in hint for hint in hints(path)] == [True]


def test_all_of_the_users_own_are_checked_also_those_that_cannot_be_called() -> None:
    assert check_own() == []
    write("fine.md", PROMPT)
    write("two words.md", PROMPT)
    write("twin.md", PROMPT)
    write("twin.txt", PROMPT)
    found = [(name, [one.text for one in report.findings]) for name, report in check_own()]
    assert found == [
        ("fine", []),
        ("twin", ["Another file has the same name."]),
        ("twin", ["Another file has the same name."]),
        ("two words", ["The file's name is none that a persona can have."]),
    ]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="everything is readable")
def test_a_folder_that_must_not_be_read() -> None:
    write("mine.md", PROMPT)
    personas_folder().chmod(0)
    try:
        with pytest.raises(UsageError, match="Permission denied"):
            list_personas()
    finally:
        personas_folder().chmod(0o700)
