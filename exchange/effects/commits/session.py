"""One connection of the group-commit writer: a batch as one statement, the fence of strict caps,
and the questions to ask after a connection was lost.

It acts as `exchange_app`, waits for the disk (`synchronous_commit = on`, whatever the server's
default), and plans its one big statement once (`force_generic_plan`).
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Self

import asyncpg
import msgspec

from exchange.core.ledger import AccountName, accounts
from exchange.core.records import CommitAnswer, CommitUnit
from exchange.effects.commits.document import (
    day_of,
    encoded,
    may_be_trusted,
    on_trust,
    statement,
    tables_of,
    with_checks,
    words_of,
)
from exchange.effects.sql import queries

ROLE = "exchange_app"
LOCK_TIMEOUT_MS = 5_000
"""A batch waits for a row no longer than this; somebody's forgotten transaction holds it."""
CONNECT_TIMEOUT_S = 5.0
END_TIMEOUT_MS = 2_000
"""So long is waited for a lost session to end before the next attempt."""

Answers = dict[str, CommitAnswer | None]
"""By lead: why nothing of a unit was written. `None`: a strict cap is short of room for all who ask
and the fence must decide. A unit that is not named is done."""

_MISTRUSTED = (
    asyncpg.DataError,  # also what a trusting statement raises by itself
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.TransactionRollbackError,
)
_JSONB_VERSION = b"\x01"  # the first byte of jsonb's binary form
_ENCODER = msgspec.json.Encoder()


class SessionRemains(OSError):
    """The session we lost is still at work and could not be ended; nothing may be asked yet."""


class Session:
    """A connection that is never shared. After any error that is not a rollback: `terminate`."""

    def __init__(self, connection: Any, *, pid: int, began: datetime) -> None:
        self._connection = connection
        self._sql = queries("commits")
        self._statements: dict[frozenset[str], str] = {}
        self._accounts: dict[AccountName, int] = {}
        self.pid, self.began = pid, began

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        after: "Session | None",
        statement_timeout_ms: int,
        application_name: str,
    ) -> Self:
        """Connects. `after` is the session lost before: it is ended first, for as long as it lives
        it might still commit. Raises what asyncpg raises, or `SessionRemains`."""
        connection: Any = await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=None,  # the writer's own clock
            statement_cache_size=100,  # a statement for each kind of batch
            max_cacheable_statement_size=0,  # however long
            server_settings={
                "application_name": application_name,
                "synchronous_commit": "on",
                "plan_cache_mode": "force_generic_plan",
                "jit": "off",
                "enable_seqscan": "off",  # a few rows by key, in tables of any size
                "timezone": "UTC",
                "statement_timeout": str(statement_timeout_ms),
                "lock_timeout": str(LOCK_TIMEOUT_MS),
                "idle_in_transaction_session_timeout": str(statement_timeout_ms),
            },
        )
        try:
            sql = queries("commits")
            if after is not None:
                await _end(connection, sql, after)
            me = await connection.fetchrow(sql["whoami"])
            await connection.execute(f"SET ROLE {ROLE}")
            await connection.set_type_codec(
                "jsonb",
                schema="pg_catalog",
                format="binary",
                encoder=lambda data: _JSONB_VERSION + data,
                decoder=lambda data: data[1:],
            )
        except BaseException:
            connection.terminate()
            raise
        return cls(connection, pid=me["pid"], began=me["backend_start"])

    @property
    def is_closed(self) -> bool:
        """Whether the connection is known to have ended."""
        return bool(self._connection.is_closed())

    def on_end(self, told: Callable[[], None]) -> None:
        """Calls `told` when the connection ends by itself."""
        self._connection.add_termination_listener(lambda _: told())

    def terminate(self) -> None:
        """Drops the connection without a word; harmless twice."""
        self._connection.terminate()

    # --- writing ----------------------------------------------------------------------------------

    async def write(self, units: Sequence[CommitUnit], *, fenced: bool) -> Answers:
        """One batch (one unit per lead), durable when this returns. `fenced`: strict caps are
        allotted one by one, in order. Raises `asyncpg.PostgresError` when it was rolled back whole,
        `ValueError` or `TypeError` when a unit cannot be written down at all."""
        await self._make_accounts(units)
        return await (self._write_fenced(units) if fenced else self._write(units))

    async def _write(self, units: Sequence[CommitUnit]) -> Answers:
        tables = tables_of(units, self._accounts)
        words = words_of(units, tables)
        days = [day_of(unit.lead_id) for unit in units]
        document = encoded(tables), min(days), max(days)
        if may_be_trusted(words):
            try:
                await self._connection.execute(self._statement(on_trust(words)), *document)
            except _MISTRUSTED:
                pass  # whose fault it is, if it still is, the checks tell
            else:
                return {}
        rows = await self._connection.fetch(self._statement(with_checks(words)), *document)
        return {
            row["lead_id"]: None if row["kind"] == "short" else CommitAnswer(kind=row["kind"])
            for row in rows
        }

    def _statement(self, words: frozenset[str]) -> str:
        """The commit statement for a batch of this kind; the same text each time, so that it is
        planned once."""
        sql = self._statements.get(words)
        if sql is None:
            sql = self._statements[words] = statement(self._sql["commit"], words)
        return sql

    async def _write_fenced(self, units: Sequence[CommitUnit]) -> Answers:
        """The fence: lock the consumers and every window that is asked for, in order; allot; write
        what has room."""
        asked = sorted({(buyer, win) for unit in units for buyer, win, *_ in _takes(unit)})
        keys = [buyer for buyer, _ in asked], [win for _, win in asked]
        claims = [claim for unit in units for claim in unit.claims]
        async with self._connection.transaction():
            if claims:
                await self._connection.execute(
                    self._sql["persons_claimed"], _ENCODER.encode(claims)
                )
            await self._connection.execute(self._sql["windows_exist"], *keys)
            rows = await self._connection.fetch(self._sql["windows_locked"], *keys)
            used = {(row["buyer_id"], row["win"]): row["used"] for row in rows}
            full = {unit.lead_id: win for unit in units if (win := _allotted(unit, used))}
            fitting = [unit for unit in units if unit.lead_id not in full]
            answers = await self._write(fitting) if fitting else {}
        # Room was kept for a unit that did not go through after all: those behind it ask again.
        is_final = not answers
        for lead_id, win in full.items():
            answers[lead_id] = CommitAnswer(kind="cap", win=win) if is_final else None
        return answers

    async def _make_accounts(self, units: Sequence[CommitUnit]) -> None:
        """The accounts that transfers name: made when first met, their ids known from then on."""
        named = {
            account
            for unit in units
            for transfer in unit.transfers
            for account in accounts(transfer)
        }
        missing = sorted(named - self._accounts.keys())
        if not missing:
            return
        parties, kinds, currencies = zip(*missing, strict=True)
        columns = list(parties), list(kinds), list(currencies)
        await self._connection.execute(self._sql["accounts_exist"], *columns)
        rows = await self._connection.fetch(self._sql["accounts_found"], *columns)
        for row in rows:
            self._accounts[row["party_id"], row["kind"], row["currency"]] = row["id"]

    # --- asking -----------------------------------------------------------------------------------

    async def committed(self, units: Sequence[CommitUnit]) -> set[str]:
        """The leads of those units that are in the database."""
        if not units:
            return set()
        asked = [
            {
                "lead_id": unit.lead_id,
                "seq": unit.custody[-1].seq if unit.custody else None,
                "hash": unit.custody[-1].hash if unit.custody else None,
                "marker": unit.marker[0],
                "state": unit.marker[1],
            }
            for unit in units
        ]
        rows = await self._connection.fetch(self._sql["committed"], _ENCODER.encode(asked))
        return {row["lead_id"] for row in rows}


async def _end(connection: Any, sql: dict[str, str], lost: Session) -> None:
    await connection.fetch(sql["end_session"], lost.pid, lost.began, END_TIMEOUT_MS)
    if await connection.fetchval(sql["session_exists"], lost.pid, lost.began):
        raise SessionRemains("the lost session is still at work")


# --- strict caps ----------------------------------------------------------------------------------


def _takes(unit: CommitUnit) -> list[tuple[int, str, int, int]]:
    """`(buyer_id, win, limit, amount)` of every strict window that the unit takes from."""
    return [
        (attempt.buyer_id, win, limit, amount)
        for attempt in unit.attempts
        if attempt.cap_mode == "strict"
        for win, limit, amount in attempt.windows
    ]


def _allotted(unit: CommitUnit, used: dict[tuple[int, str], int]) -> str | None:
    """Takes the unit's room out of `used`, all or none; the first window without room if any."""
    takes = _takes(unit)
    for buyer, win, limit, amount in takes:
        if used[buyer, win] + amount > limit:
            return win
    for buyer, win, _, amount in takes:
        used[buyer, win] += amount
    return None
