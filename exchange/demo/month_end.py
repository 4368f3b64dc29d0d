"""The end of a month, as finance works through it: by the commands a person would type.

Every command is shown with what it says. That a partner's file shows exactly the differences that
were put into it, and that the month closes, are checks of the demo like all others.
"""

import csv
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from exchange.core.money import text_of
from exchange.demo.last_month import Month, Sold
from exchange.demo.page import Check

WHO: Final = "Dana in finance"
SHOWN_LINES: Final = 44
"""Of a command's page; a statement of a month is longer than a screen."""
DOCTORED: Final = {"only_ours": 3, "only_theirs": 2, "other_price": 3, "other_status": 2}
"""The differences put into a buyer's file, by verdict."""


class Finance:
    """A person in finance, with a terminal."""

    def __init__(self, data_dir: Path, papers: Path, out: Console) -> None:
        self._data_dir, self._papers, self._out = data_dir, papers, out

    def close(self, month: Month, seed: int) -> list[Check]:
        """Work through the month: documents, payments, a partner's file, the checklist, the
        lock."""
        self._papers.mkdir(parents=True, exist_ok=True)
        first, last = month.since.date(), (month.until - timedelta(days=1)).date()
        days = ("--from", f"{first}", "--to", f"{last}")
        buyer, seller = _busiest(month)
        self._out.rule(f"The end of {first:%B}: {len(month.sold)} sales, {_told(month)}")
        checks = [
            self._issued(days),
            self._paid(buyer, seller),
            self._reconciled(month, buyer, days, seed),
            self._closed(f"{first:%Y-%m}"),
        ]
        for party in (buyer, seller):
            paper = self._papers / f"statement-{party}.pdf"
            self._run("statement", party, *days, "--zone", "UTC", "--pdf", str(paper))
        return checks

    # --- the steps --------------------------------------------------------------------------------

    def _issued(self, days: Sequence[str]) -> Check:
        """Invoices, credit memos and payout statements, numbered; each as PDF."""
        self._say("Every party gets its documents, numbered and never changed again.")
        code = self._run(
            "documents", "issue", *days, "--by", WHO, "--pdf", "--out", str(self._papers)
        )
        issued = self._json("documents", "list")
        return _check("documents_issued", len(issued), code == 0)

    def _paid(self, buyer: str, seller: str) -> Check:
        """The buyer pays its invoices, the seller is paid: every payment finds its document."""
        self._say(f"{buyer} pays its invoice, {seller} is paid.")
        codes = []
        for one in self._json("documents", "list"):
            if (one["party"], one["kind"]) in ((buyer, "invoice"), (seller, "payout_statement")):
                amount = text_of(one["total_micros"])
                codes.append(
                    self._run(
                        *("payments", "record", one["party"], amount, one["currency"]),
                        *("--reference", f"WIRE {one['number']}", "--match", one["number"]),
                        *("--by", WHO),
                    )
                )
        return _check("payments_matched", len(codes), not any(codes))

    def _reconciled(self, month: Month, buyer: str, days: Sequence[str], seed: int) -> Check:
        """A buyer's own list, doctored: every difference is found and no other."""
        self._say(f"{buyer} sends what it thinks it bought. Some lines of it are wrong.")
        file = self._papers / f"{buyer}-bought.csv"
        mine = [one for one in month.sold if one.buyer == buyer]
        doctored(file, mine, month.credited, random.Random(f"file {seed}"))
        command = ("reconcile", "file", str(file), "--buyer", buyer, *days, "--zone", "UTC")
        code = self._run(*command, "--by", WHO)
        found = Counter(one["verdict"] for one in self._json(*command)["findings"])
        found.pop("agreed", None)
        return _check(
            "doctored_lines_found", len(mine), code == 1 and found == DOCTORED, f"found {found}"
        )

    def _closed(self, month: str) -> Check:
        """The checklist, and the lock."""
        self._say("The checklist says whether the month may close; then nothing is booked in it.")
        opened = self._json("period", "open", "--month", month, "--by", WHO)
        number = str(opened["period"]["id"])
        self._run("ledger", "rollup")  # the jobs process does it by itself, within the hour
        may = self._run("period", "check", number) == 0
        closed = self._run("period", "close", number, "--by", WHO) == 0
        return _check("month_closed", 1, may and closed)

    # --- the terminal -----------------------------------------------------------------------------

    def _say(self, words: str) -> None:
        self._out.print(f"\n[bold]{words}[/]")

    def _run(self, *command: str) -> int:
        """Type a command; answers its exit code. Its page is shown, cut to a screen."""
        typed = " ".join(f'"{word}"' if " " in word else word for word in command)
        self._out.print(f"$ exchange {typed}", style="cyan", highlight=False, soft_wrap=True)
        done = self._started(*command)
        lines = (done.stdout + done.stderr).strip("\n").split("\n")
        shown = lines[:SHOWN_LINES]
        if len(lines) > SHOWN_LINES:
            shown.append(f"... {len(lines) - SHOWN_LINES} more lines")
        for line in shown:
            self._out.print(line, markup=False, highlight=False, soft_wrap=True)
        return done.returncode

    def _json(self, *command: str) -> Any:
        """What a command says to programs."""
        done = self._started(*command, "--json")
        if not done.stdout:
            raise RuntimeError(f"exchange {' '.join(command[:2])}: {done.stderr[-500:]}")
        return msgspec.json.decode(done.stdout)

    def _started(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "exchange", *command, "--data-dir", str(self._data_dir)],
            capture_output=True,
            text=True,
            check=False,
        )


def doctored(
    file: Path, sold: Sequence[Sold], credited: frozenset[str], chance: random.Random
) -> None:
    """A buyer's list of what it bought, true but for `DOCTORED`. Needs that many plain sales."""
    lines = [_line(one, is_back=one.attempt.attempt_id in credited) for one in sold]
    plain = [n for n, one in enumerate(sold) if one.attempt.attempt_id not in credited]
    chosen = iter(chance.sample(plain, len(plain)))
    for _ in range(DOCTORED["other_price"]):
        wrong = sold[next_ := next(chosen)].attempt.price_micros + 1_000_000
        lines[next_]["Price"] = text_of(wrong)
    for _ in range(DOCTORED["other_status"]):
        lines[next(chosen)]["Status"] = "Returned"
    gone = {next(chosen) for _ in range(DOCTORED["only_ours"])}
    lines = [line for n, line in enumerate(lines) if n not in gone]
    for n in range(DOCTORED["only_theirs"]):
        lines.append(lines[n] | {"Ref": f"L9999{n:04d}", "Phone": f"(999) 555-01{n:02d}"})
    chance.shuffle(lines)
    with file.open("w", newline="", encoding="utf-8") as sheet:
        writer = csv.DictWriter(sheet, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _line(one: Sold, *, is_back: bool) -> dict[str, str]:
    return {
        "Ref": one.buyer_ref,
        "Sold on": f"{one.at:%Y-%m-%d}",
        "Phone": one.phone,
        "Price": text_of(one.attempt.price_micros),
        "Currency": one.attempt.currency,
        "Status": "Returned" if is_back else "Accepted",
    }


def _busiest(month: Month) -> tuple[str, str]:
    """Who bought and who sold most, by key."""
    buyers = Counter(one.buyer for one in month.sold)
    sellers = Counter(one.seller for one in month.sold)
    return buyers.most_common(1)[0][0], sellers.most_common(1)[0][0]


def _told(month: Month) -> str:
    said = ", ".join(f"{count} {state}" for state, count in sorted(month.decisions.items()))
    return f"returns: {said}"


def _check(name: str, count: int, holds: bool, *examples: str) -> Check:
    return Check(
        name=name, count=count, violations=int(not holds), examples=() if holds else examples
    )
