"""What is measured, and where: the exchange, its buyers and its peers, started when first asked for
and stopped together at the end."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from loadtest.bench import market, peers
from loadtest.bench.loads import saturated
from loadtest.bench.processes import Exchange, exchange, peer
from loadtest.generator import request_bytes

BUYERS = 10
HANGING = 2
"""Of ten buyers."""
LATENCY_RATE = 500.0
CROWD = 50
"""Buyers of the vertical whose pings say how many of them they fit."""
INVITED = (1, 5, 10, 20, CROWD)
COMPARED = ("go", "nginx_lua")
"""The peers that are asked for each number of buyers, too."""
MORE_CONTRACTS = 9_000
"""Beside the thousand of the vertical that is pinged: ten thousand in all."""
MORE_SELLERS = 1_000
PINGING = 8
"""Of these sellers so many send pings in turn: a key is made by a command of its own."""


class Bench:
    """For how long a figure is taken (`seconds`), how many times (`rounds`), and everything that
    runs meanwhile. `folder` holds the exchanges' data; `tell` hears what is under way."""

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        *,
        seconds: float,
        rounds: int,
        tell: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.seconds, self.rounds, self.tell, self.folder = seconds, rounds, tell, folder
        self._stack = stack
        self.people = count()
        """Consumers nobody has seen before."""

    # --- buyers -----------------------------------------------------------------------------------

    @cached_property
    def buyers(self) -> dict[str, Any]:
        """Ten that answer at once, plain and TLS."""
        return self._peer("raw_buyer", "--buyers", str(BUYERS), "--tls-dir", str(self.folder))

    @cached_property
    def hung(self) -> dict[str, Any]:
        """Ten, of which a fifth never answers."""
        return self._peer("raw_buyer", "--buyers", str(BUYERS), "--hanging", str(HANGING))

    @cached_property
    def crowd(self) -> dict[str, Any]:
        """Fifty that answer at once."""
        return self._peer("raw_buyer", "--buyers", str(CROWD))

    # --- the exchange -----------------------------------------------------------------------------

    @cached_property
    def exchange(self) -> Exchange:
        """One worker, a thousand contracts a vertical, everything on."""
        return self._exchange("exchange", market.market_text(self.origins, self.buyers["ca"]))

    @cached_property
    def rate(self) -> float:
        """Pings a second for latencies: half of saturation, at most `LATENCY_RATE`."""
        running = self.exchange
        requests = market.pings("plain", running.key, tmax_ms=1_000)
        found = saturated(running.port, running.worker_pids, requests, seconds=1.0)
        return round(min(LATENCY_RATE, float(found["per_s"]) / 2))

    @cached_property
    def two_workers(self) -> Exchange:
        """The same market on two workers."""
        text = market.market_text(self.origins, self.buyers["ca"])
        return self._exchange("two", text, workers=2)

    @cached_property
    def more_contracts(self) -> Exchange:
        """The same with ten thousand contracts where the pings go."""
        text = market.market_text(self.origins, self.buyers["ca"], more_contracts=MORE_CONTRACTS)
        return self._exchange("contracts", text)

    @cached_property
    def more_sellers(self) -> Exchange:
        """The same with a thousand sellers more."""
        text = market.market_text(self.origins, self.buyers["ca"], more_sellers=MORE_SELLERS)
        return self._exchange("sellers", text, sellers=market.sellers(PINGING))

    @property
    def origins(self) -> dict[str, list[str]]:
        """Where the buyers of each vertical listen."""

        def local(scheme: str, ports: Sequence[int]) -> list[str]:
            return [f"{scheme}://127.0.0.1:{port}" for port in ports]

        return {
            "plain": local("http", self.buyers["ports"]),
            "tls": local("https", self.buyers["tls_ports"]),
            "hanging": local("http", self.hung["ports"]),
            "crowd": local("http", self.crowd["ports"]),
        }

    # --- peers ------------------------------------------------------------------------------------

    @cached_property
    def baseline(self) -> dict[str, Any]:
        """The bare fan-out with aiohttp's client: `pid` and `port`."""
        ports = ",".join(map(str, self.buyers["ports"]))
        return self._peer("aiohttp_fanout", "--ports", ports)

    @cached_property
    def baseline_tls(self) -> dict[str, Any]:
        """The same over TLS."""
        ports = ",".join(map(str, self.buyers["tls_ports"]))
        return self._peer("aiohttp_fanout", "--ports", ports, "--ca", self.buyers["ca"])

    @cached_property
    def peers(self) -> peers.Started:
        """Every other peer that can run here, before the same ten buyers; warmed up, for some are
        slow until their compilers have seen the work."""
        others = [one for one in peers.PEERS if one.name != "aiohttp"]
        found = peers.started(self._stack, self.buyers["ports"], self.folder, peers=others)
        for one in found.running.values():
            request = request_bytes("/ping", "127.0.0.1", (), b"{}")
            saturated(one["port"], (one["pid"],), [request], seconds=1.0)
        return found

    @cached_property
    def crowd_peers(self) -> dict[int, dict[str, dict[str, Any]]]:
        """By number of buyers: the peers they are compared with (those that can run here)."""
        wanted = [one for one in peers.PEERS if one.name in COMPARED]
        return {
            count: peers.started(
                self._stack, self.crowd["ports"][:count], self.folder, peers=wanted
            ).running
            for count in INVITED
        }

    def _peer(self, module: str, *arguments: str) -> dict[str, Any]:
        return self._stack.enter_context(peer(f"loadtest.peers.{module}", *arguments))

    def _exchange(self, name: str, text: str, **more: Any) -> Exchange:
        self.tell(f"starting an exchange ({name})")
        folder = self.folder / name
        folder.mkdir()
        return self._stack.enter_context(exchange(folder, text, **more))
