"""One buyer does everything a buyer should not: nobody else pays for it, and the record says what
it did.
"""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.house import Buyers, House, SellerClient, until

pytestmark = [pytest.mark.real, pytest.mark.slow]

TMAX_MS = 400
DRIP_MS = 3_000
"""A dripped bid takes at least this long: 100 bytes, 30 ms apart; a hung one takes for ever."""
NON_BIDS: dict[str, set[int]] = {
    "no_bid": {0, 301, 302},
    "hang": {101},
    "reset": {100},
    "drip": {101},
    "error": {100},
    "malformed": {0, 100, 101, 102, 531, 532},
    "oversized": {531},
    "late": {101},
}


@pytest.fixture(autouse=True)
def rested(house: House, alpha: SellerClient) -> None:
    """Kestrel, the misbehaver, is trusted by both workers: neither rested nor braked."""
    answers = 0

    def trusted() -> bool:
        nonlocal answers
        offer = alpha.ping("crowd", tmax_ms=TMAX_MS)
        answers = answers + 1 if offer.get("payout") == "45.00" else 0
        return answers >= 6

    until(trusted, "kestrel is asked again", patience_s=60)


@pytest.mark.parametrize("fault", NON_BIDS)
def test_a_buyer_that_spoils_its_answer_costs_no_other_anything(
    house: House, alpha: SellerClient, buyers: Buyers, fault: str
) -> None:
    with buyers.behaving("kestrel", ping={fault: 1.0}):
        began = time.monotonic()
        offer = alpha.ping("crowd", tmax_ms=TMAX_MS)
        took_ms = (time.monotonic() - began) * 1000
    assert offer["payout"] == "27.00"  # acme's
    story = house.story(offer["ping_id"])
    assert took_ms < DRIP_MS  # nobody waited for it
    spoilt = next(c for c in story["contracts"] if c["contract"] == "kestrel-crowd")
    assert spoilt["asked"]
    assert spoilt["code"] in NON_BIDS[fault]
    assert alpha.post(offer)["sales"][0]["buyer"] == "Acme Inc"


def test_a_buyer_with_an_expired_certificate_is_unreachable(
    house: House, alpha: SellerClient
) -> None:
    offer = alpha.ping("tls", tmax_ms=TMAX_MS)
    assert offer["payout"] == "18.00"
    codes = {c["contract"]: c["code"] for c in house.story(offer["ping_id"])["contracts"]}
    assert codes == {"expired-tls": 103, "lumen-tls": None}
    assert alpha.post(offer)["status"] == "sold"


# --- posts ----------------------------------------------------------------------------------------

# What a post that meets this fault is, once the buyer was asked: it has the lead, or never saw it,
# which proves nothing before a while has passed.
POSTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "reset": ({"reset": 1.0}, "pending"),
    "error": ({"error": 1.0}, "pending"),
    "hang": ({"hang": 1.0}, "pending"),
    "accept, then reset": ({"accept_then_reset": 1.0}, "sold"),
    "accept, then error": ({"accept_then_error": 1.0}, "sold"),
    "accept, then hang": ({"accept_then_hang": 1.0}, "sold"),
    "accept after the deadline": ({"accept_after_deadline": 1.0}, "sold"),
    "malformed": ({"malformed": 1.0}, "sold"),
    "oversized": ({"oversized": 1.0}, "sold"),
    "drip": ({"drip": 1.0}, "sold"),
}


def test_every_post_without_a_clear_answer_is_in_doubt_until_its_buyer_is_asked(
    house: House, alpha: SellerClient, buyers: Buyers
) -> None:
    offers = {case: alpha.ping("crowd") for case in POSTS}
    with ThreadPoolExecutor(len(POSTS)) as pool:
        running = {}
        for case, (faults, _) in POSTS.items():
            # The buyer reads its rules as it gets the post: one rule, one post.
            buyers.behave("kestrel", post=dict.fromkeys(ALL_FAULTS, 0.0) | dict(faults))
            running[case] = pool.submit(alpha.post, offers[case], min_payout="1.00")
            lead_id = offers[case]["ping_id"]
            until(lambda lead_id=lead_id: buyers.events("kestrel", "post", lead_id), "the post")
        told = {case: answer.result() for case, answer in running.items()}
    buyers.behave("kestrel", post=dict.fromkeys(ALL_FAULTS, 0.0))
    assert {case: reply["status"] for case, reply in told.items()} == dict.fromkeys(
        POSTS, "pending"
    )
    for case, (_, ending) in POSTS.items():
        lead_id = offers[case]["ping_id"]
        if ending == "sold":
            assert alpha.final(lead_id)["status"] == "sold", case
        else:
            until(lambda lead_id=lead_id: buyers.inquired("kestrel", lead_id), "an inquiry")
            assert alpha.call("GET", f"/v1/leads/{lead_id}").json["status"] == "pending"
        story = house.story(lead_id)
        [attempt] = story["attempts"]
        assert "unknown" in [event["state"] for event in attempt["events"]], case
        assert attempt["state"] == ("sold" if ending == "sold" else "unknown"), case
        assert story["custody"]["verified"]
        assert len(story["transfers"]) == (2 if ending == "sold" else 0)
        for other in ("acme", "beacon"):
            assert buyers.events(other, "post", lead_id) == [], case


ALL_FAULTS = (
    *("reject", "hang", "reset", "error", "accept_then_reset", "accept_then_hang"),
    *("accept_then_error", "accept_after_deadline", "malformed", "oversized", "drip"),
)
