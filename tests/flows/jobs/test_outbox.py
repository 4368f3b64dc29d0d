"""Webhooks to sellers: signed, at least once, tried again by a schedule, given up in the end."""

import base64
import hashlib
import hmac
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from exchange.effects.leases import Deposed
from exchange.effects.outbox import Outbox
from exchange.flows.outbox import RETRY_AFTER, WebhookLimits, Webhooks

pytestmark = pytest.mark.real

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def webhooks(stage: Any) -> Webhooks:
    return Webhooks(
        outbox=Outbox(stage.database, per_party_max=20, batch_max=100),
        buyers=stage.buyers,
        book=lambda: stage.book,
        secret={"bright-hook": SECRET, "acme-hook": SECRET}.get,
        clock=stage.clock,
        limits=WebhookLimits(),
    )


async def owed(stage: Any) -> Any:
    """A lead whose doubt ended: its seller is owed a webhook."""
    began = await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=True))
    await stage.send(began)
    await stage.turn()
    stage.beacon.bodies.clear()
    return began


async def row(stage: Any, began: Any) -> Any:
    return await stage.database.fetchrow(
        "SELECT * FROM outbox WHERE lead_id = $1", began.lead.lead_id
    )


async def test_a_seller_is_told_of_a_sale_found_later(stage: Any, webhooks: Webhooks) -> None:
    began = await owed(stage)
    stage.beacon.on_post = lambda _id, _first: 200
    assert await webhooks.turn(await stage.leases.acquire("outbox")) == 1
    told = msgspec.json.decode(stage.beacon.bodies[0])
    assert told["type"] == "lead.sold"
    assert told["data"] == {
        "lead_id": began.lead.lead_id,
        "status": "sold",
        "currency": "USD",
        "payout": "21.25",
    }
    assert began.lead.fields.values["phone"].encode() not in stage.beacon.bodies[0]
    assert (await row(stage, began))["state"] == "sent"
    assert await webhooks.turn(await stage.leases.acquire("outbox")) == 0


async def test_a_buyer_is_told_too(stage: Any, webhooks: Webhooks) -> None:
    [acme] = [buyer for buyer in stage.book.buyers.values() if buyer.key == "acme"]
    notice_id = stage.clock.new_id()
    await stage.database.execute(
        "INSERT INTO outbox (outbox_id, lead_id, day, party_id, kind, body, at)"
        " VALUES ($1, $1, lead_day($1), $2, 'return.decided', $3, $4)",
        *(notice_id, acme.id, {"state": "granted"}, stage.clock.now()),
    )
    stage.acme.on_post = lambda _id, _first: 200
    assert await webhooks.turn(await stage.leases.acquire("outbox")) == 1
    assert stage.acme.headers[-1]["webhook-id"] == notice_id
    told = msgspec.json.decode(stage.acme.bodies[-1])
    assert (told["type"], told["data"]) == ("return.decided", {"state": "granted"})


async def test_a_webhook_is_signed_as_the_standard_says(stage: Any, webhooks: Webhooks) -> None:
    began = await owed(stage)
    await webhooks.turn(await stage.leases.acquire("outbox"))
    headers, body = stage.beacon.headers[-1], stage.beacon.bodies[-1]
    message_id = headers["webhook-id"]
    assert message_id == str((await row(stage, began))["outbox_id"])
    signed = f"{message_id}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"


async def test_a_failed_webhook_is_tried_again_with_the_same_id_and_then_given_up(
    stage: Any, webhooks: Webhooks
) -> None:
    began = await owed(stage)
    stage.beacon.on_post = lambda _id, _first: 500
    for number, wait in enumerate(RETRY_AFTER, 1):
        assert await webhooks.turn(await stage.leases.acquire("outbox")) == 1
        assert await webhooks.turn(await stage.leases.acquire("outbox")) == 0
        now = await row(stage, began)
        assert (now["state"], now["tries"], now["last_result"]) == ("pending", number, "500")
        stage.clock.ahead += wait + timedelta(seconds=1)
    await webhooks.turn(await stage.leases.acquire("outbox"))
    assert (await row(stage, began))["state"] == "dead"
    told = {headers["webhook-id"] for headers in stage.beacon.headers[-len(RETRY_AFTER) :]}
    assert len(told) == 1
    assert len(set(stage.beacon.bodies)) == 1


async def test_a_receiver_that_is_gone_is_not_told_again(stage: Any, webhooks: Webhooks) -> None:
    began = await owed(stage)
    stage.beacon.on_post = lambda _id, _first: 410
    await webhooks.turn(await stage.leases.acquire("outbox"))
    assert (await row(stage, began))["state"] == "dead"


async def test_a_deposed_outbox_marks_nothing(stage: Any, webhooks: Webhooks) -> None:
    began = await owed(stage)
    stage.beacon.on_post = lambda _id, _first: 200
    old = await stage.leases.acquire("outbox")
    await stage.leases.acquire("outbox")
    with pytest.raises(Deposed):
        await webhooks.turn(old)
    assert (await row(stage, began))["state"] == "pending"
