"""The proof of the ledger: everything recomputed from transfers and compared with what the
attempts and returns say. It finds; it mends nothing."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from exchange.core.model import Fact
from exchange.effects.sql import queries

SENTENCES: Final = {
    "sums_to_zero": "All accounts of a currency hold nothing together.",
    "sale_booked_once": "A sale is booked once, at its price and payout; what is no sale is not.",
    "credited_as_booked": "What a sale says was credited is what transfers took from its buyer.",
    "credited_as_granted": "What a sale says was credited is what returns and corrections say.",
    "reversed_within_leg": "A leg is taken back on its own accounts, and never beyond its amount.",
    "guaranteed_once": "A lead that ended unsold under a guarantee is paid it once; none other is.",
    "sold_to_one": "A lead that was sold again has one buyer; all others gave it back in full.",
    "terms_as_settled": "Every part of a settled month has its one transfer, and the other way.",
    "no_stray_transfer": "Every transfer of a sale has its attempt.",
    "rollups_as_booked": "The daily balances are what the transfers of each day come to.",
    "periods_unchanged": "A closed period holds what it closed with; the next opens with it.",
    "reserve_as_accrued": "The reserve holds what the last closed period set aside.",
    "entries_as_booked": "What was adjusted or written off by hand is booked once.",
    "corrections_as_booked": "What corrected prices say is what their transfers moved.",
    "payments_as_booked": "Cash moved by what the payments say, once and in their way.",
    "claims_as_ended": "What an attempt claims of a strict cap is as it ended.",
    "windows_as_claimed": "A strict cap's window has used what is claimed of it, and carried over.",
}
"""What each check proves."""


BESIDE: Final = {
    "rollups_as_booked": "rollups",
    "periods_unchanged": "periods",
    "reserve_as_accrued": "reserve",
    "entries_as_booked": "entries",
    "corrections_as_booked": "corrections",
    "payments_as_booked": "payments",
    "claims_as_ended": "claims",
    "windows_as_claimed": "windows",
}
"""The checks of what is kept beside the transfers, each a query of its own."""


class Rows(Protocol):
    """The part of the database used here; one snapshot, if the checks are to agree."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...


class Sum(Fact, frozen=True, kw_only=True):
    """One currency's transfers: how many, what they moved, and what is out of balance (debits less
    credits of accounts of that currency). `homeless`: on an account that is not there."""

    currency: str
    transfers: int
    amount_micros: int
    imbalance_micros: int
    homeless: int


class Check(Fact, frozen=True, kw_only=True):
    """One check: how much was looked at, how much is wrong, and the ids of the first."""

    name: str
    sentence: str
    looked: int
    wrong: int
    first: tuple[str, ...] = ()


class Proven(Fact, frozen=True, kw_only=True):
    """The whole proof."""

    sums: tuple[Sum, ...]
    checks: tuple[Check, ...]

    @property
    def transfers(self) -> int:
        return sum(one.transfers for one in self.sums)

    @property
    def wrong(self) -> int:
        """How many things are wrong; 0 when the books hold."""
        return sum(check.wrong for check in self.checks)


async def proven(database: Rows, *, named_max: int = 10) -> Proven:
    """Recompute everything; of what is wrong at most so many ids are named per check."""
    sql = queries("proof")
    sums = tuple(Sum(**dict(row)) for row in await database.fetch(sql["sums"]))
    found = {row["name"]: row for row in await database.fetch(sql["attempts"], named_max)}
    found["reversed_within_leg"] = await database.fetchrow(sql["reversals"], named_max)
    found["guaranteed_once"] = await database.fetchrow(sql["guarantees"], named_max)
    found["sold_to_one"] = await database.fetchrow(sql["owners"], named_max)
    found["terms_as_settled"] = await database.fetchrow(sql["settlements"], named_max)
    found["no_stray_transfer"] = await database.fetchrow(sql["strays"], named_max)
    beside = queries("proof_books")
    for name, query in BESIDE.items():
        found[name] = await database.fetchrow(beside[query], named_max)
    wrong = [one.currency for one in sums if one.imbalance_micros or one.homeless]
    zero = Check(
        name="sums_to_zero",
        sentence=SENTENCES["sums_to_zero"],
        looked=len(sums),
        wrong=len(wrong),
        first=tuple(wrong),
    )
    rest = (_check(name, found.get(name)) for name in SENTENCES if name != zero.name)
    return Proven(sums=sums, checks=(zero, *rest))


def _check(name: str, row: Any) -> Check:
    """A check that had nothing to look at is a check that holds."""
    looked, wrong, first = (row["looked"], row["wrong"], row["first"]) if row else (0, 0, ())
    return Check(
        name=name, sentence=SENTENCES[name], looked=looked, wrong=wrong, first=tuple(first)
    )
