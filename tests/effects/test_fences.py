"""Every hard rule that the database itself holds: that the right thing passes, and that the wrong
thing is caught whoever does it.
"""

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import uuid_utils

from exchange.core import lifecycle, records
from exchange.effects.postgres import migrate

if TYPE_CHECKING:
    from tests.effects.conftest import Rows

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
    "reconciliation": "by = 'x'",
    "reconciliation_finding": "verdict = 'only_ours'",
    "reconciliation_settlement": "why = 'never'",
}
KEPT = ("lead", "attempt", "sale_slot", "outbox", "return_case", "cap_window", "cap_claim", "idem")
OTHER_BUYER = 22


# --- what only grows ------------------------------------------------------------------------------


@pytest.mark.parametrize(("fact", "change"), FACTS.items())
async def test_a_fact_is_never_changed_nor_deleted(
    rows: "Rows", app: asyncpg.Connection, owner: asyncpg.Connection, fact: str, change: str
) -> None:
    await rows.add_one_of_each()
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
    rows: "Rows", app: asyncpg.Connection, owner: asyncpg.Connection, table: str
) -> None:
    await rows.add_one_of_each()
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


# --- days and partitions --------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["lead", "attempt", "transfer", "custody_event", "ping"])
async def test_a_row_whose_day_is_not_its_ids_is_refused(rows: "Rows", table: str) -> None:
    await rows.add(table)
    day = (datetime.now(UTC) + timedelta(days=2)).date()
    with pytest.raises(asyncpg.CheckViolationError, match="day_of_the_id"):
        await rows.add(table, day=day)


async def test_an_id_without_a_time_is_refused(
    rows: "Rows",
) -> None:
    timeless = str(uuid_utils.uuid4())
    with pytest.raises(asyncpg.CheckViolationError):
        await rows.add("lead", lead_id=timeless, day=datetime.now(UTC).date())


async def test_a_day_without_a_partition_goes_to_default_raises_the_alarm_and_stays(
    rows: "Rows",
    app: asyncpg.Connection,
) -> None:
    late = str(await app.fetchval("SELECT uuidv7('700 days')"))
    day = await app.fetchval("SELECT lead_day($1)", late)
    strays = "SELECT strays FROM partition_stray WHERE parent = 'lead'"
    before = await app.fetchval(strays)
    await rows.add("lead", lead_id=late)
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
    rows: "Rows", first: str, second_passes: bool
) -> None:
    lead_id = str(uuid_utils.uuid7())
    await rows.add("attempt", lead_id=lead_id, state=first)
    await rows.add("attempt", lead_id=lead_id, buyer_id=OTHER_BUYER)
    if second_passes:
        await rows.add("attempt", lead_id=lead_id)
    else:
        with pytest.raises(asyncpg.UniqueViolationError, match="buyer_id"):
            await rows.add("attempt", lead_id=lead_id)


async def test_a_sale_slot_is_taken_once(
    rows: "Rows",
) -> None:
    lead_id = str(uuid_utils.uuid7())
    await rows.add("sale_slot", lead_id=lead_id, slot=1, attempt_id=str(uuid_utils.uuid7()))
    await rows.add("sale_slot", lead_id=lead_id, slot=2, attempt_id=str(uuid_utils.uuid7()))
    with pytest.raises(asyncpg.UniqueViolationError):
        await rows.add("sale_slot", lead_id=lead_id, slot=1, attempt_id=str(uuid_utils.uuid7()))


@pytest.mark.parametrize(("end", "freed"), [
    ("posting", False), ("unknown", False), ("sold", False), ("rejected", True), ("voided", True),
])  # fmt: skip
async def test_a_sale_slot_is_free_again_only_when_its_attempt_has_ended_without_a_sale(
    rows: "Rows", app: asyncpg.Connection, end: str, freed: bool
) -> None:
    row = await rows.add("attempt", state=end)
    await rows.add("sale_slot", lead_id=row["lead_id"], slot=1, attempt_id=row["attempt_id"])
    for thief in (None, str(uuid_utils.uuid7())):
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


async def test_a_state_does_not_move_against_the_lifecycle(
    rows: "Rows", app: asyncpg.Connection
) -> None:
    row = await rows.add("attempt", state="sold")
    with pytest.raises(asyncpg.CheckViolationError, match="from sold to rejected"):
        await app.execute(
            "UPDATE attempt SET state = 'rejected' WHERE attempt_id = $1", row["attempt_id"]
        )


# --- money and hashes -----------------------------------------------------------------------------


@pytest.mark.parametrize(("credited", "passes"), [(0, True), (20, True), (21, False), (-1, False)])
async def test_no_more_is_credited_than_was_paid(
    rows: "Rows", app: asyncpg.Connection, credited: int, passes: bool
) -> None:
    row = await rows.add("attempt", state="sold", price_micros=20)
    credit = app.execute(
        "UPDATE attempt SET credited_micros = $2 WHERE attempt_id = $1", row["attempt_id"], credited
    )
    if passes:
        assert await credit == "UPDATE 1"
    else:
        with pytest.raises(asyncpg.CheckViolationError):
            await credit


@pytest.mark.parametrize(("table", "row"), [
    ("attempt", {"price_micros": 20, "payout_micros": 17, "fee_micros": 2}),
    ("attempt", {"price_micros": -1, "payout_micros": -1, "fee_micros": 0}),
    ("transfer", {"amount_micros": 0}),
    ("transfer", {"amount_micros": -5}),
    ("transfer", {"debit_account": 1, "credit_account": 1}),
    ("custody_event", {"hash": bytes(32).hex().encode()}),
    ("lead", {"custody_head": b""}),
    ("lead", {"state": "posting"}),
])  # fmt: skip
async def test_a_row_that_cannot_be_true_is_refused(
    rows: "Rows", table: str, row: dict[str, Any]
) -> None:
    await rows.add(table)
    with pytest.raises(asyncpg.CheckViolationError):
        await rows.add(table, **row)


async def test_a_transfer_is_reversed_once_per_part(
    rows: "Rows",
) -> None:
    sale = await rows.add("transfer")
    reversal = {"lead_id": sale["lead_id"], "reverses": sale["transfer_id"]}
    await rows.add("transfer", **reversal, part=1)
    await rows.add("transfer", **reversal, part=2)
    with pytest.raises(asyncpg.UniqueViolationError):
        await rows.add("transfer", **reversal, part=2)


async def test_an_account_of_an_unknown_kind_is_refused(app: asyncpg.Connection) -> None:
    account = "INSERT INTO account (party_id, kind, currency) VALUES (1, $1, 'USD')"
    await app.execute(account, "margin")
    with pytest.raises(asyncpg.NotNullViolationError):
        await app.execute(account, "pocket")
    with pytest.raises(asyncpg.UniqueViolationError):
        await app.execute(account, "margin")


async def test_there_is_one_house_and_it_is_party_1(rows: "Rows", app: asyncpg.Connection) -> None:
    assert await app.fetchval("SELECT id FROM party WHERE kind = 'house'") == 1
    with pytest.raises(asyncpg.UniqueViolationError):
        await rows.add("party", kind="house", key="second")


async def test_periods_do_not_overlap(
    rows: "Rows",
) -> None:
    first, last = datetime(2025, 1, 1).date(), datetime(2025, 2, 1).date()  # noqa: DTZ001
    await rows.add("period", from_day=first, to_day=last)
    await rows.add("period", from_day=last, to_day=last + timedelta(days=28))
    with pytest.raises(asyncpg.ExclusionViolationError):
        await rows.add("period", from_day=first + timedelta(days=3), to_day=last)


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
