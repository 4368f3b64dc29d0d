"""A market document as TOML text: what `exchange export` writes. Reading it back gives an equal
document.

Verticals, buyers, contracts and sellers get a table each; what lies inside stands inline, one line
a setting, as a person would write it.
"""

import json
import re
from decimal import Decimal
from typing import Any

import msgspec

from exchange.core.terms import MarketDoc

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BASE = re.compile(r"^# market version (\d+)\s*$", re.MULTILINE)


def base_version(text: str) -> int | None:
    """The market version a file says it was exported from; `None` when it does not say."""
    found = _BASE.search(text)
    return int(found[1]) if found else None


def market_text(doc: MarketDoc, *, version: int | None = None) -> str:
    """The TOML of a document. `version` is noted in the first line, so that `apply` can tell what
    was changed live since."""
    parts = [] if version is None else [f"# market version {version}\n"]
    for key, vertical in doc.verticals.items():
        parts.append(_table(("verticals", key), vertical, apart=("fields",)))
        parts.append(_lines(("verticals", key, "fields"), _settings(vertical.fields)))
    for key, seller in doc.sellers.items():
        parts.append(_table(("sellers", key), seller, apart=("sources",)))
        if isinstance(seller.sources, dict):
            parts.append(_lines(("sellers", key, "sources"), _settings(seller.sources)))
        elif seller.sources:
            parts.append(f"sources = {_inline(list(seller.sources))}\n")
    parts += [_table(("buyers", key), buyer) for key, buyer in doc.buyers.items()]
    parts += [_table(("contracts", key), contract) for key, contract in doc.contracts.items()]
    return "".join(parts)


def _table(path: tuple[str, ...], terms: msgspec.Struct, apart: tuple[str, ...] = ()) -> str:
    settings = {name: item for name, item in _settings(terms).items() if name not in apart}
    return _lines(path, settings)


def _lines(path: tuple[str, ...], settings: dict[str, Any]) -> str:
    header = ".".join(_key(part) for part in path)
    lines = [f"{_key(name)} = {_inline(item)}" for name, item in settings.items()]
    return "\n".join([f"\n[{header}]", *lines, ""])


def _settings(terms: Any) -> dict[str, Any]:
    """Only what differs from its default. Decimals stay, so that they are written as numbers."""
    settings: dict[str, Any] = msgspec.to_builtins(terms, builtin_types=(Decimal,))
    return settings


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else _text(text)


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return f"[{', '.join(_inline(item) for item in value)}]"


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
