"""Caps on the real Valkey and Postgres: exactly as many as the limit, whatever is told twice, late
or early, by one process or two."""

import asyncio
import sys
from pathlib import Path

import pytest

from exchange.effects.caps import Full, Reserved, Unreadable
from tests.effects.capping import (
    DAY,
    LONG_MS,
    MONTH,
    NOW_MS,
    TOTAL,
    lead,
    new_id,
    window,
)

pytestmark = pytest.mark.real


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
