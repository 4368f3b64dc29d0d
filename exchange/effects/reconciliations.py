"""Reconciliations that are kept: written once, read by their ids, settled by facts beside them."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Any, Final, Protocol

import msgspec

from exchange.core.kept_reconciliation import (
    Changed,
    KeptFinding,
    Run,
    Settled,
    key_of,
)
from exchange.core.partner_lines import Side
from exchange.core.verdicts import Finding, Total
from exchange.effects.sql import queries

WRITTEN_AT_ONCE: Final = 1_000
NAMED_MAX: Final = 20
"""Of what changed since the last run, so many are named."""
FIRST_PAGE: Final = 1_000
"""Findings read at once."""


class Rows(Protocol):
    """The part of the database used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchrow(self, sql: str, *args: Any) -> Any: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> Any: ...
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class Runs:
    """The reconciliations in the database."""

    def __init__(self, database: Rows) -> None:
        self._database = database
        self._sql = queries("reconciliations")

    async def party(self, side: Side, key: str) -> int | None:
        """The partner's id; `None` when there is no such partner."""
        found: int | None = await self._database.fetchval(self._sql["party"], side, key)
        return found

    async def previous(self, party_id: int, file_sha256: bytes) -> str | None:
        """The last run of the same file."""
        found: str | None = await self._database.fetchval(
            self._sql["previous"], party_id, file_sha256
        )
        return found

    async def keep(self, connection: Any, run: Run, differences: Iterable[Finding]) -> None:
        """Write a run and its differences, and who made it, within the caller's transaction."""
        sha256 = bytes.fromhex(run.file_sha256)
        await connection.execute(self._sql["keep_run"], *_columns(run, sha256))
        numbered = iter(enumerate(differences, 1))
        while part := [_row(n, one, sha256) for n, one in islice(numbered, WRITTEN_AT_ONCE)]:
            await connection.execute(
                self._sql["keep_findings"], run.reconciliation_id, run.party_id, part
            )
        detail = {
            "reconciliation_id": run.reconciliation_id,
            "side": run.side,
            "file_sha256": run.file_sha256,
            "differences": run.differences,
        }
        await connection.execute(self._sql["audit"], run.by, "reconcile.file", run.partner, detail)

    async def listing(
        self, *, party_id: int | None, before: str | None, limit: int
    ) -> tuple[Run, ...]:
        """Runs, the newest first."""
        rows = await self._database.fetch(self._sql["runs"], party_id, before, limit, None)
        return tuple(map(_run, rows))

    async def run(self, reconciliation_id: str) -> Run | None:
        """The run of this id."""
        row = await self._database.fetchrow(self._sql["runs"], None, None, 1, reconciliation_id)
        return None if row is None else _run(row)

    async def changed(self, run: Run) -> Changed | None:
        """What changed since the last run of the same file; `None` when there was none."""
        before = None if run.previous is None else await self.run(run.previous)
        if before is None:
            return None
        rows = await self._database.fetch(
            self._sql["changed"], run.reconciliation_id, before.reconciliation_id, NAMED_MAX
        )
        found = {row["side"]: row for row in rows}
        return Changed(
            previous=before.reconciliation_id,
            at=before.at,
            appeared=found["appeared"]["findings"],
            gone=found["gone"]["findings"],
            first_appeared=tuple(found["appeared"]["first"] or ()),
            first_gone=tuple(found["gone"]["first"] or ()),
        )

    async def findings(
        self,
        reconciliation_id: str,
        *,
        after: int = 0,
        limit: int = FIRST_PAGE,
        numbers: Sequence[int] | None = None,
    ) -> tuple[KeptFinding, ...]:
        """Differences of a run in their order, each with what became of it."""
        rows = await self._database.fetch(
            self._sql["findings"], reconciliation_id, after, limit, numbers
        )
        return tuple(map(_kept, rows))

    async def every(self, reconciliation_id: str) -> AsyncIterator[KeptFinding]:
        """All differences of a run, a page at a time."""
        after = 0
        while page := await self.findings(reconciliation_id, after=after):
            for one in page:
                yield one
            after = page[-1].number

    async def doubts(self, reconciliation_id: str) -> AsyncIterator[KeptFinding]:
        """Those that a buyer's file may resolve."""
        after = 0
        while rows := await self._database.fetch(
            self._sql["doubts"], reconciliation_id, after, FIRST_PAGE
        ):
            for row in rows:
                yield _kept(row)
            after = rows[-1]["number"]

    async def settle(
        self, run: Run, numbers: Sequence[int], *, by: str, why: str, is_settled: bool
    ) -> int:
        """Say that these are done with (or not after all); how many there were."""
        async with self._database.transaction() as connection:
            tag = await connection.execute(
                self._sql["settle"], run.reconciliation_id, list(numbers), by, why, is_settled
            )
            detail = {
                "reconciliation_id": run.reconciliation_id,
                "numbers": list(numbers),
                "why": why,
                "is_settled": is_settled,
            }
            await connection.execute(
                self._sql["audit"], by, "reconcile.settle", run.partner, detail
            )
        return int(str(tag).rpartition(" ")[2])

    async def audit(self, *, by: str, action: str, subject: str, detail: dict[str, Any]) -> None:
        """Remember who did it and why."""
        await self._database.execute(self._sql["audit"], by, action, subject, detail)


def _columns(run: Run, sha256: bytes) -> tuple[Any, ...]:
    return (
        *(run.reconciliation_id, run.by, run.side, run.party_id, sha256),
        *(run.first_day, run.last_day, run.zone, run.tolerance_days, run.currency),
        *(list(run.columns), run.our_lines, run.their_lines, run.outside, list(run.unread)),
        *(run.differences, run.ambiguous, list(run.totals), run.previous),
    )


def _row(number: int, finding: Finding, sha256: bytes) -> dict[str, Any]:
    return {
        "number": number,
        "key": key_of(finding, sha256).hex(),
        "doc": msgspec.to_builtins(finding),
    }


def _run(row: Any) -> Run:
    return msgspec.convert(
        dict(row) | {"totals": msgspec.convert(row["totals"], tuple[Total, ...])}, Run
    )


def _kept(row: Any) -> KeptFinding:
    settled = None
    if row["is_settled"]:
        settled = Settled(at=row["at"], by=row["by"], why=row["why"])
    return KeptFinding(
        number=row["number"],
        key=row["key"],
        finding=msgspec.convert(row["doc"], Finding),
        settled=settled,
    )
