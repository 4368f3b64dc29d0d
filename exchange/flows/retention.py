"""Forgetting what is no longer needed: idempotency keys, and the sealed records of ended leads.

A record is shredded: its wrapped key, its ciphertext and the hashes of its consumer go, the lead,
its money and its custody chain stay. Whatever else was sealed with that key is lost with it.
"""

from datetime import datetime, timedelta

import msgspec

from exchange.effects.clock import Clock
from exchange.effects.commits.document import day_of
from exchange.effects.leases import Lease
from exchange.effects.retention import Forgetting

FIRST_ID = "00000000-0000-0000-0000-000000000000"


class RetentionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long what is kept, in days; the meaning of each stands in `config.Limits`. `batch_max`:
    rows in one statement."""

    idem_kept_days: int
    sealed_unsold_days: int
    sealed_ended_days: int
    batch_max: int = 1_000


class Retention:
    """Two jobs: `forget_keys` and `shred`, a round each."""

    def __init__(self, *, forgetting: Forgetting, clock: Clock, limits: RetentionLimits) -> None:
        self._forgetting, self._clock, self._limits = forgetting, clock, limits

    async def forget_keys(self, lease: Lease) -> int:
        """Deletes every key whose time is over; how many."""
        before = self._clock.now() - timedelta(days=self._limits.idem_kept_days)
        total = 0
        while True:
            gone = await self._forgetting.forget_keys(
                first_id_of(before),
                before,
                self._limits.batch_max,
                job=lease.job,
                epoch=lease.epoch,
            )
            total += gone
            if gone < self._limits.batch_max:
                return total

    async def shred(self, lease: Lease) -> int:
        """Shreds every sealed record whose time is over; how many."""
        now, limits = self._clock.now(), self._limits
        unsold_before = now - timedelta(days=limits.sealed_unsold_days)
        ended_before = now - timedelta(days=limits.sealed_ended_days)
        total, after = 0, FIRST_ID
        while True:
            lead_ids = await self._forgetting.expired(
                after,
                first_id_of(unsold_before),
                first_id_of(ended_before),
                limits.batch_max,
                until=max(unsold_before, ended_before).date(),
            )
            if not lead_ids:
                return total
            total += await self._forgetting.shred(
                lead_ids,
                day_of(lead_ids[0]),
                day_of(lead_ids[-1]),
                job=lease.job,
                epoch=lease.epoch,
            )
            after = lead_ids[-1]


def first_id_of(moment: datetime) -> str:
    """An id below every id (UUIDv7) made from this moment on, and above all made before."""
    digits = f"{int(moment.timestamp() * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}{FIRST_ID[13:]}"
