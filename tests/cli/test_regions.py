from __future__ import annotations

import json

import pytest

from personaplex_cli.catalog import REGIONS
from personaplex_cli.cli.app import run


def test_the_regions_with_cities_and_aliases(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["regions"]) == 0
    out = capsys.readouterr().out
    assert "sfo-01  San Francisco  san-francisco, sanfrancisco, sf, sfo\n" in out
    assert all(region.name in out for region in REGIONS)


def test_the_regions_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["regions", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == len(REGIONS)
    assert listed[0] == {"name": "yto-01", "city": "Toronto", "aliases": ["toronto", "yto"]}
