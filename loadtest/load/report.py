"""From a run's folder to its report:

    python -m loadtest.load.report build/load

writes `report.html` for people and `report.json` for programs, prints the verdict, and ends with 0
if the budget holds, with 3 if not. May be called again at any time: everything is in the folder.
"""

import sys
from pathlib import Path

import msgspec

from loadtest.load import notes
from loadtest.load.figures import Figures, figures
from loadtest.load.notes import Request, Run
from loadtest.load.page import page
from loadtest.load.sampling import Sample
from loadtest.load.verdict import Verdict, verdict

JSON, HTML = "report.json", "report.html"
DOES_NOT_HOLD = 3
"""Unlike 1, not what Python ends with when something breaks."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`report.json`: what was asked for, what came of it, and what that means."""

    run: Run
    verdict: Verdict
    figures: Figures


def reported(folder: Path) -> Report:
    """The report of the run in this folder."""
    run = notes.run_in(folder)
    requests = list(notes.lines(folder / notes.REQUESTS, Request))
    samples = list(notes.lines(folder / notes.SAMPLES, Sample))
    counted = figures(run, requests, samples)
    return Report(run=run, verdict=verdict(run, counted), figures=counted)


def written(folder: Path) -> Report:
    """The report, with both files written."""
    report = reported(folder)
    (folder / JSON).write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    (folder / HTML).write_text(page(report.run, report.figures, report.verdict), encoding="utf-8")
    return report


def main() -> None:
    """The command line."""
    folder = Path(sys.argv[1])
    report = written(folder)
    print(f"\n{report.verdict.headline}")
    for words in report.verdict.because:
        print(f"  {words}")
    print(f"{folder / HTML} (and {JSON}, locust.html)", flush=True)
    sys.exit(0 if report.verdict.holds else DOES_NOT_HOLD)


if __name__ == "__main__":
    main()
