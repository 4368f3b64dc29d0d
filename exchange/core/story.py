"""The story of one ping and lead, for whoever asks why it ended as it did.

`Story` is what is told: nothing personal, every name as the market writes it, and first of all one
sentence that says how it ended and why. `story_of` makes it of the material that was kept.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from exchange.core.book import Book
from exchange.core.cap_story import CapStory, cap_story
from exchange.core.custody import verify
from exchange.core.material import (
    AttemptFacts,
    EventFacts,
    Heard,
    LeadFacts,
    Material,
    NoticeFacts,
    TransferFacts,
    Used,
    guaranteed,
    losses_of,
    ranked,
)
from exchange.core.model import Candidate, ContractAnswer, Fact, Ping
from exchange.core.money import text_of
from exchange.core.outcome import Turned, sentence
from exchange.core.payouts import words
from exchange.core.reasons import Loss, NonBid
from exchange.core.resale_story import ResaleStory, first_leg, resale_stories, resold
from exchange.core.return_story import ReturnStory, return_story
from exchange.core.source_pauses import PauseTold

# --- what is told ---------------------------------------------------------------------------------


WHOLE = 1_000_000
"""A factor, in millionths, that takes nothing away."""
WRITTEN_OFF = "It was sent the lead and never answered; written off."


class ContractStory(Fact, frozen=True, kw_only=True):
    """One contract's part. `asked` false: `code` says why not. Asked: what it answered, when, and
    what became of its bid (`loss`; 0 is won). Where bids ranked by expected value, `factor` is what
    of the bid was thought to remain then, and `expected` what its payout was worth by it."""

    contract: str
    buyer: str
    asked: bool
    code: int | None = None
    says: str = ""
    answered_ms: float | None = None
    price: str | None = None
    payout: str | None = None
    fee: str | None = None
    rank: int | None = None
    loss: int | None = None
    loss_says: str = ""
    factor: str | None = None
    expected: str | None = None


class EventStory(Fact, frozen=True, kw_only=True):
    """One step of an attempt."""

    state: str
    at: datetime
    says: str = ""


class AttemptStory(Fact, frozen=True, kw_only=True):
    """One try at one buyer. `doubt` tells, if there was one, how long it lasted and who ended
    it."""

    attempt_id: str
    buyer: str
    contract: str
    rank: int
    state: str
    price: str
    payout: str
    fee: str
    currency: str
    deadline_at: datetime
    events: tuple[EventStory, ...]
    buyer_ref: str | None
    buyer_reason: str | None
    doubt: str


class TransferStory(Fact, frozen=True, kw_only=True):
    """One transfer in words: `from_account` is debited, `to_account` credited."""

    from_account: str
    to_account: str
    amount: str
    currency: str
    at: datetime


class CustodyStory(Fact, frozen=True, kw_only=True):
    """The chain of hand-overs: whether it holds, and if not why."""

    verified: bool
    broken: str
    events: tuple[EventStory, ...]


class NoticeStory(Fact, frozen=True, kw_only=True):
    """A webhook to a party."""

    to: str
    kind: str
    state: str
    tries: int
    says: str


class Story(Fact, frozen=True, kw_only=True):
    """A ping's and lead's whole story. `outcome` is the one sentence; times are UTC. `is_exact`:
    why contracts were not asked is told from the cleared bits of that moment. `paid_by`: the
    seller's terms of payout then."""

    id: str
    status: str
    outcome: str
    vertical: str
    seller: str
    source: str
    sub_id: str | None
    external_id: str | None
    direct: bool
    test: bool
    received_at: datetime
    answered_ms: float
    late_ms: float
    fields: dict[str, Any]
    gated: tuple[str, ...]
    floor: str
    promised: str | None
    expires_at: datetime | None
    currency: str
    book_version: int
    is_journaled: bool
    is_exact: bool
    contracts: tuple[ContractStory, ...]
    caps: tuple[CapStory, ...]
    attempts: tuple[AttemptStory, ...]
    transfers: tuple[TransferStory, ...]
    custody: CustodyStory | None
    notices: tuple[NoticeStory, ...]
    returns: tuple[ReturnStory, ...] = ()
    pauses: tuple[PauseTold, ...] = ()
    paid_by: str = ""
    resales: tuple[ResaleStory, ...] = ()


# --- from the material ----------------------------------------------------------------------------


class _Names:
    """The market's names; what left the market is named by its number."""

    def __init__(self, book: Book) -> None:
        self.book = book

    def contract(self, contract_id: int) -> str:
        contract = self.book.contracts.get(contract_id)
        return contract.key if contract else f"contract #{contract_id}"

    def buyer(self, buyer_id: int) -> str:
        buyer = self.book.buyers.get(buyer_id)
        return buyer.key if buyer else f"buyer #{buyer_id}"

    def seller(self, seller_id: int) -> str:
        seller = self.book.sellers.get(seller_id)
        return seller.key if seller else f"seller #{seller_id}"

    def source(self, source_id: int) -> str:
        for source in self.book.sources.values():
            if source.id == source_id:
                return source.key
        return f"source #{source_id}"

    def party(self, party_id: int) -> str:
        if party_id == 1:
            return "house"
        if party_id in self.book.buyers:
            return self.buyer(party_id)
        return self.seller(party_id)


def story_of(material: Material, book: Book, *, now: datetime) -> Story:
    """The story that the material tells, in the names of `book` (the recorded version)."""
    heard, lead, names = material.heard, material.lead, _Names(book)
    resales = resale_stories(material, names.buyer)
    every, material = material, replace(material, attempts=first_leg(material.attempts))
    is_resold = any(one.released for one in material.resales)
    ping = heard.ping
    vertical = book.verticals.get(ping.vertical_id)
    losses = losses_of(material)
    currency = lead.currency if lead else vertical.terms.currency if vertical else ""
    return Story(
        id=ping.ping_id,
        status=_status(heard, lead, now),
        outcome=resold(
            sentence(
                status="sold" if is_resold else _status(heard, lead, now),
                turns=_turns(material, losses, names),
                promised_micros=lead.promised_payout_micros if lead else heard.payout_micros,
                accepted_micros=lead.min_payout_micros if lead else heard.payout_micros,
                currency=currency,
                reason=_reason_code(heard, lead),
                refused=_refused(heard, names),
                not_asked=len(material.not_asked),
                expires_at=heard.expires_at,
                guaranteed_micros=guaranteed(material),
            ),
            every,
            names.buyer,
        ),
        vertical=vertical.key if vertical else f"vertical #{ping.vertical_id}",
        seller=names.seller(ping.seller_id),
        source=names.source(ping.source_id),
        sub_id=ping.sub_id,
        external_id=ping.external_id,
        direct=ping.direct,
        test=ping.test,
        received_at=ping.received_at,
        answered_ms=round(heard.took_ms, 3),
        late_ms=round(heard.late_ms, 3),
        fields=_fields(ping, book),
        gated=ping.gated,
        floor=text_of(ping.floor_micros),
        promised=None if heard.payout_micros is None else text_of(heard.payout_micros),
        expires_at=heard.expires_at,
        currency=currency,
        book_version=heard.book_version,
        is_journaled=heard.is_journaled,
        is_exact=material.is_exact,
        contracts=_contracts(material, losses, names),
        caps=tuple(_cap(one, names) for one in material.caps),
        attempts=tuple(_attempt(one, every.events, names) for one in every.attempts),
        transfers=tuple(_transfer(one, names) for one in material.transfers),
        custody=_custody(material),
        notices=tuple(_notice(one, names) for one in material.notices),
        returns=tuple(return_story(one, names.buyer(one.buyer_id)) for one in material.returns),
        resales=resales,
        pauses=material.pauses,
        paid_by=words(book.parties.payout(ping.seller_id, ping.source_id)),
    )


def _status(heard: Heard, lead: LeadFacts | None, now: datetime) -> str:
    """The lead's state once there is a lead, else what became of the ping."""
    if lead is not None:
        return lead.state
    if heard.outcome == "no_offer":
        return "no_offer"
    return "expired" if heard.expires_at is not None and heard.expires_at <= now else "offered"


def _reason_code(heard: Heard, lead: LeadFacts | None) -> int | None:
    if lead is None:
        return heard.reason
    reason = (lead.reply or {}).get("reason")
    return reason["code"] if reason else None


def _refused(heard: Heard, names: _Names) -> list[tuple[str, NonBid]]:
    """Who was asked and did not bid."""
    return [
        (names.buyer(one.buyer_id), NonBid(one.non_bid))
        for one in heard.answers
        if one.non_bid is not None
    ]


def _turns(material: Material, losses: Mapping[int, Loss], names: _Names) -> tuple[Turned, ...]:
    """The ranked bids with their ends, best first."""
    attempts = {one.contract_id: one for one in material.attempts}
    turns = []
    for one in ranked(material):
        attempt = attempts.get(one.contract_id)
        turns.append(
            Turned(
                buyer=names.buyer(one.buyer_id),
                contract=names.contract(one.contract_id),
                loss=losses.get(one.contract_id),
                state=attempt.state if attempt else None,
                price_micros=attempt.price_micros if attempt else one.price_micros,
                payout_micros=attempt.payout_micros if attempt else one.payout_micros,
                fee_micros=attempt.fee_micros if attempt else one.fee_micros,
                buyer_reason=attempt.buyer_reason if attempt else None,
                doubt=_doubt(attempt, material.events) if attempt else "",
                resolved_by=attempt.resolved_by if attempt else None,
            )
        )
    return tuple(turns)


def _fields(ping: Ping, book: Book) -> dict[str, Any]:
    """What was pinged; of a pseudonym only that there was one."""
    vertical = book.verticals.get(ping.vertical_id)
    terms = vertical.terms.fields if vertical else {}
    return {
        name: "(pseudonym)" if name in terms and terms[name].ping == "pseudonym" else value
        for name, value in ping.fields.items()
        if name not in terms or not terms[name].personal or terms[name].ping == "pseudonym"
    }


def _contracts(
    material: Material, losses: Mapping[int, Loss], names: _Names
) -> tuple[ContractStory, ...]:
    """The ranked first, then the others that were asked, then those that were not."""
    bids = {one.contract_id: one for one in ranked(material)}
    answers = {one.contract_id: one for one in material.heard.answers}
    asked = [*bids, *(contract_id for contract_id in answers if contract_id not in bids)]
    told = [
        _asked(contract_id, answers.get(contract_id), bids.get(contract_id), losses, names)
        for contract_id in asked
    ]
    given_up = {one.contract_id for one in material.attempts if one.state == "written_off"}
    told = [
        replace(one, loss_says=WRITTEN_OFF) if contract_id in given_up else one
        for contract_id, one in zip(asked, told, strict=True)
    ]
    left = sorted(
        (int(code), names.contract(contract_id), contract_id)
        for contract_id, code in material.not_asked.items()
        if contract_id not in asked
    )
    told += [
        ContractStory(
            contract=key,
            buyer=_buyer_of(contract_id, names),
            asked=False,
            code=code,
            says=NonBid(code).sentence,
        )
        for code, key, contract_id in left
    ]
    return tuple(told)


def _asked(
    contract_id: int,
    answer: ContractAnswer | None,
    candidate: Candidate | None,
    losses: Mapping[int, Loss],
    names: _Names,
) -> ContractStory:
    non_bid = answer.non_bid if answer else None
    loss = losses.get(contract_id) if candidate else None
    price_micros = candidate.price_micros if candidate else answer.price_micros if answer else None
    factor = candidate.factor_millionths if candidate else WHOLE
    worth_micros = candidate.payout_micros * factor // WHOLE if candidate else 0
    return ContractStory(
        contract=names.contract(contract_id),
        buyer=_buyer_of(contract_id, names),
        asked=True,
        code=non_bid,
        says=_answer_says(non_bid, price_micros),
        answered_ms=round(answer.waited_ms, 3) if answer and answer.waited_ms else None,
        price=None if price_micros is None else text_of(price_micros),
        payout=text_of(candidate.payout_micros) if candidate else None,
        fee=text_of(candidate.fee_micros) if candidate else None,
        rank=candidate.rank if candidate else None,
        loss=None if loss is None else int(loss),
        loss_says="" if loss is None else loss.sentence,
        factor=None if factor == WHOLE else text_of(factor),
        expected=None if factor == WHOLE else text_of(worth_micros),
    )


def _answer_says(non_bid: int | None, price_micros: int | None) -> str:
    if non_bid is not None:
        return NonBid(non_bid).sentence
    return "Its answer was lost with the journal." if price_micros is None else "It bid."


def _buyer_of(contract_id: int, names: _Names) -> str:
    contract = names.book.contracts.get(contract_id)
    return names.buyer(contract.buyer_id) if contract else ""


def _cap(used: Used, names: _Names) -> CapStory:
    contract = names.book.contracts.get(used.contract_id)
    return cap_story(used, contract, key=names.contract(used.contract_id))


def _attempt(attempt: AttemptFacts, events: Sequence[EventFacts], names: _Names) -> AttemptStory:
    return AttemptStory(
        attempt_id=attempt.attempt_id,
        buyer=names.buyer(attempt.buyer_id),
        contract=names.contract(attempt.contract_id),
        rank=attempt.rank,
        state=attempt.state,
        price=text_of(attempt.price_micros),
        payout=text_of(attempt.payout_micros),
        fee=text_of(attempt.fee_micros),
        currency=attempt.currency,
        deadline_at=attempt.deadline_at,
        events=tuple(
            EventStory(state=event.state, at=event.at, says=_detail(event.detail))
            for event in events
            if event.attempt_id == attempt.attempt_id
        ),
        buyer_ref=attempt.buyer_ref,
        buyer_reason=attempt.buyer_reason,
        doubt=_doubt(attempt, events),
    )


def _detail(detail: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in detail.items() if key != "steps"
    )


def _doubt(attempt: AttemptFacts, events: Sequence[EventFacts]) -> str:
    """How long the attempt was in doubt and who ended it; empty when it never was."""
    mine = [event for event in events if event.attempt_id == attempt.attempt_id]
    since = next((event.at for event in mine if event.state == "unknown"), None)
    if since is None:
        return ""
    if attempt.state == "unknown":
        asked = f"; asked {attempt.checks} times" if attempt.checks else ""
        return f"in doubt since {_clock(since)}{asked}"
    until = next((event.at for event in mine if event.state == attempt.state), since)
    seconds = (until - since).total_seconds()
    return f"in doubt for {_span(seconds)}, ended by {attempt.resolved_by or 'the post'}"


def _clock(at: datetime) -> str:
    return at.strftime("%H:%M:%S")


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.0f} h"


def _transfer(transfer: TransferFacts, names: _Names) -> TransferStory:
    return TransferStory(
        from_account=f"{names.party(transfer.debit_party)} {transfer.debit_kind}",
        to_account=f"{names.party(transfer.credit_party)} {transfer.credit_kind}",
        amount=text_of(transfer.amount_micros),
        currency=transfer.currency,
        at=transfer.at,
    )


def _custody(material: Material) -> CustodyStory | None:
    if material.lead is None:
        return None
    head = (material.lead.custody_seq, material.lead.custody_head)
    broken = verify(material.custody, head=head)
    return CustodyStory(
        verified=broken is None,
        broken="" if broken is None else f"event {broken.seq}: {broken.why}",
        events=tuple(EventStory(state=row.kind, at=row.at) for row in material.custody),
    )


def _notice(notice: NoticeFacts, names: _Names) -> NoticeStory:
    if notice.state == "sent" and notice.sent_at:
        says = f"told at {_clock(notice.sent_at)}"
    elif notice.state == "dead":
        says = f"given up: {notice.last_result}"
    else:
        last = f" (last: {notice.last_result})" if notice.last_result else ""
        says = f"next try at {_clock(notice.next_try_at)}{last}"
    to = names.party(notice.party_id)
    return NoticeStory(to=to, kind=notice.kind, state=notice.state, tries=notice.tries, says=says)
