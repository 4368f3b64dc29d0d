"""Which sale a line of a buyer's returns means: by our id, by the buyer's own reference, or by who
the consumer was and the day; never by a guess.

An id or reference settles it, unless the line also has a phone or e-mail that is not the sale's:
then one of the two is a slip, and a person looks.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, tzinfo
from typing import Final, Literal

from exchange.core.model import Fact
from exchange.core.partner_lines import Person
from exchange.core.return_sheet import Flag, ReturnLine
from exchange.core.returns import ReturnClaim

Key = Literal["id", "reference", "person"]
SOLD: Final = "sold"


class Posted(Fact, frozen=True, kw_only=True, gc=False):
    """A post of ours to the buyer: what a line may mean. `seller`: its key, and
    `external_id` its own id of the lead; `persons`: whom that is of."""

    attempt_id: str
    lead_id: str
    contract_id: int
    seller: str
    state: str
    posted_at: datetime
    persons: tuple[Person, ...] = ()
    external_id: str | None = None


class Found(Fact, frozen=True, kw_only=True):
    """Our posts by what names them."""

    by_id: Mapping[str, Sequence[Posted]] = {}
    by_reference: Mapping[str, Sequence[Posted]] = {}
    by_person: Mapping[Person, Sequence[Posted]] = {}


class Terms(Fact, frozen=True, kw_only=True):
    """How lines are matched. `zone`: whose days they have; `undated`: a line without a day is
    matched by its person, if only one sale is that person's."""

    zone: tzinfo
    tolerance_days: int
    undated: bool = False


class Matched(Fact, frozen=True, kw_only=True):
    """The sale that a line means, and by what it was found."""

    sale: Posted
    by: Key


def matched(line: ReturnLine, found: Found, terms: Terms) -> Matched | Flag:
    """The sale of a line, or why there is none."""
    if line.our_id:
        return _one(line, found.by_id.get(line.our_id, ()), "id")
    named = found.by_reference.get(line.reference, ()) if line.reference else ()
    if named:
        return _one(line, _narrowed(line, named, terms), "reference")
    if not line.persons:
        return Flag.NO_SALE
    if line.has_day and line.on is None:
        return Flag.UNREAD_DAY
    persons = _distinct([one for who in line.persons for one in found.by_person.get(who, ())])
    if line.on is not None:
        return _one(line, _near(line.on, persons, terms), "person")
    return _one(line, persons, "person") if terms.undated else Flag.NO_DAY


def claim_key(sale_id: str, claim: ReturnClaim) -> str:
    """The idempotency key of a line: the same claim of the same sale, in whatever file, is the same
    return; with more evidence it is another claim."""
    said = "\0".join(f"{name}={text}" for name, text in sorted(claim.evidence.items()))
    text = f"{sale_id}\0{claim.reason.label}\0{said}"
    return "sheet-" + hashlib.sha256(text.encode()).hexdigest()[:40]


def _one(line: ReturnLine, posts: Collection[Posted], by: Key) -> Matched | Flag:
    sold = [post for post in posts if post.state == SOLD]
    if not sold:
        return Flag.NOT_SOLD if posts else Flag.NO_SALE
    if len(sold) > 1:
        return Flag.SEVERAL_SALES
    return Flag.CONTRADICTORY if _contradicts(line, sold[0]) else Matched(sale=sold[0], by=by)


def _contradicts(line: ReturnLine, sale: Posted) -> bool:
    """Whether the line's phone is another than the sale's, or its e-mail is, and neither is the
    same. What the sale does not have says nothing."""
    known = {kind for kind, _ in sale.persons}
    said = {who for who in line.persons if who[0] in known}
    return bool(said) and said.isdisjoint(sale.persons)


def _narrowed(line: ReturnLine, posts: Sequence[Posted], terms: Terms) -> Collection[Posted]:
    """Of several sales under one reference, those of the line's person and day."""
    if len(posts) > 1 and line.persons:
        posts = [one for one in posts if not set(line.persons).isdisjoint(one.persons)] or posts
    if len(posts) > 1 and line.on is not None:
        posts = list(_near(line.on, posts, terms)) or posts
    return posts


def _near(on: date, posts: Collection[Posted], terms: Terms) -> Collection[Posted]:
    return [
        post
        for post in posts
        if abs((post.posted_at.astimezone(terms.zone).date() - on).days) <= terms.tolerance_days
    ]


def _distinct(posts: Sequence[Posted]) -> Collection[Posted]:
    return {post.attempt_id: post for post in posts}.values()
