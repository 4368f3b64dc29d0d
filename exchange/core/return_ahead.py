"""What returns that are not written yet would change for those after them.

A preview decides line by line, as booking would, on the books as they stand and on what earlier
lines of the same file would have come to: the room they take under limits, the credit of the same
sale, the case that a later line would only repeat.
"""

from collections import Counter, defaultdict

from msgspec.structs import replace

from exchange.core.return_cases import HOLDS, ReturnCase, ReturnSale, Room


class Ahead:
    """The cases of a preview so far. Each is added once, in the order of the lines."""

    def __init__(self) -> None:
        self._held: Counter[tuple[int, str, str]] = Counter()
        self._of_sale: defaultdict[str, list[ReturnCase]] = defaultdict(list)
        self._keyed: dict[str, ReturnCase] = {}

    def add(self, case: ReturnCase) -> None:
        """A case that would be there now."""
        self._of_sale[case.attempt_id].append(case)
        if case.idem_key is not None:
            self._keyed[case.idem_key] = case
        if case.state in HOLDS:
            names = ("", f"reason {case.reason}", f"rule {case.rule}")
            self._held.update((case.contract_id, case.cycle, name) for name in names)

    def seen(self, room: Room, sale: ReturnSale, *, reason: str, idem_key: str | None) -> Room:
        """The room of a sale as it would be found after all these."""
        more = self._of_sale[sale.attempt_id]
        at = sale.contract_id, sale.cycle.name
        keyed = self._keyed.get(idem_key) if idem_key is not None else None
        return replace(
            room,
            credited_micros=room.credited_micros + sum(one.credit_micros for one in more),
            cases=(*room.cases, *more),
            keyed=room.keyed or keyed,
            count=replace(
                room.count,
                returns=room.count.returns + self._held[*at, ""],
                of_reason=room.count.of_reason + self._held[*at, f"reason {reason}"],
                on_trust=room.count.on_trust + self._held[*at, "rule trusted"],
            ),
        )
