"""A guaranteed payout of a lead whose worker could not end it: booked with its end, once, whoever
finds the end and however often it is looked for."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from exchange.core.doubt import Finding
from exchange.effects.proof import proven

pytestmark = pytest.mark.real
OWED = 12_000_000


async def booked(stage: Any, lead_id: str) -> list[tuple[str, str, int]]:
    """The guarantees of a lead: who is debited, who credited, how much."""
    rows = await stage.database.fetch(
        "SELECT d.kind AS debit, c.kind AS credit, t.amount_micros FROM transfer t"
        " JOIN account d ON d.id = t.debit_account JOIN account c ON c.id = t.credit_account"
        " WHERE t.lead_id = $1 AND t.code = 50",
        lead_id,
    )
    return [tuple(row) for row in rows]


async def begun(stage: Any, *, test: bool = False) -> Any:
    stage.guaranteed_micros = OWED
    return await stage.begin(await stage.boot(stage.clock.new_id(), is_dead=True), test=test)


@pytest.mark.parametrize(
    ("outcome", "test", "owed"),
    [
        ("rejected", False, [("margin", "payable", OWED)]),
        ("written_off", False, [("margin", "payable", OWED)]),
        ("sold", False, []),
        ("rejected", True, []),
    ],
)
async def test_a_doubt_that_ends_unsold_pays_what_was_guaranteed(
    stage: Any, outcome: Any, test: bool, owed: list[Any]
) -> None:
    began = await begun(stage, test=test)
    await stage.doubt(began)
    (case,) = await stage.doubts.cases([began.attempt.attempt_id])
    found = Finding(outcome=outcome, by="a person")
    ended = await asyncio.gather(*(stage.endings.end(case, found) for _ in range(3)))
    assert sorted(ended) == [False, False, True]
    assert await booked(stage, began.lead.lead_id) == owed
    reply = await stage.database.fetchval(
        "SELECT reply FROM idem WHERE lead_id = $1", began.lead.lead_id
    )
    if outcome != "sold":
        assert reply["payout"] == ("12.00" if owed else "0.00")
    hook = await stage.database.fetchval(
        "SELECT body FROM outbox WHERE lead_id = $1", began.lead.lead_id
    )
    assert hook["payout"] == reply["payout"]


async def test_a_lead_cut_off_between_two_buyers_is_paid_what_was_guaranteed(stage: Any) -> None:
    began = await begun(stage)
    await stage.refused(began)
    stage.clock.ahead += timedelta(seconds=400)
    assert (await stage.turn()).interrupted == 1
    assert not (await stage.turn()).interrupted
    assert await booked(stage, began.lead.lead_id) == [("margin", "payable", OWED)]
    assert {check.name for check in (await proven(stage.database)).checks if check.wrong} == set()


async def test_a_lead_received_and_never_auctioned_is_paid_what_was_guaranteed(stage: Any) -> None:
    stage.guaranteed_micros = OWED
    lead_id = await stage.received(await stage.boot(stage.clock.new_id(), is_dead=True))
    assert (await stage.turn()).interrupted == 1
    assert await booked(stage, lead_id) == [("margin", "payable", OWED)]
