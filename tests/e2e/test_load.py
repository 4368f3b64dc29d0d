"""A load in small: every answer as expected, both reports written; and what Locust says when it is
not told enough."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest.load import notes
from loadtest.load.mix import SHARES
from loadtest.load.notes import Request
from loadtest.load.report import HTML, JSON, Report

ROOT = Path(__file__).parents[2]
MARKET = ROOT / "examples" / "market.toml"
SECONDS = 5
LOCUST = (sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py")


@pytest.mark.real
@pytest.mark.slow
def test_a_small_load_has_every_answer_as_expected_and_writes_both_reports(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest.load", "--seconds", str(SECONDS), "--rate", "20"]
    run = subprocess.run(
        [*command, "--to", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    report = msgspec.json.decode((tmp_path / JSON).read_bytes(), type=Report)
    assert report.figures.unexpected == []
    assert report.figures.scraped
    requests = list(notes.lines(tmp_path / notes.REQUESTS, Request))
    assert sum(one.first for one in requests) > SECONDS * 10
    assert {one.kind for one in requests} <= set(SHARES)
    assert report.figures.outcomes["post"]["sold"] > 0
    assert {"generator", "worker 1", "postgres", "valkey", "buyers"} <= set(
        report.figures.phases[-1].cpu
    )
    assert report.verdict.headline in run.stdout
    assert report.verdict.headline in (tmp_path / HTML).read_text(encoding="utf-8")
    assert "Locust" in (tmp_path / "locust.html").read_text(encoding="utf-8")
    assert "ex_live_" not in "".join(
        file.read_text(encoding="utf-8") for file in tmp_path.iterdir()
    )


def locust(
    tmp_path: Path, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Locust as a reader of the README starts it; nothing answers at its address."""
    return subprocess.run(
        [*LOCUST, "--to", str(tmp_path), *arguments],
        cwd=ROOT,
        env=os.environ | {"LOADTEST_URL": "http://127.0.0.1:9", "LOADTEST_KEYS": ""} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


KEYS = "ratewise=ex_live_a_b"
TAUGHT: dict[str, tuple[tuple[str, ...], str, str]] = {
    "no keys": (
        (),
        "",
        'export LOADTEST_KEYS="brightleads=$(exchange key create seller brightleads)"',
    ),
    "a stranger": ((), "nobody=ex_live_a_b", "there are: brightleads, homequote, ratewise"),
    "no market": (("--market", "none.toml"), KEYS, "--market none.toml cannot be read"),
    "no server": ((), KEYS, "nothing answers at http://127.0.0.1:9"),
    "a trouble": (("--shape", "brownout"), KEYS, "make load ARGS='--shape brownout'"),
    "in pieces": (("--processes", "2"), KEYS, "keeps one schedule"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", TAUGHT)
def test_locust_says_what_it_was_not_told(case: str, tmp_path: Path) -> None:
    arguments, keys, words = TAUGHT[case]
    run = locust(tmp_path, *arguments, LOADTEST_KEYS=keys)
    assert run.returncode == 2, run.stdout + run.stderr
    assert words in run.stderr
    assert "Traceback" not in run.stderr
