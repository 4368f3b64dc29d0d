"""What each role of the database may do, and which rows a party may see."""

from typing import TYPE_CHECKING

import asyncpg
import pytest

from exchange.effects.postgres import connect

if TYPE_CHECKING:
    from tests.effects.conftest import Rows

pytestmark = pytest.mark.real

SELLER, OTHER_SELLER, BUYER, OTHER_BUYER = 11, 12, 21, 22  # as in conftest


async def test_nobody_may_truncate_and_two_roles_may_delete(owner: asyncpg.Connection) -> None:
    granted = await owner.fetch(
        "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants"
        " WHERE grantee <> 'exchange_owner' AND privilege_type IN ('DELETE', 'TRUNCATE', 'TRIGGER')"
        " AND table_schema = 'public' AND table_name <> 'alembic_version'"
    )
    assert {tuple(row) for row in granted} == {
        ("exchange_pruner", "idem", "DELETE"),
        ("exchange_sealed", "lead_private", "DELETE"),
        ("exchange_sealed", "person_key", "DELETE"),
    }


async def test_the_app_changes_only_the_columns_of_a_projection_that_move(
    rows: "Rows",
    app: asyncpg.Connection,
) -> None:
    row = await rows.add("attempt")
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


async def test_the_app_seals_a_lead_but_cannot_read_it(
    rows: "Rows", app: asyncpg.Connection, sealed: asyncpg.Connection
) -> None:
    lead_id = (await rows.add("lead_private"))["lead_id"]
    for statement in ("SELECT sealed FROM lead_private", "DELETE FROM lead_private",
                      "UPDATE lead_private SET sealed = 'x'"):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement)
    key = "SELECT wrapped_dek FROM lead_private WHERE lead_id = $1"
    assert await app.fetchval(key, lead_id) == b"k"
    query = "SELECT sealed FROM lead_private WHERE lead_id = $1"
    assert await sealed.fetchval(query, lead_id) == b"s"
    assert (
        await sealed.execute("DELETE FROM lead_private WHERE lead_id = $1", lead_id) == "DELETE 1"
    )


async def test_what_is_erased_keeps_neither_key_nor_record(
    rows: "Rows", sealed: asyncpg.Connection
) -> None:
    lead_id = (await rows.add("lead_private"))["lead_id"]
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
    rows: "Rows",
    database_url: str,
    party: int | None,
    sees: dict[str, int],
) -> None:
    lead_id = await rows.add_one_of_each()
    reader = await connect(
        database_url, role="exchange_reader", application_name="tests", party_id=party
    )
    try:
        for table, expected in sees.items():
            key = {"ping": "ping_id", "contract": "$1::uuid"}.get(table, "lead_id")
            count = await reader.fetchval(f"SELECT count(*) FROM {table} WHERE {key} = $1", lead_id)
            assert count == expected, table
    finally:
        await reader.close()


@pytest.mark.parametrize(
    "table", ["lead_private", "secret", "api_key", "person_key", "lead_default"]
)
async def test_a_reader_has_no_way_to_secrets(database_url: str, table: str) -> None:
    reader = await connect(
        database_url, role="exchange_reader", application_name="tests", party_id=1
    )
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetch(f"SELECT * FROM {table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("DELETE FROM lead")
    finally:
        await reader.close()
