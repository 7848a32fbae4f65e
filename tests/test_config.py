from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from personaplex_cli.config import Config, api_key, config_path, load_config
from personaplex_cli.errors import ConfigError, CredentialsError, ExitCode

KEY = "pg_secret_0123456789"


def write_config(content: str | bytes, mode: int = 0o600) -> Path:
    path = config_path()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def everything_said(error: BaseException) -> str:
    hint = getattr(error, "hint", "") or ""
    return "".join(traceback.format_exception(error)) + repr(error) + hint


def test_the_file_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSONAPLEX_CONFIG", str(tmp_path / "other.toml"))
    assert config_path() == tmp_path / "other.toml"


def test_the_file_is_in_the_usual_folder_otherwise(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    monkeypatch.delenv("PERSONAPLEX_CONFIG")
    assert config_path().name == "config.toml"
    assert config_path().is_relative_to(own_home)


def test_a_missing_file_is_an_empty_configuration() -> None:
    assert load_config() == Config(config_path())


def test_the_key_is_read_and_not_shown_by_repr() -> None:
    write_config(f'api_key = "{KEY}"\n')
    config = load_config()
    assert (config.api_key, config.note) == (KEY, None)
    assert KEY not in repr(config)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_with_a_key_that_others_can_read_gives_a_note(mode: int) -> None:
    path = write_config(f'api_key = "{KEY}"', mode)
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
        ('api_key = ["a"]', "api_key must be a string"),
        ("api_key = 5", "api_key must be a string"),
        (f'apikey = "{KEY}"', "unknown setting 'apikey'"),
        (f'api_key = "{KEY}"\n[voice]\nname = "x"', "unknown setting 'voice'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_not_quoted(content: str | bytes, said: str) -> None:
    path = write_config(content)
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert caught.value.exit_code == ExitCode.CREDENTIALS
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert KEY not in everything_said(caught.value)


@pytest.mark.parametrize(
    ("written", "rate"), [("0.12", 0.12), ("0", 0.0), ("3", 3.0), ("1e-3", 0.001), ("1_000", 1000.0)]
)
def test_the_rate_per_minute_is_a_number(written: str, rate: float) -> None:
    write_config(f'api_key = "{KEY}"\nrate_per_minute = {written}\n')
    config = load_config()
    assert (config.rate_per_minute, config.api_key) == (rate, KEY)
    assert isinstance(config.rate_per_minute, float)


@pytest.mark.parametrize(
    "written", ['"0.12"', "true", "false", "-0.1", "nan", "inf", "-inf", "[1]", "{}", "1979-05-27", "9" * 400]
)
def test_a_rate_that_is_none_is_named(written: str) -> None:
    path = write_config(f"rate_per_minute = {written}\n")
    with pytest.raises(ConfigError, match="rate_per_minute must be a number") as caught:
        load_config()
    assert str(path) in str(caught.value)
    assert "rate_per_minute = 0.12" in (caught.value.hint or "")


def test_without_a_rate_nothing_is_said_of_it() -> None:
    write_config(f'api_key = "{KEY}"\n')
    assert load_config().rate_per_minute is None


def test_a_file_that_cannot_be_read_is_an_error() -> None:
    config_path().mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config()


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARGRID_API_KEY", f" {KEY}\n")
    assert api_key(Config(config_path(), "pg_other")) == KEY


def test_the_file_is_used_when_the_variable_is_unset_or_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(config_path(), f" {KEY} ")
    assert api_key(config) == KEY
    monkeypatch.setenv("POLARGRID_API_KEY", "  ")
    assert api_key(config) == KEY


@pytest.mark.parametrize("stored", [None, "", "  "])
def test_no_key_says_how_to_go_on(stored: str | None) -> None:
    with pytest.raises(CredentialsError) as caught:
        api_key(Config(config_path(), stored))
    lines = (caught.value.hint or "").splitlines()
    assert len(lines) == 3
    assert "POLARGRID_API_KEY" in lines[0]
    assert str(config_path()) in lines[1]
    assert "personaplex talk --local" in lines[2]


@pytest.mark.parametrize("key", ["pg_a b", "pg_a\nb", "pg_\u00e9", "pg_\x00", "pg_\x7f"])
def test_a_key_with_impossible_characters_is_refused_unseen(key: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        api_key(Config(config_path(), key))
    assert str(config_path()) in str(caught.value)
    assert key not in everything_said(caught.value)
