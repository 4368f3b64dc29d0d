"""Prints as one JSON line, round by round, what the pieces of a ping and a sale cost by themselves.

    python loadtest/bench/pieces_probe.py DATA_DIR ROUNDS [COUNT]

Run in a process of its own, beside an exchange that runs in that folder and has sold something: it
finds the exchange by name, because the load test and the exchange never meet in code. CPU is that
of this process; what the servers do for it is told apart.
"""

import asyncio
import gc
import importlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import uvloop

COUNT = 2_000
"""How often a piece is done in one round."""
IN_FLIGHT = 32
WAITING = 64
HASH = "\\x" + "ab" * 32
PRICE, PAYOUT = 10_000_000, 8_500_000
ANSWER = b'{"bid":"25.50","ref":"r5"}'


def named(path: str) -> Any:
    """A name of the exchange, such as `exchange.core.model:Ping`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


class Probe:
    """The pieces, on the running exchange's own servers and market."""

    def __init__(self, ground: Any, url: str, count: int) -> None:
        self._ground, self._url, self._count = ground, url, count
        book = ground.standing.book
        self._contract = next(one for one in book.contracts.values() if one.key.startswith("plain"))
        self._seller = next(iter(book.sellers.values()))
        self._ping = self._made_ping()

    async def round(self) -> dict[str, float]:
        """Every piece once."""
        gc.collect()
        return {
            **await self._reserve(),
            **await self._commit(),
            **await self._journal(),
            **self._dialect(),
            **await self._custody(),
        }

    # --- caps -------------------------------------------------------------------------------------

    async def _reserve(self) -> dict[str, float]:
        """Hold room in two windows and give it back: half of that is a reserve."""
        windows = self._windows()
        caps, buyer = self._ground.caps, self._contract.buyer_id

        async def held() -> None:
            token = self._ground.clock.new_id()
            reserved = await caps.reserve(buyer, token, windows, 60_000)
            assert type(reserved).__name__ == "Reserved", reserved
            await caps.release(buyer, token)

        before, _ = await self._valkey_us()
        cpu_us, _ = await self._in_flight(held, IN_FLIGHT)
        after, calls = await self._valkey_us()
        return {"reserve_us": cpu_us / 2, "reserve_valkey_us": (after - before) / max(1, calls)}

    def _windows(self) -> tuple[Any, ...]:
        window = named("exchange.core.caps:Window")
        day, month = f"{datetime.now(UTC):%Y-%m-%d}", f"{datetime.now(UTC):%Y-%m}"
        number = self._contract.id
        return (
            window(win=f"{number}.0.d{day}", limit=1_000_000, amount=1, cap_index=0),
            window(win=f"{number}.1.m{month}", limit=10**12, amount=PRICE, cap_index=1),
        )

    async def _valkey_us(self) -> tuple[float, int]:
        """CPU time Valkey has spent on scripts, us; and how many this probe runs in a round."""
        text = (await self._ground.valkey.call("life", "INFO", "commandstats")).decode()
        lines = [line for line in text.splitlines() if line.startswith("cmdstat_evalsha:")]
        spent = sum(float(line.split("usec=")[1].split(",")[0]) for line in lines)
        return spent, 2 * self._count

    # --- commits ----------------------------------------------------------------------------------

    async def _commit(self) -> dict[str, float]:
        """INTENT and RESULT of leads, 64 of them waiting at any time."""
        commits = self._ground.commits
        waits: list[float] = []

        async def sold() -> None:
            for unit in self._sale():
                began = time.perf_counter()
                answer = await commits.commit(unit)
                waits.append(time.perf_counter() - began)
                assert answer.kind == "done", answer

        cpu_us, _ = await self._in_flight(sold, WAITING, share=4)
        return {"commit_us": cpu_us / 2, "commit_ms_p50": statistics.median(waits) * 1000}

    def _sale(self) -> Iterable[Any]:
        attempts = importlib.import_module("exchange.core.attempts")
        at, lead_id = datetime.now(UTC), self._ground.clock.new_id()
        chain = named("exchange.core.custody:Chain").begin(lead_id)
        chain = chain.append("received", at, {"commitments": {}})
        selling = attempts.Selling(
            lead_id=lead_id, seller_id=self._seller.id, idem_key=lead_id, chain=chain,
            boot_id=self._ground.boot_id,
        )  # fmt: skip
        attempt = self._attempt(lead_id, at)
        unit, selling = attempts.intent(
            selling, attempt, at=at, opening=self._opening(lead_id, at), before=None
        )
        yield unit
        accepted = named("exchange.core.reasons:Delivery").ACCEPTED
        last = attempts.Ended(attempt=attempt, delivery=accepted, at=at, buyer_ref="r")
        unit, _ = attempts.ended(
            selling, "sold", at=at, reply={"status": "sold"}, last=last, opening=None
        )
        yield unit

    def _attempt(self, lead_id: str, at: datetime) -> Any:
        later = at + timedelta(seconds=60)
        return named("exchange.core.records:AttemptRow")(
            attempt_id=self._ground.clock.new_id(), lead_id=lead_id, seller_id=self._seller.id,
            buyer_id=self._contract.buyer_id, contract_id=self._contract.id, contract_version=1,
            rank=1, leg=1, price_micros=PRICE, payout_micros=PAYOUT, fee_micros=PRICE - PAYOUT,
            currency="USD", buyer_bid_ref=None, bid_expires_at=None, deadline_at=later,
            next_check_at=later, boot_id=self._ground.boot_id, cap_mode="fast", cap_sq=1,
            windows=[[one.win, one.limit, one.amount] for one in self._windows()], slots=[1],
            test=False, created_at=at,
        )  # fmt: skip

    def _opening(self, lead_id: str, at: datetime) -> Any:
        records = importlib.import_module("exchange.core.records")
        lead = records.LeadRow(
            lead_id=lead_id, seller_id=self._seller.id, source_id=1, sub_id=None,
            vertical_id=self._contract.vertical_id, external_id=None, state="selling",
            mode="exclusive", max_sales=1, direct=False, promised_payout_micros=PAYOUT,
            min_payout_micros=PAYOUT, floor_micros=0, currency="USD", consent_kind="tcpa",
            custody_seq=0, custody_head="", book_version=1, mask_id=0,
            offer={"payout_micros": PAYOUT}, boot_id=self._ground.boot_id, test=False,
            received_at=at,
        )  # fmt: skip
        return named("exchange.core.attempts:Opening")(
            lead=lead,
            idem=records.IdemRow(
                seller_id=self._seller.id, key=lead_id, fingerprint=HASH, lead_id=lead_id
            ),
            private=records.LeadPrivateRow(
                lead_id=lead_id, key_epoch=1, wrapped_dek=HASH, sealed=HASH
            ),
        )

    # --- journal, dialect, custody ----------------------------------------------------------------

    async def _journal(self) -> dict[str, float]:
        """Rows of ten answers each, from the queue to Postgres."""
        journal = named("exchange.effects.journal:Journal")(queue_max=2 * self._count)
        records = [self._record() for _ in range(self._count)]
        began = time.process_time()
        await journal.start(self._url)
        for record in records:
            journal.put(record)
        await journal.stop(timeout_s=30.0)
        spent = time.process_time() - began
        assert journal.dropped == 0, journal.dropped
        return {"journal_us": spent * 1e6 / self._count}

    def _record(self) -> Any:
        model = importlib.import_module("exchange.core.model")
        answers = tuple(
            model.ContractAnswer(
                contract_id=n, buyer_id=n, non_bid=None, price_micros=PRICE + n, waited_ms=3.25
            )
            for n in range(1, 11)
        )
        ranked = tuple(
            model.Candidate(
                contract_id=n, buyer_id=n, rank=n, price_micros=PRICE, payout_micros=PAYOUT,
                fee_micros=PRICE - PAYOUT,
            )
            for n in range(1, 11)
        )  # fmt: skip
        return named("exchange.core.records:PingRecord")(
            ping=self._made_ping(), outcome="offer", reason=None, answers=answers, ranking=ranked,
            payout_micros=PAYOUT, expires_at_ms=1_900_000_000_000, eligible=10,
            reason_counts={503: 900, 507: 90}, book_version=1, mask_id=1, took_ms=4.5,
            waited_ms=3.25, added_ms=1.25, late_ms=0.0, worker="bench",
        )  # fmt: skip

    def _made_ping(self) -> Any:
        model = importlib.import_module("exchange.core.model")
        fields = {
            "zip": "94110", "state": "CA", "age": 35, "homeowner": True, "insured": False,
            "credit": "good", "vehicle_year": 2019,
        }  # fmt: skip
        return model.Ping(
            ping_id=self._ground.clock.new_id(), seller_id=self._seller.id, source_id=1,
            vertical_id=self._contract.vertical_id, fields=fields, received_at=datetime.now(UTC),
            tmax_ms=1_000, floor_micros=5_000_000, consent=model.PingConsent(kind="tcpa"),
        )  # fmt: skip

    def _dialect(self) -> dict[str, float]:
        dialect = importlib.import_module("exchange.dialects.json")
        reply = named("exchange.core.wire:HttpReply")(
            status=200, content_type="application/json", body=ANSWER
        )
        prefixes = [dialect.ping_prefix(f"plain-{n}-ca-30") for n in range(10)]

        def encoded() -> list[bytes]:
            shared = dialect.ping_shared(self._ping, vertical_key="plain", tmax_ms=990)
            return [prefix + shared for prefix in prefixes]

        def decoded() -> Any:
            return dialect.read_bid(self._contract, reply, at_ms=1_800_000_000_000)

        return {"encode_us": self._each_us(encoded), "decode_us": self._each_us(decoded)}

    async def _custody(self) -> dict[str, float]:
        """The bytes of whole chains that real sales left, and appending their events again."""
        rows = await self._ground.database.fetch(
            "SELECT lead_id, sum(length(bytes)) AS size, array_agg(bytes ORDER BY seq) AS events "
            "FROM custody_event GROUP BY lead_id HAVING count(*) > 3 LIMIT 100"
        )
        if not rows:
            return {}
        events = [orjson.loads(one) for one in rows[0]["events"]]
        at = datetime.now(UTC)
        begin = named("exchange.core.custody:Chain").begin

        def appended() -> Any:
            chain = begin("0198c0de-0000-7000-8000-000000000000")
            for event in events:
                chain = chain.append(event["kind"], at, event["body"])
            return chain

        return {
            "custody_us": self._each_us(appended) / len(events),
            "custody_events": len(events),
            "custody_bytes": float(statistics.median(row["size"] for row in rows)),
        }

    # --- counting ---------------------------------------------------------------------------------

    def _each_us(self, piece: Callable[[], Any]) -> float:
        """CPU of one call."""
        began = time.process_time()
        for _ in range(self._count):
            piece()
        return (time.process_time() - began) * 1e6 / self._count

    async def _in_flight(
        self, piece: Callable[[], Awaitable[None]], at_once: int, *, share: int = 1
    ) -> tuple[float, int]:
        """CPU of one of `COUNT / share` calls, so many at once."""
        count = self._count // share
        numbers = itertools.islice(itertools.count(), count)

        async def caller() -> None:
            for _ in numbers:
                await piece()

        began = time.process_time()
        await asyncio.gather(*(caller() for _ in range(at_once)))
        return (time.process_time() - began) * 1e6 / count, count


async def probed(data_dir: Path, rounds: int, count: int) -> list[dict[str, float]]:
    """The rounds; the first, in which everything is warmed up, is thrown away."""
    ground = importlib.import_module("exchange.app.ground")
    processes = importlib.import_module("exchange.app.processes")
    settings = named("exchange.config:Settings")(data_dir=str(data_dir), lab=True)
    urls = processes.running_servers(data_dir)
    async with ground.tools(settings, urls) as base:
        probe = Probe(base, urls.database_url, count)
        return [await probe.round() for _ in range(rounds + 1)][1:]


def main() -> None:
    """One JSON line."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    count = int(sys.argv[3]) if len(sys.argv) > 3 else COUNT
    print(json.dumps(uvloop.run(probed(Path(sys.argv[1]), int(sys.argv[2]), count))))


if __name__ == "__main__":
    main()
