"""The figures for people: what they mean, how they spread, and whether they hold."""

from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loadtest.bench.figures import TABLE, budgeted
from loadtest.bench.peers import PEERS

QUANTILES = ("p50", "p90", "p99", "p999", "max")


def show(document: dict[str, Any], out: Console) -> None:
    """Print what was measured."""
    shown = (_peers, _where, _latencies, _growth, _eligibility, _others, _budgets)
    for one in shown:
        table = one(document)
        if table is not None and table.row_count:
            out.print(table)
    for name, why in document.get("skipped", {}).items():
        out.print(f"skipped: {name}: {why}", style="yellow")
    if document["failed"]:
        out.print(f"[red]{document['failed']} requests failed: the figures are not to be trusted")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=SIMPLE, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _peers(document: dict[str, Any]) -> Table | None:
    if "peers" not in document:
        return None
    ping = document["ping"]
    table = _table(
        "One core, ten buyers: the whole exchange and bare fan-outs", "", "CPU of a ping, us",
        "pings/s", "exchange to it, median (min to max)",
    )  # fmt: skip
    titles = {peer.name: peer.title for peer in PEERS}
    table.add_row("the exchange, everything on", f"{ping['cpu_us']:.0f}", f"{ping['per_s']:,.0f}")
    table.add_row("the same over TLS", f"{ping['tls_cpu_us']:.0f}")
    for name, row in document["peers"].items():
        key = "aiohttp_client" if name == "aiohttp" else name
        spread = document["figures"][f"ping/cpu_ratio_to_{key}"]
        ratio = f"{spread['median']:.3g} ({spread['min']:.3g} to {spread['max']:.3g})"
        table.add_row(titles[name], f"{row['cpu_us']:,.0f}", f"{row['per_s']:,.0f}", ratio)
    table.add_row("bids a ping got, plain and TLS", f"{ping['bids']:.2f}, {ping['tls_bids']:.2f}")
    return table


def _where(document: dict[str, Any]) -> Table | None:
    shares = document.get("where_share")
    if shares is None:
        return None
    table = _table("Where a ping's CPU time goes (py-spy)", "", "share", "us")
    for part, share in shares.items():
        cpu_us = document.get("where_us", {}).get(part)
        table.add_row(part, f"{share:.0%}", "" if cpu_us is None else f"{cpu_us:.0f}")
    return table


def _latencies(document: dict[str, Any]) -> Table:
    table = _table("Latency, ms, medians of the rounds", "", *QUANTILES)

    def row(what: str, figures: dict[str, float]) -> None:
        table.add_row(what, *(f"{figures[one]:.2f}" if one in figures else "" for one in QUANTILES))

    if "added_rate" in (ping := document.get("ping", {})):
        row(f"added to a ping at {ping['added_rate']:.0f}/s, outside", ping["added_outside_ms"])
        row("  inside, by the exchange's own clock", ping["added_inside_ms"])
        row("  (the generator itself was late by)", ping["generator_late_ms"])
    if changing := document.get("changing"):
        row(f"outside, {changing['versions']} market changes meanwhile", changing["outside_ms"])
    if hanging := document.get("hanging"):
        row(f"past tmax, {hanging['waited']:.1%} of pings waited for it", hanging["late_ms"])
        row("  (only those that waited, inside)", hanging["waited_late_ms"])
    if sale := document.get("sale_added_ms"):
        row(f"added to a sale at {sale['rate']:.0f}/s", sale)
        row("  of which two durable commits", sale["inside_ms"]["committed_ms"])
        row("  (the disk alone, one sync)", sale["sync_ms"])
    return table


def _growth(document: dict[str, Any]) -> Table:
    table = _table("How a ping's CPU grows", "", "us", "to the least", "Go", "nginx, Lua")
    for what, rows in document.get("growth", {}).items():
        least = next(iter(rows.values()))["cpu_us"]
        for size, row in rows.items():
            others = (row.get(f"{name}_cpu_us") for name in ("go", "nginx_lua"))
            cells = ("" if one is None else f"{one:.0f}" for one in others)
            cpu_us = row["cpu_us"]
            table.add_row(f"{what}: {size}", f"{cpu_us:.0f}", f"{cpu_us / least:.2f}", *cells)
    return table


def _eligibility(document: dict[str, Any]) -> Table:
    table = _table(
        "Eligibility", "contracts", "us", "with 300 survivors", "a change's longest turn",
        "bytes a contract",
    )  # fmt: skip
    for size, row in document.get("eligibility", {}).items():
        table.add_row(
            f"{int(size):,}",
            f"{row['invite_us']:.1f}",
            f"{row['invite_300_us']:.1f}",
            f"{max(row['edit_longest_slice_us'], row['insert_longest_slice_us']):,.0f}",
            f"{row['index_bytes_per_contract']:,.0f}",
        )
    return table


def _others(document: dict[str, Any]) -> Table:
    """Figures that no table above shows."""
    table = _table("Pieces, memory, start", "", "median", "min", "max")
    sections = ("pieces/", "memory/", "start/", "workers/")
    for path, found in document["figures"].items():
        if path.startswith(sections):
            unit = f" {found['unit']}" if found["unit"] else ""
            values = (f"{found[one]:,.4g}{unit}" for one in ("median", "min", "max"))
            table.add_row(found["what"], *values)
    return table


def _budgets(document: dict[str, Any]) -> Table:
    table = _table("Budgets", "", "measured", "at most", "")
    for figure, found in budgeted(document["figures"]):
        assert figure.most is not None, "budgeted means it has one"
        verdict = "[green]holds" if found["median"] <= figure.most else "[red]missed"
        unit = f" {figure.unit}" if figure.unit else ""
        table.add_row(
            figure.what, f"{found['median']:.3g}{unit}", f"{figure.most:g}{unit}", verdict
        )
    measured = document["figures"]
    for figure in TABLE:
        if figure.most is not None and figure.path not in measured and "ping" in document:
            table.add_row(figure.what, "not measured", f"{figure.most:g}", "")
    return table
