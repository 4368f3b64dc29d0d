"""Every hard rule that the database itself holds: that the right thing passes, and that the wrong
thing is caught whoever does it."""

import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import uuid_utils

from exchange.core import lifecycle, records
from exchange.effects.postgres import Role, connect, migrate

pytestmark = pytest.mark.real

FACTS = {  # each with a change of it that would pass, were it allowed
    "transfer": "amount_micros = 1",
    "custody_event": "kind = 'x'",
    "custody_leaf": "epoch = 2",
    "attempt_event": "state = 'sold'",
    "ping": "eligible = 9",
    "audit": "by = 'x'",
    "closed_mask": "gates = '{}'",
    "market_version": "why = 'x'",
    "vertical_version": "doc = '{}'",
    "seller_version": "doc = '{}'",
    "source_version": "doc = '{}'",
    "buyer_version": "doc = '{}'",
    "contract_version": "doc = '{}'",
    "account": "currency = 'EUR'",
}
KEPT = ("lead", "attempt", "sale_slot", "outbox", "return_case", "cap_window", "cap_claim", "idem")
SELLER, OTHER_SELLER, BUYER, OTHER_BUYER = 11, 12, 21, 22
HASH = bytes(32)


async def as_role(url: str, role: Role, **options: Any) -> asyncpg.Connection:
    return await connect(url, role=role, application_name="tests", **options)


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await as_role(database_url, "exchange_app")
    yield connection
    await connection.close()


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await as_role(database_url, "exchange_owner")
    yield connection
    await connection.close()


@pytest.fixture
async def sealed(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await as_role(database_url, "exchange_sealed")
    yield connection
    await connection.close()


# --- rows -----------------------------------------------------------------------------------------


def new_id() -> str:
    return str(uuid_utils.uuid7())


async def insert(connection: asyncpg.Connection, table: str, **row: Any) -> None:
    """Inserts a row; `day` follows from the lead's id unless it is given."""
    key = "ping_id" if table == "ping" else "lead_id"
    columns, values = list(row), [f"${n}" for n in range(1, len(row) + 1)]
    if key in row and "day" not in row and table not in ("idem", "cap_claim"):
        columns.append("day")
        values.append(f"lead_day(${columns.index(key) + 1})")
    await connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values)})", *row.values()
    )


def lead(**given: Any) -> dict[str, Any]:
    return {
        "lead_id": new_id(),
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
        "received_at": datetime.now(UTC),
    } | given


def attempt(**given: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "attempt_id": new_id(),
        "lead_id": new_id(),
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
        "deadline_at": now,
        "next_check_at": now,
        "boot_id": "boot",
        "cap_mode": "strict",
        "cap_sq": 0,
        "windows": [],
        "slots": [1],
        "test": False,
        "created_at": now,
    } | given


def ping(**given: Any) -> dict[str, Any]:
    return {
        "ping_id": new_id(),
        "seller_id": SELLER,
        "source_id": 1,
        "vertical_id": 1,
        "test": False,
        "direct": False,
        "received_at": datetime.now(UTC),
        "fields": {"zip": "94110"},
        "gated": ["phone"],
        "outcome": "no_offer",
        "floor_micros": 0,
        "eligible": 0,
        "bids": b"{}",
        "reason_counts": {},
        "book_version": 1,
        "mask_id": 1,
        "took_ms": 1.0,
        "waited_ms": 1.0,
        "added_ms": 0.5,
        "late_ms": 0.0,
        "worker": "w0",
    } | given


def transfer(**given: Any) -> dict[str, Any]:
    return {
        "transfer_id": new_id(),
        "lead_id": new_id(),
        "code": 1,
        "debit_account": 1,
        "credit_account": 2,
        "amount_micros": 5,
        "currency": "USD",
        "at": datetime.now(UTC),
    } | given


def event(**given: Any) -> dict[str, Any]:
    base = {"attempt_id": new_id(), "lead_id": new_id(), "state": "posting"}
    return base | {"at": datetime.now(UTC)} | given


def custody(**given: Any) -> dict[str, Any]:
    base = {"lead_id": new_id(), "seq": 1, "kind": "received", "bytes": b"{}", "prev": b""}
    return base | {"hash": HASH, "at": datetime.now(UTC)} | given


async def market(app: asyncpg.Connection) -> None:
    """Two sellers and two buyers with a version of everything; once per database."""
    if await app.fetchval("SELECT count(*) FROM market_version"):
        return
    await insert(app, "market_version", version=1, toml="", source="file", by="test")
    await insert(app, "vertical", id=1, key="auto")
    for party, kind in itertools.chain(
        ((SELLER, "seller"), (OTHER_SELLER, "seller")), ((BUYER, "buyer"), (OTHER_BUYER, "buyer"))
    ):
        await insert(app, "party", id=party, kind=kind, key=f"p{party}")
        await insert(app, kind, id=party, key=f"p{party}")
    await insert(app, "source", id=1, seller_id=SELLER, key="web")
    await insert(app, "contract", id=1, key="c", buyer_id=BUYER, vertical_id=1)
    targets = {"vertical": 1, "seller": SELLER, "source": 1, "buyer": BUYER, "contract": 1}
    for noun, target in targets.items():
        row = {f"{noun}_id": target, "version": 1, "market_version": 1, "doc": {"a": 1}}
        await insert(app, f"{noun}_version", **row)


async def one_of_each(app: asyncpg.Connection) -> None:
    """A row in every table of the lead group and every fact table."""
    await market(app)
    row = attempt()
    lead_id, attempt_id = row["lead_id"], row["attempt_id"]
    await insert(app, "ping", **ping(ping_id=lead_id))
    await insert(app, "lead", **lead(lead_id=lead_id))
    await insert(app, "attempt", **row)
    await insert(app, "sale_slot", lead_id=lead_id, slot=1, attempt_id=attempt_id)
    await insert(app, "attempt_event", **event(lead_id=lead_id, attempt_id=attempt_id))
    await insert(app, "custody_event", **custody(lead_id=lead_id))
    await insert(app, "transfer", **transfer(lead_id=lead_id))
    leaf = await app.fetchval("SELECT coalesce(max(leaf_index) + 1, 0) FROM custody_leaf")
    await insert(
        app, "custody_leaf", leaf_index=leaf, lead_id=lead_id, seq=1, leaf_hash=HASH, epoch=1
    )
    outbox = {"outbox_id": new_id(), "lead_id": lead_id, "party_id": SELLER, "kind": "k"}
    await insert(app, "outbox", **outbox, body={}, at=datetime.now(UTC))
    ids = {"lead_id": lead_id, "return_id": new_id(), "attempt_id": attempt_id}
    who = {"seller_id": SELLER, "buyer_id": BUYER, "contract_id": 1}
    what = {"reason": "r", "currency": "USD", "test": False, "requested_at": datetime.now(UTC)}
    await insert(app, "return_case", **ids, **who, **what)
    await insert(app, "cap_window", buyer_id=BUYER, win=new_id())
    claim = {"buyer_id": BUYER, "win": "w", "attempt_id": attempt_id, "lead_id": lead_id}
    await insert(app, "cap_claim", **claim, amount=1)
    await insert(app, "idem", seller_id=SELLER, key=lead_id, fingerprint=HASH, lead_id=lead_id)
    await insert(app, "audit", by="test", action="a")
    await insert(app, "closed_mask", mask_id=hash(lead_id), vertical_id=1, book_version=1, gates={})
    await app.execute(
        "INSERT INTO account (party_id, kind, currency) VALUES ($1, 'receivable', 'USD')"
        " ON CONFLICT DO NOTHING",
        BUYER,
    )


# --- what only grows ------------------------------------------------------------------------------


@pytest.mark.parametrize(("fact", "change"), FACTS.items())
async def test_a_fact_is_never_changed_nor_deleted(
    app: asyncpg.Connection, owner: asyncpg.Connection, fact: str, change: str
) -> None:
    await one_of_each(app)
    for statement in (
        f"UPDATE {fact} SET {change}",
        f"DELETE FROM {fact}",
        f"TRUNCATE {fact} CASCADE",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement)
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute(statement)
    assert await app.fetchval(f"SELECT count(*) FROM {fact}") > 0


@pytest.mark.parametrize("table", KEPT)
async def test_a_projection_is_never_deleted(
    app: asyncpg.Connection, owner: asyncpg.Connection, table: str
) -> None:
    await one_of_each(app)
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement)
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute(statement)


async def test_no_partition_can_be_truncated_also_not_one_made_later(
    app: asyncpg.Connection, owner: asyncpg.Connection
) -> None:
    far = datetime.now(UTC).date() + timedelta(days=400)
    assert await app.fetchval("SELECT ensure_partitions($1, 2)", far) == 20
    partitions = await owner.fetch(
        "SELECT relid::regclass::text AS name FROM pg_partitioned_table p,"
        " pg_partition_tree(p.partrelid) WHERE isleaf"
    )
    assert len(partitions) >= 10 * (9 + 1 + 2)
    for row in partitions:
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute(f"TRUNCATE {row['name']}")


async def test_every_table_has_its_truncate_trigger(owner: asyncpg.Connection) -> None:
    unfenced = await owner.fetch(
        "SELECT relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND relname <> 'alembic_version' AND NOT EXISTS"
        " (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'never_truncated')"
    )
    assert unfenced == []


async def test_nobody_may_truncate_and_only_sealed_may_delete(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants"
        " WHERE grantee <> 'exchange_owner' AND privilege_type IN ('DELETE', 'TRUNCATE', 'TRIGGER')"
        " AND table_schema = 'public' AND table_name <> 'alembic_version'"
    )
    assert {tuple(row) for row in rows} == {
        ("exchange_sealed", "lead_private", "DELETE"),
        ("exchange_sealed", "person_key", "DELETE"),
    }


async def test_the_app_changes_only_the_columns_of_a_projection_that_move(
    app: asyncpg.Connection,
) -> None:
    row = attempt()
    await insert(app, "attempt", **row)
    where = f"WHERE attempt_id = '{row['attempt_id']}'"
    assert (
        await app.execute(f"UPDATE attempt SET buyer_ref = 'r', state = 'sold' {where}")
        == "UPDATE 1"
    )
    for column, value in (("price_micros", "1"), ("buyer_id", "5"), ("lead_id", "lead_id")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(f"UPDATE attempt SET {column} = {value} {where}")


async def test_a_partition_is_out_of_reach_but_through_its_parent(app: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.fetch("SELECT * FROM attempt_default")


# --- days and partitions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "row"),
    [("lead", lead), ("attempt", attempt), ("transfer", transfer), ("custody_event", custody)],
)
async def test_a_row_whose_day_is_not_its_ids_is_refused(
    app: asyncpg.Connection, table: str, row: Any
) -> None:
    for wrong in (timedelta(days=1), timedelta(days=-1)):
        values = row()
        day = await app.fetchval("SELECT lead_day($1)", values["lead_id"])
        with pytest.raises(asyncpg.CheckViolationError):
            await insert(app, table, **values, day=day + wrong)
        await insert(app, table, **values, day=day)


async def test_an_id_without_a_time_is_refused(app: asyncpg.Connection) -> None:
    timeless = str(uuid_utils.uuid4())
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(app, "lead", **lead(lead_id=timeless), day=datetime.now(UTC).date())


async def test_a_day_without_a_partition_goes_to_default_raises_the_alarm_and_stays(
    app: asyncpg.Connection,
) -> None:
    late = str(await app.fetchval("SELECT uuidv7('700 days')"))
    day = await app.fetchval("SELECT lead_day($1)", late)
    strays = "SELECT strays FROM partition_stray WHERE parent = 'lead'"
    before = await app.fetchval(strays)
    await insert(app, "lead", **lead(lead_id=late))
    assert await app.fetchval(strays) == before + 1
    warnings: list[str] = []
    app.add_log_listener(lambda _, message: warnings.append(message.message))
    assert await app.fetchval("SELECT ensure_partitions($1, 1)", day) == 9  # all but lead's
    assert await app.fetchval("SELECT ensure_partitions($1, 1)", day) == 0
    assert [text for text in warnings if text.startswith("lead has rows")]
    assert await app.fetchval("SELECT state FROM lead WHERE lead_id = $1", late) == "selling"


# --- one sale -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second_passes"), [
    ("posting", False), ("unknown", False), ("sold", False),
    ("voided", True), ("rejected", True), ("written_off", True),
])  # fmt: skip
async def test_a_buyer_has_one_live_attempt_or_sale_per_lead(
    app: asyncpg.Connection, first: str, second_passes: bool
) -> None:
    lead_id = new_id()
    await insert(app, "attempt", **attempt(lead_id=lead_id, state=first))
    await insert(app, "attempt", **attempt(lead_id=lead_id, buyer_id=OTHER_BUYER))
    if second_passes:
        await insert(app, "attempt", **attempt(lead_id=lead_id))
    else:
        with pytest.raises(asyncpg.UniqueViolationError, match="buyer_id"):
            await insert(app, "attempt", **attempt(lead_id=lead_id))


async def test_a_sale_slot_is_taken_once(app: asyncpg.Connection) -> None:
    lead_id = new_id()
    await insert(app, "sale_slot", lead_id=lead_id, slot=1, attempt_id=new_id())
    await insert(app, "sale_slot", lead_id=lead_id, slot=2, attempt_id=new_id())
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(app, "sale_slot", lead_id=lead_id, slot=1, attempt_id=new_id())


@pytest.mark.parametrize(("end", "freed"), [
    ("posting", False), ("unknown", False), ("sold", False), ("rejected", True), ("voided", True),
])  # fmt: skip
async def test_a_sale_slot_is_free_again_only_when_its_attempt_has_ended_without_a_sale(
    app: asyncpg.Connection, end: str, freed: bool
) -> None:
    row = attempt(state=end)
    await insert(app, "attempt", **row)
    await insert(app, "sale_slot", lead_id=row["lead_id"], slot=1, attempt_id=row["attempt_id"])
    for thief in (None, new_id()):
        take = app.execute(
            "UPDATE sale_slot SET attempt_id = $2 WHERE lead_id = $1", row["lead_id"], thief
        )
        if freed:
            assert await take == "UPDATE 1"
        else:
            with pytest.raises(asyncpg.RestrictViolationError):
                await take


@pytest.mark.parametrize(("table", "noun", "moves"), [
    ("lead", "lead", lifecycle.LEAD),
    ("attempt", "attempt", lifecycle.ATTEMPT),
    ("return_case", "return", lifecycle.RETURN),
])  # fmt: skip
async def test_the_database_allows_exactly_the_moves_of_the_lifecycle(
    owner: asyncpg.Connection, table: str, noun: str, moves: dict[str, frozenset[str]]
) -> None:
    for old, new in itertools.product(moves, moves):
        assert await owner.fetchval("SELECT is_move($1, $2, $3)", noun, old, new) == (
            new in moves[old]
        ), f"{noun}: {old} -> {new}"
    triggers = await owner.fetchval(
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = $1::regclass AND tgname = 'moves_along'",
        table,
    )
    assert triggers == 1


async def test_a_state_does_not_move_against_the_lifecycle(app: asyncpg.Connection) -> None:
    row = attempt(state="sold")
    await insert(app, "attempt", **row)
    with pytest.raises(asyncpg.CheckViolationError, match="from sold to rejected"):
        await app.execute(
            "UPDATE attempt SET state = 'rejected' WHERE attempt_id = $1", row["attempt_id"]
        )


# --- money and hashes -----------------------------------------------------------------------------


@pytest.mark.parametrize(("credited", "passes"), [(0, True), (20, True), (21, False), (-1, False)])
async def test_no_more_is_credited_than_was_paid(
    app: asyncpg.Connection, credited: int, passes: bool
) -> None:
    row = attempt(state="sold", price_micros=20)
    await insert(app, "attempt", **row)
    credit = app.execute(
        "UPDATE attempt SET credited_micros = $2 WHERE attempt_id = $1", row["attempt_id"], credited
    )
    if passes:
        assert await credit == "UPDATE 1"
    else:
        with pytest.raises(asyncpg.CheckViolationError):
            await credit


@pytest.mark.parametrize(("table", "row"), [
    ("attempt", attempt(price_micros=20, payout_micros=17, fee_micros=2)),
    ("attempt", attempt(price_micros=-1, payout_micros=-1, fee_micros=0)),
    ("transfer", transfer(amount_micros=0)),
    ("transfer", transfer(amount_micros=-5)),
    ("transfer", transfer(debit_account=1, credit_account=1)),
    ("custody_event", custody(hash=HASH.hex().encode())),
    ("lead", lead(custody_head=b"")),
    ("lead", lead(state="posting")),
])  # fmt: skip
async def test_a_row_that_cannot_be_true_is_refused(
    app: asyncpg.Connection, table: str, row: dict[str, Any]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(app, table, **row)


async def test_a_transfer_is_reversed_once_per_part(app: asyncpg.Connection) -> None:
    sale = transfer()
    await insert(app, "transfer", **sale)
    reversal = {"lead_id": sale["lead_id"], "reverses": sale["transfer_id"]}
    await insert(app, "transfer", **transfer(**reversal, part=1))
    await insert(app, "transfer", **transfer(**reversal, part=2))
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(app, "transfer", **transfer(**reversal, part=2))


async def test_an_account_of_an_unknown_kind_is_refused(app: asyncpg.Connection) -> None:
    account = "INSERT INTO account (party_id, kind, currency) VALUES (1, $1, 'USD')"
    await app.execute(account, "margin")
    with pytest.raises(asyncpg.NotNullViolationError):
        await app.execute(account, "pocket")
    with pytest.raises(asyncpg.UniqueViolationError):
        await app.execute(account, "margin")


async def test_there_is_one_house_and_it_is_party_1(app: asyncpg.Connection) -> None:
    assert await app.fetchval("SELECT id FROM party WHERE kind = 'house'") == 1
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(app, "party", kind="house", key="second")


async def test_periods_do_not_overlap(app: asyncpg.Connection) -> None:
    first, last = datetime(2025, 1, 1).date(), datetime(2025, 2, 1).date()  # noqa: DTZ001
    await insert(app, "period", from_day=first, to_day=last)
    await insert(app, "period", from_day=last, to_day=last + timedelta(days=28))
    with pytest.raises(asyncpg.ExclusionViolationError):
        await insert(app, "period", from_day=first + timedelta(days=3), to_day=last)


# --- who sees what --------------------------------------------------------------------------------


async def test_the_app_seals_a_lead_but_cannot_read_it(
    app: asyncpg.Connection, sealed: asyncpg.Connection
) -> None:
    lead_id = new_id()
    await insert(app, "lead_private", lead_id=lead_id, key_epoch=1, wrapped_dek=b"k", sealed=b"s")
    for statement in ("SELECT sealed FROM lead_private", "DELETE FROM lead_private",
                      "UPDATE lead_private SET sealed = 'x'"):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement)
    query = "SELECT sealed FROM lead_private WHERE lead_id = $1"
    assert await sealed.fetchval(query, lead_id) == b"s"
    assert (
        await sealed.execute("DELETE FROM lead_private WHERE lead_id = $1", lead_id) == "DELETE 1"
    )


async def test_what_is_erased_keeps_neither_key_nor_record(
    app: asyncpg.Connection, sealed: asyncpg.Connection
) -> None:
    lead_id = new_id()
    await insert(app, "lead_private", lead_id=lead_id, key_epoch=1, wrapped_dek=b"k", sealed=b"s")
    erase = "UPDATE lead_private SET erased_at = now()"
    with pytest.raises(asyncpg.CheckViolationError):
        await sealed.execute(f"{erase}, sealed = NULL WHERE lead_id = $1", lead_id)
    gone = f"{erase}, sealed = NULL, wrapped_dek = NULL WHERE lead_id = $1"
    assert await sealed.execute(gone, lead_id) == "UPDATE 1"


async def test_sealed_sees_nothing_but_what_it_seals(sealed: asyncpg.Connection) -> None:
    for table in ("lead", "ping", "attempt", "transfer", "secret", "api_key"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sealed.fetch(f"SELECT * FROM {table}")


@pytest.mark.parametrize(("party", "sees"), [
    (None, {"lead": 0, "ping": 0, "attempt": 0, "transfer": 0, "contract": 0, "return_case": 0}),
    (1, {"lead": 1, "ping": 1, "attempt": 1, "transfer": 1, "contract": 1, "return_case": 1}),
    (SELLER, {"lead": 1, "ping": 1, "attempt": 1, "transfer": 0, "contract": 0, "return_case": 1}),
    (BUYER, {"lead": 0, "ping": 0, "attempt": 1, "transfer": 0, "contract": 1, "return_case": 1}),
    (OTHER_SELLER, {"lead": 0, "ping": 0, "attempt": 0, "transfer": 0, "contract": 0}),
    (OTHER_BUYER, {"lead": 0, "ping": 0, "attempt": 0, "contract": 0, "return_case": 0}),
])  # fmt: skip
async def test_a_reader_sees_its_partys_rows_alone(
    app: asyncpg.Connection, database_url: str, party: int | None, sees: dict[str, int]
) -> None:
    await one_of_each(app)
    lead_id = await app.fetchval(
        "SELECT l.lead_id FROM lead l JOIN return_case r USING (lead_id) ORDER BY 1 DESC LIMIT 1"
    )
    reader = await as_role(database_url, "exchange_reader", party_id=party)
    try:
        for table, rows in sees.items():
            key = {"ping": "ping_id", "contract": "$1::uuid"}.get(table, "lead_id")
            count = await reader.fetchval(f"SELECT count(*) FROM {table} WHERE {key} = $1", lead_id)
            assert count == rows, table
    finally:
        await reader.close()


@pytest.mark.parametrize(
    "table", ["lead_private", "secret", "api_key", "person_key", "lead_default"]
)
async def test_a_reader_has_no_way_to_secrets(database_url: str, table: str) -> None:
    reader = await as_role(database_url, "exchange_reader", party_id=1)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetch(f"SELECT * FROM {table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("DELETE FROM lead")
    finally:
        await reader.close()


# --- the schema and the records agree -------------------------------------------------------------


@pytest.mark.parametrize(("row", "table"), [
    (records.LeadRow, "lead"), (records.LeadPrivateRow, "lead_private"),
    (records.PersonKeyRow, "person_key"), (records.AttemptRow, "attempt"),
    (records.AttemptEventRow, "attempt_event"), (records.CustodyRow, "custody_event"),
    (records.OutboxRow, "outbox"), (records.IdemRow, "idem"), (records.TransferRow, "transfer"),
])  # fmt: skip
async def test_a_row_struct_has_the_columns_of_its_table(
    owner: asyncpg.Connection, row: type[records.Row], table: str
) -> None:
    columns = {
        record["column_name"]: record
        for record in await owner.fetch(
            "SELECT column_name, is_nullable, column_default FROM information_schema.columns"
            " WHERE table_name = $1",
            table,
        )
    }
    names = {"debit_party": "debit_account", "credit_party": "credit_account"}
    fields = {names.get(name, name) for name in row.__struct_fields__} - {
        "debit_kind",
        "credit_kind",
    }
    assert fields <= set(columns)
    needed = {
        name
        for name, column in columns.items()
        if column["is_nullable"] == "NO" and column["column_default"] is None
    }
    assert needed - fields <= {"day"}  # whatever else a row must have, it has by default


async def test_migrating_twice_changes_nothing(
    database_url: str, owner: asyncpg.Connection
) -> None:
    count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    before = await owner.fetchval(count)
    await migrate(database_url)
    assert await owner.fetchval(count) == before
