"""What the demo shows: a live view while it sells, and at the end one page and one JSON object."""

import json
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.console import Console, Group, JustifyMethod
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from exchange.core.money import text_of
from exchange.core.reasons import Loss, Reason
from exchange.core.terms import MarketDoc
from exchange.demo.people import People
from exchange.demo.sellers import Heard, consent
from exchange.effects.proof import Proven
from exchange.effects.report import Money, Report

SENTENCES = {one.label: one.sentence for one in (*Loss, *Reason)}
"""What the sellers heard, in words."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: how much was looked at, how often it was broken."""

    name: str
    count: int
    violations: int
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Looked at something, and nothing was wrong."""
        return self.count > 0 and self.violations == 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a demo came to."""

    seed: int
    heard: Heard
    buyers: list[Money]
    sellers: list[Money]
    totals: dict[str, dict[str, int]]
    unsold_pings: dict[int, int]
    added_ms: dict[str, float]
    checks: list[Check]
    happened: dict[str, int]

    @property
    def holds(self) -> bool:
        """All checks hold, and everything that a demo must meet was met."""
        return all(check.holds for check in self.checks) and all(self.happened.values())

    def summary(self) -> dict[str, Any]:
        """The result for programs."""
        revenue: dict[str, int] = {}
        for one in self.buyers:
            revenue[one.currency] = revenue.get(one.currency, 0) + one.price_micros
        sold = sum(one.sales for one in self.buyers)
        leads = self.totals["lead"]
        return {
            "seed": self.seed,
            "offered": self.totals["ping"].get("offer", 0),
            "sold": sold,
            "unsold": leads.get("unsold", 0) + self.totals["ping"].get("no_offer", 0),
            "revenue": {currency: text_of(micros) for currency, micros in revenue.items()},
            "added_ms": {key: round(self.added_ms[key], 3) for key in ("p50", "p99")},
            "late": int(self.added_ms["late"]),
            "checks": [
                {"name": one.name, "count": one.count, "violations": one.violations}
                for one in self.checks
            ],
            "happened": self.happened,
            "holds": self.holds,
        }


async def result(
    seed: int,
    heard: Heard,
    report: Report,
    judgement: dict[str, Any],
    ledger: Proven,
) -> Result:
    """Everything that is shown, gathered: the judge's checks, and the books' own proofs."""
    custody = await report.custody()
    met = await report.happened()
    checks = [msgspec.convert(one, Check) for one in judgement["checks"]]
    checks += [
        Check(name="ledger_sums_to_zero", count=ledger.transfers, violations=ledger.wrong),
        Check(name="custody_chains_verify", count=custody.count, violations=custody.violations),
        Check(
            name="no_post_left_in_doubt",
            count=max(1, met["doubts"]),
            violations=await report.open_doubts(),
        ),
    ]
    return Result(
        seed=seed,
        heard=heard,
        buyers=await report.money("buyer"),
        sellers=await report.money("seller"),
        totals=await report.totals(),
        unsold_pings=await report.unsold_pings(),
        added_ms=await report.added_ms(),
        checks=checks,
        happened={
            "a cap filled": met["cap_full"],
            "a lead fell through": met["fell_through"],
            "a post came in doubt": met["doubts"],
            "a doubt was resolved": met["resolved"],
            "a hung buyer was met": judgement["happened"].get("hung_pings", 0),
        },
    )


def view(heard: Heard, passed: float, seconds: float) -> Group:
    """One frame of the live view."""
    line = Text.assemble(
        ("selling ", "bold"),
        f"{passed:4.0f} of {seconds:.0f} s   ",
        f"pings {heard.pings}   offers {heard.offers}   ",
        (f"sold {heard.statuses['sold']}", "green"),
        f"   unsold {heard.statuses['unsold']}   pending {len(heard.pending)}   late {heard.late}",
    )
    return Group(line, ProgressBar(total=seconds, completed=passed, width=60))


def show(result: Result, out: Console) -> None:
    """What was sold, to whom, for how much, and how fast."""
    out.print(_leads(result))
    out.print(_money("Buyers", result.buyers), _money("Sellers", result.sellers))
    added = result.added_ms
    out.print(
        f"The exchange added p50 {added['p50']:.2f} ms, p99 {added['p99']:.2f} ms to "
        f"{added['pings']:.0f} pings; {added['late']:.0f} answers past the deadline."
    )


def verdict(result: Result, papers: Path, out: Console) -> None:
    """The end of the page: every check, and whether all hold."""
    out.rule("What the demo checked")
    out.print(_checks(result))
    for name, count in result.happened.items():
        if not count:
            out.print(f"[red]missing[/] {name}: a demo in which nothing happens proves nothing")
    out.print(f"The month's papers are in {papers}.", soft_wrap=True, highlight=False)
    word = "[bold green]Everything holds.[/]" if result.holds else "[bold red]It does not hold.[/]"
    out.print(f"{word} (seed {result.seed})")


def _leads(result: Result) -> Table:
    table = Table("leads", "count", "why", box=box.SIMPLE_HEAD, title="What was offered and sold")
    pings, leads = result.totals["ping"], result.totals["lead"]
    table.add_row("offered", str(pings.get("offer", 0)), "pings and direct leads with a bid")
    for code, count in result.unsold_pings.items():
        table.add_row("no offer", str(count), Reason(code).sentence)
    for state, count in sorted(leads.items()):
        table.add_row(state, str(count), "")
    for name, count in result.heard.reasons.most_common():
        table.add_row("heard", str(count), SENTENCES.get(name, name))
    for name, count in result.heard.problems.items():
        table.add_row("refused", str(count), name)
    return table


def _money(title: str, rows: list[Money]) -> Table:
    heads = (title.lower()[:-1], "sales", "revenue", "payout", "fee", "")
    table = Table(box=box.SIMPLE_HEAD, title=title)
    sides: tuple[JustifyMethod, ...] = ("left", "right", "right", "right", "right", "left")
    for head, side in zip(heads, sides, strict=True):
        table.add_column(head, justify=side)
    for row in rows:
        table.add_row(
            row.party,
            str(row.sales),
            text_of(row.price_micros),
            text_of(row.payout_micros),
            text_of(row.fee_micros),
            row.currency,
        )
    return table


def _checks(result: Result) -> Table:
    table = Table("check", "looked at", "violations", box=box.SIMPLE_HEAD, title="Checks")
    for check in result.checks:
        style = "green" if check.holds else "bold red"
        table.add_row(
            check.name.replace("_", " "), str(check.count), str(check.violations), style=style
        )
        for example in check.examples:
            table.add_row(f"  {example}", "", "", style="red")
    for name, count in result.happened.items():
        table.add_row(name, str(count), "", style="green" if count else "bold red")
    return table


def first_steps(
    url: str, seller: tuple[str, str], market: MarketDoc, data_dir: Path, out: Console
) -> None:
    """The lines by which a person makes a first ping and post, and reads their story."""
    key, secret = seller
    vertical = next(iter(market.verticals))
    person = People(4711).person(market.verticals[vertical])
    source = sorted(market.sellers[key].sources)[0]
    ping = {"vertical": vertical, "source": source, "fields": person.pinged}
    post = {"ping_id": "PING_ID", "lead": person.lead, "consent": consent(1)}
    out.print(f"\nThe exchange runs on {url} (docs: {url}/docs). Ctrl-C stops it.\n")
    for path, body in (("/v1/ping", ping), ("/v1/post", post)):
        out.print(
            f"curl -s {url}{path} -H 'Authorization: Bearer {secret}' \\\n"
            f"  -d '{json.dumps(body)}'\n",
            soft_wrap=True,
            highlight=False,
        )
    for command in ("explain PING_ID", "top"):
        out.print(f"exchange {command} --data-dir {data_dir}", soft_wrap=True, highlight=False)
