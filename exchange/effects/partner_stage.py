"""A reconciliation's memory on disk: what a file of any length says, at the memory of a short one.

The same `Memory` as `core/shelf.py`, kept in a nameless database of SQLite's: one file that has no
name from the moment it is made and goes with the process, however that ends. It holds ids of ours,
days, amounts and keyed hashes. A partner's own reference may be anything, an e-mail address too, so
it is hashed under a key that is made for the run and never written.

Everything is found by key, a few rows at a time; what must be sorted is sorted by SQLite, which
spills.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from exchange.core.partner_lines import (
    Claim,
    OurLine,
    Person,
    TheirLine,
    group_of,
    order_in_group,
)
from exchange.core.shelf import Pair
from exchange.core.verdicts import Finding

CACHE_KIB: Final = 16 * 1024
"""What SQLite may hold in memory of its pages; its sorts take about as much once more."""
WRITTEN_AT_ONCE: Final = 1_000
"""Rows that wait to be written together."""
HASH_BYTES: Final = 16
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

TABLES: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
CREATE TABLE line (grp BLOB, back INTEGER, number INTEGER, doc BLOB);
CREATE TABLE claim (number INTEGER PRIMARY KEY, doc BLOB, taken TEXT, fits TEXT);
CREATE TABLE name (hash BLOB, number INTEGER, PRIMARY KEY (hash, number)) WITHOUT ROWID;
CREATE TABLE waiting (attempt_id TEXT PRIMARY KEY, place INTEGER, doc BLOB) WITHOUT ROWID;
CREATE TABLE pair (rank INTEGER, apart INTEGER, differs INTEGER, sold_at INTEGER, attempt_id TEXT,
                   number INTEGER);
CREATE TABLE finding (place INTEGER PRIMARY KEY, doc BLOB);
"""
BEST: Final = "ORDER BY rank, apart, differs, sold_at, attempt_id, number"


class Stage:
    """A `Memory` on disk, and the findings of a reconciliation on their way to where they are
    kept. Used by one thread."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # no name: a private file
        self._db.executescript(f"PRAGMA cache_size = -{CACHE_KIB};{TABLES}BEGIN")
        self._key = secrets.token_bytes(HASH_BYTES)
        self._rows: list[tuple[Any, ...]] = []
        self._encoded = msgspec.msgpack.Encoder().encode
        self._line = msgspec.msgpack.Decoder(TheirLine).decode
        self._claim = msgspec.msgpack.Decoder(Claim).decode
        self._our = msgspec.msgpack.Decoder(OurLine).decode
        self._finding = msgspec.msgpack.Decoder(Finding).decode
        self._places = 0

    def close(self) -> None:
        """The file is gone."""
        self._db.close()

    # --- lines and claims -------------------------------------------------------------------------

    def add(self, line: TheirLine) -> None:
        """See `Memory`."""
        grp, (back, number) = self._hash("g", group_of(line)), order_in_group(line)
        if line.reference:
            line = replace(line, reference=self._hash("r", line.reference).hex())
        self._rows.append((grp, back, number, self._encoded(line)))
        if len(self._rows) == WRITTEN_AT_ONCE:
            self._write_lines()

    def groups(self) -> Iterator[Iterator[TheirLine]]:
        """See `Memory`."""
        self._write_lines()
        rows = self._db.execute("SELECT grp, doc FROM line ORDER BY grp, back, number")
        for _, group in groupby(rows, key=lambda row: row[0]):
            yield (self._line(doc) for _, doc in group)
        self._db.execute("DROP TABLE line")

    def file(self, claim: Claim) -> None:
        """See `Memory`."""
        row = (claim.number, self._encoded(claim))
        self._db.execute("INSERT INTO claim (number, doc) VALUES (?, ?)", row)
        if claim.twin_of is not None:
            return
        names = {(name, claim.number) for line in claim.said for name in self._names(line)}
        self._db.executemany("INSERT OR IGNORE INTO name VALUES (?, ?)", names)

    def claim(self, number: int) -> Claim:
        """See `Memory`."""
        row = self._db.execute("SELECT doc FROM claim WHERE number = ?", (number,)).fetchone()
        return self._claim(row[0])

    def _names(self, line: TheirLine) -> Iterator[bytes]:
        if line.our_id:
            yield self._hash("i", line.our_id)
        if line.reference:
            yield bytes.fromhex(line.reference)
        for person in line.persons:
            yield self._hash("p", person)

    def _hash(self, kind: str, what: object) -> bytes:
        text = f"{kind}{what!r}".encode(errors="surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=HASH_BYTES).digest()

    def _write_lines(self) -> None:
        self._db.executemany("INSERT INTO line VALUES (?, ?, ?, ?)", self._rows)
        self._rows.clear()

    # --- looking ----------------------------------------------------------------------------------

    def by_id(self, our_id: str) -> int | None:
        """See `Memory`."""
        return next(iter(self._named(self._hash("i", our_id), 1)), None)

    def by_reference(self, reference: str, most: int) -> Sequence[int]:
        """See `Memory`."""
        return self._named(self._hash("r", reference), most)

    def by_person(self, person: Person, most: int) -> Sequence[int]:
        """See `Memory`."""
        return self._named(self._hash("p", person), most)

    def _named(self, hashed: bytes, most: int) -> Sequence[int]:
        text = "SELECT number FROM name WHERE hash = ? ORDER BY number LIMIT ?"
        return [row[0] for row in self._db.execute(text, (hashed, most))]

    # --- deciding ---------------------------------------------------------------------------------

    def is_taken(self, number: int) -> bool:
        """See `Memory`."""
        text = "SELECT taken FROM claim WHERE number = ?"
        row = self._db.execute(text, (number,)).fetchone()
        return row[0] is not None

    def take(self, number: int, attempt_id: str) -> None:
        """See `Memory`."""
        self._db.execute("UPDATE claim SET taken = ? WHERE number = ?", (attempt_id, number))

    def fit(self, number: int, attempt_id: str) -> None:
        """See `Memory`."""
        text = "UPDATE claim SET fits = ? WHERE number = ? AND fits IS NULL"
        self._db.execute(text, (attempt_id, number))

    def wait(self, our: OurLine, pairs: Sequence[Pair]) -> None:
        """See `Memory`."""
        self._places += 1
        row = (our.attempt_id, self._places, self._encoded(replace(our, reference=None)))
        self._db.execute("INSERT INTO waiting VALUES (?, ?, ?)", row)
        self._db.executemany(
            "INSERT INTO pair VALUES (?, ?, ?, ?, ?, ?)",
            [(*pair[:3], (pair.sold_at - EPOCH) // MICROSECOND, *pair[4:]) for pair in pairs],
        )

    def best_pairs(self) -> Iterator[tuple[Pair, bool]]:
        """See `Memory`."""
        self._db.execute(
            "DELETE FROM pair WHERE number IN (SELECT number FROM claim WHERE taken IS NOT NULL)"
        )
        self._db.execute("CREATE INDEX pair_of_sale ON pair (attempt_id, rank)")
        self._db.execute("CREATE INDEX pair_of_claim ON pair (number, rank)")
        rows = self._db.execute(
            "SELECT rank, apart, differs, sold_at, attempt_id, number,"
            " (SELECT count(*) FROM (SELECT 1 FROM pair o WHERE o.attempt_id = p.attempt_id"
            " AND o.rank = p.rank LIMIT 2)) > 1"
            " OR (SELECT count(*) FROM (SELECT 1 FROM pair o WHERE o.number = p.number"
            f" AND o.rank = p.rank LIMIT 2)) > 1 FROM pair p {BEST}"
        )
        for rank, apart, differs, sold_at, attempt_id, number, several in rows:
            moment = EPOCH + sold_at * MICROSECOND
            yield Pair(rank, apart, bool(differs), moment, attempt_id, number), bool(several)

    def waiting(self, attempt_id: str) -> OurLine | None:
        """See `Memory`."""
        text = "DELETE FROM waiting WHERE attempt_id = ? RETURNING doc"
        row = self._db.execute(text, (attempt_id,)).fetchone()
        return None if row is None else self._our(row[0])

    def left_waiting(self) -> Iterator[OurLine]:
        """See `Memory`."""
        text = f"SELECT number, attempt_id FROM pair {BEST}"
        for number, attempt_id in self._db.execute(text):
            if not self.is_taken(number):
                self.fit(number, attempt_id)
        for (doc,) in self._db.execute("SELECT doc FROM waiting ORDER BY place"):
            yield self._our(doc)

    def left_claims(self) -> Iterator[tuple[Claim, int | None]]:
        """See `Memory`."""
        self._db.execute("CREATE INDEX claim_taken ON claim (taken) WHERE taken IS NOT NULL")
        rows = self._db.execute(
            "SELECT doc, (SELECT min(h.number) FROM claim h WHERE h.taken = c.fits)"
            " FROM claim c WHERE taken IS NULL ORDER BY number"
        )
        for doc, holder in rows:
            yield self._claim(doc), holder

    # --- findings on their way --------------------------------------------------------------------

    def keep(self, finding: Finding) -> None:
        """Put a finding by."""
        self._db.execute("INSERT INTO finding (doc) VALUES (?)", (self._encoded(finding),))

    def kept(self) -> Iterator[Finding]:
        """The findings put by, in their order."""
        for (doc,) in self._db.execute("SELECT doc FROM finding ORDER BY place"):
            yield self._finding(doc)
