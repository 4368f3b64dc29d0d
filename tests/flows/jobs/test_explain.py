"""The stories people ask for, told whole: golden pages in `stories/`, one per way a lead can end.

    pytest tests/dialects tests/flows/jobs --update-golden      writes the pages; read the diff

Ids, times and spans are made alike before comparing; everything else must be as it stands.
"""

import io
import re
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from exchange.core import attempts
from exchange.core.attempts import Ended
from exchange.core.model import Candidate, ContractAnswer, Ping
from exchange.core.reasons import Delivery, Loss, NonBid, Reason
from exchange.core.records import PingRecord, PostStep
from exchange.core.story import Story
from exchange.effects.journal import Journal
from exchange.effects.stories import Stories
from exchange.flows.explain import Explain, NoSuchStory
from exchange.flows.standing import MaskDoc
from exchange.flows.story_page import page

pytestmark = pytest.mark.real

STORIES = Path(__file__).parent / "stories"
ALIKE = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "0" * 36),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-01-01 12:00:00"),
    (r"\d\d:\d\d:\d\d\.\d{3}", "12:00:00.000"),
    (r"\d\d:\d\d:\d\d", "12:00:00"),
    (r"in doubt for \d+\.\d s", "in doubt for 1.0 s"),
)


NOTHING_CLEARED: dict[str, str] = {}
MASK_IDS = count(1)


class Teller:
    """Plays leads and tells their stories. Each has days of its own, so that caps start empty."""

    def __init__(self, stage: Any, explain: Explain, database_url: str) -> None:
        self.stage, self.explain, self.database_url = stage, explain, database_url

    async def pinged(
        self,
        lead_id: str,
        *answers: ContractAnswer,
        gates: dict[str, str] | None = NOTHING_CLEARED,
        factor: int = 1_000_000,
    ) -> None:
        """The journal's row, with the bits that were cleared (`None`: they were lost). Without
        answers: the two bids of the stage's offer, ranked by what is left of them."""
        offer = self.stage.offer(lead_id)
        mask_id = next(MASK_IDS)
        mask = MaskDoc(
            mask_id=mask_id, vertical_id=1, book_version=1, gates=gates or {}, segments=[]
        )
        bids = answers or tuple(
            ContractAnswer(
                contract_id=one.contract_id,
                buyer_id=one.buyer_id,
                non_bid=None,
                price_micros=one.price_micros,
                waited_ms=10.0 + one.rank,
            )
            for one in offer.candidates
        )
        record = PingRecord(
            ping=Ping(
                ping_id=lead_id,
                seller_id=2,
                source_id=1,
                vertical_id=1,
                fields={"state": "CA", "age": 40},
                received_at=self.stage.clock.now(),
                tmax_ms=1_500,
                gated=("phone",),
            ),
            outcome="no_offer" if answers else "offer",
            reason=int(Reason.NO_BIDS) if answers else None,
            answers=bids,
            ranking=()
            if answers
            else tuple(
                msgspec.structs.replace(one, factor_millionths=factor) for one in offer.candidates
            ),
            payout_micros=None if answers else offer.payout_micros,
            expires_at_ms=None if answers else offer.expires_at_ms,
            eligible=len(bids),
            reason_counts={},
            book_version=1,
            mask_id=mask_id,
            took_ms=14.2,
            waited_ms=12.0,
            added_ms=0.8,
            late_ms=0.0,
            worker="serve-1",
        )
        journal = Journal(masks=lambda: () if gates is None else (mask,))
        await journal.start(self.database_url)
        journal.put(record)
        await journal.stop()

    async def story(self, lead_id: str) -> Story:
        story = await self.explain.story(lead_id)
        assert isinstance(story, Story)
        return story

    async def ended(self, began: Any, delivery: Delivery, *losses: Loss, **more: Any) -> None:
        """The RESULT of the attempt, and of the lead."""
        now = self.stage.clock.now()
        end = Ended(attempt=began.attempt, delivery=delivery, at=now, **more)
        offer = self.stage.offer(began.lead.lead_id)
        steps = [step(one, loss) for one, loss in zip(offer.candidates, losses, strict=False)]
        state = "sold" if delivery is Delivery.ACCEPTED else "unsold"
        unit, _ = attempts.ended(
            began.selling, state, at=now, last=end, reply={"status": state}, steps=steps
        )
        assert (await self.stage.commits.commit(unit)).kind == "done"

    async def passed_on(self, began: Any, reason: str) -> Any:
        """The attempt is refused, and the next buyer's INTENT is in the same commit."""
        now = self.stage.clock.now()
        end = Ended(attempt=began.attempt, delivery=Delivery.REJECTED, at=now, buyer_reason=reason)
        following = self.stage.attempt(
            began.lead.lead_id,
            self.stage.candidate("beacon-auto", 2, 20_000_000),
            began.attempt.boot_id,
        )
        unit, selling = attempts.intent(began.selling, following, at=now, before=end)
        assert (await self.stage.commits.commit(unit)).kind == "done"
        return msgspec.structs.replace(began, attempt=following, selling=selling)


def step(one: Candidate, loss: Loss) -> PostStep:
    return PostStep(
        contract_id=one.contract_id,
        buyer_id=one.buyer_id,
        rank=one.rank,
        price_micros=one.price_micros,
        payout_micros=one.payout_micros,
        loss=int(loss),
    )


@pytest.fixture
def teller(stage: Any, database_url: str, request: pytest.FixtureRequest) -> Teller:
    names = sorted(name for name in globals() if name.startswith("test_"))
    stage.clock.ahead = timedelta(days=35 * (1 + names.index(request.function.__name__)))

    async def book_of_version(_version: int) -> Any:
        return stage.book

    explain = Explain(
        stories=Stories(stage.database),
        load_book=book_of_version,
        caps=stage.caps,
        clock=stage.clock,
        invited_max=50,
    )
    return Teller(stage, explain, database_url)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Any:
    def check(name: str, story: Story) -> None:
        told = Console(file=io.StringIO(), width=118, color_system=None)
        told.print(page(story))
        text = str(told.file.getvalue())  # type: ignore[attr-defined]
        for pattern, alike in ALIKE:
            text = re.sub(pattern, alike, text)
        text = "".join(line.rstrip() + "\n" for line in text.splitlines())
        path = STORIES / f"{name}.txt"
        if request.config.getoption("--update-golden", default=False):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check


async def test_a_lead_sold_at_first(teller: Teller, stage: Any, golden: Any) -> None:
    began = await stage.begin(await stage.boot("serve-1", is_dead=False))
    await teller.pinged(began.lead.lead_id)
    await teller.ended(began, Delivery.ACCEPTED, Loss.WON, buyer_ref="sale-77")
    await stage.tell(began, "sold")
    story = await teller.story(began.lead.lead_id)
    assert story.outcome == ("Sold to acme for 25.00 USD: 21.25 to the seller, 3.75 to the house.")
    golden("sold_at_first", story)


async def test_a_lead_that_fell_through_twice(teller: Teller, stage: Any, golden: Any) -> None:
    began = await stage.begin(await stage.boot("serve-1", is_dead=False))
    await teller.pinged(began.lead.lead_id)
    second = await teller.passed_on(began, "bad_phone")
    await stage.tell(began, "rejected")
    losses = (Loss.POST_REJECTED, Loss.POST_REJECTED)
    await teller.ended(second, Delivery.REJECTED, *losses, buyer_reason="duplicate")
    story = await teller.story(began.lead.lead_id)
    assert story.outcome == (
        "Not sold: acme rejected it (bad_phone), beacon rejected it (duplicate)."
    )
    golden("fell_through_twice", story)


async def test_nobody_else_would_pay_the_promise(teller: Teller, stage: Any) -> None:
    began = await stage.begin(await stage.boot("serve-1", is_dead=False))
    await teller.pinged(began.lead.lead_id)
    losses = (Loss.POST_REJECTED, Loss.BELOW_PROMISE)
    await teller.ended(began, Delivery.REJECTED, *losses, buyer_reason="bad_phone")
    story = await teller.story(began.lead.lead_id)
    assert story.outcome == (
        "Not sold: acme rejected it (bad_phone), nobody else would pay the promised 21.25 USD."
    )


async def test_a_ping_lost_without_an_offer(teller: Teller, stage: Any, golden: Any) -> None:
    ping_id, acme = stage.clock.new_id(), stage.contract("acme-auto")
    beacon = 1 << stage.book.indexes[1].slot_of[stage.contract("beacon-auto").id]
    silent = ContractAnswer(
        contract_id=acme.id,
        buyer_id=acme.buyer_id,
        non_bid=int(NonBid.TIMEOUT),
        waited_ms=1_490.0,
    )
    full = {str(int(NonBid.CAP_FULL)): f"{beacon:x}"}
    await teller.pinged(ping_id, silent, gates=full)
    story = await teller.story(ping_id)
    assert story.is_exact
    assert story.outcome == ("No offer: acme did not answer in time; 2 contracts were not asked.")
    assert {one.contract: one.code for one in story.contracts} == {
        "acme-auto": NonBid.TIMEOUT,
        "beacon-auto": NonBid.CAP_FULL,
        "acme-nevada": NonBid.OUT_OF_CRITERIA,
    }
    golden("lost_without_an_offer", story)


async def test_bits_that_were_lost_are_said_to_be_so(
    teller: Teller, stage: Any, golden: Any
) -> None:
    ping_id = stage.clock.new_id()
    await teller.pinged(ping_id, gates=None)
    story = await teller.story(ping_id)
    assert not story.is_exact
    golden("bits_lost", story)


async def test_a_lead_in_doubt_then_resolved(teller: Teller, stage: Any, golden: Any) -> None:
    stage.acme.on_post = lambda _id, _first: None
    began = await stage.begin(await stage.boot("serve-2", is_dead=False))
    await teller.pinged(began.lead.lead_id)
    await stage.send(began)
    await stage.doubt(began)
    waiting = await teller.story(began.lead.lead_id)
    assert waiting.outcome.startswith("In doubt: acme was sent the lead")
    await stage.turn()
    story = await teller.story(began.lead.lead_id)
    assert story.outcome.endswith("ended by inquiry.")
    golden("in_doubt_then_resolved", story)


async def test_a_lead_written_off(teller: Teller, stage: Any, golden: Any) -> None:
    stage.acme.status_up = False
    began = await stage.begin(await stage.boot("serve-3", is_dead=False))
    await teller.pinged(began.lead.lead_id)
    await stage.doubt(began)
    await stage.turn()
    stage.clock.ahead += timedelta(hours=25)
    await stage.turn()
    story = await teller.story(began.lead.lead_id)
    assert story.outcome == (
        "Not sold: acme was sent it and never answered, so it was written off: "
        "not billed, not sold on."
    )
    golden("written_off", story)


async def test_a_story_survives_the_loss_of_its_journal_row(
    teller: Teller, stage: Any, golden: Any
) -> None:
    began = await stage.begin(await stage.boot("serve-1", is_dead=False))
    await teller.ended(began, Delivery.ACCEPTED, Loss.WON)
    story = await teller.story(began.lead.lead_id)
    assert not story.is_journaled
    assert [one.contract for one in story.contracts if one.asked] == ["acme-auto", "beacon-auto"]
    golden("journal_lost", story)


async def test_a_story_is_json_and_back_and_holds_nothing_personal(
    teller: Teller, stage: Any
) -> None:
    began = await stage.begin(await stage.boot("serve-1", is_dead=False))
    await teller.pinged(began.lead.lead_id)
    text = msgspec.json.encode(await teller.story(began.lead.lead_id))
    assert msgspec.json.decode(text, type=Story).id == began.lead.lead_id
    assert began.lead.fields.values["phone"].encode() not in text


async def test_a_broken_chain_is_told(teller: Teller, stage: Any) -> None:
    began = await stage.begin(await stage.boot("serve-1", is_dead=False))
    await stage.database.execute(
        "UPDATE lead SET custody_seq = custody_seq - 1 WHERE lead_id = $1", began.lead.lead_id
    )
    story = await teller.story(began.lead.lead_id)
    assert story.custody is not None
    assert not story.custody.verified
    assert "does not end where its lead says" in story.custody.broken


async def test_bids_ranked_by_expected_value_say_what_they_were_worth_then(
    teller: Teller, stage: Any
) -> None:
    ping_id = stage.clock.new_id()
    await teller.pinged(ping_id, factor=400_000)
    story = await teller.story(ping_id)
    told = [(one.payout, one.factor, one.expected) for one in story.contracts if one.rank]
    assert told == [("21.25", "0.40", "8.50"), ("17.00", "0.40", "6.80")]
    shown = io.StringIO()
    Console(file=shown, width=140).print(page(story))
    assert "worth" in shown.getvalue()
    await teller.pinged(other := stage.clock.new_id())
    plain = [one.factor for one in (await teller.story(other)).contracts]
    assert plain == [None] * len(plain)


async def test_an_unknown_id_has_no_story(teller: Teller, stage: Any) -> None:
    assert isinstance(await teller.explain.story(stage.clock.new_id()), NoSuchStory)


async def test_a_trace_id_is_the_ping_id_without_its_dashes(teller: Teller, stage: Any) -> None:
    ping_id = stage.clock.new_id()
    await teller.pinged(ping_id)
    assert await teller.story(ping_id.replace("-", "")) == await teller.story(ping_id)
