"""The figures for people: what they mean, and whether they hold."""

from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loadtest.bench.budgets import BUDGETS, figure

QUANTILES = ("p50", "p90", "p99", "p999", "max")


def show(document: dict[str, Any], out: Console) -> None:
    """Print everything."""
    _costs(document, out)
    _where(document, out)
    _latencies(document, out)
    _eligibility(document, out)
    _verdicts(document, out)
    if document["failed"]:
        out.print(f"[red]{document['failed']} requests failed: the figures are not to be trusted")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=SIMPLE, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _costs(document: dict[str, Any], out: Console) -> None:
    ping = document["ping"]
    table = _table("One worker, 1,000 contracts, 10 invited", "", "exchange", "aiohttp's client")
    for what, ours, theirs in (
        ("CPU of a ping, us", "cpu_us", "aiohttp_cpu_us"),
        ("the same over TLS, us", "tls_cpu_us", "aiohttp_tls_cpu_us"),
        ("CPU of a bid request, us", "cpu_us_per_bid_request", None),
        ("pings a second at saturation", "per_s", "aiohttp_per_s"),
        ("pings a second if it had a core alone", "per_s_of_a_core", None),
    ):
        table.add_row(what, f"{ping[ours]:,.0f}", f"{ping[theirs]:,.0f}" if theirs else "")
    table.add_row("bids a ping got, plain and TLS", f"{ping['bids']:.2f}, {ping['tls_bids']:.2f}")
    out.print(table)


def _where(document: dict[str, Any], out: Console) -> None:
    if not document["where_us"]:
        out.print("Where the time goes: install py-spy (and be allowed to trace) to see it.\n")
        return
    table = _table("Where a ping's CPU time goes", "", "us", "share")
    total = sum(document["where_us"].values())
    for part, cpu_us in document["where_us"].items():
        table.add_row(part, f"{cpu_us:.0f}", f"{cpu_us / total:.0%}")
    out.print(table)


def _latencies(document: dict[str, Any], out: Console) -> None:
    ping, changing, sale = document["ping"], document["changing"], document["sale_added_ms"]
    hanging = document["hanging"]
    rate = f"{ping['added_rate']:.0f}/s"
    table = _table("Latency, ms", "", *QUANTILES)
    for what, row in (
        (f"added to a ping at {rate}, outside", ping["added_outside_ms"]),
        (f"added to a ping at {rate}, inside", ping["added_inside_ms"]),
        ("  (the generator itself was late by)", ping["generator_late_ms"]),
        (f"outside, {changing['versions']} market changes meanwhile", changing["outside_ms"]),
        (f"past tmax, {hanging['waited']:.1%} of pings waited for it", hanging["late_ms"]),
        ("  (only those that waited, inside)", hanging["waited_late_ms"]),
        (f"added to a sale at {sale['rate']:.0f}/s", sale),
        ("  of which two durable commits", sale["inside_ms"]["committed_ms"]),
        ("  (the disk alone, one sync)", sale["sync_ms"]),
    ):
        cells = (f"{row[one]:.2f}" if one in row else "" for one in QUANTILES)
        table.add_row(what, *cells)
    out.print(table)


def _eligibility(document: dict[str, Any], out: Console) -> None:
    table = _table(
        "Eligibility", "contracts", "us", "with 300 survivors", "a change's longest turn",
        "bytes a contract",
    )  # fmt: skip
    for size, row in document["eligibility"].items():
        table.add_row(
            f"{int(size):,}",
            f"{row['invite_us']:.1f}",
            f"{row['invite_300_us']:.1f}",
            f"{max(row['edit_longest_slice_us'], row['insert_longest_slice_us']):,}",
            f"{row['index_bytes_per_contract']:,}",
        )
    out.print(table)


def _verdicts(document: dict[str, Any], out: Console) -> None:
    table = _table("Budgets", "", "measured", "at most", "")
    for budget in BUDGETS:
        value = figure(document, budget)
        verdict = "[green]holds" if value <= budget.most else "[red]missed"
        unit = f" {budget.unit}" if budget.unit else ""
        table.add_row(budget.what, f"{value:.3g}{unit}", f"{budget.most:g}{unit}", verdict)
    out.print(table)
