"""Alembic's entry: opens one connection, takes one lock, runs the scripts in one transaction.

The connection is asyncpg's own (`async_creator`), so any URL that asyncpg understands works here,
unix sockets included. SQLAlchemy carries the connection and nothing else.
"""

import asyncio
import os

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

LOCK = 7_310_461_102
"""Any fixed number: concurrent upgrades of one database queue up behind it."""


def upgrade(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        context.run_migrations()


async def upgrade_online(url: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), poolclass=NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("Migrations run against a live database only; read migrations/sql/ instead.")
asyncio.run(
    upgrade_online(context.config.attributes.get("url") or os.environ["EXCHANGE_DATABASE_URL"])
)
