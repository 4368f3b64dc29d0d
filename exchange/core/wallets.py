"""Wallets: what a buyer that pays ahead may still spend, kept as one more window of its caps.

A wallet is a window without an end, one per buyer and currency. It counts from `WHOLE` less what
the buyer has: a sale takes its price from what is left, by the same hold, commit and release as any
cap, fenced in the same transaction; money that comes in gives room back. So its limit never
changes, no process can go by an old one, and a buyer never buys beyond what it paid.

What a wallet has left is what the ledger says: what was paid ahead less what is owed. Everything
but sales reaches it by a trigger on transfers (`wallet_moved` in the migrations), so whatever books
a credit, a payment or a correction need not know of wallets.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from exchange.core.caps import Window, windows
from exchange.core.model import Contract

WHOLE: Final = 2**52
"""Where a wallet is empty: 4.5 billion units, more than any buyer pays ahead, and with all that can
be owed beyond it still exact in a double."""
WALLET_INDEX: Final = -1
"""Stands for the cap that a wallet is not."""


def wallet_win(currency: str) -> str:
    """The name of a wallet's window: of no contract, the currency's letters as a number, for
    ever."""
    return f"0.{int.from_bytes(currency.encode())}.t"


def wallet_currency(win: str) -> str | None:
    """Whose wallet's name this is; `None` for the window of a cap."""
    contract, number, *_ = win.split(".")
    return int(number).to_bytes(3).decode() if contract == "0" else None


def left_micros(taken: int) -> int:
    """What is left in a wallet whose window counts so much, held amounts included. Below zero: more
    is owed than was paid, by a correction after the fact."""
    return WHOLE - taken


def is_counted(contract: Contract) -> bool:
    """Whether a sale of this contract counts in any window."""
    return bool(contract.caps) or contract.prepaid


def sale_windows(
    contract: Contract,
    *,
    fields: Mapping[str, Any],
    price_micros: int,
    at: datetime,
    zone: str | None,
    currency: str,
) -> tuple[Window, ...]:
    """Every window that a sale counts in, its buyer's wallet among them, ordered by name. Raises
    `NoZone`."""
    found = windows(contract, fields=fields, price_micros=price_micros, at=at, zone=zone)
    if not contract.prepaid:
        return found
    wallet = Window(
        win=wallet_win(currency), limit=WHOLE, amount=price_micros, cap_index=WALLET_INDEX
    )
    return tuple(sorted((*found, wallet), key=lambda window: window.win))
