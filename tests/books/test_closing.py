"""Two months of trade in three currencies, closed one after the other: what stands against it, what
it closes with, and that none of it changes afterwards."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from exchange.core.periods import PeriodRow
from exchange.effects.clock import Clock
from exchange.effects.periods import Periods
from exchange.effects.postgres import Database, connect
from exchange.effects.proof import proven
from exchange.effects.rollups import Rollups
from exchange.effects.statements import PartyBooks
from exchange.flows.periods import Accounting, NotDone, Shown, Unknown
from exchange.flows.rollups import roll_up
from exchange.flows.statements import statements_of
from tests.books.trade import Trade, trade
from tests.conftest import run_apart

pytestmark = pytest.mark.real
SEPTEMBER, OCTOBER = (date(2025, 9, 1), date(2025, 9, 30)), (date(2025, 10, 1), date(2025, 10, 31))


@pytest.fixture(scope="module", autouse=True)
def traded(database_url: str) -> None:
    async def filled() -> None:
        await trade(database_url, Trade(sales=900, sellers=4, buyers=6, first=SEPTEMBER[0]))

    run_apart(filled())


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url, role="exchange_app", size=2)
    yield database
    await database.close()


@pytest.fixture
def accounting(database: Database) -> Accounting:
    return Accounting(database, clock=Clock())


@pytest.fixture
async def months(accounting: Accounting) -> list[PeriodRow]:
    made = [await accounting.open(*days, zone=None, by="tests") for days in (SEPTEMBER, OCTOBER)]
    return [period for period, _ in made]


async def rolled(database: Database) -> int:
    return await roll_up(Rollups(database), datetime.now(UTC), tick=lambda _done, _of: None)


async def closed(accounting: Accounting, period: PeriodRow) -> Shown:
    why = "papers are another suite's"
    shown, _ = await accounting.close(period.id, waived=["documents"], why=why, by="tests")
    assert [waiver.line for waiver in shown.waivers] == ["documents"]
    return shown


# In the order in which they stand: a period closes once.


async def test_a_period_that_is_there_is_not_opened_twice(
    accounting: Accounting, months: list[PeriodRow]
) -> None:
    again, made = await accounting.open(*OCTOBER, zone=None, by="tests")
    assert (again, made) == (months[1], False)
    assert [row.id for row in await accounting.listing()] == [row.id for row in months]


@pytest.mark.parametrize(
    ("first", "last", "zone", "said"),
    [
        (date(2025, 12, 1), date(2025, 12, 31), None, "begins on 2025-11-01"),
        (None, date(2025, 10, 30), None, "before it begins"),
        (None, date(2025, 11, 30), "America/New_York", "the days of UTC"),
    ],
)
async def test_days_that_do_not_follow_are_refused_in_a_sentence(
    accounting: Accounting,
    months: list[PeriodRow],
    first: date | None,
    last: date,
    zone: str | None,
    said: str,
) -> None:
    with pytest.raises(NotDone, match=said):
        await accounting.open(first, last, zone=zone, by="tests")


async def test_a_month_whose_days_are_not_rolled_up_does_not_close(
    accounting: Accounting, months: list[PeriodRow]
) -> None:
    with pytest.raises(NotDone) as refused:
        await accounting.close(months[0].id, by="tests")
    assert "exchange ledger rollup" in refused.value.problems["rollups"]


@pytest.mark.parametrize(
    ("waived", "why", "said"),
    [
        (["proof"], "because", "no reason makes proof good"),
        (["lock"], "because", "no reason makes lock good"),
        (["weather"], "because", "there is no line weather"),
        (["payments"], "", "say why"),
    ],
)
async def test_what_cannot_be_waived_is_refused(
    accounting: Accounting, months: list[PeriodRow], waived: list[str], why: str, said: str
) -> None:
    with pytest.raises(NotDone, match=said):
        await accounting.close(months[0].id, waived=waived, why=why, by="tests")


async def test_the_later_month_waits_for_the_earlier(
    accounting: Accounting, months: list[PeriodRow]
) -> None:
    with pytest.raises(NotDone, match="before it, is open"):
        await accounting.close(months[1].id, by="tests")


async def test_balances_are_the_same_with_and_without_rolled_up_days(
    database: Database, months: list[PeriodRow]
) -> None:
    periods = Periods(database)
    moments = [SEPTEMBER[0] + timedelta(days=days) for days in range(-1, 70, 7)]
    ends = [datetime(day.year, day.month, day.day, 17, 30, tzinfo=UTC) for day in moments]
    before = [await periods.balances(end) for end in ends]
    assert await rolled(database) > 60
    assert [await periods.balances(end) for end in ends] == before
    assert await rolled(database) == 0


async def test_two_months_close_and_each_opens_with_what_the_one_before_closed_with(
    accounting: Accounting, months: list[PeriodRow], database_url: str
) -> None:
    september = await closed(accounting, months[0])
    october = await closed(accounting, months[1])
    for shown in (september, october):
        assert shown.period.closed_by == "tests"
        sums = Counter[str]()
        for one in shown.balances:
            assert one.closing_micros == one.opening_micros + one.debit_micros - one.credit_micros
            sums[one.currency] += one.closing_micros
        assert sums == {"USD": 0, "CAD": 0, "GBP": 0}
    before = {(one.party, one.kind, one.currency): one.closing_micros for one in september.balances}
    for one in october.balances:
        assert before.get((one.party, one.kind, one.currency), 0) == one.opening_micros
    await holds(database_url)


async def test_what_open_windows_are_expected_to_cost_is_set_aside_and_taken_back(
    accounting: Accounting, months: list[PeriodRow]
) -> None:
    september, october = [await accounting.show(month.id) for month in months]
    for shown in (september, october):
        accrued = Counter[str]()
        for one in shown.accrued:
            assert 0 < one.amount_micros < one.loss_micros < one.open_micros
            accrued[one.currency] += one.amount_micros
        reserve = {b.currency: -b.closing_micros for b in shown.balances if b.kind == "reserve"}
        assert reserve == accrued
        assert set(reserve) == {"USD", "CAD", "GBP"}
    taken_back = {b.currency: b.debit_micros for b in october.balances if b.kind == "reserve"}
    set_aside = {b.currency: b.credit_micros for b in september.balances if b.kind == "reserve"}
    assert taken_back == set_aside


async def test_a_closed_month_is_closed_again_without_a_word(
    accounting: Accounting, months: list[PeriodRow]
) -> None:
    shown, now = await accounting.close(months[0].id, by="somebody else")
    assert (shown.period.closed_by, now) == ("tests", False)


async def test_the_statement_of_a_closed_month_closes_with_its_balances(
    accounting: Accounting, months: list[PeriodRow], database_url: str
) -> None:
    shown = await accounting.show(months[0].id)
    connection = await connect(
        database_url, role="exchange_reader", party_id=1, application_name="tests"
    )
    books = PartyBooks(connection)
    for party, kind, sign in (("b0", "receivable", 1), ("s1", "payable", -1)):
        for told in await statements_of(party, *SEPTEMBER, books=books, zone="UTC"):
            (balance,) = (
                sign * one.closing_micros
                for one in shown.balances
                if (one.party, one.kind, one.currency) == (party, kind, told.currency)
            )
            assert told.closing_micros == balance
    await connection.close()


async def test_nothing_is_booked_in_a_closed_month(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    with pytest.raises(asyncpg.RestrictViolationError, match="are closed"):
        await connection.execute(
            "INSERT INTO transfer (transfer_id, lead_id, day, code, debit_account, credit_account,"
            " amount_micros, currency, at)"
            " SELECT gen_random_uuid(), lead_id, day, 20, debit_account, credit_account, 5,"
            " currency, at FROM transfer WHERE at < '2025-10-30' LIMIT 1"
        )
    await connection.close()


async def test_there_is_no_period_that_was_never_opened(accounting: Accounting) -> None:
    with pytest.raises(Unknown):
        await accounting.check(999)


async def holds(database_url: str) -> None:
    connection = await connect(
        database_url, role="exchange_reader", party_id=1, application_name="tests"
    )
    found = await proven(connection)
    await connection.close()
    assert [check for check in found.checks if check.wrong] == []
