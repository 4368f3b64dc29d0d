"""The data model's history: plain SQL, forward only. A revision's script runs the files
`sql/<revision>_*.sql` in the order of their names.
"""

from pathlib import Path
from typing import Any

from alembic import op

SQL = Path(__file__).parent / "sql"


def run_sql(revision: str) -> None:
    """Runs the SQL files of a revision inside Alembic's transaction. They hold many statements,
    so they go to asyncpg's own connection, which takes a script as it stands."""
    files = sorted(SQL.glob(f"{revision}_*.sql"))
    if not files:
        raise FileNotFoundError(f"revision {revision} has no SQL in {SQL}")
    connection: Any = op.get_bind().connection.dbapi_connection
    for file in files:
        script = file.read_text(encoding="utf-8")
        connection.run_async(lambda driver, script=script: driver.execute(script))
