from __future__ import annotations

import json

import pytest

from personaplex_cli.catalog import VOICES
from personaplex_cli.cli.app import run


def test_the_voices_in_their_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["voices"]) == 0
    out = capsys.readouterr().out
    assert "natural female  NATF0  NATF1  NATF2  NATF3\n" in out
    assert "varied male     VARM0  VARM1  VARM2  VARM3  VARM4\n" in out
    assert all(f" {voice.name}" in out for voice in VOICES)


def test_the_voices_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["voices", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == 18
    assert listed[0] == {"name": "NATF0", "style": "natural", "gender": "female"}
