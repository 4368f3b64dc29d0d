"""Sources paused while two workers sell: nothing of them is sold any more, in neither worker."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.house import Caller, House, SellerClient, until

pytestmark = [pytest.mark.real, pytest.mark.slow]
IN_FORCE_S = 2.0
ANSWERS = 8
"""Calls come on connections of their own: so many are answered by both workers."""


@contextmanager
def paused(house: House, everywhere: Callable[[], bool], **where: str) -> Iterator[None]:
    """For the block the source is paused; `everywhere` says whether that is seen, by one call."""
    operator = Caller(house.url, house.keys["operator"])
    body = {"source": "alpha/web", "by": "Dana", "why": "nobody is reached"} | where
    began = time.monotonic()
    assert operator.call("POST", "/v1/admin/source-pauses/pause", body).json == {"changed": True}
    until(everywhere, "the pause is in force")
    assert time.monotonic() - began < IN_FORCE_S
    try:
        until(lambda: all(everywhere() for _ in range(ANSWERS)), "in every worker")
        yield
    finally:
        done = operator.call("POST", "/v1/admin/source-pauses/resume", body)
        assert done.json == {"changed": True}
        until(lambda: not any(everywhere() for _ in range(ANSWERS)), "it is resumed")


def test_a_paused_sub_id_sells_nothing_and_the_others_go_on(
    house: House, alpha: SellerClient
) -> None:
    before = alpha.ping("ladder", sub_id="aff-17")
    assert before["status"] == "offer"

    def is_paused() -> bool:
        reply = alpha.ping("ladder", sub_id="aff-17")
        return bool(reply["status"] == "no_offer" and reply["reason"]["code"] == 717)

    with paused(house, is_paused, sub_id="aff-17"):
        posts = [alpha.post(before, key="paused-1"), alpha.direct("ladder", sub_id="aff-17")]
        assert {(one["status"], one["reason"]["code"]) for one in posts} == {("rejected", 717)}
        assert alpha.ping("ladder", sub_id="aff-18")["status"] == "offer"
        shown = house.run("source", "pauses", "alpha/web")
        assert all(word in shown for word in ("aff-17", "Dana", "every buyer"))


def test_a_source_paused_at_a_buyer_is_not_sold_to_it_and_explain_says_why(
    house: House, alpha: SellerClient
) -> None:
    before = alpha.ping("ladder")
    assert before["payout"] == "27.00"
    pinged: list[Any] = []

    def is_lower() -> bool:
        pinged.append(alpha.ping("ladder"))
        return bool(pinged[-1]["payout"] == "18.00")

    with paused(house, is_lower, buyer="acme"):
        sold = alpha.post(before, min_payout="1.00")
        assert sold["sales"][0]["buyer"] == "Beacon Inc"
        assert house.buyers.events("acme", "post", before["ping_id"]) == []
        story = " ".join(house.run("explain", pinged[-1]["ping_id"]).split())
        assert "source or sub_id is paused at this buyer" in story
