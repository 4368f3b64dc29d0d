"""`make demo` in small: it holds, says so in JSON, and would fail if anything did not hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from exchange.core.market import read_market
from exchange.demo.page import Check, Result
from exchange.demo.people import People
from exchange.demo.sellers import Heard

pytestmark = [pytest.mark.real, pytest.mark.slow]

SECONDS = 10


def test_a_short_demo_holds_and_writes_its_result(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "exchange", "demo", "--seconds", str(SECONDS)]
    command += ["--seed", "7", "--data-dir", str(tmp_path / "data"), "--json", str(out)]
    command += ["--papers", str(tmp_path / "papers")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    result = json.loads(out.read_text())
    assert result["seed"] == 7
    assert result["sold"] > 0
    assert result["holds"] is True
    assert set(result["added_ms"]) == {"p50", "p99"}
    assert {check["violations"] for check in result["checks"]} == {0}
    assert "Everything holds" in run.stdout


def result(*, violations: int = 0, count: int = 1, happened: int = 1) -> Result:
    return Result(
        seed=1,
        heard=Heard(),
        buyers=[],
        sellers=[],
        totals={"ping": {}, "lead": {}, "attempt": {}},
        unsold_pings={},
        added_ms={"p50": 1.0, "p99": 2.0, "late": 0.0, "pings": 1.0},
        checks=[Check(name="a", count=count, violations=violations)],
        happened={"a cap filled": happened},
    )


def test_a_violation_an_empty_check_and_a_demo_in_which_nothing_happened_all_fail() -> None:
    assert result().holds
    assert not result(violations=1).holds
    assert not result(count=0).holds
    assert not result(happened=0).holds


def test_the_same_seed_makes_the_same_people_and_their_data_is_valid() -> None:
    text = (Path(__file__).parents[2] / "examples" / "market.toml").read_text()
    market = read_market(text).doc
    assert market is not None
    for terms in market.verticals.values():
        first, again = People(3), People(3)
        people = [first.person(terms) for _ in range(50)]
        assert people == [again.person(terms) for _ in range(50)]
        assert len({canary for one in people for canary in one.canaries}) >= 50
        assert all(len(canary) >= 8 for one in people for canary in one.canaries)
