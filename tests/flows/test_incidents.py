"""Incidents on the real Postgres: every affected sale is made good once, the books hold, and what
was forecast is what is booked."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from exchange.core.attempts import Opening as LeadOpening
from exchange.core.messages import Refusal
from exchange.core.reasons import Delivery
from exchange.core.records import AttemptRow
from exchange.effects.incidents import IncidentStore
from exchange.effects.proof import proven
from exchange.effects.returns import ReturnStore
from exchange.flows.incidents import IncidentLimits, Incidents, Opening, Shown
from tests.effects.sales import BUYER, SELLER, new_id
from tests.flows.returning import HOOKED, PAYOUT, PRICE, SaleOf, Trade, terms, trading

pytestmark = pytest.mark.real
TO_PERSON = {"reasons": {"wrong_person": {"to_person": True}}}
HALF = {"reasons": {"wrong_person": {"to_person": False, "credit_percent": 50}}}


class SubSale(SaleOf):
    """A sale of a lead of this sub_id."""

    def __init__(self, contract_id: int, sub_id: str, **terms: Any) -> None:
        self.sub_id = sub_id
        super().__init__(contract_id, "\\x" + new_id().replace("-", "") * 2, received=None, **terms)

    def _opening(self) -> LeadOpening:
        opening = super()._opening()
        return replace(opening, lead=replace(opening.lead, sub_id=self.sub_id))


class Desk:
    """A trade, and the people who open and approve incidents; each desk has a sub_id to itself."""

    def __init__(self, trade: Trade) -> None:
        self.trade, self.sub_id = trade, new_id()
        self.incidents = self.flow()

    def flow(self, at: Any = None, **limits: int) -> Incidents:
        async def nowhere(_place: str) -> None:
            return None

        return Incidents(
            store=IncidentStore(self.trade.database),
            returns=ReturnStore(self.trade.database, had_before_days=90),
            clock=self.trade.clock,
            book=lambda: HOOKED,
            recorded=self.trade.records.append,
            limits=IncidentLimits(**limits),
            at=at or nowhere,
        )

    async def sold(
        self, contract_id: int, count: int = 1, *, buyer_id: int = BUYER, **more: Any
    ) -> list[AttemptRow]:
        async def one() -> AttemptRow:
            sale = SubSale(contract_id, self.sub_id, **more)
            assert (await self.trade.commits.commit(sale.intent(buyer_id=buyer_id))).kind == "done"
            assert (await self.trade.commits.commit(sale.result())).kind == "done"
            assert sale.attempt is not None
            return sale.attempt

        return list(await asyncio.gather(*(one() for _ in range(count))))

    async def open(self, **more: Any) -> Shown:
        asked = Opening(
            **{
                "source": "s/web",
                "sub_id": self.sub_id,
                "since": self.trade.clock.now() - timedelta(days=2),
                "by": "Dana",
                "why": "bot traffic",
            }
            | more
        )
        shown = await self.incidents.open(asked)
        assert isinstance(shown, Shown), shown
        return shown

    async def approved(self, shown: Shown) -> str:
        incident_id = shown.incident.incident_id
        done = await self.incidents.approve(incident_id, by="Finn", why="looked at it")
        assert not isinstance(done, Refusal | None)
        assert done.state == "approved"
        return incident_id

    async def booked(self, shown: Shown) -> Shown:
        incident_id = await self.approved(shown)
        assert await self.incidents.book(incident_id) is True
        found = await self.incidents.show(incident_id)
        assert found is not None
        return found

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        return list(await self.trade.admin.fetch(sql, *args))


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with trading(database_url) as trade:
        yield Desk(trade)
        assert (await proven(trade.admin)).wrong == 0  # whatever a test did, the books hold


def progress(shown: Shown) -> dict[str, tuple[int, int, int]]:
    """By state: sales, credit, clawback."""
    found: dict[str, tuple[int, int, int]] = {}
    for one in shown.progress:
        before = found.get(one.state, (0, 0, 0))
        now = one.sales, one.credit_micros, one.clawback_micros
        found[one.state] = tuple(a + b for a, b in zip(before, now, strict=True))  # type: ignore[assignment]
    return found


# --- opening --------------------------------------------------------------------------------------


async def test_an_open_incident_pauses_the_sub_id_and_holds_the_payout_of_its_sales(
    desk: Desk,
) -> None:
    await desk.sold(await desk.trade.contract(terms()), 3)
    shown = await desk.open()
    [total] = shown.totals
    assert (total.buyer_id, total.currency, total.sales) == (BUYER, "USD", 3)
    assert (total.credit_micros, total.clawback_micros) == (3 * PRICE, 3 * PAYOUT)
    incident_id = shown.incident.incident_id
    [pause] = await desk.fetch("SELECT * FROM source_pause WHERE incident_id = $1", incident_id)
    assert (pause["source_id"], pause["sub_id"], pause["lifted_at"]) == (1, desk.sub_id, None)
    [hold] = await desk.fetch("SELECT * FROM payout_hold WHERE incident_id = $1", incident_id)
    held = hold["party_id"], hold["currency"], hold["amount_micros"], hold["lifted_at"]
    assert held == (SELLER, "USD", 3 * PAYOUT, None)
    [said] = await desk.fetch("SELECT * FROM audit WHERE subject = $1", incident_id)
    assert (said["by"], said["action"]) == ("Dana", "incident.open")


async def test_a_whole_payout_is_held_when_that_is_asked_for(desk: Desk) -> None:
    shown = await desk.open(hold="all")
    [hold] = await desk.fetch(
        "SELECT * FROM payout_hold WHERE incident_id = $1", shown.incident.incident_id
    )
    assert (hold["currency"], hold["amount_micros"]) == (None, None)


async def test_a_dry_run_writes_nothing(desk: Desk) -> None:
    await desk.sold(await desk.trade.contract(terms()))
    asked = Opening(
        source="s/web",
        sub_id=desk.sub_id,
        since=desk.trade.clock.now() - timedelta(days=1),
        by="Dana",
        why="bot traffic",
    )
    shown = await desk.incidents.open(asked, dry_run=True)
    assert isinstance(shown, Shown)
    assert shown.totals[0].sales == 1
    assert await desk.incidents.show(shown.incident.incident_id) is None


async def test_only_sales_of_the_sub_id_and_the_time_are_affected_and_doubts_are_counted(
    desk: Desk,
) -> None:
    contract_id = await desk.trade.contract(terms())
    [mine] = await desk.sold(contract_id)
    await Desk(desk.trade).sold(contract_id)
    doubtful = SubSale(contract_id, desk.sub_id)
    await desk.trade.commits.commit(doubtful.intent())
    await desk.trade.commits.commit(doubtful.result(Delivery.UNKNOWN, "in_doubt"))
    shown = await desk.open()
    assert [one.attempt_id for one in shown.sales] == [mine.attempt_id]
    assert shown.in_doubt == 1
    earlier = await desk.open(until=desk.trade.clock.now() - timedelta(days=1))
    assert earlier.sales == ()


async def test_every_mistake_of_an_opening_is_told_at_once(desk: Desk) -> None:
    now = desk.trade.clock.now()
    wrong = Opening(
        source="s/none",
        sub_id="",
        since=now + timedelta(hours=1),
        until=now,
        reason="mood",
        by="",
        why="call +1 310 555 0134",
    )
    refused = await desk.incidents.open(wrong)
    assert isinstance(refused, Refusal)
    assert {one.field for one in refused.problems} == {
        *("source", "sub_id", "since", "until", "reason", "by", "why"),
    }


# --- making good ----------------------------------------------------------------------------------


async def test_a_booked_incident_credits_what_is_left_and_takes_the_payout_back(
    desk: Desk,
) -> None:
    sales = await desk.sold(await desk.trade.contract(terms()), 5)
    shown = await desk.booked(await desk.open())
    assert shown.incident.state == "booked"
    assert progress(shown) == {"credited": (5, 5 * PRICE, 5 * PAYOUT)}
    for sale in sales:
        assert await desk.trade.moved(sale) == {
            "buyer.receivable": 0,
            "seller.payable": 0,
            "house.margin": 0,
        }
    [case, *_] = await desk.fetch(
        "SELECT * FROM return_case WHERE attempt_id = $1", sales[0].attempt_id
    )
    assert (case["state"], case["rule"], case["decided_by"], case["reason"]) == (
        *("granted", "incident_credited", "Finn", "fraud"),
    )
    [event] = await desk.fetch(
        "SELECT kind FROM custody_event WHERE lead_id = $1 ORDER BY seq DESC LIMIT 1",
        sales[0].lead_id,
    )
    assert event["kind"] == "return_granted"


async def test_by_terms_the_seller_bears_what_its_clawback_window_says(desk: Desk) -> None:
    await desk.sold(await desk.trade.contract(terms()))
    shown = await desk.open(seller_bears="terms")
    assert shown.totals[0].clawback_micros == PAYOUT * 8 // 10
    assert progress(await desk.booked(shown)) == {"credited": (1, PRICE, PAYOUT * 8 // 10)}


async def test_of_a_partly_credited_sale_the_rest_is_credited_and_all_the_payout_taken(
    desk: Desk,
) -> None:
    [sale] = await desk.sold(await desk.trade.contract(terms(**HALF)))
    before = (await desk.trade.asked(sale)).case
    assert before.credit_micros == PRICE // 2
    shown = await desk.booked(await desk.open())
    rest = PAYOUT - before.clawback_micros
    assert progress(shown) == {"credited": (1, PRICE - PRICE // 2, rest)}
    assert set((await desk.trade.moved(sale)).values()) == {0}


async def test_of_a_sale_credited_before_only_what_the_house_bore_is_taken_from_the_seller(
    desk: Desk,
) -> None:
    [sale] = await desk.sold(await desk.trade.contract(terms()))
    before = (await desk.trade.asked(sale)).case
    shown = await desk.booked(await desk.open())
    assert progress(shown) == {"recovered": (1, 0, PAYOUT - before.clawback_micros)}
    assert set((await desk.trade.moved(sale)).values()) == {0}
    told = await desk.fetch("SELECT kind FROM outbox WHERE lead_id = $1", sale.lead_id)
    assert "return.decided" not in {one["kind"] for one in told}


async def test_a_replaced_sale_is_not_credited_as_well(desk: Desk) -> None:
    [sale] = await desk.sold(await desk.trade.contract(terms(replace=True)))
    before = (await desk.trade.asked(sale)).case
    assert before.replaces
    shown = await desk.booked(await desk.open())
    assert progress(shown) == {"recovered": (1, 0, PAYOUT - before.clawback_micros)}
    assert (await desk.trade.moved(sale))["buyer.receivable"] == PRICE


async def test_the_buyers_waiting_case_is_granted_by_the_incident(desk: Desk) -> None:
    [sale] = await desk.sold(await desk.trade.contract(terms(**TO_PERSON)))
    waiting = (await desk.trade.asked(sale)).case
    assert waiting.state == "referred"
    await desk.booked(await desk.open())
    [case] = await desk.fetch("SELECT * FROM return_case WHERE attempt_id = $1", sale.attempt_id)
    assert (str(case["return_id"]), case["state"], case["credit_micros"]) == (
        *(waiting.return_id, "granted", PRICE),
    )


async def test_an_incident_counts_against_no_limit_of_the_buyer(desk: Desk) -> None:
    contract_id = await desk.trade.contract(terms(max_count=1))
    await desk.sold(contract_id, 3)
    await desk.booked(await desk.open())
    [other] = await Desk(desk.trade).sold(contract_id)
    assert (await desk.trade.asked(other)).case.state == "granted"
    [again] = await desk.fetch(
        "SELECT attempt_id::text, lead_id::text FROM incident_sale WHERE credit_micros > 0 "
        "AND incident_id = (SELECT max(incident_id::text)::uuid FROM incident) LIMIT 1"
    )
    asked = await desk.trade.ask(
        replace(other, attempt_id=again["attempt_id"], lead_id=again["lead_id"])
    )
    assert asked.case.rule == "already_returned"


async def test_buyers_are_told_of_each_sale_and_the_seller_once(desk: Desk) -> None:
    sales = await desk.sold(await desk.trade.contract(terms()), 2)
    shown = await desk.booked(await desk.open())
    leads = [sale.lead_id for sale in sales]
    told = await desk.fetch("SELECT * FROM outbox WHERE lead_id = ANY ($1::uuid[])", leads)
    assert [(one["kind"], one["party_id"]) for one in told] == [("return.decided", BUYER)] * 2
    assert json.loads(told[0]["body"])["rule"] == "incident_credited"
    incident_id = shown.incident.incident_id
    [summed] = await desk.fetch("SELECT * FROM outbox WHERE lead_id = $1", incident_id)
    assert (summed["kind"], summed["party_id"]) == ("incident.booked", SELLER)
    body = json.loads(summed["body"])
    assert body["totals"] == {"USD": {"sales": 2, "taken_back": "17.00"}}
    assert "10.00" not in summed["body"]


# --- once -----------------------------------------------------------------------------------------


class Killed(Exception):
    """The process died here."""


@pytest.mark.parametrize("place", ["incident_sale", "incident_written"])
async def test_cut_short_anywhere_and_resumed_each_sale_is_booked_once(
    desk: Desk, place: str
) -> None:
    sales = await desk.sold(await desk.trade.contract(terms()), 12)
    shown = await desk.open()
    incident_id = await desk.approved(shown)
    passed = 0

    async def at(here: str) -> None:
        nonlocal passed
        passed += here == place
        if passed == 6:
            raise Killed

    with pytest.raises(BaseExceptionGroup):
        await desk.flow(at, at_once_max=2).book(incident_id)
    cut = await desk.incidents.show(incident_id)
    assert cut is not None
    assert 0 < progress(cut)["due"][0] < 12
    assert await desk.incidents.book(incident_id) is True
    assert await desk.incidents.book(incident_id) is True
    done = await desk.incidents.show(incident_id)
    assert done is not None
    assert progress(done) == {"credited": (12, 12 * PRICE, 12 * PAYOUT)}
    cases = await desk.fetch(
        "SELECT attempt_id FROM return_case WHERE attempt_id = ANY ($1::uuid[])",
        [sale.attempt_id for sale in sales],
    )
    assert len(cases) == 12
    told = await desk.fetch("SELECT 1 FROM outbox WHERE lead_id = $1", incident_id)
    assert len(told) == 1


async def test_two_who_book_at_once_and_a_buyer_who_asks_credit_each_sale_once(
    desk: Desk,
) -> None:
    sales = await desk.sold(await desk.trade.contract(terms()), 10)
    incident_id = await desk.approved(await desk.open())
    asks = [desk.trade.ask(sale) for sale in sales]
    books = [desk.flow().book(incident_id) for _ in range(2)]
    await asyncio.gather(*asks, *books)
    assert await desk.incidents.book(incident_id) is True
    for sale in sales:
        assert set((await desk.trade.moved(sale)).values()) == {0}


async def test_the_database_refuses_a_second_credit_by_an_incident(desk: Desk) -> None:
    [sale] = await desk.sold(await desk.trade.contract(terms()))
    await desk.booked(await desk.open())
    with pytest.raises(Exception, match="return_case_one_incident"):
        await desk.trade.admin.execute(
            "INSERT INTO return_case SELECT (jsonb_populate_record(c, jsonb_build_object("
            "'return_id', gen_random_uuid()))).* FROM return_case c WHERE attempt_id = $1",
            sale.attempt_id,
        )


# --- moves ----------------------------------------------------------------------------------------


async def test_cancelling_lifts_everything_and_books_nothing(desk: Desk) -> None:
    [sale] = await desk.sold(await desk.trade.contract(terms()))
    shown = await desk.open()
    incident_id = shown.incident.incident_id
    done = await desk.incidents.cancel(incident_id, by="Dana", why="a false alarm")
    assert not isinstance(done, Refusal | None)
    assert done.state == "cancelled"
    for table in ("source_pause", "payout_hold"):
        rows = await desk.fetch(f"SELECT * FROM {table} WHERE incident_id = $1", incident_id)
        assert [row["lifted_by"] for row in rows] == ["Dana"]
    refused = await desk.incidents.approve(incident_id, by="Finn", why="too late")
    assert isinstance(refused, Refusal)
    assert (await desk.trade.moved(sale))["buyer.receivable"] == PRICE


@pytest.mark.parametrize("keep", [False, True])
async def test_closing_lifts_the_hold_and_the_pause_unless_it_is_kept(
    desk: Desk, keep: bool
) -> None:
    await desk.sold(await desk.trade.contract(terms()))
    shown = await desk.open()
    incident_id = shown.incident.incident_id
    too_early = await desk.incidents.close(incident_id, by="Finn", why="all is paid")
    assert isinstance(too_early, Refusal)
    await desk.booked(shown)
    closed = await desk.incidents.close(incident_id, by="Finn", why="paid", keep_paused=keep)
    assert not isinstance(closed, Refusal | None)
    assert closed.state == "closed"
    standing = await desk.fetch(
        "SELECT by, incident_id FROM source_pause WHERE sub_id = $1 AND lifted_at IS NULL",
        desk.sub_id,
    )
    assert [(one["by"], one["incident_id"]) for one in standing] == [("Finn", None)] * keep
    holds = await desk.fetch(
        "SELECT 1 FROM payout_hold WHERE incident_id = $1 AND lifted_at IS NULL", incident_id
    )
    assert holds == []
    found = await desk.incidents.show(incident_id)
    assert found is not None
    assert [one.state for one in found.events] == ["open", "approved", "booked", "closed"]
    said = await desk.fetch(
        "SELECT by, action FROM audit WHERE subject = $1 ORDER BY id", incident_id
    )
    assert [(one["by"], one["action"]) for one in said] == [
        ("Dana", "incident.open"),
        ("Finn", "incident.approved"),
        ("Finn", "incident.booked"),
        ("Finn", "incident.closed"),
    ]


async def test_a_sale_that_came_out_of_doubt_after_the_approval_is_told(desk: Desk) -> None:
    contract_id = await desk.trade.contract(terms())
    await desk.sold(contract_id)
    shown = await desk.open()
    await desk.booked(shown)
    await desk.sold(contract_id)
    found = await desk.incidents.show(shown.incident.incident_id)
    assert found is not None
    assert found.later == 1


@pytest.mark.parametrize(
    ("old", "new"), [("open", "booked"), ("approved", "open"), ("cancelled", "open")]
)
async def test_the_database_refuses_a_move_that_is_none(desk: Desk, old: str, new: str) -> None:
    shown = await desk.open()
    admin, incident_id = desk.trade.admin, shown.incident.incident_id
    if old != "open":
        await admin.execute(
            "UPDATE incident SET state = $2 WHERE incident_id = $1", incident_id, old
        )
    with pytest.raises(Exception, match=f"does not move from {old} to {new}"):
        await admin.execute(
            "UPDATE incident SET state = $2 WHERE incident_id = $1", incident_id, new
        )
