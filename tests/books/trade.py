"""Months of simulated trade, written by COPY: for the suites and proofs that need full books.

A market of any number of parties is put in force by the real flow, then sales and granted returns
are written with the very transfers the exchange makes (`core.ledger`), in the past, over whole
days. Every draw comes from the seed. What is not written: custody, sealed records, caps' windows.

    traded = await trade(database_url, Trade(sales=100_000, sellers=40, buyers=60))
"""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any, NamedTuple

import asyncpg

from exchange.core.ledger import accounts, return_transfers, sale_transfers
from exchange.core.money import MICROS, credit_parts, split
from exchange.core.records import TransferRow
from exchange.effects.book import BookStore
from exchange.effects.postgres import Database
from exchange.flows import market

MARGIN_PERCENT = 15
"""Every seller's."""
BATCH = 5_000
"""Sales written at once."""
VERTICALS = ("auto_insurance", "home_solar", "mortgage")
REASONS = ("invalid_phone", "disconnected", "wrong_person", "duplicate")
HEAD = bytes(32)


class Trade(NamedTuple):
    """What is traded. `returned` of 1,000 sales are returned; every fifth of them in half, the rest
    whole. Sellers with an even number have clawback terms, the others keep their payout. A seller
    and a buyer trade in one vertical, and a vertical has one currency."""

    sales: int
    sellers: int = 20
    buyers: int = 30
    currencies: tuple[str, ...] = ("USD", "CAD", "GBP")
    first: date = date(2026, 9, 1)
    days: int = 61
    returned: int = 120
    persons: bool = False
    seed: int = 7


class Sold(NamedTuple):
    """A sale as it was written."""

    lead_id: str
    attempt_id: str
    seller: str
    buyer: str
    contract: str
    currency: str
    at: datetime
    price_micros: int
    payout_micros: int
    credited_micros: int
    clawback_micros: int
    buyer_ref: str
    phone_hash: bytes


class Traded(NamedTuple):
    """What came of it: totals by currency, and, where asked for, every sale."""

    sales: int
    returns: int
    price_micros: dict[str, int]
    payout_micros: dict[str, int]
    credit_micros: dict[str, int]
    clawback_micros: dict[str, int]
    sold: list[Sold]


Rows = dict[str, list[dict[str, Any]]]
"""Of one batch, by table."""


class _Ids(NamedTuple):
    sellers: dict[int, int]
    sources: dict[int, int]
    buyers: dict[int, int]
    contracts: dict[int, int]
    verticals: dict[str, int]
    accounts: dict[tuple[int, str, str], int]


async def trade(database_url: str, terms: Trade, *, keep: bool = False) -> Traded:
    """Writes it all; `keep`: every sale is in the answer. The database must have no market yet."""
    database = await Database.open(database_url, role="exchange_app", size=1)
    now = datetime.now(UTC)
    await market.apply(
        BookStore(database), market_of(terms), by="trade", why="simulated trade", at=now
    )
    await database.close()
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "SELECT ensure_partitions($1::date - 1, $2::integer)", terms.first, terms.days + 2
        )
        ids = await _ids(connection, terms)
        traded = Traded(0, 0, {}, {}, {}, {}, [])
        for batch in _batches(terms):
            traded = await _written(connection, terms, ids, batch, traded, keep=keep)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return traded


def market_of(terms: Trade) -> str:
    """The market file: sellers `s0`.. and buyers `b0`.., a contract `b0-main` each."""
    parts = []
    for vertical, currency in _verticals(terms):
        parts.append(
            f"[verticals.{vertical}]\n"
            f'currency = "{currency}"\nconsent = "none"\n'
            f"[verticals.{vertical}.fields]\n"
            'zip = { type = "us_zip", ping = true, required = true }\n'
            'phone = { type = "us_phone", personal = true, ping = "pseudonym" }\n'
        )
    for number in range(terms.sellers):
        clawback = "clawback = { window_hours = 240 }\n" if number % 2 == 0 else ""
        parts.append(
            f'[sellers.s{number}]\nname = "Seller {number}"\n'
            f"margin = {{ percent = {MARGIN_PERCENT} }}\n"
            f'sources = ["web"]\ntime_zone = "UTC"\n{clawback}'
        )
    verticals = _verticals(terms)
    for number in range(terms.buyers):
        vertical = verticals[number % len(verticals)][0]
        reasons = ", ".join(f'"{reason}"' for reason in REASONS)
        parts.append(
            f'[buyers.b{number}]\nname = "Buyer {number}"\ntime_zone = "UTC"\n'
            f'ping_url = "https://b{number}.example/ping"\n'
            f'post_url = "https://b{number}.example/post"\n'
            f'[contracts.b{number}-main]\nbuyer = "b{number}"\nvertical = "{vertical}"\n'
            f"returns = {{ window_hours = 120, max_rate = 0.5, reasons = [{reasons}] }}\n"
        )
    return "\n".join(parts)


def _verticals(terms: Trade) -> list[tuple[str, str]]:
    count = min(len(VERTICALS), len(terms.currencies), terms.buyers)
    return list(zip(VERTICALS[:count], terms.currencies, strict=False))


async def _ids(connection: asyncpg.Connection, terms: Trade) -> _Ids:
    parties = {row["key"]: row["id"] for row in await connection.fetch("SELECT id, key FROM party")}
    sources = await connection.fetch("SELECT seller_id, id FROM source")
    contracts = await connection.fetch("SELECT buyer_id, id FROM contract")
    verticals = await connection.fetch("SELECT key, id FROM vertical")
    sellers = {number: parties[f"s{number}"] for number in range(terms.sellers)}
    buyers = {number: parties[f"b{number}"] for number in range(terms.buyers)}
    currencies = [currency for _, currency in _verticals(terms)]
    named = [(1, "margin", one) for one in currencies]
    named += [(party, "payable", one) for party in sellers.values() for one in currencies]
    named += [(party, "receivable", one) for party in buyers.values() for one in currencies]
    await connection.executemany(
        "INSERT INTO account (party_id, kind, currency) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        named,
    )
    rows = await connection.fetch("SELECT party_id, kind, currency, id FROM account")
    return _Ids(
        sellers=sellers,
        sources={row["seller_id"]: row["id"] for row in sources},
        buyers=buyers,
        contracts={row["buyer_id"]: row["id"] for row in contracts},
        verticals={row["key"]: row["id"] for row in verticals},
        accounts={(row["party_id"], row["kind"], row["currency"]): row["id"] for row in rows},
    )


def _batches(terms: Trade) -> Iterator[range]:
    for start in range(0, terms.sales, BATCH):
        yield range(start, min(start + BATCH, terms.sales))


async def _written(
    connection: asyncpg.Connection,
    terms: Trade,
    ids: _Ids,
    numbers: Iterable[int],
    traded: Traded,
    *,
    keep: bool,
) -> Traded:
    """One batch, in one transaction."""
    chance = Random(f"{terms.seed} {numbers}")
    rows: Rows = {table: [] for table in TABLES}
    sales, returns = traded.sales, traded.returns
    for number in numbers:
        sold = _sale(terms, ids, number, chance, rows)
        sales += 1
        returns += sold.credited_micros > 0
        for totals, amount in (
            (traded.price_micros, sold.price_micros),
            (traded.payout_micros, sold.payout_micros),
            (traded.credit_micros, sold.credited_micros),
            (traded.clawback_micros, sold.clawback_micros),
        ):
            totals[sold.currency] = totals.get(sold.currency, 0) + amount
        if keep:
            traded.sold.append(sold)
    async with connection.transaction():
        for table, found in rows.items():
            if found:
                columns = list(found[0])
                await connection.copy_records_to_table(
                    table, records=[tuple(row.values()) for row in found], columns=columns
                )
    return traded._replace(sales=sales, returns=returns)


TABLES = ("lead", "person_key", "attempt", "attempt_event", "sale_slot", "transfer", "return_case")


def _sale(terms: Trade, ids: _Ids, number: int, chance: Random, rows: Rows) -> Sold:
    """Draws one sale, and whether it is returned, and adds its rows."""
    verticals = _verticals(terms)
    seller, buyer = chance.randrange(terms.sellers), chance.randrange(terms.buyers)
    vertical, currency = verticals[buyer % len(verticals)]
    at = datetime.combine(terms.first, time(), UTC) + timedelta(
        milliseconds=chance.randrange(terms.days * 86_400_000)
    )
    price = chance.randrange(500, 6_000) * MICROS // 100
    payout, _ = split(price, MARGIN_PERCENT * 10_000, 0)
    credit = clawback = 0
    if chance.randrange(1_000) < terms.returned:
        credit = price // 2 if chance.randrange(5) == 0 else price
        if seller % 2 == 0:
            whole = {"price_micros": price, "payout_micros": payout}
            clawback = credit_parts(credit, **whole, credited_micros=0)[0]
    sold = Sold(
        lead_id=uuid7(at, chance), attempt_id=uuid7(at, chance), seller=f"s{seller}",
        buyer=f"b{buyer}", contract=f"b{buyer}-main", currency=currency, at=at, price_micros=price,
        payout_micros=payout, credited_micros=credit, clawback_micros=clawback,
        buyer_ref=f"R{number}",
        phone_hash=hashlib.sha256(f"phone {terms.seed} {number}".encode()).digest(),
    )  # fmt: skip
    parties = _Parties(ids.sellers[seller], ids.buyers[buyer], ids.verticals[vertical])
    _add_sale(sold, parties, ids, rows, f"X{number}")
    transfers = list(_legs(sold, parties))
    if credit:
        asked = at + timedelta(minutes=chance.randrange(30, 110 * 60))
        transfers += _add_return(sold, parties, ids, rows, asked, chance)
    if terms.persons:
        rows["person_key"].append(
            {
                "lead_id": sold.lead_id, "day": at.date(), "vertical_id": parties.vertical,
                "kind": "phone", "pepper_epoch": 1, "hmac": sold.phone_hash,
            }
        )  # fmt: skip
    rows["transfer"] += [_transfer(row, at.date(), ids) for row in transfers]
    return sold


class _Parties(NamedTuple):
    seller: int
    buyer: int
    vertical: int


def _legs(sold: Sold, parties: _Parties) -> tuple[TransferRow, ...]:
    return sale_transfers(
        attempt_id=sold.attempt_id,
        lead_id=sold.lead_id,
        buyer_id=parties.buyer,
        seller_id=parties.seller,
        price_micros=sold.price_micros,
        payout_micros=sold.payout_micros,
        fee_micros=sold.price_micros - sold.payout_micros,
        currency=sold.currency,
        at=sold.at,
    )


def _add_return(
    sold: Sold, parties: _Parties, ids: _Ids, rows: Rows, asked: datetime, chance: Random
) -> tuple[TransferRow, ...]:
    """The case; answers the transfers."""
    rows["return_case"].append(
        {
            "return_id": uuid7(asked, chance), "lead_id": sold.lead_id, "day": sold.at.date(),
            "attempt_id": sold.attempt_id, "seller_id": parties.seller, "buyer_id": parties.buyer,
            "contract_id": ids.contracts[parties.buyer], "state": "granted",
            "reason": chance.choice(REASONS), "rule": "evidence_enough",
            "credit_micros": sold.credited_micros, "clawback_micros": sold.clawback_micros,
            "currency": sold.currency, "test": False, "cycle": f"m{sold.at:%Y-%m}",
            "requested_at": asked, "decided_at": asked, "decided_by": "rule",
            "booked_on": asked.date(),
        }
    )  # fmt: skip
    return return_transfers(
        _legs(sold, parties),
        credit_micros=sold.credited_micros,
        clawback_micros=sold.clawback_micros,
        credited_micros=0,
        part=1,
        at=asked,
    )


def _add_sale(sold: Sold, parties: _Parties, ids: _Ids, rows: Rows, external_id: str) -> None:
    """The lead, its attempt, the fact that it was sold, its slot."""
    lead = {"lead_id": sold.lead_id, "day": sold.at.date()}
    attempt = lead | {"attempt_id": sold.attempt_id}
    rows["lead"].append(
        lead
        | {
            "seller_id": parties.seller, "source_id": ids.sources[parties.seller],
            "vertical_id": parties.vertical, "external_id": external_id, "state": "sold",
            "mode": "exclusive", "max_sales": 1, "direct": False,
            "promised_payout_micros": sold.payout_micros, "min_payout_micros": sold.payout_micros,
            "floor_micros": 0, "currency": sold.currency, "consent_kind": "none",
            "custody_seq": 3, "custody_head": HEAD, "book_version": 1, "mask_id": 0,
            "offer": '{"fields": {}}', "boot_id": "trade", "test": False, "received_at": sold.at,
        }
    )  # fmt: skip
    rows["attempt"].append(
        attempt
        | {
            "seller_id": parties.seller, "buyer_id": parties.buyer,
            "contract_id": ids.contracts[parties.buyer], "contract_version": 1, "rank": 1,
            "leg": 1, "state": "sold", "price_micros": sold.price_micros,
            "payout_micros": sold.payout_micros,
            "fee_micros": sold.price_micros - sold.payout_micros,
            "credited_micros": sold.credited_micros, "currency": sold.currency,
            "deadline_at": sold.at + timedelta(seconds=10), "boot_id": "trade",
            "cap_mode": "fast", "cap_sq": 0, "windows": "[]", "slots": [1],
            "buyer_ref": sold.buyer_ref, "booked_on": sold.at.date(), "test": False,
            "created_at": sold.at,
        }
    )  # fmt: skip
    rows["attempt_event"].append(attempt | {"state": "sold", "at": sold.at})
    rows["sale_slot"].append(attempt | {"slot": 1})


def _transfer(row: TransferRow, day: date, ids: _Ids) -> dict[str, Any]:
    debit, credit = accounts(row)
    return {
        "transfer_id": row.transfer_id, "lead_id": row.lead_id, "day": day,
        "attempt_id": row.attempt_id, "code": row.code, "debit_account": ids.accounts[debit],
        "credit_account": ids.accounts[credit], "amount_micros": row.amount_micros,
        "currency": row.currency, "reverses": row.reverses, "part": row.part, "at": row.at,
    }  # fmt: skip


def uuid7(at: datetime, chance: Random) -> str:
    """An id made at that moment."""
    number = int(at.timestamp() * 1000) << 80 | 7 << 76 | chance.getrandbits(12) << 64
    text = f"{number | 2 << 62 | chance.getrandbits(62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
