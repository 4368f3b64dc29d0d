"""The stored reply of a lead, with what may be personal sealed; and what a seller is told by it.

A buyer may answer a sale with an address to send the consumer on to, and such an address may name
the consumer. So a reply that has one is stored without it, and beside that whole, sealed with the
lead's own data key: whoever destroys that key has erased it here too.
"""

import base64
from typing import Any

import msgspec
from msgspec.structs import replace

from exchange.core.book import Book
from exchange.core.messages import Refusal, Replayed
from exchange.core.model import is_id
from exchange.core.reasons import Reason
from exchange.core.records import CommitUnit, LeadPrivateRow
from exchange.effects.leads import Leads
from exchange.effects.vault import LeadKey, Vault
from exchange.flows.deal import pending, replay, retold, told

SEALED = "sealed"
"""The member of a stored reply that holds it whole."""
PART = "reply"


class Replies:
    """Seals replies on their way to the database, and opens them on their way to the seller."""

    def __init__(self, *, vault: Vault, leads: Leads) -> None:
        self._vault, self._leads = vault, leads

    def stored(self, lead_id: str, reply: dict[str, Any], key: LeadKey | None) -> dict[str, Any]:
        """The reply as it is kept. Without a key a redirect is not kept at all."""
        if "redirect_url" not in reply:
            return reply
        kept = _without_redirects(reply)
        if key is not None:
            plain = msgspec.json.encode(reply)
            sealed = self._vault.seal_part(lead_id, key, PART, plain)
            kept[SEALED] = base64.b64encode(sealed).decode()
        return kept

    async def stored_with(self, unit: CommitUnit) -> CommitUnit:
        """The unit with its reply as it is kept, sealed with the key that the database holds."""
        done = unit.idem_done
        if done is None or "redirect_url" not in done.reply:
            return unit
        reply = self.stored(unit.lead_id, done.reply, await self._key(unit.lead_id))
        return replace(unit, idem_done=replace(done, reply=reply))

    async def told(self, lead_id: str, stored: dict[str, Any]) -> dict[str, Any]:
        """The reply as the seller heard it first; once the lead's key is gone, without what was
        sealed. Raises `VaultError` when the key file does not fit."""
        sealed = stored.get(SEALED)
        if sealed is None:
            return stored
        key = await self._key(lead_id)
        if key is None:
            return {name: value for name, value in stored.items() if name != SEALED}
        plain = self._vault.open_part(lead_id, key, PART, base64.b64decode(sealed))
        reply: dict[str, Any] = msgspec.json.decode(plain)
        return reply

    async def replayed(
        self, seller_id: int, key: str, fingerprint: str
    ) -> Refusal | Replayed | None:
        """What this key was told before; `None` when it was never used, or is forgotten."""
        kept = await self._leads.kept(seller_id, key)
        if kept is None:
            return None
        if kept.fingerprint != fingerprint:
            return Refusal(
                status=422,
                title="Key used before",
                detail="This Idempotency-Key was used with another request; use a new key.",
            )
        if kept.reply:
            return Replayed(reply=await self.told(kept.lead_id, kept.reply))
        return replay(kept.lead_id, kept.currency or "")

    async def lead(self, lead_id: str, seller_id: int, book: Book) -> dict[str, Any] | None:
        """What became of a seller's lead; `None` when it has no such lead."""
        row = await self._leads.of_seller(lead_id, seller_id) if is_id(lead_id) else None
        if row is None:
            return None
        if row["reply"]:
            return await self.told(lead_id, row["reply"])
        if row["state"] in ("sold", "unsold"):
            return told(retold(row, book))
        reason = Reason.IN_DOUBT if row["state"] == "in_doubt" else Reason.POST_RUNNING
        return told(pending(lead_id, row["currency"], reason))

    async def _key(self, lead_id: str) -> LeadKey | None:
        kept = await self._leads.key(lead_id)
        return kept and LeadKey(key_epoch=kept[0], wrapped_dek=kept[1])


def key_of(private: LeadPrivateRow | None) -> LeadKey | None:
    """The data key of a record that was sealed a moment ago."""
    if private is None:
        return None
    wrapped = bytes.fromhex(private.wrapped_dek.removeprefix("\\x"))
    return LeadKey(key_epoch=private.key_epoch, wrapped_dek=wrapped)


def _without_redirects(reply: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in reply.items() if name != "redirect_url"}
    kept["sales"] = [
        {name: value for name, value in sale.items() if name != "redirect_url"}
        for sale in reply.get("sales", ())
    ]
    return kept
