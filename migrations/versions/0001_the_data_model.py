"""The data model, whole: registry, leads, caps, ledger, custody, with its roles and fences."""

from migrations import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql(revision)
