"""A buyer gives many leads back in one call and uploads whom it has; finance decides on many."""

from typing import Any

import pytest

from tests.e2e.house import Caller, House, Reply, called, person

pytestmark = [pytest.mark.real, pytest.mark.slow]


def sold(house: House, lead: Any = None) -> str:
    """The lead of a new sale to delta."""
    seller = house.seller("gamma")
    told = seller.post(seller.ping("returned"), lead)
    assert told["status"] == "sold", told
    return str(told["lead_id"])


def text(caller: Caller, method: str, path: str, body: str | bytes) -> Reply:
    """A call with a CSV."""
    data = body.encode() if isinstance(body, str) else body
    headers = {"Authorization": f"Bearer {caller.key}", "Content-Type": "text/csv"}
    return called(caller.url, method, path, body=data, headers=headers, timeout_s=30.0)


def states(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.body
    return [
        one["case"]["state"] if one["case"] else str(one["problem"]["status"])
        for one in reply.json["lines"]
    ]


def test_a_list_is_decided_line_by_line_and_a_bad_line_holds_up_no_other(house: House) -> None:
    delta, leads = house.buyer("delta"), [sold(house) for _ in range(3)]
    log = {"call_log": "CL-1"}
    returns = [
        {"lead_id": leads[0], "reason": "wrong_person", "evidence": log},
        {"lead_id": leads[1], "reason": "ugly", "evidence": log},
        {"lead_id": leads[1], "reason": "fraud", "evidence": log},
        {"reason": "fraud"},
        {"lead_id": leads[2], "reason": "wrong_person", "evidence": {"call_log": "a@mail.example"}},
        {"lead_id": leads[2], "reason": "wrong_person"},
        {"lead_id": "019a0000-0000-7000-8000-000000000001", "reason": "fraud"},
        7,
    ]
    reply = delta.call("POST", "/v1/returns/bulk", {"returns": returns})
    wanted = ["granted", "422", "referred", "422", "422", "denied", "404", "422"]
    assert states(reply) == wanted
    assert reply.json["counts"] == {"granted": 1, "referred": 1, "denied": 1, "refused": 5}
    assert b"mail.example" not in reply.body
    again = delta.call("POST", "/v1/returns/bulk", {"returns": returns})
    assert states(again) == wanted
    assert [one["replayed"] for one in again.json["lines"]] == [
        *(True, False, True, False, False, True, False, False)
    ]
    ids = [one["case"]["return_id"] for one in reply.json["lines"] if one["case"]]
    assert ids == [one["case"]["return_id"] for one in again.json["lines"] if one["case"]]


def test_a_list_may_be_a_csv(house: House) -> None:
    delta, leads = house.buyer("delta"), [sold(house) for _ in range(2)]
    lines = f"Lead_ID;Reason;call_log\n{leads[0]};wrong_person;CL-1\n\n{leads[1]};who knows;\n"
    reply = text(delta, "POST", "/v1/returns/bulk", lines)
    assert states(reply) == ["granted", "422"]
    assert [one["line"] for one in reply.json["lines"]] == [2, 4]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"lead_id,why\n", 422, b"no reason"),
        (b"lead_id,reason,a@mail.example\nx,fraud,1\n", 422, b"column 3"),
        (b"\xff\xfe", 422, b"UTF-8"),
        (b"", 422, b"no sale_id"),
        (b"lead_id,reason\n" + b"x,fraud\n" * 1_001, 422, b"more than 1000 lines"),
        (b"lead_id,reason\n" + b"x" * 1_048_576, 413, b"larger"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_whole(
    house: House, body: bytes, status: int, said: bytes
) -> None:
    reply = text(house.buyer("delta"), "POST", "/v1/returns/bulk", body)
    assert (reply.status, said in reply.body) == (status, True), reply.body
    assert b"mail.example" not in reply.body


def test_a_json_list_of_too_many_lines_is_refused_whole(house: House) -> None:
    body = {"returns": [{"reason": "fraud"}] * 1_001}
    assert house.buyer("delta").call("POST", "/v1/returns/bulk", body).status == 413
    assert house.buyer("delta").call("POST", "/v1/returns/bulk", {"returns": 1}).status == 422
    assert house.seller("gamma").call("POST", "/v1/returns/bulk", body).status == 403


def test_finance_decides_on_many(house: House) -> None:
    delta = house.buyer("delta")
    returns = [{"lead_id": sold(house), "reason": "fraud"} for _ in range(2)]
    told = delta.call("POST", "/v1/returns/bulk", {"returns": returns}).json["lines"]
    ids = [one["case"]["return_id"] for one in told]
    said = {"return_ids": [*ids, ids[0], "nothing"], "outcome": "granted", "by": "Dana"}
    path, body = "/v1/finance/returns/decide", said | {"why": "made up, all of them"}
    assert states(house.finance.call("POST", path, body)) == ["granted", "granted", "404"]
    assert states(house.finance.call("POST", path, body | {"outcome": "denied"})) == [
        *("409", "409", "404")
    ]
    assert delta.call("POST", path, body).status == 403
    assert house.finance.call("POST", path, said).status == 422
    house.run("ledger", "prove")


def test_a_buyers_list_decides_from_then_on(house: House) -> None:
    delta, known, path = house.buyer("delta"), person(), "/v1/lists/customers"
    claim = {"reason": "existing_customer", "evidence": {"customer_since": "2020"}}

    def rule(lead_id: str) -> str:
        reply = delta.call("POST", "/v1/returns", claim | {"lead_id": lead_id})
        return str(reply.json["rule"])

    assert rule(sold(house, known)) == "not_verifiable"
    other = person()["phone"]
    put = text(delta, "PUT", path, f"phone,e-mail\n{known['phone']},\n{other},\n,\nnone,none\n")
    assert (put.status, put.json["listed"], put.json["unread"]) == (200, 2, 1)
    added = text(delta, "POST", path, f"{person()['email']}\n")
    assert (added.status, added.json["listed"]) == (200, 3)
    assert delta.call("GET", path).json["uploaded_at"] == added.json["uploaded_at"]
    assert rule(sold(house, person(phone=known["phone"]))) == "listed_before"
    assert rule(sold(house)) == "not_had_before"
    assert text(delta, "PUT", path, "a" * 64).status == 422
    assert house.seller("gamma").call("GET", path).status == 403
    assert "3 consumers" in house.run("buyers", "list-show", "--buyer", "delta")
    for phone in (known["phone"], other):
        assert phone.removeprefix("+1").encode() not in house.log.read_bytes()


def test_no_consent_is_judged_by_what_the_seller_posted(house: House) -> None:
    told = house.buyer("delta").call(
        "POST", "/v1/returns", {"lead_id": sold(house), "reason": "no_consent"}
    )
    assert (told.json["state"], told.json["rule"]) == ("denied", "consent_held")
