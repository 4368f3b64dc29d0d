"""Two that find out the same thing, a worker that comes back, a lease that was lost: nothing
happens twice, and nothing is written by who may not."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from exchange.core import attempts
from exchange.core.attempts import Ended
from exchange.core.doubt import Finding
from exchange.core.reasons import Delivery
from exchange.effects.doubts import DoubtFilter
from exchange.effects.leases import Deposed, Leases
from exchange.flows.doubt import listing, resolve_many
from exchange.flows.reconcile import Pace

pytestmark = pytest.mark.real


async def in_doubt(stage: Any) -> Any:
    """A post that a living worker left in doubt; the buyer has it."""
    stage.acme.on_post = lambda _id, first: None if first else stage.acme.bought
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=False))
    await stage.send(began)
    await stage.doubt(began)
    return began


async def test_two_reconcilers_at_once_book_one_sale(stage: Any) -> None:
    begun = [await in_doubt(stage) for _ in range(4)]
    lease = await stage.leases.acquire("reconcile")
    turns = await asyncio.gather(*(stage.reconcile.turn(lease) for _ in range(3)))
    assert sum(turn.resolved for turn in turns) == 4
    for began in begun:
        end = await stage.now(began)
        assert (end["attempt"], end["billed"]) == ("sold", 25_000_000)
    assert end["used"] == [4, 100_000_000]


async def test_a_worker_that_comes_back_late_books_nothing_twice(stage: Any) -> None:
    began = await stage.begin(await stage.boot("slow", is_dead=False))
    await stage.send(began)
    stage.clock.ahead += timedelta(seconds=16)
    await stage.turn()
    assert (await stage.now(began))["attempt"] == "sold"
    now = stage.clock.now()
    late = Ended(attempt=began.attempt, delivery=Delivery.ACCEPTED, at=now)
    unit, _ = attempts.ended(began.selling, "sold", at=now, last=late, reply={"status": "sold"})
    assert (await stage.commits.commit(unit)).kind == "stale"
    assert (await stage.now(began))["billed"] == 25_000_000


async def test_an_intent_and_an_interruption_of_one_lead_exclude_each_other(stage: Any) -> None:
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=True))
    await stage.refused(began)
    orphan = (await stage.doubts.cases([began.attempt.attempt_id]))[0].lead
    selling = began.selling.__class__(
        lead_id=orphan.lead_id,
        seller_id=2,
        idem_key=orphan.idem_key,
        chain=orphan.selling().chain,
        boot_id="back",
        state="selling",
    )
    following = stage.attempt(orphan.lead_id, stage.candidate("beacon-auto", 2, 20_000_000), "back")
    unit, _ = attempts.intent(selling, following, at=stage.clock.now())
    assert (await stage.commits.commit(unit)).kind == "done"
    assert not await stage.endings.interrupt(orphan)
    assert (await stage.now(began))["lead"] == "selling"


# --- leases ---------------------------------------------------------------------------------------


async def test_a_lease_is_held_by_one_and_taken_over_with_a_higher_epoch(stage: Any) -> None:
    first = Leases(stage.database, boot_id="one", ttl_s=30)
    second = Leases(stage.database, boot_id="two", ttl_s=30)
    lease = await first.acquire("job")
    assert lease is not None
    assert await second.acquire("job") is None
    await first.renew(lease)
    await first.give_up(lease)
    taken = await second.acquire("job")
    assert taken is not None
    assert taken.epoch > lease.epoch
    with pytest.raises(Deposed):
        await first.renew(lease)


async def test_a_deposed_reconcile_writes_nothing(stage: Any) -> None:
    began = await in_doubt(stage)
    old = await stage.leases.acquire("reconcile")
    await stage.leases.acquire("reconcile")
    with pytest.raises(Deposed):
        await stage.reconcile.turn(old)
    assert (await stage.now(began))["attempt"] == "unknown"
    case = (await stage.doubts.cases([began.attempt.attempt_id]))[0]
    later = stage.clock.now() + timedelta(hours=1)
    assert not await stage.doubts.postpone(case, later, job=old.job, epoch=old.epoch)


# --- by callback and by hand ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state"),
    [("sold", "sold"), ("rejected", "rejected"), ("written_off", "written_off")],
)
async def test_a_buyers_word_ends_its_doubt_once(stage: Any, outcome: Any, state: str) -> None:
    began = await in_doubt(stage)
    attempt_id, buyer_id = began.attempt.attempt_id, began.attempt.buyer_id
    done = await stage.resolving.resolve(attempt_id, outcome, by="callback", buyer_id=buyer_id)
    assert (done.kind, done.state) == ("done", state)
    again = await stage.resolving.resolve(attempt_id, outcome, by="callback", buyer_id=buyer_id)
    assert again.kind == "already"
    other = "rejected" if outcome == "sold" else "sold"
    contrary = await stage.resolving.resolve(attempt_id, other, by="callback", buyer_id=buyer_id)
    assert (contrary.kind, contrary.state) == ("otherwise", state)
    assert (await stage.now(began))["by"] == "callback"


async def test_what_a_buyer_writes_of_the_consumer_is_not_kept(stage: Any) -> None:
    began = await in_doubt(stage)
    await stage.resolving.resolve(
        began.attempt.attempt_id,
        "rejected",
        by="callback",
        buyer_ref="lead of ada@mail.example",
        buyer_reason="Ada Example, 213-555-2368, has a policy already",
    )
    events = await stage.database.fetch(
        "SELECT state, detail FROM attempt_event WHERE lead_id = $1", began.lead.lead_id
    )
    [end] = [row["detail"] for row in events if row["state"] == "rejected"]
    assert end == {"buyer_reason": "other", "resolved_by": "callback"}


async def test_a_buyer_cannot_speak_for_another(stage: Any) -> None:
    began = await in_doubt(stage)
    said = await stage.resolving.resolve(
        began.attempt.attempt_id, "rejected", by="callback", buyer_id=stage.buyer("beacon").id
    )
    assert said.kind == "no_such"
    assert (await stage.now(began))["attempt"] == "unknown"


async def test_a_post_under_way_is_not_resolved_by_word(stage: Any) -> None:
    began = await stage.begin(await stage.boot("at-work", is_dead=False))
    said = await stage.resolving.resolve(began.attempt.attempt_id, "sold", by="callback")
    assert said.kind == "running"
    stage.clock.ahead += timedelta(seconds=16)
    said = await stage.resolving.resolve(began.attempt.attempt_id, "sold", by="callback")
    assert said.kind == "done"


async def test_the_callback_and_reconcile_at_once_end_it_once(stage: Any) -> None:
    began = await in_doubt(stage)
    case = (await stage.doubts.cases([began.attempt.attempt_id]))[0]
    ends = await asyncio.gather(
        stage.endings.end(case, Finding(outcome="sold", by="callback")),
        stage.endings.end(case, Finding(outcome="rejected", by="inquiry")),
        stage.endings.end(case, Finding(outcome="sold", by="inquiry")),
    )
    assert sorted(ends) == [False, False, True]
    end = await stage.now(began)
    assert end["billed"] == (25_000_000 if end["attempt"] == "sold" else 0)


async def test_many_doubts_are_shown_before_they_are_ended_and_audited(stage: Any) -> None:
    begun = [await in_doubt(stage) for _ in range(2)]
    bulk: dict[str, Any] = {
        "by": "operator ann",
        "why": "acme confirmed by mail",
        "doubts": stage.doubts,
        "resolving": stage.resolving,
        "book": stage.book,
    }
    narrowed = DoubtFilter(ids=tuple(began.lead.lead_id for began in begun))
    shown = await resolve_many(narrowed, "sold", dry_run=True, **bulk)
    assert shown.totals.leads == 2
    assert shown.totals.price_micros == {"USD": 50_000_000}
    assert sorted(shown.totals.caps_held.values()) == [2, 50_000_000]
    assert {(row.buyer, row.contract, row.policy) for row in shown.rows} == {
        ("acme", "acme-auto", ("inquire", "write_off"))
    }
    assert [(await stage.now(began))["attempt"] for began in begun] == ["unknown", "unknown"]

    done = await resolve_many(narrowed, "sold", dry_run=False, **bulk)
    assert [one.kind for one in done.resolved] == ["done", "done"]
    assert [(await stage.now(began))["by"] for began in begun] == ["operator ann"] * 2
    assert not await listing(narrowed, doubts=stage.doubts, book=stage.book)
    audit = await stage.database.fetchrow("SELECT * FROM audit WHERE action = 'doubt.resolve'")
    assert (audit["by"], audit["detail"]["why"]) == ("operator ann", "acme confirmed by mail")
    assert set(audit["detail"]["attempts"]) == {began.attempt.attempt_id for began in begun}


async def test_a_list_of_doubts_is_narrowed(stage: Any) -> None:
    began = await in_doubt(stage)
    mine = DoubtFilter(ids=(began.attempt.attempt_id,), buyer_id=began.attempt.buyer_id)
    assert len(await listing(mine, doubts=stage.doubts, book=stage.book)) == 1
    others = DoubtFilter(ids=(began.attempt.attempt_id,), buyer_id=stage.buyer("beacon").id)
    assert not await listing(others, doubts=stage.doubts, book=stage.book)
    early = DoubtFilter(since_before=stage.clock.now() - timedelta(hours=1))
    assert not await listing(early, doubts=stage.doubts, book=stage.book)


async def test_a_buyer_that_hangs_when_asked_holds_up_no_other_doubt(stage: Any) -> None:
    began = await in_doubt(stage)
    stage.acme.thinks = asyncio.Event()
    lease = await stage.leases.acquire("reconcile")
    pace = Pace(turn_s=0.05)
    stage.reconcile._pace = pace
    assert not await stage.reconcile.turn(lease)
    assert not await stage.reconcile.turn(lease)
    assert stage.acme.asked == 1  # it is not asked again while it thinks
    orphan = await stage.received(await stage.boot(stage.clock.new_id(), is_dead=True))
    assert (await stage.reconcile.turn(lease)).interrupted == 1
    assert await stage.database.fetchval(STATE, orphan) == "unsold"
    stage.acme.thinks.set()
    while not (await stage.reconcile.turn(lease)).resolved:
        pass
    assert (await stage.now(began))["attempt"] == "sold"


async def test_a_reconcile_that_stops_asks_nobody_any_more(stage: Any) -> None:
    began = await in_doubt(stage)
    stage.acme.thinks = asyncio.Event()
    stage.reconcile._pace = Pace(turn_s=0.05)
    await stage.reconcile.turn(await stage.leases.acquire("reconcile"))
    await stage.reconcile.stop()
    assert (await stage.now(began))["attempt"] == "unknown"
    stage.acme.thinks.set()


STATE = "SELECT state FROM lead WHERE lead_id = $1"
