"""Offers in the real Valkey: bound to their seller, taken by one key, expired told from unknown."""

import asyncio
import math
import signal

import pytest
import uuid_utils
from msgspec.structs import replace

from exchange.core.model import Candidate, Offer, PingConsent
from exchange.core.reasons import Reason
from exchange.effects.caps import Rebuilt, Reserved
from exchange.effects.offers import Offers
from tests.effects.capping import DAY, LONG_MS, lead, new_id

pytestmark = pytest.mark.real

SELLER, OTHER = 11, 12
TTL_MS = 120_000


def offer(**changes) -> Offer:
    """As large as the default limits allow: 10 bids, 50 invited contracts, 20 fields."""
    candidates = tuple(
        Candidate(
            contract_id=100_000 + rank,
            buyer_id=10_000 + rank,
            rank=rank,
            price_micros=25_123_456,
            payout_micros=21_354_938,
            fee_micros=3_768_518,
            buyer_ref="ref-0123456789abcdef0123456789abcdef",
            expires_at_ms=1_795_326_132_000,
        )
        for rank in range(1, 11)
    )
    usual = Offer(
        ping_id=str(uuid_utils.uuid7()),
        seller_id=SELLER,
        source_id=3,
        vertical_id=1,
        payout_micros=21_354_938,
        currency="USD",
        expires_at_ms=1_795_326_132_000,
        received_at_ms=1_795_326_012_000,
        fields={f"field_{n}": f"value {n}" for n in range(20)} | {"dob": "1980-02-29"},
        candidates=candidates,
        book_version=123,
        mask_id=1_795_326_012_000_000 << 10,
        consent=PingConsent(kind="tcpa", buyers=("acme", "globex")),
        invited=tuple(range(100_000, 100_050)),
    )
    return replace(usual, **changes)


@pytest.fixture
def offers(valkey) -> Offers:
    return Offers(valkey)


async def test_what_was_put_is_what_is_taken(offers):
    put = offer()
    assert await offers.put(put, ttl_ms=TTL_MS)
    assert await offers.take(put.ping_id, SELLER, "key") == put


async def test_an_offer_of_the_largest_usual_size_takes_under_4_kib(offers, valkey):
    put = offer()
    await offers.put(put, ttl_ms=TTL_MS)
    assert await valkey.call("", "STRLEN", f"{{o:{put.ping_id}}}") < 4_096


async def test_the_same_key_takes_it_again_and_another_does_not(offers):
    put = offer()
    await offers.put(put, ttl_ms=TTL_MS)
    assert await offers.take(put.ping_id, SELLER, "key") == put
    assert await offers.take(put.ping_id, SELLER, "other") is Reason.OFFER_TAKEN
    assert await offers.take(put.ping_id, SELLER, "key") == put


async def test_of_many_racing_keys_exactly_one_takes_it(offers):
    put = offer()
    await offers.put(put, ttl_ms=TTL_MS)
    answers = await asyncio.gather(
        *(offers.take(put.ping_id, SELLER, f"key-{n}") for n in range(100))
    )
    assert answers.count(put) == 1
    assert answers.count(Reason.OFFER_TAKEN) == 99


async def test_another_sellers_offer_is_unknown_and_stays_free(offers):
    put = offer()
    await offers.put(put, ttl_ms=TTL_MS)
    assert await offers.take(put.ping_id, OTHER, "key") is Reason.OFFER_UNKNOWN
    assert await offers.take(put.ping_id, SELLER, "key") == put


async def test_an_offer_that_never_was_is_unknown(offers):
    assert await offers.take(str(uuid_utils.uuid7()), SELLER, "key") is Reason.OFFER_UNKNOWN


async def test_an_expired_offer_is_told_from_an_unknown_one(offers):
    put = offer()
    await offers.put(put, ttl_ms=0)
    assert await offers.take(put.ping_id, SELLER, "key") is Reason.OFFER_EXPIRED


async def test_past_its_time_not_even_the_same_key_takes_it_again(valkey):
    put, briefly = offer(), Offers(valkey)
    await briefly.put(put, ttl_ms=TTL_MS)
    assert await briefly.take(put.ping_id, SELLER, "key") == put
    later = Offers(valkey, kept_ms=24 * 3_600_000)  # as if all its time had passed
    assert await later.take(put.ping_id, SELLER, "key") is Reason.OFFER_EXPIRED
    assert await later.take(put.ping_id, SELLER, "other") is Reason.OFFER_TAKEN


async def test_an_offer_given_back_may_be_taken_by_another_key(offers):
    put = offer()
    await offers.put(put, ttl_ms=TTL_MS)
    await offers.take(put.ping_id, SELLER, "key")
    assert not await offers.give_back(put.ping_id, "other")
    assert await offers.take(put.ping_id, SELLER, "other") is Reason.OFFER_TAKEN
    assert await offers.give_back(put.ping_id, "key")
    assert await offers.take(put.ping_id, SELLER, "other") == put


async def test_every_key_expires(offers, valkey):
    put = offer()
    await offers.put(put, ttl_ms=TTL_MS)
    await offers.take(put.ping_id, SELLER, "key")
    keys = await valkey.call("", "KEYS", "*")
    assert len(keys) == 2
    for key in keys:
        assert TTL_MS < await valkey.call("", "PTTL", key) <= TTL_MS + 600_000


async def test_an_offer_that_is_too_large_is_not_promised(valkey):
    hits: list[str] = []
    offers = Offers(valkey, bytes_max=1_000, limit_hit=hits.append)
    assert not await offers.put(offer(), ttl_ms=TTL_MS)
    assert hits == ["offer_bytes_max"]
    assert await offers.put(offer(candidates=(), invited=(), fields={}), ttl_ms=TTL_MS)


async def test_a_worker_keeps_so_many_offers_and_more_when_they_are_gone(valkey):
    hits: list[str] = []
    offers = Offers(valkey, open_max=2, kept_ms=0, limit_hit=hits.append)
    for is_kept in (True, True, False):
        assert await offers.put(offer(), ttl_ms=TTL_MS) is is_kept
    assert (offers.open, hits) == (2, ["offers_max"])
    offers._going[0][0] -= TTL_MS // 1000 + 2  # as if all their time had passed
    assert await offers.put(offer(), ttl_ms=TTL_MS)
    assert (offers.open, hits) == (1, ["offers_max"])


async def test_offers_that_go_in_one_second_are_counted_together(valkey):
    offers = Offers(valkey)
    for ttl_ms in (TTL_MS, TTL_MS, TTL_MS - 5_000):
        assert await offers.put(offer(), ttl_ms=ttl_ms)
    assert offers.open == 3
    assert len(offers._going) <= 2


async def test_when_valkeys_memory_is_spent_nothing_is_promised_and_what_was_is_sold(
    valkey, caps, buyer
):
    hits: list[str] = []
    offers = Offers(valkey, limit_hit=hits.append)
    before, token = offer(), new_id()
    assert await offers.put(before, ttl_ms=TTL_MS)
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    await valkey.call("", "CONFIG", "SET", "maxmemory", 1)
    try:
        assert not await offers.put(offer(), ttl_ms=TTL_MS)
        assert hits == ["maxmemory"]
        assert await offers.take(before.ping_id, SELLER, "key") == before
        assert isinstance(await caps.reserve(buyer, token, lead(), LONG_MS), Reserved)
        assert await caps.commit(buyer, token, lead())
        assert await caps.used(buyer, [DAY]) == {DAY: (1, 1)}
        assert isinstance(await caps.rebuild(buyer), Rebuilt)
        assert await offers.give_back(before.ping_id, "key")
    finally:
        await valkey.call("", "CONFIG", "SET", "maxmemory", 0)


@pytest.mark.parametrize("answer_s", [math.inf, 0.5])
async def test_a_slow_valkey_holds_a_ping_up_no_longer_than_its_deadline(valkey, servers, answer_s):
    loop, offers = asyncio.get_running_loop(), Offers(valkey, answer_s=answer_s)
    servers.kill("valkey", signal.SIGSTOP)
    try:
        assert not await offers.put(offer(), ttl_ms=TTL_MS, deadline=loop.time() + 0.02)
    finally:
        servers.kill("valkey", signal.SIGCONT)
    put = offer()
    assert await offers.put(put, ttl_ms=TTL_MS, deadline=loop.time() + 5)
    assert await offers.take(put.ping_id, SELLER, "key") == put


async def test_without_valkey_nothing_is_promised_and_nothing_taken(offers, valkey, servers):
    servers.kill("valkey")
    try:
        await valkey._link.closed
        assert not await offers.put(offer(), ttl_ms=TTL_MS)
        assert await offers.take(offer().ping_id, SELLER, "key") is Reason.OFFERS_UNAVAILABLE
        assert not await offers.give_back(offer().ping_id, "key")
    finally:
        servers.restart("valkey")
