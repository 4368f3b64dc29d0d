"""A buyer's list of the consumers it has: uploaded, kept as keyed hashes, and asked when it returns
a lead as a duplicate or an existing customer.

Only what stood on the list before a lead was posted to the buyer speaks for it; and once there is a
list, a consumer who is not on it was none of the buyer's.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from exchange.core.customer_list import Customers, customers_of
from exchange.effects.clock import Clock
from exchange.effects.customers import CustomerLists, Standing, Way
from exchange.effects.vault import Vault


class CustomersOf:
    """Takes lists in. They are hashed under the pepper that leads are hashed under now."""

    def __init__(self, *, lists: CustomerLists, vault: Vault, clock: Clock) -> None:
        self._lists, self._vault, self._clock = lists, vault, clock

    def read(self, rows: Iterable[Sequence[Any]]) -> Customers:
        """Whom a list names; it waits for nothing and may run on a thread. Raises `BadList`."""
        return customers_of(
            rows, lambda kind, plain: (bytes.fromhex(self._vault.person(kind, plain)[1]),)
        )

    async def upload(self, buyer_id: int, customers: Customers, *, way: Way, by: str) -> Standing:
        """Keep a list from now on: the whole of it, or more to what is there."""
        epoch = self._vault.epochs["pepper"][-1]
        await self._lists.write(
            self._clock.new_id(),
            buyer_id,
            customers,
            way=way,
            pepper_epoch=epoch,
            by=by,
            at=self._clock.now(),
        )
        standing = await self._lists.standing(buyer_id)
        assert standing is not None, "it was just written"
        return standing

    async def standing(self, buyer_id: int) -> Standing | None:
        """The list as it stands."""
        return await self._lists.standing(buyer_id)
