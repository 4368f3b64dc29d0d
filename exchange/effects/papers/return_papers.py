"""The papers of an imported sheet of returns: the buyer's reply, and a notice to each seller.

The reply is the buyer's own rows, read again from its file, each with what became of it. A notice
has the seller's leads, why they came back and what is taken back: never the buyer, its price or its
credit, and nothing of the consumer.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from exchange.core.money import text_of
from exchange.core.return_cases import REASONS, ReturnCase
from exchange.effects.papers.tables import Cell, amount, safe, table

REPLY_HEADER: Final = (
    *("return_state", "return_rule", "return_message", "return_credit", "return_currency"),
    *("return_reason", "return_id", "sale_id"),
)
"""What the reply adds to the buyer's own columns."""


class ReplyLine(msgspec.Struct, frozen=True, kw_only=True):
    """What the reply says of a row. `is_foreseen`: the case is not written, and its id is none.
    `twin_of`: the line that says the same, where the credit stands, so that the column adds up."""

    state: str
    rule: str
    says: str
    case: ReturnCase | None
    is_foreseen: bool = False
    twin_of: int | None = None


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A lead that came back, as its seller is told. `external_id` is the seller's own id."""

    lead_id: str
    external_id: str | None
    reason: str
    message: str
    taken_back: str
    currency: str
    returned_at: datetime | None


def write_reply(
    path: Path,
    rows: Iterator[tuple[int, Sequence[Any]]],
    said: Callable[[int], ReplyLine | None],
    *,
    width: int,
) -> None:
    """The buyer's rows (the header first) with `said` of each line; the widest has `width` columns.
    Raises what `table` and reading
    the rows raise."""

    def own(cells: Sequence[Any]) -> list[Cell]:
        return [*map(_cell, cells), *[None] * (width - len(cells))]

    header = [safe(_text(cell)) for cell in own(next(rows)[1])]
    with table(path, [*header, *REPLY_HEADER], title="Returns") as add:
        for number, cells in rows:
            add([*own(cells), *_added(said(number))])


def _added(line: ReplyLine | None) -> Sequence[Cell]:
    if line is None:
        return ("",) * len(REPLY_HEADER)
    if line.case is None:
        return (line.state, line.rule, line.says, None, None, None, None, None)
    case = line.case
    return (
        line.state,
        line.rule,
        f"As line {line.twin_of}. {line.says}" if line.twin_of else line.says,
        None if line.twin_of else amount(case.credit_micros),
        case.currency,
        case.reason,
        None if line.is_foreseen else case.return_id,
        case.attempt_id,
    )


def _cell(value: Any) -> Cell:
    """A cell of theirs as we may write it; numbers stay numbers."""
    if value is None or isinstance(value, str | int | date):
        return value
    if isinstance(value, float):
        return Decimal(repr(value)) if value == value and abs(value) < 1e15 else str(value)
    return str(value)


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)


def notice_of(case: ReturnCase, external_id: str | None) -> Notice:
    """What the seller of a returned lead is told."""
    return Notice(
        lead_id=case.lead_id,
        external_id=external_id,
        reason=case.reason,
        message=REASONS[case.reason].sentence,
        taken_back=text_of(case.clawback_micros),
        currency=case.currency,
        returned_at=case.decided_at,
    )


def write_notices(
    folder: Path, granted: Iterable[tuple[str, ReturnCase, str | None]]
) -> tuple[Path, ...]:
    """One CSV and one JSON file for each seller, named by its key; those of an earlier run are
    replaced. `granted`: the seller, the case, the seller's own id of the lead."""
    told: defaultdict[str, list[Notice]] = defaultdict(list)
    for seller, case, external_id in granted:
        told[seller].append(notice_of(case, external_id))
    made = []
    for seller, notices in sorted(told.items()):
        notices.sort(key=lambda one: one.lead_id)
        made += [folder / f"{seller}.csv", folder / f"{seller}.json"]
        with table(made[-2], Notice.__struct_fields__, title="Returned leads") as add:
            for one in notices:
                at = one.returned_at.isoformat() if one.returned_at else ""
                cells = (one.lead_id, one.external_id, one.reason, one.message)
                add((*cells, Decimal(one.taken_back), one.currency, at))
        draft = made[-1].with_name(f".{made[-1].name}.draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(notices), indent=2))
        os.replace(draft, made[-1])
    return tuple(made)
