"""Documents on the real Postgres: they come to what the ledger says, once, without a gap."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
import uuid_utils

from exchange.core.documents import Document
from exchange.effects.documents import DocumentStore, Fenced, PeriodBooks
from exchange.effects.postgres import Database, connect
from exchange.flows.documents import Asked, NotIssued, cancel
from tests.conftest import run_apart
from tests.effects.sales import PAYOUT, PRICE
from tests.flows.papering import HOUSE, TODAY, Later, days, issued, noon, short, traded

pytestmark = pytest.mark.real

CLAWBACK = PAYOUT // 4
TOMORROW = noon(TODAY + timedelta(days=1))
BOTH = Asked(period=days(), by="Dana")


@pytest.fixture(scope="module")
def books(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Five sales today; one returned in half tomorrow."""
    folder = tmp_path_factory.mktemp("keys")

    async def filled() -> None:
        await traded(database_url, folder, sales=5, returns=[(4, PRICE // 2, CLAWBACK, TOMORROW)])

    run_apart(filled())


@pytest.fixture
async def app(books: None, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database_url, role="exchange_app", application_name="tests")
    yield connection
    await connection.close()


@pytest.fixture
async def database(books: None, database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url, role="exchange_app", size=4)
    yield database
    await database.close()


@pytest.fixture
async def store(database: Database) -> DocumentStore:
    return DocumentStore(database)


async def test_a_dry_run_tells_what_would_be_issued_and_issues_nothing(
    database: Database, app: asyncpg.Connection
) -> None:
    told = await issued(database, app, Asked(period=days(), by="Dana", dry_run=True))
    assert short(told) == [
        ("payout_statement", "s", "USD", 5 * PAYOUT, True),
        ("invoice", "b", "USD", 5 * PRICE, True),
    ]
    assert await app.fetchval("SELECT count(*) FROM document") == 0


async def test_a_period_is_issued_once_and_totals_are_the_ledgers(
    database: Database, app: asyncpg.Connection, store: DocumentStore
) -> None:
    first = await issued(database, app, BOTH)
    assert [one.number[:-4] for one in first] == [f"PS-{_year()}-00", f"INV-{_year()}-00"]
    again = await issued(database, app, BOTH)
    assert [(one.new, one.number) for one in again] == [(False, one.number) for one in first]
    kept = await store.one(first[1].number)
    assert kept is not None
    said = kept.content()
    assert (said["total"], len(said["lines"]), said["due_on"]) == ("50.00", 5, _due(32))
    assert kept.hash == hashlib.sha256(kept.document.content).digest()
    assert sum(map(_micros, (line[-1] for line in said["lines"]))) == 5 * PRICE
    assert said["lines"][0][4] == "R-+13105550000"


async def test_a_later_return_cites_the_invoice_of_its_sale(
    database: Database, app: asyncpg.Connection, store: DocumentStore
) -> None:
    (_, invoice) = await issued(database, app, BOTH)
    later = Asked(period=days(1, 1), by="Dana")
    told = await issued(database, app, later, clock=Later(days=3))
    assert short(told) == [
        ("payout_statement", "s", "USD", -CLAWBACK, True),
        ("credit_memo", "b", "USD", -PRICE // 2, True),
    ]
    kept = await store.one(told[1].number)
    assert kept is not None
    assert kept.content()["cites"] == [[invoice.number, "5.00"]]
    assert kept.content()["lines"][0][5] == invoice.number


async def test_a_period_that_has_not_ended_is_not_issued(
    database: Database, app: asyncpg.Connection
) -> None:
    with pytest.raises(NotIssued, match="issue it after"):
        await issued(database, app, BOTH, clock=Later())


async def test_a_party_that_is_not_there_is_told(
    database: Database, app: asyncpg.Connection
) -> None:
    with pytest.raises(NotIssued, match="no buyer or seller seller:b"):
        await issued(database, app, Asked(period=days(), by="Dana", parties=("seller:b",)))


async def test_days_that_a_document_covers_are_not_covered_again(
    database: Database, app: asyncpg.Connection
) -> None:
    before = await issued(database, app, BOTH)
    wider = await issued(
        database, app, Asked(period=days(-1, 0), by="Dana", parties=("b",)), clock=Later(days=4)
    )
    assert [(one.new, one.number) for one in wider] == [(False, before[1].number)]


async def test_a_transfer_booked_after_its_document_was_issued_is_found(
    database: Database, app: asyncpg.Connection
) -> None:
    before = await issued(database, app, BOTH)
    assert [one.differs_micros for one in before] == [0, 0]
    late = app.transaction()
    await late.start()
    await app.execute(
        "INSERT INTO transfer (transfer_id, lead_id, day, code, debit_account, credit_account,"
        " amount_micros, currency, at) SELECT gen_random_uuid(), lead_id, day, 1, debit_account,"
        " credit_account, 5, currency, at FROM transfer WHERE code = 1 LIMIT 1"
    )
    again = await issued(database, app, Asked(period=days(), by="Dana", dry_run=True))
    await late.rollback()
    assert [one.differs_micros for one in again] == [5, 5]


async def test_what_is_cancelled_may_be_issued_anew(
    database: Database, app: asyncpg.Connection, store: DocumentStore
) -> None:
    (_, invoice) = await issued(database, app, BOTH)
    clock = Later(days=2)
    made = await cancel(invoice.number, by="Dana", store=store, clock=clock, house=HOUSE)
    assert (made.total_micros, made.cites) == (-5 * PRICE, {invoice.number: 5 * PRICE})
    with pytest.raises(NotIssued, match=f"cancelled by {made.number}"):
        await cancel(invoice.number, by="Dana", store=store, clock=clock, house=HOUSE)
    with pytest.raises(NotIssued, match="is a cancellation"):
        await cancel(made.number, by="Dana", store=store, clock=clock, house=HOUSE)
    (_, anew) = await issued(database, app, BOTH)
    assert anew.new
    assert anew.number > invoice.number


async def test_two_who_issue_at_once_issue_each_document_once(
    database: Database, app: asyncpg.Connection, store: DocumentStore, database_url: str
) -> None:
    listed = await store.listing(kind="invoice", limit=1)
    await cancel(listed[0].number, by="Dana", store=store, clock=Later(days=2), house=HOUSE)
    readers = [
        await connect(database_url, role="exchange_app", application_name="tests") for _ in range(4)
    ]
    runs = await asyncio.gather(*(issued(database, one, BOTH) for one in readers))
    new = [one.number for run in runs for one in run if one.new]
    assert len(new) == 1
    for one in readers:
        await one.close()
    await _without_a_gap(app)


async def test_a_run_that_fails_half_way_takes_no_number(
    database: Database, app: asyncpg.Connection, store: DocumentStore
) -> None:
    last = await app.fetchval("SELECT last FROM document_number WHERE kind = 'invoice'")
    before = await app.fetchval("SELECT count(*) FROM document")

    def made(last: Any, in_force: Any) -> list[Document]:
        del in_force
        good = _document(serial=last["invoice"] + 1)
        return [good, msgspec.structs.replace(good, document_id=str(uuid_utils.uuid7()))]

    with pytest.raises(Fenced, match="does not follow"):
        await store.issue(_year(), [3], made, by="Dana")
    assert await app.fetchval("SELECT last FROM document_number WHERE kind = 'invoice'") == last
    assert await app.fetchval("SELECT count(*) FROM document") == before
    await _without_a_gap(app)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("serial = serial + 2", "does not follow"),
        ("serial = serial", "does not follow"),
        ("serial = serial + 1", "covers days"),
        (
            "serial = serial + 1, since = since - interval '9 days',"
            " until = until - interval '9 days', content = 'x'",
            "hash_of_content",
        ),
    ],
)
async def test_the_database_refuses_a_document_that_breaks_the_row(
    database: Database, app: asyncpg.Connection, change: str, said: str
) -> None:
    await issued(database, app, BOTH)
    columns = (
        "kind, year, party_id, currency, first_day, last_day, zone, total_micros, line_count,"
        " issued_on, due_on, hash, issued_by, serial, since, until, content"
    )
    given = dict(part.split(" = ") for part in change.split(", "))
    values = ", ".join(given.get(column, column) for column in columns.split(", "))
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match=said):
        await app.execute(
            f"INSERT INTO document (document_id, {columns})"
            f" SELECT '{uuid4()}', {values} FROM document"
            " WHERE kind = 'invoice' ORDER BY serial DESC LIMIT 1"
        )


@pytest.mark.parametrize("table", ["document", "payment", "payment_match", "payment_unmatch"])
async def test_papers_and_payments_never_change(
    books: None, database: Database, app: asyncpg.Connection, database_url: str, table: str
) -> None:
    await issued(database, app, BOTH)
    owner = await connect(database_url, role="exchange_owner", application_name="tests")
    column = "issued_by" if table == "document" else "by"
    for statement in (f"UPDATE {table} SET {column} = 'x'", f"DELETE FROM {table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement)
        if await app.fetchval(f"SELECT count(*) FROM {table}"):
            with pytest.raises(asyncpg.RestrictViolationError):
                await owner.execute(statement)
    await owner.close()


@pytest.mark.parametrize("statement", [
    "UPDATE document_number SET last = last + 2 WHERE kind = 'invoice'",
    "UPDATE document_number SET last = last - 1 WHERE kind = 'invoice'",
    "UPDATE document_number SET last = last + 1 WHERE kind = 'invoice'",
    "INSERT INTO document_number (kind, year, last) VALUES ('invoice', 2031, 5)",
])  # fmt: skip
async def test_a_number_is_neither_skipped_nor_taken_without_a_document(
    database: Database, app: asyncpg.Connection, statement: str
) -> None:
    await issued(database, app, BOTH)
    with pytest.raises(asyncpg.RestrictViolationError):
        await app.execute(statement)


async def test_a_party_sees_its_own_papers_alone(
    database: Database, app: asyncpg.Connection, database_url: str
) -> None:
    await issued(database, app, BOTH)
    for party, sees in ((3, {"b"}), (2, {"s"}), (4, set()), (1, {"b", "s"})):
        reader = await connect(
            database_url, role="exchange_reader", application_name="tests", party_id=party
        )
        rows = await reader.fetch(
            "SELECT DISTINCT p.key FROM document d JOIN party p ON p.id = d.party_id"
        )
        assert {row["key"] for row in rows} == sees
        await reader.close()


async def test_documents_add_up_to_the_ledger_whatever_was_issued(
    database: Database, app: asyncpg.Connection, tmp_path: Path
) -> None:
    """By account: all that is in force, and what a dry run of all days would add."""
    del tmp_path
    await issued(database, app, BOTH)
    await issued(database, app, Asked(period=days(1, 1), by="Dana"), clock=Later(days=3))
    async with app.transaction(isolation="repeatable_read", readonly=True):
        moved: dict[int, int] = {}
        async for party, _, line in PeriodBooks(app).lines(days(-3, 3), [2, 3, 4]):
            moved[party] = moved.get(party, 0) + line.amount_micros
    rows = await app.fetch(
        "SELECT party_id, sum(total_micros)::bigint AS total FROM document GROUP BY party_id"
    )
    assert {row["party_id"]: row["total"] for row in rows} == moved


def _document(serial: int) -> Document:
    period, content = days(-9, -9), b'{"total":"1.00"}'
    return Document(
        document_id=str(uuid_utils.uuid7()), kind="invoice", year=_year(), serial=serial,
        party_id=3, currency="USD", first_day=period.first, last_day=period.last, zone="UTC",
        since=period.since, until=period.until, total_micros=1, line_count=1,
        issued_on=TODAY, due_on=TODAY, cites={}, cancels=None, content=content, issued_by="Dana",
    )  # fmt: skip


async def _without_a_gap(app: asyncpg.Connection) -> None:
    gaps = await app.fetch(
        "SELECT kind, year FROM document GROUP BY kind, year"
        " HAVING count(*) <> max(serial) OR min(serial) <> 1"
    )
    assert gaps == []


def _year() -> int:
    return Later(days=2).now().year


def _due(after: int) -> str:
    return str(TODAY + timedelta(days=after))


def _micros(text: str) -> int:
    whole, _, rest = text.partition(".")
    return int(whole) * 1_000_000 + int(rest.ljust(6, "0"))
