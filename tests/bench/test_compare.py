"""Comparing two runs of the bench: only what moved beyond noise is said to have moved."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.bench.compare import Verdict, compared, main, verdict
from loadtest.bench.figures import TABLE, joined, merged, missed, with_rounds


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([10, 11, 12], [10, 11, 12], Verdict.SAME),
        ([10, 11, 12], [12, 13, 14], Verdict.SAME),  # they touch
        ([10, 11, 12], [12.5, 13, 14], Verdict.SAME),  # apart by less than a tenth
        ([10, 11, 12], [13.2, 14, 15], Verdict.WORSE),
        ([13.2, 14, 15], [10, 10.5, 11.7], Verdict.BETTER),
        ([10, 10, 10], [9, 30, 30], Verdict.SAME),  # one round says otherwise
        ([10, 11], [20, 21], Verdict.FEW),
        ([10, 11, 12], [20, 21], Verdict.FEW),
    ],
)
def test_a_figure_moves_when_its_rounds_lie_apart(
    old: list[float], new: list[float], expected: Verdict
) -> None:
    assert verdict(old, new, noise=0.1) is expected


def test_a_value_near_nought_moves_by_more_than_its_slack() -> None:
    old = [-0.3, -0.2, 0.1]
    assert verdict(old, [0.4, 0.5, 0.6], noise=0.25, slack=0.5) is Verdict.SAME
    assert verdict(old, [0.7, 0.8, 0.9], noise=0.25, slack=0.5) is Verdict.WORSE


def run_of(cores: str = "2 x A", **figures: list[float]) -> dict[str, Any]:
    """A run with these rounds; names end in the unit."""
    return {
        "at": "2026-01-01T00:00:00+00:00",
        "machine": {"cores": cores},
        "figures": {
            name: {
                "what": name,
                "unit": name.rpartition("_")[2].removesuffix("ratio"),
                "noise": 0.05,
                "slack": 0.0,
                "median": sorted(rounds)[len(rounds) // 2],
                "rounds": rounds,
            }
            for name, rounds in figures.items()
        },
    }


def test_every_figure_of_either_run_gets_a_verdict() -> None:
    old = run_of(ping_us=[1, 1, 1], post_us=[5, 5, 5], gone_us=[1, 1, 1])
    new = run_of(ping_us=[2, 2, 2], post_us=[4, 4, 4], fresh_us=[1, 1, 1])
    assert {one.what: one.verdict for one in compared(old, new)} == {
        "ping_us": Verdict.WORSE,
        "post_us": Verdict.BETTER,
        "gone_us": Verdict.GONE,
        "fresh_us": Verdict.NEW,
    }


def test_times_of_another_machine_are_not_compared_but_ratios_are() -> None:
    old = run_of("2 x A", ping_us=[1, 1, 1], go_ratio=[1, 1, 1])
    new = run_of("4 x B", ping_us=[2, 2, 2], go_ratio=[2, 2, 2])
    assert [one.verdict for one in compared(old, new)] == [Verdict.OTHER_MACHINE, Verdict.WORSE]


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (run_of(ping_us=[10, 11, 12]), 0),
        (run_of(ping_us=[5, 5, 5]), 0),
        (run_of(ping_us=[20, 21, 22]), 1),
        ({"ping": {"cpu_us": 1}}, 2),
        ([], 2),
    ],
)
def test_the_command_fails_when_something_got_slower(
    new: Any, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "old.json", tmp_path / "new.json"]
    for file, document in zip(files, (run_of(ping_us=[10, 11, 12]), new), strict=True):
        file.write_text(json.dumps(document))
    assert main([str(file) for file in files]) == code
    assert capsys.readouterr().out


def test_a_file_that_is_not_there_is_said_plainly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    assert "a.json" in capsys.readouterr().out.replace("\n", "")


# --- rounds ---------------------------------------------------------------------------------------

ROUNDS = [
    {"ping": {"cpu_us": value, "words": "x"}, "growth": {"invited": {"5": {"cpu_us": 2 * value}}}}
    for value in (30.0, 10.0, 20.0)
]


def test_rounds_become_medians_sums_of_counts_and_their_last_words() -> None:
    rounds = [{**one, "failed": 1} for one in ROUNDS]
    assert merged(rounds) == {
        "ping": {"cpu_us": 20.0, "words": "x"},
        "growth": {"invited": {"5": {"cpu_us": 40.0}}},
        "failed": 3,
    }


def test_a_figure_of_the_table_keeps_its_rounds_whatever_its_size() -> None:
    found = with_rounds(ROUNDS)
    assert list(found) == ["ping/cpu_us", "growth/invited/5/cpu_us"]
    assert found["ping/cpu_us"]["rounds"] == [30.0, 10.0, 20.0]
    assert found["growth/invited/5/cpu_us"]["what"].endswith(": 5")
    assert [found["ping/cpu_us"][one] for one in ("min", "median", "max")] == [10.0, 20.0, 30.0]


def test_what_several_measures_told_is_joined_member_by_member() -> None:
    parts = [{"ping": {"a": 1}, "failed": 1}, {"ping": {"b": 2}, "failed": 2}, {"start": {"c": 3}}]
    assert joined(parts) == {"ping": {"a": 1, "b": 2}, "failed": 3, "start": {"c": 3}}


def test_a_budget_is_missed_only_by_what_was_measured() -> None:
    at = "ping/cpu_ratio_to_go"
    (most,) = (figure.most for figure in TABLE if figure.path == at)
    assert most is not None
    assert [one.path for one in missed({at: {"median": most + 0.01}})] == [at]
    assert missed({at: {"median": most}}) == []
    assert missed({}) == []


def test_no_path_of_the_table_is_named_twice() -> None:
    paths = [figure.path for figure in TABLE]
    assert len(paths) == len(set(paths))
