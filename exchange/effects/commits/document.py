"""A batch as Postgres gets it: one JSON document, and the statement made for what is in it.

`sql/commits.sql` holds the whole statement in parts, each under the words it is for. Setting up a
part costs Postgres 10 to 30 us a commit whether or not it finds a row, so only the parts that a
batch has a use for are sent. There are few kinds of batch, and each is planned once a connection.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from exchange.core.records import CommitUnit

FREES_SLOTS = ("voided", "rejected")
"""States that give a sale slot back; a claim on a strict cap is given back by these, and looked for
(in vain: it is kept) by `written_off`."""
GIVES_BACK = (*FREES_SLOTS, "written_off")

_MARK = re.compile(r"^( *)-- (?:always|for (\w+))$")
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_ENCODER = msgspec.json.Encoder()
Tables = dict[str, list[Any]]


def day_of(lead_id: str) -> date:
    """The UTC day that an id (UUIDv7) was made on: it names the partition. Raises `ValueError`."""
    milliseconds = int(lead_id[:8] + lead_id[9:13], 16)
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date()


def tables_of(units: Sequence[CommitUnit]) -> Tables:
    """The rows of a batch, table by table; tables without rows are left out."""
    tables: Tables = {
        "lead_moves": [
            {
                "lead_id": move.lead_id,
                "old": move.old,
                "new": move.new,
                "custody_seq": move.custody_seq,
                "custody_head": move.custody_head,
                "boot_id": move.boot_id,
                "events": len(unit.custody),
            }
            for unit in units
            if (move := unit.lead_move) is not None
        ],
        "attempt_moves": [row for unit in units for row in unit.attempt_moves],
        "attempts": [row for unit in units for row in unit.attempts],
        "idem": [_claim(unit) for unit in units if unit.idem is not None],
        "idem_done": [
            {
                "lead_id": unit.lead_id,
                "seller_id": done.seller_id,
                "key": done.key,
                "reply": done.reply,
            }
            for unit in units
            if (done := unit.idem_done) is not None and unit.idem is None
        ],
        "leads_made": [
            replace(unit.lead, custody_head="\\x" + unit.lead.custody_head)
            for unit in units
            if unit.lead is not None
        ],
        "privates": [unit.private for unit in units if unit.private is not None],
        "persons": [row for unit in units for row in unit.persons],
        "claims": [row for unit in units for row in unit.claims],
        "events": [row for unit in units for row in unit.events],
        "custody": [row for unit in units for row in unit.custody],
        "transfers": [row for unit in units for row in unit.transfers],
        "outbox": [row for unit in units for row in unit.outbox],
    }
    return {name: rows for name, rows in tables.items() if rows}


def words_of(units: Sequence[CommitUnit], tables: Tables) -> frozenset[str]:
    """What the batch needs of the statement: its tables, and

    `takes`   room in strict caps is taken (or given back: the same parts)
    `ends`    such room may be given back
    `passes`  a sale slot may be free, or become so
    """
    words = set(tables)
    ended = {move.new for unit in units for move in unit.attempt_moves}
    if any(row.cap_mode == "strict" and row.windows for row in tables.get("attempts", ())):
        words.add("takes")
    if not ended.isdisjoint(GIVES_BACK):
        words |= {"ends", "takes", "attempts"}
    if not ended.isdisjoint(FREES_SLOTS) or any(
        unit.attempts and unit.lead is None for unit in units
    ):
        words |= {"passes", "attempts", "attempt_moves"}
    return frozenset(words)


def statement(whole: str, words: frozenset[str]) -> str:
    """The parts of a statement that these words ask for. Comments are left out."""
    lines = []
    has_part = has_piece = True
    for line in whole.splitlines():
        mark = _MARK.match(line)
        if mark is None:
            if has_part and has_piece and not line.lstrip().startswith("--"):
                lines.append(line)
        elif mark[1]:  # indented: a piece of a part
            has_piece = mark[2] is None or mark[2] in words
        else:
            has_part, has_piece = mark[2] is None or mark[2] in words, True
    return "\n".join(lines)


def encoded(tables: Tables) -> bytes:
    """The document. NUL characters, which Postgres cannot hold, are left out: a partner's odd
    reference must not keep a sale from being booked."""
    data = _ENCODER.encode(tables)
    return _NUL.sub(rb"\1", data) if b"\\u0000" in data else data


def _claim(unit: CommitUnit) -> Any:
    """The claim of a key; with the reply, where it ends with its first commit."""
    if unit.idem_done is None:
        return unit.idem
    row: dict[str, Any] = msgspec.structs.asdict(unit.idem)  # type: ignore[arg-type]
    return row | {"state": "done", "reply": unit.idem_done.reply}
