from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_cli import config_edit
from personaplex_cli.config import config_path
from personaplex_cli.config_edit import add_profile, create, set_value, unset_value
from personaplex_cli.errors import ConfigError, UsageError
from personaplex_cli.settings import Value

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and links are POSIX's")

FILE = """\
# Mine. Do not touch.

voice = "NATM1"    # the best one
max_buffer=250
  # indented

persona = '''
two
lines'''

# for work
[profiles.work]   # here
voice = "VARF1"

# the end
"""


def written(text: str, mode: int = 0o600) -> Path:
    path = config_path()
    path.write_bytes(text.encode())
    path.chmod(mode)
    return path


def text() -> str:
    return config_path().read_bytes().decode()


def said() -> dict[str, Any]:
    return tomllib.loads(text())


def mode() -> int:
    return stat.S_IMODE(config_path().stat().st_mode)


# --- what is changed, and what is not


@pytest.mark.parametrize(
    ("profile", "name", "value", "before", "after"),
    [
        (None, "voice", "NATM2", 'voice = "NATM1"    # the', 'voice = "NATM2"    # the'),
        (None, "max_buffer", 100, "max_buffer=250", "max_buffer=100"),
        (None, "persona", "bees", "persona = '''\ntwo\nlines'''", 'persona = "bees"'),
        ("work", "voice", "VARF2", 'voice = "VARF1"', 'voice = "VARF2"'),
        ("work", "plain", True, 'voice = "VARF1"\n', 'voice = "VARF1"\nplain = true\n'),
    ],
)
def test_only_the_value_changes(
    profile: str | None, name: str, value: Value, before: str, after: str
) -> None:
    path = written(FILE)
    set_value(path, profile, name, value)
    assert text() == FILE.replace(before, after)


def test_a_new_setting_goes_above_the_profiles() -> None:
    path = written(FILE)
    set_value(path, None, "plain", True)
    assert text() == FILE.replace("lines'''\n", "lines'''\nplain = true\n")


def test_where_there_is_no_setting_it_goes_to_the_top() -> None:
    path = written("# for work\n[profiles.work]\n# nothing\n")
    set_value(path, None, "plain", True)
    set_value(path, "work", "plain", True)
    set_value(path, "home", "plain", True)
    assert text() == (
        "plain = true\n\n# for work\n[profiles.work]\n# nothing\nplain = true\n"
        "\n[profiles.home]\nplain = true\n"
    )


def test_in_a_file_of_comments_it_goes_to_the_end() -> None:
    path = written("# nothing\n\n# yet")
    set_value(path, None, "plain", True)
    assert text() == "# nothing\n\n# yet\nplain = true\n"


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_settings_can_be_added_to_any_end(ending: str) -> None:
    path = written(f'voice = "NATM1"{ending}')
    set_value(path, None, "plain", True)
    set_value(path, "work", "voice", "VARF1")
    assert said() == {"voice": "NATM1", "plain": True, "profiles": {"work": {"voice": "VARF1"}}}
    assert text().startswith(f'voice = "NATM1"{ending or chr(10)}plain = true{ending or chr(10)}')


@pytest.mark.parametrize(
    "content",
    [
        "profiles.work.voice = 'VARF1'\n[profiles.new]\n",
        "profiles = {work = {voice = 'VARF1'}, new = {}}\n",
        "[profiles]\nwork = {voice = 'VARF1'}\n",
        "[profiles]\n[profiles.work]\nvoice = 'VARF1'\n",
        "[profiles.work]\nvoice = 'VARF1'\n[profiles.home]\nplain = true\n",
        "[profiles.home]\n[profiles.work]\nvoice = 'VARF1'\n",
    ],
)
def test_profiles_may_be_written_in_any_way(content: str) -> None:
    path = written(content)
    wanted = tomllib.loads(content)
    set_value(path, "work", "plain", False)
    wanted["profiles"]["work"]["plain"] = False
    assert said() == wanted
    set_value(path, "new", "plain", True)
    wanted["profiles"].setdefault("new", {})["plain"] = True
    assert said() == wanted
    assert unset_value(path, "work", "voice")
    del wanted["profiles"]["work"]["voice"]
    assert said() == wanted


def test_what_is_unset_is_gone_and_the_rest_stays() -> None:
    path = written(FILE)
    assert unset_value(path, None, "max_buffer")
    assert unset_value(path, "work", "voice")
    assert text() == FILE.replace("max_buffer=250\n", "").replace('voice = "VARF1"\n', "")
    before = text()
    assert not unset_value(path, None, "max_buffer")
    assert not unset_value(path, "nobody", "voice")
    assert text() == before


def test_nothing_is_made_to_unset_something() -> None:
    assert not unset_value(config_path(), None, "voice")
    assert not config_path().parent.joinpath(".config.toml.lock").exists()
    assert not config_path().exists()


def test_a_profile_is_added_once() -> None:
    path = written(FILE)
    add_profile(path, "work")
    assert text() == FILE
    add_profile(path, "home")
    assert said()["profiles"]["home"] == {}
    with pytest.raises(UsageError, match="No profile can be called default"):
        add_profile(path, "default")


def test_what_is_there_is_not_created_anew() -> None:
    path = config_path().parent / "deeper" / "down" / "config.toml"
    create(path, "# one\n")
    create(path, "# two\n")
    assert path.read_text() == "# one\n"


NAMES = st.sampled_from(["voice", "persona", "max_buffer", "plain", "a b"])
WORDS = st.sampled_from(["x", "# y", 'a"b', "two\nlines", "'''", "\\", "é\u2028"])
CHANGES = st.lists(
    st.tuples(
        st.sampled_from([None, "work", "home"]),
        NAMES,
        st.one_of(st.none(), WORDS, st.integers(), st.booleans()),
    ),
    max_size=6,
)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.sampled_from([FILE, "", "[profiles.home]\n", "# only\n\n[profiles]\nhome = {}\n"]), CHANGES)
def test_whatever_is_changed_all_else_stays(
    content: str, changes: list[tuple[str | None, str, Value | None]]
) -> None:
    path = written(content)
    wanted = tomllib.loads(content)
    for profile, name, value in changes:
        table = wanted
        if value is None:
            unset_value(path, profile, name)
            table = table if profile is None else table.get("profiles", {}).get(profile, {})
            table.pop(name, None)
        else:
            set_value(path, profile, name, value)
            if profile is not None:
                table = wanted.setdefault("profiles", {}).setdefault(profile, {})
            table[name] = value
    assert said() == wanted
    assert {"# Mine. Do not touch.", "# the end", "# only"} & set(content.splitlines()) <= set(
        text().splitlines()
    )


# --- what cannot be changed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("voice = ", "not valid TOML"),
        ("profiles = 1", "cannot be changed as it is"),
        ("profiles.work = 1", "cannot be changed as it is"),
        ("[[profiles]]\n", "cannot be changed as it is"),
        ("profiles = {}\n", "cannot be changed as it is"),  # nothing can be added to it elsewhere
    ],
)
def test_a_broken_file_is_left_alone(content: str, said: str) -> None:
    path = written(content)
    with pytest.raises(ConfigError, match=said):
        set_value(path, "work", "voice", "x")
    assert text() == content


def test_what_the_writer_would_spoil_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    import tomlkit

    path = written(FILE)
    monkeypatch.setattr(tomlkit, "dumps", lambda document: "voice = 'other'")
    with pytest.raises(ConfigError, match="cannot be changed as it is"):
        set_value(path, None, "voice", "x")
    assert text() == FILE


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_may_not_be_written_is_not_replaced() -> None:
    path = written(FILE, 0o400)
    with pytest.raises(ConfigError, match="cannot be written"):
        set_value(path, None, "voice", "x")
    assert text() == FILE


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        set_value(tmp_path / "file" / "config.toml", None, "voice", "x")


# --- modes and links


@POSIX
@pytest.mark.parametrize(
    ("before", "name", "after"),
    [(0o644, "voice", 0o644), (0o644, "api_key", 0o600), (0o640, "voice", 0o640), (0o600, "voice", 0o600)],
)
@pytest.mark.parametrize("profile", [None, "work"])
def test_modes_are_never_widened(before: int, name: str, after: int, profile: str | None) -> None:
    path = written(FILE, before)
    set_value(path, profile, name, "pg_x")
    assert mode() == after


@POSIX
def test_what_is_made_is_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        folder = config_path().parent / "new"
        set_value(folder / "config.toml", None, "voice", "x")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}
    assert modes == {"new": 0o700, "config.toml": 0o600, ".config.toml.lock": 0o600}


@POSIX
@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_a_link(is_there: bool, tmp_path: Path) -> None:
    target = tmp_path / "dotfiles" / "personaplex.toml"
    if is_there:
        target.parent.mkdir()
        target.write_text(FILE)
    config_path().symlink_to(target)
    set_value(config_path(), None, "voice", "NATM3")
    assert config_path().is_symlink()
    assert tomllib.loads(target.read_text())["voice"] == "NATM3"
    assert sorted(path.name for path in target.parent.iterdir()) == [
        ".personaplex.toml.lock",
        "personaplex.toml",
    ]


def test_nothing_is_left_behind_when_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(FILE)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left"):
        set_value(path, None, "voice", "x")
    assert text() == FILE
    assert not list(path.parent.glob(".*.tmp"))


# --- writers at the same time


WRITER = """
import sys
from personaplex_cli.config import config_path
from personaplex_cli.config_edit import set_value, unset_value
me = sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
for number in range(6):
    set_value(config_path(), None, f"{me}{number}", number)
    set_value(config_path(), me, "voice", str(number))
    set_value(config_path(), None, "gone" + me, True)
    unset_value(config_path(), None, "gone" + me)
"""


def test_writers_at_the_same_time_lose_nothing() -> None:
    """Real processes, which begin together, and a reader that never sees a file that is not whole."""
    names = ("one", "two", "three")
    written(FILE)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    while any(writer.poll() is None for writer in writers):
        assert said()["voice"] == "NATM1"
    for writer in writers:
        with writer:
            assert writer.returncode == 0
    wanted = tomllib.loads(FILE) | {f"{name}{n}": n for name in names for n in range(6)}
    wanted["profiles"] |= {name: {"voice": "5"} for name in names}
    assert said() == wanted
    assert set(filter(str.strip, FILE.splitlines())) <= set(text().splitlines())


def test_a_lock_that_is_not_given_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(FILE)
    monkeypatch.setattr(config_edit, "LOCK_LIMIT_S", 0.02)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with config_edit._lock(path):
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    try:
        with pytest.raises(ConfigError, match="is being changed by another program"):
            set_value(path, None, "voice", "x")
    finally:
        done.set()
        thread.join()
    set_value(path, None, "voice", "NATM2")
    assert said()["voice"] == "NATM2"
