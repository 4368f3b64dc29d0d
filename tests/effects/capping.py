"""What the tests of caps share: windows, buyers, attempts, a connection that is soon back."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

import uuid_utils

from exchange.core.caps import Window
from exchange.effects.valkey import Valkey

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
