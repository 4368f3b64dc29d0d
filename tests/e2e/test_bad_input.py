"""Bad requests: each answered in the one shape, with nothing of the request repeated and nothing
half done.
"""

import json
import time
from typing import Any

import pytest

from tests.e2e.house import (
    CONSENT,
    PINGED,
    Buyers,
    House,
    Reply,
    SellerClient,
    called,
    direct_body,
    person,
    ping_body,
    post_body,
    raw,
    until,
)

pytestmark = [pytest.mark.real, pytest.mark.slow]

CANARY = "xanthippe"
"""Stands in every bad value; no answer may repeat it."""
UNKNOWN_ID = "00000000-0000-7000-8000-000000000000"


def is_problem(reply: Reply, status: int) -> Any:
    """Whether an answer is a refusal in the one shape; the document."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    document = reply.json
    assert {"type", "title", "status", "detail", "errors"} == set(document)
    assert document["status"] == status
    assert document["type"].startswith("/docs#problem-")
    assert document["title"]
    assert document["detail"]
    for error in document["errors"]:
        assert {"field", "message", "hint"} == set(error)
        assert error["field"]
        assert error["message"]
        assert error["hint"]
    assert CANARY not in reply.body.decode().lower()
    return document


def fields(**more: Any) -> dict[str, Any]:
    return ping_body(fields=PINGED | more)


# --- pings ----------------------------------------------------------------------------------------

PINGS: dict[str, tuple[Any, int, list[str]]] = {
    "no object": ([1], 422, ["body"]),
    "no vertical": ({"source": "web", "fields": PINGED}, 422, ["body"]),
    "vertical of a wrong type": (ping_body(vertical=7), 422, ["vertical"]),
    "unknown vertical": (ping_body(vertical=CANARY), 422, ["vertical"]),
    "unknown source": (ping_body(source=CANARY), 422, ["source"]),
    "both unknown": (ping_body(vertical=CANARY, source=CANARY), 422, ["vertical", "source"]),
    "unknown field": (fields(agee=CANARY), 422, ["agee"]),
    "a name as a field": (fields(**{f"{CANARY}@mail.example": 1}), 422, ["(unnamed)"]),
    "field of a wrong type": (fields(age=CANARY), 422, ["age"]),
    "field out of range": (fields(age=15), 422, ["age"]),
    "boolean as a number": (fields(age=True), 422, ["age"]),
    "unknown choice": (fields(plan=CANARY), 422, ["plan"]),
    "impossible date": (fields(born="2026-02-30"), 422, ["born"]),
    "missing field": (ping_body(fields={"age": 34}), 422, ["zip"]),
    "several at once": (ping_body(fields={"age": CANARY, "plan": 1}), 422, ["age", "plan", "zip"]),
    "fields no object": (ping_body(fields=[CANARY]), 422, ["fields"]),
    "floor as a number": (ping_body(floor=5), 422, ["floor"]),
    "floor no price": (ping_body(floor=CANARY), 422, ["floor"]),
    "negative floor": (ping_body(floor="-1.00"), 422, ["floor"]),
    "floor finer than micros": (ping_body(floor="1.0000001"), 422, ["floor"]),
    "tmax as text": (ping_body(tmax_ms=CANARY), 422, ["tmax_ms"]),
    "tmax with a fraction": (ping_body(tmax_ms=1.5), 422, ["tmax_ms"]),
    "an age beyond integers": (fields(age=10**30), 422, ["age"]),
    "NUL in a label": (ping_body(sub_id=f"a\0{CANARY}"), 422, ["sub_id"]),
    "label too long": (ping_body(external_id=CANARY * 20), 422, ["external_id"]),
    "consent without kind": (ping_body(consent={"text": CANARY}), 422, ["consent"]),
    "paused source": (ping_body(source="paused"), 403, []),
}


@pytest.mark.parametrize("case", PINGS)
def test_a_bad_ping_is_refused_in_the_one_shape(alpha: SellerClient, case: str) -> None:
    body, status, named = PINGS[case]
    document = is_problem(alpha.call("POST", "/v1/ping", body), status)
    assert [error["field"] for error in document["errors"]] == named


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"vertical": "' + CANARY.encode(),
        b"\xff\xfe{}",
        b'{"a": NaN}',
        CANARY.encode(),
    ],
    ids=["empty", "open", "cut", "utf-16", "NaN", "word"],
)
@pytest.mark.parametrize("path", ["/v1/ping", "/v1/post", "/v1/leads"])
def test_what_is_no_json_is_refused(alpha: SellerClient, path: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {alpha.key}", "Idempotency-Key": "no-json"}
    reply = called(alpha.url, "POST", path, body=body, headers=headers)
    is_problem(reply, 400)


def test_text_that_is_no_utf8_is_refused(alpha: SellerClient) -> None:
    body = json.dumps(ping_body(sub_id="?")).encode().replace(b"?", b"\xed\xa0\x80")
    headers = {"Authorization": f"Bearer {alpha.key}"}
    is_problem(called(alpha.url, "POST", "/v1/ping", body=body, headers=headers), 400)


def test_json_nested_beyond_reason_is_refused(alpha: SellerClient) -> None:
    body = b'{"vertical": "ladder", "source": "web", "fields": {"zip": ' + b"[" * 20_000
    headers = {"Authorization": f"Bearer {alpha.key}"}
    is_problem(called(alpha.url, "POST", "/v1/ping", body=body, headers=headers), 400)


@pytest.mark.parametrize("tmax_ms", [-5, 0, 1, 10**9, 10**30])
def test_a_tmax_outside_the_limits_is_brought_inside(alpha: SellerClient, tmax_ms: int) -> None:
    assert alpha.ping("ladder", tmax_ms=tmax_ms)["status"] in ("offer", "no_offer")
    assert alpha.direct("ladder", tmax_ms=tmax_ms)["status"] in ("sold", "unsold")


# --- posts ----------------------------------------------------------------------------------------

LEADS: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "unknown field": ({"lead": person(frist_name=CANARY)}, 422, ["frist_name"]),
    "wrong type": ({"lead": person(phone=CANARY)}, 422, ["phone"]),
    "missing required": ({"lead": {**PINGED, "phone": "+13105550100"}}, 422, ["first_name"]),
    "beyond integers": ({"lead": person(age=10**30)}, 422, ["age"]),
    "lead no object": ({"lead": CANARY}, 422, ["lead"]),
    "control characters": ({"lead": person(notes=f"a\0{CANARY}")}, 422, ["notes"]),
    "consent no object": ({"consent": CANARY}, 422, ["consent"]),
    "unreadable names": ({"consent": {"buyers": CANARY}}, 422, ["consent.buyers"]),
    "chain no list": ({"chain": CANARY}, 422, ["chain"]),
}
POSTS: dict[str, tuple[dict[str, Any], int, list[str]]] = LEADS | {
    "contradicts its ping": ({"lead": person(zip="10001")}, 422, ["lead.zip"]),
    "min_payout no price": ({"min_payout": CANARY}, 422, ["min_payout"]),
    "another offer": ({"offer_id": CANARY}, 400, ["offer_id"]),
}


@pytest.mark.parametrize("case", POSTS)
def test_a_bad_post_leaves_its_offer_as_it_was(
    alpha: SellerClient, buyers: Buyers, case: str
) -> None:
    more, status, named = POSTS[case]
    offer = alpha.ping("ladder")
    reply = alpha.call("POST", "/v1/post", post_body(offer) | more, idempotency=f"bad {case}")
    document = is_problem(reply, status)
    assert [error["field"] for error in document["errors"]] == named
    assert alpha.call("GET", f"/v1/leads/{offer['ping_id']}").status == 404
    assert buyers.events("acme", "post", offer["ping_id"]) == []
    assert alpha.post(offer, key=f"good {case}")["status"] == "sold"


@pytest.mark.parametrize("odd", [10**30, -(10**30), 1.5e300, "\0", {"\0": ["\u2028"]}])
def test_whatever_json_a_consent_holds_is_kept_and_delivered(
    alpha: SellerClient, buyers: Buyers, odd: Any
) -> None:
    consent = CONSENT | {"odd": odd}
    sold = alpha.post(alpha.ping("ladder"), consent=consent)
    assert sold["status"] == "sold"
    [event] = buyers.events("acme", "post", sold["lead_id"])
    assert json.loads(event["body"])["consent"] == consent
    assert alpha.direct("ladder", consent=consent)["status"] == "sold"


@pytest.mark.parametrize("case", LEADS)
def test_a_bad_direct_lead_leaves_its_key_unused(alpha: SellerClient, case: str) -> None:
    more, status, named = LEADS[case]
    key = f"direct {case}"
    reply = alpha.call("POST", "/v1/leads", direct_body("ladder") | more, idempotency=key)
    document = is_problem(reply, status)
    assert [error["field"] for error in document["errors"]] == named
    assert alpha.direct("ladder", key=key)["status"] == "sold"


@pytest.mark.parametrize("ping_id", ["", CANARY, CANARY * 4, UNKNOWN_ID[:-1] + "\0"])
def test_a_ping_id_that_is_none_is_refused(alpha: SellerClient, ping_id: str) -> None:
    body = post_body({"ping_id": ping_id})
    document = is_problem(alpha.call("POST", "/v1/post", body), 422)
    assert [error["field"] for error in document["errors"]] == ["ping_id"]


def test_an_offer_nobody_made_is_unknown(alpha: SellerClient) -> None:
    is_problem(alpha.call("POST", "/v1/post", post_body({"ping_id": UNKNOWN_ID})), 409)


def test_another_sellers_offer_is_unknown_and_stays_good(house: House, alpha: SellerClient) -> None:
    offer = alpha.ping("ladder")
    stolen = house.seller("beta").call("POST", "/v1/post", post_body(offer))
    assert is_problem(stolen, 409)["title"] == "offer_unknown"
    assert alpha.post(offer)["status"] == "sold"


def test_an_expired_offer_is_refused(alpha: SellerClient, buyers: Buyers) -> None:
    with (
        buyers.behaving("acme", expires_in_s=1),
        buyers.behaving("beacon", expires_in_s=1),
        buyers.behaving("cedar", expires_in_s=1),
    ):
        offer = alpha.ping("ladder")

    def expired() -> Any:
        # An expired offer is refused before its record is looked at: this one is never valid.
        reply = alpha.call("POST", "/v1/post", post_body(offer, {"zip": 1}))
        return reply if reply.status == 409 else None

    assert is_problem(until(expired, "the offer expires"), 409)["title"] == "offer_expired"
    assert is_problem(alpha.call("POST", "/v1/post", post_body(offer)), 409)
    assert buyers.events("acme", "post", offer["ping_id"]) == []


def test_a_key_refused_for_one_offer_leaves_that_offer_good(alpha: SellerClient) -> None:
    alpha.post(alpha.ping("ladder"), key="worn")
    offer = alpha.ping("ladder")
    is_problem(alpha.call("POST", "/v1/post", post_body(offer), idempotency="worn"), 422)
    assert alpha.post(offer, key="fresh")["status"] == "sold"


@pytest.mark.parametrize(
    "key", [None, "", "x" * 256, f"{CANARY}\xff"], ids=["none", "empty", "long", "not ASCII"]
)
def test_a_direct_lead_without_a_usable_key_is_refused(
    alpha: SellerClient, key: str | None
) -> None:
    reply = alpha.call("POST", "/v1/leads", direct_body("ladder"), idempotency=key)
    document = is_problem(reply, 400)
    assert [error["field"] for error in document["errors"]] == ["Idempotency-Key"]


# --- who calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        CANARY,
        f"Basic {CANARY}",
        f"Bearer {CANARY}",
        "Bearer ex_live_",
        f"Bearer ex_live_{CANARY}",
        f"Bearer ex_live_{CANARY}_{CANARY}",
        f"Bearer ex_live_{CANARY}_\xff",
    ],
)
@pytest.mark.parametrize("path", ["/v1/ping", "/v1/leads/x", "/v1/admin/doubts"])
def test_without_a_valid_key_nobody_comes_in(
    alpha: SellerClient, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    method = "POST" if path == "/v1/ping" else "GET"
    is_problem(called(alpha.url, method, path, body=b"{}", headers=headers), 401)


def test_a_key_with_a_wrong_secret_is_refused(alpha: SellerClient) -> None:
    wrong = SellerClient(alpha.url, alpha.key[:-1] + ("a" if alpha.key[-1] != "a" else "b"))
    is_problem(wrong.call("POST", "/v1/ping", ping_body()), 401)


def test_a_key_of_another_role_is_refused(house: House) -> None:
    for caller, method, path in (
        (house.operator, "POST", "/v1/ping"),
        (house.buyer("kestrel"), "POST", "/v1/post"),
        (house.seller(), "GET", "/v1/admin/doubts"),
        (house.operator, "POST", f"/v1/attempts/{UNKNOWN_ID}/result"),
    ):
        is_problem(caller.call(method, path, {} if method == "POST" else None), 403)


# --- ids ------------------------------------------------------------------------------------------

NO_IDS = ["x", CANARY, UNKNOWN_ID, "%00", "ffffffff-ffff-4fff-bfff-ffffffffffff", "a" * 500]


@pytest.mark.parametrize("id", NO_IDS)
def test_an_id_that_names_nothing_is_not_found(house: House, id: str) -> None:
    is_problem(house.seller().call("GET", f"/v1/leads/{id}"), 404)
    is_problem(house.operator.call("GET", f"/v1/admin/explain/{id}"), 404)
    path = f"/v1/attempts/{id}/result"
    is_problem(house.buyer("kestrel").call("POST", path, {"status": "accepted"}), 404)


def test_doubts_of_nobody_and_of_nothing(house: House) -> None:
    is_problem(house.operator.call("GET", f"/v1/admin/doubts?buyer={CANARY}"), 404)
    words = {"outcome": "sold", "why": "a test", "by": "olga"}
    path = "/v1/admin/doubts/resolve"
    is_problem(house.operator.call("POST", path, words), 422)
    is_problem(house.operator.call("POST", path, words | {"buyer": CANARY}), 404)
    none = house.operator.call("POST", path, words | {"attempts": [CANARY, UNKNOWN_ID]})
    assert (none.status, none.json["rows"]) == (200, [])


def test_the_command_says_that_there_is_no_such_ping(house: House) -> None:
    for id in ("x", UNKNOWN_ID):
        house.run("explain", id, code=1)


# --- the wire -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", f"/{CANARY}", 404),
        ("POST", "/v1/pings", 404),
        ("GET", "/v1/ping", 405),
        ("DELETE", "/v1/ping", 405),
        ("HEAD", "/v1/post", 405),
        ("PUT", "/v1/leads", 405),
        ("POST", "/healthz", 405),
        ("POST", "/metrics", 405),
        (CANARY.upper(), "/v1/ping", 400),
    ],
)
def test_a_path_or_method_that_is_none_is_refused_in_our_words(
    alpha: SellerClient, method: str, path: str, status: int
) -> None:
    reply = alpha.call(method, path)
    if method == "HEAD":
        assert (reply.status, reply.headers["content-type"]) == (405, "application/problem+json")
    else:
        is_problem(reply, status)
    if status == 405:
        assert reply.headers["allow"]


def test_head_answers_where_get_does(alpha: SellerClient) -> None:
    for path in ("/healthz", "/openapi.json", "/docs"):
        reply = called(alpha.url, "HEAD", path)
        assert (reply.status, reply.body) == (200, b"")


def test_a_body_that_is_encoded_is_refused(alpha: SellerClient) -> None:
    is_problem(alpha.call("POST", "/v1/ping", ping_body(), Content_Encoding="gzip"), 415)


@pytest.mark.parametrize("path", ["/v1/ping", "/v1/post", "/v1/leads"])
def test_a_body_that_is_too_large_is_refused(alpha: SellerClient, path: str) -> None:
    body = {"fields": {"notes": CANARY * 10_000}}
    is_problem(alpha.call("POST", path, body, idempotency="large"), 413)


def test_a_body_that_does_not_come_is_given_up(alpha: SellerClient) -> None:
    head = f"POST /v1/ping HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alpha.key}\r\n"
    began = time.monotonic()
    answer = raw(alpha.url, head.encode() + b"Content-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    assert 2.0 <= time.monotonic() - began < 10.0


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Name: xanthippe\x00\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nxanthippe\r\n\r\n",
        b"xanthippe is no HTTP\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Name: " + b"xanthippe" * 2_000 + b"\r\n\r\n",
        b"POST /v1/ping HTTP/1.1\r\nHost: x\r\nContent-Length: xanthippe\r\n\r\n",
    ],
    ids=["NUL", "no colon", "no HTTP", "long header", "no length"],
)
def test_what_is_no_http_is_refused_in_our_words(alpha: SellerClient, head: bytes) -> None:
    answer = raw(alpha.url, head)
    assert answer.splitlines()[0].split()[1] == b"400"
    assert b"application/problem+json" in answer
    assert CANARY.encode() not in answer


def test_a_seller_that_calls_too_often_is_told_when_to_come_back(house: House) -> None:
    slow = house.seller("slow")
    refused = until(
        lambda: next(
            (r for r in [slow.call("POST", "/v1/ping", ping_body())] if r.status != 200), None
        ),
        "the rate limit bites",
    )
    is_problem(refused, 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 5
