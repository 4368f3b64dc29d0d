"""What a seller writes beside the fields: its own ids, and what it says of the consent. These are
kept with the ping, and the words about consent go to every buyer asked, so none may name a
consumer.
"""

from typing import TypeVar

from msgspec.structs import replace

from exchange.core.fields import names_a_person
from exchange.core.messages import LeadRequest, PingRequest
from exchange.core.model import PingConsent

Request = TypeVar("Request", PingRequest, LeadRequest)
WITHHELD = "withheld"


def without_persons(request: Request) -> tuple[Request, tuple[str, ...]]:
    """The request without the ids that name a consumer, and what was dropped."""
    dropped = tuple(
        name
        for name, label in (("sub_id", request.sub_id), ("external_id", request.external_id))
        if label is not None and names_a_person(label)
    )
    return (replace(request, **dict.fromkeys(dropped)) if dropped else request), dropped


def consent_without_persons(consent: PingConsent) -> tuple[PingConsent, tuple[str, ...]]:
    """What buyers may know of a consent, without what names a consumer."""
    said = {
        "captured_at": consent.captured_at,
        "text_version": consent.text_version,
        "ping_url": consent.ping_url,
    }
    dropped = [name for name, text in said.items() if text is not None and names_a_person(text)]
    changes: dict[str, str | None] = dict.fromkeys(dropped)
    if names_a_person(consent.kind):
        changes["kind"] = WITHHELD
    if not changes:
        return consent, ()
    return replace(consent, **changes), tuple(f"consent.{name}" for name in changes)
