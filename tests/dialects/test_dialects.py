"""Dialects are found by listing their folder."""

import sys
from types import ModuleType

import pytest

from exchange import dialects


def test_the_house_dialect_is_found_by_its_name():
    assert dialects.dialects()["json"].__name__ == "exchange.dialects.json"


def test_a_dialect_that_lacks_a_part_stops_the_start(tmp_path, monkeypatch):
    (tmp_path / "half.py").write_text("def ping_prefix(): ...\n")
    monkeypatch.setattr(dialects, "__path__", [str(tmp_path)])
    with pytest.raises(TypeError, match="the dialect half has no ping_floor"):
        dialects.dialects()
    assert isinstance(sys.modules.pop("exchange.dialects.half"), ModuleType)
