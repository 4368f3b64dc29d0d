"""Inspection: a job that keeps looking at the books, so that a machine finds a fault before a
buyer's invoice does.

Each turn looks at the work that is open (attempts under way and in doubt, webhooks owed) and proves
the next leads again: the custody chain from first event to head, and that what was sold is booked,
once, and nothing else is. It walks in the order of ids, which is that of time, and stays
`settled_s` behind the present, for a lead's id is older than its commit. Once in `again_s` it
walks the last `back_s` again: leads change after it has passed, and evidence may be tampered with.

What it saw is told by metrics. A turn is worth a log line only when it found something; it names
the leads, for `exchange explain`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import msgspec

from exchange.core.model import Fact
from exchange.effects.clock import Clock
from exchange.effects.inspection import OpenAttempts, Proven
from exchange.effects.leases import Lease

PROOFS: Final = ("custody", "ledger")


class InspectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of inspection; the module says what they mean. A turn proves at most
    `batches_max` times `batch_max` leads; `kept_max`: how many ids of leads in the wrong are kept;
    `stale_s`: what was seen longer ago is no longer told."""

    settled_s: float = 60.0
    back_s: float = 86_400.0
    again_s: float = 3_600.0
    batch_max: int = 250
    batches_max: int = 20
    kept_max: int = 1_000
    stale_s: float = 60.0


class Looking(Protocol):
    """What inspection looks with."""

    async def open_attempts(self) -> tuple[OpenAttempts, ...]: ...
    async def outbox(self) -> tuple[int, datetime | None]: ...
    async def proven(self, after: str, before: str, *, limit: int) -> tuple[Proven, ...]: ...


class Seen(Fact, frozen=True, kw_only=True):
    """What the last turn saw, at `at`. `violations`: the leads whose proof fails, by proof."""

    at: datetime
    attempts: tuple[OpenAttempts, ...]
    doubt_oldest_s: float
    outbox_pending: int
    outbox_oldest_s: float
    custody_lag_s: float
    violations: Mapping[str, frozenset[str]]

    @property
    def doubts(self) -> tuple[OpenAttempts, ...]:
        """The attempts in doubt."""
        return tuple(one for one in self.attempts if one.state == "unknown")


class Inspection:
    """Inspection as a job: call `turn` again and again."""

    def __init__(self, *, looks: Looking, clock: Clock, limits: InspectionLimits) -> None:
        self._looks, self._clock, self._limits = looks, clock, limits
        self._after = id_at(clock.now() - timedelta(seconds=limits.back_s))
        self._walk_began = clock.now()
        self._proven_until = time_of(self._after)
        self._now = {proof: set[str]() for proof in PROOFS}
        self._before = {proof: frozenset[str]() for proof in PROOFS}
        self._seen: Seen | None = None
        self.leads = 0
        """How many leads were proven, since the start."""

    def seen(self) -> Seen | None:
        """What the last turn saw; `None` before the first, and when that is too long ago."""
        seen, stale = self._seen, timedelta(seconds=self._limits.stale_s)
        return seen if seen is not None and self._clock.now() - seen.at <= stale else None

    async def turn(self, _lease: Lease) -> dict[str, Any] | None:
        """One round; what it newly found to be wrong, `None` when all it saw is right."""
        found = await self._proven_on()
        attempts = await self._looks.open_attempts()
        pending, owed_since = await self._looks.outbox()
        now = self._clock.now()
        doubted_since = min((a.oldest for a in attempts if a.state == "unknown"), default=None)
        self._seen = Seen(
            at=now,
            attempts=attempts,
            doubt_oldest_s=_age_s(now, doubted_since),
            outbox_pending=pending,
            outbox_oldest_s=_age_s(now, owed_since),
            custody_lag_s=_age_s(now, self._proven_until),
            violations={proof: self._before[proof] | self._now[proof] for proof in PROOFS},
        )
        return {proof: sorted(ids)[:10] for proof, ids in found.items() if ids} or None

    async def _proven_on(self) -> dict[str, set[str]]:
        """Walk on; the leads newly found to be wrong."""
        until = self._clock.now() - timedelta(seconds=self._limits.settled_s)
        found = {proof: set[str]() for proof in PROOFS}
        for _ in range(self._limits.batches_max):
            leads = await self._looks.proven(
                self._after, id_at(until), limit=self._limits.batch_max
            )
            self._note(leads, found)
            self._proven_until = max(self._proven_until, time_of(self._after))
            if len(leads) < self._limits.batch_max:
                self._proven_until = until
                self._begin_again()
                break
        return found

    def _begin_again(self) -> None:
        """From the beginning, when it is time. What the walk that ends here found is still told
        until the next one has ended."""
        now = self._clock.now()
        if now - self._walk_began < timedelta(seconds=self._limits.again_s):
            return
        self._before = {proof: frozenset(ids) for proof, ids in self._now.items()}
        self._now = {proof: set() for proof in PROOFS}
        self._after = id_at(now - timedelta(seconds=self._limits.back_s))
        self._walk_began = now

    def _note(self, leads: tuple[Proven, ...], found: Mapping[str, set[str]]) -> None:
        for lead in leads:
            self._after = lead.lead_id
            for proof, holds in (("custody", lead.is_chained), ("ledger", lead.is_booked)):
                if not holds and len(self._now[proof]) < self._limits.kept_max:
                    self._now[proof].add(lead.lead_id)
                    if lead.lead_id not in self._before[proof]:
                        found[proof].add(lead.lead_id)
        self.leads += len(leads)


def id_at(at: datetime) -> str:
    """The least UUIDv7 of a moment."""
    text = f"{int(at.timestamp() * 1000):012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-000000000000"


def time_of(lead_id: str) -> datetime:
    """When an id was minted."""
    return datetime.fromtimestamp(int(lead_id.replace("-", "")[:12], 16) / 1000, UTC)


def _age_s(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
