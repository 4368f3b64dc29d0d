"""Lua scripts, one file each; EVALSHA names them by content, so two versions of the exchange
coexist."""

import re
from importlib import resources

_INCLUDE = re.compile(r"^-- include (\w+)$", re.MULTILINE)


def script(name: str) -> str:
    """The text of `exchange/effects/lua/<name>.lua`, with the files that it includes by a line
    `-- include <other>`. Raises `FileNotFoundError`."""
    return _INCLUDE.sub(lambda line: _text(line[1]), _text(name))


def _text(name: str) -> str:
    return (resources.files(__package__) / f"{name}.lua").read_text(encoding="utf-8")
