"""The judge of a run: what buyers have in their books and what sellers were told, nothing else.

    python -m buyers_sim.judge --truth DIR --sellers FILE --market FILE [--json]

`evidence` says what stands in the files. What cannot be judged is a violation: a check never passes
because something is missing. Exit code 0 only if nothing is violated.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from .caps import cap_fillings
from .events import Event
from .evidence import Case, Told, micros
from .truth import LeakSearch

RELEASES_MAX: Final = 3
"""The most buyers that one lead may be released to, as the exchange promises its sellers."""

EXAMPLES_MAX: Final = 10
"""Violations described per check; the count is always whole."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: how often it was tested, how often broken, and the first cases in words."""

    name: str
    count: int
    violations: int
    examples: tuple[str, ...]

    @classmethod
    def of(cls, name: str, count: int, wrong: Sequence[str]) -> "Check":
        """The check whose violations are described by `wrong`."""
        examples = tuple(wrong[:EXAMPLES_MAX])
        return cls(name=name, count=count, violations=len(wrong), examples=examples)


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """All checks; what happened in the run (one in which nothing happened proves nothing); and how
    much the search for leaks looked at."""

    checks: list[Check]
    happened: dict[str, int]
    leak_search: dict[str, float]


def judged(case: Case) -> Judgement:
    """Every check, in the order people read them."""
    leaks, search = no_canary_at_a_loser(case)
    checks = [check(case) for check in CHECKS]
    return Judgement(
        checks=[*checks, leaks],
        happened=happened(case),
        leak_search={
            "canaries": search.canaries,
            "needles": search.needles,
            "searched_bytes": search.searched_bytes,
            "seconds": round(search.seconds, 3),
        },
    )


def caps_never_exceeded(case: Case) -> Check:
    """No window of any cap holds more than its limit."""
    found, unjudged = cap_fillings(case)
    over = [str(filling) for filling in found if filling.is_over()]
    return Check.of("caps_never_exceeded", len(found), over + unjudged)


def no_exclusive_lead_sold_twice(case: Case) -> Check:
    """No two buyers have one lead in their books, and none has it twice."""
    wrong = [
        f"lead {lead_id} was accepted by {', '.join(event.buyer for event in events)}"
        for lead_id, events in case.accepted.items()
        if len(events) > 1
    ]
    return Check.of("no_exclusive_lead_sold_twice", len(case.accepted), wrong)


def sold_means_accepted_once(case: Case) -> Check:
    """A lead that its seller was told is sold is in the books of exactly one buyer."""
    sold = [lead_id for lead_id, _ in case.told_sold()]
    wrong = [
        f"lead {lead_id} was told sold and is in {len(case.accepted.get(lead_id, ()))} books"
        for lead_id in sold
        if len(case.accepted.get(lead_id, ())) != 1
    ]
    return Check.of("sold_means_accepted_once", len(sold), wrong)


def unsold_means_accepted_by_nobody(case: Case) -> Check:
    """A lead that its seller was last told is unsold is in nobody's books."""
    unsold = [lead_id for lead_id, told in case.told.items() if _last_status(told) == "unsold"]
    wrong = [
        f"lead {lead_id} was told unsold and {case.accepted[lead_id][0].buyer} has it"
        for lead_id in unsold
        if lead_id in case.accepted
    ]
    return Check.of("unsold_means_accepted_by_nobody", len(unsold), wrong)


def _last_status(told: Sequence[Told]) -> object:
    statuses = [one.said("status") for one in told if one.kind != "ping" and one.http == 200]
    return "sold" if "sold" in statuses else statuses[-1] if statuses else None


def payout_keeps_the_promise(case: Case) -> Check:
    """A sold lead pays at least what its offer promised (or the `min_payout` that the seller agreed
    to, or a direct lead's floor)."""
    wrong: list[str] = []
    count = 0
    for lead_id, sold in case.told_sold():
        least = _promised(case.told[lead_id])
        for one in sold:
            count += 1
            payout = one.said("payout")
            if payout is None or least is None:
                wrong.append(f"lead {lead_id}: payout {payout}, no promise to hold it against")
            elif micros(payout) < least:
                wrong.append(f"lead {lead_id}: payout {payout} of {least / 1e6:.6f} promised")
    return Check.of("payout_keeps_the_promise", count, wrong)


def _promised(told: Sequence[Told]) -> int | None:
    """The least payout a seller may be paid, in micros; `None` if nothing says it."""
    direct = [one.sent.get("floor") or "0" for one in told if one.kind == "direct"]
    if direct:
        return micros(direct[0])
    chosen = next((one.sent.get("offer_id") for one in told if one.kind == "post"), None)
    offered = [_offered(one, chosen) for one in told if one.kind == "ping"]
    agreed = [one.sent["min_payout"] for one in told if one.sent.get("min_payout") is not None]
    if not offered or offered[0] is None:
        return None
    return min(micros(offered[0]), *map(micros, agreed)) if agreed else micros(offered[0])


def _offered(ping: Told, chosen: object) -> Any:
    for offer in ping.said("offers") or ():
        if chosen is not None and offer.get("offer_id") == chosen:
            return offer.get("payout")
    return ping.said("payout")


def payout_within_the_price(case: Case) -> Check:
    """No seller is paid more than the buyer pays: the fee is never negative."""
    wrong: list[str] = []
    count = 0
    for lead_id, sold in case.told_sold():
        for event in case.accepted.get(lead_id, ())[:1]:
            for one in sold:
                count += 1
                if micros(one.said("payout") or 0) > micros(event.price):
                    wrong.append(f"lead {lead_id}: {one.said('payout')} of {event.price}")
    return Check.of("payout_within_the_price", count, wrong)


def released_again_only_after_a_no(case: Case) -> Check:
    """A lead goes to another buyer only when each before said an explicit no (or answered an
    inquiry that it never saw it), and to at most `RELEASES_MAX` buyers."""
    wrong: list[str] = []
    for lead_id, posts in case.posts.items():
        buyers = list(dict.fromkeys(post.buyer for post in posts))
        if len(buyers) > RELEASES_MAX:
            wrong.append(f"lead {lead_id} was released to {', '.join(buyers)}")
        for place, post in enumerate(posts):
            earlier = (one for one in posts[:place] if one.buyer != post.buyer)
            wrong += [
                f"lead {lead_id} went to {post.buyer} while {one.buyer} had {one.answered}"
                for one in earlier
                if not _said_no(case, one, post)
            ]
    return Check.of("released_again_only_after_a_no", len(case.posts), wrong)


def _said_no(case: Case, earlier: Event, later: Event) -> bool:
    """Whether the exchange could know, when it posted `later`, that `earlier` did not buy."""
    answers = [
        event
        for event in (*case.posts[earlier.lead_id], *case.inquiries[earlier.attempt_id])
        if event.attempt_id == earlier.attempt_id and event.at <= later.at
    ]
    if any(event.accepted for event in answers):
        return False
    return any(event.answered.startswith(_NO) for event in answers)


_NO: Final = ("rejected", "never_seen", "unsigned", "unreadable")


def posts_carry_key_and_signature(case: Case) -> Check:
    """Every post names its attempt as `Idempotency-Key`, and is signed where the buyer checks."""
    posts = list(case.truth.events("post"))
    wrong = [
        f"{post.buyer}: attempt {post.attempt_id} (key {post.idempotency_key or 'missing'}, "
        f"signature {post.signature})"
        for post in posts
        if not post.attempt_id
        or post.idempotency_key != post.attempt_id
        or post.signature in ("bad", "missing")
    ]
    return Check.of("posts_carry_key_and_signature", len(posts), wrong)


def no_canary_at_a_loser(case: Case) -> tuple[Check, LeakSearch]:
    """Nothing of a consumer, in any form, at a buyer outside of a post of the lead.

    Who may be posted to is judged by `released_again_only_after_a_no`.
    """
    winners = case.truth.released()
    search = case.truth.leaks(case.canaries(), winners)
    wrong = [str(leak) for leak in search.leaks]
    return Check.of("no_canary_at_a_loser", search.canaries, wrong), search


CHECKS: Final[tuple[Callable[[Case], Check], ...]] = (
    caps_never_exceeded,
    no_exclusive_lead_sold_twice,
    sold_means_accepted_once,
    unsold_means_accepted_by_nobody,
    payout_keeps_the_promise,
    payout_within_the_price,
    released_again_only_after_a_no,
    posts_carry_key_and_signature,
)


def happened(case: Case) -> dict[str, int]:
    """What the run met: full caps, leads that fell through, lost answers and how many of those
    leads were told sold in the end, hung pings."""
    full = sum(filling.is_full() for filling in cap_fillings(case)[0])
    lost = {
        post.lead_id
        for posts in case.posts.values()
        for post in posts
        if post.answered.startswith(("accepted_", "hung", "reset", "error", "malformed"))
    }
    sold = {lead_id for lead_id, _ in case.told_sold()}
    pings = list(case.truth.events("ping"))
    return {
        "pings": len(pings),
        "posts": sum(map(len, case.posts.values())),
        "accepted_leads": len(case.accepted),
        "caps_filled": full,
        "fell_through": sum(
            len({post.buyer for post in posts}) > 1 for posts in case.posts.values()
        ),
        "in_doubt": len(lost),
        "in_doubt_then_sold": len(lost & sold),
        "hung_pings": sum(ping.answered == "hung" for ping in pings),
    }


def main(
    truth: Annotated[Path, typer.Option(help="Folder of the buyers' truth files.")],
    sellers: Annotated[Path, typer.Option(help="What sellers sent and were told, JSON lines.")],
    market: Annotated[Path, typer.Option(help="Contracts, caps, zones, personal fields: JSON.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Judge a run from the buyers' truth files and what sellers were told.

    Exit code 0: nothing violated. 1: something is. 2: the files do not read.
    """
    try:
        judgement = judged(Case.read(truth_dir=truth, sellers=sellers, market=market))
    except (OSError, ValueError) as error:
        print(f"buyers_sim.judge: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    if json:
        print(msgspec.json.encode(judgement).decode())
    else:
        _print_lines(judgement)
    raise typer.Exit(1 if any(check.violations for check in judgement.checks) else 0)


def _print_lines(judgement: Judgement) -> None:
    for check in judgement.checks:
        mark = "VIOLATED" if check.violations else "holds"
        print(f"{mark:9}{check.name:34}{check.count:>8} tested {check.violations:>6} violations")
        for example in check.examples:
            print(f"           {example}")
    print("happened:", ", ".join(f"{name} {count}" for name, count in judgement.happened.items()))


if __name__ == "__main__":
    typer.run(main)
