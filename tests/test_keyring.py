"""Where the API key comes from, and the system's keyring in all its moods. No keyring of this machine is
asked: backends are put in its place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import keyring.core
import keyring.errors
import pytest
from keyring.backends import fail, null
from test_config import KEY, everything_said, write_config

from personaplex_cli import api_keys
from personaplex_cli.api_keys import (
    Key,
    KeyringError,
    NoKeyringError,
    drop_key,
    find_key,
    keep_key,
    look_for_key,
)
from personaplex_cli.config import load_config
from personaplex_cli.errors import CredentialsError

PROFILE = "[profiles.work]\n"


class Backend:
    """A keyring that is as it should be."""

    def __init__(self, **kept: str) -> None:
        self.kept = {("personaplex", user): key for user, key in kept.items()}
        self.asked: list[str] = []

    def get_password(self, service: str, user: str) -> str | None:
        self.asked.append(user)
        return self.kept.get((service, user))

    def set_password(self, service: str, user: str, key: str) -> None:
        self.kept[service, user] = key

    def delete_password(self, service: str, user: str) -> None:
        if (service, user) not in self.kept:
            raise keyring.errors.PasswordDeleteError("not there")
        del self.kept[service, user]


class Raising(Backend):
    """As a locked one: what it says holds what it was given."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error = error

    def get_password(self, service: str, user: str) -> str | None:
        raise self.error or keyring.errors.KeyringLocked(f"no password for {user}, {KEY}")

    def set_password(self, service: str, user: str, key: str) -> None:
        raise self.error or keyring.errors.KeyringLocked(f"cannot keep {key}")


class Hanging(Backend):
    """As D-Bus without anybody at the other end."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def get_password(self, service: str, user: str) -> str | None:
        self.asked.append(user)
        self.let_go.wait()
        return None

    def set_password(self, service: str, user: str, key: str) -> None:
        self.let_go.wait()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    return put_in(monkeypatch, Backend())


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.setattr(api_keys, "READ_LIMIT_S", 0.05)
    monkeypatch.setattr(api_keys, "WRITE_LIMIT_S", 0.05)
    backend = Hanging()
    put_in(monkeypatch, backend)
    yield backend
    backend.let_go.set()
    for thread in threading.enumerate():
        if thread.name == api_keys.KEYRING:
            thread.join(5)


def put_in(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> Backend:
    monkeypatch.setattr(keyring.core, "_keyring_backend", backend)
    return backend


def found(profile: str | None = None) -> Key:
    told: list[str] = []
    key = find_key(load_config(profile), told.append)
    assert told == []
    return key


# --- which key holds


@pytest.mark.parametrize(
    ("places", "text", "origin"),
    [
        ("EPpFf", "pg_E", "environment POLARGRID_API_KEY"),
        ("PpFf", "pg_P", "profile work, line 4"),
        ("pFf", "pg_p", "keyring, profile work"),
        ("Ff", "pg_F", "file, line 1"),
        ("f", "pg_f", "keyring"),
        ("EPF", "pg_E", "environment POLARGRID_API_KEY"),
        ("Pf", "pg_P", "profile work, line 4"),
        ("pf", "pg_p", "keyring, profile work"),
    ],
)
def test_the_order_of_places(
    places: str, text: str, origin: str, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    """E: the environment; P: the profile in the file, p: in the keyring; F and f: the same without one."""
    lines = {place: f'api_key = "pg_{place}"\n' if place in places else "#\n" for place in "PF"}
    write_config(f"{lines['F']}#\n{PROFILE}{lines['P']}")
    if "E" in places:
        monkeypatch.setenv("POLARGRID_API_KEY", " pg_E\n")
    for place, user in (("p", "work"), ("f", "default")):
        if place in places:
            backend.set_password("personaplex", user, f"pg_{place}")
    assert found("work") == Key(text, origin)


def test_without_a_profile_those_of_profiles_are_not_looked_at(backend: Backend) -> None:
    write_config(f'{PROFILE}api_key = "pg_P"\n')
    backend.set_password("personaplex", "work", "pg_p")
    with pytest.raises(CredentialsError):
        found()
    assert backend.asked == ["default"]


@pytest.mark.parametrize("place", ["environment", "file"])
def test_the_keyring_is_not_asked_when_the_key_is_at_hand(
    place: str, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    if place == "environment":
        monkeypatch.setenv("POLARGRID_API_KEY", KEY)
        write_config(PROFILE)
        assert found("work").text == KEY
    else:
        write_config(f'api_key = "{KEY}"')
        assert found().text == KEY
    assert backend.asked == []


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_one_is_none(empty: str, monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    monkeypatch.setenv("POLARGRID_API_KEY", empty)
    write_config(f'api_key = "{empty}"')
    backend.set_password("personaplex", "default", f" {KEY} ")
    assert found() == Key(KEY, "keyring")


def test_no_key_says_in_three_lines_how_to_go_on() -> None:
    with pytest.raises(CredentialsError, match=r"There is no API key\.") as caught:
        found()
    how, login, local = (caught.value.hint or "").splitlines()
    assert "PolarGrid's console" in how
    assert "personaplex login" in login and "POLARGRID_API_KEY" in login
    assert "personaplex talk --local" in local


@pytest.mark.parametrize("key", ["pg_a b", "pg_a\nb", "pg_\u00e9", "pg_\x00", "pg_\x7f"])
def test_a_key_with_impossible_characters_is_refused_unseen(key: str, backend: Backend) -> None:
    backend.set_password("personaplex", "default", key)
    with pytest.raises(CredentialsError, match=r"The API key \(keyring\) has characters") as caught:
        found()
    assert key not in everything_said(caught.value)


def test_a_key_is_not_shown_by_repr() -> None:
    assert KEY not in repr(Key(KEY, "keyring"))


# --- keeping and dropping


def test_a_kept_key_is_found_until_it_is_dropped(backend: Backend) -> None:
    write_config(PROFILE)
    keep_key("pg_1", None)
    keep_key("pg_2", "work")
    assert backend.kept == {("personaplex", "default"): "pg_1", ("personaplex", "work"): "pg_2"}
    assert (found().text, found("work").text) == ("pg_1", "pg_2")
    assert drop_key("work")
    assert not drop_key("work")
    assert found("work").text == "pg_1"


# --- keyrings that are none


@pytest.mark.parametrize("none", [fail.Keyring, null.Keyring])
def test_without_a_keyring_nothing_is_told_and_nothing_kept(
    none: type[Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, none())
    with pytest.raises(CredentialsError, match="There is no API key"):
        found()  # without a note
    with pytest.raises(NoKeyringError):
        keep_key(KEY, None)
    assert drop_key(None) is False


def test_the_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    with pytest.raises(NoKeyringError, match="This system has no keyring"):
        keep_key(KEY, None)


@pytest.mark.parametrize("error", [None, OSError("D-Bus"), SystemExit(1), ValueError(KEY)])
def test_a_keyring_that_fails_is_told_without_what_it_says(
    error: BaseException | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, Raising(error))
    told: list[str] = []
    assert look_for_key(load_config(), told.append) is None
    name = "KeyringLocked" if error is None else type(error).__name__
    assert told == [
        f"The system's keyring failed ({name}). If it is locked, unlock it and try again.",
    ]
    with pytest.raises(KeyringError, match="failed") as caught:
        keep_key(KEY, None)
    assert KEY not in str(caught.value) + (caught.value.hint or "")
    with pytest.raises(KeyringError, match="failed"):
        drop_key(None)


def test_a_keyring_that_hangs_is_asked_once_and_given_up(hanging: Hanging) -> None:
    told: list[str] = []
    began_s = time.monotonic()
    assert look_for_key(load_config(), told.append) is None
    assert hanging.asked == ["default"]
    assert len(told) == 1 and "did not answer within" in told[0]
    with pytest.raises(KeyringError, match="did not answer within"):
        keep_key(KEY, None)
    with pytest.raises(KeyringError, match="did not answer within"):
        drop_key(None)
    assert time.monotonic() - began_s < 4  # three limits of 0.05 s


def test_a_keyring_that_hangs_keeps_nobody_from_the_key_in_the_file(hanging: Hanging) -> None:
    write_config(f'api_key = "{KEY}"\n')
    key = look_for_key(load_config(), lambda note: None)
    assert key == Key(KEY, "file, line 1")
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == api_keys.KEYRING)


def test_a_keyring_that_fails_gives_a_profile_no_other_account_s_key(hanging: Hanging) -> None:
    write_config(f'api_key = "{KEY}"\n{PROFILE}')
    with pytest.raises(KeyringError, match="did not answer within"):
        look_for_key(load_config("work"), lambda note: None)
