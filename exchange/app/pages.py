"""What the commands print for people: tables of a plan, of doubts, of caps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.core.money import text_of
from exchange.flows.caps import CapRow
from exchange.flows.doubt import BulkResolved, DoubtRow, totals
from exchange.flows.market import Plan

STYLES = {"added": "green", "changed": "yellow", "closed": "red"}


def plan(made: Plan, file: Path, out: Console) -> None:
    """What a market file changes, and what is wrong with it."""
    for problem in made.problems:
        out.print(f"[red]{file}[/] {escape(str(problem))}", highlight=False, soft_wrap=True)
    for warning in made.warnings:
        text = f"[yellow]{file}[/] to know: {escape(str(warning))}"
        out.print(text, highlight=False, soft_wrap=True)
    if made.problems:
        many = len(made.problems)
        out.print(f"{many} mistake{'s' if many > 1 else ''}; nothing can be changed by this file")
        return
    table = Table("", "what", "setting", "old", "new", box=box.SIMPLE_HEAD)
    for change in made.changes:
        style = STYLES[change.what]
        table.add_row(f"[{style}]{change.what}[/]", f"{change.kind} {change.key}")
        if change.what == "changed":
            for one in change.settings:
                table.add_row("", "", one.path, _short(one.old), _short(one.new))
    if made.changes:
        out.print(table)
    else:
        out.print("nothing changes")
    for reset in made.resets:
        when = reset.at.isoformat() if reset.at else "never"
        out.print(f"cap of {reset.contract}: {reset.text}, begins anew {when}", style="dim")
    if made.live:
        names = ", ".join(f"{change.kind} {change.key}" for change in made.live)
        out.print(f"[yellow]changed live since this file was made:[/] {names}")


def doubts(rows: Sequence[DoubtRow], out: Console) -> None:
    """The posts in doubt, and what they hold."""
    heads = ("attempt", "lead", "buyer", "contract", "since", "price", "checks", "next", "policy")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(
            row.attempt_id,
            row.lead_id,
            row.buyer,
            row.contract,
            f"{row.since:%Y-%m-%d %H:%M:%S}",
            f"{text_of(row.price_micros)} {row.currency}",
            str(row.checks),
            f"{row.next_check_at:%H:%M:%S}" if row.next_check_at else "",
            " > ".join(row.policy),
        )
    out.print(table if rows else "no post is in doubt")
    if rows:
        held = totals(rows)
        out.print(f"{held.leads} leads, {_money(held.price_micros)}, caps {held.caps_held}")


def resolved(done: BulkResolved, out: Console) -> None:
    """What ending doubts did, or would do."""
    doubts(done.rows, out)
    if done.dry_run:
        out.print("nothing was done; add --yes to do it", style="yellow")
    for one in done.resolved:
        out.print(f"{one.lead_id}: {one.kind} {one.state}")


def caps(rows: Sequence[CapRow], out: Console) -> None:
    """Open cap windows, by both counts."""
    heads = ("buyer", "contract", "cap", "used", "held", "limit", "resets", "database", "differs")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    for row in rows:
        each = f" {row.each}={row.segment}" if row.each else ""
        table.add_row(
            row.buyer,
            row.contract,
            f"{row.unit} per {row.per}{each} ({row.mode})",
            _amount(row.used, row.unit),
            _amount(row.held, row.unit),
            _amount(row.limit, row.unit),
            f"{row.resets_at:%Y-%m-%d %H:%M %Z}" if row.resets_at else "never",
            _amount(row.booked, row.unit),
            "" if not row.difference else f"[red]{row.difference}[/]",
        )
    out.print(table if rows else "the market has no caps")


def _amount(count: int | None, unit: str) -> str:
    if count is None:
        return "?"
    return text_of(count) if unit == "money" else str(count)


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _money(amounts: Mapping[str, int]) -> str:
    return ", ".join(f"{text_of(micros)} {currency}" for currency, micros in amounts.items())
