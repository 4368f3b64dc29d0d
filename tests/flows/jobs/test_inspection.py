"""Inspection: what the database says of open work, and the proofs of leads, walked again and
again."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from exchange.effects.clock import Clock
from exchange.effects.inspection import Looks, OpenAttempts, Proven
from exchange.effects.leases import Lease
from exchange.flows.inspection import Inspection, InspectionLimits, id_at, time_of

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LEASE = Lease(job="inspection", epoch=1)


class SetClock(Clock):
    """Time that is set by hand."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


class Shelf:
    """Leads by the second of their minting, before `NOW`; which of them fail a proof."""

    def __init__(self, *ages_s: float, bad: Iterable[float] = ()) -> None:
        self.leads = {id_at(NOW - timedelta(seconds=age)): age in bad for age in sorted(ages_s)}
        self.asked = 0

    async def open_attempts(self) -> tuple[OpenAttempts, ...]:
        return ()

    async def outbox(self) -> tuple[int, datetime | None]:
        return 0, None

    async def proven(self, after: str, before: str, *, limit: int) -> tuple[Proven, ...]:
        self.asked += 1
        found = sorted(lead for lead in self.leads if after < lead < before)[:limit]
        return tuple(
            Proven(lead_id=lead, is_booked=True, is_chained=not self.leads[lead]) for lead in found
        )


def inspecting(shelf: Any, **limits: Any) -> tuple[Inspection, SetClock]:
    clock = SetClock()
    return Inspection(looks=shelf, clock=clock, limits=InspectionLimits(**limits)), clock


def lag_s(inspection: Inspection) -> float:
    seen = inspection.seen()
    assert seen is not None
    return seen.custody_lag_s


def test_the_least_id_of_a_moment_tells_the_moment() -> None:
    assert time_of(id_at(NOW)) == NOW
    assert id_at(NOW) < str(Clock().new_id()) or Clock().now() < NOW


async def test_every_settled_lead_is_proven_once_and_young_ones_are_left_for_later() -> None:
    shelf = Shelf(3_000, 2_000, 1_000, 30)
    inspection, clock = inspecting(shelf, batch_max=2)
    assert await inspection.turn(LEASE) is None
    assert (inspection.leads, lag_s(inspection)) == (3, 60)
    clock.at += timedelta(seconds=31)
    await inspection.turn(LEASE)
    assert (inspection.leads, lag_s(inspection)) == (4, 60)


async def test_who_is_behind_says_how_far_and_catches_up() -> None:
    inspection, _ = inspecting(Shelf(3_000, 2_000, 1_000), batch_max=1, batches_max=1)
    lags = []
    for _ in range(4):
        await inspection.turn(LEASE)
        lags.append(lag_s(inspection))
    assert lags == [3_000, 2_000, 1_000, 60]


async def test_a_lead_that_fails_is_named_once_and_told_until_it_is_right_again() -> None:
    shelf = Shelf(3_000, 2_000, bad=[2_000])
    [bad] = (lead for lead, is_bad in shelf.leads.items() if is_bad)
    inspection, clock = inspecting(shelf)

    async def turned(after_s: float = 0) -> tuple[Any, int]:
        clock.at += timedelta(seconds=after_s)
        named, seen = await inspection.turn(LEASE), inspection.seen()
        assert seen is not None
        assert not seen.violations["ledger"]
        return named, len(seen.violations["custody"])

    assert await turned() == ({"custody": [bad]}, 1)
    assert await turned() == (None, 1)
    assert await turned(4_000) == (None, 1)  # the walk begins again: told, and not named again
    shelf.leads[bad] = False
    assert (await turned(4_000), await turned(4_000), await turned(4_000))[-1] == (None, 0)


async def test_what_was_seen_too_long_ago_is_not_told() -> None:
    inspection, clock = inspecting(Shelf())
    assert inspection.seen() is None
    await inspection.turn(LEASE)
    assert inspection.seen() is not None
    clock.at += timedelta(seconds=61)
    assert inspection.seen() is None


# --- on the real Postgres -------------------------------------------------------------------------


async def looked(stage: Any) -> tuple[Any, Any]:
    """What the first turn two minutes from now says of everything there is."""
    stage.clock.ahead = timedelta(minutes=2)
    inspection = Inspection(
        looks=Looks(stage.database), clock=stage.clock, limits=InspectionLimits(back_s=3_600)
    )
    named = await inspection.turn(LEASE)
    return named, inspection.seen()


@pytest.mark.real
async def test_leads_sold_doubted_and_received_are_right_and_open_work_is_counted(
    stage: Any,
) -> None:
    boot = await stage.boot("worker", is_dead=False)
    await stage.sold_untold(await stage.begin(boot))
    await stage.received(boot)
    doubted = await stage.begin(boot)
    await stage.doubt(doubted)
    named, seen = await looked(stage)
    assert named is None
    assert [(one.state, one.attempts, one.holds) for one in seen.attempts] == [("unknown", 1, 1)]
    assert seen.doubts[0].price_micros == doubted.attempt.price_micros
    assert seen.doubt_oldest_s == pytest.approx(120, abs=60)


@pytest.mark.real
@pytest.mark.parametrize("proof", ["custody", "ledger"])
async def test_a_forged_event_and_a_forged_booking_are_found(stage: Any, proof: str) -> None:
    began = await stage.begin(await stage.boot("worker", is_dead=False))
    await stage.sold_untold(began)
    lead_id, attempt = began.lead.lead_id, began.attempt
    if proof == "custody":
        await stage.database.execute(
            "INSERT INTO custody_event (lead_id, day, seq, kind, bytes, prev, hash, at) "
            "SELECT lead_id, day, seq + 1, kind, bytes, hash, hash, at FROM custody_event "
            "WHERE lead_id = $1 ORDER BY seq DESC LIMIT 1",
            lead_id,
        )
    else:
        await stage.database.execute(
            "INSERT INTO transfer (transfer_id, lead_id, day, attempt_id, code, debit_account, "
            "credit_account, amount_micros, currency, at) "
            "SELECT uuidv7(), lead_id, day, attempt_id, code, debit_account, credit_account, 1, "
            "currency, at FROM transfer WHERE attempt_id = $1 LIMIT 1",
            attempt.attempt_id,
        )
    named, seen = await looked(stage)
    assert lead_id in named[proof]
    assert lead_id in seen.violations[proof]
    other = "ledger" if proof == "custody" else "custody"
    assert lead_id not in seen.violations[other]
