"""A source whose leads are paid whether they are sold or not: what its seller, the story and the
ledger say."""

import pytest

from tests.e2e.house import House, SellerClient, direct_body

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_a_guaranteed_lead_that_nobody_buys_is_paid(house: House, alpha: SellerClient) -> None:
    body = direct_body("empty") | {"source": "promised"}
    replies = [alpha.call("POST", "/v1/leads", body, idempotency="promised-1") for _ in range(3)]
    told = replies[0].json
    assert (told["status"], told["payout"]) == ("unsold", "5.00")
    assert {reply.body for reply in replies} == {replies[0].body}
    story = house.story(told["lead_id"])
    assert story["outcome"].endswith("its seller is guaranteed 5.00 USD.")
    assert story["paid_by"].startswith("5.00 for each sold lead")
    [moved] = story["transfers"]
    assert (moved["from_account"], moved["to_account"], moved["amount"]) == (
        "house margin",
        "alpha payable",
        "5.00",
    )
    house.run("ledger", "prove")


def test_a_guaranteed_lead_that_is_sold_is_paid_its_fixed_payout(alpha: SellerClient) -> None:
    offer = alpha.ping("fixed", source="promised")
    assert offer["payout"] == "5.00"  # of 18.00
    sold = alpha.post(offer)
    assert (sold["status"], sold["payout"]) == ("sold", "5.00")


def test_a_guaranteed_test_lead_is_paid_nothing(house: House, alpha: SellerClient) -> None:
    body = direct_body("empty") | {"source": "promised", "test": True}
    told = alpha.call("POST", "/v1/leads", body, idempotency="promised-test").json
    assert told["payout"] == "0.00"
    assert house.story(told["lead_id"])["transfers"] == []
