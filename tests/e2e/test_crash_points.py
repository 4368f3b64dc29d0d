"""A process killed at every point of a post, with buyers of every behaviour: nothing is lost, sold
twice or left open, whatever the buyer did and whatever its seller heard.

Two real workers and the jobs process; a failpoint ends whichever of them comes to the place first;
the seller asks again under the same key until it knows. All cells run on one exchange, one after
the other, while the leads of the cells before are being resolved; the judges look at the whole.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from itertools import product
from typing import Any

import pytest

from tests.e2e.crashing import Contract, Seller, Site, Told, site, tell
from tests.e2e.house import Caller, until
from tests.e2e.judging import judged

pytestmark = [pytest.mark.real, pytest.mark.slow]

BEHAVIOURS: Mapping[str, Mapping[str, Any]] = {
    "accepts": {},
    "resets": {"accept_then_reset": 1.0},
    "rejects": {"reject": 1.0},
    "hangs": {"hang": 1.0},
}
"""What the first buyer does with a post; the second, who bids less, accepts."""
SPOTS = {
    "taken": "two_steps",  # the offer is taken, nothing else
    "received": "direct",  # the lead is durable, nobody was asked
    "reserved": "two_steps",  # room is held, no INTENT
    "intended": "direct",  # the INTENT is durable, nothing was sent
    "intended 30": "two_steps",  # the buyer has it, and thinks
    "answered": "two_steps",  # the answer is read, no RESULT
    "answered 1": "direct",  # the RESULT is on its way
    "booked": "two_steps",  # the RESULT is durable, Valkey has not heard
    "counted": "direct",  # Valkey has heard, and the seller perhaps too
}
JOBS_SPOTS = ("doubted", "found", "ended")
"""Reconcile: a post is in doubt but its hold not kept; the buyer's word is not written; it is, and
Valkey has not heard."""
SHORT = tuple(
    (spot, tuple(BEHAVIOURS)[number % len(BEHAVIOURS)]) for number, spot in enumerate(SPOTS)
)
"""For every run: each spot with one behaviour."""
RETURNED = {"reasons": {"language": {"evidence": [], "to_person": False}}, "max_rate": 1.0}
RETURN_SPOTS = ("return_asked", "return_asked 1", "return_asked 3", "return_written")
"""Nothing is written; somewhere in the transaction; all of it is, and the buyer has not heard."""
RESOLVED_WITHIN_S = 30.0
"""The longest that a lead may stay open after the last crash."""


def contracts() -> Iterator[tuple[str, Contract]]:
    for name in BEHAVIOURS:
        caps = ({"leads": 500, "per": "day"}, {"money": "20000.00", "per": "total"})
        yield f"ash-{name}", Contract(f"ash-{name}", "30.00", name, caps, "strict")
        birch = Contract("birch", "20.00", name, ({"leads": 500, "per": "day"},))
        yield f"birch-{name}", birch._replace(returns=RETURNED)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Iterator[Site]:
    behaviour = {f"ash-{name}": {"post": rules} for name, rules in BEHAVIOURS.items()}
    folder = tmp_path_factory.mktemp("points")
    with site(folder, dict(contracts()), behaviour, seed=seed) as place:
        yield place


def crash(place: Site, spot: str, behaviour: str) -> Told:
    """One lead whose worker dies at this spot; what its seller heard first."""
    name, _, later_ms = spot.partition(" ")
    seller = Seller(place, name=f"{spot}, {behaviour}")
    place.arm(name, f"kill {later_ms}".strip())
    told = seller.direct(behaviour) if SPOTS[spot] == "direct" else seller.two_steps(behaviour)
    assert told is not None, "there was no offer"
    until(lambda: not place.is_armed(name), f"somebody comes to {spot}: {told}")
    return told


def ends(place: Site, told: list[Told]) -> list[Told]:
    """What the sellers heard in the end."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(Seller(place, name="end").final, told))


def run(place: Site, cells: list[tuple[str, str]]) -> None:
    told = [crash(place, spot, behaviour) for spot, behaviour in cells]
    finals = ends(place, told)
    open_s = place.settle(within_s=RESOLVED_WITHIN_S)
    verdict = judged(place, finals)
    for cell, one in zip(cells, finals, strict=True):
        tell(f"{' / '.join(cell):28}{one.status:10}{one.tries:4} tries {one.took_s:6.1f} s")
    tell(verdict, place.open_for_s(), f"\nopen after the last seller knew: {open_s:.1f} s")
    assert verdict.wrong == []
    assert {one.status for one in finals} <= {"sold", "unsold"}


def test_a_worker_killed_anywhere_loses_and_doubles_nothing(place: Site) -> None:
    run(place, list(SHORT))


@pytest.mark.prove
def test_a_worker_killed_anywhere_with_any_buyer_loses_and_doubles_nothing(place: Site) -> None:
    run(place, list(product(SPOTS, BEHAVIOURS)))


def test_reconcile_killed_anywhere_is_taken_up_by_its_successor(place: Site) -> None:
    for spot in JOBS_SPOTS:
        place.arm(spot)
    told = [Seller(place, name="living worker").direct("resets")]
    told += [crash(place, "intended 30", behaviour) for behaviour in BEHAVIOURS]
    finals = ends(place, told)
    place.settle(within_s=RESOLVED_WITHIN_S)
    assert not any(place.is_armed(spot) for spot in JOBS_SPOTS)
    verdict = judged(place, finals)
    tell(*finals, verdict, place.open_for_s())
    assert verdict.wrong == []


def returned(place: Site, buyer: Caller, lead_id: str) -> Any:
    """The answer to a claim, asked for until there is one."""
    body = {"lead_id": lead_id, "reason": "language"}

    def told() -> Any:
        try:
            reply = buyer.call("POST", "/v1/returns", body, idempotency=f"back-{lead_id}")
        except (OSError, HTTPException):
            return None  # the worker died, or is only just back
        return reply.json if reply.status == 200 else None

    return until(told, f"an answer to the return of {lead_id}")


def is_known(buyer: Caller) -> bool:
    """Whether a buyer's key is taken now; the worker asked may be the one just being killed."""
    with suppress(OSError, HTTPException):
        return buyer.call("GET", "/v1/returns").status == 200
    return False


def test_a_worker_killed_around_a_return_books_it_once(place: Site) -> None:
    buyer = Caller(place.url, place.run("key", "create", "buyer", "birch").strip())
    seller = Seller(place, name="returns")
    sold = ends(place, [seller.direct("rejects") for _ in RETURN_SPOTS])
    for spot, one in zip(RETURN_SPOTS, sold, strict=True):
        name, _, later_ms = spot.partition(" ")
        until(lambda: is_known(buyer), "the key is known")
        place.arm(name, f"kill {later_ms}".strip())
        assert returned(place, buyer, one.lead_id)["state"] == "granted"
        assert not place.is_armed(name)
    rows = place.sql(
        "SELECT lead_id::text, count(*) AS cases,"
        " (SELECT count(*) FROM transfer t WHERE t.lead_id = c.lead_id AND t.code > 2) AS moved"
        " FROM return_case c GROUP BY 1, c.lead_id"
    )
    assert {row["lead_id"] for row in rows} == {one.lead_id for one in sold}
    assert {(row["cases"], row["moved"]) for row in rows} == {(1, 1)}
    place.run("ledger", "prove")


def test_a_stuck_post_of_a_living_worker_is_resolved_without_a_restart(place: Site) -> None:
    workers = until(lambda: w if len(w := place.pids("worker")) == 2 else None, "two workers")
    place.arm("answered", "pause")
    seller = Seller(place, name="stuck")
    told = seller.direct("accepts")
    assert told.status == "pending"
    final = seller.final(told)
    tell(final)
    assert final.status == "sold"
    assert place.pids("worker") == workers
    place.settle(within_s=RESOLVED_WITHIN_S)
    assert judged(place, [final]).wrong == []
    for pid in workers:  # else its stop would wait for the stuck post
        os.kill(pid, signal.SIGKILL)
