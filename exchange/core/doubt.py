"""What to do about a post that was sent and never clearly answered.

A contract's in-doubt policy is a list of steps in the order of trying. `steps_due` says which of
them may be taken now, `finding` what an answer to an inquiry or a re-post proves, and
`next_check_at` when to look again. Silence proves nothing: only an explicit answer, the passing of
a wait the contract agreed to, or a person's word ends a doubt.
"""

from datetime import datetime, timedelta
from typing import Literal

from exchange.core.model import Fact
from exchange.core.reasons import Delivery
from exchange.core.terms import InDoubtTerms

Step = Literal["inquire", "repost", "hold_as_sold", "write_off"]

NEVER_RECEIVED = "never_received"
"""Our word for the reason when the buyer's status address says it has never seen the attempt."""
HAS_OURS = frozenset({"duplicate", "already_received", "already_sold"})
"""Refusals of a *re-post* that mean the buyer has our lead: it had bid for it, so it is not a
duplicate of anyone else's. Compared case-insensitively."""
CHECK_SLOWER_BY = 4
"""A doubt is looked at again after a quarter of its age: quickly while a buyer restarts, and a
handful of times a day later on."""
CHECK_EVERY_MAX = timedelta(minutes=15)


class Reading(Fact, frozen=True, kw_only=True):
    """What a buyer says of an attempt when asked again. `never_seen`: it has no record of it."""

    delivery: Delivery = Delivery.UNKNOWN
    buyer_ref: str | None = None
    buyer_reason: str | None = None
    redirect_url: str | None = None
    never_seen: bool = False


class Finding(Fact, frozen=True, kw_only=True):
    """How a doubt ends: `by` says who found out (`inquiry`, `repost`, `policy`, `callback`,
    `partner file`, or a person); `evidence` names what shows it, such as a file by its hash."""

    outcome: Literal["sold", "rejected", "written_off"]
    by: str
    buyer_ref: str | None = None
    buyer_reason: str | None = None
    redirect_url: str | None = None
    evidence: str | None = None


def steps_due(
    terms: InDoubtTerms, *, since: datetime, now: datetime, has_status_url: bool
) -> tuple[Step, ...]:
    """The steps of the policy that may be taken now, in its order. A buyer without a status address
    cannot be asked; holding as sold and writing off wait for their time."""
    open_steps: dict[Step, bool] = {
        "inquire": has_status_url,
        "repost": True,
        "hold_as_sold": now - since >= timedelta(seconds=terms.hold_s),
        "write_off": now - since >= timedelta(hours=terms.write_off_hours),
    }
    return tuple(step for step in terms.policy if open_steps[step])


def settled_by_waiting(step: Step) -> Finding | None:
    """The end of a doubt by a step that asks nobody; `None` for the steps that ask."""
    match step:
        case "hold_as_sold":
            return Finding(outcome="sold", by="policy")
        case "write_off":
            return Finding(outcome="written_off", by="policy")
        case "inquire" | "repost":
            return None


def finding(
    step: Literal["inquire", "repost"],
    reading: Reading,
    *,
    now: datetime,
    deadline_at: datetime,
    never_seen_after: timedelta,
) -> Finding | None:
    """What a buyer's word proves, or `None` when the doubt remains.

    "Never seen" counts only `never_seen_after` past the post's deadline: before that our request
    may still lie in a queue of theirs and be bought later.
    """
    by = "inquiry" if step == "inquire" else "repost"
    if reading.never_seen:
        if now - deadline_at < never_seen_after:
            return None
        return Finding(outcome="rejected", by=by, buyer_reason=NEVER_RECEIVED)
    has_ours = step == "repost" and (reading.buyer_reason or "").lower() in HAS_OURS
    if reading.delivery is Delivery.ACCEPTED or (
        reading.delivery is Delivery.REJECTED and has_ours
    ):
        return Finding(
            outcome="sold",
            by=by,
            buyer_ref=reading.buyer_ref,
            buyer_reason=reading.buyer_reason,
            redirect_url=reading.redirect_url,
        )
    if reading.delivery is Delivery.REJECTED:
        return Finding(outcome="rejected", by=by, buyer_reason=reading.buyer_reason)
    return None


def next_check_at(terms: InDoubtTerms, *, since: datetime, now: datetime) -> datetime:
    """When to look again: after `inquire_every_s` at first, ever more slowly as the doubt ages, and
    never past the moment a wait of the policy ends."""
    every = timedelta(seconds=terms.inquire_every_s)
    usual = now + max(every, min((now - since) / CHECK_SLOWER_BY, CHECK_EVERY_MAX))
    waits: list[datetime] = []
    if "hold_as_sold" in terms.policy:
        waits.append(since + timedelta(seconds=terms.hold_s))
    if "write_off" in terms.policy:
        waits.append(since + timedelta(hours=terms.write_off_hours))
    return min([usual, *(wait for wait in waits if wait > now)])
