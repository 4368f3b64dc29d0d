"""One lead's sale against scripted parts: whose time it is, and what a braked buyer costs."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from exchange.core.attempts import Selling
from exchange.core.book import Book, book_of
from exchange.core.brake import Doubts
from exchange.core.custody import Chain
from exchange.core.model import Candidate, Lead, Personal
from exchange.core.reasons import Loss
from exchange.core.records import AttemptRow, CommitAnswer, CommitUnit, LeadPrivateRow
from exchange.core.terms import (
    BuyerTerms,
    CapTerms,
    ContractTerms,
    FieldTerms,
    Margin,
    MarketDoc,
    SellerTerms,
    VerticalTerms,
)
from exchange.core.wire import HttpReply, NoReply, NoReplyKind
from exchange.dialects import dialects
from exchange.effects.caps import Full, Reserved
from exchange.effects.clock import Clock
from exchange.effects.vault import BadSeal, Vault
from exchange.flows.deal import Deal, SaleEnd
from exchange.flows.replies import SEALED, Replies, key_of
from exchange.flows.selling import Sales, SellLimits
from exchange.flows.standing import Standing

PATIENCE_MS = 800
POST_MS = 2_000


class HandClock(Clock):
    """Wall and loop time, moved by hand."""

    def __init__(self) -> None:
        self.loop = 1_000.0
        self.wall = datetime(2026, 3, 2, 12, tzinfo=UTC)

    def pass_ms(self, ms: float) -> None:
        self.loop += ms / 1000
        self.wall += timedelta(milliseconds=ms)

    def now(self) -> datetime:
        return self.wall

    def now_ms(self) -> int:
        return int(self.wall.timestamp() * 1000)

    def loop_time(self) -> float:
        return self.loop


class Wire:
    """Buyers' endpoints: accept what arrives in time, and write nothing that is late."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.deadlines: list[float] = []
        self.written = 0
        self.answer = {"status": "accepted", "ref": "b-1"}

    def endpoint(self, *, key: str, **_: Any) -> str:
        return key

    def is_healthy(self, _key: str) -> bool:
        return True

    def retire(self, _keys: Any) -> None:
        pass

    async def send(self, _endpoint: Any, *, deadline: float, **_: Any) -> Any:
        self.deadlines.append(deadline)
        if deadline <= self._clock.loop_time():
            return NoReply(kind=NoReplyKind.TIMEOUT, sent=False)
        self.written += 1
        return HttpReply(status=200, body=msgspec.json.encode(self.answer))


class Ledger:
    """A database that takes its time over an INTENT, and keeps what it was given."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.intent_ms = 0.0
        self.intent_answer: Any = "done"
        self.attempts: list[AttemptRow] = []
        self.units: list[CommitUnit] = []

    async def commit(self, unit: CommitUnit) -> CommitAnswer:
        if unit.attempts:
            if self.intent_answer != "done":
                return CommitAnswer(kind=self.intent_answer)
            self._clock.pass_ms(self.intent_ms)
            self.attempts += unit.attempts
        self.units.append(unit)
        return CommitAnswer(kind="done")


class Room:
    """Caps that are full or not, and what was given back."""

    def __init__(self) -> None:
        self.is_full = False
        self.held: list[str] = []
        self.retried: list[bool] = []
        self.released: list[str] = []

    async def reserve(
        self, _buyer: int, token: str, windows: Any, _ttl: int, *, is_retried: bool
    ) -> Any:
        self.retried.append(is_retried)
        if self.is_full:
            return Full(win=windows[0].win)
        self.held.append(token)
        return Reserved(sq=1)

    async def release(self, _buyer: int, token: str) -> bool:
        self.released.append(token)
        return True

    async def commit(self, _buyer: int, _token: str, _windows: Any) -> bool:
        return True


def market() -> Book:
    buyer = BuyerTerms(
        ping_url="https://a.example/ping",
        post_url="https://a.example/post",
        time_zone="UTC",
        post_timeout_ms=PATIENCE_MS,
    )
    doc = MarketDoc(
        verticals={
            "auto": VerticalTerms(currency="USD", fields={"age": FieldTerms(type="int", ping=True)})
        },
        sellers={"bright": SellerTerms(margin=Margin(percent=Decimal(15)), sources=("web",))},
        buyers={"acme": buyer},
        contracts={
            "a": ContractTerms(buyer="acme", vertical="auto", caps=(CapTerms(leads=9, per="day"),))
        },
    )
    return book_of(doc)


class Stage:
    """A sale and its parts."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.wire, self.ledger, self.room = Wire(self.clock), Ledger(self.clock), Room()
        self.book = market()
        self.contract = next(iter(self.book.contracts.values()))
        self.vault = Vault({1: bytes(32)})
        self.trials = 0
        self.trial_is_ours = True
        self.guaranteed_micros = 0
        parts: Any = self
        self.standing = Standing(
            self.book,
            buyers=parts.wire,
            dialects=dialects(),
            brake_count=3,
            brake_s=300,
            trial_s=30,
            worker_number=1,
        )
        self.sales = Sales(
            clock=self.clock,
            standing=self.standing,
            buyers=parts.wire,
            caps=parts.room,
            commits=parts.ledger,
            replies=Replies(vault=parts.vault, leads=parts),
            secret=lambda _: None,
            claim_trial=self.claim,
            tell_late=self.nothing,
            limits=SellLimits(post_deadline_ms=POST_MS, hold_margin_ms=1_000, releases_max=3),
            boot_id="boot",
            worker="w",
            at=self.nothing,
        )

    async def claim(self, _buyer: int) -> bool:
        self.trials += 1
        return self.trial_is_ours

    async def nothing(self, *_: Any) -> None:
        pass

    def brake(self) -> None:
        """Three doubts, and long enough ago that a trial is due."""
        at_ms = self.clock.now_ms() - 60_000
        self.standing.learn_doubts({self.contract.buyer_id: Doubts(unknown_ms=(at_ms,) * 3)})

    async def key(self, _lead_id: str) -> tuple[int, bytes] | None:
        """The key as a database would have it that was told of the opening."""
        key = key_of(self.private)
        return key and (key.key_epoch, key.wrapped_dek)

    async def sold(self, *, attempt_id: str | None = None) -> SaleEnd:
        lead_id = self.clock.new_id()
        sealed = self.vault.seal(lead_id, b"{}")
        self.private = LeadPrivateRow(
            lead_id=lead_id,
            key_epoch=sealed.key_epoch,
            wrapped_dek="\\x" + sealed.wrapped_dek.hex(),
            sealed="\\x" + sealed.sealed.hex(),
        )
        chain = Chain.begin(lead_id).append("received", self.clock.now(), {})
        candidate = Candidate(
            contract_id=self.contract.id,
            buyer_id=self.contract.buyer_id,
            rank=1,
            price_micros=9_000_000,
            payout_micros=8_000_000,
            fee_micros=1_000_000,
            attempt_id=attempt_id,
        )
        deal = Deal(
            lead=Lead(lead_id=lead_id, fields=Personal({"age": 30}), consent=Personal({})),
            fields={"age": 30},
            seller=next(iter(self.book.sellers.values())),
            source_id=next(iter(self.book.sources.values())).id,
            vertical=next(iter(self.book.verticals.values())),
            candidates=(candidate,),
            promised_micros=8_000_000,
            selling=Selling(
                lead_id=lead_id,
                seller_id=1,
                idem_key="k",
                chain=chain,
                boot_id="boot",
                state="selling",
                guaranteed_micros=self.guaranteed_micros,
                currency="USD",
            ),
            opening=None,
            pinged_at=self.clock.now(),
            began=self.clock.loop_time(),
            deadline=self.clock.loop_time() + POST_MS / 1000,
            direct=False,
            test=False,
            private=self.private,
        )
        sold = await self.sales.sell(deal)
        await self.sales.drain()
        return sold


@pytest.fixture
async def stage() -> Stage:
    return Stage()


# --- one budget -----------------------------------------------------------------------------------


async def test_a_send_ends_when_its_attempt_says_however_long_the_intent_took(stage) -> None:
    stage.ledger.intent_ms = 300
    began, wall = stage.clock.loop_time(), stage.clock.now()
    sold = await stage.sold()
    assert sold.record.status == "sold"
    (attempt,) = stage.ledger.attempts
    assert attempt.deadline_at == wall + timedelta(milliseconds=PATIENCE_MS)
    assert stage.wire.deadlines == [began + PATIENCE_MS / 1000]


async def test_nothing_is_written_when_the_intent_used_up_the_time(stage) -> None:
    stage.ledger.intent_ms = PATIENCE_MS
    sold = await stage.sold()
    assert stage.wire.written == 0
    assert [step.loss for step in sold.record.steps] == [Loss.POST_NOT_SENT]
    assert sold.record.status == "unsold"


# --- a braked buyer's trial -----------------------------------------------------------------------


async def test_a_full_cap_does_not_use_up_the_trial_of_a_braked_buyer(stage) -> None:
    stage.brake()
    stage.room.is_full = True
    sold = await stage.sold()
    assert [step.loss for step in sold.record.steps] == [Loss.CAP_LOST]
    assert stage.trials == 0


async def test_a_trial_that_is_another_leads_gives_its_room_back(stage) -> None:
    stage.brake()
    stage.trial_is_ours = False
    sold = await stage.sold()
    assert [step.loss for step in sold.record.steps] == [Loss.BRAKED]
    assert stage.wire.deadlines == []
    assert stage.room.released == stage.room.held != []


async def test_room_that_came_with_the_offer_outlives_a_trial_that_is_not_ours(stage) -> None:
    stage.brake()
    stage.trial_is_ours = False
    await stage.sold(attempt_id=stage.clock.new_id())
    assert stage.room.released == []


@pytest.mark.parametrize("came_with_offer", [True, False])
async def test_only_room_that_came_with_the_offer_is_asked_for_again(
    stage, came_with_offer
) -> None:
    await stage.sold(attempt_id=stage.clock.new_id() if came_with_offer else None)
    assert stage.room.retried == [came_with_offer]


async def test_a_braked_buyer_is_tried_with_one_lead(stage) -> None:
    stage.brake()
    assert (await stage.sold()).record.status == "sold"
    assert stage.trials == 1


# --- a guaranteed payout --------------------------------------------------------------------------


def guaranteed(stage: Stage) -> list[tuple[str, int]]:
    """Every transfer of a guarantee in what was committed."""
    rows = [row for unit in stage.ledger.units for row in unit.transfers]
    assert len({row.transfer_id for row in rows}) == len(rows)
    return [(row.credit_kind, row.amount_micros) for row in rows if row.code == 50]


async def test_a_guaranteed_lead_that_nobody_buys_is_paid_with_its_end(stage) -> None:
    stage.guaranteed_micros, stage.room.is_full = 5_000_000, True
    sold = await stage.sold()
    assert (sold.record.status, sold.reply.payout) == ("unsold", "5.00")
    assert guaranteed(stage) == [("payable", 5_000_000)]


async def test_a_guaranteed_lead_that_is_sold_is_paid_as_a_sale_alone(stage) -> None:
    stage.guaranteed_micros = 5_000_000
    sold = await stage.sold()
    assert (sold.record.status, sold.reply.payout) == ("sold", "8.00")
    assert guaranteed(stage) == []


async def test_a_duplicate_is_guaranteed_nothing(stage) -> None:
    stage.guaranteed_micros, stage.ledger.intent_answer = 5_000_000, "duplicate"
    sold = await stage.sold()
    assert (sold.record.status, sold.reply.payout) == ("duplicate", "0.00")
    assert guaranteed(stage) == []


# --- what a buyer puts in a reply -----------------------------------------------------------------

CANARY = "zerlinde.quax@mail.example"


async def test_a_redirect_is_told_to_the_seller_and_kept_sealed(stage) -> None:
    url = f"https://acme.example/thanks?who={CANARY}"
    stage.wire.answer |= {"redirect_url": url}
    sold = await stage.sold()
    assert (sold.reply.redirect_url, sold.reply.sales[0].redirect_url) == (url, url)
    assert all(CANARY.encode() not in msgspec.json.encode(unit) for unit in stage.ledger.units)
    stored = stage.ledger.units[-1].idem_done.reply
    assert (stored["status"], stored["payout"]) == ("sold", "8.00")
    again = await stage.sales._replies.told(sold.record.lead_id, stored)
    assert again == msgspec.to_builtins(sold.reply)


async def test_a_reply_opens_with_its_own_leads_key_alone(stage) -> None:
    stage.wire.answer |= {"redirect_url": "https://acme.example/thanks"}
    first = await stage.sold()
    stored = stage.ledger.units[-1].idem_done.reply
    await stage.sold()
    with pytest.raises(BadSeal):
        await stage.sales._replies.told(first.record.lead_id, stored)


async def test_once_the_leads_key_is_gone_the_redirect_is(stage) -> None:
    stage.wire.answer |= {"redirect_url": "https://acme.example/thanks"}
    sold = await stage.sold()
    stored = stage.ledger.units[-1].idem_done.reply
    stage.private = None
    told = await stage.sales._replies.told(sold.record.lead_id, stored)
    assert SEALED not in told
    assert "redirect_url" not in told
    assert told["status"] == "sold"


async def test_a_reply_without_a_redirect_is_kept_as_it_is(stage) -> None:
    sold = await stage.sold()
    assert stage.ledger.units[-1].idem_done.reply == msgspec.to_builtins(sold.reply)
