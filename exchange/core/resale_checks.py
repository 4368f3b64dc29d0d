"""The sense of terms of re-offering: only reasons that are the buyer's own, and a lead that is
young enough."""

from typing import Final

from exchange.core.findings import Found, near
from exchange.core.resale import RESELLABLE
from exchange.core.terms import ResellTerms
from exchange.core.toml_lines import Path

HOURS_MAX: Final = 24 * 30
"""A lead of a month is called by nobody."""


def resell(path: Path, terms: ResellTerms, found: Found) -> None:
    """Problems of `resell`."""
    if not 1 <= terms.within_hours <= HOURS_MAX:
        found.problem((*path, "within_hours"), f"lies between 1 and {HOURS_MAX}")
    if not terms.reasons:
        hint = f"known: {', '.join(sorted(RESELLABLE))}"
        found.problem((*path, "reasons"), "names no reason, so nothing is offered again", hint)
    for number, name in enumerate(terms.reasons):
        where = (*path, "reasons", number)
        if name not in RESELLABLE:
            message = f"a lead returned as {name} is never offered again"
            found.problem(where, message, near(name, RESELLABLE))
        elif name in terms.reasons[:number]:
            found.problem(where, f"{name} stands there twice")
