"""What reconcile makes of an unfinished post: policy x what the buyer does x where it was cut off,
to how it ends: state, money, caps and what the seller hears. On the real Postgres and Valkey."""

from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from exchange.core.doubt import Finding
from exchange.effects.caps import Caps
from exchange.effects.leads import Leads
from exchange.flows.doubt import Endings
from exchange.flows.replies import Replies

pytestmark = pytest.mark.real

INQUIRE = ("inquire", "write_off")
REPOST = ("repost", "write_off")
BOTH = ("inquire", "repost", "write_off")
HOLD = ("inquire", "hold_as_sold")
NOW, SOON, HELD, DAY = (timedelta(seconds=s) for s in (0, 60, 700, 90_000))

SOLD = {"attempt": "sold", "lead": "sold", "billed": 25_000_000, "told": "sold"}
REFUSED = {"attempt": "rejected", "lead": "unsold", "billed": 0, "told": "unsold"}
OPEN = {"attempt": "unknown", "lead": "in_doubt", "billed": 0, "told": None}
GIVEN_UP = {"attempt": "written_off", "lead": "unsold", "billed": 0, "told": "unsold"}
COUNTED = {"used": [1, 25_000_000], "held": [0, 0]}
KEPT = {"used": [0, 0], "held": [1, 25_000_000]}
FREE = {"used": [0, 0], "held": [0, 0]}


class Row(NamedTuple):
    policy: tuple[str, ...]
    buyer: str
    cut: str
    later: timedelta
    end: dict[str, Any]
    caps: dict[str, Any]
    by: str | None


TABLE = [
    Row(INQUIRE, "accepts", "after_send", NOW, SOLD, COUNTED, "inquiry"),
    Row(INQUIRE, "accepts", "doubted", NOW, SOLD, COUNTED, "inquiry"),
    Row(INQUIRE, "accepts", "stuck", NOW, SOLD, COUNTED, "inquiry"),
    Row(INQUIRE, "accepts", "before_send", NOW, OPEN, KEPT, None),
    Row(INQUIRE, "accepts", "before_send", SOON, REFUSED, FREE, "inquiry"),
    Row(INQUIRE, "rejects", "after_send", NOW, REFUSED, FREE, "inquiry"),
    Row(INQUIRE, "rejects", "doubted", NOW, REFUSED, FREE, "inquiry"),
    Row(INQUIRE, "silent", "after_send", NOW, OPEN, KEPT, None),
    Row(INQUIRE, "silent", "after_send", HELD, OPEN, KEPT, None),
    Row(INQUIRE, "silent", "after_send", DAY, GIVEN_UP, FREE, "policy"),
    Row(INQUIRE, "silent", "doubted", DAY, GIVEN_UP, FREE, "policy"),
    Row(HOLD, "silent", "after_send", SOON, OPEN, KEPT, None),
    Row(HOLD, "silent", "after_send", HELD, SOLD, COUNTED, "policy"),
    Row(HOLD, "rejects", "after_send", HELD, REFUSED, FREE, "inquiry"),
    Row(REPOST, "accepts", "before_send", NOW, SOLD, COUNTED, "repost"),
    Row(REPOST, "accepts", "after_send", NOW, SOLD, COUNTED, "repost"),
    Row(REPOST, "duplicate", "after_send", NOW, SOLD, COUNTED, "repost"),
    Row(REPOST, "rejects", "after_send", NOW, REFUSED, FREE, "repost"),
    Row(REPOST, "silent", "after_send", SOON, OPEN, KEPT, None),
    Row(BOTH, "forgets", "doubted", NOW, SOLD, COUNTED, "repost"),
]


def script(stage: Any, buyer: str, cut: str) -> None:
    """The buyer's part. A post cut off in the middle never gets its answer."""
    acme = stage.acme
    answers = {
        "accepts": {"status": "accepted", "ref": "b-1"},
        "forgets": {"status": "accepted", "ref": "b-1"},
        "rejects": {"status": "rejected", "reason": "bad_phone"},
        "duplicate": {"status": "rejected", "reason": "duplicate"},
        "silent": 503,
    }
    acme.bought = answers[buyer]
    acme.status_up = buyer not in ("silent", "forgets")
    hangs_up = cut != "before_send"
    acme.on_post = lambda _id, first: None if first and hangs_up else acme.bought


async def cut_off(stage: Any, cut: str) -> Any:
    """A post, cut off at one point."""
    boot = await stage.boot(stage.clock.new_id(), is_dead=cut in ("before_send", "after_send"))
    began = await stage.begin(boot)
    if cut != "before_send":
        await stage.send(began)
    if cut == "doubted":
        await stage.doubt(began)
    if cut == "stuck":
        stage.clock.ahead += timedelta(seconds=16)
    return began


@pytest.mark.parametrize("row", TABLE, ids=lambda r: f"{r.policy[0]}-{r.buyer}-{r.cut}-{r.later}")
async def test_every_unfinished_post_comes_to_its_end(stage: Any, row: Row) -> None:
    stage.in_force(policy=row.policy)
    script(stage, row.buyer, row.cut)
    began = await cut_off(stage, row.cut)
    await stage.turn()
    if row.later:
        stage.clock.ahead += row.later
        await stage.turn()
    assert await stage.now(began) == {**row.end, **row.caps, "by": row.by}
    if row.end is SOLD:
        assert began.attempt.attempt_id in stage.acme.had
    # Another round finds nothing left to do, or the same doubt.
    await stage.turn()
    assert await stage.now(began) == {**row.end, **row.caps, "by": row.by}


async def test_a_post_of_a_living_worker_is_left_alone_within_its_time(stage: Any) -> None:
    began = await stage.begin(await stage.boot("alive", is_dead=False))
    await stage.send(began)
    assert not await stage.turn()
    assert (await stage.now(began))["attempt"] == "posting"
    assert stage.acme.asked == 0


async def test_a_boot_that_missed_its_beats_is_dead_and_one_that_beats_is_not(stage: Any) -> None:
    for boot_id, silent_s in (("silent", 3_600), ("beating", 0)):
        await stage.database.execute(
            "INSERT INTO boot (boot_id, beat_at) VALUES ($1, now() - make_interval(secs => $2))",
            boot_id,
            silent_s,
        )
        await stage.begin(boot_id)
    boots = type(stage.boots)(stage.database, dead_after_s=0.5)
    assert "silent" in await boots.dead_boots()
    boots = type(stage.boots)(stage.database, dead_after_s=100_000)
    assert "silent" not in await boots.dead_boots()  # Postgres has not run for so long


async def test_a_test_lead_found_sold_moves_no_money(stage: Any) -> None:
    stage.acme.on_post = lambda _id, _first: None
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=True), test=True)
    await stage.send(began)
    await stage.turn()
    end = await stage.now(began)
    assert (end["attempt"], end["billed"], end["told"]) == ("sold", 0, "test")


async def test_a_repost_carries_the_same_key_and_the_sealed_record(stage: Any) -> None:
    stage.in_force(policy=REPOST)
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=True))
    await stage.turn()
    assert stage.acme.headers[-1]["Idempotency-Key"] == began.attempt.attempt_id
    assert began.lead.fields.values["phone"].encode() in stage.acme.bodies[-1]
    assert stage.beacon.bodies == []


async def test_an_erased_record_is_not_posted_again(stage: Any) -> None:
    stage.in_force(policy=REPOST)
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=True))
    await stage.sealed.execute("DELETE FROM lead_private WHERE lead_id = $1", began.lead.lead_id)
    await stage.turn()
    assert stage.acme.bodies == []
    assert (await stage.now(began))["attempt"] == "unknown"


async def test_a_lead_of_a_dead_worker_between_two_buyers_is_unsold(stage: Any) -> None:
    began = await stage.begin(await stage.boot("dead-between", is_dead=True))
    await stage.refused(began, is_told=False)
    await stage.turn()
    end = await stage.now(began)
    assert end == {**REFUSED, **FREE, "by": None}
    reply = await stage.database.fetchval(
        "SELECT reply FROM idem WHERE lead_id = $1", began.lead.lead_id
    )
    assert reply["reason"]["name"] == "interrupted"


async def test_a_direct_lead_of_a_dead_worker_that_nobody_saw_is_unsold(stage: Any) -> None:
    lead_id = await stage.received(await stage.boot(stage.clock.new_id(), is_dead=True))
    assert (await stage.turn()).interrupted == 1
    lead = await stage.database.fetchrow(
        "SELECT l.state, i.state AS key, i.reply FROM lead l JOIN idem i USING (lead_id)"
        " WHERE lead_id = $1",
        lead_id,
    )
    assert (lead["state"], lead["key"], lead["reply"]["status"]) == ("unsold", "done", "unsold")


async def test_a_lead_that_no_request_can_still_work_on_is_closed(stage: Any) -> None:
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=False))
    await stage.refused(began)
    stage.clock.ahead += timedelta(seconds=181)
    assert (await stage.turn()).interrupted == 1
    assert (await stage.now(began))["lead"] == "unsold"


async def test_a_lead_of_a_living_worker_between_two_buyers_is_left_alone(stage: Any) -> None:
    began = await stage.begin(await stage.boot("alive-between", is_dead=False))
    await stage.refused(began)
    await stage.turn()
    assert (await stage.now(began))["lead"] == "selling"


async def test_a_dead_workers_sale_is_told_to_valkey_again(stage: Any) -> None:
    boot = await stage.boot(stage.clock.new_id(), is_dead=False)
    began = await stage.begin(boot)
    await stage.sold_untold(began)
    assert (await stage.now(began))["held"] == [1, 25_000_000]
    await stage.boots.leave(boot)
    await stage.turn()
    end = await stage.now(began)
    assert {key: end[key] for key in COUNTED} == COUNTED


async def test_a_worker_taken_for_dead_that_dies_later_is_told_of_again(stage: Any) -> None:
    boot = await stage.boot(stage.clock.new_id(), is_dead=True)
    await stage.turn()
    await stage.boots.register(boot, "serve")  # it beats again, and sells
    began = await stage.begin(boot)
    await stage.sold_untold(began)
    await stage.turn()
    assert (await stage.now(began))["held"] == [1, 25_000_000]
    await stage.boots.leave(boot)
    await stage.turn()
    end = await stage.now(began)
    assert {key: end[key] for key in COUNTED} == COUNTED


async def test_a_doubt_that_a_dead_process_ended_is_told_whoever_began_it(stage: Any) -> None:
    jobs = await stage.boot(stage.clock.new_id(), is_dead=False)
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=False))
    await stage.doubt(began)
    [case] = await stage.doubts.cases([began.attempt.attempt_id])
    unheard = Endings(
        commits=stage.commits,
        caps=Deaf(),
        replies=Replies(vault=stage.vault, leads=Leads(stage.database)),
        clock=stage.clock,
        book=lambda: stage.desk.book,
    )
    assert await unheard.end(case, Finding(outcome="sold", by="inquiry"))
    assert (await stage.now(began))["held"] == [1, 25_000_000]
    await stage.boots.leave(jobs)
    await stage.turn()
    end = await stage.now(began)
    assert {key: end[key] for key in COUNTED} == COUNTED


async def test_a_redirect_that_reconcile_hears_of_is_kept_sealed(stage: Any) -> None:
    stage.in_force(policy=INQUIRE)
    url = "https://acme.example/thanks?who=zerlinde.quax"
    stage.acme.bought = {"status": "accepted", "ref": "b-1", "redirect_url": url}
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=True))
    await stage.send(began)
    await stage.turn()
    lead_id = began.lead.lead_id
    stored = await stage.database.fetchval("SELECT reply FROM idem WHERE lead_id = $1", lead_id)
    assert stored["status"] == "sold"
    assert "zerlinde" not in str(stored)
    replies = Replies(vault=stage.vault, leads=Leads(stage.database))
    assert (await replies.told(lead_id, stored))["redirect_url"] == url
    erase = "UPDATE lead_private SET erased_at = now(), sealed = NULL, wrapped_dek = NULL"
    await stage.sealed.execute(f"{erase} WHERE lead_id = $1", lead_id)
    assert "redirect_url" not in await replies.told(lead_id, stored)


class Deaf(Caps):
    """Caps of a process that dies before it can tell them anything."""

    def __init__(self) -> None:
        pass

    async def commit(self, buyer_id: int, token: str, windows: Any) -> bool:
        return False
