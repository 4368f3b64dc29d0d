"""The auction: what needs all buyers at once. What concerns one buyer is in its dialect.

First price. Bids rank by the payout they leave the seller (where that is fixed, by their price),
then by the contract's priority, then by a hash of ping and contract: fair over many pings, the same
for a replay, and never the order of arrival.

Where a vertical says `ranking = "expected_value"`, what a bid ranks by is first multiplied by what
remains of it: a buyer that rejects half of its posts, or gives back half of what it bought, must
bid twice as much. The promise to the seller is still the payout of the first candidate.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from operator import itemgetter

from msgspec.structs import replace

from exchange.core.model import Bid, Candidate, Contract, Fact, Payout
from exchange.core.money import split
from exchange.core.payouts import parted

_Row = tuple[tuple[int, ...], Bid, int, int]
"""What a bid ranks by, the bid, payout and fee."""
_FIRST = itemgetter(0)


class Ranking(Fact, frozen=True, kw_only=True, gc=False):
    """`candidates` best first; `below_floor` holds the contract ids whose payout misses the
    floor."""

    candidates: tuple[Candidate, ...]
    below_floor: tuple[int, ...] = ()

    @property
    def payout_micros(self) -> int | None:
        """The best payout, `None` when nobody's bid counts."""
        return self.candidates[0].payout_micros if self.candidates else None


class Factors(Fact, frozen=True, kw_only=True):
    """What of a bid's worth remains, in millionths, by contract: that of one source's leads.
    `usual` is the vertical's, for a contract that is not known yet."""

    by_contract: Mapping[int, int]
    usual: int

    def of(self, contract_id: int) -> int:
        """The factor of a contract."""
        return self.by_contract.get(contract_id, self.usual)


def at_promise(candidate: Candidate, promised_micros: int) -> Candidate | None:
    """The candidate as it may buy under a promise: the house gives up its fee before the seller
    gets less than `promised_micros`. `None` when even the whole price cannot pay that."""
    if candidate.payout_micros >= promised_micros:
        return candidate
    if candidate.price_micros < promised_micros:
        return None
    fee = candidate.price_micros - promised_micros
    return replace(candidate, payout_micros=promised_micros, fee_micros=fee)


def tie_break(ping_id: str, contract_id: int) -> bytes:
    """An even-handed, repeatable order among equals."""
    return blake2b(f"{ping_id}:{contract_id}".encode(), digest_size=8).digest()


def rank(
    ping_id: str,
    bids: Iterable[tuple[Contract, Bid]],
    *,
    terms: Payout,
    floor_micros: int,
    kept: int,
    factors: Factors | None = None,
) -> Ranking:
    """All good bids in order, the best `kept` of them. A payout of zero is never an offer. With
    `factors` they are in order of expected value, and equal values in that of payout."""
    rows: list[_Row]
    below: list[int]
    if terms.fixed_micros is None:
        rows, below = [], []
        percent, fixed = terms.percent_millionths, terms.fee_fixed_micros
        for contract, bid in bids:
            payout, fee = split(bid.price_micros, percent, fixed)
            if payout < floor_micros or payout <= 0:
                below.append(contract.id)
                continue
            rows.append(((-payout, contract.terms.priority), bid, payout, fee))
    else:
        rows, below = _at_fixed(bids, terms, floor_micros)
    if factors is not None:
        rows = [
            ((worth[0] * factors.of(bid.contract_id), *worth), bid, payout, fee)
            for worth, bid, payout, fee in rows
        ]
    rows.sort(key=_FIRST)
    if len({row[0] for row in rows}) < len(rows):  # a hash each, only among equals
        rows.sort(
            key=lambda row: (row[0], tie_break(ping_id, row[1].contract_id), row[1].contract_id)
        )
    candidates = [
        Candidate(
            contract_id=bid.contract_id,
            buyer_id=bid.buyer_id,
            rank=place,
            price_micros=bid.price_micros,
            payout_micros=payout,
            fee_micros=fee,
            buyer_ref=bid.buyer_ref,
            expires_at_ms=bid.expires_at_ms,
        )
        for place, (_, bid, payout, fee) in enumerate(rows[:kept], start=1)
    ]
    if factors is not None:
        candidates = [
            replace(one, factor_millionths=factors.of(one.contract_id)) for one in candidates
        ]
    return Ranking(candidates=tuple(candidates), below_floor=tuple(below))


def _at_fixed(
    bids: Iterable[tuple[Contract, Bid]], terms: Payout, floor_micros: int
) -> tuple[list[_Row], list[int]]:
    """The bids where each pays the seller the same: the house's part tells them apart."""
    rows: list[_Row] = []
    below = []
    for contract, bid in bids:
        parts = parted(bid.price_micros, terms)
        if parts is None or not parts[0] >= max(1, floor_micros):
            below.append(contract.id)
            continue
        rows.append(((-bid.price_micros, contract.terms.priority), bid, *parts))
    return rows, below


def price_most(contract: Contract) -> int | None:
    """The most this contract can bid in micros: its fixed price, else its stated most, else
    unknown."""
    return contract.price_micros if contract.price_micros is not None else contract.bid_max_micros


def is_decided(leader_micros: int, outstanding: Iterable[Contract]) -> bool:
    """Whether no outstanding contract can win any more: each states a most it ever bids, below the
    best price so far. (Equal is not below: a tie could still go to it. One ping has one seller's
    terms, and under all of them the best price ranks first.)"""
    for contract in outstanding:
        most = price_most(contract)
        if most is None or most >= leader_micros:
            return False
    return leader_micros > 0


def offer_expires_at_ms(ranking: Ranking, *, now_ms: int, ttl_ms: int) -> int:
    """When the promise ends: after the offer's own time, or with the bid it rests on."""
    best = ranking.candidates[0].expires_at_ms
    return now_ms + ttl_ms if best is None else min(best, now_ms + ttl_ms)
