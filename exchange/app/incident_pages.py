"""What the commands of incidents print."""

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exchange.api.incident_messages import IncidentLine as Line
from exchange.api.incident_messages import IncidentReply as Page
from exchange.api.incident_messages import line_of, page_of

__all__ = ["Line", "Page", "line_of", "listing", "one", "page_of"]
SALES_SHOWN_MAX: Final = 200
"""How many sales stand on the terminal; --json has them all."""


def listing(rows: Sequence[Line], to: Console) -> None:
    """Incidents, one a line."""
    if not rows:
        to.print("there is no incident")
        return
    table = _table("incident", "state", "source", "sub_id", "since (UTC)", "opened by", "why")
    for row in rows:
        since = f"{row.since:%Y-%m-%d %H:%M}"
        cells = (row.incident_id, row.state, row.source, row.sub_id or "", since)
        table.add_row(*map(escape, (*cells, row.opened_by, row.why)))
    to.print(table)


def one(page: Page, to: Console, *, with_sales: bool = False) -> None:
    """An incident: what it is, what it comes to, what became of it."""
    to.print(_facts(page))
    to.print(_totals(page))
    if page.progress:
        to.print(_progress(page))
    if page.events:
        history = _table("state", "at (UTC)", "by", "why")
        for event in page.events:
            said = (event.state, f"{event.at:%Y-%m-%d %H:%M:%S}", event.by, event.why)
            history.add_row(*map(escape, said))
        to.print(history)
    if with_sales:
        to.print(_sales(page))


def _facts(page: Page) -> Table:
    facts = Table(box=None, show_header=False, padding=(0, 1))
    line = page.incident
    until = f"{line.until:%Y-%m-%d %H:%M}" if line.until else "now"
    bears = "all of its payout" if line.seller_bears == "all" else "what its clawback terms say"
    doubts = f"{page.in_doubt} posts are in doubt: resolve them (exchange doubt) before approving"
    for name, text in (
        ("incident", f"{line.incident_id}, {line.state}"),
        ("source", f"{line.source}" + (f", sub_id {line.sub_id}" if line.sub_id else "")),
        ("leads", f"received from {line.since:%Y-%m-%d %H:%M} until {until} (UTC)"),
        ("reason", f"{line.reason}: {line.why}"),
        ("the seller bears", bears),
        ("note", doubts if page.in_doubt else ""),
        (
            "note",
            f"{page.later} sales came after the approval and are not in it" * bool(page.later),
        ),
    ):
        if text:
            facts.add_row(name, escape(text))
    return facts


def _totals(page: Page) -> Table:
    table = _table("buyer", "sales", "price", "credited", "to credit", "to claw back", "house")
    table.title = "what it comes to now"
    table.add_column("already paid out", justify="right")
    for total in page.totals:
        cells = (total.price, total.credited, total.credit, total.clawback, total.house)
        paid = f"{total.paid} for {total.paid_amount}" if total.paid else "none"
        money = (f"{cell} {total.currency}" for cell in cells)
        table.add_row(escape(total.buyer), str(total.sales), *money, paid)
    return table


def _progress(page: Page) -> Table:
    table = _table("became", "buyer", "sales", "credit", "clawback")
    table.title = "what is booked"
    for row in page.progress:
        money = (f"{row.credit} {row.currency}", f"{row.clawback} {row.currency}")
        table.add_row(row.state, escape(row.buyer), str(row.sales), *money)
    return table


def _sales(page: Page) -> Table:
    table = _table("sale", "buyer", "sold (UTC)", "price", "credited", "to credit", "to claw back")
    table.add_column("paid out")
    table.add_column("open return")
    for sale in page.sales[:SALES_SHOWN_MAX]:
        money = (sale.price, sale.credited, sale.credit, sale.clawback)
        table.add_row(
            sale.sale_id,
            escape(sale.buyer),
            f"{sale.sold_at:%Y-%m-%d %H:%M}",
            *(f"{cell} {sale.currency}" for cell in money),
            "yes" if sale.is_paid else "no",
            sale.open_return or "",
        )
    if len(page.sales) > SALES_SHOWN_MAX:
        table.caption = f"and {len(page.sales) - SALES_SHOWN_MAX} more: --json has them all"
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), title_justify="left")
    for column in columns:
        table.add_column(column)
    return table
