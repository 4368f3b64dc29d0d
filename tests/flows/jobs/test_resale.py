"""A returned lead is offered again: to those who never had it, within its consent, once, whoever
tries at the same time; and everyone who looks is told the same."""

import asyncio
import io
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from rich.console import Console

from exchange.core.model import is_id
from exchange.core.reasons import ReturnReason
from exchange.core.returns import ReturnClaim
from exchange.effects.stories import Stories
from exchange.flows.explain import Explain
from exchange.flows.returns import Answered, Asking
from exchange.flows.story_page import page
from tests.flows.jobs.reselling import (
    Again,
    book_of,
    registered,
    returns_of,
    state,
    with_terms,
    wrong,
)

pytestmark = pytest.mark.real
TERMS = {"within_hours": 72, "reasons": ["existing_customer", "language"]}
ACME, BEACON, CEDAR = "acme", "beacon", "cedar"


@pytest.fixture
async def again(stage: Any) -> Again:
    return await made(stage, TERMS)


async def made(stage: Any, resell: dict[str, Any] | None, **more: Any) -> Again:
    """The parts, in a market with these terms; beacon and cedar bid."""
    doc = with_terms(stage.scripts.market(), resell)
    stage.desk.book = book_of(doc)
    await registered(stage, doc)
    stage.beacon.bids = {"beacon-auto": "20.00", "cedar-auto": "15.00"}
    stage.acme.bids = {"acme-auto": "25.00"}
    return Again(stage, **more)


async def sold(stage: Any) -> str:
    """A lead sold to acme."""
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=False))
    await stage.sold_untold(began)
    return str(began.lead.lead_id)


async def returned(stage: Any, lead_id: str, buyer: str, reason: str = "existing_customer") -> Any:
    asking = Asking(
        buyer_id=stage.buyer(buyer).id,
        of=lead_id,
        claim=ReturnClaim(reason=next(one for one in ReturnReason if one.label == reason)),
    )
    answered = await returns_of(stage).ask(asking)
    assert isinstance(answered, Answered), answered
    assert answered.case.state == "granted", answered.case.rule
    return answered.case


async def test_a_returned_lead_is_sold_to_the_best_who_never_had_it(again: Again) -> None:
    stage = again.stage
    lead_id = await sold(stage)
    await returned(stage, lead_id, ACME)
    came = await again.resell(lead_id)
    assert (came.kind, came.payout_micros, came.price_micros) == ("sold", 17_000_000, 20_000_000)
    now = await state(stage, lead_id)
    assert now["attempts"] == [(ACME, "sold", 1), (BEACON, "sold", 2)]
    assert (now["lead"], now["slot"], now["live"]) == ("sold", BEACON, [BEACON])
    assert [ping["contract"] for ping in stage.acme.pinged] == []  # who had it is not even asked
    assert {ping["ping_id"] for ping in stage.beacon.pinged} == {came.resale_id}
    posted = msgspec.json.decode(stage.beacon.bodies[0])
    assert (posted["lead_id"], posted["ping_id"]) == (lead_id, came.resale_id)
    assert posted["lead"]["phone"].endswith("4155550199")
    assert await wrong(stage) == set()


async def test_its_story_tells_both_sales_and_who_gave_it_back(again: Again) -> None:
    stage = again.stage
    lead_id = await sold(stage)
    await returned(stage, lead_id, ACME)
    came = await again.resell(lead_id)
    await returned(stage, lead_id, BEACON, "wrong_person")
    await again.resell(lead_id)

    async def load_book(_version: int) -> Any:
        return stage.book

    explain = Explain(
        stories=Stories(stage.database), load_book=load_book, caps=None, clock=stage.clock,
        invited_max=50,
    )  # fmt: skip
    story = await explain.story(lead_id)
    assert story.outcome == (
        "Sold to acme for 25.00 USD: 21.25 to the seller, 3.75 to the house; given back, "
        "sold again to beacon for 20.00 USD: 17.00 to the seller."
    )
    assert [one.buyer for one in story.attempts] == [ACME, BEACON]
    assert story.custody.verified
    kinds = [event.state for event in story.custody.events]
    assert kinds[-5:] == ["reoffered", "invited", "released", "accepted", "return_granted"]
    assert story.resales[0].resale_id == came.resale_id
    assert story.resales[1].says == "the reason of its return holds for every buyer."
    told = Console(file=io.StringIO(), width=160, color_system=None)
    told.print(page(story))
    assert "Offered again" in told.file.getvalue()


async def test_its_seller_is_told_by_webhook_and_by_get(again: Again) -> None:
    stage = again.stage
    lead_id = await sold(stage)
    await returned(stage, lead_id, ACME)
    await again.resell(lead_id)
    rows = await stage.database.fetch(
        "SELECT kind, body FROM outbox WHERE lead_id = $1 AND party_id = 2 ORDER BY at", lead_id
    )
    assert [row["kind"] for row in rows] == ["return.granted", "lead.resold"]
    assert (rows[1]["body"]["payout"], rows[1]["body"]["status"]) == ("17.00", "sold")
    told = await stage.replies.lead(lead_id, 2, stage.book)
    assert (told["status"], told["payout"]) == ("sold", "17.00")
    assert [sale["buyer"] for sale in told["sales"]] == [BEACON]
    assert told["sales"][0]["sale_id"] == rows[1]["body"]["sale_id"]


async def test_it_may_be_returned_and_sold_again_until_enough_had_it(again: Again) -> None:
    stage = again.stage
    lead_id = await sold(stage)
    for buyer, price in ((ACME, 20_000_000), (BEACON, 15_000_000)):
        await returned(stage, lead_id, buyer)
        assert (await again.resell(lead_id)).price_micros == price
    await returned(stage, lead_id, CEDAR, "language")
    assert (await again.resell(lead_id)).rule == "releases_spent"
    now = await state(stage, lead_id)
    assert now["attempts"] == [(ACME, "sold", 1), (BEACON, "sold", 2), (CEDAR, "sold", 3)]
    assert now["live"] == []
    assert await wrong(stage) == set()


async def test_the_job_sells_what_the_terms_say_and_looks_at_each_return_once(
    again: Again,
) -> None:
    stage = again.stage
    leads = [await sold(stage) for _ in range(3)]
    await returned(stage, leads[0], ACME)
    await returned(stage, leads[1], ACME, "wrong_person")  # holds of every buyer
    stage.beacon.bids = {}
    assert await again.turn() == 1
    assert (again.told[-1].lead_id, again.told[-1].rule) == (leads[0], "no_buyer")
    assert await again.turn() == 0
    assert [(await state(stage, lead))["lead"] for lead in leads] == ["sold"] * 3
    stage.beacon.bids = {"beacon-auto": "20.00"}
    await returned(stage, leads[2], ACME, "language")
    assert await again.turn() == 1
    assert again.told[-1].kind == "sold"
    by_hand = await again.resell(leads[0])  # a person may try again
    assert by_hand.kind == "sold"
    assert (await again.resell(leads[0])).rule == "not_in_full"  # it is sold now


@pytest.mark.parametrize("reason", ["wrong_person", "no_consent"])
async def test_what_holds_of_every_buyer_is_never_offered_again(again: Again, reason: str) -> None:
    lead_id = await sold(again.stage)
    await returned(again.stage, lead_id, ACME, reason)
    assert (await again.resell(lead_id)).rule == "not_resellable"
    assert again.stage.beacon.pinged == []


async def test_what_an_incident_gave_back_is_never_offered_again(again: Again) -> None:
    lead_id = await sold(again.stage)
    case = await returned(again.stage, lead_id, ACME)
    await again.stage.database.execute(
        "UPDATE return_case SET rule = 'incident_credited' WHERE return_id = $1", case.return_id
    )
    assert await again.turn() == 0
    assert (await again.resell(lead_id)).rule == "not_resellable"


async def test_no_lead_is_offered_that_is_not_returned(again: Again) -> None:
    lead_id = await sold(again.stage)
    assert (await again.resell(lead_id)).rule == "not_returned"
    assert (await again.resell("nothing")).rule == "no_such_lead"
    assert (await again.resell(again.stage.clock.new_id())).rule == "no_such_lead"


async def test_without_terms_only_a_person_offers_it(stage: Any) -> None:
    again = await made(stage, None)
    lead_id = await sold(stage)
    await returned(stage, lead_id, ACME)
    assert await again.turn() == 0
    assert (await again.resell(lead_id)).kind == "sold"
    audit = await stage.database.fetchrow(
        "SELECT by, detail FROM audit WHERE subject = $1", lead_id
    )
    assert (audit["by"], audit["detail"]) == ("Dana", {"why": "tests"})


async def test_consent_that_names_companies_is_kept_to(again: Again) -> None:
    stage = again.stage
    stage.consent = {"kind": "named", "buyers": [ACME, CEDAR]}
    lead_id = await sold(stage)
    await returned(stage, lead_id, ACME)
    assert (await again.resell(lead_id)).price_micros == 15_000_000
    assert (await state(stage, lead_id))["live"] == [CEDAR]
    assert {ping["contract"] for ping in stage.beacon.pinged} == {"cedar-auto"}
    stage.consent = {"kind": "named", "buyers": [ACME]}
    other = await sold(stage)
    await returned(stage, other, ACME)
    assert (await again.resell(other)).rule == "no_buyer"


async def test_an_erased_record_is_not_offered(again: Again) -> None:
    stage = again.stage
    lead_id = await sold(stage)
    await returned(stage, lead_id, ACME)
    await stage.sealed.execute("DELETE FROM lead_private WHERE lead_id = $1", lead_id)
    assert (await again.resell(lead_id)).rule == "record_gone"


async def test_who_refuses_it_passes_it_on(again: Again) -> None:
    stage = again.stage
    stage.beacon.on_post = lambda *_: (
        {"status": "rejected", "reason": "no"}
        if len(stage.beacon.had) == 1
        else {"status": "accepted"}
    )
    lead_id = await sold(stage)
    await returned(stage, lead_id, ACME)
    assert (await again.resell(lead_id)).price_micros == 15_000_000
    now = await state(stage, lead_id)
    assert now["attempts"] == [(ACME, "sold", 1), (BEACON, "rejected", 2), (CEDAR, "sold", 2)]
    await returned(stage, lead_id, CEDAR)
    assert (await again.resell(lead_id)).rule == "releases_spent"


async def test_a_doubt_of_the_second_sale_is_ended_like_any(again: Again) -> None:
    stage = again.stage
    stage.beacon.on_post = lambda *_: None
    lead_id = await sold(stage)
    await returned(stage, lead_id, ACME)
    assert (await again.resell(lead_id)).kind == "in_doubt"
    assert (await stage.replies.lead(lead_id, 2, stage.book))["status"] == "pending"
    (attempt,) = await stage.database.fetch(
        "SELECT attempt_id::text FROM attempt WHERE lead_id = $1 AND leg = 2", lead_id
    )
    (case,) = await stage.doubts.cases([attempt["attempt_id"]])
    assert case.lead.sold == ()
    assert case.ping_id is not None
    assert is_id(case.ping_id)
    resolved = await stage.resolving.resolve(attempt["attempt_id"], "sold", by="callback")
    assert resolved.kind in ("done", "running")
    stage.clock.ahead += timedelta(seconds=60)
    await stage.resolving.resolve(attempt["attempt_id"], "sold", by="callback")
    told = await stage.replies.lead(lead_id, 2, stage.book)
    assert (told["status"], told["payout"]) == ("sold", "17.00")
    assert await wrong(stage) == set()


async def test_resellers_at_once_sell_it_once(again: Again) -> None:
    stage = again.stage
    others = [Again(stage, boot_id=f"again-{number}") for number in range(3)]
    for _ in range(3):
        lead_id = await sold(stage)
        await returned(stage, lead_id, ACME)
        came = await asyncio.gather(*(one.resell(lead_id) for one in (again, *others)))
        kinds = Counter(one.kind for one in came)
        assert kinds["sold"] == 1, came
        assert {one.rule for one in came if one.kind != "sold"} <= {
            "busy", "not_in_full", "not_sold",
        }  # fmt: skip
        now = await state(stage, lead_id)
        assert now["live"] == [BEACON]
        assert len(now["attempts"]) == 2
    assert await wrong(stage) == set()


# --- the fences themselves ------------------------------------------------------------------------


@pytest.mark.parametrize("credited", [0, 24_999_999, 25_000_000])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE lead SET state = 'selling' WHERE lead_id = $1",
        "UPDATE sale_slot SET attempt_id = NULL WHERE lead_id = $1",
    ],
)
async def test_the_database_moves_nothing_back_without_granted_returns_of_all_of_it(
    again: Again, credited: int, statement: str
) -> None:
    lead_id = await sold(again.stage)
    async with again.stage.database.transaction() as connection:  # undone with its failure
        await connection.execute(
            "UPDATE attempt SET credited_micros = $2 WHERE lead_id = $1", lead_id, credited
        )
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute(statement, lead_id)


async def test_the_database_gives_no_lead_again_to_who_had_it(again: Again) -> None:
    stage = again.stage
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=False))
    await stage.refused(began)  # it had it, and holds nothing of it any more
    copy = "INSERT INTO attempt SELECT (jsonb_populate_record(a, $2)).* FROM attempt a"
    with pytest.raises(asyncpg.RestrictViolationError, match="had lead"):
        await stage.database.execute(
            f"{copy} WHERE lead_id = $1",
            began.lead.lead_id,
            {"attempt_id": stage.clock.new_id(), "leg": 2},
        )


# --- histories ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_a_lead_has_one_buyer_and_nobody_is_given_it_twice(
    again: Again, seed: int
) -> None:
    stage, chance = again.stage, random.Random(seed)
    answers = ({"status": "accepted"}, {"status": "rejected"}, None)
    leads = [await sold(stage) for _ in range(3)]
    for _ in range(14):
        lead_id = chance.choice(leads)
        stage.beacon.bids = {
            contract: f"{chance.randint(5, 30)}.00"
            for contract in ("beacon-auto", "cedar-auto")
            if chance.random() < 0.7
        }
        answer = chance.choice(answers)
        stage.beacon.on_post = lambda *_, answer=answer: answer
        now = await state(stage, lead_id)
        if now["live"] and chance.random() < 0.6:
            await returned(stage, lead_id, now["live"][0], chance.choice(TERMS["reasons"]))
        else:
            await again.resell(lead_id)
        now = await state(stage, lead_id)
        had = Counter(buyer for buyer, _, _ in now["attempts"])
        assert max(had.values()) == 1
        assert len(had) <= 3
        assert len(now["live"]) <= 1
    assert await wrong(stage) == set()
