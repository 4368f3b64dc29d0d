"""Consent that names companies: then nobody else is ever released to.

A consent record is the seller's own document, kept as it came. Only what is read here has a
meaning: `kind`, `captured_at`, `text_version`, `ping_url`, and `buyers`, the companies the consumer
was shown, by the name or the key of a buyer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from exchange.core.fields import Problem
from exchange.core.model import Buyer, PingConsent

BUYERS_MAX: Final = 50
"""As many companies as a ping may name."""
CHARS_MAX: Final = {"kind": 32, "captured_at": 40, "text_version": 64, "ping_url": 512}
"""What a ping may say of consent, and how long it may be."""


def named_buyers(consent: Mapping[str, Any]) -> tuple[str, ...] | Problem:
    """The companies a record names, none when it names none. What cannot be read is a problem: a
    consent must not be taken for wider than it is."""
    names = consent.get("buyers")
    if names is None:
        return ()
    if (
        not isinstance(names, list)
        or len(names) > BUYERS_MAX
        or not all(isinstance(name, str) and 0 < len(name) <= 128 for name in names)
    ):
        return Problem(
            field="consent.buyers",
            message="is not a list of companies",
            hint=f"at most {BUYERS_MAX} names of buyers, as the offer gave them",
        )
    return tuple(names)


def is_named(buyer: Buyer, names: Sequence[str]) -> bool:
    """Whether this buyer may be released to: it is named, or nobody is."""
    if not names:
        return True
    wanted = {name.casefold() for name in names}
    return buyer.key.casefold() in wanted or buyer.terms.name.casefold() in wanted


def of_ping(consent: Mapping[str, Any], names: Sequence[str], *, kind: str) -> PingConsent:
    """What buyers may know of a direct lead's consent before they win. `kind` is said when the
    record does not say its own."""
    said = {
        name: value
        for name, most in CHARS_MAX.items()
        if isinstance(value := consent.get(name), str) and len(value) <= most
    }
    return PingConsent(**({"kind": kind} | said), buyers=tuple(names))
