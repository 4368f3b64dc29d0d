"""The judges of a run in which processes died: what buyers have in their books, what sellers heard,
what Postgres holds and what Valkey counts must be one story.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exchange.effects.postgres import Database
from exchange.effects.proof import proven
from exchange.effects.report import Report
from tests.e2e.crashing import OPEN, Site, Told
from tests.e2e.house import until
from tests.e2e.market import FIELDS


class Verdict(NamedTuple):
    """What was looked at, by name, and every violation in words."""

    looked_at: dict[str, int]
    wrong: list[str]

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {number}" for name, number in self.looked_at.items())
        return "\n".join((counts, *self.wrong))


def judged(place: Site, told: Sequence[Told]) -> Verdict:
    """Every judge's verdict on a site where nothing is under way any more."""
    verdict = Verdict({}, [])
    _books_of_buyers(place, verdict)
    _every_sale_everywhere(place, told, verdict)
    _nothing_left_open(place, told, verdict)
    asyncio.run(_own_books(place, verdict))
    _counters(place, verdict)
    return verdict


def _books_of_buyers(place: Site, verdict: Verdict) -> None:
    """`buyers_sim.judge`, which knows nothing of the exchange. Caps that are `fast` may be exceeded
    when Valkey loses its memory: only strict ones are put before it."""
    agreed = place.folder / "agreed.json"
    contracts = {
        key: {
            "buyer": contract.buyer,
            "zone": "America/New_York",
            "caps": list(contract.caps) if contract.mode == "strict" else [],
        }
        for key, contract in place.contracts.items()
    }
    named = [name for name, field in FIELDS.items() if field.get("personal")]
    personal = {contract.vertical: named for contract in place.contracts.values()}
    agreed.write_text(json.dumps({"contracts": contracts, "personal": personal}))
    command = [sys.executable, "-m", "buyers_sim.judge", "--json", "--market", str(agreed)]
    command += ["--truth", str(place.buyers.truth), "--sellers", str(place.notes.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    judgement = json.loads(done.stdout)
    for check in judgement["checks"]:
        verdict.looked_at[check["name"]] = check["count"]
        verdict.wrong.extend(f"{check['name']}: {words}" for words in check["examples"])
    verdict.looked_at.update(judgement["happened"])


def accepted_posts(truth: Path) -> dict[str, dict[str, Any]]:
    """What buyers have in their books, by attempt."""
    found: dict[str, dict[str, Any]] = {}
    for file in truth.glob("*.jsonl"):
        for event in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            if event["kind"] == "post" and event["accepted"]:
                found.setdefault(event["attempt_id"], event)
    return found


def _every_sale_everywhere(place: Site, told: Sequence[Told], verdict: Verdict) -> None:
    """The sales that buyers have, that Postgres has and that sellers heard of are the same."""
    rows = place.sql(
        "SELECT attempt_id::text, lead_id::text, price_micros FROM attempt WHERE state = 'sold'"
    )
    booked = {row["attempt_id"]: row for row in rows}
    accepted = accepted_posts(place.buyers.truth)
    verdict.looked_at["sold_in_postgres"] = len(booked)
    verdict.looked_at["accepted_by_buyers"] = len(accepted)
    verdict.wrong.extend(
        f"attempt {one} is in a buyer's books and not sold" for one in accepted.keys() - booked
    )
    verdict.wrong.extend(
        f"attempt {one} is sold and in no buyer's books" for one in booked.keys() - accepted
    )
    leads = {row["lead_id"] for row in rows}
    acknowledged = {one.lead_id for one in told if one.status == "sold"}
    verdict.looked_at["told_sold"] = len(acknowledged)
    verdict.wrong.extend(f"lead {one} was told sold and is not" for one in acknowledged - leads)


def _nothing_left_open(place: Site, told: Sequence[Told], verdict: Verdict) -> None:
    verdict.wrong.extend(f"{row['state']}: {row['id']}" for row in place.sql(OPEN))
    keys = place.sql("SELECT key, lead_id::text, state FROM idem")
    verdict.looked_at["keys"] = len(keys)
    verdict.wrong.extend(
        f"key {row['key']} has no answer" for row in keys if row["state"] != "done"
    )
    verdict.wrong.extend(
        f"lead {one.lead_id}: its seller never heard" for one in told if one.status == "silent"
    )


async def _own_books(place: Site, verdict: Verdict) -> None:
    database = await Database.open(place.database_url, role="exchange_reader", party_id=1)
    try:
        ledger = await proven(database)
        verdict.looked_at["ledger"] = ledger.transfers
        verdict.wrong.extend(
            f"ledger: {one.name} {one.first}" for one in ledger.checks if one.wrong
        )
        custody = await Report(database, place.began).custody()
        verdict.looked_at["custody"] = custody.count
        if custody.violations:
            verdict.wrong.append(f"custody: {custody.violations} of {custody.count}")
        over = await database.fetch(STRICT_OVER)
        verdict.wrong.extend(f"strict window {row['win']} holds {row['used']}" for row in over)
    finally:
        await database.close()


STRICT_OVER = """
SELECT DISTINCT c.win, c.used FROM cap_window c
JOIN attempt a ON a.buyer_id = c.buyer_id AND a.cap_mode = 'strict'
CROSS JOIN jsonb_array_elements(a.windows) AS w
WHERE w->>0 = c.win AND c.used > (w->>1)::bigint
"""


def _counters(place: Site, verdict: Verdict) -> None:
    """Valkey's counters are the database's, and no hold is left. Holds of posts that never began
    expire after the post's deadline and a margin."""

    def settled() -> list[Any] | None:
        rows = json.loads(place.run("caps", "show", "--json"))
        odd = [row for row in rows if row["difference"] != 0 or row["held"] != 0]
        return None if odd and time.monotonic() < last else [rows, odd]

    last = time.monotonic() + 8
    rows, odd = until(settled, "counters")
    verdict.looked_at["cap_windows"] = len(rows)
    verdict.wrong.extend(f"caps of {row['contract']}: {row}" for row in odd)
