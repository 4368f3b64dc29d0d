"""The caps that mattered to a lead, in words: windows as they stand now, and wallets."""

from datetime import datetime

from exchange.core.caps import parts_of
from exchange.core.material import Used
from exchange.core.model import Contract, Fact
from exchange.core.money import text_of
from exchange.core.wallets import left_micros, wallet_currency


class CapStory(Fact, frozen=True, kw_only=True):
    """One cap window, as it stands now."""

    contract: str
    cap: str
    segment: str
    used: str
    held: str
    limit: str
    resets_at: datetime | None


def cap_story(used: Used, contract: Contract | None, *, key: str) -> CapStory:
    """A window of a contract (`key`, also of one that is gone) in words."""
    if currency := wallet_currency(used.win):
        return CapStory(
            contract=key,
            cap=f"left of what was paid ahead, {currency}",
            segment="",
            used=text_of(left_micros(used.used)),
            held=text_of(used.held),
            limit="",
            resets_at=None,
        )
    cap = (
        contract.caps[used.cap_index] if contract and used.cap_index < len(contract.caps) else None
    )
    is_money = cap is not None and cap.unit == "money"

    def amount(value: int) -> str:
        return text_of(value) if is_money else str(value)

    return CapStory(
        contract=key,
        cap=_cap_words(contract, used.cap_index),
        segment=parts_of(used.win).segment or "",
        used=amount(used.used),
        held=amount(used.held),
        limit=amount(used.limit),
        resets_at=used.resets_at,
    )


def _cap_words(contract: Contract | None, index: int) -> str:
    if contract is None or index >= len(contract.caps):
        return f"cap {index}"
    cap = contract.caps[index]
    period = "in total" if cap.per == "total" else f"per {cap.per}"
    each = f" for each {cap.each}" if cap.each else ""
    return f"{cap.unit} {period}{each}"
