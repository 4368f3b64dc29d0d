"""The sense of rules that pause sources by their return rate."""

from typing import Final

from exchange.core.findings import Found, near
from exchange.core.return_checks import REASONS
from exchange.core.terms import AutoPauseTerms, ContractTerms
from exchange.core.toml_lines import Path

DAYS_MAX: Final = 90
"""Sales of longer ago say little of what a source sends now."""
LIFT_DAYS_MAX: Final = 366
SALES_FEW: Final = 10
"""Of fewer sales a few unlucky ones make any rate."""


def auto_pause(path: Path, terms: AutoPauseTerms | None, found: Found) -> None:
    """Problems of an `auto_pause`."""
    if terms is None:
        return
    if not 0 < terms.return_rate < 1:
        found.problem((*path, "return_rate"), "is a share above 0 and below 1", "0.30 for 30 %")
    if not 1 <= terms.days <= DAYS_MAX:
        found.problem((*path, "days"), f"lies between 1 and {DAYS_MAX}", "14")
    if terms.sales_min < 1:
        found.problem((*path, "sales_min"), "must be at least 1", "20")
    elif terms.sales_min < SALES_FEW:
        message = f"of fewer than {SALES_FEW} sales a few unlucky ones pause a good source"
        found.warning((*path, "sales_min"), message)
    if terms.lift_after_days is not None and not 1 <= terms.lift_after_days <= LIFT_DAYS_MAX:
        hint = "or leave it out: a person resumes it"
        message = f"lies between 1 and {LIFT_DAYS_MAX}"
        found.problem((*path, "lift_after_days"), message, hint)
    for number, name in enumerate(terms.reasons):
        if name not in REASONS:
            where = (*path, "reasons", number)
            found.problem(where, f"there is no return reason {name}", near(name, REASONS))


def of_contract(path: Path, terms: ContractTerms, found: Found) -> None:
    """Problems of a contract's rule."""
    auto_pause(path, terms.auto_pause, found)
    if terms.auto_pause is not None and terms.returns is None:
        found.warning(path, "counts returns, and the contract takes none", "write its returns")
