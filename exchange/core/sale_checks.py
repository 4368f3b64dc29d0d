"""What is looked at when a record comes in, and stands in its custody from then on, so that a later
return is judged by what was known at the sale: whether the phone number can exist, what the
seller's own check of it said, and whether the consumer's consent came with the record.

Nothing here is a value of the consumer's: a yes or no about the number, a word of the check, and of
the consent what buyers may know anyway.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast, get_args

import phonenumbers

from exchange.core.consent import of_ping
from exchange.core.labels import consent_without_persons
from exchange.core.model import Fact
from exchange.core.terms import FieldTerms

PhoneStatus = Literal["connected", "disconnected", "invalid"]
STATUS_SUFFIX: Final = "_status"
"""A field named like the phone's with this behind it (`phone_status`), an enum or code, is what the
seller's validation vendor said of the number."""
SKEW: Final = timedelta(minutes=5)
"""By how much a seller's clock may be ahead of ours."""


class PhoneCheck(Fact, frozen=True, kw_only=True):
    """What is known of the record's phone: whether a number like it can exist, and what the
    seller's own check said."""

    in_plan: bool
    status: PhoneStatus | None = None


class ConsentCheck(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the consumer's consent came with the record. `held`: one with a moment
    before the record came in (`False`: there was none; `None`: one that proves no moment)."""

    held: bool | None
    kind: str | None = None
    captured_at: str | None = None
    text_version: str | None = None


def phone_check(fields: Mapping[str, Any], terms: Mapping[str, FieldTerms]) -> PhoneCheck | None:
    """The check of a normalised record's phone: the field `phone`, else the first of that type."""
    names = [name for name, one in terms.items() if one.type == "us_phone" and name in fields]
    if not names:
        return None
    name = "phone" if "phone" in names else names[0]
    said = fields.get(name + STATUS_SUFFIX)
    return PhoneCheck(
        in_plan=_in_plan(str(fields[name])),
        status=cast(PhoneStatus, said) if said in get_args(PhoneStatus) else None,
    )


def consent_check(consent: Mapping[str, Any], received_at: datetime, *, kind: str) -> ConsentCheck:
    """The check of a post's consent record; `kind` is the vertical's."""
    if not consent:
        return ConsentCheck(held=False)
    said, _ = consent_without_persons(of_ping(consent, (), kind=kind))
    return ConsentCheck(
        held=True if _is_before(said.captured_at, received_at + SKEW) else None,
        kind=said.kind,
        captured_at=said.captured_at,
        text_version=said.text_version,
    )


def _in_plan(e164: str) -> bool:
    """Whether the North American plan has such numbers; ours are all +1 and ten digits."""
    number = phonenumbers.PhoneNumber(country_code=1, national_number=int(e164[2:]))
    return phonenumbers.is_valid_number(number)


def _is_before(captured_at: str | None, moment: datetime) -> bool:
    """Whether it is a moment, with its zone, and not after this one."""
    try:
        said = datetime.fromisoformat(captured_at or "")
    except ValueError:
        return False
    return said.tzinfo is not None and said <= moment
