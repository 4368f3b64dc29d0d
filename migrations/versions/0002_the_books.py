"""The books that close: payments, documents, periods, rollups, incidents, saved reconciliations."""

from migrations import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql(revision)
