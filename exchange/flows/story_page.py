"""A story on one page, for a person at a terminal: the sentence first, then what it rests on.

Rendering only; whoever has a `Story` (also one read back from JSON) can show it.
"""

from collections.abc import Iterable
from datetime import datetime

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from exchange.core.story import AttemptStory, ContractStory, Story

NAMES_MAX = 12
"""More contracts with one and the same reason are counted, not named."""
NUMBERS = frozenset(
    {"rank", "after ms", "price", "payout", "factor", "worth", "used", "held", "limit"}
)
STYLE = {
    "sold": "green",
    "offered": "green",
    "in_doubt": "yellow",
    "selling": "yellow",
    "received": "yellow",
}


def page(story: Story) -> Group:
    """The page: every part that there is something to say about."""
    parts: list[RenderableType] = [_head(story), _facts(story)]
    asked = [one for one in story.contracts if one.asked]
    left = [one for one in story.contracts if not one.asked]
    parts += [_asked(asked)] if asked else []
    parts += [_left(left)] if left else []
    parts += [_pauses(story)] if story.pauses else []
    parts += [_posts(story.attempts)] if story.attempts else []
    parts += [_caps(story)] if story.caps else []
    parts += [_returns(story)] if story.returns else []
    parts += [_resales(story)] if story.resales else []
    parts += [_money(story)] if story.transfers else []
    parts += [_custody(story)] if story.custody else []
    parts += [_notices(story)] if story.notices else []
    return Group(*parts)


def _head(story: Story) -> Panel:
    kind = "Test lead" if story.test else "Lead" if story.custody else "Ping"
    return Panel(
        Text(story.outcome, style="bold"),
        title=f"{kind} {story.id}: {story.status.replace('_', ' ')}",
        title_align="left",
        border_style=STYLE.get(story.status, "red"),
    )


def _facts(story: Story) -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    came = f"{story.vertical}, from {story.seller}/{story.source}"
    if story.sub_id:
        came += f" (sub id {story.sub_id})"
    facts.add_row("came", f"{came}, {'direct' if story.direct else 'as a ping'}")
    when = f"{_time(story.received_at, with_day=True)} UTC"
    if story.is_journaled:
        when += f", answered in {story.answered_ms:.1f} ms"
        when += f", {story.late_ms:.1f} ms LATE" if story.late_ms > 0 else ""
    facts.add_row("received", when)
    facts.add_row("pinged", ", ".join(f"{name} {value}" for name, value in story.fields.items()))
    if story.gated:
        facts.add_row("removed", f"{', '.join(story.gated)} (the gate lets no such field through)")
    terms = f"floor {story.floor} {story.currency}"
    if story.promised is not None and story.expires_at is not None:
        terms += f"; {story.promised} {story.currency} promised until {_time(story.expires_at)}"
    facts.add_row("terms", f"{terms}; market version {story.book_version}")
    if story.paid_by:
        facts.add_row("paid", story.paid_by)
    if not story.is_journaled:
        facts.add_row(
            "note", "The ping's journal row was lost; this is what its lead carries of it."
        )
    if not story.is_exact:
        facts.add_row(
            "note",
            "Who was full, braked or resting at that moment was not kept: such contracts are told "
            "another reason.",
        )
    return facts


def _asked(contracts: list[ContractStory]) -> Table:
    by_value = any(one.factor for one in contracts)
    value = ("factor", "worth") if by_value else ()
    heads = ("rank", "contract", "buyer", "after ms", "price", "payout", *value, "so")
    table = _table("Asked", *heads)
    for one in contracts:
        table.add_row(
            "" if one.rank is None else str(one.rank),
            one.contract,
            one.buyer,
            "" if one.answered_ms is None else f"{one.answered_ms:.1f}",
            one.price or "",
            one.payout or "",
            *((one.factor or "", one.expected or "") if by_value else ()),
            one.loss_says or one.says,
            style="green" if one.loss == 0 else None,
        )
    return table


def _left(contracts: list[ContractStory]) -> Table:
    """By reason: a market of a thousand contracts still fits the page."""
    by_reason: dict[str, list[str]] = {}
    for one in contracts:
        by_reason.setdefault(one.says, []).append(one.contract)
    table = _table("Not asked", "why", "contracts", "which")
    for says, names in by_reason.items():
        table.add_row(says, str(len(names)), _named(names))
    return table


def _pauses(story: Story) -> Table:
    table = _table("Paused", "what", "at", "since (UTC)", "until", "by", "why")
    for one in story.pauses:
        table.add_row(
            f"sub id {one.sub_id}" if one.sub_id else "the source",
            one.buyer or "every buyer",
            _time(one.since, with_day=True),
            _time(one.until, with_day=True) if one.until else "",
            one.by,
            one.why,
        )
    return table


def _named(names: list[str]) -> str:
    more = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


def _posts(attempts: Iterable[AttemptStory]) -> Table:
    table = _table("Posts", "rank", "to", "price", "came to", "what happened (UTC)")
    for one in attempts:
        steps = [
            f"{_time(event.at)} {event.state.replace('_', ' ')}"
            + (f" ({event.says})" if event.says else "")
            for event in one.events
        ]
        if one.doubt:
            steps.append(one.doubt)
        table.add_row(
            str(one.rank),
            f"{one.buyer} ({one.contract})",
            f"{one.price} {one.currency}",
            one.state.replace("_", " "),
            "\n".join(steps),
            style="green" if one.state == "sold" else None,
        )
    return table


def _caps(story: Story) -> Table:
    table = _table("Caps as they stand now", "contract", "cap", "used", "held", "limit", "resets")
    for one in story.caps:
        resets = "never" if one.resets_at is None else _time(one.resets_at, with_day=True)
        segment = f" = {one.segment}" if one.segment else ""
        table.add_row(one.contract, one.cap + segment, one.used, one.held, one.limit, resets)
    return table


def _returns(story: Story) -> Table:
    table = _table("Returns", "by", "reason", "asked (UTC)", "came to", "because", "money")
    for one in story.returns:
        who = "" if one.decided_by in (None, "rule", "lapse") else f", {one.decided_by}"
        money = "a replacement" if one.replacement else f"{one.credit} {one.currency} credited"
        table.add_row(
            one.buyer,
            one.reason.replace("_", " "),
            _time(one.asked_at, with_day=True),
            f"{one.state}{who}",
            one.says,
            f"{money}, {one.clawback} taken back" if one.state == "granted" else "",
            style="yellow" if one.state in ("referred", "appealed") else None,
        )
    return table


def _resales(story: Story) -> Table:
    table = _table("Offered again", "at (UTC)", "by", "because", "as", "came to")
    for one in story.resales:
        when = _time(one.at, with_day=True)
        table.add_row(when, one.by, one.why, one.resale_id, one.says)
    return table


def _money(story: Story) -> Table:
    table = _table("Money", "debit", "credit", "amount", "at (UTC)")
    for one in story.transfers:
        table.add_row(
            one.from_account, one.to_account, f"{one.amount} {one.currency}", _time(one.at)
        )
    return table


def _custody(story: Story) -> Text:
    custody = story.custody
    if custody is None:
        return Text("")
    holds = "verified: yes" if custody.verified else f"verified: NO, {custody.broken}"
    events = ", ".join(f"{_time(one.at)} {one.state}" for one in custody.events)
    return Text(
        f"Chain of custody, {len(custody.events)} events, {holds}: {events}",
        style="" if custody.verified else "red",
    )


def _notices(story: Story) -> Text:
    return Text(
        "Webhooks: " + "; ".join(f"{one.kind} to {one.to}: {one.says}" for one in story.notices)
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for column in columns:
        table.add_column(column, justify="right" if column in NUMBERS else "left", overflow="fold")
    return table


def _time(at: datetime, *, with_day: bool = False) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S" if with_day else "%H:%M:%S.%f")[: 19 if with_day else 12]
