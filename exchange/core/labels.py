"""What partners write in their own words: a seller's ids and what it says of the consent, a buyer's
references and reasons. These are kept for good, logged, or shown to other buyers, so none may name
a consumer.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

from msgspec.structs import replace

from exchange.core.fields import Problem, looks_personal, names_a_person
from exchange.core.messages import LeadRequest, PingRequest
from exchange.core.model import PingConsent
from exchange.core.reasons import EVIDENCE

Request = TypeVar("Request", PingRequest, LeadRequest)
WITHHELD = "withheld"
REF_LENGTH_MAX: Final = 128
"""A longer reference is not kept: it would be carried in every record and statement."""
REASON_LENGTH_MAX: Final = 64
REASON_DIGITS_MAX: Final = 3
"""More digits could be a phone number or a birthday."""
OTHER_REASON: Final = "other"
"""What is kept of a rejection whose reason is not a code: a free text could repeat the consumer's
data, and reasons are logged."""


def without_persons(request: Request) -> tuple[Request, tuple[str, ...]]:
    """The request without the ids that name a consumer, and what was dropped."""
    if request.sub_id is None and request.external_id is None:
        return request, ()
    labels = (("sub_id", request.sub_id), ("external_id", request.external_id))
    dropped = tuple([name for name, label in labels if label is not None and names_a_person(label)])
    return (replace(request, **dict.fromkeys(dropped)) if dropped else request), dropped


def consent_without_persons(consent: PingConsent) -> tuple[PingConsent, tuple[str, ...]]:
    """What buyers may know of a consent, without what names a consumer."""
    said = (
        ("captured_at", consent.captured_at),
        ("text_version", consent.text_version),
        ("ping_url", consent.ping_url),
    )
    texts = [consent.kind, *[text for _, text in said if text is not None]]
    if not names_a_person("\0".join(texts)):  # one look instead of four
        return consent, ()
    dropped = [name for name, text in said if text is not None and names_a_person(text)]
    changes: dict[str, str | None] = dict.fromkeys(dropped)
    if names_a_person(consent.kind):
        changes["kind"] = WITHHELD
    if not changes:
        return consent, ()
    return replace(consent, **changes), tuple(f"consent.{name}" for name in changes)


def ref_of_bid(ref: str | int | None) -> str | None:
    """A buyer's own id of its bid as text; too long or unprintable, and it is dropped."""
    if ref is None or (type(ref) is str and 0 < len(ref) <= REF_LENGTH_MAX and ref.isprintable()):
        return ref
    text = str(ref) if isinstance(ref, str) or abs(ref) < 10**REF_LENGTH_MAX else ""
    return text if 0 < len(text) <= REF_LENGTH_MAX and text.isprintable() else None


def ref_of_sale(ref: str | int | None) -> str | None:
    """As `ref_of_bid`, from a buyer that has the record: one that repeats an e-mail address or a
    spelt phone number is dropped, for references stand in custody for ever. Bare digits are ids."""
    text = ref_of_bid(ref)
    if text is None or text.isdigit():
        return text
    return None if names_a_person(text) or looks_personal(text) else text


def reason_code(reason: str | int | None) -> str | None:
    """A reason that is a code (letters, underscores, up to three digits), in lower case; any other
    text becomes `other`."""
    if reason is None:
        return None
    code = str(reason).strip().lower().replace("-", "_") if isinstance(reason, str) else ""
    letters = code.replace("_", "")
    is_code = len(code) <= REASON_LENGTH_MAX and letters.isascii() and letters.isalnum()
    is_short = sum(letter.isdigit() for letter in letters) <= REASON_DIGITS_MAX
    return code if is_code and is_short else OTHER_REASON


def evidence_problems(evidence: Mapping[str, str]) -> tuple[Problem, ...]:
    """What is wrong with the evidence of a return: a name nobody knows, or a value that is empty,
    too long, or could name a consumer. It is kept and shown to both sides."""
    found: list[Problem] = []
    for name, text in evidence.items():
        if name not in EVIDENCE:
            hint = f"known: {', '.join(EVIDENCE)}"
            found.append(Problem(field="evidence", message="is of no known kind", hint=hint))
        elif not (0 < len(text.strip()) <= REF_LENGTH_MAX and text.isprintable()):
            message = f"is a text of 1 to {REF_LENGTH_MAX} characters"
            found.append(Problem(field=f"evidence.{name}", message=message))
        elif looks_personal(text) or names_a_person(text):
            found.append(
                Problem(
                    field=f"evidence.{name}",
                    message="carries personal data",
                    hint="a reference, a code or a date",
                    personal=True,
                )
            )
    return tuple(found)
