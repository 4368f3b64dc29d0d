"""Counts made from records, one slot file per process, summed at the scrape."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from exchange.core.model import Candidate, ContractAnswer, Ping
from exchange.core.reasons import Delivery, Loss, NonBid, Reason
from exchange.core.records import PingRecord, PostRecord, PostStep, RequestRecord
from exchange.effects.metrics import FAMILIES, LABELS, Metrics
from exchange.effects.metrics.text import FRESH_MS


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms


PING = Ping(
    ping_id="01890a5d-ac96-774b-bcce-b302099a8057",
    seller_id=7,
    source_id=1,
    vertical_id=3,
    fields={},
    received_at=datetime(2026, 5, 1, tzinfo=UTC),
    tmax_ms=1_500,
)


def ping_record(**changes: Any) -> PingRecord:
    record = PingRecord(
        ping=PING,
        outcome="offer",
        reason=None,
        answers=(
            ContractAnswer(contract_id=1, buyer_id=21, non_bid=None, price_micros=9, waited_ms=40),
            ContractAnswer(contract_id=2, buyer_id=22, non_bid=NonBid.TIMEOUT, waited_ms=1_490),
        ),
        ranking=(),
        payout_micros=8,
        expires_at_ms=1,
        eligible=2,
        reason_counts={NonBid.OUT_OF_CRITERIA: 5, NonBid.CAP_FULL: 1},
        book_version=1,
        mask_id=1,
        took_ms=41.0,
        waited_ms=40.0,
        added_ms=0.8,
        late_ms=0.0,
        worker="w",
    )
    return msgspec.structs.replace(record, **changes)


def post_record(**changes: Any) -> PostRecord:
    lost = PostStep(
        contract_id=1, buyer_id=21, rank=1, price_micros=9, payout_micros=8, loss=Loss.CAP_LOST
    )
    won = PostStep(
        contract_id=2,
        buyer_id=22,
        rank=2,
        price_micros=9,
        payout_micros=8,
        loss=Loss.WON,
        delivery=Delivery.ACCEPTED,
    )
    record = PostRecord(
        lead_id=PING.ping_id,
        seller_id=7,
        source_id=1,
        vertical_id=3,
        direct=False,
        status="sold",
        reason=None,
        price_micros=25_000_000,
        payout_micros=20_000_000,
        fee_micros=5_000_000,
        currency="USD",
        steps=(lost, won),
        replayed=False,
        took_ms=54.0,
        committed_ms=3.0,
        delivered_ms=50.0,
        reserved_ms=0.0,
        worker="w",
    )
    return msgspec.structs.replace(record, **changes)


def alone(**settings: Any) -> Metrics:
    return Metrics(clock=Clock(), folder=None, **settings)


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and sorted labels, read back by prometheus-client's own parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(text: bytes, name: str, **labels: str) -> float | None:
    return samples(text).get((name, tuple(sorted(labels.items()))))


# --- names ----------------------------------------------------------------------------------------


def test_names_labels_and_units_follow_prometheus_conventions() -> None:
    for name, family in FAMILIES.items():
        assert name.startswith("exchange_")
        assert name.endswith("_total") == (family.kind == "counter"), name
        assert not name.endswith(("_ms", "_milliseconds")), name
        assert bool(family.buckets) == (family.kind == "histogram"), name
        assert list(family.buckets) == sorted(set(family.buckets)), name
        assert set(family.labels) <= set(LABELS) - {"worker"}, name
        assert family.help.endswith("."), name
    used = {label for family in FAMILIES.values() for label in family.labels}
    assert used == set(LABELS) - {"worker"}


UNITS = ("seconds", "micros", "size", "total")
COUNTED = (
    *("length", "version", "contracts", "attempts", "holds", "full", "pending", "violations"),
    *("up", "healthy", "braked", "in_flight"),
)
"""Gauges that say what they count, or a state that is 0 or 1: without a unit by convention."""


def test_every_name_ends_in_its_unit_or_in_what_it_counts() -> None:
    for name, family in FAMILIES.items():
        assert name.endswith(UNITS if family.kind != "gauge" else (*UNITS, *COUNTED)), name
        assert not family.help[0].islower(), name


def test_every_family_renders_as_text_that_parses_even_before_anything_happened() -> None:
    text = alone().render()
    names = {family.name for family in text_string_to_metric_families(text.decode())}
    assert names == {name.removesuffix("_total") for name in FAMILIES}


# --- what records say -----------------------------------------------------------------------------


def test_a_batch_of_pings_is_counted_by_outcome_answer_and_reason() -> None:
    metrics = alone(party=lambda i: f"buyer-{i}", vertical=lambda i: f"vertical-{i}")
    late = ping_record(
        outcome="no_offer", reason=Reason.DEADLINE, late_ms=3.0, answers=(), reason_counts={}
    )
    metrics.pings([ping_record(), ping_record(), late])
    text = metrics.render()
    counted = {"vertical": "vertical-3", "way": "two_step"}
    assert value(text, "exchange_pings_total", **counted, outcome="offer", reason="") == 2
    assert (
        value(text, "exchange_pings_total", **counted, outcome="no_offer", reason="deadline") == 1
    )
    assert value(text, "exchange_answers_total", buyer="buyer-21", answer="bid") == 2
    assert value(text, "exchange_answers_total", buyer="buyer-22", answer="timeout") == 2
    assert value(text, "exchange_contracts_not_asked_total", reason="out_of_criteria") == 10
    assert value(text, "exchange_pings_late_total") == 1
    assert value(text, "exchange_ping_added_seconds_count") == 3
    assert value(text, "exchange_answer_seconds_bucket", buyer="buyer-21", le="0.05") == 2
    assert value(text, "exchange_answer_seconds_bucket", buyer="buyer-21", le="0.025") == 0


def test_an_observation_on_a_bound_belongs_to_that_bucket_and_buckets_add_up() -> None:
    metrics = alone()
    for added_ms in (1.0, 1.000_001, 10_000.0):
        metrics.pings([ping_record(added_ms=added_ms)])
    text = metrics.render()
    cumulative = {
        le: value(text, "exchange_ping_added_seconds_bucket", le=le)
        for le in ("0.0005", "0.001", "0.002", "1.0", "+Inf")
    }
    assert cumulative == {"0.0005": 0, "0.001": 1, "0.002": 2, "1.0": 2, "+Inf": 3}


def test_a_sale_is_counted_with_its_money_its_deliveries_and_its_losses() -> None:
    metrics = alone()
    metrics.post(post_record())
    text = metrics.render()
    sold = {"vertical": "3", "way": "two_step", "status": "sold", "reason": ""}
    assert value(text, "exchange_posts_total", **sold) == 1
    assert value(text, "exchange_deliveries_total", buyer="22", delivery="accepted") == 1
    assert value(text, "exchange_losses_total", buyer="21", loss="cap_lost") == 1
    assert value(text, "exchange_price_micros_total", buyer="22", currency="USD") == 25_000_000
    assert value(text, "exchange_payout_micros_total", currency="USD") == 20_000_000
    assert value(text, "exchange_sale_added_seconds_sum") == pytest.approx(0.004)
    assert value(text, "exchange_post_part_seconds_count", part="reserve") is None


@pytest.mark.parametrize("changes", [{"replayed": True}, {"test": True}, {"status": "pending"}])
def test_no_money_is_counted_for_what_is_no_sale(changes: dict[str, Any]) -> None:
    metrics = alone()
    metrics.post(post_record(**changes))
    text = metrics.render()
    assert value(text, "exchange_price_micros_total", buyer="22", currency="USD") is None


def test_what_a_direct_sale_added_is_not_told_for_its_auction_waited_too() -> None:
    metrics = alone()
    metrics.post(post_record(direct=True))
    text = metrics.render()
    assert value(text, "exchange_sale_added_seconds_count") is None
    assert value(text, "exchange_payout_micros_total", currency="USD") == 20_000_000


def test_refused_requests_limits_commits_and_jobs_have_their_counters() -> None:
    metrics = alone()
    metrics.request(
        RequestRecord(route="/v1/ping", status=401, problem="no_key", party_id=None, took_ms=0.1)
    )
    metrics.limit_hit("invited_max")
    metrics.commit_batch(12, 1.5)
    metrics.reconciled({"doubted": 2, "resolved": 1, "failed": 0})
    metrics.job_run("reconcile", "done")
    text = metrics.render()
    refused = {"route": "/v1/ping", "status": "401", "problem": "no_key"}
    assert value(text, "exchange_requests_refused_total", **refused) == 1
    assert value(text, "exchange_limit_hits_total", limit="invited_max") == 1
    assert value(text, "exchange_commit_batch_size_bucket", le="16.0") == 1
    assert value(text, "exchange_reconcile_cases_total", what="doubted") == 2
    assert value(text, "exchange_reconcile_cases_total", what="failed") is None
    assert value(text, "exchange_job_runs_total", job="reconcile", outcome="done") == 1


def test_limits_that_bit_and_room_held_are_read_from_the_records() -> None:
    metrics = alone()
    large = ContractAnswer(contract_id=1, buyer_id=21, non_bid=NonBid.REPLY_TOO_LARGE, waited_ms=1)
    held = Candidate(
        contract_id=2,
        buyer_id=22,
        price_micros=9,
        payout_micros=8,
        rank=1,
        fee_micros=1,
        attempt_id="held",
    )
    metrics.pings(
        [ping_record(answers=(large,), reason_counts={NonBid.NOT_INVITED: 3}, ranking=(held,))]
    )
    spent = PostStep(
        contract_id=1,
        buyer_id=21,
        rank=4,
        price_micros=9,
        payout_micros=8,
        loss=Loss.RELEASES_SPENT,
    )
    metrics.post(post_record(status="unsold", steps=(spent,)))
    text = metrics.render()
    for limit, hits in (("invited_max", 3), ("reply_bytes_max", 1), ("releases_max", 1)):
        assert value(text, "exchange_limit_hits_total", limit=limit) == hits
    assert value(text, "exchange_offer_holds_total", buyer="22") == 1


async def test_the_slowest_of_a_batch_is_the_exemplar_for_who_asks_for_open_metrics() -> None:
    metrics = alone()
    slow = msgspec.structs.replace(PING, ping_id="01890a5d-ac96-774b-bcce-b302099a8058")
    metrics.pings([ping_record(), ping_record(ping=slow, added_ms=4.0), ping_record()])
    metrics.post(post_record())
    text, kind = await metrics.scrape("application/openmetrics-text; version=1.0.0, */*;q=0.1")
    assert kind.startswith("application/openmetrics-text")
    seen = {
        sample.name: sample.exemplar
        for family in open_metrics_families(text.decode())
        for sample in family.samples
        if sample.exemplar is not None
    }
    added = seen["exchange_ping_added_seconds_bucket"]
    assert added.labels == {"trace_id": slow.ping_id.replace("-", "")}
    assert added.value == 0.004
    assert set(seen) >= {"exchange_post_seconds_bucket", "exchange_sale_added_seconds_bucket"}
    plain, kind = await metrics.scrape("text/plain")
    assert kind.startswith("text/plain")
    assert b"trace_id" not in plain


# --- what parts keep themselves -------------------------------------------------------------------


def test_gauges_are_asked_when_told_and_carry_the_worker() -> None:
    metrics = alone()
    waiting = {("journal",): 3.0}
    metrics.gauge("exchange_queue_length", lambda: waiting)
    assert value(metrics.render(), "exchange_queue_length", queue="journal", worker="0") == 3
    waiting[("journal",)] = 0.0
    assert value(metrics.render(), "exchange_queue_length", queue="journal", worker="0") == 0


def test_a_counter_that_follows_a_part_survives_the_part_starting_anew() -> None:
    metrics = alone()
    kept = {("acme", "new"): 5.0}
    metrics.follow("exchange_buyer_connections_total", lambda: kept)
    counted = []
    for now in (5.0, 7.0, 2.0):  # the part was made anew before the third look
        kept[("acme", "new")] = now
        text = metrics.render()
        counted.append(value(text, "exchange_buyer_connections_total", buyer="acme", kind="new"))
    assert counted == [5, 7, 9]


def test_a_counter_that_follows_a_part_is_told_from_zero_on_but_for_each_buyers_own() -> None:
    metrics = alone()
    metrics.follow("exchange_dropped_total", lambda: {("log",): 0.0})
    metrics.follow("exchange_late_replies_total", lambda: {("acme",): 0.0})
    text = metrics.render()
    assert value(text, "exchange_dropped_total", queue="log") == 0
    assert value(text, "exchange_late_replies_total", buyer="acme") is None


def test_a_gauge_cannot_be_followed_nor_a_counter_set() -> None:
    with pytest.raises(ValueError, match="is a gauge"):
        alone().follow("exchange_up", dict)
    with pytest.raises(ValueError, match="is a counter"):
        alone().gauge("exchange_dropped_total", dict)


def test_label_sets_past_the_limit_are_counted_as_other_and_the_limit_as_bitten() -> None:
    metrics = alone(series_max=2)
    for status in (400, 401, 403, 404, 400):
        metrics.request(
            RequestRecord(route="/", status=status, problem="x", party_id=None, took_ms=0)
        )
    text = metrics.render()
    name = "exchange_requests_refused_total"
    assert value(text, name, route="/", status="400", problem="x") == 2
    assert value(text, name, route="other", status="other", problem="other") == 2
    assert value(text, "exchange_limit_hits_total", limit="metric_series_max") == 2


# --- several processes ----------------------------------------------------------------------------


def in_folder(folder: Path, clock: Clock) -> Metrics:
    return Metrics(clock=clock, folder=folder)


def test_any_worker_tells_the_sum_of_all(tmp_path: Path) -> None:
    clock = Clock()
    one, two = in_folder(tmp_path, clock), in_folder(tmp_path, clock)
    one.limit_hit("invited_max", 2)
    two.limit_hit("invited_max", 3)
    one.commit_batch(1, 1.0)
    two.commit_batch(100, 1.0)
    one.render()
    two.render()
    for metrics in (one, two):
        text = metrics.render()
        assert value(text, "exchange_limit_hits_total", limit="invited_max") == 5
        assert value(text, "exchange_commit_batch_size_sum") == 101
        assert value(text, "exchange_commit_batch_size_bucket", le="1.0") == 1
    one.close()
    two.close()


def test_scrapes_that_alternate_between_workers_never_see_a_sum_go_back(tmp_path: Path) -> None:
    clock = Clock()
    workers = [in_folder(tmp_path, clock), in_folder(tmp_path, clock)]
    seen = []
    for turn in range(20):
        workers[turn % 3 % 2].limit_hit("body_bytes_max")
        text = workers[turn % 2].render()
        seen.append(value(text, "exchange_limit_hits_total", limit="body_bytes_max") or 0)
    assert seen == sorted(seen)
    for metrics in workers:
        metrics.close()


def test_the_next_holder_of_a_slot_carries_on_from_its_counts(tmp_path: Path) -> None:
    clock = Clock()
    first = in_folder(tmp_path, clock)
    first.limit_hit("invited_max", 4)
    first.close()
    second = in_folder(tmp_path, clock)
    second.limit_hit("invited_max")
    text = second.render()
    assert value(text, "exchange_limit_hits_total", limit="invited_max") == 5
    assert len(list(tmp_path.glob("*.counts"))) == 1
    second.close()


def test_gauges_of_a_process_that_went_silent_are_left_out_but_its_counts_stay(
    tmp_path: Path,
) -> None:
    clock = Clock()
    gone, here = in_folder(tmp_path, clock), in_folder(tmp_path, clock)
    for metrics in (gone, here):
        metrics.gauge("exchange_book_version", lambda: {(): 9.0})
        metrics.limit_hit("invited_max")
        metrics.render()
    clock.ms += FRESH_MS + 1
    text = here.render()
    assert value(text, "exchange_book_version", worker="0") is None
    assert value(text, "exchange_book_version", worker="1") == 9
    assert value(text, "exchange_limit_hits_total", limit="invited_max") == 2
    gone.close()
    here.close()


@pytest.mark.parametrize("image", [b"", b"\xff\xff", b'{"not": "counts"}'])
def test_an_unreadable_file_is_as_no_file(tmp_path: Path, image: bytes) -> None:
    (tmp_path / "slot-0.counts").write_bytes(image)
    metrics = in_folder(tmp_path, Clock())
    metrics.limit_hit("invited_max")
    assert value(metrics.render(), "exchange_limit_hits_total", limit="invited_max") == 1
    metrics.close()


CHILD = """
import sys
from pathlib import Path
from exchange.effects.clock import Clock
from exchange.effects.metrics import Metrics
metrics = Metrics(clock=Clock(), folder=Path(sys.argv[1]))
metrics.limit_hit("invited_max", 10)
metrics.render()
print("counted", flush=True)
sys.stdin.read()
"""


def test_a_worker_killed_in_the_middle_takes_nothing_out_of_the_sum(tmp_path: Path) -> None:
    def started() -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"counted\n"
        return child

    def killed(child: subprocess.Popen[bytes]) -> None:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()

    here = in_folder(tmp_path, Clock())
    sums = []
    for _ in range(2):
        child = started()
        sums.append(value(here.render(), "exchange_limit_hits_total", limit="invited_max"))
        killed(child)
        sums.append(value(here.render(), "exchange_limit_hits_total", limit="invited_max"))
    assert sums == [10, 10, 20, 20]
    assert len(list(tmp_path.glob("*.counts"))) == 2  # the second child took the first one's slot
    here.close()


async def test_a_full_disk_costs_nothing_but_the_view_of_the_others(tmp_path: Path) -> None:
    metrics = in_folder(tmp_path / "gone", Clock())
    for path in (tmp_path / "gone").iterdir():
        path.unlink()
    (tmp_path / "gone").rmdir()
    metrics.limit_hit("invited_max")
    text, _ = await metrics.scrape("")
    assert value(text, "exchange_limit_hits_total", limit="invited_max") == 1


async def test_the_loop_writes_and_measures_its_lag_until_cancelled(tmp_path: Path) -> None:
    metrics = in_folder(tmp_path, Clock())
    task = asyncio.create_task(metrics.run())
    while not (tmp_path / "slot-0.counts").exists():
        await asyncio.wait([task], timeout=0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (value(metrics.render(), "exchange_loop_lag_seconds_count") or 0) >= 10
    metrics.close()
