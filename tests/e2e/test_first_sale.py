"""A seller, buyers and an operator at work: from the first ping to the proof."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.house import (
    CONSENT,
    PINGED,
    Buyers,
    House,
    SellerClient,
    direct_body,
    person,
    post_body,
)

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_a_ping_becomes_an_offer_and_its_post_a_sale(
    house: House, alpha: SellerClient, buyers: Buyers
) -> None:
    offer = alpha.ping("ladder", sub_id="aff-1", external_id="mine-1")
    assert offer["status"] == "offer"
    assert offer["payout"] == "27.00"  # acme's 30.00 less ten percent
    [line] = offer["offers"]
    assert line["exclusive"]
    lead = person()
    sold = alpha.post(offer, lead, offer_id=line["offer_id"])
    assert (sold["status"], sold["payout"], sold["currency"]) == ("sold", "27.00", "USD")
    assert sold["lead_id"] == offer["ping_id"]
    assert [sale["buyer"] for sale in sold["sales"]] == ["Acme Inc"]
    [event] = buyers.events("acme", "post", sold["lead_id"])
    assert json.loads(event["body"])["lead"]["email"] == lead["email"]
    assert buyers.events("beacon", "post", sold["lead_id"]) == []


def test_a_post_sent_again_hears_the_same_bytes_and_sends_nothing(
    alpha: SellerClient, buyers: Buyers
) -> None:
    body = post_body(alpha.ping("ladder"))
    first = alpha.call("POST", "/v1/post", body, idempotency="again-1")
    again = [alpha.call("POST", "/v1/post", body, idempotency="again-1") for _ in range(3)]
    assert "idempotent-replayed" not in first.headers
    assert [reply.headers["idempotent-replayed"] for reply in again] == ["true"] * 3
    assert {reply.body for reply in again} == {first.body}
    assert len(buyers.events("acme", "post", body["ping_id"])) == 1


@pytest.mark.parametrize("keys", [["one key"] * 6, [f"key {number}" for number in range(6)]])
def test_an_offer_posted_six_times_at_once_is_sold_once(
    alpha: SellerClient, buyers: Buyers, keys: list[str]
) -> None:
    body = post_body(alpha.ping("ladder"))
    with ThreadPoolExecutor(6) as pool:
        replies = list(
            pool.map(
                lambda key: alpha.call("POST", "/v1/post", body, idempotency=f"once {key}"), keys
            )
        )
    assert len(buyers.events("acme", "post", body["ping_id"])) == 1
    assert alpha.final(body["ping_id"])["status"] == "sold"
    if len(set(keys)) == 1:
        assert {reply.json["status"] for reply in replies} <= {"sold", "pending"}
    else:
        assert sorted(reply.status for reply in replies) == [200, *[409] * 5]


def test_a_direct_lead_sent_six_times_at_once_is_sold_once(
    alpha: SellerClient, buyers: Buyers
) -> None:
    body = direct_body("ladder")
    with ThreadPoolExecutor(6) as pool:
        sent = [
            pool.submit(alpha.call, "POST", "/v1/leads", body, idempotency="at once")
            for _ in range(6)
        ]
        replies = [one.result() for one in sent]
    [lead_id] = {reply.json["lead_id"] for reply in replies}
    assert alpha.final(lead_id)["status"] == "sold"
    assert len(buyers.events("acme", "post", lead_id)) == 1


def test_a_direct_lead_sent_again_hears_the_same_bytes(alpha: SellerClient, buyers: Buyers) -> None:
    body = direct_body("ladder")
    first = alpha.call("POST", "/v1/leads", body, idempotency="again-2")
    again = alpha.call("POST", "/v1/leads", body, idempotency="again-2")
    assert first.json["status"] == "sold"
    assert again.headers["idempotent-replayed"] == "true"
    assert again.body == first.body


@pytest.mark.parametrize("path", ["/v1/post", "/v1/leads"])
def test_a_key_used_for_another_request_is_refused(alpha: SellerClient, path: str) -> None:
    if path == "/v1/post":
        bodies: list[Any] = [post_body(alpha.ping("ladder")), post_body(alpha.ping("ladder"))]
    else:
        bodies = [direct_body("ladder"), direct_body("ladder")]
    key = f"other{path}"
    assert alpha.call("POST", path, bodies[0], idempotency=key).json["status"] == "sold"
    other = alpha.call("POST", path, bodies[1], idempotency=key)
    assert other.status == 422
    assert other.json["title"] == "Key used before"


def test_the_same_offer_with_another_record_under_its_key_is_refused(alpha: SellerClient) -> None:
    offer = alpha.ping("ladder")
    assert alpha.post(offer)["status"] == "sold"
    other = alpha.call("POST", "/v1/post", post_body(offer))
    assert (other.status, other.json["title"]) == (422, "Key used before")


def test_a_sold_offer_stays_taken_whatever_its_key_sends_afterwards(alpha: SellerClient) -> None:
    offer = alpha.ping("ladder")
    assert alpha.post(offer, key="first")["status"] == "sold"
    bad = post_body(offer, person(phone="no phone"))
    assert alpha.call("POST", "/v1/post", bad, idempotency="first").status == 422
    other = alpha.call("POST", "/v1/post", post_body(offer), idempotency="second")
    assert (other.status, other.json["title"]) == (409, "offer_taken")


def test_an_offer_taken_by_one_key_is_refused_to_another(alpha: SellerClient) -> None:
    offer = alpha.ping("ladder")
    alpha.post(offer, key="one")
    other = alpha.call("POST", "/v1/post", post_body(offer), idempotency="two")
    assert (other.status, other.json["title"]) == (409, "offer_taken")


def test_a_direct_lead_is_sold_in_one_call_and_can_be_looked_up(alpha: SellerClient) -> None:
    sold = alpha.direct("ladder")
    assert (sold["status"], sold["payout"]) == ("sold", "27.00")
    found = alpha.call("GET", f"/v1/leads/{sold['lead_id']}")
    assert (found.status, found.json) == (200, sold)


def test_a_direct_lead_nobody_wants_is_unsold_with_its_reason(alpha: SellerClient) -> None:
    unsold = alpha.direct("empty")
    assert unsold["status"] == "unsold"
    assert unsold["payout"] == "0.00"
    assert unsold["reason"]["name"] == "nobody_bought"


def test_another_seller_sees_nothing_of_a_lead(house: House, alpha: SellerClient) -> None:
    sold = alpha.post(alpha.ping("ladder"))
    beta = house.seller("beta")
    assert beta.call("GET", f"/v1/leads/{sold['lead_id']}").status == 404
    taken = beta.call("POST", "/v1/post", post_body({"ping_id": sold["lead_id"]}))
    assert (taken.status, taken.json["title"]) == (409, "offer_unknown")


# --- falling through ------------------------------------------------------------------------------

REJECTING = {"post": {"reject": 1.0, "reasons": ["out_of_area"]}}


def test_a_post_that_is_rejected_does_not_fall_below_the_promise(
    alpha: SellerClient, buyers: Buyers
) -> None:
    with buyers.behaving("acme", **REJECTING):
        offer = alpha.ping("ladder")
        unsold = alpha.post(offer)
    assert (unsold["status"], unsold["reason"]["name"]) == ("unsold", "promise_unmet")
    assert buyers.events("beacon", "post", offer["ping_id"]) == []


def test_min_payout_lets_it_fall_so_far_and_no_further(alpha: SellerClient, buyers: Buyers) -> None:
    with buyers.behaving("acme", **REJECTING):
        sold = alpha.post(alpha.ping("ladder"), min_payout="18.00")
        with buyers.behaving("beacon", **REJECTING):
            offer = alpha.ping("ladder")
            unsold = alpha.post(offer, min_payout="18.00")
    assert (sold["status"], sold["payout"]) == ("sold", "18.00")
    assert (unsold["status"], unsold["reason"]["name"]) == ("unsold", "promise_unmet")
    assert buyers.events("cedar", "post", offer["ping_id"]) == []


def test_the_house_gives_up_its_fee_before_it_breaks_a_promise(
    alpha: SellerClient, buyers: Buyers
) -> None:
    with buyers.behaving("acme", **REJECTING):
        sold = alpha.post(alpha.ping("ladder"), min_payout="19.00")
    # beacon's 20.00 less ten percent would be 18.00
    assert (sold["status"], sold["payout"]) == ("sold", "19.00")


def test_a_direct_lead_falls_to_its_floor(alpha: SellerClient, buyers: Buyers) -> None:
    with buyers.behaving("acme", **REJECTING), buyers.behaving("beacon", **REJECTING):
        unsold = alpha.direct("ladder", floor="10.00")
        sold = alpha.direct("ladder", floor="9.00")
    assert unsold["status"] == "unsold"
    assert (sold["status"], sold["payout"]) == ("sold", "9.00")


def test_a_post_in_doubt_is_sold_to_nobody_else(
    house: House, alpha: SellerClient, buyers: Buyers
) -> None:
    with buyers.behaving("kestrel", post={"accept_then_reset": 1.0}):
        offer = alpha.ping("crowd")
        pending = alpha.post(offer, min_payout="1.00")
        assert (pending["status"], pending["reason"]["name"]) == ("pending", "in_doubt")
        final = alpha.final(offer["ping_id"])
    assert (final["status"], final["payout"]) == ("sold", "45.00")
    assert buyers.events("acme", "post", offer["ping_id"]) == []
    assert buyers.events("beacon", "post", offer["ping_id"]) == []


# --- consent, floor, price, criteria, test --------------------------------------------------------


def named(*buyers: str) -> dict[str, Any]:
    return {"kind": "tcpa", "buyers": list(buyers)}


@pytest.mark.parametrize("names", [["Beacon Inc"], ["beacon"]], ids=["name", "key"])
def test_consent_that_names_buyers_keeps_all_others_out(
    alpha: SellerClient, buyers: Buyers, names: list[str]
) -> None:
    offer = alpha.ping("named", consent=named(*names))
    assert offer["payout"] == "18.00"
    assert offer["offers"][0]["buyers"] == [{"name": "Beacon Inc"}]
    sold = alpha.post(offer, consent=CONSENT | {"buyers": names})
    assert [sale["buyer"] for sale in sold["sales"]] == ["Beacon Inc"]
    assert buyers.events("acme", "ping", offer["ping_id"]) == []


def test_a_named_buyer_that_rejects_is_followed_only_by_named_ones(
    alpha: SellerClient, buyers: Buyers
) -> None:
    with buyers.behaving("beacon", **REJECTING):
        offer = alpha.ping("named", consent=named("Beacon Inc"))
        unsold = alpha.post(offer, consent=CONSENT | {"buyers": ["Beacon Inc"]}, min_payout="1.00")
    assert unsold["status"] == "unsold"
    assert buyers.events("acme", "post", offer["ping_id"]) == []
    assert buyers.events("cedar", "post", offer["ping_id"]) == []


def test_a_posts_consent_that_names_fewer_buyers_than_the_ping_binds(
    alpha: SellerClient, buyers: Buyers
) -> None:
    offer = alpha.ping("named")
    sold = alpha.post(offer, consent=CONSENT | {"buyers": ["Cedar Inc"]}, min_payout="1.00")
    assert [sale["buyer"] for sale in sold["sales"]] == ["Cedar Inc"]
    assert buyers.events("acme", "post", offer["ping_id"]) == []


def test_a_direct_leads_named_consent_binds(alpha: SellerClient, buyers: Buyers) -> None:
    sold = alpha.direct("named", consent=CONSENT | {"buyers": ["Cedar Inc"]})
    assert [sale["buyer"] for sale in sold["sales"]] == ["Cedar Inc"]
    assert buyers.events("acme", "ping", sold["lead_id"]) == []
    assert buyers.events("acme", "post", sold["lead_id"]) == []


def test_a_lead_without_the_consent_its_vertical_needs_is_rejected_and_may_be_sent_again(
    alpha: SellerClient,
) -> None:
    offer = alpha.ping("ladder")
    reply = alpha.call("POST", "/v1/post", post_body(offer, consent={}))
    assert (reply.status, reply.json["status"]) == (200, "rejected")
    assert reply.json["reason"]["name"] == "consent_missing"
    assert "idempotent-replayed" not in reply.headers
    assert alpha.post(offer)["status"] == "sold"


def test_a_floor_that_no_bid_reaches_gives_no_offer(house: House, alpha: SellerClient) -> None:
    none = alpha.ping("ladder", floor="27.01")
    assert (none["status"], none["reason"]["name"]) == ("no_offer", "no_bids")
    assert house.answer(none["ping_id"], "acme-ladder")["code"] == 301
    assert alpha.ping("ladder", floor="27.00")["payout"] == "27.00"


def test_a_sources_own_floor_holds(alpha: SellerClient) -> None:
    assert alpha.ping("ladder", source="dear")["payout"] == "27.00"
    assert alpha.direct("ladder", source="dear", floor="27.01")["status"] == "unsold"


def test_a_contract_of_a_fixed_price_pays_it(
    house: House, alpha: SellerClient, buyers: Buyers
) -> None:
    assert alpha.post(alpha.ping("fixed"))["payout"] == "16.20"
    with buyers.behaving("delta", contracts={"delta-fixed": {"kind": "constant", "value": 99}}):
        odd = alpha.ping("fixed")
    assert odd["status"] == "no_offer"
    assert house.answer(odd["ping_id"], "delta-fixed")["code"] == 102


def test_criteria_on_what_is_not_pinged_are_tested_at_the_post(
    house: House, alpha: SellerClient, buyers: Buyers
) -> None:
    offer = alpha.ping("veterans")
    sold = alpha.post(offer, person(veteran=False), min_payout="1.00")
    assert [sale["buyer"] for sale in sold["sales"]] == ["Beacon Inc"]
    assert buyers.events("acme", "post", offer["ping_id"]) == []
    assert house.answer(offer["ping_id"], "acme-veterans")["loss"] == 509
    assert alpha.post(alpha.ping("veterans"), person(veteran=True))["payout"] == "27.00"


def test_a_test_lead_reaches_only_test_buyers_and_moves_no_money(
    house: House, alpha: SellerClient, buyers: Buyers
) -> None:
    real = alpha.ping("test_only")
    assert real["status"] == "no_offer"
    assert house.answer(real["ping_id"], "granite-test")["code"] == 513
    offer = alpha.ping("test_only", test=True)
    tested = alpha.post(offer)
    assert (tested["status"], tested["payout"]) == ("test", "36.00")
    assert house.story(offer["ping_id"])["transfers"] == []
    none = alpha.ping("ladder", test=True)
    assert none["status"] == "no_offer"


def test_a_consumer_sold_before_is_a_duplicate(alpha: SellerClient, buyers: Buyers) -> None:
    lead = person()
    assert alpha.post(alpha.ping("once"), lead)["status"] == "sold"
    offer = alpha.ping("once")
    again = alpha.call("POST", "/v1/post", post_body(offer, lead))
    assert (again.status, again.json["status"]) == (200, "duplicate")
    assert "idempotent-replayed" not in again.headers
    assert buyers.events("acme", "post", offer["ping_id"]) == []
    assert alpha.direct("once", lead)["status"] == "duplicate"


def test_one_consumer_sent_many_times_at_once_is_sold_once(
    alpha: SellerClient, buyers: Buyers
) -> None:
    lead = person()
    offers = [alpha.ping("once") for _ in range(6)]
    posts = [("/v1/post", post_body(offer, lead)) for offer in offers]
    directs = [("/v1/leads", direct_body("once", lead)) for _ in range(6)]
    with ThreadPoolExecutor(12) as pool:
        replies = list(
            pool.map(
                lambda n, sent: alpha.call("POST", *sent, idempotency=f"racer {n} {lead['phone']}"),
                range(12),
                [*posts, *directs],
            )
        )
    assert Counter(reply.json["status"] for reply in replies) == {"sold": 1, "duplicate": 11}
    ids = {offer["ping_id"] for offer in offers} | {reply.json["lead_id"] for reply in replies}
    assert sum(len(buyers.events("acme", "post", lead_id)) for lead_id in ids) == 1
    [refused] = {r.json["reason"]["name"] for r in replies if r.json["status"] == "duplicate"}
    assert refused == "duplicate"


# --- the gate -------------------------------------------------------------------------------------


def test_a_pseudonym_is_pinged_in_place_of_the_number_and_matches_the_post(
    alpha: SellerClient, buyers: Buyers
) -> None:
    lead = person()
    pinged = PINGED | {"phone": lead["phone"]}
    offer = alpha.ping("ladder", fields=pinged)
    assert offer.get("dropped", []) == []
    [event] = buyers.events("acme", "ping", offer["ping_id"])
    assert lead["phone"][2:] not in event["body"]
    other = alpha.call("POST", "/v1/post", post_body(offer))
    assert (other.status, other.json["title"]) == (422, "ping_mismatch")
    assert alpha.post(offer, lead)["status"] == "sold"


@pytest.mark.parametrize("source", ["web", "watching"])
def test_a_gate_that_strips_or_watches_drops_what_is_personal(
    alpha: SellerClient, buyers: Buyers, source: str
) -> None:
    fields = PINGED | {"email": "ursula@mail.example", "campaign": "ursula@mail.example"}
    offer = alpha.ping("ladder", source=source, fields=fields)
    assert offer["dropped"] == ["email", "campaign"]
    [event] = buyers.events("acme", "ping", offer["ping_id"])
    assert "ursula" not in event["body"]


def test_a_gate_that_refuses_says_which_fields(alpha: SellerClient) -> None:
    fields = PINGED | {"email": "ursula@mail.example"}
    body = {"vertical": "ladder", "source": "refusing", "fields": fields}
    refused = alpha.call("POST", "/v1/ping", body)
    assert refused.status == 422
    assert [problem["field"] for problem in refused.json["errors"]] == ["email"]


# --- caps -----------------------------------------------------------------------------------------


def test_a_full_cap_passes_the_lead_to_the_next_bidder(
    house: House, alpha: SellerClient, buyers: Buyers
) -> None:
    offers = [alpha.ping("capped") for _ in range(3)]
    sold = [alpha.post(offer, min_payout="1.00") for offer in offers]
    assert [one["payout"] for one in sold] == ["27.00", "27.00", "18.00"]
    assert house.answer(offers[2]["ping_id"], "ember-capped")["loss"] == 500
    [row] = json.loads(house.run("caps", "show", "--buyer", "ember", "--json"))[:1]
    assert (row["contract"], row["used"], row["held"], row["booked"]) == ("ember-capped", 2, 0, 2)


def test_a_cap_for_each_state_is_full_for_that_state_alone(alpha: SellerClient) -> None:
    assert alpha.direct("by_state")["status"] == "sold"
    assert alpha.direct("by_state")["status"] == "unsold"
    nevada = {"zip": "89101"}
    assert alpha.direct("by_state", person(**nevada))["status"] == "sold"


def test_room_held_with_an_offer_stays_with_it_through_a_doubt_and_a_retry(
    house: House, alpha: SellerClient, buyers: Buyers
) -> None:
    offers = [alpha.ping("held") for _ in range(2)]
    assert [offer["payout"] for offer in offers] == ["27.00", "18.00"]
    body = post_body(offers[0])
    with buyers.behaving("ember", post={"accept_then_reset": 1.0}):
        told = [alpha.call("POST", "/v1/post", body).json["status"] for _ in range(2)]
    assert told == ["pending", "pending"]
    assert _held(house) == (0, 1)
    assert alpha.ping("held")["payout"] == "18.00"
    house.run("doubt", "resolve", "sold", offers[0]["ping_id"], "--why", "they said so", "--yes")
    assert alpha.final(offers[0]["ping_id"])["status"] == "sold"
    assert _held(house) == (1, 0)


def _held(house: House) -> tuple[int, int]:
    rows = json.loads(house.run("caps", "show", "--buyer", "ember", "--json"))
    [row] = [row for row in rows if row["contract"] == "ember-held"]
    return row["used"], row["held"]


# --- operators ------------------------------------------------------------------------------------


def test_the_command_and_the_api_tell_the_same_story(house: House, alpha: SellerClient) -> None:
    sold = alpha.post(alpha.ping("ladder"))
    story = house.story(sold["lead_id"])
    assert json.loads(house.run("explain", sold["lead_id"], "--json")) == story
    assert story["outcome"].startswith("Sold to acme for 30.00 USD")
    assert story["custody"]["verified"]
    assert {(t["from_account"], t["amount"]) for t in story["transfers"]} != set()
    page = house.run("explain", sold["lead_id"])
    assert "acme-ladder" in page


def test_a_doubt_is_listed_and_ended_by_an_operator(
    house: House, alpha: SellerClient, buyers: Buyers
) -> None:
    with buyers.behaving("kestrel", status=False, post={"accept_then_reset": 1.0}):
        pending = alpha.post(alpha.ping("crowd"))
        lead_id = pending["lead_id"]
        assert pending["status"] == "pending"
        listed = house.operator.call("GET", "/v1/admin/doubts?buyer=kestrel").json
        [row] = [row for row in listed["rows"] if row["lead_id"] == lead_id]
        assert listed["totals"]["price_micros"] == {"USD": 50_000_000 * len(listed["rows"])}
        told = json.loads(house.run("doubt", "list", "--json"))
        assert row["attempt_id"] in {one["attempt_id"] for one in told["rows"]}
        words = {"outcome": "sold", "why": "they said so by phone", "by": "olga"}
        names = {"attempts": [row["attempt_id"]]}
        dry = house.operator.call("POST", "/v1/admin/doubts/resolve", words | names)
        assert (dry.status, dry.json["dry_run"], dry.json["resolved"]) == (200, True, [])
        done = house.operator.call(
            "POST", "/v1/admin/doubts/resolve", words | names | {"dry_run": False}
        )
        assert [one["kind"] for one in done.json["resolved"]] == ["done"]
    assert alpha.final(lead_id)["status"] == "sold"


def test_a_buyer_ends_its_own_doubt_by_calling_back(
    house: House, alpha: SellerClient, buyers: Buyers
) -> None:
    with buyers.behaving("kestrel", status=False, post={"accept_then_reset": 1.0}):
        lead_id = alpha.post(alpha.ping("crowd"))["lead_id"]
        [event] = buyers.events("kestrel", "post", lead_id)
        path = f"/v1/attempts/{event['attempt_id']}/result"
        said = house.buyer("kestrel").call("POST", path, {"status": "accepted", "ref": "r-1"})
        assert (said.status, said.json["state"]) == (200, "sold")
        assert house.buyer("kestrel").call("POST", path, {"status": "accepted"}).status == 200
        assert house.buyer("kestrel").call("POST", path, {"status": "rejected"}).status == 409
    assert alpha.final(lead_id)["status"] == "sold"
