"""Nothing personal anywhere: a person is planted wherever a seller could, well and badly, and then
looked for in every form in what the exchange keeps, says and sends to those who did not buy.
"""

import base64
import hashlib
import json
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from tests.e2e.house import (
    CONSENT,
    PINGED,
    Buyers,
    House,
    Reply,
    called,
    direct_body,
    ping_body,
    post_body,
    raw,
)

pytestmark = [pytest.mark.real, pytest.mark.slow]

PERSON = {
    "first_name": "Zerlinde",
    "phone": "+12135557913",
    "email": "zerlinde.quax@mail.example",
    "notes": "zerlinde lives above the quaxery",
}


def forms(values: list[str]) -> set[bytes]:
    """Every form in which a value could show itself."""
    found: set[bytes] = set()
    for value in values:
        for text in {value, value.lower(), value.removeprefix("+"), value.removeprefix("+1")}:
            plain = text.encode()
            found |= {plain, quote(text, safe="").encode(), json.dumps(text)[1:-1].encode()}
            found |= {base64.b64encode(plain).rstrip(b"="), plain.hex().encode()}
            for make in (hashlib.md5, hashlib.sha1, hashlib.sha256):
                digest = make(plain, usedforsecurity=False)
                found |= {digest.hexdigest().encode(), base64.b64encode(digest.digest())[:20]}
    return found


def planted(house: House, buyers: Buyers) -> list[Reply]:
    """Plants the person everywhere a seller could, well and badly; every answer."""
    alpha = house.seller()
    lead = PINGED | PERSON
    bad: dict[str, Any] = PERSON | {"zip": PERSON["phone"], "age": PERSON["email"]}
    oddly = PINGED | {PERSON["email"]: 1}
    offer = alpha.ping("ladder", fields=PINGED | PERSON)
    link = f"https://x.example/?{PERSON['email']}"
    named = CONSENT | {"ping_url": link, "text_version": PERSON["email"]}
    answers = [
        alpha.call("POST", "/v1/post", post_body(offer, lead | {"zip": "zerlinde"})),
        alpha.call("POST", "/v1/post", post_body(offer, lead), idempotency="canary-1"),
        alpha.call("POST", "/v1/post", post_body(offer, lead), idempotency="canary-1"),
        alpha.call("POST", "/v1/ping", ping_body(fields=bad)),
        alpha.call("POST", "/v1/ping", ping_body(fields=PERSON, source="watching")),
        alpha.call("POST", "/v1/ping", ping_body(fields=PINGED | PERSON, source="refusing")),
        alpha.call("POST", "/v1/ping", ping_body(fields=oddly)),
        alpha.call("POST", "/v1/ping", ping_body(fields=oddly, source="watching")),
        alpha.call("POST", "/v1/ping", ping_body(vertical=PERSON["email"], source="zerlinde")),
        alpha.call("POST", "/v1/ping", ping_body(floor=PERSON["phone"])),
        alpha.call("POST", "/v1/leads", direct_body("ladder", lead), idempotency="canary-2"),
        alpha.call("POST", "/v1/leads", direct_body("ladder", bad), idempotency="canary-3"),
        alpha.call("POST", "/v1/ping", ping_body(sub_id=PERSON["email"], consent=named)),
        alpha.call("POST", "/v1/ping", ping_body(external_id=PERSON["phone"], source="refusing")),
        alpha.call(
            "POST",
            "/v1/leads",
            direct_body("ladder") | {"sub_id": PERSON["email"], "consent": named},
            idempotency="canary-5",
        ),
        alpha.call("GET", f"/v1/leads/{PERSON['email']}"),
        alpha.call("GET", f"/{PERSON['email']}?phone={PERSON['phone']}"),
        alpha.call("POST", "/v1/ping", ping_body(), X_Name=PERSON["email"], Cookie="zerlinde"),
        called(alpha.url, "POST", "/v1/ping", headers={"Authorization": PERSON["email"]}),
        called(alpha.url, "POST", "/v1/ping", body=json.dumps(PERSON).encode()[:-4]),
        house.operator.call("GET", f"/v1/admin/explain/{PERSON['email']}"),
        house.operator.call("GET", f"/v1/admin/explain/{offer['ping_id']}"),
    ]
    answers += returned(house, lead)
    with buyers.behaving("kestrel", post={"accept_then_reset": 1.0}):
        pending = alpha.direct("crowd", lead, key="canary-4")
        alpha.final(pending["lead_id"])
    house.story(offer["ping_id"])
    head = f"GET / HTTP/1.1\r\nHost: x\r\n{PERSON['email']}\r\n\r\n"
    answers.append(Reply(400, {}, raw(alpha.url, head.encode())))
    return answers


def returned(house: House, lead: dict[str, Any]) -> list[Reply]:
    """The same by a buyer that gives the lead back, and by finance."""
    delta, finance = house.buyer("delta"), house.finance
    sold = house.seller("gamma").direct("returned", lead, key="canary-6")
    claim = {"lead_id": sold["lead_id"], "reason": "fraud"}
    answers = [
        delta.call("POST", "/v1/returns", claim | {"reason": PERSON["email"]}),
        delta.call("POST", "/v1/returns", claim | {"lead_id": PERSON["email"]}),
        delta.call("POST", "/v1/returns", claim | {"evidence": {"call_log": PERSON["email"]}}),
        delta.call("POST", "/v1/returns", claim | {"evidence": {"call_log": PERSON["phone"]}}),
        delta.call("POST", "/v1/returns", claim | {"evidence": {PERSON["email"]: "CL-1"}}),
        delta.call("POST", "/v1/returns", claim, idempotency=PERSON["email"]),
        delta.call("GET", f"/v1/returns?state={PERSON['email']}&before={PERSON['phone']}"),
        delta.call("GET", f"/v1/returns/{PERSON['email']}"),
        delta.call("POST", "/v1/returns", claim),
    ]
    path = f"/v1/finance/returns/{answers[-1].json['return_id']}/decide"
    said = {"outcome": "denied", "by": "Dana", "why": f"it is {PERSON['email']}"}
    return [*answers, finance.call("POST", path, said)]


async def rows_of(url: str) -> dict[str, bytes]:
    """Every table as text, but for the sealed records."""
    connection = await asyncpg.connect(url)
    try:
        names = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        )
        found = {}
        for (name,) in names:
            rows = await connection.fetch(f"SELECT t::text AS row FROM {name} t")
            found[name] = "\n".join(row["row"] or "" for row in rows).encode()
        return found
    finally:
        await connection.close()


def keys_of(url: str) -> bytes:
    """Everything Valkey holds."""
    from redis import Redis

    with Redis(unix_socket_path=urlsplit(url).path) as valkey:
        keys = list(valkey.scan_iter(count=1000))
        return b"\n".join(part for key in keys for part in (key, _held(valkey, key)))


def _held(valkey: Any, key: bytes) -> bytes:
    kind = valkey.type(key)
    if kind == b"string":
        return bytes(valkey.get(key) or b"")
    if kind == b"hash":
        return b" ".join(part for pair in valkey.hgetall(key).items() for part in pair)
    if kind == b"zset":
        return b" ".join(valkey.zrange(key, 0, -1))
    return b"".join(valkey.lrange(key, 0, -1) if kind == b"list" else valkey.smembers(key))


async def test_nothing_personal_is_found_anywhere(house: House, buyers: Buyers) -> None:
    answers = planted(house, buyers)
    urls = house.urls
    tables = await rows_of(urls["database_url"])
    assert any(name.startswith("lead_private") and rows for name, rows in tables.items())
    places = tables | {
        "valkey": keys_of(urls["valkey_url"]),
        "metrics": called(house.url, "GET", "/metrics").body,
        "answers": b"\n".join(answer.body for answer in answers),
        "log": house.log.read_bytes(),
        "stderr": (house.folder / "serve.err").read_bytes(),
        "postgres.log": (house.data / "postgres.log").read_bytes(),
        "valkey.log": (house.data / "valkey.log").read_bytes(),
    }
    wanted = forms([*PERSON.values(), "zerlinde", "quaxery"])
    [event] = buyers.events("acme", "post", answers[1].json["lead_id"])
    assert PERSON["email"] in event["body"]  # the winner has it, so it was there to be found
    found = {
        (place, form) for place, text in places.items() for form in wanted if form in text.lower()
    }
    assert found == set()
    pings = [
        line
        for file in buyers.truth.glob("*.jsonl")
        for line in file.read_bytes().splitlines()
        if b'"kind":"ping"' in line
    ]
    assert pings
    assert [line for line in pings if any(form in line.lower() for form in wanted)] == []
