"""What a ping costs as the market grows: with the buyers invited, the contracts and sellers in the
book, the changes made to it, the workers. Each function is one round; sizes take turns in it."""

from collections.abc import Sequence

from loadtest.bench import market
from loadtest.bench.figures import Figures
from loadtest.bench.loads import CONNECTIONS, bought, failed, loaded, saturated
from loadtest.bench.measures import TMAX_MS, bare_of
from loadtest.bench.processes import Exchange, changes
from loadtest.bench.stage import INVITED, MORE_CONTRACTS, MORE_SELLERS, Bench

CHANGES_A_SECOND = (1, 5)


def invited(bench: Bench) -> Figures:
    """CPU of a ping at one to fifty invited buyers, and of the fastest peers before as many."""
    figures: Figures = {}
    failures = 0
    running = bench.exchange
    seconds = bench.seconds / 2
    for count in INVITED:
        requests = market.crowd_pings(running.key, count, tmax_ms=TMAX_MS)
        ours = bought(running, requests, seconds=seconds)
        if round(ours["bids"]) != count:
            raise RuntimeError(f"{count} buyers were to be invited, {ours['bids']:.1f} bid")
        failures += ours["failed"]
        row = {"cpu_us": ours["cpu_us"]}
        for name, peer in bench.crowd_peers[count].items():
            bare = bare_of(requests)
            theirs = saturated(peer["port"], (peer["pid"],), bare, seconds=seconds)
            row[f"{name}_cpu_us"] = theirs["cpu_us"]
            failures += theirs["failed"]
        figures[str(count)] = row
    return {"growth": {"invited": figures}, "failed": failures}


def contracts(bench: Bench) -> Figures:
    """CPU of a ping among a thousand and among ten thousand contracts, ten of them invited."""
    rows = _beside(bench, bench.more_contracts, (bench.more_contracts.key,))
    sizes = ("1000", str(1_000 + MORE_CONTRACTS))
    return {"growth": {"contracts": dict(zip(sizes, rows[0], strict=True))}, "failed": rows[1]}


def sellers(bench: Bench) -> Figures:
    """CPU of a ping with one seller in the book, and with many of whom several ping in turn."""
    rows = _beside(bench, bench.more_sellers, bench.more_sellers.keys)
    sizes = ("1", str(1 + MORE_SELLERS))
    return {"growth": {"sellers": dict(zip(sizes, rows[0], strict=True))}, "failed": rows[1]}


def _beside(
    bench: Bench, grown: Exchange, keys: Sequence[str]
) -> tuple[tuple[Figures, Figures], int]:
    """The usual exchange and the grown one, in turns."""
    usual = bench.exchange
    requests = market.pings("plain", usual.key, tmax_ms=TMAX_MS)
    before = bought(usual, requests, seconds=bench.seconds)
    requests = market.pings_of("plain", keys, tmax_ms=TMAX_MS)
    after = bought(grown, requests, seconds=bench.seconds)
    ratio = after["cpu_us"] / before["cpu_us"]
    rows = (
        {"cpu_us": before["cpu_us"], "bids": before["bids"]},
        {"cpu_us": after["cpu_us"], "cpu_ratio": ratio, "bids": after["bids"]},
    )
    return rows, before["failed"] + after["failed"]


def book_changes(bench: Bench) -> Figures:
    """CPU of a ping, the worker's taking in of changed books included, at no change and at some a
    second, all at one rate of pings."""
    still, failures = _at_rate(bench)
    figures: Figures = {"0": {"cpu_us": still}}
    for often in CHANGES_A_SECOND:
        with changes(bench.exchange, every_s=1 / often) as changed:
            cpu_us, lost = _at_rate(bench)
            failures += lost
            versions = changed()
        row = {"cpu_us": cpu_us, "cpu_ratio": cpu_us / still, "versions": versions}
        figures[str(often)] = row
    return {"growth": {"changes": figures}, "failed": failures}


def _at_rate(bench: Bench) -> tuple[float, int]:
    running = bench.exchange
    requests = market.pings("plain", running.key, tmax_ms=TMAX_MS)
    report = loaded(
        running.port, requests, seconds=bench.seconds, rate=bench.rate, pids=running.worker_pids
    )
    return report["cpu_us_per_request"][str(running.worker_pid)], failed(report)


def workers(bench: Bench) -> Figures:
    """CPU of a ping on two workers and on one, each at saturation with as many connections per
    worker; and how evenly the two shared the load."""
    one, two = bench.exchange, bench.two_workers
    pings = market.pings("plain", one.key, tmax_ms=TMAX_MS)
    alone = bought(one, pings, seconds=bench.seconds)
    pings = market.pings("plain", two.key, tmax_ms=TMAX_MS)
    both = bought(two, pings, seconds=bench.seconds, connections=2 * CONNECTIONS)
    figures = {
        "cpu_us": {"1": alone["cpu_us"], "2": both["cpu_us"]},
        "per_s": {"1": alone["per_s"], "2": both["per_s"]},
        "cpu_ratio": both["cpu_us"] / alone["cpu_us"],
    }
    return {"workers": figures, "failed": alone["failed"] + both["failed"]}
