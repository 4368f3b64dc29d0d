"""A buyer's sheet of returns on the real Postgres: the preview says what booking then does, booking
twice changes nothing, and nothing of the sheet's persons stays anywhere."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from time import perf_counter
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.core.records import AttemptRow
from exchange.core.return_sheet import Flag
from exchange.core.sheet_words import column_word, days_word, reason_word
from exchange.effects.postgres import DatabaseDown
from exchange.effects.proof import proven
from exchange.effects.reconciliation import Sales
from exchange.effects.return_sheets import ReturnSheets
from exchange.effects.vault import Vault
from exchange.flows.return_sheet import CannotImport, SheetAsked, SheetDone, SheetReturns
from tests.effects.sales import BUYER, new_id
from tests.flows.returning import PAYOUT, PRICE, Trade, terms, trading

pytestmark = pytest.mark.real
VAULT = Vault({1: bytes(32)})
HEADER = ("Sale ID", "Ref", "Phone", "Email", "Date", "Reason", "Call log")
AGREED = {"reasons": {"wrong_person": {"to_person": False}, "fraud": {"to_person": True}}}


@pytest.fixture
async def trade(database_url: str) -> AsyncIterator[Trade]:
    async with trading(database_url) as trade:
        yield trade
        assert (await proven(trade.admin)).wrong == 0  # whatever a test did, the books hold


def hashed(kind: str, plain: str) -> tuple[bytes, ...]:
    return (bytes.fromhex(VAULT.person(kind, plain)[1]),)


def flow(trade: Trade) -> SheetReturns:
    return SheetReturns(
        returns=trade.returns,
        sheets=ReturnSheets(trade.database),
        partners=Sales(trade.database),
        clock=trade.clock,
        hashed=hashed,
        tick=lambda *_: None,
    )


async def brought(
    trade: Trade, *lines: Any, header: tuple[str, ...] = HEADER, **asked: Any
) -> SheetDone:
    """What a sheet of these lines comes to."""
    rows = iter([(1, header), *enumerate(lines, 2)])
    given = {"buyer": "b", "by": "tests", "zone": "UTC"} | asked
    return await flow(trade).bring_in(SheetAsked(**given), rows)


def line(sale: AttemptRow, reason: str = "wrong number", log: str = "CL-1") -> tuple[Any, ...]:
    return (sale.attempt_id, "", "", "", "", reason, log)


def decided(done: SheetDone) -> list[tuple[Any, ...]]:
    return [
        (one.line, one.state, one.rule, one.twin_of, one.case.credit_micros if one.case else 0)
        for one in done.lines
    ]


async def cases(trade: Trade) -> int:
    return int(await trade.admin.fetchval("SELECT count(*) FROM return_case"))


def fresh_phone() -> str:
    return "+1310" + str(2_000_000 + int(token_hex(4), 16) % 7_999_999)


# --- preview and booking --------------------------------------------------------------------------


async def test_a_preview_decides_as_booking_does_and_writes_nothing(trade: Trade) -> None:
    agreed = terms(**AGREED, max_count=3)
    sales = await trade.sold(await trade.contract(agreed), 6)
    sheet = [
        line(sales[0]),
        line(sales[1], "fake lead"),
        line(sales[2], log=""),
        line(sales[0]),  # the same again
        line(sales[0], "fraud"),  # and otherwise
        line(sales[3]),
        line(sales[4]),  # one too many
        line(sales[5], "not interested"),
    ]
    before = await cases(trade)
    foreseen = await brought(trade, *sheet)
    assert await cases(trade) == before
    assert decided(foreseen) == [
        (2, "granted", "evidence_enough", None, PRICE),
        (3, "referred", "reason_to_person", None, 0),
        (4, "denied", "evidence_missing", None, 0),
        (5, "granted", "evidence_enough", 2, PRICE),
        (6, "denied", "already_returned", None, 0),
        (7, "granted", "evidence_enough", None, PRICE),
        (8, "denied", "limit_reached", None, 0),
        (9, "denied", "reason_not_agreed", None, 0),
    ]
    [total] = foreseen.totals
    assert (total.lines, total.credit_micros, total.before_micros) == (2, 2 * PRICE, 0)
    assert total.clawback_micros == 2 * (PAYOUT * 8 // 10)
    assert foreseen.needs_a_person == 1
    booked = await brought(trade, *sheet, book=True)
    assert decided(booked) == decided(foreseen)
    assert (await trade.moved(sales[0]))["buyer.receivable"] == 0
    assert (await trade.moved(sales[4]))["buyer.receivable"] == PRICE


async def test_the_same_sheet_again_changes_nothing(trade: Trade) -> None:
    sales = await trade.sold(await trade.contract(terms(**AGREED)), 3)
    sheet = [line(sales[0]), line(sales[1], "fraud"), line(sales[2], log="")]
    first = await brought(trade, *sheet, book=True)
    count, moved = await cases(trade), await trade.moved(sales[0])
    for book in (True, False):
        again = await brought(trade, *sheet, book=book)
        assert decided(again) == decided(first)
        assert all(one.replayed for one in again.lines)
        [total] = again.totals
        assert (total.credit_micros, total.before_micros) == (PRICE, PRICE)
    assert (await cases(trade), await trade.moved(sales[0])) == (count, moved)
    with_evidence = await brought(trade, line(sales[2], log="CL-9"), book=True)
    assert with_evidence.lines[0].state == "granted"  # more evidence is another claim


async def test_a_return_made_by_the_api_is_the_sheets_too(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    case = (await trade.asked(sale)).case
    [one] = (await brought(trade, line(sale), book=True)).lines
    assert (one.replayed, one.case) == (True, case)


async def test_one_sheet_imported_twice_at_once_is_booked_once(trade: Trade) -> None:
    sales = await trade.sold(await trade.contract(terms(**AGREED, max_count=4)), 6)
    sheet, before = [line(sale) for sale in sales], await cases(trade)
    one, other = await asyncio.gather(*(brought(trade, *sheet, book=True) for _ in range(2)))
    assert decided(one) == decided(other)
    assert [one.counts["granted"], await cases(trade) - before] == [4, 6]
    pairs = zip(one.lines, other.lines, strict=True)
    assert all(first.replayed != second.replayed for first, second in pairs)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    plan=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["wrong number", "fraud", "dup", "spanish"])),
        min_size=1,
        max_size=9,
    ),
    most=st.integers(0, 4),
)
async def test_whatever_the_sheet_its_preview_is_its_booking(
    database_url: str, plan: list[tuple[int, str]], most: int
) -> None:
    agreed = terms(
        reasons={
            "wrong_person": {"to_person": False, "max_count": 2},
            "fraud": {"to_person": True},
            "duplicate": {"credit_percent": 50, "to_person": False, "evidence": []},
        },
        max_count=most,
        trusted={"max_count": 1},
    )
    async with trading(database_url) as trade:
        sales = await trade.sold(await trade.contract(agreed), 5)
        sheet = [line(sales[number], reason) for number, reason in plan]
        foreseen = await brought(trade, *sheet)
        booked = await brought(trade, *sheet, book=True)
        assert decided(booked) == decided(foreseen)
        assert booked.totals == foreseen.totals


async def test_a_database_that_goes_away_leaves_the_rest_undone_and_says_so(
    trade: Trade, monkeypatch: pytest.MonkeyPatch
) -> None:
    sales = await trade.sold(await trade.contract(terms()), 3)
    sheet, ask, asked = [line(sale) for sale in sales], trade.returns.ask, []

    async def until_it_goes(asking: Any) -> Any:
        asked.append(asking)
        if len(asked) > 1:
            raise DatabaseDown("gone")
        return await ask(asking)

    monkeypatch.setattr(trade.returns, "ask", until_it_goes)
    done = await brought(trade, *sheet, book=True)
    assert [one.rule for one in done.lines] == ["evidence_enough", "not_done", "not_done"]
    assert (len(asked), done.needs_a_person) == (2, 2)
    monkeypatch.undo()
    again = await brought(trade, *sheet, book=True)
    assert [one.replayed for one in again.lines] == [True, False, False]


# --- matching -------------------------------------------------------------------------------------


async def test_a_line_is_found_by_id_lead_reference_and_person(trade: Trade) -> None:
    contract = await trade.contract(terms())
    phone, ref, today = fresh_phone(), f"R-{new_id()}", trade.clock.now().date()
    of_phone = "\\x" + VAULT.person("phone", phone)[1]
    [one], [two] = await trade.sold(contract), await trade.sold(contract, buyer_ref=ref)
    [three] = await trade.sold(contract, consumer=of_phone)
    why = ("wrong number", "CL-1")
    done = await brought(
        trade,
        (one.lead_id, "", "", "", "", *why),
        ("", ref, "", "", "", *why),
        ("", "", phone.removeprefix("+1"), "", today.isoformat(), *why),
        ("", "", phone, "", (today - timedelta(days=9)).isoformat(), *why),
        ("", "", phone, "", "", *why),
        ("", "", phone, "", "03/04/2026", *why),
        (new_id(), "", "", "", "", *why),
        (one.lead_id, "", phone, "", "", *why),
    )
    assert [one.case.attempt_id for one in done.lines if one.case] == [
        *(one.attempt_id, two.attempt_id, three.attempt_id)
    ]
    assert [one.matched_by for one in done.lines[:3]] == ["id", "reference", "person"]
    flags = [Flag.NO_SALE, Flag.NO_DAY, Flag.UNREAD_DAY, Flag.NO_SALE, Flag.CONTRADICTORY]
    assert [one.flag for one in done.lines[3:]] == flags


async def test_two_sales_of_one_person_on_one_day_are_not_chosen_between(trade: Trade) -> None:
    phone, today = fresh_phone(), trade.clock.now().date().isoformat()
    of_phone = "\\x" + VAULT.person("phone", phone)[1]
    await trade.sold(await trade.contract(terms()), 2, consumer=of_phone)
    [one] = (await brought(trade, ("", "", phone, "", today, "dup", ""))).lines
    assert one.flag is Flag.SEVERAL_SALES


async def test_another_buyers_sale_is_no_sale(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    [one] = (await brought(trade, line(sale), buyer="c", book=True)).lines
    assert one.flag is Flag.NO_SALE


# --- what is learnt -------------------------------------------------------------------------------


async def test_what_a_buyers_words_mean_is_said_once(trade: Trade) -> None:
    sales = await trade.sold(await trade.contract(terms(reasons=["invalid_phone"])), 2)
    header, log = ("Nr", "Mal", "Beleg"), "CL-1"
    sheet = [(one.attempt_id, "kaputt", log) for one in sales]
    taught = (column_word("our_id=Nr"), column_word("reason=Mal"), reason_word("kaputt=fraud"))
    first = await brought(trade, *sheet, header=header, taught=(*taught, days_word("dmy")))
    assert {one.rule for one in first.lines} == {"reason_not_agreed"}
    corrected = (reason_word("kaputt=invalid_phone"),)
    second = await brought(trade, *sheet, header=header, taught=corrected)
    third = await brought(trade, *sheet, header=header)
    assert [one.rule for one in third.lines] == [one.rule for one in second.lines]
    learnt = await flow(trade).learnt("b")
    assert (learnt.columns["reason"], learnt.reasons["kaputt"].label) == ("Mal", "invalid_phone")
    assert learnt.day_order == "dmy"
    words = "SELECT count(*) FROM sheet_word WHERE meaning = 'reason' AND said = 'Mal'"
    assert await trade.admin.fetchval(words) == 1
    await flow(trade).teach("b", [days_word("ymd"), column_word("our_id=Sale ID")], by="tests")


async def test_a_learnt_header_that_is_not_there_is_looked_for_as_if_it_never_was(
    trade: Trade,
) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    await flow(trade).teach("b", [column_word("reason=Outcome of it")], by="tests")
    [one] = (await brought(trade, line(sale))).lines
    assert one.state == "granted"


@pytest.mark.parametrize(
    ("header", "asked", "said"),
    [
        (HEADER, {"buyer": "nobody"}, "there is no buyer nobody"),
        (("Sale ID", "Price"), {}, "no column holds the reason"),
    ],
)
async def test_what_cannot_be_imported_is_told(
    trade: Trade, header: tuple[str, ...], asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(CannotImport, match=said):
        await brought(trade, header=header, **asked)


# --- nothing personal -----------------------------------------------------------------------------


async def test_nothing_of_the_sheets_persons_stays_in_the_database(
    trade: Trade, database_url: str, tmp_path: Path
) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    mail, phone = "canary@mail.example", "3102220177"
    rows = [
        (sale.attempt_id, f"ref {mail}", phone, mail, "", "wrong number", f"asked {mail}"),
        (sale.attempt_id, "", phone, mail, "", f"{mail} says no", ""),
        ("", "", phone, mail, "", "dup", ""),
        (sale.attempt_id, "", "", "", "", "wrong number", "CL-1"),
    ]
    await brought(trade, *rows, header=(*HEADER[:-1], "Call log"), book=True)
    held = await trade.admin.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    canaries = ("canary", phone, hashed("phone", f"+1{phone}")[0].hex())
    for table in held:
        texts = await trade.admin.fetch(f"SELECT t::text AS row FROM {table['relname']} t")
        for canary in canaries:
            assert not [row["row"] for row in texts if canary in row["row"]], table["relname"]
    looked = {table["relname"] for table in held}
    assert {"audit", "sheet_word", "return_case", "outbox", "custody_event"} <= looked
    assert await trade.admin.fetchval("SELECT count(*) FROM return_case WHERE buyer_id = $1", BUYER)


async def test_words_only_grow(trade: Trade) -> None:
    await flow(trade).teach("b", [reason_word("grown=fraud")], by="tests")
    for statement in ("UPDATE sheet_word SET meaning = 'x'", "DELETE FROM sheet_word"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await trade.admin.execute(statement)


# --- how fast -------------------------------------------------------------------------------------


@pytest.mark.prove
async def test_ten_thousand_lines_are_previewed_and_booked_at_a_pace_people_wait_for(
    trade: Trade,
) -> None:
    """A third by id, a third by reference, a third by person; some hit a limit."""
    count, today = 10_000, trade.clock.now().date().isoformat()
    contracts = [await trade.contract(terms(max_rate=0.9)) for _ in range(4)]

    async def one(number: int) -> tuple[Any, ...]:
        phone, ref, contract = f"+1310{2_000_000 + number}", f"S-{number}", contracts[number % 4]
        consumer = "\\x" + VAULT.person("phone", phone)[1]
        [sale] = await trade.sold(contract, consumer=consumer, buyer_ref=ref)
        named = ((sale.attempt_id, "", ""), ("", ref, ""), ("", "", phone))[number % 3]
        return (*named, "", today, "wrong number", "CL-1")

    sheet: list[Any] = []
    for begin in range(0, count, 200):
        sheet += await asyncio.gather(*map(one, range(begin, begin + 200)))
    for book in (False, True, True):
        began = perf_counter()
        done = await brought(trade, *sheet, book=book)
        took = perf_counter() - began
        print(f"book={book}: {count / took:.0f} lines/s, {took:.1f} s")  # noqa: T201 - measured
        assert done.counts == {"granted": 9_000, "denied": 1_000}
        assert took < 600  # on any machine, with anything beside it
