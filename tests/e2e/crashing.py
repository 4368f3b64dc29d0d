"""What the crash tests share: an exchange whose processes may be killed one by one, sellers that
never give up. `judging` looks at what is left.
"""

import asyncio
import http.client
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import asyncpg

from tests.e2e.house import (
    CONSENT,
    PINGED,
    Buyers,
    House,
    Reply,
    SellerClient,
    child,
    ended,
    first_line,
    person,
    until,
)
from tests.e2e.market import FIELDS, table

SETTINGS = {
    "EXCHANGE_POST_DEADLINE_MS": "2000",
    "EXCHANGE_HOLD_MARGIN_MS": "2000",
    "EXCHANGE_DOUBT_BRAKE_COUNT": "1000",
}
"""Short times, so that a hold without an INTENT expires within the test; and no brake, for here
every buyer comes in doubt."""
POLICY = {"policy": ["inquire", "repost", "write_off"], "inquire_every_s": 1}
PATIENCE_S = 60.0
"""How long a seller asks for the end of a lead."""
RETRY_S = 0.1
AGAIN = (401, 408, 429)
"""Refusals after which a seller asks again; 401 while its key is new: within two seconds every
worker knows it."""

Kind = Literal["worker", "jobs", "postgres", "valkey"]


class Contract(NamedTuple):
    """A contract of the test market and its buyer's one bid."""

    buyer: str
    bid: str
    vertical: str = "lead"
    caps: Sequence[Mapping[str, Any]] = ()
    mode: Literal["strict", "fast"] = "fast"
    returns: Mapping[str, Any] | None = None
    resell: Mapping[str, Any] | None = None


def market_of(contracts: Mapping[str, Contract], sim: Mapping[str, Any]) -> str:
    """One seller, these contracts, their verticals, as TOML."""
    lines: list[str] = []
    for key in sorted({contract.vertical for contract in contracts.values()}):
        terms: dict[str, Any] = {"currency": "USD", "consent": "tcpa", "fields": FIELDS}
        for contract in contracts.values():
            if contract.vertical == key and contract.resell is not None:
                terms["resell"] = contract.resell
        lines += table(("verticals", key), terms)
    lines += table(("sellers", "alpha"), {"sources": ["web"], "rate_per_s": 2_000})
    for key in sorted({contract.buyer for contract in contracts.values()}):
        url = sim["urls"][key]
        lines += table(
            ("buyers", key),
            {
                "time_zone": "America/New_York",
                "post_timeout_ms": 700,
                "ping_url": f"{url}/ping",
                "post_url": f"{url}/post",
                "status_url": f"{url}/status",
            },
        )
    for key, contract in contracts.items():
        terms = {
            "buyer": contract.buyer,
            "vertical": contract.vertical,
            "caps": contract.caps,
            "cap_mode": contract.mode,
            "in_doubt": POLICY,
        }
        if contract.returns is not None:
            terms["returns"] = contract.returns
        lines += table(("contracts", key), terms)
    return "\n".join(lines) + "\n"


def profile_of(
    contracts: Mapping[str, Contract], behaviour: Mapping[str, Mapping[str, Any]]
) -> str:
    """The buyers of these contracts as `buyers_sim` plays them: quick, and always of one bid."""
    latency = {"kind": "constant", "value": 3}
    slower = {"kind": "constant", "value": 60}
    lines = table(("defaults",), {"latency": latency, "post_latency": slower})
    for buyer in sorted({contract.buyer for contract in contracts.values()}):
        bids = {
            key: {"kind": "constant", "value": float(contract.bid)}
            for key, contract in contracts.items()
            if contract.buyer == buyer
        }
        lines += table(("buyers", buyer), {"contracts": bids, **behaviour.get(buyer, {})})
    return "\n".join(lines) + "\n"


class Site(House):
    """A house of two workers whose processes may be killed, with a market of its own."""

    def __init__(self, folder: Path, buyers: Buyers, contracts: Mapping[str, Contract]) -> None:
        super().__init__(folder, buyers)
        self.contracts = contracts
        self.places = folder / "failpoints"
        self.places.mkdir()
        self.notes = Notes(folder / "sellers.jsonl")
        self.began = datetime.now(UTC)

    def apply(self, **_changes: Any) -> None:
        file = self.folder / "market.toml"
        file.write_text(market_of(self.contracts, self.buyers.ready), encoding="utf-8")
        self.run("apply", str(file))

    # --- failpoints -------------------------------------------------------------------------------

    def arm(self, place: str, act: str = "kill") -> None:
        """What is to happen when the next process comes to this place."""
        aside = self.places / f"+{place}"
        aside.write_text(act)
        aside.rename(self.places / place)

    def is_armed(self, place: str) -> bool:
        return (self.places / place).exists()

    def disarm(self, place: str) -> None:
        (self.places / place).unlink(missing_ok=True)

    # --- processes --------------------------------------------------------------------------------

    def pids(self, kind: Kind) -> list[int]:
        """The processes of a kind, children of the master."""
        assert self.process is not None, "never started"
        return [pid for pid in children(self.process.pid) if kind_of(pid) == kind]

    def kill(self, kind: Kind, sig: int = signal.SIGKILL, *, which: int = 0) -> int | None:
        """Signals one of them; its pid, or `None` while there is none."""
        pids = self.pids(kind)
        if not pids:
            return None
        pid = pids[which % len(pids)]
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            return None
        return pid

    # --- what is left -----------------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        return str(json.loads((self.data / "run.json").read_bytes())["database_url"])

    @property
    def valkey_url(self) -> str:
        return str(json.loads((self.data / "run.json").read_bytes())["valkey_url"])

    def sql(self, query: str, *args: Any) -> list[dict[str, Any]]:
        async def asked() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(self.database_url)
            try:
                return [dict(row) for row in await connection.fetch(query, *args)]
            finally:
                await connection.close()

        return asyncio.run(asked())

    def open_for_s(self) -> str:
        """How long posts that came in doubt were open, from their INTENT to their end."""
        [row] = self.sql(OPEN_FOR)
        return (
            f"{row['number']} posts in doubt, open for {row['half'] or 0:.1f} s at the median, "
            f"{row['most'] or 0:.1f} s at most"
        )

    def settle(self, *, within_s: float) -> float:
        """Wait until nothing is under way; how long that took, in seconds."""
        began = time.monotonic()
        until(lambda: not self.sql(OPEN), f"nothing is open: {OPEN}", patience_s=within_s)
        return time.monotonic() - began


OPEN = """
SELECT state, lead_id::text AS id FROM lead WHERE state IN ('received', 'selling', 'in_doubt')
UNION ALL
SELECT state, attempt_id::text FROM attempt WHERE state IN ('posting', 'unknown')
"""


OPEN_FOR = """
SELECT count(*) AS number, max(s) AS most, percentile_cont(0.5) WITHIN GROUP (ORDER BY s) AS half
FROM (
    SELECT extract(epoch FROM e.at - a.created_at)::float8 AS s
    FROM attempt a JOIN attempt_event e USING (lead_id, attempt_id)
    WHERE a.resolved_by IS NOT NULL AND e.state = a.state
) AS resolved
"""


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return sorted(found)


def kind_of(pid: int) -> Kind | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    if b"valkey-server" in words[0]:  # it writes its address behind its name
        return "valkey"
    if words[0].endswith(b"postgres"):
        return "postgres"
    return "jobs" if b"jobs" in words else "worker" if b"serve" in words else None


@contextmanager
def site(
    folder: Path,
    contracts: Mapping[str, Contract],
    behaviour: Mapping[str, Mapping[str, Any]],
    *,
    seed: int,
) -> Iterator[Site]:
    """A running exchange of two workers with this market, open for trade."""
    profile = folder / "cast.toml"
    profile.write_text(profile_of(contracts, behaviour), encoding="utf-8")
    command = [sys.executable, "-m", "buyers_sim", "--profile", str(profile), "--port", "0"]
    command += ["--seed", str(seed), "--truth-dir", str(folder / "truth")]
    with ExitStack() as stack:
        sim = child(command, folder / "buyers.err")
        stack.callback(ended, sim)
        place = Site(folder, Buyers(first_line(sim, folder / "buyers.err")), contracts)
        stack.callback(place.notes.close)
        stack.callback(lambda: None if place.process is None else ended(place.process))
        place.start(workers=2, EXCHANGE_FAILPOINTS=str(place.places), **SETTINGS)
        place.open(("seller", "alpha"))
        yield place


# --- sellers --------------------------------------------------------------------------------------


class Notes:
    """What sellers sent and heard, for the judge."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()

    def put(self, kind: str, sent: Any, http: int, reply: Any) -> None:
        line = {"kind": kind, "seller": "alpha", "sent": sent, "http": http, "reply": reply}
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


class Told(NamedTuple):
    """What a seller heard of a lead: the last word (`refused` for a 4xx, `silent` when patience
    ended, `pending` when it is yet to ask for the end); how many requests that took; when the first
    was sent (monotonic) and how long it took until the last word."""

    lead_id: str
    status: str
    tries: int
    began: float
    took_s: float


_names = count()


class Seller:
    """A seller that asks under the same key until it knows."""

    def __init__(self, place: Site, *, name: str) -> None:
        self._place, self._name = place, f"{name} {next(_names)}"
        self._client = SellerClient(place.url, place.keys["seller alpha"])
        self._numbers = count()

    def two_steps(self, vertical: str = "lead") -> Told | None:
        """Ping and post; `None` when there was no offer."""
        body = {"vertical": vertical, "source": "web", "fields": PINGED, "tmax_ms": 1_000}
        last = time.monotonic() + PATIENCE_S
        while (reply := self._asked("POST", "/v1/ping", body, None)).status != 200:
            assert time.monotonic() < last, f"no ping was answered: {reply}"
            time.sleep(RETRY_S)
        offer = reply.json
        self._place.notes.put("ping", body, 200, offer)
        if offer["status"] != "offer":
            return None
        post = {"ping_id": offer["ping_id"], "lead": person(), "consent": CONSENT}
        post["min_payout"] = "1.00"  # rather less than nothing, so that leads fall through
        return self._sold("post", "/v1/post", post, offer["ping_id"])

    def direct(self, vertical: str = "lead") -> Told:
        """A direct lead."""
        body = {"vertical": vertical, "source": "web", "lead": person(), "consent": CONSENT}
        return self._sold("direct", "/v1/leads", body, "")

    def _sold(self, kind: str, path: str, body: Any, lead_id: str) -> Told:
        key = f"{self._name}-{next(self._numbers)}"
        began, tries, status = time.monotonic(), 0, "silent"
        while time.monotonic() - began < PATIENCE_S:
            reply = self._asked("POST", path, body, key)
            tries += 1
            self._place.notes.put(kind, body, reply.status, heard(reply))
            if reply.status == 200:
                lead_id, status = reply.json["lead_id"], reply.json["status"]
                break
            if 400 <= reply.status < 500 and reply.status not in AGAIN:
                status = "refused"
                break
            time.sleep(RETRY_S)
        return Told(lead_id, status, tries, began, time.monotonic() - began)

    def final(self, told: Told) -> Told:
        """The end of a lead that was pending; any other as it is."""
        tries, status, last = told.tries, told.status, time.monotonic() + PATIENCE_S
        while status == "pending":
            if time.monotonic() > last:
                status = "silent"
                break
            reply = self._asked("GET", f"/v1/leads/{told.lead_id}", None, None)
            tries += 1
            if reply.status == 200 and reply.json["status"] != "pending":
                self._place.notes.put("final", {}, 200, reply.json)
                status = reply.json["status"]
            else:
                time.sleep(RETRY_S)
        if status == told.status:
            return told
        return Told(told.lead_id, status, tries, told.began, time.monotonic() - told.began)

    def told(self, lead_id: str) -> Any:
        """What a GET says of a lead."""
        return self._asked("GET", f"/v1/leads/{lead_id}", None, None).json

    def _asked(self, method: str, path: str, body: Any, key: str | None) -> Reply:
        """The answer; status 0 when the connection broke."""
        try:
            return self._client.call(method, path, body, idempotency=key, timeout_s=15.0)
        except (OSError, http.client.HTTPException):
            return Reply(0, {}, b"")


def heard(reply: Reply) -> Any:
    """The body of an answer as JSON, `None` without one."""
    try:
        return reply.json
    except ValueError:
        return None


def tell(*words: object) -> None:
    """For whoever reads the run (pytest shows it with `-s`, and of a test that fails)."""
    sys.stdout.write("\n".join(map(str, words)) + "\n")


def chance(seed: int, name: str) -> random.Random:
    """Chance of its own for every part of a run."""
    return random.Random(f"{seed}/{name}")
