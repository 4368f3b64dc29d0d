"""What moved beyond noise between two runs of the bench.

    python -m loadtest.bench.compare OLD.json NEW.json          (make bench-compare OLD=... NEW=...)

Every figure kept its rounds. It moved when all rounds of one run lie beyond all rounds of the other
by more than the figure's own noise (what two runs of one commit differ by, `figures.TABLE`);
anything less is noise. Less is better in every figure. Times of two different machines are not
compared, only ratios and sizes are. Exits with 1 when anything got slower or larger, 2 when a file
is none of the bench's.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

ROUNDS_MIN = 3
"""With fewer, rounds that lie apart say nothing: two and two do so by chance every third time."""
MACHINE_FREE = ("", "B")
"""Units that do not depend on how fast the machine is."""


class Verdict(Enum):
    """How a figure moved."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "same within noise"
    FEW = "too few rounds to say"
    OTHER_MACHINE = "other machine"
    GONE = "no longer measured"
    NEW = "not measured before"


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One figure of both runs; `None` where a run has none."""

    what: str
    unit: str
    verdict: Verdict
    old: float | None
    new: float | None


def verdict(
    old: Sequence[float], new: Sequence[float], *, noise: float = 0.0, slack: float = 0.0
) -> Verdict:
    """How the rounds moved. They lie apart when the gap between them is wider than `noise` of the
    old value and than `slack`."""
    if min(len(old), len(new)) < ROUNDS_MIN:
        return Verdict.FEW
    margin = max(noise * abs(sorted(old)[len(old) // 2]), slack)
    if min(new) - max(old) > margin:
        return Verdict.WORSE
    if min(old) - max(new) > margin:
        return Verdict.BETTER
    return Verdict.SAME


def compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Moved]:
    """Every figure of either run, in the order of the old one."""
    is_same_machine = _cores(old) == _cores(new)
    before, after = old["figures"], new["figures"]
    for path in dict.fromkeys((*before, *after)):
        one, other = before.get(path), after.get(path)
        either = other or one
        if one is None or other is None:
            found = Verdict.NEW if one is None else Verdict.GONE
        elif not is_same_machine and either["unit"] not in MACHINE_FREE:
            found = Verdict.OTHER_MACHINE
        else:
            noise, slack = either["noise"], either["slack"]
            found = verdict(one["rounds"], other["rounds"], noise=noise, slack=slack)
        yield Moved(
            what=either["what"],
            unit=either["unit"],
            verdict=found,
            old=None if one is None else one["median"],
            new=None if other is None else other["median"],
        )


def _cores(document: Mapping[str, Any]) -> Any:
    return document.get("machine", {}).get("cores")


COLOURS = {Verdict.WORSE: "red", Verdict.BETTER: "green"}


def table(moved: Sequence[Moved]) -> Table:
    """What moved first, then the rest."""
    shown = Table(box=SIMPLE)
    for name in ("", "old", "new", "new to old", ""):
        shown.add_column(name, justify="left" if name == "" else "right")
    for one in sorted(moved, key=lambda one: one.verdict not in COLOURS):
        ratio = f"{one.new / one.old:.2f}" if one.old and one.new is not None else ""
        shown.add_row(
            one.what,
            _number(one.old, one.unit),
            _number(one.new, one.unit),
            ratio,
            one.verdict.value,
            style=COLOURS.get(one.verdict, "dim"),
        )
    return shown


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.4g} {unit}".rstrip()


def read(path: Path) -> dict[str, Any]:
    """A run. Raises `ValueError` for a file that is none."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or not isinstance(document.get("figures"), dict):
        raise ValueError(f"{path} is no bench.json with rounds")
    return document


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench.compare", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    spec = parser.parse_args(arguments)
    out = Console()
    try:
        old, new = read(spec.old), read(spec.new)
    except (OSError, ValueError) as fault:
        out.print(str(fault), style="red")
        return 2
    moved = list(compared(old, new))
    for name, run in (("old", old), ("new", new)):
        out.print(f"{name}: {run.get('at', '')} {run.get('commit', '')} on {_cores(run)}")
    out.print(table(moved))
    worse = sum(one.verdict is Verdict.WORSE for one in moved)
    better = sum(one.verdict is Verdict.BETTER for one in moved)
    out.print(f"{worse} worse, {better} better, of {len(moved)} figures.")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
