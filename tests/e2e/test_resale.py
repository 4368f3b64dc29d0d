"""A returned lead is offered again by the jobs process, which dies at every point of it: it is sold
to the next buyer once, and its seller, its chain and the ledger agree."""

import json
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import pytest

from tests.e2e.crashing import Contract, Seller, Site, site, tell
from tests.e2e.house import Caller, until

pytestmark = [pytest.mark.real, pytest.mark.slow]

SPOTS = (
    "resale_opened",  # the record is open, nobody was asked
    "resale_auctioned",  # there are bids, nothing is written
    "reserved",  # room is held, no INTENT
    "intended",  # the INTENT is durable, nothing was sent
    "answered",  # the buyer has it, no RESULT
    "booked",  # the RESULT is durable, Valkey has not heard
)
RETURNS = {"reasons": {"language": {"evidence": [], "to_person": False}}, "max_rate": 1.0}
CONTRACTS = {
    "ash-lead": Contract(
        "ash", "30.00", returns=RETURNS, resell={"within_hours": 24, "reasons": ["language"]}
    ),
    "birch-lead": Contract("birch", "20.00", caps=({"leads": 500, "per": "day"},), mode="strict"),
}
SOLD_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("again"), CONTRACTS, {}, seed=seed) as place:
        yield place


def given_back(place: Site, buyer: Caller, lead_id: str) -> None:
    """The buyer's claim, made until it is granted."""

    def told() -> Any:
        with suppress(OSError, HTTPException):
            reply = buyer.call("POST", "/v1/returns", {"lead_id": lead_id, "reason": "language"})
            return reply.json if reply.status == 200 else None
        return None

    assert until(told, f"an answer to the return of {lead_id}")["state"] == "granted"


def legs(place: Site, lead_id: str) -> list[tuple[int, str, str]]:
    rows = place.sql(
        "SELECT a.leg, b.key, a.state FROM attempt a JOIN buyer b ON b.id = a.buyer_id"
        " WHERE a.lead_id = $1 ORDER BY a.leg, a.created_at",
        lead_id,
    )
    return [(row["leg"], row["key"], row["state"]) for row in rows]


def run(place: Site, spots: tuple[str, ...]) -> None:
    buyer = Caller(place.url, place.run("key", "create", "buyer", "ash").strip())
    until(lambda: buyer.call("GET", "/v1/returns").status == 200, "the key is known")
    seller = Seller(place, name="resales")
    leads = [died_at(place, spot, seller, buyer) for spot in spots]
    for lead_id in leads:
        told = seller.told(lead_id)
        assert (told["status"], told["payout"]) == ("sold", "20.00")
        posts = place.buyers.events("birch", "post", lead_id)
        assert len({json.loads(event["body"])["attempt_id"] for event in posts}) == 1
    story = json.loads(place.run("explain", leads[0], "--json"))
    assert story["custody"]["verified"]
    assert "given back, sold again to birch" in story["outcome"]
    place.run("ledger", "prove")


def died_at(place: Site, spot: str, seller: Seller, buyer: Caller) -> str:
    """A lead that was sold, given back, and sold again though the job died at this spot."""
    sold = seller.final(seller.direct())
    assert sold.status == "sold"
    place.arm(spot)
    given_back(place, buyer, sold.lead_id)
    until(lambda: not place.is_armed(spot), f"the job comes to {spot}", patience_s=30)
    wanted = [(1, "ash", "sold"), (2, "birch", "sold")]
    until(
        lambda: legs(place, sold.lead_id) == wanted,
        f"{spot}: {legs(place, sold.lead_id)}",
        patience_s=SOLD_WITHIN_S,
    )
    place.settle(within_s=SOLD_WITHIN_S)
    tell(f"{spot:20}{legs(place, sold.lead_id)}")
    return str(sold.lead_id)


def test_the_jobs_process_killed_around_a_resale_sells_the_lead_once(place: Site) -> None:
    run(place, ("answered",))


@pytest.mark.prove
def test_the_jobs_process_killed_anywhere_sells_a_returned_lead_once(place: Site) -> None:
    run(place, SPOTS)


def test_a_person_offers_a_lead_again_or_is_told_why_not(place: Site) -> None:
    sold = Seller(place, name="by hand").final(Seller(place, name="by hand").direct())
    told = json.loads(
        place.run("leads", "resell", sold.lead_id, "--why", "asked for", "--json", code=1)
    )
    assert (told["outcome"], told["rule"]) == ("refused", "not_returned")
    place.run("leads", "resell", sold.lead_id, "--why", "", code=2)
