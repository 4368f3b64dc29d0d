"""One of two processes racing for one cap: waits for a line, races, prints how many it won."""

import asyncio
import sys

import uuid_utils

from exchange.core.caps import Window
from exchange.effects.caps import Caps, Reserved
from exchange.effects.clock import Clock
from exchange.effects.postgres import Database
from exchange.effects.valkey import Valkey


async def race(
    valkey_url: str, database_url: str, buyer: str, win: str, limit: str, tasks: str
) -> int:
    valkey = await Valkey.open(valkey_url, queue_max=10_000, timeout_ms=5_000)
    database = await Database.open(database_url, role="exchange_app", size=2)
    caps = Caps(valkey, database, Clock())
    windows = (Window(win=win, limit=int(limit), amount=1, cap_index=0),)

    async def post() -> bool:
        token = str(uuid_utils.uuid7())
        reserved = await caps.reserve(int(buyer), token, windows, 60_000)
        await asyncio.sleep(0)
        return isinstance(reserved, Reserved) and await caps.commit(int(buyer), token, windows)

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    won = sum(await asyncio.gather(*(post() for _ in range(int(tasks)))))
    await caps.close()
    await valkey.close()
    await database.close()
    return won


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(race(*sys.argv[1:]))}\n")
