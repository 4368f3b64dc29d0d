"""Postgres: connections with a role, a small pool for reads and rare writes, and migrations.

What must be fast or must not be cancelled has a connection of its own (`connect`); everything else
borrows one from a `Database`. Roles are those of the migrations; a login takes one for good when it
connects, so a query can never run with more rights than its part of the house needs.

jsonb is Python objects both ways; a `msgspec.Struct` may be passed where jsonb is expected.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from typing import Any, Literal

import asyncpg
import msgspec
import orjson

Role = Literal[
    "exchange_owner", "exchange_app", "exchange_reader", "exchange_sealed", "exchange_pruner"
]

HOUSE_PARTY = 1
"""The reader that sees every party's rows."""

_JSONB_VERSION = b"\x01"  # the first byte of jsonb's binary form; COPY knows no other form


async def connect(
    url: str,
    *,
    role: Role,
    application_name: str,
    statement_timeout_ms: int = 10_000,
    connect_timeout_s: float = 5.0,
    party_id: int | None = None,
) -> asyncpg.Connection:
    """A connection that acts as `role` until it is closed. `party_id` is whom a reader speaks for.

    Raises what asyncpg raises: `OSError` or `asyncpg.PostgresError`, `TimeoutError`.
    """
    connection: asyncpg.Connection = await asyncpg.connect(
        url,
        timeout=connect_timeout_s,
        command_timeout=None,
        statement_cache_size=256,
        server_settings=_settings(role, application_name, statement_timeout_ms, party_id),
    )
    await _speak_json(connection)
    return connection


_BY_KEY = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}


class DatabaseDown(ConnectionError):
    """The database cannot be asked now. The message names the kind of failure alone."""


_DOWN = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises when the server is away, shutting down, full, or too slow. The last: a
connection that breaks while the pool takes it back makes asyncpg stumble over its own state."""


@contextmanager
def _lost_is_said_so() -> Iterator[None]:
    try:
        yield
    except _DOWN as lost:
        if isinstance(lost, ValueError):  # asyncpg's DataError: a value that fits no type, a bug
            raise
        raise DatabaseDown(type(lost).__name__) from lost


class Database:
    """A pool of a few connections of one role, opened when first needed. While the database is away
    everything raises `DatabaseDown`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        role: Role,
        size: int = 4,
        application_name: str = "exchange",
        statement_timeout_ms: int = 10_000,
        connect_timeout_s: float = 5.0,
        party_id: int | None = None,
        by_key: bool = False,
    ) -> "Database":
        """Connects once, so that a wrong URL is found at once; raises as `connect` does. `by_key`:
        for queries that take a few rows by key from tables of any size; each is planned once a
        connection, whatever the statistics of the moment say, and never to read a table through."""
        pool = await asyncpg.create_pool(
            url,
            min_size=0,  # a floor would be restored in the background, and complain in an outage
            max_size=size,
            timeout=connect_timeout_s,
            command_timeout=statement_timeout_ms / 1000 + 1,
            max_inactive_connection_lifetime=300,
            server_settings=_settings(role, application_name, statement_timeout_ms, party_id)
            | (_BY_KEY if by_key else {}),
            init=_speak_json,
            reset=_as_it_is,
        )
        await pool.fetchval("SELECT 1")
        return cls(pool)

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Every row."""
        with _lost_is_said_so():
            return await self._pool.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """The first row, `None` if there is none."""
        with _lost_is_said_so():
            return await self._pool.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """The first column of the first row, `None` if there is none."""
        with _lost_is_said_so():
            return await self._pool.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any) -> str:
        """The command's tag, such as `UPDATE 1`."""
        with _lost_is_said_so():
            return await self._pool.execute(sql, *args)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A connection inside a transaction: commits at the end, rolls back on an exception."""
        with _lost_is_said_so():
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection

    async def close(self, *, timeout_s: float = 5.0) -> None:
        """Waits for borrowed connections, then closes; after `timeout_s` they are cut."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


async def migrate(url: str) -> None:
    """Brings the database's schema up to date: one transaction under one lock, so calling it twice,
    or from two processes at once, is harmless (not from two threads: Alembic's state is the
    process's). The login needs CREATEROLE, or the roles made and granted to it."""
    await asyncio.to_thread(_upgrade, url)


def _upgrade(url: str) -> None:
    from alembic import command  # a third of a second to import, and only migrations need it
    from alembic.config import Config

    with resources.as_file(resources.files("migrations")) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["url"] = url
        command.upgrade(config, "head")


def _settings(
    role: Role, application_name: str, statement_timeout_ms: int, party_id: int | None
) -> dict[str, str]:
    settings = {
        "role": role,
        "application_name": application_name,
        "statement_timeout": str(statement_timeout_ms),
        "lock_timeout": str(statement_timeout_ms),
        "idle_in_transaction_session_timeout": str(3 * statement_timeout_ms),
        "timezone": "UTC",
        "jit": "off",  # our queries are short; compiling one costs more than running it
    }
    if party_id is not None:
        settings["exchange.party_id"] = str(party_id)
    return settings


async def _as_it_is(_connection: asyncpg.Connection) -> None:
    """Nothing is undone when a connection is given back, for nothing here leaves a session in
    another state: asyncpg's own clean-up is a round trip after every query, and a post waits for
    it. An open transaction is rolled back before this all the same."""


async def _speak_json(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", format="binary", encoder=_jsonb, decoder=_from_jsonb
    )


def _jsonb(value: Any) -> bytes:
    return _JSONB_VERSION + orjson.dumps(value, default=msgspec.to_builtins)


def _from_jsonb(data: bytes) -> Any:
    return orjson.loads(data[1:])
