"""Each rule of a return that judges by a fact is reached through the flow, on the real Postgres: by
what the lead's custody says of the sale, and by the list its buyer had uploaded."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from exchange.core.custody import event
from exchange.core.model import Offer, Vertical
from exchange.core.reasons import ReturnReason
from exchange.core.terms import VerticalTerms
from exchange.effects.clock import Clock
from exchange.effects.customers import CustomerLists
from exchange.effects.postgres import connect
from exchange.effects.vault import Vault
from exchange.flows.customers import CustomersOf
from exchange.flows.opening import Body, Openings
from tests.effects.sales import BUYER, OTHER_BUYER, new_id
from tests.flows.returning import FIELDS, Trade, terms, trading

pytestmark = pytest.mark.real
VAULT = Vault({1: bytes(32)})
HELD = {"held": True, "kind": "tcpa", "captured_at": "2026-03-02T11:00:00Z"}


@pytest.fixture
async def trade(database_url: str) -> AsyncIterator[Trade]:
    async with trading(database_url) as trade:
        yield trade


def flow(trade: Trade) -> CustomersOf:
    return CustomersOf(lists=CustomerLists(trade.database), vault=VAULT, clock=trade.clock)


async def upload(trade: Trade, *phones: str, way: Any = "whole", buyer_id: int = BUYER) -> None:
    customers = flow(trade).read([["phone"], *([one] for one in phones)])
    await flow(trade).upload(buyer_id, customers, way=way, by="tests")


def phone_of(number: int) -> str:
    return f"+1310555{number:04d}"


async def rule(
    trade: Trade, reason: ReturnReason, agreed: dict[str, Any] | None = None, **sold: Any
) -> str | None:
    """The rule that decides a claim of a new sale, with all the evidence that is asked for."""
    policy = terms(reasons={reason.label: {}}, **agreed or {})
    [sale] = await trade.sold(await trade.contract(policy), **sold)
    return await claimed(trade, sale, reason)


async def claimed(trade: Trade, sale: Any, reason: ReturnReason) -> str | None:
    evidence = dict.fromkeys(reason.evidence, "E-1")
    return (await trade.asked(sale, reason=reason, evidence=evidence)).case.rule


# --- what custody says ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "noted", "agreed", "decides"),
    [
        (ReturnReason.NO_CONSENT, {"consent": HELD}, {}, "consent_held"),
        (ReturnReason.NO_CONSENT, {"consent": {"held": False}}, {}, "consent_missing"),
        (ReturnReason.NO_CONSENT, {"consent": {"held": None}}, {}, "not_verifiable"),
        (ReturnReason.NO_CONSENT, {}, {}, "not_verifiable"),  # a lead of before this was noted
        (ReturnReason.INVALID_PHONE, {"phone": {"in_plan": False}}, {}, "phone_not_in_plan"),
        (ReturnReason.INVALID_PHONE, {"phone": {"in_plan": True}}, {}, "not_verifiable"),
        (
            ReturnReason.DISCONNECTED,
            {"phone": {"in_plan": True, "status": "disconnected"}},
            {},
            "phone_dead",
        ),
        (
            ReturnReason.DISCONNECTED,
            {"phone": {"in_plan": True, "status": "connected"}},
            {},
            "not_verifiable",
        ),
        (
            ReturnReason.DISCONNECTED,
            {"phone": {"in_plan": True, "status": "connected"}},
            {"phone_check": "all"},
            "phone_worked",
        ),
    ],
)
async def test_what_was_noted_at_the_sale_decides(
    trade: Trade, reason: ReturnReason, noted: dict[str, Any], agreed: Any, decides: str
) -> None:
    received = {"commitments": {"zip": "00", "phone": "00"}} | noted
    assert await rule(trade, reason, agreed, received=received) == decides


async def test_the_evidence_still_has_to_come_for_a_number_that_cannot_exist(trade: Trade) -> None:
    noted = {"commitments": {}, "phone": {"in_plan": False}}
    agreed = terms(reasons=["invalid_phone"])
    [sale] = await trade.sold(await trade.contract(agreed), received=noted)
    answered = await trade.asked(sale, reason=ReturnReason.INVALID_PHONE, evidence={})
    assert answered.case.rule == "evidence_missing"


async def test_what_opens_a_lead_notes_its_phone_and_consent(trade: Trade) -> None:
    """The same event as the exchange writes it: by the flow that opens leads."""
    body = Body(
        fields={"zip": "90210", "phone": "+12115550123"},
        consent={"captured_at": "2026-03-02T11:00:00Z", "text": "I agree"},
        chain=(),
    )
    received = opened_event(body)
    assert received["phone"] == {"in_plan": False, "status": None}
    assert (received["consent"]["held"], "$consent" in received["commitments"]) == (True, True)
    assert "I agree" not in str(received)
    reason = ReturnReason.NO_CONSENT
    assert await rule(trade, reason, received=received) == "consent_held"
    without = opened_event(Body(fields=body.fields, consent={}, chain=()))
    assert await rule(trade, reason, received=without) == "consent_missing"


def opened_event(body: Body) -> dict[str, Any]:
    """The body of a lead's first event."""
    terms = VerticalTerms(currency="USD", fields=FIELDS)
    offer = Offer(
        ping_id=new_id(), seller_id=2, source_id=1, vertical_id=1, payout_micros=1, currency="USD",
        expires_at_ms=2, received_at_ms=1, fields={}, candidates=(), book_version=1, mask_id=1,
    )  # fmt: skip
    _, chain = Openings(clock=Clock(), vault=VAULT, boot_id="boot").opening(
        offer,
        body,
        Vertical(id=1, key="auto", terms=terms),
        "key",
        "00",
        state="selling",
        promised_micros=0,
        direct=False,
    )
    return dict(event(chain.rows[0])["body"])


# --- the buyer's list -----------------------------------------------------------------------------


def consumer(phone: str) -> str:
    return "\\x" + VAULT.person("phone", phone)[1]


@pytest.mark.parametrize("reason", [ReturnReason.DUPLICATE, ReturnReason.EXISTING_CUSTOMER])
async def test_whoever_was_listed_before_the_sale_comes_back_and_nobody_else(
    trade: Trade, reason: ReturnReason
) -> None:
    one, other = phone_of(reason), phone_of(reason + 100)
    await upload(trade, one)
    assert await rule(trade, reason, consumer=consumer(one)) == "listed_before"
    assert await rule(trade, reason, consumer=consumer(other)) == "not_had_before"


async def test_a_sale_is_judged_by_the_list_of_its_moment(trade: Trade) -> None:
    reason = ReturnReason.EXISTING_CUSTOMER
    contract = await trade.contract(terms(reasons={reason.label: {}}))
    one, other, third = map(phone_of, range(3))

    async def sold(phone: str) -> Any:
        return (await trade.sold(contract, consumer=consumer(phone)))[0]

    await upload(trade, one, third)
    listed, early = await sold(one), await sold(other)
    await upload(trade, other, way="more")
    both = [await sold(one), await sold(other)]
    await upload(trade, other)
    left = await sold(third)
    rules = [await claimed(trade, sale, reason) for sale in (listed, early, *both, left)]
    assert rules == [
        *("listed_before", "not_had_before", "listed_before", "listed_before", "not_had_before"),
    ]
    standing = await flow(trade).standing(BUYER)
    assert standing is not None
    assert (standing.keys, standing.way, standing.by) == (1, "whole", "tests")


async def test_a_list_of_e_mails_says_nothing_of_a_lead_known_by_its_phone(trade: Trade) -> None:
    customers = flow(trade).read([["email"], ["a@mail.example"]])
    await flow(trade).upload(BUYER, customers, way="whole", by="tests")
    reason = ReturnReason.EXISTING_CUSTOMER
    assert await rule(trade, reason, consumer=consumer(phone_of(4))) == "not_verifiable"


async def test_another_buyers_list_is_none_of_this_ones(trade: Trade) -> None:
    await upload(trade, phone_of(5), buyer_id=OTHER_BUYER)
    await upload(trade, phone_of(6))
    reason = ReturnReason.EXISTING_CUSTOMER
    assert await rule(trade, reason, consumer=consumer(phone_of(5))) == "not_had_before"


async def test_of_a_list_only_keyed_hashes_are_kept_and_no_reader_sees_them(
    trade: Trade, database_url: str
) -> None:
    await upload(trade, "+13102220177", way="more")
    for table in ("customer_key", "customer_list", "audit"):
        rows = await trade.admin.fetch(f"SELECT t::text AS row FROM {table} t")
        assert not [row for row in rows if "2220177" in row["row"]]
    reader = await connect(
        database_url, role="exchange_reader", application_name="tests", party_id=BUYER
    )
    try:
        lists = await reader.fetch("SELECT buyer_id FROM customer_list")
        assert {row["buyer_id"] for row in lists} <= {BUYER}
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetch("SELECT * FROM customer_key")
    finally:
        await reader.close()


async def test_a_list_only_grows_and_a_key_only_ends(trade: Trade) -> None:
    await upload(trade, phone_of(7))
    for statement in ("UPDATE customer_list SET keys = 1", "DELETE FROM customer_list"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await trade.admin.execute(statement)
    for statement in (
        "UPDATE customer_key SET hmac = hmac",
        "UPDATE customer_key SET since = now()",
        "DELETE FROM customer_key",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await trade.database.execute(statement)
