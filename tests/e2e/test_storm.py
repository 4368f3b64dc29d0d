"""A storm: sellers and buyers at work while processes and servers are killed, stopped and emptied
under them; then quiet, and the judges. Everything chosen comes from the seed, which the run prints.
"""

import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.e2e.crashing import (
    Contract,
    Kind,
    Seller,
    Site,
    Told,
    chance,
    site,
    tell,
)
from tests.e2e.house import until
from tests.e2e.judging import accepted_posts, judged

pytestmark = [pytest.mark.real, pytest.mark.slow]

CONTRACTS = {
    "ash-few": Contract("ash", "40.00", caps=({"leads": 12, "per": "total"},), mode="strict"),
    "beech-money": Contract(
        "beech", "35.00", caps=({"money": "500.00", "per": "day"},), mode="strict"
    ),
    "cedar-few": Contract("cedar", "30.00", caps=({"leads": 20, "per": "day"},)),
    "dogwood-money": Contract("dogwood", "25.00", caps=({"money": "600.00", "per": "total"},)),
    "elm-many": Contract(
        "elm",
        "20.00",
        caps=({"leads": 900, "per": "day", "each": "zip"}, {"money": "9000.00", "per": "month"}),
        mode="strict",
    ),
    "fir-any": Contract("fir", "10.00"),
}
BEHAVIOUR = {
    "beech": {"post": {"accept_then_reset": 0.2}},
    "cedar": {"post": {"hang": 0.1, "reject": 0.2}},
    "dogwood": {"post": {"error": 0.1, "accept_after_deadline": 0.1}, "post_late_ms": 1_000},
    "elm": {"post": {"accept_then_hang": 0.1, "reject": 0.1}, "repost": "duplicate"},
    "fir": {"post": {"reset": 0.1, "reject": 0.1}},
}
SELLERS = 6
THINK_S = 0.3
"""What a seller does between two leads, at most twice that: some ten leads a second."""
SETTLED_WITHIN_S = 40.0


class Nemesis:
    """Does what must not matter, one deed after the other."""

    def __init__(self, place: Site, seed: int) -> None:
        self._place, self._chance = place, chance(seed, "nemesis")
        self._timers: list[threading.Timer] = []
        self._pace = threading.Event()  # never set: what comes when is the seed's to say
        self.done: Counter[str] = Counter()
        self.deeds: dict[str, Callable[[], object]] = {
            "kill a worker": lambda: place.kill("worker", which=self._chance.randrange(2)),
            "kill both workers": lambda: [place.kill("worker"), place.kill("worker", which=1)],
            "kill the jobs": lambda: place.kill("jobs"),
            "kill Valkey": lambda: place.kill("valkey"),
            "kill Postgres": lambda: place.kill("postgres"),
            "stop a worker": lambda: self._stopped("worker", 0.3, 2.0),
            "stop a worker until it counts as dead": lambda: self._stopped("worker", 6.0, 7.0),
            "stop Valkey": lambda: self._stopped("valkey", 0.3, 1.5),
            "stop the jobs": lambda: self._stopped("jobs", 5.5, 6.5),
            "empty Valkey": lambda: command(place, "FLUSHALL"),
            "forget the scripts": lambda: command(place, "SCRIPT FLUSH"),
        }

    def rage(self, seconds: float) -> None:
        """Every deed in turn, in ever new orders, one every one to two seconds."""
        last = time.monotonic() + seconds
        while time.monotonic() < last:
            for name in self._chance.sample(sorted(self.deeds), len(self.deeds)):
                self._pace.wait(self._chance.uniform(1.0, 2.0))
                if time.monotonic() > last:
                    break
                self.done[name] += self.deeds[name]() is not None
        for timer in self._timers:
            timer.join()

    def _stopped(self, kind: Kind, least_s: float, most_s: float) -> int | None:
        pid = self._place.kill(kind, signal.SIGSTOP)
        if pid is not None:
            seconds = self._chance.uniform(least_s, most_s)
            timer = threading.Timer(seconds, continued, (pid,))
            timer.start()
            self._timers.append(timer)
        return pid


def continued(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def command(place: Site, words: str) -> bytes | None:
    """Valkey's answer to an inline command, if it is there."""
    with socket.socket(socket.AF_UNIX) as valkey:
        valkey.settimeout(2.0)
        try:
            valkey.connect(unquote(urlsplit(place.valkey_url).path))
            valkey.sendall(words.encode() + b"\r\n")
            return valkey.recv(64)
        except OSError:
            return None


def sell(place: Site, dice: random.Random, number: int, over: threading.Event) -> list[Told]:
    """One seller until the storm is over: what it heard of each lead."""
    seller, told = Seller(place, name=f"seller {number}"), []
    while not over.is_set():
        if dice.random() < 0.4:
            told.append(seller.direct())
        elif (one := seller.two_steps()) is not None:
            told.append(one)
        over.wait(dice.uniform(0, 2 * THINK_S))
    return told


def storm(folder: Path, seed: int, seconds: float) -> None:
    with site(folder, CONTRACTS, BEHAVIOUR, seed=seed) as place:
        nemesis, over = Nemesis(place, seed), threading.Event()
        with ThreadPoolExecutor(SELLERS + 1) as pool:
            sellers = [
                pool.submit(sell, place, chance(seed, f"seller {number}"), number, over)
                for number in range(SELLERS)
            ]
            try:
                nemesis.rage(seconds)
            finally:
                over.set()
            told = [one for seller in sellers for one in seller.result()]
        quiet = time.monotonic()
        until(lambda: len(place.pids("worker")) == 2, "both workers are back")
        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(Seller(place, name="end").final, told))
        place.settle(within_s=SETTLED_WITHIN_S)
        settled_s = time.monotonic() - quiet
        verdict = judged(place, told)
        slowest_s = max(one.took_s for one in told)
        tell(
            f"seed {seed}: {dict(nemesis.done)}",
            f"{len(told)} leads, {dict(Counter(one.status for one in told))}, "
            f"{sum(one.tries for one in told)} requests, slowest {slowest_s:.1f} s",
            place.open_for_s(),
            f"quiet after {settled_s:.1f} s; fast caps over by {overshoot(place)}",
            verdict,
        )
        assert verdict.wrong == [], f"seed {seed}"
        assert verdict.looked_at["told_sold"] > 0, (
            "a storm in which nothing was sold proves nothing"
        )


def overshoot(place: Site) -> dict[str, int]:
    """By how many leads buyers got more than a `fast` cap: allowed when Valkey loses its memory."""
    got = Counter(event["contract"] for event in accepted_posts(place.buyers.truth).values())
    limits = {"cedar-few": 20, "dogwood-money": 24}
    return {key: got[key] - limit for key, limit in limits.items() if got[key] > limit}


def test_a_storm_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    storm(tmp_path, seed, 20.0)


@pytest.mark.prove
@pytest.mark.parametrize("more", range(3))
def test_a_long_storm_loses_and_doubles_nothing(tmp_path: Path, seed: int, more: int) -> None:
    storm(tmp_path, seed + more, 90.0)
