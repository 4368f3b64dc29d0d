"""What changes from one market document to the next: for `exchange plan`, for the store (only what
changed is written), and for a rebase.

Objects are compared by key; a seller's sources are objects of their own. An object that a document
no longer has is *closed*: what was sold under it keeps its terms.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from exchange.core.book import source_terms
from exchange.core.model import Fact
from exchange.core.terms import MarketDoc

Kind = Literal["vertical", "seller", "source", "buyer", "contract"]
KINDS: Final[tuple[Kind, ...]] = ("vertical", "seller", "source", "buyer", "contract")
"""In the order in which they lean on one another."""
Objects = dict[tuple[Kind, str], dict[str, Any]]
"""`(kind, key)` -> the object's terms in JSON form. A source's key is `seller/source`."""


class Setting(Fact, frozen=True, kw_only=True):
    """One setting that changes; `None` stands for its default or absence."""

    path: str
    old: Any = None
    new: Any = None


class Change(Fact, frozen=True, kw_only=True):
    """One object that is added, changed (setting by setting) or closed."""

    kind: Kind
    key: str
    what: Literal["added", "changed", "closed"]
    settings: tuple[Setting, ...] = ()


class Conflict(Exception):
    """A rebase met objects that were changed on both sides; `.keys` names them."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__("changed in the file and live: " + ", ".join(keys))
        self.keys = keys


def objects_of(doc: MarketDoc) -> Objects:
    """Every object of a document by kind and key."""
    objects: Objects = {("vertical", key): _json(terms) for key, terms in doc.verticals.items()}
    for key, seller in doc.sellers.items():
        terms = _json(seller)
        terms.pop("sources", None)
        objects["seller", key] = terms
        for name, source in source_terms(seller).items():
            objects["source", f"{key}/{name}"] = _json(source)
    objects |= {("buyer", key): _json(terms) for key, terms in doc.buyers.items()}
    objects |= {("contract", key): _json(terms) for key, terms in doc.contracts.items()}
    return objects


def doc_of(objects: Objects) -> MarketDoc:
    """The document made of these objects. Raises `msgspec.ValidationError`."""
    sections: dict[str, dict[str, Any]] = {f"{kind}s": {} for kind in KINDS if kind != "source"}
    for (kind, key), terms in objects.items():
        if kind != "source":
            sections[f"{kind}s"][key] = dict(terms)
    for (kind, key), terms in objects.items():
        if kind == "source":
            seller, _, name = key.partition("/")
            sections["sellers"][seller].setdefault("sources", {})[name] = terms
    return msgspec.convert(sections, MarketDoc)


def compared(old: Objects, new: Objects) -> tuple[Change, ...]:
    """What changes, by kind in the order of `KINDS`, then by key."""
    changes = []
    for kind, key in sorted({*old, *new}, key=lambda item: (KINDS.index(item[0]), item[1])):
        before, after = old.get((kind, key)), new.get((kind, key))
        if before is None:
            changes.append(Change(kind=kind, key=key, what="added", settings=_settings({}, after)))
        elif after is None:
            changes.append(Change(kind=kind, key=key, what="closed"))
        elif before != after:
            settings = _settings(before, after)
            changes.append(Change(kind=kind, key=key, what="changed", settings=settings))
    return tuple(changes)


def rebased(base: Objects, live: Objects, file: Objects) -> Objects:
    """The live market with the file's own changes since `base` put on top. Raises `Conflict` when
    both changed an object, and not to the same."""
    merged, torn = dict(live), []
    for item in {*base, *file}:
        if file.get(item) == base.get(item):
            continue
        if live.get(item) not in (base.get(item), file.get(item)):
            torn.append(" ".join(item))
        elif item in file:
            merged[item] = file[item]
        else:
            merged.pop(item, None)
    if torn:
        raise Conflict(tuple(sorted(torn)))
    return merged


def moved_contracts(
    objects: Objects, identities: Mapping[str, tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """Contracts that would change their buyer or vertical, with what they would change: those are
    what a contract *is* (its sales, caps and statements hang on it), so it needs a new key."""
    moved = []
    for (kind, key), terms in objects.items():
        if kind == "contract" and key in identities:
            buyer, vertical = identities[key]
            if terms["buyer"] != buyer:
                moved.append((key, "buyer"))
            if terms["vertical"] != vertical:
                moved.append((key, "vertical"))
    return tuple(moved)


def _json(terms: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(terms))  # as the store has it
    return plain


def _settings(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> tuple[Setting, ...]:
    before, after = _flat(old), _flat(new or {})
    return tuple(
        Setting(path=path, old=before.get(path), new=after.get(path))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    )


def _flat(terms: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Tables unfolded to dotted paths; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in terms.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = value
    return flat
