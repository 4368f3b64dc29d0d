"""A batch as Postgres gets it: one JSON document, and the statement made for what is in it.

`sql/commits.sql` holds the whole statement in parts, each under the words it is for. Setting up a
part costs Postgres 10 to 30 us a commit whether or not it finds a row, so only the parts that a
batch has a use for are sent. There are few kinds of batch, and each is planned once a connection.

Looking before writing costs a fifth of a commit and finds nothing, so a batch is first written on
trust: a compare-and-set that finds another state, like a key that collides, undoes the whole batch,
which is then written with the checks that tell whose fault it was.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from exchange.core.ledger import AccountName, accounts
from exchange.core.records import CommitUnit, TransferRow

FREES_SLOTS = ("voided", "rejected")
"""States that give a sale slot back; a claim on a strict cap is given back by these, and looked for
(in vain: it is kept) by `written_off`."""
GIVES_BACK = (*FREES_SLOTS, "written_off")

_MARK = re.compile(r"^( *)-- (?:always|for (\w+))$")
_UNLESS_HELD_BACK = re.compile(r"(\w\.)?lead_id <> ALL \(ARRAY\(SELECT lead_id FROM held_back\)\)")
_CHECKED = ("lead_moves", "attempt_moves", "idem")
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_ENCODER = msgspec.json.Encoder()
Tables = dict[str, list[Any]]


def day_of(lead_id: str) -> date:
    """The UTC day that an id (UUIDv7) was made on: it names the partition. Raises `ValueError`."""
    milliseconds = int(lead_id[:8] + lead_id[9:13], 16)
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date()


def tables_of(units: Sequence[CommitUnit], account_ids: Mapping[AccountName, int]) -> Tables:
    """The rows of a batch, table by table; tables without rows are left out. Leads and keys come in
    one order, whoever writes them: two writers never wait for each other in a circle. `account_ids`
    has every account that a transfer names: joined in the statement, all accounts would be read."""
    units = sorted(units, key=lambda unit: unit.lead_id)
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
        "idem": [_claim(unit) for unit in _by_key(units)],
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
        "transfers": [_transfer(row, account_ids) for unit in units for row in unit.transfers],
        "outbox": [row for unit in units for row in unit.outbox],
        "resales": [unit.resale for unit in units if unit.resale is not None],
    }
    return {name: rows for name, rows in tables.items() if rows}


def words_of(units: Sequence[CommitUnit], tables: Tables) -> frozenset[str]:
    """What the batch needs of the statement: its tables (`resales` frees the slots of sales that
    were returned in full), and

    `takes`    room in strict caps is taken (or given back: the same parts)
    `settles`  what becomes of such room is known
    `ends`     such room may be given back
    `passes`   a sale slot may be free, or become so
    """
    words = set(tables)
    moves = [move for unit in units for move in unit.attempt_moves]
    ended = {move.new for move in moves}
    settled = {move.new for move in moves if move.strict}
    if any(row.cap_mode == "strict" and row.windows for row in tables.get("attempts", ())):
        words.add("takes")
    if settled:
        words.add("settles")
    if not settled.isdisjoint(GIVES_BACK):
        words |= {"ends", "takes", "attempts"}
    if not ended.isdisjoint(FREES_SLOTS) or any(
        unit.attempts and unit.lead is None for unit in units
    ):
        words |= {"passes", "attempts", "attempt_moves"}
    return frozenset(words)


def may_be_trusted(words: frozenset[str]) -> bool:
    """Whether a batch of these words may be written before anything is looked at. Not where room in
    a strict cap is shared out: that is decided between locking and writing."""
    return "takes" not in words


def on_trust(words: frozenset[str]) -> frozenset[str]:
    """The words of a statement that writes all of the batch or raises."""
    return words | {"trusted"}


def with_checks(words: frozenset[str]) -> frozenset[str]:
    """The words of a statement that holds back, and names, the leads it cannot write."""
    return words | {"checked", *(f"{word}_checked" for word in _CHECKED if word in words)}


def statement(whole: str, words: frozenset[str]) -> str:
    """The parts of a statement that these words ask for. Comments are left out."""
    if "checked" not in words:
        whole = _UNLESS_HELD_BACK.sub("true", whole)
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


def _transfer(row: TransferRow, account_ids: Mapping[AccountName, int]) -> dict[str, Any]:
    debit, credit = accounts(row)
    ids = {"debit_account": account_ids[debit], "credit_account": account_ids[credit]}
    return msgspec.structs.asdict(row) | ids


def _by_key(units: Sequence[CommitUnit]) -> list[CommitUnit]:
    claiming = [unit for unit in units if unit.idem is not None]
    return sorted(claiming, key=lambda unit: (unit.idem.seller_id, unit.idem.key))  # type: ignore[union-attr]


def _claim(unit: CommitUnit) -> Any:
    """The claim of a key; with the reply, where it ends with its first commit."""
    if unit.idem_done is None:
        return unit.idem
    row: dict[str, Any] = msgspec.structs.asdict(unit.idem)  # type: ignore[arg-type]
    return row | {"state": "done", "reply": unit.idem_done.reply}
