"""Changing the market on the real Postgres: plan, apply, live edits, keys, secrets, and the book
that every worker watches."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest

from exchange.core.market_text import base_version
from exchange.core.terms import MarketDoc
from exchange.effects.book import BookStore, Moved, TooManyKeys
from exchange.effects.postgres import Database
from exchange.effects.vault import Vault
from exchange.flows import market
from exchange.flows.market import (
    NotApplied,
    UnknownParty,
    UnknownVersion,
    apply,
    create_key,
    edit,
    export,
    plan,
)

pytestmark = pytest.mark.real

EXAMPLE = (Path(__file__).parents[2] / "examples" / "market.toml").read_text(encoding="utf-8")
AT = datetime(2026, 3, 6, 15, 0, tzinfo=UTC)
SOON_S = 10.0
"""Far longer than anything here takes; a failure ends instead of hanging."""


CLEAN = """
SET session_replication_role = replica;
TRUNCATE market_version, vertical, seller, source, buyer, contract, api_key, secret, switch, audit
    RESTART IDENTITY CASCADE;
DELETE FROM party WHERE id > 1;
"""
"""As the superuser, past the triggers that keep facts: a database per test would take longer."""


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[BookStore]:
    """A market store with nothing in it."""
    superuser = await asyncpg.connect(database_url)
    await superuser.execute(CLEAN)
    await superuser.close()
    database = await Database.open(database_url, role="exchange_app", size=2)
    yield BookStore(database, poll_ms=20)
    await database.close()


async def applied(store: BookStore, text: str = EXAMPLE, mode: market.Mode = "refuse") -> int:
    version, _ = await apply(store, text, by="tester", why="a test", at=AT, mode=mode)
    return version


async def test_a_file_is_planned_then_applied_then_in_the_book(store: BookStore) -> None:
    made = await plan(store, EXAMPLE, at=AT)
    assert made.problems == ()
    assert {change.what for change in made.changes} == {"added"}
    assert (await store.load()).version == 0

    assert await applied(store) == 1

    book = await store.load()
    assert (book.version, len(book.contracts), len(book.buyers), book.refused) == (1, 20, 12, ())
    assert {len(index.contracts) for index in book.indexes.values()} == {8, 7, 5}
    assert min(book.sellers) > 1, "1 is the house"
    assert book.sources[min(book.sellers), "social"].floor_micros == 0


async def test_applying_the_same_again_makes_no_version(store: BookStore) -> None:
    await applied(store)
    version, made = await apply(store, EXAMPLE, by="tester", why="", at=AT)
    assert (version, made.changes) == (1, ())
    assert await applied(store, await export(store)) == 1


async def test_a_plan_shows_when_each_cap_begins_anew(store: BookStore) -> None:
    made = await plan(store, EXAMPLE, at=AT)
    resets = {(each.contract, each.text): each.at for each in made.resets}
    chicago_midnight = datetime(2026, 3, 7, 6, tzinfo=UTC)
    assert resets["acme-auto-west", "6 leads per day"] == chicago_midnight
    assert resets["harbor-mortgage-veterans", "25 leads per total"] is None


async def test_a_file_with_mistakes_changes_nothing(store: BookStore) -> None:
    with pytest.raises(NotApplied) as refused:
        await applied(store, EXAMPLE.replace('currency = "USD"', 'currency = "usd"'))
    assert len(refused.value.plan.problems) == 3
    assert (await store.load()).version == 0


async def test_ids_stay_and_what_a_file_lacks_is_closed(store: BookStore) -> None:
    await applied(store)
    before = await store.load()
    shorter, _, _ = EXAMPLE.partition("[contracts.delta-mortgage]")
    assert await applied(store, shorter) == 2
    after = await store.load()
    closed = [each for each in after.contracts.values() if each.closed]
    assert [(each.key, each.terms.buyer) for each in closed] == [("delta-mortgage", "delta")]
    assert after.contracts[closed[0].id].id == before.contracts[closed[0].id].id
    assert closed[0].id not in {c.id for i in after.indexes.values() for c in i.contracts}
    assert await applied(store) == 3
    again = (await store.load()).contracts[closed[0].id]
    assert (again.closed, again.version) == (False, 3)
    rows = await store._database.fetchval("SELECT count(*) FROM contract_version")
    assert rows == 22, "only what changed is written"


async def test_an_old_version_loads_as_it_was(store: BookStore) -> None:
    await applied(store)
    await applied(store, EXAMPLE.replace("{ leads = 6, per", "{ leads = 9, per"))
    first, second = await store.load_version(1), await store.load_version(2)
    limits = [
        [c.caps[0].limit for c in book.contracts.values() if c.key == "acme-auto-west"]
        for book in (first, second)
    ]
    assert limits == [[6], [9]]


async def test_a_contract_keeps_its_buyer(store: BookStore) -> None:
    await applied(store)
    moved = EXAMPLE.replace(
        '[contracts.beacon-auto]\nbuyer = "beacon"', "[contracts.beacon-auto]\nbuyer = 'acme'"
    )
    with pytest.raises(NotApplied) as refused:
        await applied(store, moved)
    (problem,) = refused.value.plan.problems
    assert problem.path == "contracts.beacon-auto.buyer"


def paused(key: str) -> "market.Callable[[MarketDoc], MarketDoc]":
    """A live edit: the contract paused."""

    def change(doc: MarketDoc) -> MarketDoc:
        contract = msgspec.structs.replace(doc.contracts[key], paused=True)
        return msgspec.structs.replace(doc, contracts={**doc.contracts, key: contract})

    return change


CHANGED = EXAMPLE.replace("{ leads = 6, per", "{ leads = 9, per")


async def live(store: BookStore) -> dict[str, tuple[bool, int]]:
    """Of two contracts: whether paused, and the first cap."""
    book = await store.load()
    known = {each.key: each for each in book.contracts.values()}
    return {
        key: (known[key].terms.paused, known[key].caps[0].limit)
        for key in ("acme-auto-west", "iris-auto")
    }


async def test_a_file_does_not_undo_a_live_edit_unseen(store: BookStore) -> None:
    await applied(store)
    assert await edit(store, paused("iris-auto"), by="op", why="too many doubts") == 2
    with pytest.raises(NotApplied) as refused:
        await applied(store, CHANGED)
    assert [change.key for change in refused.value.plan.live] == ["iris-auto"]

    assert await applied(store, CHANGED, "rebase") == 3
    assert await live(store) == {"acme-auto-west": (False, 9), "iris-auto": (True, 250)}


async def test_a_file_may_win_over_a_live_edit(store: BookStore) -> None:
    await applied(store)
    await edit(store, paused("iris-auto"), by="op", why="")
    await applied(store, CHANGED, "discard_live")
    assert await live(store) == {"acme-auto-west": (False, 9), "iris-auto": (False, 250)}


async def test_a_rebase_that_would_undo_a_live_edit_is_refused(store: BookStore) -> None:
    await applied(store)
    await edit(store, paused("acme-auto-west"), by="op", why="")
    with pytest.raises(NotApplied, match="mistakes") as refused:
        await applied(store, CHANGED, "rebase")
    assert "acme-auto-west" in refused.value.plan.problems[0].message


async def test_an_exported_file_knows_its_base(store: BookStore) -> None:
    await applied(store)
    await edit(store, paused("iris-auto"), by="op", why="")
    text = (await export(store)).replace('{ per = "day", leads = 6 }', '{ per = "day", leads = 9 }')
    assert await applied(store, text) == 3
    assert await live(store) == {"acme-auto-west": (False, 9), "iris-auto": (True, 250)}


async def test_a_version_that_never_was_is_not_exported(store: BookStore) -> None:
    await applied(store)
    await edit(store, paused("iris-auto"), by="op", why="")
    assert base_version(await export(store, version=1)) == 1
    for version in (-1, 0, 3):
        with pytest.raises(UnknownVersion, match=f"there is no version {version}"):
            await export(store, version=version)


async def test_a_live_edit_with_mistakes_is_refused(store: BookStore) -> None:
    await applied(store)
    with pytest.raises(NotApplied):
        await edit(store, lambda doc: msgspec.structs.replace(doc, buyers={}), by="op", why="")
    assert await edit(store, lambda doc: doc, by="op", why="") == 1


async def test_of_two_writers_on_one_base_one_is_refused(store: BookStore) -> None:
    await applied(store)
    edits = [edit(store, paused(key), by="op", why="") for key in ("iris-auto", "falcon-auto")]
    ended = await asyncio.gather(*edits, return_exceptions=True)
    versions = sorted(each for each in ended if isinstance(each, int))
    assert versions == list(range(2, 2 + len(versions)))
    assert all(isinstance(each, int | Moved) for each in ended)
    assert versions


async def test_every_change_is_audited(store: BookStore) -> None:
    await applied(store)
    await edit(store, paused("iris-auto"), by="op", why="")
    await store.switch("buyer", 5, paused=True, by="op", why="on holiday")
    rows = await store._database.fetch("SELECT by, action, subject, detail FROM audit ORDER BY id")
    assert [(row["by"], row["action"], row["subject"]) for row in rows] == [
        ("tester", "market.apply", "version 1"),
        ("op", "market.apply", "version 2"),
        ("op", "switch.pause", "buyer 5"),
    ]
    assert rows[1]["detail"]["changes"] == [
        {"kind": "contract", "key": "iris-auto", "what": "changed"}
    ]


# --- in every worker ------------------------------------------------------------------------------


async def test_two_workers_take_in_a_new_book_by_themselves(store: BookStore) -> None:
    await applied(store)
    watchers = [store.watch(await store.load()) for _ in range(2)]
    waiting = [asyncio.ensure_future(anext(each)) for each in watchers]
    await edit(store, paused("iris-auto"), by="op", why="")
    books = await asyncio.wait_for(asyncio.gather(*waiting), SOON_S)
    fresh = await store.load()
    for book in books:
        assert book.version == 2
        assert [i.paused for i in book.indexes.values()] == [
            i.paused for i in fresh.indexes.values()
        ]
        assert sum(index.paused.bit_count() for index in book.indexes.values()) == 1


async def test_a_switch_a_key_and_a_secret_reach_the_workers_without_a_version(
    store: BookStore, tmp_path: Path
) -> None:
    await applied(store)
    book = await store.load()
    watcher = store.watch(book)

    async def after(change: object) -> object:
        waiting = asyncio.ensure_future(anext(watcher))
        await change  # type: ignore[misc]
        return await asyncio.wait_for(waiting, SOON_S)

    seller = next(iter(book.sellers.values()))
    source = book.sources[seller.id, "social"]
    book = await after(store.switch("source", source.id, paused=True, by="op", why=""))
    assert not book.takes_from(seller, source)
    book = await after(store.switch("source", source.id, paused=False, by="op", why=""))
    assert book.takes_from(seller, source)
    book = await after(create_key(store, "seller", seller.key, by="op", at=AT))
    assert [key.party_id for key in book.keys.values()] == [seller.id]
    vault = Vault.open_file(tmp_path / "master", create=True)
    seal = {"seal_secret": vault.seal_secret, "by": "op"}
    book = await after(market.set_secret(store, "acme", b"whsec_1", **seal))
    await market.set_secret(store, "acme", b"whsec_2", **seal)
    assert await store.secrets(vault.open_secret) == {"acme": b"whsec_2"}
    sealed = await store._database.fetchval("SELECT sealed FROM secret")
    assert b"whsec" not in sealed


async def test_a_buyer_that_moves_takes_its_contracts_along(store: BookStore) -> None:
    await applied(store)
    watcher = store.watch(await store.load())
    waiting = asyncio.ensure_future(anext(watcher))
    await applied(store, EXAMPLE.replace('"America/Phoenix"', '"America/Denver"'))
    book = await asyncio.wait_for(waiting, SOON_S)
    zones = {c.key: c.time_zone for c in book.contracts.values() if c.key.startswith("ember")}
    assert set(zones.values()) == {"America/Denver"}


async def test_a_row_that_cannot_be_read_keeps_nobody_from_loading(store: BookStore) -> None:
    await applied(store)
    async with store._database.transaction() as connection:
        await connection.execute(
            "INSERT INTO market_version (version, toml, source, by) VALUES (2, '', 'api', 'hand')"
        )
        await connection.execute(
            "INSERT INTO contract_version (contract_id, version, market_version, doc)"
            " SELECT id, 2, 2, '{\"colour\": 1}' FROM contract WHERE key = 'iris-auto'"
        )
    book = await store.load()
    (why,) = book.refused
    assert why.startswith("iris-auto: ValidationError")
    assert len(book.contracts) == 19


async def test_a_database_that_is_away_is_asked_again(
    store: BookStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await applied(store)
    book = await store.load()
    ask, faults = store._database.fetchrow, [OSError, TimeoutError, asyncpg.InterfaceError]

    async def fetchrow(sql: str, *args: object) -> object:
        if faults:
            raise faults.pop()("away")
        return await ask(sql, *args)

    monkeypatch.setattr(store._database, "fetchrow", fetchrow)
    await edit(store, paused("iris-auto"), by="op", why="")
    newer = await asyncio.wait_for(anext(store.watch(book)), SOON_S)
    assert (newer.version, store.polls_failed) == (2, 3)


# --- keys -----------------------------------------------------------------------------------------


async def test_a_key_is_shown_once_and_kept_as_a_hash(store: BookStore) -> None:
    await applied(store)
    made = await create_key(store, "seller", "brightleads", by="op", at=AT, days=30)
    prefix, mode, key_id, secret = made.text.split("_")
    assert (prefix, mode, key_id) == ("ex", "live", made.id)
    assert secret not in repr(made)
    assert len(bytes.fromhex(secret)) == 32
    key = (await store.load()).keys[made.id]
    assert key.secret_sha256 == hashlib.sha256(secret.encode()).digest()
    assert key.expires_at == AT + timedelta(days=30)


async def test_at_most_two_keys_of_a_party_and_role_work_at_once(store: BookStore) -> None:
    await applied(store)
    made = [await create_key(store, "buyer", "acme", by="op", at=AT) for _ in range(2)]
    with pytest.raises(TooManyKeys):
        await create_key(store, "buyer", "acme", by="op", at=AT)
    await create_key(store, "buyer", "beacon", by="op", at=AT)
    assert await store.revoke_key(made[0].id, by="op")
    assert not await store.revoke_key(made[0].id, by="op")
    await create_key(store, "buyer", "acme", by="op", at=AT)
    assert made[0].id not in (await store.load()).keys


@pytest.mark.parametrize(
    ("role", "party", "why"),
    [("seller", "nobody", "no seller nobody"), ("operator", "acme", "belongs to no party")],
)
async def test_a_key_for_nobody_is_refused(
    store: BookStore, role: market.Role, party: str, why: str
) -> None:
    with pytest.raises(UnknownParty, match=why):
        await create_key(store, role, party, by="op", at=AT)


async def test_an_operators_key_belongs_to_no_party(store: BookStore) -> None:
    made = await create_key(store, "operator", None, by="op", at=AT)
    assert (await store.load()).keys[made.id].party_id is None


def test_origins_are_replaced_for_a_demo() -> None:
    text = market.substituted(EXAMPLE, {"http://127.0.0.1:9100": "http://127.0.0.1:4321"})
    assert ":9100" not in text
    assert 'ping_url = "http://127.0.0.1:4321/acme/ping"' in text
