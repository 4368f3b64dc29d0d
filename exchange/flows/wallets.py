"""Valkey is told what moved wallets beside sales: payments, credits, refunds, corrections.

Postgres has counted it in the transfer's own transaction, so a wallet is never overspent for what
Valkey does not know yet; a payment is only used a moment later. Each is told by its transfer's id,
so telling twice is harmless.
"""

from typing import Final

from exchange.core.caps import Window
from exchange.core.wallets import WALLET_INDEX, WHOLE
from exchange.effects.caps import Caps
from exchange.effects.leases import Lease
from exchange.effects.wallets import Move, WalletStore

TOLD_AT_ONCE: Final = 500
"""Moves told in one turn of the job; the rest waits for the next."""


class Wallets:
    """The job that tells."""

    def __init__(self, *, store: WalletStore, caps: Caps) -> None:
        self._store, self._caps = store, caps

    async def turn(self, _lease: Lease) -> int:
        """Tell what is untold; how many moves were told."""
        told = []
        for move in await self._store.untold(TOLD_AT_ONCE):
            if not await self._tell(move):
                break  # Valkey is away: the next turn tries again, in order
            told.append(move.transfer_id)
        if told:
            await self._store.told(told)
        return len(told)

    async def _tell(self, move: Move) -> bool:
        amount = abs(move.delta_micros)
        held = (Window(win=move.win, limit=WHOLE, amount=amount, cap_index=WALLET_INDEX),)
        tell = self._caps.commit if move.delta_micros > 0 else self._caps.undo
        return await tell(move.buyer_id, move.transfer_id, held)
