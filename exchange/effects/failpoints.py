"""Failpoints: named places in the code where a test may stop a process dead, to prove that nothing
is lost there.

    at = failpoints(folder)         on: `folder` is where a test puts what is to happen
    at = nowhere                    off, as in production: costs one call of an empty coroutine

    await at("intended")            at the place itself

A test arms a place by a file of its name in the folder: `kill` ends the process as `kill -9` does,
`pause` lets this one task wait for ever while the process lives on. With a number behind it
(`kill 40`) the process lives that many milliseconds longer, to die in what comes after the place.
The file is taken away by whoever comes first, so it strikes once, whatever number of processes
there are; and a retry of the same work gets through.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

At = Callable[[str], Awaitable[None]]
"""Awaited at a place, with its name."""


async def nowhere(_place: str) -> None:
    """No failpoints."""


def failpoints(folder: Path) -> At:
    """Failpoints armed by files in `folder`."""

    async def at(place: str) -> None:
        act = _taken(folder / place)
        if act is None:
            return
        deed, _, later_ms = act.partition(" ")
        if deed == "pause":
            await asyncio.get_running_loop().create_future()
        elif later_ms:
            asyncio.get_running_loop().call_later(int(later_ms) / 1000, _die)
        else:
            _die()

    return at


def _taken(file: Path) -> str | None:
    """What the file says, if it is there and nobody took it before us."""
    mine = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.rename(mine)
    except FileNotFoundError:
        return None
    act = mine.read_text(encoding="ascii").strip()
    mine.unlink()
    return act


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
