"""How buyers speak. One file per dialect, found by listing this folder: adding one changes nothing
else.

A dialect is a module with the functions of `exchange.dialects.json`: pure and total, they make the
bytes of a call and read any bytes of an answer.
"""

import importlib
import pkgutil
from types import MappingProxyType, ModuleType

PARTS = (
    "ping_prefix",
    "ping_floor",
    "ping_shared",
    "read_bid",
    "post_body",
    "post_headers",
    "read_delivery",
    "read_status",
    "status_query",
)
"""The functions every dialect has."""


def dialects() -> MappingProxyType[str, ModuleType]:
    """Every dialect of this folder by name. Raises `TypeError` for one that lacks a part, so that a
    half-written dialect stops the start and not a ping."""
    found = {
        one.name: importlib.import_module(f"{__name__}.{one.name}")
        for one in pkgutil.iter_modules(__path__)
    }
    for name, dialect in found.items():
        missing = [part for part in PARTS if not callable(getattr(dialect, part, None))]
        if missing:
            raise TypeError(f"the dialect {name} has no {', '.join(missing)}")
    return MappingProxyType(found)
