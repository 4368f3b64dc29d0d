"""Returns on the real Postgres: a decision is one transaction, made once, within the limits."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from exchange.core.custody import stored_row, verify
from exchange.core.messages import Refusal
from exchange.core.reasons import ReturnReason
from exchange.effects.leases import Deposed, Lease, Leases
from exchange.effects.postgres import Database, DatabaseDown
from exchange.effects.proof import proven
from exchange.flows.returns import Answered, Asking
from tests.effects.sales import BUYER, OTHER_BUYER, SELLER, new_id
from tests.flows.returning import HOOKED, PAYOUT, PRICE, Trade, terms, trading

pytestmark = pytest.mark.real
TO_PERSON = {"reasons": {"wrong_person": {"to_person": True}}}


@pytest.fixture
async def trade(database_url: str) -> AsyncIterator[Trade]:
    async with trading(database_url) as trade:
        yield trade
        assert (await proven(trade.admin)).wrong == 0  # whatever a test did, the books hold


async def refused(trade: Trade, sale: Any, **more: Any) -> Refusal:
    answer = await trade.ask(sale, **more)
    assert isinstance(answer, Refusal), answer
    return answer


# --- asking ---------------------------------------------------------------------------------------


async def test_a_grant_credits_the_buyer_and_takes_back_the_sellers_share(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    answered = await trade.asked(sale)
    case = answered.case
    assert (case.state, case.rule, case.credit_micros) == ("granted", "evidence_enough", PRICE)
    assert case.clawback_micros == PAYOUT * 8 // 10
    assert await trade.moved(sale) == {
        "buyer.receivable": 0,
        "seller.payable": -(PAYOUT - case.clawback_micros),
        "house.margin": PAYOUT - case.clawback_micros,
    }
    row = await trade.admin.fetchrow(
        "SELECT credited_micros FROM attempt WHERE attempt_id = $1", sale.attempt_id
    )
    assert row["credited_micros"] == PRICE


async def test_the_chain_of_the_lead_goes_on_with_the_return(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    await trade.asked(sale)
    rows = await trade.admin.fetch(
        "SELECT * FROM custody_event WHERE lead_id = $1 ORDER BY seq", sale.lead_id
    )
    lead = await trade.admin.fetchrow(
        "SELECT custody_seq, encode(custody_head, 'hex') AS head FROM lead WHERE lead_id = $1",
        sale.lead_id,
    )
    assert rows[-1]["kind"] == "return_granted"
    assert verify(map(stored_row, rows), head=(lead["custody_seq"], lead["head"])) is None


async def test_a_denial_moves_nothing_and_says_the_rule(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    answered = await trade.asked(sale, evidence={})
    assert (answered.case.state, answered.case.rule) == ("denied", "evidence_missing")
    assert answered.case.wanting == ("call_log",)
    assert (await trade.moved(sale))["buyer.receivable"] == PRICE


async def test_a_contract_without_a_policy_takes_nothing_back(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(None))
    assert (await trade.asked(sale)).case.rule == "no_policy"


async def test_the_window_closes_by_the_clock(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms(window_hours=24)))
    trade.clock.ahead = timedelta(hours=25)
    assert (await trade.asked(sale)).case.rule == "too_late"


async def test_the_same_buyer_having_bought_the_consumer_here_is_a_duplicate(trade: Trade) -> None:
    contract = await trade.contract(terms(reasons=["duplicate"]))
    consumer = "\\x" + "cd" * 32
    [first], [second] = [await trade.sold(contract, consumer=consumer) for _ in range(2)]
    answered = await trade.asked(second, reason=ReturnReason.DUPLICATE, evidence={})
    assert answered.case.rule == "bought_before"
    before = await trade.asked(first, reason=ReturnReason.DUPLICATE, evidence={})
    assert before.case.rule == "evidence_missing"  # the first was none


@pytest.mark.parametrize(
    "evidence",
    [{"call_log": "call wilhelmina@mail.example"}, {"call_log": "+13102000000"}, {"diary": "x"}],
)
async def test_evidence_that_names_a_person_or_nothing_known_is_refused(
    trade: Trade, evidence: dict[str, str]
) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    assert (await refused(trade, sale, evidence=evidence)).status == 422
    assert not await trade.admin.fetchval(
        "SELECT count(*) FROM return_case WHERE attempt_id = $1", sale.attempt_id
    )


@pytest.mark.parametrize("of", ["nothing", "019a0000-0000-7000-8000-000000000001"])
async def test_what_is_no_sale_is_not_found(trade: Trade, of: str) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    claim = (await trade.asked(sale)).case.claim
    assert await trade.returns.ask(Asking(buyer_id=BUYER, of=of, claim=claim)) is None


async def test_another_buyers_sale_and_case_are_not_found(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    assert await trade.ask(sale, buyer_id=OTHER_BUYER) is None
    case = (await trade.asked(sale)).case
    assert await trade.returns.case(case.return_id, OTHER_BUYER) is None
    assert await trade.returns.appeal(case.return_id, OTHER_BUYER, {}) is None
    assert await trade.returns.case(case.return_id, BUYER) is not None


async def test_a_test_is_not_returned_and_what_cost_nothing_has_nothing_left(trade: Trade) -> None:
    contract = await trade.contract(terms())
    [test] = await trade.sold(contract, test=True)
    assert (await refused(trade, test)).problems[0].field == "sale_id"
    [free] = await trade.sold(contract, price_micros=0, payout_micros=0, fee_micros=0)
    assert (await trade.asked(free)).case.rule == "nothing_left"


async def test_a_sale_without_a_fee_and_one_at_a_loss_are_returned_whole(trade: Trade) -> None:
    contract = await trade.contract(terms())
    for payout in (PRICE, PRICE + 7):
        [sale] = await trade.sold(contract, payout_micros=payout, fee_micros=PRICE - payout)
        assert (await trade.asked(sale)).case.clawback_micros == payout * 8 // 10
        moved = await trade.moved(sale)
        assert (moved["buyer.receivable"], sum(moved.values())) == (0, 0)


async def test_a_replacement_credits_nothing_and_takes_back_all_the_same(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms(replace=True)))
    case = (await trade.asked(sale)).case
    assert (case.state, case.replaces, case.credit_micros) == ("granted", True, 0)
    moved = await trade.moved(sale)
    assert (moved["buyer.receivable"], moved["seller.payable"]) == (PRICE, -PAYOUT * 2 // 10)


async def test_a_sale_is_found_by_its_lead_too(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    case = (await trade.asked(sale)).case
    again = Asking(buyer_id=BUYER, of=sale.lead_id, claim=case.claim)
    answered = await trade.returns.ask(again)
    assert isinstance(answered, Answered)
    assert (answered.case, answered.replayed) == (case, True)


# --- asking again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "K-1"])
async def test_twenty_at_once_are_one_return(trade: Trade, key: str | None) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    named = None if key is None else f"{key}-{sale.attempt_id}"
    answers = await asyncio.gather(*(trade.asked(sale, key=named) for _ in range(20)))
    assert len({answer.case.return_id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert (await trade.moved(sale))["buyer.receivable"] == 0
    assert sum(not record.replayed for record in trade.records) == 1


async def test_a_key_is_answered_with_its_return_also_when_it_was_denied(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    key = new_id()
    first = await trade.asked(sale, key=key, evidence={})
    again = await trade.asked(sale, key=key, evidence={})
    assert (again.case, again.replayed) == (first.case, True)


async def test_a_key_used_for_another_claim_is_refused(trade: Trade) -> None:
    one, other = await trade.sold(await trade.contract(terms()), 2)
    key = new_id()
    await trade.asked(one, key=key)
    assert (await refused(trade, other, key=key)).title == "Key used before"
    reason = ReturnReason.FRAUD
    assert (await refused(trade, one, key=key, reason=reason)).title == "Key used before"


async def test_one_key_on_two_sales_of_two_contracts_at_once_is_one_return(trade: Trade) -> None:
    """They wait for different locks; the database's own index decides."""
    [one] = await trade.sold(await trade.contract(terms()))
    [other] = await trade.sold(await trade.contract(terms()))
    key = new_id()
    answers = await asyncio.gather(trade.ask(one, key=key), trade.ask(other, key=key))
    assert sorted(isinstance(answer, Answered) for answer in answers) == [False, True]


async def test_a_second_claim_of_a_returned_sale_is_denied(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms(reasons=["wrong_person", "fraud"])))
    await trade.asked(sale, evidence={"call_log": "CL-2"})
    denied = await trade.asked(sale, reason=ReturnReason.FRAUD)
    assert denied.case.rule == "already_returned"


async def test_a_sale_is_asked_for_a_few_times_only(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    for _ in range(10):
        assert (await trade.asked(sale, evidence={})).case.state == "denied"
    assert (await refused(trade, sale)).title == "Asked too often"


# --- limits ---------------------------------------------------------------------------------------


async def test_fifty_at_once_over_a_limit_of_seven_grant_seven(trade: Trade) -> None:
    sales = await trade.sold(await trade.contract(terms(max_count=7)), 50)
    answers = await asyncio.gather(*(trade.asked(sale) for sale in sales))
    rules = [answer.case.rule for answer in answers]
    assert (rules.count("evidence_enough"), rules.count("limit_reached")) == (7, 43)


async def test_a_rate_is_of_the_sales_of_the_cycle(trade: Trade) -> None:
    contract = await trade.contract(terms(max_rate=0.1))
    sales = await trade.sold(contract, 20)
    await trade.sold(await trade.contract(terms()), 20)  # another contract's are not counted
    rules = [(await trade.asked(sale)).case.rule for sale in sales]
    assert rules.count("evidence_enough") == 2


async def test_a_reason_has_a_limit_of_its_own(trade: Trade) -> None:
    reasons = {"wrong_person": {"to_person": False, "max_count": 1}, "fraud": {"to_person": False}}
    sales = await trade.sold(await trade.contract(terms(reasons=reasons)), 3)
    assert (await trade.asked(sales[0])).case.state == "granted"
    assert (await trade.asked(sales[1])).case.rule == "reason_limit_reached"
    assert (await trade.asked(sales[2], reason=ReturnReason.FRAUD)).case.state == "granted"


async def test_a_case_that_waits_holds_room(trade: Trade) -> None:
    one, other = await trade.sold(await trade.contract(terms(max_count=1, **TO_PERSON)), 2)
    assert (await trade.asked(one)).case.state == "referred"
    assert (await trade.asked(other)).case.rule == "limit_reached"


async def test_a_lock_that_is_not_had_in_time_is_an_outage_and_nothing_is_written(
    trade: Trade, database_url: str
) -> None:
    contract = await trade.contract(terms())
    one, other = await trade.sold(contract, 2)
    case = (await trade.asked(one)).case
    impatient = await Database.open(
        database_url, role="exchange_app", size=1, statement_timeout_ms=50, by_key=True
    )
    key = "hashtextextended('exchange.return.' || $2, $1)"
    await trade.admin.execute(f"SELECT pg_advisory_lock({key})", contract, case.cycle)
    asking = Asking(buyer_id=BUYER, of=other.attempt_id, claim=case.claim)
    with pytest.raises(DatabaseDown):
        await trade.flow(impatient).ask(asking)
    await trade.admin.execute(f"SELECT pg_advisory_unlock({key})", contract, case.cycle)
    await impatient.close()
    assert (await trade.asked(other)).case.state == "granted"


class Fickle:
    """A database in which somebody else always adds to a lead's chain just before we write."""

    def __init__(self, trade: Trade, lead_id: str) -> None:
        self._database, self._admin, self._lead_id = trade.database, trade.admin, lead_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._database.transaction() as connection:
            yield _Late(connection, self._moved)

    async def _moved(self) -> None:
        sql = "UPDATE lead SET custody_seq = custody_seq + 1 WHERE lead_id = $1"
        await self._admin.execute(sql, self._lead_id)


class _Late:
    def __init__(self, connection: Any, moved: Any) -> None:
        self._connection, self._moved = connection, moved

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetchrow(self, sql: str, *args: Any) -> Any:
        if "INSERT INTO return_case" in sql:
            await self._moved()
        return await self._connection.fetchrow(sql, *args)


async def test_what_is_always_found_otherwise_is_given_up_and_nothing_is_written(
    trade: Trade,
) -> None:
    one, sale = await trade.sold(await trade.contract(terms()), 2)
    claim = (await trade.asked(one)).case.claim
    asking = Asking(buyer_id=BUYER, of=sale.attempt_id, claim=claim)
    answer = await trade.flow(Fickle(trade, sale.lead_id)).ask(asking)
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.title) == (503, "Overloaded")
    assert (await trade.moved(sale))["buyer.receivable"] == PRICE


# --- a person -------------------------------------------------------------------------------------


async def test_a_referred_return_is_granted_by_finance_with_its_name_and_why(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms(**TO_PERSON)))
    case = (await trade.asked(sale)).case
    assert case.state == "referred"
    done = await trade.returns.decide(case.return_id, "granted", by="Dana", why="heard it")
    assert isinstance(done, Answered)
    assert (done.case.state, done.case.rule) == ("granted", "person_granted")
    assert done.case.decided_by == "Dana"
    assert (await trade.moved(sale))["buyer.receivable"] == 0
    row = await trade.admin.fetchrow("SELECT * FROM audit WHERE subject = $1", case.return_id)
    assert (row["by"], row["action"]) == ("Dana", "return.decide")
    assert "heard it" in row["detail"]


async def test_a_decision_is_made_once(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms(**TO_PERSON)))
    case = (await trade.asked(sale)).case
    both = await asyncio.gather(
        *(trade.returns.decide(case.return_id, "granted", by="Dana", why="yes") for _ in range(9))
    )
    assert sum(isinstance(one, Answered) and not one.replayed for one in both) == 1
    other = await trade.returns.decide(case.return_id, "denied", by="Dana", why="no")
    assert isinstance(other, Refusal)
    assert (other.status, other.title) == (409, "Ended otherwise")


async def test_why_carries_no_personal_data(trade: Trade) -> None:
    [sale] = await trade.sold(await trade.contract(terms(**TO_PERSON)))
    case = (await trade.asked(sale)).case
    why = "she said +13102000000"
    done = await trade.returns.decide(case.return_id, "granted", by="Dana", why=why)
    assert isinstance(done, Refusal)
    assert await trade.returns.decide(new_id(), "granted", by="Dana", why="none") is None


async def test_a_referred_return_lapses_by_itself(trade: Trade, database_url: str) -> None:
    [sale] = await trade.sold(await trade.contract(terms(lapse_hours=24, **TO_PERSON)))
    case = (await trade.asked(sale)).case
    leases = Leases(trade.database, boot_id="tests", ttl_s=60)
    lease = await leases.acquire(f"lapses-{sale.attempt_id}")
    assert lease is not None
    trade.clock.ahead = timedelta(hours=23)
    await trade.returns.lapse(lease)
    trade.clock.ahead = timedelta(hours=25)
    stale = Lease(job=lease.job, epoch=lease.epoch - 1)
    with pytest.raises(Deposed):
        await trade.returns.lapse(stale)
    found = await trade.returns.case(case.return_id, BUYER)
    assert found is not None
    assert found.case.state == "referred"
    await trade.returns.lapse(lease)
    found = await trade.returns.case(case.return_id, BUYER)
    assert found is not None
    assert (found.case.state, found.case.rule, found.case.decided_by) == (
        "lapsed", "lapsed", "lapse",
    )  # fmt: skip
    assert (await trade.moved(sale))["buyer.receivable"] == PRICE


# --- notices --------------------------------------------------------------------------------------


async def told(trade: Trade, sale: Any) -> dict[int, dict[str, Any]]:
    """The notices about a sale, by whom they are for."""
    rows = await trade.admin.fetch("SELECT * FROM outbox WHERE lead_id = $1", sale.lead_id)
    return {row["party_id"]: {"type": row["kind"], **json.loads(row["body"])} for row in rows}


async def test_a_seller_is_told_of_a_grant_and_nothing_of_the_buyers_money(trade: Trade) -> None:
    trade.book = HOOKED
    [sale] = await trade.sold(await trade.contract(terms()))
    await trade.asked(sale)
    notices = await told(trade, sale)
    assert set(notices) == {SELLER}  # the buyer has its answer
    notice = notices[SELLER]
    assert (notice["type"], notice["reason"]) == ("return.granted", "wrong_person")
    assert (notice["taken_back"], notice["currency"]) == ("6.80", "USD")
    assert "10.00" not in str(notice)


async def test_a_buyer_is_told_what_a_person_decided(trade: Trade) -> None:
    trade.book = HOOKED
    [sale] = await trade.sold(await trade.contract(terms(**TO_PERSON)))
    case = (await trade.asked(sale)).case
    assert await told(trade, sale) == {}
    await trade.returns.decide(case.return_id, "denied", by="Dana", why="no proof")
    notices = await told(trade, sale)
    assert set(notices) == {BUYER}
    assert (notices[BUYER]["type"], notices[BUYER]["state"]) == ("return.decided", "denied")
    assert notices[BUYER]["message"] == "A person denied the return."


# --- appeals --------------------------------------------------------------------------------------


async def denied(trade: Trade, **given: Any) -> tuple[Any, str]:
    [sale] = await trade.sold(await trade.contract(terms(**given)))
    case = (await trade.asked(sale, evidence={})).case
    assert case.state == "denied"
    return sale, case.return_id


async def test_an_appeal_opens_a_denied_return_and_a_person_grants_it(trade: Trade) -> None:
    sale, return_id = await denied(trade)
    taken = await trade.returns.appeal(return_id, BUYER, {"call_log": "CL-9"})
    assert isinstance(taken, Answered)
    assert (taken.case.state, taken.case.evidence) == ("appealed", {"call_log": "CL-9"})
    again = await trade.returns.appeal(return_id, BUYER, {})
    assert isinstance(again, Answered)
    assert again.replayed
    done = await trade.returns.decide(return_id, "granted", by="Dana", why="heard it")
    assert isinstance(done, Answered)
    assert done.case.state == "granted"
    assert (await trade.moved(sale))["buyer.receivable"] == 0


async def test_an_appeal_comes_once_and_in_time(trade: Trade) -> None:
    _, return_id = await denied(trade, appeal_hours=2)
    trade.clock.ahead = timedelta(hours=3)
    late = await trade.returns.appeal(return_id, BUYER, {})
    assert isinstance(late, Refusal)
    assert late.title == "No appeal"
    trade.clock.ahead = timedelta(hours=1)
    assert isinstance(await trade.returns.appeal(return_id, BUYER, {}), Answered)
    await trade.returns.decide(return_id, "denied", by="Dana", why="no proof")
    assert isinstance(await trade.returns.appeal(return_id, BUYER, {}), Refusal)


async def test_an_appeal_needs_room_and_takes_it(trade: Trade) -> None:
    contract = await trade.contract(terms(max_count=1))
    one, two, three = await trade.sold(contract, 3)
    first = (await trade.asked(one, evidence={})).case
    second = (await trade.asked(two, evidence={})).case
    assert isinstance(await trade.returns.appeal(first.return_id, BUYER, {}), Answered)
    assert isinstance(await trade.returns.appeal(second.return_id, BUYER, {}), Refusal)
    assert (await trade.asked(three)).case.rule == "limit_reached"
    done = await trade.returns.decide(first.return_id, "granted", by="Dana", why="yes")
    assert isinstance(done, Answered)
    assert done.case.state == "granted"


# --- all or nothing -------------------------------------------------------------------------------


class Breaking:
    """A database whose session dies before or after a commit reaches it."""

    def __init__(self, trade: Trade, *, before: bool) -> None:
        self._database, self._admin, self._before = trade.database, trade.admin, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._database.transaction() as connection:
            yield connection
            if self._before:
                pid = await connection.fetchval("SELECT pg_backend_pid()")
                await self._admin.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
        if not self._before:
            raise DatabaseDown("after")


@pytest.mark.parametrize("before", [True, False])
async def test_a_session_that_dies_leaves_all_or_nothing_and_a_retry_finds_it(
    trade: Trade, before: bool
) -> None:
    [sale] = await trade.sold(await trade.contract(terms()))
    claim = (await trade.asked((await trade.sold(await trade.contract(terms())))[0])).case.claim
    breaking = trade.flow(Breaking(trade, before=before))
    asking = Asking(buyer_id=BUYER, of=sale.attempt_id, claim=claim)
    with pytest.raises((DatabaseDown, asyncpg.PostgresError)):
        await breaking.ask(asking)
    count = "SELECT count(*) FROM {} WHERE lead_id = $1"
    cases = await trade.admin.fetchval(count.format("return_case"), sale.lead_id)
    moved = await trade.admin.fetchval(count.format("transfer"), sale.lead_id)
    assert (cases, moved) == ((0, 2) if before else (1, 5))
    answered = await trade.returns.ask(asking)
    assert isinstance(answered, Answered)
    assert (answered.case.state, answered.replayed) == ("granted", not before)
    assert (await trade.moved(sale))["buyer.receivable"] == 0
