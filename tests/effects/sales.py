"""Leads and their commits for the suites of the group-commit writer: built by the same builders as
the exchange's own, around rows with usual values."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import asyncpg
import uuid_utils
from msgspec.structs import replace

from exchange.core import attempts
from exchange.core.attempts import Ended, Opening, Selling
from exchange.core.custody import Chain
from exchange.core.reasons import Delivery
from exchange.core.records import (
    AttemptRow,
    CommitUnit,
    IdemRow,
    LeadPrivateRow,
    LeadRow,
    PersonClaim,
    PersonKeyRow,
)

SELLER, BUYER, OTHER_BUYER = 2, 3, 4
HASH = "\\x" + "ab" * 32
PRICE, PAYOUT = 10_000_000, 8_500_000
SOLD = {"status": "sold"}


async def add_parties(connection: asyncpg.Connection) -> None:
    """The seller and the buyers, whose accounts need them."""
    await connection.execute(
        "INSERT INTO party (id, kind, key) VALUES (2, 'seller', 's'), (3, 'buyer', 'b'), "
        "(4, 'buyer', 'c') ON CONFLICT DO NOTHING"
    )


def new_id() -> str:
    return str(uuid_utils.uuid7())


class Sale:
    """One lead on its way; each method gives the next commit. `consumer`: the keyed hash of whom it
    is of, claimed with the first INTENT; nobody is claimed without one."""

    def __init__(
        self, *, key: str | None = None, lead_id: str | None = None, consumer: str | None = None
    ) -> None:
        self.lead_id = lead_id or new_id()
        self.key = key or self.lead_id
        self.consumer = consumer
        self.at = datetime.now(UTC)
        chain = Chain.begin(self.lead_id).append("received", self.at, {"commitments": {}})
        self.selling = Selling(
            lead_id=self.lead_id, seller_id=SELLER, idem_key=self.key, chain=chain, boot_id="boot",
            claims=self._claims(),
        )  # fmt: skip
        self.opening: Opening | None = self._opening()
        self.attempt: AttemptRow | None = None

    def intent(
        self,
        *,
        buyer_id: int = BUYER,
        windows: tuple[tuple[str, int, int], ...] = (),
        cap_mode: str = "strict",
        refused: bool = False,
    ) -> CommitUnit:
        """INTENT; with `refused` the attempt before it ends in the same commit."""
        before = self._ended(Delivery.REJECTED) if refused else None
        self.attempt = self._attempt(buyer_id, windows, cap_mode)
        unit, self.selling = attempts.intent(
            self.selling, self.attempt, at=self.at, opening=self.opening, before=before
        )
        self.opening = None
        return unit

    def result(
        self,
        delivery: Delivery = Delivery.ACCEPTED,
        state: Literal["sold", "unsold", "in_doubt", "selling"] = "sold",
        *,
        buyer_ref: str | None = None,
    ) -> CommitUnit:
        """RESULT of the attempt under way."""
        last = self._ended(delivery, buyer_ref) if self.attempt else None
        unit, self.selling = attempts.ended(
            self.selling, state, at=self.at, reply=SOLD, last=last, opening=self.opening
        )
        self.opening = None
        return unit

    def _ended(self, delivery: Delivery, buyer_ref: str | None = None) -> Ended:
        assert self.attempt is not None
        return Ended(attempt=self.attempt, delivery=delivery, at=self.at, buyer_ref=buyer_ref)

    def _attempt(
        self, buyer_id: int, windows: tuple[tuple[str, int, int], ...], cap_mode: str
    ) -> AttemptRow:
        later = self.at + timedelta(seconds=10)
        return AttemptRow(
            attempt_id=new_id(), lead_id=self.lead_id, seller_id=SELLER, buyer_id=buyer_id,
            contract_id=1, contract_version=1, rank=1, leg=1, price_micros=PRICE,
            payout_micros=PAYOUT, fee_micros=PRICE - PAYOUT, currency="USD", buyer_bid_ref=None,
            bid_expires_at=None, deadline_at=later, next_check_at=later, boot_id="boot",
            cap_mode=cap_mode, cap_sq=1, windows=[list(one) for one in windows], slots=[1],
            test=False, created_at=self.at,
        )  # fmt: skip

    def _claims(self) -> tuple[PersonClaim, ...]:
        if self.consumer is None:
            return ()
        since = self.at - timedelta(days=30)
        return (PersonClaim(lead_id=self.lead_id, vertical_id=1, hmac=self.consumer, since=since),)

    def received(self) -> CommitUnit:
        """RECEIVED, of a direct lead: durable before anything is claimed."""
        assert self.opening is not None
        opening = replace(self.opening, lead=replace(self.opening.lead, state="received"))
        unit, self.selling = attempts.opened(opening, self.selling)
        self.opening = None
        return unit

    def _opening(self) -> Opening:
        lead = LeadRow(
            lead_id=self.lead_id, seller_id=SELLER, source_id=1, sub_id=None, vertical_id=1,
            external_id=None, state="selling", mode="exclusive", max_sales=1, direct=False,
            promised_payout_micros=PAYOUT, min_payout_micros=PAYOUT, floor_micros=0,
            currency="USD", consent_kind="tcpa", custody_seq=0, custody_head="", book_version=1,
            mask_id=0, offer={"payout_micros": PAYOUT}, boot_id="boot", test=False,
            received_at=self.at,
        )  # fmt: skip
        return Opening(
            lead=lead,
            idem=IdemRow(seller_id=SELLER, key=self.key, fingerprint=HASH, lead_id=self.lead_id),
            private=LeadPrivateRow(
                lead_id=self.lead_id, key_epoch=1, wrapped_dek=HASH, sealed=HASH
            ),
            persons=(
                PersonKeyRow(
                    lead_id=self.lead_id,
                    vertical_id=1,
                    kind="phone",
                    pepper_epoch=1,
                    hmac=self.consumer or HASH,
                ),
            ),
        )


async def state_of(connection: asyncpg.Connection, lead_id: str) -> dict[str, Any]:
    """What the database holds of a lead, in a few words."""
    row = await connection.fetchrow(
        """
        SELECT l.state, l.custody_seq, encode(l.custody_head, 'hex') AS custody_head,
          (SELECT array_agg(a.state ORDER BY a.attempt_id) FROM attempt a
           WHERE a.lead_id = l.lead_id) AS attempts,
          (SELECT coalesce(sum(t.amount_micros), 0)::bigint FROM transfer t
           WHERE t.lead_id = l.lead_id) AS transferred,
          (SELECT count(*) FROM custody_event c WHERE c.lead_id = l.lead_id) AS events,
          (SELECT count(*) FROM attempt_event e WHERE e.lead_id = l.lead_id) AS facts,
          (SELECT i.state FROM idem i WHERE i.lead_id = l.lead_id) AS idem,
          (SELECT array_agg(s.attempt_id IS NOT NULL) FROM sale_slot s
           WHERE s.lead_id = l.lead_id) AS slots
        FROM lead l WHERE l.lead_id = $1
        """,
        lead_id,
    )
    return dict(row) if row is not None else {}
