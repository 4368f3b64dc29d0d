"""A buyer gives leads back, a person decides, and everyone who looks is told the same."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.house import Caller, House, until

pytestmark = [pytest.mark.real, pytest.mark.slow]


def sold(house: House) -> str:
    """The lead of a new sale to delta."""
    seller = house.seller("gamma")
    lead = seller.post(seller.ping("returned"))
    assert lead["status"] == "sold", lead
    return str(lead["lead_id"])


def claim(lead_id: str, **more: Any) -> dict[str, Any]:
    return {"lead_id": lead_id, "reason": "wrong_person", "evidence": {"call_log": "CL-1"}} | more


def asked(buyer: Caller, body: Any, **more: Any) -> Any:
    reply = buyer.call("POST", "/v1/returns", body, **more)
    assert reply.status == 200, reply.body
    return reply.json


def test_a_sold_lead_is_returned_and_explain_tells_it(house: House) -> None:
    lead_id, delta = sold(house), house.buyer("delta")
    told = asked(delta, claim(lead_id))
    assert (told["state"], told["rule"], told["credit"]) == ("granted", "evidence_enough", "18.00")
    assert delta.call("GET", f"/v1/returns/{told['return_id']}").json == told
    assert told in delta.call("GET", "/v1/returns?state=granted").json["returns"]
    story = house.story(lead_id)
    [one] = story["returns"]
    assert (one["buyer"], one["state"], one["credit"]) == ("delta", "granted", "18.00")
    assert (one["clawback"], one["says"]) == ("16.20", told["message"])
    moved = {(row["from_account"], row["to_account"]) for row in story["transfers"]}
    assert ("gamma payable", "delta receivable") in moved
    assert story["custody"]["verified"]
    assert story["custody"]["events"][-1]["state"] == "return_granted"
    page = house.run("explain", lead_id)
    assert "Returns" in page
    assert "wrong person" in page
    house.run("ledger", "prove")


def test_the_same_claim_by_both_workers_at_once_is_one_return(house: House) -> None:
    lead_id, delta = sold(house), house.buyer("delta")
    with ThreadPoolExecutor(8) as pool:
        told = list(
            pool.map(
                lambda _: delta.call("POST", "/v1/returns", claim(lead_id), idempotency="once-1"),
                range(16),
            )
        )
    assert {reply.status for reply in told} == {200}
    assert len({reply.json["return_id"] for reply in told}) == 1
    assert sum("idempotent-replayed" not in reply.headers for reply in told) == 1
    other = delta.call("POST", "/v1/returns", claim(sold(house)), idempotency="once-1")
    assert (other.status, other.json["title"]) == (422, "Key used before")


def test_a_referred_return_is_decided_by_finance(house: House) -> None:
    delta, finance = house.buyer("delta"), house.finance
    told = asked(delta, claim(sold(house), reason="fraud"))
    assert told["state"] == "referred"
    waiting = finance.call("GET", "/v1/finance/returns").json["returns"]
    [row] = [row for row in waiting if row["case"]["return_id"] == told["return_id"]]
    assert (row["buyer"], row["seller"], row["price"]) == ("delta", "gamma", "18.00")
    path = f"/v1/finance/returns/{told['return_id']}/decide"
    said = {"outcome": "granted", "by": "Dana", "why": "made up"}
    assert delta.call("POST", path, said).status == 403
    done = finance.call("POST", path, said)
    assert (done.json["state"], done.json["rule"]) == ("granted", "person_granted")
    assert finance.call("POST", path, said | {"outcome": "denied"}).status == 409
    until(lambda: b'"by":"person"' in house.log.read_bytes(), "the line of the decision")
    counted = b'exchange_returns_total{buyer="delta",decision="granted",reason="fraud"}'
    until(lambda: counted in house.operator.call("GET", "/metrics").body, "it is counted")


def test_a_denied_return_is_appealed(house: House) -> None:
    delta = house.buyer("delta")
    told = asked(delta, claim(sold(house), evidence={}))
    assert (told["state"], told["wanting"]) == ("denied", ["call_log"])
    path = f"/v1/returns/{told['return_id']}/appeal"
    taken = delta.call("POST", path, {"evidence": {"call_log": "CL-7"}})
    assert (taken.status, taken.json["state"]) == (200, "appealed")


def test_finance_decides_at_the_terminal_too(house: House) -> None:
    told = asked(house.buyer("delta"), claim(sold(house), reason="fraud"))
    return_id = told["return_id"]
    listed = json.loads(house.run("returns", "list", "--json"))
    assert return_id in [row["case"]["return_id"] for row in listed]
    assert return_id in house.run("returns", "list")
    assert "A person decides" in house.run("returns", "show", return_id)
    house.run("returns", "decide", return_id, "maybe", "--why", "never", code=2)
    denied = house.run("returns", "decide", return_id, "denied", "--why", "no recording")
    assert "denied" in denied
    house.run("returns", "decide", return_id, "granted", "--why", "after all", code=1)
    house.run("returns", "show", told["lead_id"], code=1)


ANY_ID = "019a0000-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"reason": "a@mail.example", "lead_id": ANY_ID}, 422, "reason"),
        ({"reason": "x - at `$.mail.example`", "lead_id": ANY_ID}, 422, "reason"),
        ({"reason": "fraud"}, 422, "sale_id"),
        ({"reason": "fraud", "lead_id": ANY_ID, "sale_id": ANY_ID}, 422, "sale_id"),
        ({"reason": "fraud", "lead_id": ANY_ID, "evidence": {"diary": "x"}}, 422, "evidence"),
        (
            {"reason": "fraud", "lead_id": ANY_ID, "evidence": {"call_log": "a@mail.example"}},
            422,
            "evidence.call_log",
        ),
        ({"reason": "fraud", "lead_id": ANY_ID}, 404, None),
        ({"reason": "fraud", "lead_id": "mine"}, 404, None),
    ],
)
def test_a_claim_that_cannot_be_taken_says_why(
    house: House, body: Any, status: int, field: str | None
) -> None:
    reply = house.buyer("delta").call("POST", "/v1/returns", body)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert [error["field"] for error in reply.json["errors"]] == ([field] if field else [])
    assert b"mail.example" not in reply.body


@pytest.mark.parametrize("query", ["state=lost", "limit=0", "limit=x", "before=x"])
def test_a_listing_of_what_is_no_page_is_refused(house: House, query: str) -> None:
    assert house.buyer("delta").call("GET", f"/v1/returns?{query}").status == 422
    assert house.finance.call("GET", f"/v1/finance/returns?{query}").status == 422


def test_a_key_that_names_a_person_is_refused(house: House) -> None:
    body = {"reason": "fraud", "lead_id": ANY_ID}
    reply = house.buyer("delta").call("POST", "/v1/returns", body, idempotency="a@mail.example")
    assert (reply.status, reply.json["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_another_buyers_sale_and_return_are_not_found(house: House) -> None:
    lead_id, acme = sold(house), house.buyer("acme")
    assert acme.call("POST", "/v1/returns", claim(lead_id)).status == 404
    told = asked(house.buyer("delta"), claim(lead_id))
    path = f"/v1/returns/{told['return_id']}"
    assert acme.call("GET", path).status == 404
    assert acme.call("POST", f"{path}/appeal", {}).status == 404
    assert acme.call("GET", "/v1/returns").json == {"returns": [], "next": None}
    assert house.seller("gamma").call("GET", path).status == 403
