"""Connections of each role, rows that may stand in the tables, and caps on the real servers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
import uuid_utils

from exchange.effects.caps import Caps
from exchange.effects.clock import Clock
from exchange.effects.postgres import Database, connect
from exchange.effects.valkey import Valkey
from tests.effects.capping import added_buyer, opened

SELLER, OTHER_SELLER, BUYER, OTHER_BUYER = 11, 12, 21, 22
HASH = bytes(32)
FORMS: dict[str, dict[str, Any]] = {
    "ping": {
        "seller_id": SELLER,
        "source_id": 1,
        "vertical_id": 1,
        "test": False,
        "direct": False,
        "fields": {"zip": "94110"},
        "gated": ["phone"],
        "outcome": "no_offer",
        "eligible": 0,
        "floor_micros": 0,
        "bids": b"{}",
        "reason_counts": {},
        "book_version": 1,
        "mask_id": 1,
        "took_ms": 1.0,
        "waited_ms": 1.0,
        "added_ms": 0.5,
        "late_ms": 0.0,
        "worker": "w0",
    },
    "lead": {
        "seller_id": SELLER,
        "source_id": 1,
        "vertical_id": 1,
        "state": "selling",
        "mode": "exclusive",
        "max_sales": 1,
        "direct": False,
        "promised_payout_micros": 1,
        "min_payout_micros": 1,
        "floor_micros": 0,
        "currency": "USD",
        "consent_kind": "tcpa",
        "custody_seq": 1,
        "custody_head": HASH,
        "book_version": 1,
        "mask_id": 1,
        "offer": {},
        "boot_id": "boot",
        "test": False,
    },
    "lead_private": {"key_epoch": 1, "wrapped_dek": b"k", "sealed": b"s"},
    "attempt": {
        "seller_id": SELLER,
        "buyer_id": BUYER,
        "contract_id": 1,
        "contract_version": 1,
        "rank": 1,
        "leg": 1,
        "price_micros": 20,
        "payout_micros": 17,
        "fee_micros": 3,
        "currency": "USD",
        "boot_id": "boot",
        "cap_mode": "strict",
        "cap_sq": 0,
        "windows": [],
        "slots": [1],
        "test": False,
    },
    "sale_slot": {"slot": 1},
    "attempt_event": {"state": "posting"},
    "custody_event": {"seq": 1, "kind": "received", "bytes": b"{}", "prev": b"", "hash": HASH},
    "custody_leaf": {"seq": 1, "leaf_hash": HASH, "epoch": 1},
    "outbox": {"party_id": SELLER, "kind": "k", "body": {}},
    "transfer": {
        "code": 1,
        "debit_account": 1,
        "credit_account": 2,
        "amount_micros": 5,
        "currency": "USD",
    },
    "return_case": {
        "seller_id": SELLER,
        "buyer_id": BUYER,
        "contract_id": 1,
        "reason": "r",
        "currency": "USD",
        "test": False,
    },
    "cap_window": {"buyer_id": BUYER},
    "cap_claim": {"buyer_id": BUYER, "win": "w", "amount": 1},
    "idem": {"seller_id": SELLER, "fingerprint": HASH},
    "audit": {"by": "test", "action": "a"},
    "closed_mask": {"vertical_id": 1, "book_version": 1, "gates": {}},
    "reconciliation": {
        "by": "test",
        "side": "buyer",
        "party_id": BUYER,
        "file_sha256": HASH,
        "first_day": datetime(2026, 3, 1, tzinfo=UTC).date(),
        "last_day": datetime(2026, 3, 31, tzinfo=UTC).date(),
        "zone": "UTC",
        "tolerance_days": 1,
        "currency": "",
        "columns": ["our_id"],
        "our_lines": 1,
        "their_lines": 1,
        "outside": 0,
        "unread": [],
        "differences": 1,
        "ambiguous": 0,
        "totals": [],
    },
    "reconciliation_finding": {
        "number": 1,
        "key": bytes(16),
        "party_id": BUYER,
        "verdict": "only_ours",
        "doc": {},
    },
    "reconciliation_settlement": {
        "number": 1,
        "party_id": BUYER,
        "key": bytes(16),
        "is_settled": True,
        "by": "test",
        "why": "told them",
    },
}
FRESH_IDS = {
    "ping": ["ping_id"],
    "lead": ["lead_id"],
    "lead_private": ["lead_id"],
    "attempt": ["lead_id", "attempt_id"],
    "sale_slot": ["lead_id", "attempt_id"],
    "attempt_event": ["lead_id", "attempt_id"],
    "custody_event": ["lead_id"],
    "custody_leaf": ["lead_id"],
    "outbox": ["lead_id", "outbox_id"],
    "transfer": ["lead_id", "transfer_id"],
    "return_case": ["lead_id", "attempt_id", "return_id"],
    "cap_window": ["win"],
    "cap_claim": ["lead_id", "attempt_id"],
    "idem": ["lead_id", "key"],
    "reconciliation": ["reconciliation_id"],
    "reconciliation_settlement": ["settlement_id"],
}
MOMENTS = {
    "ping": ["received_at"],
    "lead": ["received_at"],
    "attempt": ["deadline_at", "next_check_at", "created_at"],
    "attempt_event": ["at"],
    "custody_event": ["at"],
    "outbox": ["at"],
    "transfer": ["at"],
    "return_case": ["requested_at"],
}
WITHOUT_A_DAY = ("idem", "cap_claim")


class Rows:
    """Adds rows through one connection: a table's usual values, unless others are given."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, table: str, **given: Any) -> dict[str, Any]:
        """Inserts a row and returns it. `day` follows from the id unless it is given."""
        row = dict(FORMS.get(table, {}))
        row |= {name: str(uuid_utils.uuid7()) for name in FRESH_IDS.get(table, ())}
        row |= {name: datetime.now(UTC) for name in MOMENTS.get(table, ())} | given
        columns, values = list(row), [f"${n}" for n in range(1, len(row) + 1)]
        key = "ping_id" if table == "ping" else "lead_id"
        if key in row and "day" not in row and table not in WITHOUT_A_DAY:
            values.append(f"lead_day(${columns.index(key) + 1})")
            columns.append("day")
        await self._connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values)})",
            *row.values(),
        )
        return row

    async def add_one_of_each(self) -> str:
        """A row in every table of the lead group and every table of facts; returns the lead's
        id."""
        await self._add_market()
        attempt = await self.add("attempt")
        ids = {name: attempt[name] for name in ("lead_id", "attempt_id")}
        lead = {"lead_id": attempt["lead_id"]}
        await self.add("ping", ping_id=attempt["lead_id"])
        for table in ("lead", "custody_event", "transfer", "outbox", "idem"):
            await self.add(table, **lead)
        for table in ("sale_slot", "attempt_event", "return_case", "cap_claim"):
            await self.add(table, **ids)
        await self.add("cap_window")
        await self.add("audit")
        number = await self._connection.fetchval("SELECT count(*) FROM custody_leaf")
        await self.add("custody_leaf", **lead, leaf_index=number)
        await self.add("closed_mask", mask_id=number)
        run = {"reconciliation_id": (await self.add("reconciliation"))["reconciliation_id"]}
        await self.add("reconciliation_finding", **run)
        await self.add("reconciliation_settlement", **run)
        return str(attempt["lead_id"])

    async def _add_market(self) -> None:
        """Two sellers and two buyers and a version of everything; once per database."""
        if await self._connection.fetchval("SELECT count(*) FROM market_version"):
            return
        await self.add("market_version", version=1, toml="", source="file", by="test")
        await self.add("vertical", id=1, key="auto")
        for kind, parties in (("seller", (SELLER, OTHER_SELLER)), ("buyer", (BUYER, OTHER_BUYER))):
            for party in parties:
                await self.add("party", id=party, kind=kind, key=f"p{party}")
                await self.add(kind, id=party, key=f"p{party}")
        await self.add("source", id=1, seller_id=SELLER, key="web")
        await self.add("contract", id=1, key="c", buyer_id=BUYER, vertical_id=1)
        await self.add("account", party_id=BUYER, kind="receivable", currency="USD")
        targets = {"vertical": 1, "seller": SELLER, "source": 1, "buyer": BUYER, "contract": 1}
        for noun, target in targets.items():
            row = {f"{noun}_id": target, "version": 1, "market_version": 1, "doc": {"a": 1}}
            await self.add(f"{noun}_version", **row)


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database_url, role="exchange_app", application_name="tests")
    yield connection
    await connection.close()


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database_url, role="exchange_owner", application_name="tests")
    yield connection
    await connection.close()


@pytest.fixture
async def sealed(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database_url, role="exchange_sealed", application_name="tests")
    yield connection
    await connection.close()


@pytest.fixture
def rows(app: asyncpg.Connection) -> Rows:
    return Rows(app)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url, role="exchange_app", size=4)
    yield database
    await database.close()


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Valkey]:
    valkey = await opened(valkey_url)
    yield valkey
    await valkey.close()


@pytest.fixture
async def caps(valkey: Valkey, database: Database) -> AsyncIterator[Caps]:
    caps = Caps(valkey, database, Clock(), retell_ms=1)
    yield caps
    await caps.close()


@pytest.fixture
async def buyer(rows: Rows) -> int:
    """A buyer of its own for each test: what Postgres counts is that test's alone."""
    return await added_buyer(rows)
