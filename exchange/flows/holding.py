"""Holding room from the offer on (`hold = "offer"`): a contract that says so keeps the promise it
stands behind, because its caps are reserved before the seller hears of it.

Only the best candidate's room is held: the promise rests on it alone. The attempt's id is minted
here, so the reserve of the post finds the hold by its token; a hold nobody takes up expires.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from exchange.core.auction import Ranking
from exchange.core.model import Candidate, Ping
from exchange.core.wallets import is_counted, sale_windows
from exchange.effects.caps import Caps, Full, Reserved
from exchange.effects.clock import Clock
from exchange.flows.standing import FullWindow, Standing


class Holding:
    """Holds the caps of best candidates. `ttl_ms`: as long as an offer and its post may take."""

    def __init__(self, *, clock: Clock, standing: Standing, caps: Caps, ttl_ms: int) -> None:
        self._clock, self._standing, self._caps, self._ttl_ms = clock, standing, caps, ttl_ms

    async def held(self, ping: Ping, ranking: Ranking) -> Ranking:
        """The ranking, with room held for its best candidate where its contract asks for that. A
        candidate without room is left out, and the next is the best."""
        candidates = ranking.candidates
        while self._is_held(ping, candidates):
            best = await self._reserved(ping, candidates[0])
            if best is not None:
                return replace(ranking, candidates=(best, *candidates[1:]))
            candidates = candidates[1:]
        return replace(ranking, candidates=candidates)

    def let_go(self, ranking: Ranking) -> None:
        """Give back what is held for a ranking that came to no offer; nobody waits for it."""
        best = ranking.candidates[0]
        if best.attempt_id is not None:
            self._caps.release_soon(best.buyer_id, best.attempt_id)

    def is_asked(self, ping: Ping, ranking: Ranking) -> bool:
        """Whether the best candidate's contract asks for room with the offer. A test holds none."""
        return self._is_held(ping, ranking.candidates)

    def _is_held(self, ping: Ping, candidates: Sequence[Candidate]) -> bool:
        if ping.test or not candidates:
            return False
        contract = self._standing.book.contracts[candidates[0].contract_id]
        return contract.terms.hold == "offer" and is_counted(contract)

    async def _reserved(self, ping: Ping, candidate: Candidate) -> Candidate | None:
        book = self._standing.book
        contract = book.contracts[candidate.contract_id]
        zone = contract.time_zone or book.buyers[contract.buyer_id].terms.time_zone
        held = sale_windows(
            contract,
            fields=ping.fields,
            price_micros=candidate.price_micros,
            at=ping.received_at,
            zone=zone,
            currency=book.verticals[contract.vertical_id].terms.currency,
        )
        attempt_id = self._clock.new_id()
        reserved = await self._caps.reserve(contract.buyer_id, attempt_id, held, self._ttl_ms)
        if isinstance(reserved, Full):
            window = next(one for one in held if one.win == reserved.win)
            self._standing.note_full(
                FullWindow.of(contract, window, ping.fields), self._clock.now()
            )
        return replace(candidate, attempt_id=attempt_id) if isinstance(reserved, Reserved) else None
