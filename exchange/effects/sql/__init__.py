"""SQL lives in SQL files, by name: `-- name: the_query`, a line of description, the query.

So editors highlight it, `EXPLAIN` takes it as it stands, and reviewers see it.
"""

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def queries(file: str) -> dict[str, str]:
    """The named queries of `exchange/effects/sql/<file>.sql`, in order. Raises
    `FileNotFoundError`."""
    text = (resources.files(__package__) / f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}
