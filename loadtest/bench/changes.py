"""Changes the market again and again until its standard input ends: prints how often it did.

    python loadtest/bench/changes.py DATA_DIR MARKET_FILE EVERY_S

Run in a process of its own: it finds the exchange by name, because the load test and the exchange
never meet in code. Twenty-five contracts get another priority each time, so they move to other
slots of the index: the dearest kind of change.
"""

import asyncio
import importlib
import itertools
import re
import sys
from pathlib import Path
from typing import Any


async def changing(data_dir: Path, text: str, *, every_s: float) -> int:
    """Apply changed markets; how many."""
    ground = importlib.import_module("exchange.app.ground")
    processes = importlib.import_module("exchange.app.processes")
    config = importlib.import_module("exchange.config")
    market = importlib.import_module("exchange.flows.market")
    settings = config.Settings(data_dir=str(data_dir), lab=True)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with ground.tools(settings, processes.running_servers(data_dir)) as base:
        for number in itertools.count(1):
            await _applied(market, base, changed(text, number))
            await asyncio.wait([ended], timeout=every_s)
            if ended.done():
                await _applied(market, base, text)
                return number
    raise AssertionError("counted to the end")


async def _applied(market: Any, base: Any, text: str) -> None:
    await market.apply(base.store, text, by="bench", why="a change", at=base.clock.now())


def changed(text: str, number: int) -> str:
    """The market with the priorities of some contracts moved."""
    return re.sub(r"(\[contracts\.plain-3-\w+-16\]\n)", rf"\1priority = {50 + number % 40}\n", text)


def main() -> None:
    """Until standard input ends."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    data_dir, file, every_s = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    print(asyncio.run(changing(data_dir, file.read_text(), every_s=every_s)))


if __name__ == "__main__":
    main()
