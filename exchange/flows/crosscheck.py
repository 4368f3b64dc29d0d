"""The books against themselves: ledger, attempts, caps in Postgres and in Valkey, wallets, journal.

Each comparison names every difference with what mends it, and says what it leaves out because it
may be under way. What one commit writes is compared in one snapshot, where nothing is under way.
Valkey and Postgres have no common snapshot, so what differs there is looked at again, and only what
still differs by the same amount is told: a hold whose INTENT is on its way, or a sale's end that
Valkey is yet to be told, has moved by then.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from exchange.core.book import Book
from exchange.core.caps import forget_at_ms
from exchange.core.model import Fact
from exchange.core.money import text_of
from exchange.effects.caps import Caps, Unreadable
from exchange.effects.crosscheck import JOURNAL_LAG_S, OFFERED_AGAIN_S, PLACES, Crosscheck, Looked
from exchange.effects.wallets import WalletStore

NAMED_MAX: Final = 100
"""Of each comparison so many differences are named; all are counted."""
LOOKS: Final = 3
"""How often Valkey and Postgres are compared before a difference is told."""

Check = Literal["ledger", "claims", "windows", "valkey", "wallets", "journal"]
SENTENCES: Final[dict[Check, str]] = {
    "ledger": "A sale is billed at its price less its credits, and what is no sale is not.",
    "claims": "A post under strict caps holds its room, a sale uses it, the rest gave it back.",
    "windows": "A window's fence is what its claims take, and what a recount carried.",
    "valkey": "Valkey counts what Postgres counts, window by window.",
    "wallets": "A wallet has left what the ledger says.",
    "journal": "A sale's ping is in the journal, of its source, with the bid that was billed.",
}
MARGINS: Final[dict[Check, str]] = {
    "ledger": "none: one commit",
    "claims": "none: one commit",
    "windows": "none: one commit; wallets apart",
    "valkey": f"what moves within {LOOKS} looks; windows that ended two days ago or more",
    "wallets": "none: one commit",
    "journal": f"sales younger than {JOURNAL_LAG_S} s; days whose pings are dropped; bids of leads "
    f"sold {OFFERED_AGAIN_S // 60} min after their ping",
}


class Difference(Fact, frozen=True, kw_only=True):
    """One difference: whose, of what (a sale or a window), what both sides say, what mends it."""

    check: Check
    buyer: str
    subject: str
    detail: str
    mends: str


class Checked(Fact, frozen=True, kw_only=True):
    """One comparison. `wrong` counts all of it, `differences` names the first."""

    check: Check
    sentence: str
    margin: str
    looked: int
    wrong: int
    differences: tuple[Difference, ...]


async def crosscheck(
    *,
    buyer_id: int | None,
    postgres: Crosscheck,
    caps: Caps,
    wallets: WalletStore,
    book: Book,
    now: Callable[[], datetime],
    pause: Callable[[], Awaitable[None]],
) -> tuple[Checked, ...]:
    """Compares everything, for one buyer or all. `pause` is what passes between two looks at
    Valkey. Raises what asyncpg raises."""
    found = {
        place: _named(await postgres.looked(place, buyer_id, named_max=NAMED_MAX), book)
        for place in PLACES
    }
    buyers = [one for one in book.buyers.values() if buyer_id in (None, one.id)]
    capped = {contract.buyer_id for contract in book.contracts.values() if contract.caps}
    counted = {one.id: one.key for one in buyers if one.id in capped or await caps.booked(one.id)}
    valkey = await _valkey(counted, caps, now, pause)
    purses = await _wallets(wallets, buyers[0].key if buyer_id is not None and buyers else None)
    order = (*(found[one] for one in PLACES[:3]), valkey, purses, found["journal"])
    return tuple(order)


# --- within Postgres ------------------------------------------------------------------------------


def _named(looked: Looked, book: Book) -> Checked:
    told = tuple(_difference(looked.place, row, book) for row in looked.first)
    return _checked(looked.place, looked.looked, looked.wrong, told)


def _difference(check: Check, row: Mapping[str, Any], book: Book) -> Difference:
    known = book.buyers.get(row["buyer_id"])
    buyer = known.key if known else f"#{row['buyer_id']}"
    subject = str(row["subject"])
    match check:
        case "ledger":
            detail = f"{row['state']}: owed {_money(row['ours'])}, billed {_money(row['theirs'])}"
            mends = "a fault: exchange ledger prove names what is wrong with its transfers"
        case "claims":
            detail = f"{row['state']}, its claim in {row['win']}: {row['claim']}"
            mends = f"a fault: exchange explain it; room: exchange caps show --buyer {buyer}"
        case "windows":
            detail = f"claims and carried {row['ours']}, the fence {row['theirs']}"
            mends = (
                f"exchange caps show --buyer {buyer}; a change of the cap (exchange apply) recounts"
            )
        case _:
            detail = str(row["flaw"])
            mends = "nothing is owed by it; exchange_dropped_total says whether pings were lost"
    return Difference(check=check, buyer=buyer, subject=subject, detail=detail, mends=mends)


def _money(micros: int) -> str:
    return text_of(micros) if micros >= 0 else f"-{text_of(-micros)}"


# --- Valkey against Postgres ----------------------------------------------------------------------

Apart = dict[str, tuple[int, int]]
"""By window: what Valkey counts, used and held together, and what Postgres does."""


async def _valkey(
    buyers: Mapping[int, str],
    caps: Caps,
    now: Callable[[], datetime],
    pause: Callable[[], Awaitable[None]],
) -> Checked:
    looked, lasting, unread = 0, dict[int, Apart](), dict[int, str]()
    for buyer_id in buyers:
        seen = await _apart(buyer_id, caps, now())
        if isinstance(seen, Unreadable):
            unread[buyer_id] = seen.detail
            continue
        count, lasting[buyer_id] = seen
        looked += count
    for _ in range(LOOKS - 1):
        if any(lasting.values()):
            await pause()
        for buyer_id in [one for one, apart in lasting.items() if apart]:
            again = await _apart(buyer_id, caps, now())
            still = {} if isinstance(again, Unreadable) else again[1]
            lasting[buyer_id] = _same(lasting[buyer_id], still)
    told = tuple(_told(buyers, lasting, unread))
    return _checked("valkey", looked, len(told), told[:NAMED_MAX])


def _same(before: Apart, after: Apart) -> Apart:
    """The windows that are apart by as much as before."""
    return {
        win: counts
        for win, counts in after.items()
        if win in before and before[win][0] - before[win][1] == counts[0] - counts[1]
    }


async def _apart(buyer_id: int, caps: Caps, at: datetime) -> tuple[int, Apart] | Unreadable:
    booked = await caps.booked(buyer_id)
    counters = await caps.counters(buyer_id)
    if isinstance(counters, Unreadable):
        return counters
    now_ms = at.timestamp() * 1000
    wins = [win for win in {**booked, **counters} if _counts(win, now_ms)]
    sums = {
        win: (sum(counters.get(win, (0, 0))), sum(booked.get(win, (0, 0)))) for win in sorted(wins)
    }
    return len(sums), {win: pair for win, pair in sums.items() if pair[0] != pair[1]}


def _counts(win: str, now_ms: float) -> bool:
    """Whether anybody counts in the window still: Valkey forgets it two days after its end."""
    forgotten = forget_at_ms(win)
    return forgotten == 0 or forgotten > now_ms


def _told(
    buyers: Mapping[int, str], lasting: Mapping[int, Apart], unread: Mapping[int, str]
) -> Iterable[Difference]:
    for buyer_id, detail in unread.items():
        yield _of_valkey(buyers[buyer_id], "", f"Valkey's counters are not believed: {detail}")
    for buyer_id, apart in lasting.items():
        for win, (counted, booked) in apart.items():
            detail = f"Valkey counts {counted}, Postgres {booked}"
            yield _of_valkey(buyers[buyer_id], win, detail)


def _of_valkey(buyer: str, subject: str, detail: str) -> Difference:
    return Difference(
        check="valkey",
        buyer=buyer,
        subject=subject,
        detail=detail,
        mends=f"exchange caps rebuild {buyer}",
    )


# --- wallets --------------------------------------------------------------------------------------


async def _wallets(wallets: WalletStore, buyer: str | None) -> Checked:
    rows = await wallets.wallets(buyer)
    told = tuple(
        Difference(
            check="wallets",
            buyer=row.buyer,
            subject=row.currency,
            detail=f"window less ledger: {_money(row.difference_micros)}",
            mends=f"exchange wallets recount {row.buyer}",
        )
        for row in rows
        if row.difference_micros
    )
    return _checked("wallets", len(rows), len(told), told[:NAMED_MAX])


def _checked(check: Check, looked: int, wrong: int, told: tuple[Difference, ...]) -> Checked:
    return Checked(
        check=check,
        sentence=SENTENCES[check],
        margin=MARGINS[check],
        looked=looked,
        wrong=wrong,
        differences=told,
    )
