"""Asking a buyer again about a post it never clearly answered.

*Inquire* is a GET of its status address, keyed by our attempt id: nothing personal leaves.
*Re-post* opens the sealed record and sends it once more to the same buyer, under the same key and
signature id, so that a buyer that has it already answers as before or says `duplicate`; it is done
only where the contract allows it.
"""

from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Literal, Protocol

import msgspec

from exchange.core.book import Book
from exchange.core.doubt import Finding, Reading, finding
from exchange.core.model import Buyer, Contract, Lead, Personal
from exchange.core.records import PrivateDoc
from exchange.core.resolution import Case
from exchange.effects.buyers import Buyers, Endpoint
from exchange.effects.clock import Clock
from exchange.effects.doubts import SealedLeads
from exchange.effects.vault import Sealed, Vault


class Desk(Protocol):
    """How buyers are reached and spoken to; `standing.Standing` is one."""

    @property
    def book(self) -> Book: ...
    def endpoint(self, buyer: Buyer, kind: str) -> Endpoint: ...
    def dialect(self, buyer: Buyer) -> ModuleType: ...


class InquiryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`answer_s`: how long a buyer may take to say what it did. `never_seen_after_s`: how long past
    the post's deadline its "never seen" starts to count."""

    answer_s: float = 5.0
    never_seen_after_s: float = 30.0


class Inquiries:
    """Asks buyers again."""

    def __init__(
        self,
        *,
        desk: Desk,
        buyers: Buyers,
        sealed: SealedLeads,
        vault: Vault,
        secret: Callable[[str], bytes | None],
        clock: Clock,
        limits: InquiryLimits,
    ) -> None:
        self._desk, self._buyers, self._sealed, self._vault = desk, buyers, sealed, vault
        self._secret, self._clock, self._limits = secret, clock, limits

    async def ask(
        self, step: Literal["inquire", "repost"], case: Case, contract: Contract, buyer: Buyer
    ) -> Finding | None:
        """What the buyer's word proves now, `None` when the doubt remains. Never raises for what a
        buyer does."""
        if step == "inquire":
            reading = await self._inquired(case, buyer)
        else:
            reading = await self._reposted(case, contract, buyer)
        return finding(
            step,
            reading,
            now=self._clock.now(),
            deadline_at=case.attempt.deadline_at,
            never_seen_after=timedelta(seconds=self._limits.never_seen_after_s),
        )

    async def _inquired(self, case: Case, buyer: Buyer) -> Reading:
        dialect = self._desk.dialect(buyer)
        answer = await self._buyers.send(
            self._desk.endpoint(buyer, "status"),
            method="GET",
            query=dialect.status_query(case.attempt.attempt_id),
            deadline=self._deadline(),
        )
        reading: Reading = dialect.read_status(answer)
        return reading

    async def _reposted(self, case: Case, contract: Contract, buyer: Buyer) -> Reading:
        lead = await self._opened(case)
        if lead is None:
            return Reading()
        dialect, attempt = self._desk.dialect(buyer), case.attempt
        body = dialect.post_body(
            lead,
            attempt_id=attempt.attempt_id,
            contract_key=contract.key,
            buyer_ref=attempt.buyer_bid_ref,
            price_micros=attempt.price_micros,
            custody={"head": case.lead.custody_head, "events": case.lead.custody_seq},
            test=attempt.test,
        )
        headers = dialect.post_headers(
            attempt_id=attempt.attempt_id,
            timestamp=int(self._clock.now().timestamp()),
            body=body,
            secret=self._secret(buyer.terms.secret) if buyer.terms.secret else None,
        )
        answer = await self._buyers.send(
            self._desk.endpoint(buyer, "post"),
            headers=headers,
            body=body,
            deadline=self._deadline(),
        )
        reading: Reading = dialect.read_delivery(answer)
        return reading

    async def _opened(self, case: Case) -> Lead | None:
        """The record as it was sealed; `None` when it was erased."""
        kept = await self._sealed.sealed(case.lead.lead_id)
        if kept is None:
            return None
        key_epoch, wrapped_dek, sealed = kept
        plain = self._vault.open(
            case.lead.lead_id,
            Sealed(key_epoch=key_epoch, wrapped_dek=wrapped_dek, sealed=sealed),
        )
        private = msgspec.json.decode(plain, type=PrivateDoc)
        return Lead(
            lead_id=case.lead.lead_id,
            fields=Personal(private.lead),
            consent=Personal(private.consent),
            chain=tuple(private.chain),
            ping_id=case.ping_id,
        )

    def _deadline(self) -> float:
        return self._clock.loop_time() + self._limits.answer_s
