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
from msgspec.structs import replace

from exchange.core.book import rows_of
from exchange.core.caps import resets_at
from exchange.core.market import MarketProblem, read_market
from exchange.core.market_text import base_version, market_text
from exchange.core.model import Fact, MarketDoc, Role
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
from exchange.effects.book import BookStore
from exchange.effects.clock import Clock

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
    """What a file would do, or did. `base_version` is the version the file was made from,
    `live_version` the one in force before; `live` is what changed live between the two.

    `version` is the version that says what the file says: the new one after an `apply`, the one in
    force when nothing changes; `None` when nothing was applied, and `problems` say why.
    """

    base_version: int
    live_version: int
    objects: Objects
    problems: tuple[MarketProblem, ...] = ()
    warnings: tuple[MarketProblem, ...] = ()
    changes: tuple[Change, ...] = ()
    live: tuple[Change, ...] = ()
    resets: tuple[Reset, ...] = ()
    version: int | None = None


class UnknownParty(Exception):
    """There is no seller or buyer of this key, or the role belongs to no party."""


class Markets:
    """Every change of the market. `dialects` are those the house speaks, when known: a buyer of
    another one is a mistake then."""

    def __init__(
        self, *, store: BookStore, clock: Clock, dialects: frozenset[str] | None = None
    ) -> None:
        self._store, self._clock, self._dialects = store, clock, dialects

    async def plan(self, text: str, *, mode: Mode = "refuse") -> Plan:
        """What the file would change, with every mistake in it. Writes nothing."""
        live_version, live = await self._store.objects()
        noted = base_version(text)
        based = min(await self._store.file_version() if noted is None else noted, live_version)
        reading = read_market(text, dialects=self._dialects)
        made = Plan(
            base_version=based,
            live_version=live_version,
            objects=live,
            problems=reading.problems,
            warnings=reading.warnings,
        )
        if reading.doc is None:
            return made
        _, base = await self._store.objects(based)
        objects, problems = _wanted(reading.doc, base, live, mode)
        problems += await self._moved(objects)
        return replace(
            made,
            objects=objects,
            problems=problems,
            changes=compared(live, objects),
            live=compared(base, live),
            resets=() if problems else _resets(doc_of(objects), self._clock.now()),
        )

    async def apply(self, text: str, *, by: str, why: str, mode: Mode = "refuse") -> Plan:
        """Put the file in force, whole or not at all: see `Plan`. Raises `Moved` when another
        writer was faster."""
        made = await self.plan(text, mode=mode)
        if made.live and mode == "refuse" and not made.problems:
            made = replace(made, problems=(_refused_for_live(made.live),))
        if made.problems:
            return made
        version = made.live_version
        if made.changes:
            version = await self._store.write(
                made.changes,
                made.objects,
                toml=text,
                source="file",
                by=by,
                why=why,
                base_version=version,
            )
        return replace(made, version=version)

    async def edit(self, change: Callable[[MarketDoc], MarketDoc], *, by: str, why: str) -> Plan:
        """Change the market live: `change` makes the next document of the one in force. Raises
        `Moved` as `apply`."""
        version, live = await self._store.objects()
        doc = change(doc_of(live))
        objects = objects_of(doc)
        made = Plan(
            base_version=version,
            live_version=version,
            objects=objects,
            problems=_unlined(doc) + await self._moved(objects),
            changes=compared(live, objects),
        )
        if made.problems:
            return made
        if made.changes:
            version = await self._store.write(
                made.changes,
                objects,
                toml=market_text(doc),
                source="api",
                by=by,
                why=why,
                base_version=version,
            )
        return replace(made, version=version)

    async def export(self, version: int | None = None) -> str:
        """The market in force (or a version of it) as TOML that `apply` takes back."""
        version, objects = await self._store.objects(version)
        return market_text(doc_of(objects), version=version)

    async def create_key(
        self, role: Role, party_key: str | None = None, *, by: str = "", days: int | None = None
    ) -> str:
        """Make an API key for a seller or buyer (by key), or for operator or finance (no party):
        the text to show once; only its hash is kept. `days`: when it expires.

        Raises `UnknownParty`, and `TooManyKeys` when two of the party and role work already.
        """
        party_id = await self._party_id(role, party_key)
        key_id, secret = secrets.token_hex(6), secrets.token_hex(SECRET_BYTES)
        await self._store.add_key(
            key_id,
            role,
            party_id,
            hashlib.sha256(secret.encode()).digest(),
            by=by,
            expires_at=None if days is None else self._clock.now() + timedelta(days=days),
        )
        return f"ex_live_{key_id}_{secret}"

    async def revoke_key(self, key_id: str, *, by: str) -> bool:
        """End a key, in force within two seconds; `False` when no such key works."""
        return await self._store.revoke_key(key_id, by=by)

    async def set_secret(
        self, name: str, value: bytes, *, seal_secret: Callable[[str, bytes], Any], by: str
    ) -> None:
        """Keep a secret that market files name, sealed by the vault; in force within two
        seconds."""
        await self._store.set_secret(name, seal_secret(name, value), by=by)

    async def _party_id(self, role: Role, party_key: str | None) -> int | None:
        if role in ("operator", "finance"):
            if party_key is not None:
                raise UnknownParty(f"a key for {role} belongs to no party")
            return None
        party_id = await self._store.party_id(role, party_key or "")
        if party_id is None:
            raise UnknownParty(f"there is no {role} {party_key}")
        return party_id

    async def _moved(self, objects: Objects) -> tuple[MarketProblem, ...]:
        moved = moved_contracts(objects, await self._store.identities())
        return tuple(
            MarketProblem(
                path=f"contracts.{key}.{setting}",
                message=f"a contract keeps its {setting}",
                hint="its sales and caps hang on it: give the new one a key of its own",
            )
            for key, setting in moved
        )


def _refused_for_live(live: tuple[Change, ...]) -> MarketProblem:
    names = ", ".join(f"{change.kind} {change.key}" for change in live[:10])
    return MarketProblem(
        path="market",
        message=f"the market was changed live since the file was made: {names}",
        hint="export and make the change there, or apply with --rebase or --discard-live",
    )


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
