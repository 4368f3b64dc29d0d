"""What becomes of a reconciliation: it is kept, and a buyer's file may end the doubts it speaks of.

A file ends nothing by itself. Whoever asks names the reconciliation, and may narrow it to some
attempts; each doubt then ends through the same endings as a buyer's callback, with the file's hash
as evidence in custody, in the attempt's event and in the audit.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from exchange.core.kept_reconciliation import KeptFinding, Run, Verdict, resolution
from exchange.core.model import Fact
from exchange.effects.reconciliations import Runs
from exchange.flows.doubt import Resolving
from exchange.flows.partner_file import Asked, Reconciled

BY_FILE: Final = "partner file"
"""Who found out, as the attempt and its custody say it."""
COLUMN_UNKNOWN: Final = ""


class Resolution(Fact, frozen=True, kw_only=True):
    """One doubt that a file speaks of. `outcome`: how the file ends it, `None` when it does not: it
    is ambiguous, or the sale is not listed and that was not to count. `state`: what became of it;
    `offered` when it was only to be shown."""

    number: int
    attempt_id: str
    lead_id: str
    outcome: Verdict | None
    state: Literal["offered", "done", "already", "otherwise", "running", "no_such", "left"]


def run_of(
    done: Reconciled,
    asked: Asked,
    *,
    reconciliation_id: str,
    at: Any,
    by: str,
    file_sha256: bytes,
    previous: str | None,
) -> Run:
    """The reconciliation as it is kept. A header may be anybody's words, so columns are kept by
    what they were read as."""
    fields = {header: field for field, header in done.columns.items()}
    unread = tuple(
        {"line": one.line, "field": fields.get(one.column, COLUMN_UNKNOWN), "why": one.why}
        for one in done.unread
    )
    return Run(
        reconciliation_id=reconciliation_id,
        at=at,
        by=by,
        side=done.side,
        partner=done.partner,
        party_id=done.partner_id,
        file_sha256=file_sha256.hex(),
        first_day=done.first,
        last_day=done.last,
        zone=done.zone,
        tolerance_days=done.tolerance_days,
        currency=asked.currency,
        columns=tuple(done.columns),
        our_lines=done.our_lines,
        their_lines=done.their_lines,
        outside=done.outside,
        unread=unread,
        differences=done.differences,
        ambiguous=done.ambiguous,
        totals=done.totals,
        previous=previous,
    )


async def resolve_by_file(
    run: Run,
    *,
    runs: Runs,
    resolving: Resolving,
    by: str,
    why: str,
    attempts: Sequence[str] | None = None,
    unlisted: bool = False,
    dry_run: bool = False,
    tell: Callable[[Resolution], None],
) -> None:
    """Ends the doubts that a reconciliation with a buyer speaks of, as its file says; with
    `dry_run` only shows them. `attempts` narrows to these; `unlisted`: what the file does not list
    was not bought. The audit is written first. Raises `CommitsDown`."""
    evidence = f"sha256:{run.file_sha256}"
    async for kept in runs.doubts(run.reconciliation_id):
        if attempts is not None and kept.finding.attempt_id not in attempts:
            continue
        outcome = resolution(kept.finding, unlisted=unlisted)
        if outcome is None or dry_run:
            tell(_resolution(kept, outcome, "left" if outcome is None else "offered"))
            continue
        detail = {
            "reconciliation_id": run.reconciliation_id,
            "attempt_id": kept.finding.attempt_id,
            "evidence": evidence,
            "why": why,
        }
        await runs.audit(by=by, action="reconcile.resolve", subject=outcome, detail=detail)
        ended = await resolving.resolve(
            kept.finding.attempt_id, outcome, by=BY_FILE, buyer_id=run.party_id, evidence=evidence
        )
        if ended.kind in ("done", "already"):
            await _settled(run, kept, outcome, runs=runs, by=by)
        tell(_resolution(kept, outcome, ended.kind))


async def _settled(run: Run, kept: KeptFinding, outcome: Verdict, *, runs: Runs, by: str) -> None:
    why = f"the doubt ended: {outcome}"
    await runs.settle(run, [kept.number], by=by, why=why, is_settled=True)


def _resolution(
    kept: KeptFinding,
    outcome: Verdict | None,
    state: Literal["offered", "done", "already", "otherwise", "running", "no_such", "left"],
) -> Resolution:
    return Resolution(
        number=kept.number,
        attempt_id=kept.finding.attempt_id,
        lead_id=kept.finding.lead_id,
        outcome=outcome,
        state=state,
    )
