"""How a lead is opened: the rows of its first commit, and its custody chain so far.

Here, and nowhere else on the way in, a consumer's data is turned into what may be kept: salted
commitments for the chain, keyed hashes for duplicates, and a sealed document for everything.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from exchange.core.attempts import Opening
from exchange.core.custody import Chain, commitment, invited_body, offered_body, received_body
from exchange.core.model import Fact, Lead, Offer, Personal, Value, Vertical
from exchange.core.records import (
    IdemRow,
    LeadPrivateRow,
    LeadRow,
    PersonClaim,
    PersonKeyRow,
    PrivateDoc,
)
from exchange.core.sale_checks import ConsentCheck, PhoneCheck, consent_check, phone_check
from exchange.effects.clock import Clock
from exchange.effects.vault import Vault

CONSENT = "$consent"
"""What the consent record is committed to as; no field has such a name."""
PERSON_KINDS = {"us_phone": "phone", "email": "email"}
"""Field types that identify a consumer, and the kind their keyed hash is filed under."""


class Body(Fact, frozen=True, kw_only=True):
    """A full record after decoding. `fields` may be personal: never shown. `named`: the companies
    that its consent names."""

    fields: dict[str, Value]
    consent: dict[str, Any]
    chain: Sequence[dict[str, Any]]
    named: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<body of {len(self.fields)} fields>"


class Openings:
    """Makes opening rows with the vault's keys."""

    def __init__(self, *, clock: Clock, vault: Vault, boot_id: str) -> None:
        self._clock, self._vault, self._boot_id = clock, vault, boot_id

    def opening(
        self,
        offer: Offer,
        body: Body,
        vertical: Vertical,
        key: str,
        fingerprint: str,
        *,
        state: str,
        promised_micros: int,
        direct: bool,
    ) -> tuple[Opening, Chain]:
        """The rows that open a lead, and its chain so far: received (with salted commitments
        instead of values), and for a post also who was invited and what was offered."""
        plain = _plain(body)
        salts = {
            name: self._vault.salt() for name in (*plain, *([CONSENT] if body.consent else ()))
        }
        now = self._clock.now()
        chain = self._chain(offer, vertical, body, plain, salts, now, direct=direct)
        lead = LeadRow(
            lead_id=offer.ping_id,
            seller_id=offer.seller_id,
            source_id=offer.source_id,
            sub_id=offer.sub_id,
            vertical_id=offer.vertical_id,
            external_id=offer.external_id,
            state=state,
            mode="exclusive",
            max_sales=1,
            direct=direct,
            promised_payout_micros=offer.payout_micros,
            min_payout_micros=promised_micros,
            floor_micros=offer.floor_micros,
            currency=offer.currency,
            consent_kind=vertical.terms.consent,
            custody_seq=chain.seq,
            custody_head=chain.head,
            book_version=offer.book_version,
            mask_id=offer.mask_id,
            offer=dict(msgspec.to_builtins(offer)),
            boot_id=self._boot_id,
            test=offer.test,
            received_at=now,
        )
        opening = Opening(
            lead=lead,
            idem=IdemRow(
                seller_id=offer.seller_id,
                key=key,
                fingerprint="\\x" + fingerprint,
                lead_id=offer.ping_id,
            ),
            private=self._sealed(offer.ping_id, body, plain, salts),
            persons=self.persons(body, vertical, offer.ping_id),
        )
        return opening, chain

    @staticmethod
    def _chain(
        offer: Offer,
        vertical: Vertical,
        body: Body,
        plain: dict[str, Any],
        salts: dict[str, bytes],
        now: datetime,
        *,
        direct: bool,
    ) -> Chain:
        """The chain up to here; what a direct lead's auction adds is appended when it has ended."""
        commitments = {name: commitment(salts[name], name, plain[name]) for name in plain}
        if body.consent:
            said = msgspec.json.encode(body.consent, order="deterministic").decode()
            commitments[CONSENT] = commitment(salts[CONSENT], CONSENT, said)
        received = received_body(
            offer,
            commitments,
            direct=direct,
            phone=_kept(phone_check(body.fields, vertical.terms.fields)),
            consent=_kept(consent_check(body.consent, now, kind=vertical.terms.consent)),
        )
        chain = Chain.begin(offer.ping_id).append("received", now, received)
        if direct:
            return chain
        chain = chain.append("invited", now, invited_body(offer, hidden=hidden(vertical)))
        return chain.append("offered", now, offered_body(offer))

    def _sealed(
        self, lead_id: str, body: Body, plain: dict[str, Any], salts: dict[str, bytes]
    ) -> LeadPrivateRow:
        doc = PrivateDoc(
            lead=plain,
            consent=body.consent,
            chain=list(body.chain),
            salts={name: salt.hex() for name, salt in salts.items()},
        )
        sealed = self._vault.seal(lead_id, msgspec.json.encode(doc))
        return LeadPrivateRow(
            lead_id=lead_id,
            key_epoch=sealed.key_epoch,
            wrapped_dek="\\x" + sealed.wrapped_dek.hex(),
            sealed="\\x" + sealed.sealed.hex(),
        )

    def claims(self, body: Body, vertical: Vertical, lead_id: str) -> tuple[PersonClaim, ...]:
        """The consumer, as the vertical's duplicate rule knows it; nothing where it has none."""
        rule = vertical.terms.duplicate
        if rule is None:
            return ()
        since = self._clock.now() - timedelta(days=rule.window_days)
        return tuple(
            PersonClaim(lead_id=lead_id, vertical_id=vertical.id, hmac=person.hmac, since=since)
            for person in self.persons(body, vertical, lead_id, rule.fields)
        )

    def persons(
        self,
        body: Body,
        vertical: Vertical,
        lead_id: str,
        only: Sequence[str] | None = None,
    ) -> tuple[PersonKeyRow, ...]:
        rows = []
        for name, terms in vertical.terms.fields.items():
            kind = PERSON_KINDS.get(terms.type)
            value = body.fields.get(name)
            if kind is None or value is None or (only is not None and name not in only):
                continue
            epoch, hmac = self._vault.person(kind, str(value))
            rows.append(
                PersonKeyRow(
                    lead_id=lead_id,
                    vertical_id=vertical.id,
                    kind=kind,
                    pepper_epoch=epoch,
                    hmac="\\x" + hmac,
                )
            )
        return tuple(rows)


def _kept(check: PhoneCheck | ConsentCheck | None) -> dict[str, Any] | None:
    return None if check is None else dict(msgspec.to_builtins(check))


def _plain(body: Body) -> dict[str, Any]:
    """The record in JSON form, dates as ISO text."""
    return dict(msgspec.to_builtins(body.fields))


def hidden(vertical: Vertical) -> frozenset[str]:
    """The fields of a ping that no buyer sees: pseudonyms."""
    return frozenset(
        name for name, terms in vertical.terms.fields.items() if terms.ping == "pseudonym"
    )


def lead_of(lead_id: str, body: Body) -> Lead:
    """The full record as a dialect may send it to the one buyer that won."""
    return Lead(
        lead_id=lead_id,
        fields=Personal(_plain(body)),
        consent=Personal(body.consent),
        chain=tuple(body.chain),
    )
