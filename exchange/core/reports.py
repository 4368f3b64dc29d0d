"""Reports: what each one asks of the tallies' sums, a column a line.

A report is a list of columns; page, CSV, JSON and API all read the same list, so none can say
otherwise. Money is micros and exact, an average of money is rounded down to the micro; a rate is a
float that never touches money. Nothing over nothing is nothing (`None`), not zero.

Two calendars. `pnl` counts a booking on the day it was booked, as the ledger does, and adds up to
it. All others count on the day of the lead: what became of that day's pings, until now.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Final, Literal, get_args

from exchange.core.model import Fact
from exchange.core.money import text_of

Name = Literal["pnl", "funnel", "returns", "buyers", "selling", "buying"]
By = Literal["source", "seller", "buyer", "contract", "vertical", "day", "reason"]
Kind = Literal["count", "money", "average", "rate", "number"]
Value = int | float | None
Sums = Mapping[str, int]
AMOUNTS: Final = frozenset({"money", "average"})
DAYS_MAX: Final = 1_830
"""Five years: more is a mistake."""


class Column(Fact, frozen=True, kw_only=True):
    """A column. `kind`: `money` and `average` are micros, the latter by the piece; a `rate` is a
    share of one, a `number` neither. `meaning` is what people read of it."""

    name: str
    kind: Kind
    meaning: str
    of: Callable[[Sums], Value]


class Line(Fact, frozen=True, kw_only=True):
    """A line of a report: its key in one currency, and a value per column. `reasons`: granted
    returns by reason, the most first."""

    key: str
    currency: str
    values: tuple[Value, ...]
    reasons: tuple[tuple[str, int], ...] = ()


class Report(Fact, frozen=True, kw_only=True):
    """A report of whole UTC days, both ends included. `totals`: a line per currency."""

    name: str
    by: str
    first: date
    last: date
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    totals: tuple[Line, ...]


# --- what a column is made of ---------------------------------------------------------------------


def _count(name: str, meaning: str, *added: str) -> Column:
    """The sum of sums."""
    parts = added or (name,)
    return Column(name=name, kind="count", meaning=meaning, of=lambda s: sum(s[p] for p in parts))


def _money(name: str, meaning: str, added: str, less: str | None = None) -> Column:
    """A sum of money, less another."""
    return Column(
        name=name,
        kind="money",
        meaning=meaning,
        of=lambda s: s[added] - (s[less] if less else 0),
    )


def _rate(name: str, meaning: str, part: str, whole: str) -> Column:
    """A share: one sum of another."""
    return Column(
        name=name,
        kind="rate",
        meaning=meaning,
        of=lambda s: s[part] / s[whole] if s[whole] else None,
    )


def _per(name: str, meaning: str, money: str, each: str, less: str | None = None) -> Column:
    """Money by the piece, rounded down."""
    return Column(
        name=name,
        kind="average",
        meaning=meaning,
        of=lambda s: (s[money] - (s[less] if less else 0)) // s[each] if s[each] else None,
    )


def _times(name: str, meaning: str, many: str, one: str) -> Column:
    """How many of one come to one of another."""
    return Column(
        name=name,
        kind="number",
        meaning=meaning,
        of=lambda s: s[many] / s[one] if s[one] else None,
    )


_ACCEPT: Final = Column(
    name="accept_rate",
    kind="rate",
    meaning="Accepted posts of those that ended.",
    of=lambda s: s["accepted"] / ended if (ended := _ended(s)) else None,
)
_RETURN_RATE: Final = _rate("return_rate", "Granted returns of sales.", "granted", "accepted")


def _ended(sums: Sums) -> int:
    return sum(sums[name] for name in ("accepted", "rejected", "not_sent", "written_off"))


# --- the reports ----------------------------------------------------------------------------------


_PNL: Final = (
    _count("sales", "Leads sold."),
    _money("revenue", "What buyers owe for them.", "revenue_micros"),
    _money("payouts", "What sellers are owed for them.", "payout_micros"),
    _money("fee", "Revenue less payouts.", "fee_micros"),
    _money("credited", "What buyers were given back.", "credit_micros"),
    _money("clawed_back", "What sellers gave back.", "clawback_micros"),
    _money("bad_debt", "What will never be paid.", "bad_debt_micros"),
    _money("other", "Adjustments, guarantees, tiers.", "other_micros"),
    _money("net_margin", "What the house earned, all of it.", "net_micros"),
    _rate("net_share", "Net margin of revenue.", "net_micros", "revenue_micros"),
    _per("revenue_per_sale", "Revenue by the lead sold.", "revenue_micros", "sales"),
    _per(
        "cost_per_sale",
        "Payouts less what was clawed back, by the lead sold.",
        *("payout_micros", "sales", "clawback_micros"),
    ),
    _count("credits", "Credits of returned leads."),
    _money("reserved", "Set aside for returns that are still to come.", "reserved_micros"),
)
_FUNNEL: Final = (
    _count("pings", "Pings, direct leads among them."),
    _count("offers", "Pings that were made an offer."),
    _rate("offer_rate", "Offers of pings.", "offers", "pings"),
    _count("leads", "Leads posted, direct ones among them."),
    _rate("take_rate", "Leads of offers.", "leads", "offers"),
    _count("sales", "Posts that a buyer accepted.", "accepted"),
    _rate("ping_to_sale", "Sales of pings.", "accepted", "pings"),
    _times("look_to_book", "Pings for one sale.", "pings", "accepted"),
    _count("invited", "Times a contract was asked."),
    _count("bids", "Good bids, those below the floor among them."),
    _per("average_bid", "A good bid's price.", "bid_micros", "bids"),
    _count("timeouts", "Answers that did not come in time."),
    _rate("win_rate", "Bids that stood first behind an offer.", "wins", "bids"),
    _count("posts", "Posts to buyers."),
    _ACCEPT,
    _money("revenue", "Prices of the sales.", "price_micros"),
    _money("payouts", "Payouts of the sales.", "payout_micros"),
    _per("revenue_per_ping", "Revenue by the ping.", "price_micros", "pings"),
    _per("earnings_per_ping", "What sellers earn by the ping.", "payout_micros", "pings"),
    _per("margin_per_ping", "What the house earns by the ping.", "fee_micros", "pings"),
)
_RETURNS: Final = (
    _count("sales", "Leads sold.", "accepted"),
    _count("asked", "Returns asked for."),
    _count("granted", "Returns granted."),
    _count("refused", "Returns denied or lapsed."),
    _count("waiting", "Returns not decided yet."),
    _RETURN_RATE,
    _rate("grant_rate", "Granted returns of those asked for.", "granted", "asked"),
    _money("credited", "What buyers were given back.", "credit_micros"),
    _money("clawed_back", "What sellers gave back.", "clawback_micros"),
    _money("lost", "What the house bears of it.", "credit_micros", "clawback_micros"),
)
_BUYERS: Final = (
    _count("invited", "Times it was asked."),
    _rate("bid_rate", "Good bids of times asked.", "bids", "invited"),
    _per("average_bid", "A good bid's price.", "bid_micros", "bids"),
    _rate("timeout_rate", "Answers too late, of times asked.", "timeouts", "invited"),
    _rate("error_rate", "Errors, of times asked.", "errors", "invited"),
    _times("average_wait_ms", "How long its answer took.", "waited_ms", "invited"),
    _count("wins", "Bids that stood first behind an offer."),
    _rate("win_rate", "Wins of good bids.", "wins", "bids"),
    _count("posts", "Posts to it."),
    _ACCEPT,
    _count("rejected", "Posts it rejected."),
    _count("doubted", "Posts it never clearly answered at first."),
    _count("sales", "Posts it accepted.", "accepted"),
    _times("look_to_book", "Times asked for one sale.", "invited", "accepted"),
    _money("spent", "Prices of its sales.", "price_micros"),
    _per("price_per_sale", "A sale's price.", "price_micros", "accepted"),
    _count("returned", "Returns granted.", "granted"),
    _RETURN_RATE,
    _money("credited", "What it was given back.", "credit_micros"),
    _money("margin", "Fees of its sales.", "fee_micros"),
)
_SELLING: Final = (
    _count("pings", "Your pings, direct leads among them."),
    _count("offers", "Pings that were made an offer."),
    _rate("offer_rate", "Offers of pings.", "offers", "pings"),
    _per("average_offer", "An offer's payout.", "offered_micros", "offers"),
    _count("leads", "Leads you posted, direct ones among them."),
    _count("sales", "Leads sold.", "accepted"),
    _rate("ping_to_sale", "Sales of pings.", "accepted", "pings"),
    _money("earned", "Payouts of the sales.", "payout_micros"),
    _per("earnings_per_ping", "Payouts by the ping.", "payout_micros", "pings"),
    _count("returned", "Sales that buyers gave back.", "granted"),
    _RETURN_RATE,
    _money("clawed_back", "What you gave back.", "clawback_micros"),
)
_BUYING: Final = (
    *(one for one in _BUYERS if one.name not in ("margin", "returned")),
    _count("asked", "Returns you asked for."),
    _count("granted", "Returns granted."),
    _count("refused", "Returns denied or lapsed."),
    _count("waiting", "Returns not decided yet."),
)
COLUMNS: Final[dict[Name, tuple[Column, ...]]] = {
    "pnl": _PNL,
    "funnel": _FUNNEL,
    "returns": _RETURNS,
    "buyers": _BUYERS,
    "selling": _SELLING,
    "buying": _BUYING,
}
"""Every report. `selling` and `buying` are what a seller and a buyer are shown of their own: no
column of one is made of the other side's money, nor of the house's."""

_PARTIES: Final[tuple[By, ...]] = ("source", "seller", "buyer", "contract", "vertical", "day")
BY: Final[dict[Name, tuple[By, ...]]] = {
    "pnl": _PARTIES,
    "funnel": _PARTIES,
    "returns": (*_PARTIES, "reason"),
    "buyers": ("buyer", "contract", "vertical", "day", "source", "seller"),
    "selling": ("source", "vertical", "day"),
    "buying": ("contract", "vertical", "day"),
}
"""What a report may be told by; the first is meant when nothing is said, but for `buyers`."""


# --- from sums ------------------------------------------------------------------------------------


class KeySums(Fact, frozen=True, kw_only=True):
    """The sums of one key in one currency; `key` is `None` for what has none (a ping has no
    buyer)."""

    key: str | None
    currency: str
    sums: dict[str, int]


def report(
    name: Name,
    by: By,
    first: date,
    last: date,
    found: Iterable[KeySums],
    reasons: Iterable[tuple[str | None, str, str, int]] = (),
) -> Report:
    """The report of these sums, by currency and key. `reasons`: key, currency, reason, granted."""
    columns, rows = COLUMNS[name], [one for one in found if any(one.sums.values())]
    told: dict[tuple[str | None, str], list[tuple[str, int]]] = {}
    for key, currency, reason, granted in reasons:
        told.setdefault((key, currency), []).append((reason, granted))
    return Report(
        name=name,
        by=by,
        first=first,
        last=last,
        columns=columns,
        lines=tuple(
            Line(
                key=one.key if one.key is not None else NOBODY,
                currency=one.currency,
                values=tuple(column.of(one.sums) for column in columns),
                reasons=tuple(told.get((one.key, one.currency), ())),
            )
            for one in _shown(rows, by)
        ),
        totals=_totals(columns, rows),
    )


NOBODY: Final = "-"
"""The key of what has none: a payment has no source."""


def _shown(rows: list[KeySums], by: By) -> list[KeySums]:
    """By reason, sales count for every reason; by buyer, what no buyer was asked of is left out of
    the lines (its pings are in the totals)."""
    if by == "reason":
        sales: dict[str, int] = {}
        for one in rows:
            sales[one.currency] = sales.get(one.currency, 0) + one.sums["accepted"]
        return [
            KeySums(
                key=one.key,
                currency=one.currency,
                sums=one.sums | {"accepted": sales[one.currency]},
            )
            for one in rows
            if one.key is not None
        ]
    is_pings_alone = by in ("buyer", "contract")
    return [one for one in rows if not (is_pings_alone and one.key is None and "pings" in one.sums)]


def _totals(columns: tuple[Column, ...], rows: list[KeySums]) -> tuple[Line, ...]:
    together: dict[str, dict[str, int]] = {}
    for one in rows:
        sums = together.setdefault(one.currency, dict.fromkeys(one.sums, 0))
        for name, count in one.sums.items():
            sums[name] += count
    return tuple(
        Line(
            key="together",
            currency=currency,
            values=tuple(column.of(together[currency]) for column in columns),
        )
        for currency in sorted(together)
    )


def wrong_question(name: Name, by: str, first: date, last: date) -> str | None:
    """Why there is no such report, in a sentence; `None` when there is."""
    if by not in get_args(By) or by not in BY[name]:
        return f"{name} is told by {', '.join(BY[name])}"
    if last < first:
        return "the last day is before the first"
    if (last - first).days >= DAYS_MAX:
        return f"a report is of at most {DAYS_MAX} days"
    return None


# --- for programs ---------------------------------------------------------------------------------


Cell = str | int | float | dict[str, int] | None


def plain(made: Report, line: Line) -> dict[str, Cell]:
    """A line for programs: its key under what the report is told by, money as decimal strings."""
    values = {
        column.name: text_of(int(value)) if column.kind in AMOUNTS and value is not None else value
        for column, value in zip(made.columns, line.values, strict=True)
    }
    return {made.by: line.key, "currency": line.currency, **values, "reasons": dict(line.reasons)}
