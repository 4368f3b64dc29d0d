"""Changes the market every two seconds until its standard input ends:

    python -m loadtest.load.churn DATA_DIR MARKET_FILE

A process of its own: it finds the exchange by name, because the load test and the exchange never
meet in code. Prices, priorities and a cap of the contracts of one buyer in every vertical move; the
market as it was is put back at the end.
"""

import asyncio
import importlib
import itertools
import re
import sys
from pathlib import Path
from typing import Any

EVERY_S = 2.0


def changed(text: str, number: int) -> str:
    """The market with the contracts of delta moved, each time another way."""
    text = re.sub(r"(\[contracts\.delta-.*\n)", rf"\1priority = {50 + number % 40}\n", text)
    return re.sub(r"leads = 120000", f"leads = {120_000 + number}", text)


async def churning(data_dir: Path, text: str) -> None:
    """Apply changed markets until standard input ends."""
    ground = importlib.import_module("exchange.app.ground")
    processes = importlib.import_module("exchange.app.processes")
    config = importlib.import_module("exchange.config")
    market = importlib.import_module("exchange.flows.market")
    settings = config.Settings(data_dir=str(data_dir), lab=True)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with ground.tools(settings, processes.running_servers(data_dir)) as base:
        for number in itertools.count(1):
            await _applied(market, base, text if ended.done() else changed(text, number))
            if ended.done():
                return
            await asyncio.wait([ended], timeout=EVERY_S)


async def _applied(market: Any, base: Any, text: str) -> None:
    await market.apply(base.store, text, by="load", why="a change", at=base.clock.now())


if __name__ == "__main__":
    asyncio.run(churning(Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8")))
