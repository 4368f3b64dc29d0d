"""Changing the market: plan, apply, export, live edits, API keys, secrets.

A file is compared with the market in force, object by object; only what changed is written, as one
new version. `apply` refuses when someone changed the market live since the file was exported (the
file would undo it unseen), unless told to put its own changes on top (`rebase`) or to let the file
win (`discard_live`).
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from exchange.core.book import rows_of
from exchange.core.caps import resets_at
from exchange.core.market import MarketProblem, read_market
from exchange.core.market_text import base_version, market_text
from exchange.core.model import Fact, Role
from exchange.core.plan import (
    Change,
    Conflict,
    Objects,
    compared,
    doc_of,
    moved_contracts,
    objects_of,
    rebased,
)
from exchange.core.terms import MarketDoc
from exchange.effects.book import BookStore

Mode = Literal["refuse", "rebase", "discard_live"]
SECRET_BYTES = 32
"""An API key's secret: 256 bits cannot be guessed, so one round of SHA-256 keeps it safe."""


class Reset(Fact, frozen=True, kw_only=True):
    """When a cap of an open contract begins anew; `None` for a total."""

    contract: str
    cap: int
    text: str
    at: datetime | None


class Plan(Fact, frozen=True, kw_only=True):
    """What applying a file would do. `base_version` is the version the file was made from,
    `live_version` the one in force: changes live since then are `live` (a plain apply refuses when
    there are any)."""

    base_version: int
    live_version: int
    objects: Objects
    problems: tuple[MarketProblem, ...] = ()
    warnings: tuple[MarketProblem, ...] = ()
    changes: tuple[Change, ...] = ()
    live: tuple[Change, ...] = ()
    resets: tuple[Reset, ...] = ()


class NotApplied(Exception):
    """The market was not changed; `.plan` says why: problems, or live changes the file lacks."""

    def __init__(self, why: str, plan: Plan) -> None:
        super().__init__(why)
        self.plan = plan


class UnknownParty(Exception):
    """There is no seller or buyer of this key."""


class UnknownVersion(Exception):
    """The market never had this version."""


async def plan(
    store: BookStore,
    text: str,
    *,
    at: datetime,
    mode: Mode = "refuse",
    dialects: frozenset[str] | None = None,
) -> Plan:
    """What the file would change, with every mistake in it. Writes nothing."""
    live_version, live = await store.objects()
    noted = base_version(text)
    based = min(await store.file_version() if noted is None else noted, live_version)
    reading = read_market(text, dialects=dialects)
    if reading.doc is None:
        return Plan(
            base_version=based,
            live_version=live_version,
            objects=live,
            problems=reading.problems,
            warnings=reading.warnings,
        )
    _, base = await store.objects(based)
    objects, problems = _wanted(reading.doc, base, live, mode)
    problems += await _moved(store, objects)
    return Plan(
        base_version=based,
        live_version=live_version,
        problems=problems,
        warnings=reading.warnings,
        changes=compared(live, objects),
        live=compared(base, live),
        resets=_resets(doc_of(objects), at) if not problems else (),
        objects=objects,
    )


async def apply(
    store: BookStore,
    text: str,
    *,
    by: str,
    why: str,
    at: datetime,
    mode: Mode = "refuse",
    dialects: frozenset[str] | None = None,
) -> tuple[int, Plan]:
    """Put the file in force: the new version (the old one when nothing changes) and what was done.
    Raises `NotApplied`, and `Moved` when another writer was faster."""
    made = await plan(store, text, at=at, mode=mode, dialects=dialects)
    if made.problems:
        raise NotApplied("the file has mistakes", made)
    if made.live and mode == "refuse":
        raise NotApplied("the market was changed live since the file was made", made)
    if not made.changes:
        return made.live_version, made
    version = await store.write(
        made.changes,
        made.objects,
        toml=text,
        source="file",
        by=by,
        why=why,
        base_version=made.live_version,
    )
    return version, made


async def edit(
    store: BookStore, change: Callable[[MarketDoc], MarketDoc], *, by: str, why: str
) -> int:
    """Change the market live: `change` makes the next document of the one in force. Returns the
    version. Raises `NotApplied` when the new document has mistakes, `Moved` as `apply`."""
    version, live = await store.objects()
    doc = change(doc_of(live))
    objects = objects_of(doc)
    problems = _unlined(doc) + await _moved(store, objects)
    changes = compared(live, objects)
    if problems:
        made = Plan(base_version=version, live_version=version, objects=objects, problems=problems)
        raise NotApplied("the change has mistakes", made)
    if not changes:
        return version
    return await store.write(
        changes,
        objects,
        toml=market_text(doc),
        source="api",
        by=by,
        why=why,
        base_version=version,
    )


async def export(store: BookStore, *, version: int | None = None) -> str:
    """The market in force (or a version of it) as TOML that `apply` takes back. Raises
    `UnknownVersion`."""
    newest, objects = await store.objects()
    wanted = newest if version is None else version
    if wanted != newest:
        if not 0 < wanted < newest:
            raise UnknownVersion(f"there is no version {wanted}; the newest is {newest}")
        _, objects = await store.objects(wanted)
    return market_text(doc_of(objects), version=wanted)


def substituted(text: str, origins: Mapping[str, str]) -> str:
    """The file with buyers' origins replaced (`http://127.0.0.1:9100` -> where they listen)."""
    for old, new in origins.items():
        text = text.replace(old, new)
    return text


def _wanted(
    doc: MarketDoc, base: Objects, live: Objects, mode: Mode
) -> tuple[Objects, tuple[MarketProblem, ...]]:
    """The market the file asks for; with `rebase`, its changes on top of the live ones."""
    if mode != "rebase":
        return objects_of(doc), ()
    try:
        objects = rebased(base, live, objects_of(doc))
        merged = doc_of(objects)
    except Conflict as torn:
        hint = "export the market and make the change there, or --discard-live"
        return objects_of(doc), (MarketProblem(path="rebase", message=str(torn), hint=hint),)
    except (KeyError, msgspec.ValidationError):
        message = "the file's changes do not fit on the live market"
        return objects_of(doc), (MarketProblem(path="rebase", message=message),)
    return objects, _unlined(merged)


def _unlined(doc: MarketDoc) -> tuple[MarketProblem, ...]:
    """The mistakes of a document that stands in no file."""
    return read_market(market_text(doc)).problems


async def _moved(store: BookStore, objects: Objects) -> tuple[MarketProblem, ...]:
    moved = moved_contracts(objects, await store.identities())
    return tuple(
        MarketProblem(
            path=f"contracts.{key}.{setting}",
            message=f"a contract keeps its {setting}",
            hint="its sales and caps hang on it: give the new one a key of its own",
        )
        for key, setting in moved
    )


def _resets(doc: MarketDoc, at: datetime) -> tuple[Reset, ...]:
    return tuple(
        Reset(
            contract=contract.key,
            cap=cap.index,
            text=_cap_text(contract.terms.caps[cap.index]),
            at=resets_at(cap, at, contract.time_zone),
        )
        for contract in rows_of(doc).contracts
        for cap in contract.caps
    )


def _cap_text(terms: Any) -> str:
    amount = f"{terms.leads} leads" if terms.leads is not None else f"{terms.money}"
    return f"{amount} per {terms.per}" + (f", each {terms.each}" if terms.each else "")


# --- keys and secrets -----------------------------------------------------------------------------


class NewKey(Fact, frozen=True, kw_only=True):
    """A fresh API key. `text` is shown once and kept nowhere."""

    id: str
    text: str

    def __repr__(self) -> str:
        return f"NewKey({self.id})"

    __str__ = __repr__


async def create_key(
    store: BookStore,
    role: Role,
    party_key: str | None,
    *,
    by: str,
    at: datetime,
    days: int | None = None,
) -> NewKey:
    """Make an API key for a seller or buyer (by key), or for operator or finance (no party).
    `days`: when it expires. Raises `UnknownParty`, and `TooManyKeys` when two work already."""
    party_id: int | None = None
    if role in ("seller", "buyer"):
        party_id = await store.party_id(role, party_key or "")
        if party_id is None:
            raise UnknownParty(f"there is no {role} {party_key}")
    elif party_key is not None:
        raise UnknownParty(f"a key for {role} belongs to no party")
    key_id, secret = secrets.token_hex(6), secrets.token_hex(SECRET_BYTES)
    await store.add_key(
        key_id,
        role,
        party_id,
        hashlib.sha256(secret.encode()).digest(),
        by=by,
        expires_at=None if days is None else at + timedelta(days=days),
    )
    return NewKey(id=key_id, text=f"ex_live_{key_id}_{secret}")


async def set_secret(
    store: BookStore,
    name: str,
    value: bytes,
    *,
    seal_secret: Callable[[str, bytes], Any],
    by: str,
) -> None:
    """Keep a secret that market files name: sealed by the vault, in force within two seconds."""
    await store.set_secret(name, seal_secret(name, value), by=by)
