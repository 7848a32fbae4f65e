"""The table of settings agrees with the options, and what comes before what."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import typer
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from personaplex_cli.cli import conversation
from personaplex_cli.cli import talk as talk_module
from personaplex_cli.cli.app import app, run
from personaplex_cli.cli.talk_options import AuthMode, TalkOptions
from personaplex_cli.config import config_path
from personaplex_cli.settings import (
    AUTH_MODES,
    BOOLEAN,
    DEVICE,
    FOR_THE_PROGRAM,
    NUMBER,
    REGION,
    SECONDS,
    SETTINGS,
    TEXT,
    VOICE,
    Setting,
    Value,
    near_setting,
)

GROUP: Any = typer.main.get_command(app)
OPTIONS: dict[str, Any] = {option.name: option for option in GROUP.commands["talk"].params}
OF_OPTIONS = [setting for setting in SETTINGS if setting.name not in FOR_THE_PROGRAM]

FOR_ONE_CALL = ("input", "output", "text", "token", "local", "stdin_text", "json", "help")
"""What nobody wants for all calls."""


def test_every_option_is_a_setting_or_for_one_call() -> None:
    assert {setting.name for setting in OF_OPTIONS} == set(OPTIONS) - set(FOR_ONE_CALL)


@pytest.mark.parametrize("setting", OF_OPTIONS, ids=lambda setting: setting.name)
def test_a_setting_takes_what_its_option_takes(setting: Setting) -> None:
    option, kind = OPTIONS[setting.name], setting.kind
    assert option.opts[0] == f"--{setting.name.replace('_', '-')}"
    assert option.is_flag == (kind is BOOLEAN)
    assert bool(option.secondary_opts) == option.is_flag  # what the file switches on can be switched off
    if choices := getattr(option.type, "choices", None):
        assert all(kind.accepts(choice) for choice in choices)
        assert not kind.accepts("else")
        assert all(f'"{choice}"' in kind.what for choice in choices)
    elif hasattr(option.type, "min"):
        low, high = option.type.min, option.type.max
        assert kind.accepts(low) and not kind.accepts(low - 1)
        assert high is None or (kind.accepts(high) and not kind.accepts(high + 1))
    elif option.type.name == "float":
        assert kind in (NUMBER, SECONDS)
    elif not option.is_flag:
        assert kind in (TEXT, DEVICE, VOICE, REGION)
    assert option.default is None or kind.accepts(getattr(option.default, "value", option.default))


def test_the_modes_of_authentication_are_those_of_the_option() -> None:
    assert set(AUTH_MODES) == set(AuthMode)


def test_each_setting_is_described_once() -> None:
    assert {setting.name for setting in SETTINGS if not setting.about} == set(OPTIONS) - set(FOR_ONE_CALL)


def test_what_a_command_line_says_becomes_the_value() -> None:
    for setting in SETTINGS:
        example = tomlkit.parse(f"x = {setting.example}").unwrap()["x"]
        value = setting.kind.parse(str(example).lower() if isinstance(example, bool) else str(example))
        assert value == example and type(value) is type(example), setting


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("ON", True), ("off", False), ("False", False)])
def test_words_for_switches(text: str, value: bool) -> None:
    assert BOOLEAN.parse(text) is value
    with pytest.raises(ValueError):
        BOOLEAN.parse("1")


def test_near_settings() -> None:
    assert near_setting("Max-Buffer") == "max_buffer"
    assert near_setting("api-key") == "api_key"
    assert near_setting("zzz") is None


# --- what comes before what


FIELDS = {
    "max_buffer": "max_buffer_ms",
    "handshake_timeout": "handshake_timeout_s",
    "max_duration": "max_duration_s",
    "idle_timeout": "idle_timeout_s",
    "tail": "tail_s",
}
ECHO = {
    "echo_cancel": "cancel",
    **{name: name for name in ("half_duplex", "noise_suppression", "high_pass", "gain_control")},
}
SOURCES = ("flag", "environment", "profile", "file")


def values_of(setting: Setting) -> st.SearchStrategy[Value]:
    option, kind = OPTIONS[setting.name], setting.kind
    if choices := getattr(option.type, "choices", None):
        return st.sampled_from([str(getattr(choice, "value", choice)) for choice in choices])
    if kind is VOICE:
        return st.sampled_from(["NATF0", "NATM1", "VARF2", "VARM3", "natf3.pt"])
    if kind is REGION:
        return st.sampled_from(["yto-01", "nyc", "auto", "abc-12"])
    if kind is BOOLEAN:
        return st.booleans()
    if kind is DEVICE:
        return st.sampled_from(["none", "headset", 0, 7, "3"])
    if hasattr(option.type, "min"):
        return st.integers(option.type.min, option.type.max or 64)
    if kind in (NUMBER, SECONDS):
        return st.one_of(st.integers(0, 10_000), st.sampled_from([0.5, 1e-3, 7.25]))
    return st.sampled_from(["/a", "/b c", "/é", "/#'\"", "/five"])


SAID = st.fixed_dictionaries(
    {
        setting.name: st.fixed_dictionaries({}, optional={source: values_of(setting) for source in SOURCES})
        for setting in OF_OPTIONS
    }
)


def environment_of(name: str) -> str | None:
    names = OPTIONS[name].envvar
    return names if names is None or isinstance(names, str) else str(names[0])


def called(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> TalkOptions:
    """What `talk` makes of its options, its file and its environment."""
    got: list[TalkOptions] = []
    monkeypatch.setattr(talk_module, "for_this_call", lambda options, chosen: options)
    monkeypatch.setattr(conversation, "converse", got.append)
    assert run(arguments) == 0
    return got[0]


def taken(options: TalkOptions, name: str) -> Any:
    value = getattr(options.echo, ECHO[name]) if name in ECHO else getattr(options, FIELDS.get(name, name))
    return str(value) if isinstance(value, Path) else value


def expected(name: str, said: dict[str, Value]) -> tuple[Any, str]:
    """The value and its source."""
    for source in SOURCES:
        if source in said and (source != "environment" or environment_of(name)):
            value = said[source]
            return (str(value) if "device" in name else value), source
    default = OPTIONS[name].default
    return default, "default"


@settings(
    derandomize=True, deadline=None, max_examples=10, phases=[Phase.generate]
)  # shrinking would take minutes
@given(SAID, st.sampled_from(["flag", "environment", "file"]))
def test_flag_environment_profile_file_default(said: dict[str, dict[str, Value]], by: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        choice = write_file(said, by)
        arguments: list[str] = ["--profile", "work"] if choice == "flag" else []
        if choice == "environment":
            monkeypatch.setenv("PERSONAPLEX_PROFILE", "work")
        for name, values in said.items():
            if "environment" in values and (variable := environment_of(name)):
                monkeypatch.setenv(variable, str(values["environment"]))

        shown = shown_by_config([*arguments, "config", "show", "--all", "--json"])
        options = called([*arguments, "talk", *flags(said)], monkeypatch)
        for name, values in said.items():
            value, _ = expected(name, values)
            assert taken(options, name) == value, name
            assert options.voice_is_chosen == ("flag" in said["voice"])
            value, source = expected(name, {key: one for key, one in values.items() if key != "flag"})
            origin = shown[name]["origin"]
            if source == "environment":
                assert origin == f"environment {environment_of(name)}"
            elif source == "default":
                assert origin == "default"
            else:
                assert origin.startswith("profile work, line " if source == "profile" else "file, line ")
                assert name in line_of(origin)
            if name not in ("persona", "server", "auth_url"):
                assert shown[name]["value"] == value


def write_file(said: dict[str, dict[str, Value]], by: str) -> str:
    document: dict[str, Any] = {"profile": "work"} if by == "file" else {}
    document |= {name: values["file"] for name, values in said.items() if "file" in values}
    document["profiles"] = {
        "work": {name: values["profile"] for name, values in said.items() if "profile" in values},
        "other": {"voice": "VARM0", "earcons": True},
    }
    config_path().write_text(tomlkit.dumps(document), "utf-8")
    return by


def flags(said: dict[str, dict[str, Value]]) -> list[str]:
    given = []
    for name, values in said.items():
        option, value = name.replace("_", "-"), values.get("flag")
        if isinstance(value, bool):
            given.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            given += [f"--{option}", str(value)]
    return given


def shown_by_config(arguments: list[str]) -> dict[str, dict[str, Any]]:
    out = StringIO()
    with redirect_stdout(out):
        assert run(arguments) == 0
    return {row["name"]: row for row in json.loads(out.getvalue())["settings"]}


def line_of(origin: str) -> str:
    return config_path().read_text("utf-8").splitlines()[int(origin.rpartition(" ")[2]) - 1]
