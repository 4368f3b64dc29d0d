"""Names to addresses, off the loop.

An address list is kept `ttl_s`. After that it is still served while one lookup refreshes it, so a
slow or broken resolver delays only names never seen before.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

Resolve = Callable[[str], Sequence[str]]
"""Blocking: all addresses of a host, best first; raises `OSError` when there are none."""

LOOKUPS_MAX = 4
"""Lookups at once. A resolver that hangs holds a thread each; more names then wait, not more
threads."""
RETRY_S = 1.0
"""After a failed refresh the stale addresses are served this long before the next try."""


class Names:
    """The resolver's cache of one worker. Build it inside the running loop."""

    def __init__(self, *, ttl_s: float, resolve: Resolve | None) -> None:
        self._ttl_s = ttl_s
        self._resolve = resolve or system_addresses
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(LOOKUPS_MAX, thread_name_prefix="names")
        self._known: dict[str, tuple[tuple[str, ...], float]] = {}
        self._lookups: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of a host, stale ones included; raises `OSError` when none are known."""
        if _is_literal(host):
            return (host,)
        known = self._known.get(host)
        if known is None:
            return await asyncio.shield(self._lookup(host))
        if self._loop.time() >= known[1]:
            _ = self._lookup(host)
        return known[0]

    def close(self) -> None:
        """Forget all lookups; a thread that hangs in one is left to the system."""
        for lookup in self._lookups.values():
            lookup.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _lookup(self, host: str) -> asyncio.Task[tuple[str, ...]]:
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = self._loop.create_task(self._looked_up(host))
            lookup.add_done_callback(lambda done: self._forget(host, done))
        return lookup

    def _forget(self, host: str, lookup: asyncio.Task[tuple[str, ...]]) -> None:
        del self._lookups[host]
        if not lookup.cancelled():
            lookup.exception()  # read, so that a failed refresh in the background is no warning

    async def _looked_up(self, host: str) -> tuple[str, ...]:
        try:
            found = tuple(await self._loop.run_in_executor(self._threads, self._resolve, host))
        except OSError:
            stale = self._known.get(host)
            if stale is not None:
                self._known[host] = (stale[0], self._loop.time() + RETRY_S)
            raise
        self._known[host] = (found, self._loop.time() + self._ttl_s)
        return found


def system_addresses(host: str) -> Sequence[str]:
    """The system's resolver; each address once, in its order of preference."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that IDNA cannot encode
        raise socket.gaierror(socket.EAI_NONAME, "not a name") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
