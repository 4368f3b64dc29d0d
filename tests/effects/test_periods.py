"""The lock of a period, which the database keeps whoever writes: what it refuses, what it lets
pass, and that no race gets around it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from exchange.core.periods import MARGIN, MOMENT
from exchange.core.statements import Period as Days
from exchange.effects.postgres import connect
from tests.effects.accounting import add_accounts, book, closed, dated, opened
from tests.effects.bookkeeping import REGISTRY, transferred
from tests.effects.sales import add_parties

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
async def parties(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await add_parties(connection)
    await connection.execute(REGISTRY)
    await add_accounts(connection)
    await connection.close()


@pytest.fixture(params=["exchange_app", "exchange_owner"])
async def anybody(
    request: pytest.FixtureRequest, database_url: str
) -> AsyncIterator[asyncpg.Connection]:
    """A connection of either role, whose work is rolled back."""
    connection = await connect(database_url, role=request.param, application_name="tests")
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@pytest.fixture
async def undone(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    transaction = owner.transaction()
    await transaction.start()
    yield owner
    await transaction.rollback()


async def refused(connection: asyncpg.Connection, at: datetime) -> bool:
    try:
        async with connection.transaction():
            await book(connection, at)
    except asyncpg.RestrictViolationError:
        return True
    return False


# --- what is locked -------------------------------------------------------------------------------


async def test_nothing_is_booked_in_a_closed_period_nor_before_it(
    anybody: asyncpg.Connection,
) -> None:
    first, since, until = await opened(anybody)
    _, _, end = await opened(anybody)
    await closed(anybody, first)
    assert await refused(anybody, since)
    assert await refused(anybody, until - MOMENT)
    assert await refused(anybody, since - timedelta(days=400))
    assert not await refused(anybody, until)
    assert not await refused(anybody, end)
    assert not await refused(anybody, datetime.now(UTC))


async def test_an_open_period_is_booked_in(anybody: asyncpg.Connection) -> None:
    _, since, _ = await opened(anybody)
    assert not await refused(anybody, since)


async def test_a_partition_is_no_way_around_the_lock(undone: asyncpg.Connection) -> None:
    first, since, _ = await opened(undone)
    await closed(undone, first)
    row = dated(since)
    with pytest.raises(asyncpg.RestrictViolationError):
        await undone.execute(
            "INSERT INTO transfer_default (transfer_id, lead_id, day, code, debit_account,"
            " credit_account, amount_micros, currency, at)"
            " VALUES ($1, $2, lead_day($2), 20, 1, 2, 5, 'USD', $3)",
            *(row.transfer_id, row.lead_id, since),
        )


async def test_a_period_closes_when_it_is_settled_after_the_margin(
    undone: asyncpg.Connection,
) -> None:
    period_id, _, _ = await opened(undone)
    shut = "UPDATE period SET closed_at = now(), closed_by = 'x' WHERE id = $1"
    with pytest.raises(asyncpg.RestrictViolationError, match="settled"):
        async with undone.transaction():
            await undone.execute(shut, period_id)
    await undone.fetchval("SELECT settle_period($1)", period_id)
    await undone.execute(shut, period_id)


async def test_a_period_that_is_not_over_for_long_does_not_close(
    undone: asyncpg.Connection,
) -> None:
    today = datetime.now(UTC).date()
    last = await undone.fetchval("SELECT max(to_day) FROM period")
    assert last is None
    period_id = await undone.fetchval(
        "INSERT INTO period (from_day, to_day) VALUES ($1::date - 9, $1::date + 1) RETURNING id",
        today,
    )
    with pytest.raises(asyncpg.RestrictViolationError, match="after its end"):
        await closed(undone, period_id)


async def test_periods_close_in_their_order(undone: asyncpg.Connection) -> None:
    await opened(undone)
    second, _, _ = await opened(undone)
    with pytest.raises(asyncpg.RestrictViolationError, match="before this one"):
        await closed(undone, second)


@pytest.mark.parametrize("days", [1, -1])
async def test_periods_leave_no_gap_and_do_not_overlap(
    undone: asyncpg.Connection, days: int
) -> None:
    _, _, until = await opened(undone)
    first = until.date() + timedelta(days=days)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await undone.execute(
            "INSERT INTO period (from_day, to_day) VALUES ($1, $1::date + 31)", first
        )


async def test_periods_have_the_days_of_one_zone(undone: asyncpg.Connection) -> None:
    await opened(undone)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await opened(undone, zone="America/New_York")


@pytest.mark.parametrize(
    "change", ["closed_at = NULL, closed_by = NULL", "closed_by = 'me'", "to_day = to_day + 1"]
)
async def test_a_closed_period_stays_as_it_is(undone: asyncpg.Connection, change: str) -> None:
    period_id, _, _ = await opened(undone)
    await closed(undone, period_id)
    with pytest.raises(asyncpg.RestrictViolationError):
        await undone.execute(f"UPDATE period SET {change} WHERE id = $1", period_id)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Europe/London"])
async def test_a_period_has_the_moments_that_statements_have(
    undone: asyncpg.Connection, zone: str
) -> None:
    _, since, until = await opened(undone, 90, zone=zone)
    days = Days(
        first=since.astimezone(ZoneInfo(zone)).date(),
        last=(until - MOMENT).astimezone(ZoneInfo(zone)).date(),
        zone=ZoneInfo(zone),
    )
    assert (days.since, days.until) == (since, until)


async def test_the_margin_is_one_in_code_and_database(owner: asyncpg.Connection) -> None:
    assert await owner.fetchval("SELECT closing_margin()") == MARGIN
    trigger = await owner.fetchval(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger"
        " WHERE tgname = 'not_in_a_closed_period' AND tgrelid = 'transfer'::regclass"
    )
    assert "'00:15:00'::interval" in trigger


# --- races ----------------------------------------------------------------------------------------


async def blocked(watcher: asyncpg.Connection, pid: int) -> None:
    """Until another connection waits for a lock: each look is a round trip, so nothing spins."""
    while not await watcher.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):
        pass


async def test_a_late_transfer_under_way_is_waited_for_by_who_closes(
    app: asyncpg.Connection, owner: asyncpg.Connection, database_url: str
) -> None:
    period_id, since, _ = await opened(app)
    await app.fetchval("SELECT settle_period($1)", period_id)
    writing = owner.transaction()
    await writing.start()
    await book(owner, since)
    closing = asyncio.create_task(closed(app, period_id))
    watcher = await asyncpg.connect(database_url)
    await blocked(watcher, app.get_server_pid())
    await watcher.close()
    await writing.commit()
    await closing
    assert await app.fetchval("SELECT count(*) FROM transfer WHERE at = $1", since) == 1
    assert await refused(owner, since)


async def test_a_late_transfer_that_comes_while_a_period_closes_is_refused(
    app: asyncpg.Connection, owner: asyncpg.Connection, database_url: str
) -> None:
    period_id, since, _ = await opened(app)
    await app.fetchval("SELECT settle_period($1)", period_id)
    closing = app.transaction()
    await closing.start()
    await app.execute(
        "UPDATE period SET closed_at = now(), closed_by = 'x' WHERE id = $1", period_id
    )
    writing = asyncio.create_task(refused(owner, since))
    watcher = await asyncpg.connect(database_url)
    await blocked(watcher, owner.get_server_pid())
    await watcher.close()
    await closing.commit()
    assert await writing


async def test_a_transfer_of_just_now_is_waited_for_before_a_period_counts_as_settled(
    app: asyncpg.Connection, owner: asyncpg.Connection
) -> None:
    """Such a one is written without a look at the periods, so this is what keeps it out."""
    period_id, _, _ = await opened(app)
    writing = owner.transaction()
    await writing.start()
    await transferred(owner, dated(datetime.now(UTC)))
    with pytest.raises(asyncpg.LockNotAvailableError):
        await app.fetchval("SELECT settle_period($1)", period_id)
    await writing.rollback()
    assert await app.fetchval("SELECT settle_period($1)", period_id) is not None


# --- what is kept of a period ---------------------------------------------------------------------

KEPT = {
    "period_balance": "VALUES ($1, 1, 0, 0, 0, DEFAULT, 0)",
    "period_waiver": "(period_id, line, found, by, why) VALUES ($1, 'documents', 'f', 'me', 'why')",
    "period_accrual": "VALUES ($1, 1, 'USD', 0, 0, 0, 0, 0, 0, 0, 0, 0)",
    "book_entry": "(entry_id, key, kind, party_id, currency, amount_micros, by, why, at)"
    " VALUES (uuidv7(), 'k' || $1::integer, 'adjustment', 3, 'USD', 5, 'me', 'why', now())",
    "price_correction": "SELECT uuidv7(), 'k' || $1::integer, l, lead_day(l), uuidv7(), 5, 0, 'me',"
    " 'why', now() FROM uuidv7() l",
}


@pytest.mark.parametrize("fact", KEPT)
@pytest.mark.parametrize("change", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {}"])
async def test_what_is_kept_of_a_period_is_never_changed(
    undone: asyncpg.Connection, fact: str, change: str
) -> None:
    period_id, _, _ = await opened(undone)
    await undone.execute(f"INSERT INTO {fact} {KEPT[fact]}", period_id)
    column = await undone.fetchval(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum = 1", fact
    )
    with pytest.raises(asyncpg.RestrictViolationError):
        await undone.execute(change.format(fact, f"{column} = {column}"))


@pytest.mark.parametrize("line", ["lock", "rollups", "proof"])
async def test_what_no_reason_makes_good_is_not_waived_by_the_database_either(
    undone: asyncpg.Connection, line: str
) -> None:
    period_id, _, _ = await opened(undone)
    with pytest.raises(asyncpg.CheckViolationError):
        await undone.execute(
            "INSERT INTO period_waiver (period_id, line, found, by, why)"
            " VALUES ($1, $2, 'f', 'me', 'why')",
            *(period_id, line),
        )
