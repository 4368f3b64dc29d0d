"""Caps on the real Valkey and Postgres: exactly as many as the limit, whatever is told twice, late
or never; and closed, not wrong, when Valkey forgets."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
import uuid_utils

from exchange.core.caps import Window
from exchange.effects.caps import Caps, Full, Rebuilt, Reserved, Unreadable
from exchange.effects.clock import Clock
from exchange.effects.postgres import Database
from exchange.effects.valkey import Valkey

pytestmark = pytest.mark.real

DAY = f"7.0.d{datetime.now(UTC):%Y-%m-%d}"
MONTH = f"7.1.m{datetime.now(UTC):%Y-%m}"
TOTAL = "7.0.t"
LONG_MS = 600_000
NOW_MS = 0
"""A hold that expires at once: no test waits for time to pass."""
BUYERS = count(1_000)


def new_id() -> str:
    return str(uuid_utils.uuid7())


def window(limit: int = 5, *, win: str = DAY, amount: int = 1) -> Window:
    return Window(win=win, limit=limit, amount=amount, cap_index=0)


def lead(limit: int = 5) -> tuple[Window, ...]:
    return (window(limit),)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url, role="exchange_app", size=4)
    yield database
    await database.close()


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Valkey]:
    valkey = await opened(valkey_url)
    yield valkey
    await valkey.close()


@pytest.fixture
async def caps(valkey: Valkey, database: Database) -> AsyncIterator[Caps]:
    caps = Caps(valkey, database, Clock(), retell_ms=1)
    yield caps
    await caps.close()


@pytest.fixture
async def buyer(rows) -> int:
    """A buyer of its own for each test: what Postgres counts is that test's alone."""
    return await added_buyer(rows)


async def added_buyer(rows) -> int:
    buyer_id = next(BUYERS)
    await rows.add("party", id=buyer_id, kind="buyer", key=f"b{buyer_id}")
    await rows.add("buyer", id=buyer_id, key=f"b{buyer_id}")
    return buyer_id


async def opened(url: str, *, timeout_ms: int = 5_000) -> Valkey:
    return await Valkey.open(
        url, queue_max=10_000, timeout_ms=timeout_ms, backoff_ms=(1, 20), jitter=lambda: 0.0
    )


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  # what is waited for has no event
        await asyncio.sleep(0)


async def attempt(rows, buyer_id: int, state: str, *windows: Window, **given) -> str:
    row = await rows.add(
        "attempt",
        buyer_id=buyer_id,
        state=state,
        windows=[[one.win, one.limit, one.amount] for one in windows],
        **{"cap_mode": "fast", **given},
    )
    return row["attempt_id"]


# --- room -----------------------------------------------------------------------------------------


async def test_400_racing_tasks_on_a_cap_of_37_get_exactly_37(caps, buyer):
    async def post() -> bool:
        token = new_id()
        if not isinstance(await caps.reserve(buyer, token, lead(37), LONG_MS), Reserved):
            return False
        return await caps.commit(buyer, token, lead(37))

    sold = await asyncio.gather(*(post() for _ in range(400)))
    assert sum(sold) == 37
    assert await caps.used(buyer, [DAY]) == {DAY: (37, 0)}
    assert caps.rebuilds == 1  # the first use of a buyer loads it


async def test_two_processes_racing_on_a_cap_of_37_get_exactly_37(
    caps, buyer, valkey_url, database_url
):
    racer = [sys.executable, str(Path(__file__).with_name("caps_racer.py"))]
    arguments = [valkey_url, database_url, str(buyer), DAY, "37", "200"]
    racers = [
        await asyncio.create_subprocess_exec(
            *racer, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    for one in racers:
        assert await one.stdout.readline() == b"ready\n"
    for one in racers:
        one.stdin.write(b"go\n")
    told = [(await one.communicate())[0].split() for one in racers]
    won = [int(words[0]) for words in told]
    assert sum(won) == 37, won
    assert [one.returncode for one in racers] == [0, 0]
    assert await caps.used(buyer, [DAY]) == {DAY: (37, 0)}


async def test_room_is_held_in_every_window_or_in_none(caps, buyer):
    day, month = window(5), window(30_000_000, win=MONTH, amount=20_000_000)
    assert isinstance(await caps.reserve(buyer, new_id(), (day, month), LONG_MS), Reserved)
    assert await caps.reserve(buyer, new_id(), (day, month), LONG_MS) == Full(win=MONTH)
    assert await caps.used(buyer, [DAY, MONTH]) == {DAY: (0, 1), MONTH: (0, 20_000_000)}


async def test_the_limit_of_each_call_holds_and_an_edited_cap_keeps_its_counter(caps, buyer):
    for _ in range(3):
        assert isinstance(await caps.reserve(buyer, new_id(), lead(3), LONG_MS), Reserved)
    assert await caps.reserve(buyer, new_id(), lead(3), LONG_MS) == Full(win=DAY)
    assert isinstance(await caps.reserve(buyer, new_id(), lead(4), LONG_MS), Reserved)
    assert await caps.reserve(buyer, new_id(), lead(2), LONG_MS) == Full(win=DAY)


async def test_money_is_counted_exactly_up_to_the_last_micro(caps, buyer):
    most = 2**53 - 1
    whole = (window(most, win=MONTH, amount=most - 1),)
    assert isinstance(await caps.reserve(buyer, new_id(), whole, LONG_MS), Reserved)
    rest = (window(most, win=MONTH, amount=1),)
    assert isinstance(await caps.reserve(buyer, new_id(), rest, LONG_MS), Reserved)
    assert await caps.reserve(buyer, new_id(), rest, LONG_MS) == Full(win=MONTH)
    assert await caps.used(buyer, [MONTH]) == {MONTH: (0, most)}


async def test_a_commit_counts_the_actual_amount(caps, buyer):
    token = new_id()
    await caps.reserve(buyer, token, (window(100, win=MONTH, amount=90),), LONG_MS)
    assert await caps.commit(buyer, token, (window(100, win=MONTH, amount=60),))
    assert await caps.used(buyer, [MONTH]) == {MONTH: (60, 0)}


async def test_the_sequence_only_grows(caps, buyer):
    seen = []
    for _ in range(3):
        reserved = await caps.reserve(buyer, new_id(), lead(), LONG_MS)
        seen.append(reserved.sq)
        assert await caps.release(buyer, new_id())
    assert seen == sorted(set(seen))


# --- told twice, late, early, never ---------------------------------------------------------------


async def test_everything_told_twice_counts_once(caps, buyer):
    sold, unsold = new_id(), new_id()
    for _ in range(2):
        assert isinstance(await caps.reserve(buyer, sold, lead(), LONG_MS), Reserved)
        assert isinstance(await caps.reserve(buyer, unsold, lead(), LONG_MS), Reserved)
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 2)}
    for _ in range(2):
        assert await caps.commit(buyer, sold, lead())
        assert await caps.release(buyer, unsold)
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 0)}
    for _ in range(2):
        assert await caps.undo(buyer, sold, lead())
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 0)}


async def test_a_hold_past_its_time_gives_its_room_back(caps, buyer):
    assert isinstance(await caps.reserve(buyer, new_id(), lead(1), NOW_MS), Reserved)
    assert isinstance(await caps.reserve(buyer, new_id(), lead(1), LONG_MS), Reserved)
    assert await caps.reserve(buyer, new_id(), lead(1), LONG_MS) == Full(win=DAY)


async def test_reading_sweeps_too_for_a_full_contract_is_not_asked_any_more(caps, buyer):
    for _ in range(70):
        await caps.reserve(buyer, new_id(), (window(70), window(70, win=TOTAL)), NOW_MS)
    await caps.used(buyer, [DAY])
    await caps.used(buyer, [DAY])
    assert await caps.used(buyer, [DAY, TOTAL]) == {DAY: (0, 0), TOTAL: (0, 0)}


async def test_a_late_commit_counts_although_its_hold_had_expired(caps, buyer):
    token = new_id()
    await caps.reserve(buyer, token, lead(1), NOW_MS)
    other = new_id()
    await caps.reserve(buyer, other, lead(1), LONG_MS)
    assert await caps.commit(buyer, token, lead(1))
    assert await caps.commit(buyer, other, lead(1))
    assert await caps.used(buyer, [DAY]) == {DAY: (2, 0)}


async def test_a_kept_hold_never_expires_and_can_still_be_settled(caps, buyer):
    kept, other = new_id(), new_id()
    await caps.reserve(buyer, kept, lead(2), NOW_MS)
    assert await caps.keep(buyer, kept)
    await caps.reserve(buyer, other, lead(2), NOW_MS)
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 1)}
    assert await caps.release(buyer, kept)
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 0)}


async def test_a_release_before_its_delayed_reserve_leaves_no_hold_behind(caps, buyer):
    token = new_id()
    assert await caps.release(buyer, token)
    assert isinstance(await caps.reserve(buyer, token, lead(), LONG_MS), Unreadable)
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 0)}


async def test_a_sale_told_after_a_release_counts_for_it_is_a_fact(caps, buyer):
    token = new_id()
    await caps.reserve(buyer, token, lead(), LONG_MS)
    await caps.release(buyer, token)
    assert await caps.commit(buyer, token, lead())
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 0)}


async def test_an_undo_that_overtakes_its_commit_gives_back_the_hold_alone(caps, buyer):
    other, token = new_id(), new_id()
    await caps.commit(buyer, other, lead())
    await caps.reserve(buyer, token, lead(), LONG_MS)
    assert await caps.undo(buyer, token, lead())
    assert await caps.commit(buyer, token, lead())
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 0)}


async def test_an_undo_of_what_is_not_counted_never_makes_room_of_nothing(caps, buyer):
    assert await caps.undo(buyer, new_id(), lead())
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 0)}
    await caps.commit(buyer, new_id(), (window(amount=1, win=MONTH),))
    await caps.undo(buyer, new_id(), (window(amount=7, win=MONTH),))
    assert await caps.used(buyer, [MONTH]) == {MONTH: (0, 0)}


async def test_a_commit_of_a_window_long_over_leaves_nothing_behind(caps, buyer):
    long_ago = "7.0.d2020-02-29"
    assert await caps.commit(buyer, new_id(), (window(win=long_ago),))
    assert await caps.counters(buyer) == {}


async def test_every_key_expires_and_every_counter_of_a_period(caps, valkey, buyer):
    sold, kept = new_id(), new_id()
    for token in (sold, kept):
        await caps.reserve(buyer, token, (window(), window(win=TOTAL)), LONG_MS)
    await caps.commit(buyer, sold, (window(), window(win=TOTAL)))
    await caps.keep(buyer, kept)
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    keys = [key.decode() for key in await valkey.call("", "KEYS", "*")]
    assert len(keys) == 4
    for key in keys:
        assert await valkey.call(key, "PTTL", key) > 0
    fields = [f"u:{DAY}", f"h:{DAY}", f"u:{TOTAL}"]
    slot = f"{{b:{buyer}}}:c"
    day_used, day_held, total = await valkey.call(slot, "HPTTL", slot, "FIELDS", 3, *fields)
    two_days_ms = 2 * 86_400_000
    assert two_days_ms < day_used <= two_days_ms + 36 * 3_600_000
    assert abs(day_held - day_used) <= 1
    assert total == -1


# --- when Valkey forgets --------------------------------------------------------------------------


async def test_a_flushed_valkey_is_loaded_from_postgres_before_anything_is_sold(
    caps, valkey, rows, buyer
):
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    for state in ("sold", "sold", "unknown", "posting"):
        await attempt(rows, buyer, state, window())
    await attempt(rows, buyer, "rejected", window())
    await attempt(rows, buyer, "sold", window(), test=True)
    await valkey.call("", "FLUSHALL")
    assert isinstance(await caps.reserve(buyer, new_id(), lead(5), LONG_MS), Reserved)
    assert await caps.reserve(buyer, new_id(), lead(5), LONG_MS) == Full(win=DAY)
    assert await caps.counters(buyer) == {DAY: (2, 3)}
    assert await caps.booked(buyer) == {DAY: (2, 2)}  # the last reserve has no INTENT yet


async def test_holds_loaded_from_postgres_stay_until_their_attempts_end(caps, valkey, rows, buyer):
    tokens = [await attempt(rows, buyer, state, window()) for state in ("unknown", "posting")]
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 2)}
    assert await caps.commit(buyer, tokens[0], lead())
    assert await caps.release(buyer, tokens[1])
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 0)}


async def test_a_restarted_valkey_begins_a_new_generation(caps, valkey, rows, buyer, servers):
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    await attempt(rows, buyer, "sold", window())
    servers.restart("valkey")
    await until(lambda: not valkey.up)
    await until(lambda: valkey.up)
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    assert caps.rebuilds == 2
    # The hold that was not in Postgres came back with the append-only file, and was carried over.
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 2)}


async def test_an_older_state_betrays_itself_by_its_sequence(caps, valkey, rows, buyer):
    slot = f"{{b:{buyer}}}:c"
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    older = await valkey.call(slot, "DUMP", slot)
    for _ in range(3):
        token = await attempt(rows, buyer, "sold", window())
        await caps.reserve(buyer, token, lead(), LONG_MS)
        await caps.commit(buyer, token, lead())
    await valkey.call(slot, "RESTORE", slot, 0, older, "REPLACE")
    before = caps.rebuilds
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    assert caps.rebuilds == before + 1
    assert await caps.used(buyer, [DAY]) == {DAY: (3, 2)}


async def test_a_sale_that_was_counted_by_a_rebuild_is_not_counted_again(caps, rows, buyer):
    token = await attempt(rows, buyer, "sold", window())
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 0)}
    assert await caps.commit(buyer, token, lead())
    assert await caps.used(buyer, [DAY]) == {DAY: (1, 0)}
    assert await caps.undo(buyer, token, lead())
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 0)}


async def test_a_hold_on_its_way_to_postgres_survives_a_rebuild(caps, buyer):
    running, expired = new_id(), new_id()
    await caps.reserve(buyer, running, lead(), LONG_MS)
    await caps.reserve(buyer, expired, lead(), NOW_MS)
    assert isinstance(await caps.rebuild(buyer), Rebuilt)
    assert await caps.counters(buyer) == {DAY: (0, 1)}
    assert await caps.commit(buyer, running, lead())
    assert await caps.counters(buyer) == {DAY: (1, 0)}


async def test_a_sale_whose_hold_is_still_there_is_counted_once_by_a_rebuild(caps, rows, buyer):
    token = new_id()
    await caps.reserve(buyer, token, lead(), LONG_MS)
    await attempt(rows, buyer, "sold", window(), attempt_id=token)
    await caps.rebuild(buyer)
    assert await caps.counters(buyer) == {DAY: (1, 0)}
    assert await caps.commit(buyer, token, lead())
    assert await caps.counters(buyer) == {DAY: (1, 0)}


async def test_a_doubt_whose_hold_had_expired_is_held_again_from_postgres(caps, rows, buyer):
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    token = await attempt(rows, buyer, "unknown", window())
    assert await caps.keep(buyer, token)
    assert await caps.counters(buyer) == {DAY: (0, 2)}


async def test_the_fence_of_strict_caps_counts_where_it_has_more(caps, rows, buyer):
    await rows.add("cap_window", buyer_id=buyer, win=DAY, used=4)
    await attempt(rows, buyer, "sold", window(), cap_mode="strict")
    await attempt(rows, buyer, "posting", window(), cap_mode="strict")
    assert await caps.counters(buyer) == {DAY: (3, 1)}


async def test_an_undone_sale_is_not_counted_by_a_rebuild(caps, rows, buyer):
    await attempt(rows, buyer, "sold", window())
    undone = await attempt(rows, buyer, "sold", window())
    await rows.add("cap_claim", buyer_id=buyer, win=DAY, attempt_id=undone, state="released")
    assert await caps.counters(buyer) == {DAY: (1, 0)}
    assert await caps.undo(buyer, undone, lead())
    assert await caps.counters(buyer) == {DAY: (1, 0)}


async def test_totals_count_sales_older_than_any_month(caps, rows, buyer):
    await rows.add("vertical", id=buyer, key=f"v{buyer}")
    await rows.add("contract", id=buyer, key=f"c{buyer}", buyer_id=buyer, vertical_id=buyer)
    await rows.add("market_version", version=buyer, toml="", source="file", by="test")
    old = datetime(2026, 1, 1, tzinfo=UTC)
    await attempt(rows, buyer, "sold", window(win=TOTAL), created_at=old)
    assert await caps.counters(buyer) == {}
    await rows.add(
        "contract_version",
        contract_id=buyer,
        version=1,
        market_version=buyer,
        doc={"caps": [{"leads": 5, "per": "total"}]},
    )
    await caps.rebuild(buyer)
    assert await caps.counters(buyer) == {TOTAL: (1, 0)}


async def test_thousands_of_segments_are_loaded(caps, rows, buyer):
    wins = [f"{n}.{DAY[2:]}" for n in range(1_200)]
    for start in range(0, 1_200, 400):
        part = [window(win=win) for win in wins[start : start + 400]]
        await attempt(rows, buyer, "sold", *part)
    counters = await caps.counters(buyer)
    assert counters == dict.fromkeys(wins, (1, 0))


# --- one rebuilder, the others wait --------------------------------------------------------------


async def test_of_two_processes_one_rebuilds_and_the_other_takes_over(
    caps, valkey, valkey_url, database, buyer
):
    other_valkey = await opened(valkey_url)
    other = Caps(other_valkey, database, Clock())
    results = await asyncio.gather(
        *(one.reserve(buyer, new_id(), lead(37), LONG_MS) for one in (caps, other) * 50)
    )
    assert sum(isinstance(one, Reserved) for one in results) == 37
    assert caps.rebuilds + other.rebuilds == 1
    await other.rebuild(buyer)
    assert await caps.used(buyer, [DAY]) == {DAY: (0, 37)}
    assert caps.rebuilds + other.rebuilds == 2
    await other.close()
    await other_valkey.close()


async def test_while_another_rebuilds_a_buyer_is_closed_a_bounded_time(
    valkey, database, buyer, app, rows
):
    caps = Caps(valkey, database, Clock(), wait_ms=50)
    await app.execute("INSERT INTO cap_generation (buyer_id) VALUES ($1)", buyer)
    elected = app.transaction()
    await elected.start()
    await app.execute("SELECT FROM cap_generation WHERE buyer_id = $1 FOR UPDATE", buyer)
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Unreadable)
    other = await added_buyer_outside(database)
    assert isinstance(await caps.reserve(other, new_id(), lead(), LONG_MS), Reserved)
    await elected.rollback()
    await until(lambda: not caps._rebuilds)
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    await caps.close()


async def added_buyer_outside(database: Database) -> int:
    buyer_id = next(BUYERS)
    await database.execute(
        "INSERT INTO party (id, kind, key) VALUES ($1, 'buyer', $2)", buyer_id, f"b{buyer_id}"
    )
    await database.execute("INSERT INTO buyer (id, key) VALUES ($1, $2)", buyer_id, f"b{buyer_id}")
    return buyer_id


async def test_the_late_calls_of_an_older_rebuild_are_refused(caps, valkey, buyer):
    await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    keys = [f"{{b:{buyer}}}:{part}" for part in "chx"]
    assert (await valkey.script("restore", keys, ("begin", "older", 0)))[0] == b"OK"
    assert (await valkey.script("restore", keys, ("begin", "newer", 0)))[0] == b"OK"
    for late in (("load", "older", "used", DAY, "9@0"), ("open", "older", 1, 1_000)):
        assert await valkey.script("restore", keys, late) == [b"STALE"]
    # Nobody opened it: the buyer is closed until the next rebuild.
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    assert caps.rebuilds == 2


async def test_sales_during_which_valkey_is_flushed_end_with_both_counting_the_same(
    caps, valkey, rows, buyer, database
):
    """Beyond the limit at most those posts that were between reserve and INTENT at the flush."""
    limit, between, at_flush = 37, set(), []

    async def post(number: int) -> bool:
        token = new_id()
        if number == 60:
            await valkey.call("", "FLUSHALL")
            at_flush.append(len(between))
        if not isinstance(await caps.reserve(buyer, token, lead(limit), LONG_MS), Reserved):
            return False
        between.add(token)
        async with writing:
            await attempt(rows, buyer, "sold", window(limit), attempt_id=token)
        between.discard(token)
        return await caps.commit(buyer, token, lead(limit))

    writing = asyncio.Lock()
    sold = []
    for start in range(0, 120, 20):
        sold += await asyncio.gather(*(post(start + n) for n in range(20)))
    assert 37 <= sum(sold) <= 37 + at_flush[0]
    assert await caps.counters(buyer) == await caps.booked(buyer) == {DAY: (sum(sold), 0)}


# --- when a server is away -----------------------------------------------------------------------


async def test_without_valkey_nothing_is_sold_and_what_happened_is_told_afterwards(
    caps, valkey, rows, buyer, servers
):
    sold, unsold = [await attempt(rows, buyer, "posting", window()) for _ in range(2)]
    for token in (sold, unsold):
        await caps.reserve(buyer, token, lead(), LONG_MS)
    servers.kill("valkey")
    try:
        await until(lambda: not valkey.up)
        assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Unreadable)
        assert not await caps.commit(buyer, sold, lead())
        assert not await caps.release(buyer, unsold)
        assert await caps.used(buyer, [DAY]) == {}
        assert isinstance(await caps.counters(buyer), Unreadable)
        assert isinstance(await caps.rebuild(buyer), Unreadable)
        assert caps.untold == 2
    finally:
        servers.restart("valkey")
    await until(lambda: not caps.untold)
    assert await caps.counters(buyer) == {DAY: (1, 0)}


async def test_a_reserve_without_an_answer_is_released_when_valkey_hears_again(
    valkey_url, database, buyer, servers
):
    valkey = await opened(valkey_url, timeout_ms=300)
    caps = Caps(valkey, database, Clock(), retell_ms=1)
    await caps.reserve(buyer, new_id(), lead(), NOW_MS)  # the server knows the script from here on
    servers.kill("valkey", signal.SIGSTOP)
    try:
        answer = await caps.reserve(buyer, new_id(), lead(), LONG_MS)
    finally:
        servers.kill("valkey", signal.SIGCONT)
    assert isinstance(answer, Unreadable)
    await until(lambda: not caps.untold)
    assert await caps.counters(buyer) == {DAY: (0, 0)}
    assert caps.rebuilds == 1
    await caps.close()
    await valkey.close()


async def test_without_postgres_a_forgetful_valkey_stays_closed(
    valkey, valkey_url, database_url, buyer
):
    database = await Database.open(database_url, role="exchange_app", size=1)
    caps = Caps(valkey, database, Clock())
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    await database.close()
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Reserved)
    await valkey.call("", "FLUSHALL")
    assert isinstance(await caps.reserve(buyer, new_id(), lead(), LONG_MS), Unreadable)
    assert not await caps.commit(buyer, new_id(), lead())
    await caps.close()


async def test_a_buyer_that_the_market_does_not_know_has_no_room(caps):
    assert isinstance(await caps.reserve(999_999, new_id(), lead(), LONG_MS), Unreadable)


async def test_what_is_untold_has_a_bound_and_what_falls_out_is_counted(
    valkey, database_url, buyer
):
    database = await Database.open(database_url, role="exchange_app", size=1)
    await database.close()
    caps = Caps(valkey, database, Clock(), untold_max=2, retell_ms=LONG_MS)
    for _ in range(3):
        assert not await caps.release(buyer, new_id())
    assert (caps.untold, caps.dropped) == (2, 1)
    await caps.close()
