from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from personaplex_cli.config import SIZE_LIMIT_BYTES, Config, config_path, load_config, profile_names
from personaplex_cli.errors import ConfigError, ExitCode, UsageError
from personaplex_cli.settings import SETTINGS, Setting, Value

KEY = "pg_secret_0123456789"

PROFILES = f"""\
voice = "NATM1"
api_key = "{KEY}"

[profiles.work]
voice = "VARF1"
rate_per_minute = 0.5

[profiles.home]
"""


def write_config(content: str | bytes, mode: int = 0o600) -> Path:
    path = config_path()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def everything_said(error: BaseException) -> str:
    hint = getattr(error, "hint", "") or ""
    return "".join(traceback.format_exception(error)) + repr(error) + hint


def refused(content: str | bytes) -> ConfigError:
    path = write_config(content)
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert caught.value.exit_code == ExitCode.CREDENTIALS
    assert str(path) in str(caught.value)
    assert KEY not in everything_said(caught.value)
    return caught.value


# --- the file


def test_the_file_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSONAPLEX_CONFIG", str(tmp_path / "other.toml"))
    assert config_path() == tmp_path / "other.toml"


def test_the_file_is_in_the_usual_folder_otherwise(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    monkeypatch.delenv("PERSONAPLEX_CONFIG")
    assert config_path().name == "config.toml"
    assert config_path().is_relative_to(own_home)


def test_a_missing_file_is_an_empty_configuration() -> None:
    assert load_config() == Config(config_path())
    assert load_config().defaults == {}


def test_the_key_is_read_and_not_shown_by_repr() -> None:
    write_config(f'api_key = "{KEY}"\n')
    config = load_config()
    assert (config.get("api_key"), config.note) == (KEY, None)
    assert KEY not in repr(config)


def test_the_mark_that_notepad_writes_is_none_of_the_file() -> None:
    write_config(b'\xef\xbb\xbfvoice = "NATM1"\r\n')
    assert load_config().get("voice") == "NATM1"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
@pytest.mark.parametrize("table", ["", "[profiles.work]\n"])
def test_a_file_with_a_key_that_others_can_read_gives_a_note(mode: int, table: str) -> None:
    path = write_config(f'{table}api_key = "{KEY}"', mode)
    note = load_config().note
    assert note is not None and f"chmod 600 {path}" in note and KEY not in note


def test_a_file_without_a_key_may_be_read_by_others() -> None:
    write_config("# nothing yet\n", 0o644)
    assert load_config().note is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"\n\napi_key = {KEY}\n", "line 3, column"),
        (f'api_key = "{KEY}', "not valid TOML"),
        (f'api_key = "{KEY}"\napi_key = "{KEY}"\n', "not valid TOML"),
        (f"[{KEY}]\n[{KEY}]\n", "not valid TOML"),
        (b"api_key = '\xff'", "not UTF-8"),
        ("x = " + "[" * 5000, "is not a configuration"),
        ("rate_per_minute = " + "9" * 5000, "is not a configuration"),
        ("#" * (SIZE_LIMIT_BYTES + 1), "too large"),
    ],
)
def test_a_file_that_is_no_toml_is_named_and_not_quoted(content: str | bytes, said: str) -> None:
    assert said in str(refused(content))


def test_a_file_that_cannot_be_read_is_an_error() -> None:
    config_path().mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config()


def test_a_name_that_no_file_can_have_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplex_cli.config.config_path", lambda: Path("a\0b"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config()


# --- mistakes


WRONG: dict[str, tuple[str, ...]] = {
    "a string": ("5", "true", '["a"]', "{}"),
    "a string, and not an empty one": ("5", "false", '""', '"  "', '["a"]'),
    "a number of 0 or more": ('"0.12"', "true", "-0.1", "nan", "inf", "-inf", "[1]", "1979-05-27", "9" * 400),
    "a number of seconds, 0 or more": ('"60"', "false", "-1", "nan", "inf", "{}", "07:32:00", "9" * 400),
    "true or false": ("1", '"true"', "0.0", "[true]"),
    "the name of a voice": ('"NATX9"', "1", '""', "[]", "{name = 'x'}"),
    "the name of a region, or auto": ('"atlantis"', "1", '""', "true"),
    "a device's name or number, or none": ('""', "-1", "1.0", "true", "9" * 30),
    "a whole number from 1": ('"1"', "0", "-1", "1.0", "true", "9" * 30),
    "a whole number from 0 to 2000": ('"1"', "-1", "2001", "0.5", "false"),
    '"polargrid" or "moshi"': ('"klingon"', "1", "[]", '["moshi"]', '""'),
    '"jwt" or "key"': (f'"{KEY}"', "true", "[]"),
    '"header" or "query"': ('"HEADER"', "1"),
    '"auto", "on" or "off"': ("true", "false", '"yes"'),
}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_each_wrong_value_is_named_with_its_line(setting: Setting) -> None:
    for written in WRONG[setting.kind.what]:
        error = refused(f"# a comment\n\n{setting.name} = {written}\n")
        path = config_path()
        assert str(error) == f"{path}, line 3: {setting.name} must be {setting.kind.what}."
        assert error.hint == f"Write it like {setting.name} = {setting.example}"


def test_what_is_proposed_is_right() -> None:
    write_config("\n".join([*(f"{one.name} = {one.example}" for one in SETTINGS), "[profiles.work]"]))
    config = load_config()
    assert all(config.get(setting.name) is not None for setting in SETTINGS)


@pytest.mark.parametrize(
    ("content", "said", "hint"),
    [
        ('voise = "x"', ", line 1: unknown setting 'voise'.", "Is voice meant?"),
        ("\nmax-buffer = 1", ", line 2: unknown setting 'max-buffer'.", "Is max_buffer meant?"),
        (f'{KEY} = "x"', ", line 1: unknown setting 'pg_…'.", "config show --all"),
        (f'"{"k" * 500}" = 1', f"unknown setting '{'k' * 40}'.", "config show"),
        ('"a\\u001b[31m" = 1', "unknown setting 'a\ufffd[31m'.", "config show"),
        (
            "[profiles.work]\n\nearcon = true",
            ", line 3, profile work: unknown setting 'earcon'.",
            "Is earcons meant?",
        ),
        (
            "[profiles.work]\nmax_buffer = 1.5",
            ", line 2, profile work: max_buffer must be",
            "max_buffer = 250",
        ),
        ("[voice]\nname = 'x'", ", line 1: voice must be the name of a voice.", "voice = "),
        ("[[profiles]]\nname = 'x'", ", line 1: profiles must be tables.", "[profiles.work]"),
        ("profiles = 'work'", ", line 1: profiles must be tables.", "[profiles.work]"),
        ("profiles.work = 'x'", ", line 1: profile work must be a table.", "[profiles.work]"),
        ("\n[profiles.default]", ", line 2: no profile can be called default", "[profiles.work]"),
        ('[profiles."a b"]', ", line 1: the name of a profile has up to 40", "[profiles.work]"),
        (f'[profiles."{"k" * 41}"]', ", line 1: the name of a profile", "[profiles.work]"),
        (
            "[profiles.a]\nprofile = 'b'\n[profiles.b]",
            ", line 2, profile a: a profile cannot name a profile.",
            "above",
        ),
        (
            'profile = "home"\n[profiles.work]',
            ", line 1: there is no profile of that name.",
            "The profiles are: work.",
        ),
        ('profile = "home"', ", line 1: there is no profile of that name.", "There are no profiles"),
    ],
)
def test_each_mistake_is_named_with_its_line(content: str, said: str, hint: str) -> None:
    error = refused(content)
    assert said in str(error)
    assert hint in (error.hint or "")


def test_several_mistakes_are_told_at_once() -> None:
    error = refused(f'api_key = "{KEY}"\nvoise = "x"\nmax_buffer = "{KEY}"\n[profiles.a]\nx = 1\n')
    assert str(error) == f"{config_path()} has 3 mistakes."
    assert [line.split(":")[0] for line in (error.hint or "").splitlines()] == [
        "line 2",
        "line 3",
        "line 5, profile a",
    ]


# --- profiles


@pytest.mark.parametrize(
    ("profile", "voice", "rate", "origin"),
    [
        (None, "NATM1", None, "file, line 1"),
        ("work", "VARF1", 0.5, "profile work, line 5"),
        ("home", "NATM1", None, "file, line 1"),
    ],
)
def test_a_profile_comes_before_the_file(
    profile: str | None, voice: str, rate: float | None, origin: str
) -> None:
    write_config(PROFILES)
    config = load_config(profile)
    assert (config.profile, config.get("voice"), config.rate_per_minute) == (profile, voice, rate)
    assert config.origin("voice") == origin
    assert config.get("api_key") == KEY
    assert config.defaults == {"voice": voice}


def test_the_file_names_the_profile_unless_one_is_asked_for() -> None:
    write_config(f'profile = "work"\n{PROFILES}')
    assert load_config().profile == "work"
    assert load_config("home").profile == "home"


@pytest.mark.parametrize(
    ("content", "hint"), [(PROFILES, "The profiles are: work, home."), ("", "There are no profiles")]
)
def test_an_unknown_profile_is_an_error_that_lists_them(content: str, hint: str) -> None:
    write_config(content)
    with pytest.raises(UsageError, match="There is no profile wrok in") as caught:
        load_config("wrok")
    assert hint in (caught.value.hint or "")


def test_a_profile_may_be_new_if_somebody_wants_that() -> None:
    write_config(PROFILES)
    config = load_config("new", may_be_new=True)
    assert (config.profile, config.get("voice")) == ("new", "NATM1")
    for name in ("default", "a b", ""):
        with pytest.raises(UsageError, match="profile"):
            load_config(name, may_be_new=True)


def test_names_of_profiles_for_completion() -> None:
    assert profile_names() == []
    write_config(PROFILES)
    assert profile_names() == ["work", "home"]
    write_config("[profiles.")
    assert profile_names() == []


# --- values


@pytest.mark.parametrize(
    ("written", "rate"), [("0.12", 0.12), ("0", 0.0), ("3", 3.0), ("1e-3", 0.001), ("1_000", 1000.0)]
)
def test_the_rate_per_minute_is_a_number(written: str, rate: float) -> None:
    write_config(f"rate_per_minute = {written}\n")
    assert load_config().rate_per_minute == rate
    assert isinstance(load_config().rate_per_minute, float)


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("ca_file", "ca.pem", "{folder}/ca.pem"),
        ("ca_file", "/etc/ca.pem", "/etc/ca.pem"),
        ("ca_file", "~/ca.pem", "{home}/ca.pem"),
        ("persona", "@bees.md", "@{folder}/bees.md"),
        ("persona", "@~/bees.md", "@{home}/bees.md"),
        ("persona", "bees", "bees"),
        ("persona", "You keep bees.", "You keep bees."),
    ],
)
def test_files_are_looked_for_from_the_folder_of_the_configuration(
    name: str, written: str, value: Value, monkeypatch: pytest.MonkeyPatch, own_home: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("PERSONAPLEX_CONFIG", str(tmp_path / "config.toml"))
    write_config(f'{name} = "{written}"')
    expected = str(value).format(folder=tmp_path, home=own_home)
    assert load_config().defaults == {name: expected.replace("/", os.sep) if "@" in expected else expected}
