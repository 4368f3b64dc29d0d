"""Every metric there is, as a table: name, kind, sentence, labels, buckets.

Names and units follow Prometheus' conventions: base units (seconds), `_total` on counters; money
is in micros and says so. Every label stands in `LABELS` with where its values come from: a closed
list or the market, never a request.
"""

from typing import Final, Literal

import msgspec

Labels = tuple[str, ...]
"""The values of a family's labels, in the family's order."""

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BUYER = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Coarser: these come once per buyer."""
_ADDED = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Finer around what speed is promised: 1 ms at the median, 5 ms at p99, and 10 ms for a sale."""
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


LABELS: Final[dict[str, str]] = {
    "answer": "`bid`, or a non-bid code",
    "buyer": "the market's buyers",
    "currency": "the market's currencies",
    "decision": "`granted`, `denied`, `referred`, `appealed`, `lapsed`",
    "delivery": "`accepted`, `rejected`, `not_sent`, `unknown`",
    "job": (
        "`reconcile`, `outbox`, `wallets`, `lapses`, `incidents`, `auto_pause`, `terms`,"
        " `resale`, `balances`, `partitions`, `inspection`"
    ),
    "kind": "`new`, `reused`, `failed`",
    "limit": "the table of limits, and the market's own rates",
    "loss": "a loss code",
    "outcome": "of a ping `offer`, `no_offer`; of a job `done`, `failed`, `deposed`; of a resale "
    "`sold`, `unsold`, `in_doubt`, `refused`",
    "part": "`commit`, `deliver`, `reserve`",
    "problem": "the API's list of problems",
    "proof": "`custody`, `ledger`",
    "queue": "`journal`, `log`, `commits`, `valkey`, `caps`, `traces`",
    "reason": "a reason code, a non-bid code, a return reason or why a lead was not sold "
    "again; empty when there is none",
    "route": "the API's paths",
    "server": "`postgres`, `valkey`",
    "state": "`posting`, `unknown`",
    "status": "what a seller hears of a post; of a refused request the HTTP status",
    "vertical": "the market's verticals",
    "way": "`two_step`, `direct`",
    "what": "what reconcile does with a case",
    "worker": "on every gauge: the slot of the process that tells it",
}
"""Every label and where its values come from."""


class Family(msgspec.Struct, frozen=True):
    """One metric: its kind, its sentence, its labels, and the upper bounds of a histogram."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


FAMILIES: Final[dict[str, Family]] = {
    # from the record of a ping
    "exchange_pings_total": Family(
        "counter", "Pings answered, by outcome.", ("vertical", "way", "outcome", "reason")
    ),
    "exchange_ping_seconds": Family(
        "histogram", "From reading a ping to writing its answer.", (), _LATENCY
    ),
    "exchange_ping_added_seconds": Family(
        "histogram", "What the exchange adds to its slowest awaited buyer.", (), _ADDED
    ),
    "exchange_pings_late_total": Family("counter", "Pings answered after their tmax."),
    "exchange_answers_total": Family(
        "counter", "How invitations ended: a bid or a non-bid code.", ("buyer", "answer")
    ),
    "exchange_answer_seconds": Family(
        "histogram", "From asking a buyer to its answer or the end.", ("buyer",), _BUYER
    ),
    "exchange_contracts_not_asked_total": Family(
        "counter", "Contracts not invited to a ping, by reason.", ("reason",)
    ),
    "exchange_offer_holds_total": Family(
        "counter", "Offers whose best candidate has its room held from the offer on.", ("buyer",)
    ),
    # from the record of a post
    "exchange_posts_total": Family(
        "counter", "Posts answered, by status.", ("vertical", "way", "status", "reason")
    ),
    "exchange_post_seconds": Family(
        "histogram", "From reading a post to writing its answer.", ("status",), _LATENCY
    ),
    "exchange_sale_added_seconds": Family(
        "histogram",
        "What the exchange adds to a sale in two steps: all but waiting for buyers.",
        (),
        _ADDED,
    ),
    "exchange_post_part_seconds": Family(
        "histogram", "Where a post's time goes: commit, deliver, reserve.", ("part",), _LATENCY
    ),
    "exchange_deliveries_total": Family(
        "counter", "Attempts, by how the delivery ended.", ("buyer", "delivery")
    ),
    "exchange_losses_total": Family(
        "counter", "Bids that had their turn and did not win, by reason.", ("buyer", "loss")
    ),
    "exchange_price_micros_total": Family(
        "counter", "What buyers pay for leads sold at once, in micros.", ("buyer", "currency")
    ),
    "exchange_payout_micros_total": Family(
        "counter", "What sellers get for leads sold at once, in micros.", ("currency",)
    ),
    # from the record of a return
    "exchange_returns_total": Family(
        "counter", "Steps of returns, by the state they came to.", ("buyer", "reason", "decision")
    ),
    "exchange_return_seconds": Family(
        "histogram", "From reading a claim, an appeal or a decision to its answer.", (), _LATENCY
    ),
    "exchange_credit_micros_total": Family(
        "counter", "What buyers are credited for returned leads, in micros.", ("buyer", "currency")
    ),
    "exchange_source_pauses_total": Family(
        "counter", "Sources that a rule of the market paused at a buyer.", ("buyer",)
    ),
    # from requests that ended before a flow began, and from jobs
    "exchange_resales_total": Family(
        "counter", "Returned leads looked at for another sale, by outcome.", ("outcome", "reason")
    ),
    "exchange_requests_refused_total": Family(
        "counter", "Requests refused before a flow began.", ("route", "status", "problem")
    ),
    "exchange_reconcile_cases_total": Family(
        "counter", "Cases reconcile took up: doubted, resolved, postponed and so on.", ("what",)
    ),
    "exchange_job_runs_total": Family(
        "counter",
        "Turns of a job: done, failed, deposed.",
        ("job", "outcome"),
    ),
    # from inspecting the database, by the jobs process
    "exchange_open_attempts": Family(
        "gauge", "Attempts under way or in doubt (state unknown).", ("buyer", "state")
    ),
    "exchange_doubt_price_micros": Family(
        "gauge", "What the leads in doubt would cost their buyers, in micros.", ("currency",)
    ),
    "exchange_doubt_oldest_seconds": Family("gauge", "Age of the oldest attempt in doubt."),
    "exchange_cap_holds": Family(
        "gauge", "Attempts under way or in doubt that hold room under caps.", ("buyer",)
    ),
    "exchange_outbox_pending": Family("gauge", "Webhooks owed and not yet delivered."),
    "exchange_outbox_oldest_seconds": Family("gauge", "Age of the oldest webhook owed."),
    "exchange_proof_leads_total": Family(
        "counter", "Leads whose custody chain and bookings were proven again."
    ),
    "exchange_proof_violations": Family(
        "gauge", "Leads of the last day whose proof fails.", ("proof",)
    ),
    "exchange_proof_timestamp_seconds": Family(
        "gauge", "When the last round of proofs ended, in Unix time."
    ),
    "exchange_custody_lag_seconds": Family(
        "gauge", "Age of the newest moment up to which every lead is proven."
    ),
    # from the parts
    "exchange_cap_rebuilds_total": Family("counter", "Counts of a buyer's caps made anew."),
    "exchange_cap_windows_full": Family("gauge", "Cap windows that this worker thinks full."),
    "exchange_server_seconds": Family(
        "histogram", "Round trip to Postgres or Valkey, tried once a second.", ("server",), _ADDED
    ),
    "exchange_commit_failures_total": Family(
        "counter", "Units refused because the database was away or the queue full."
    ),
    "exchange_buyer_braked": Family(
        "gauge", "1 while posting to a buyer has stopped for its doubts.", ("buyer",)
    ),
    "exchange_book_contracts": Family("gauge", "Open contracts of the book in force."),
    "exchange_start_timestamp_seconds": Family("gauge", "When a process started, in Unix time."),
    "exchange_limit_hits_total": Family("counter", "A limit bit, by its name.", ("limit",)),
    "exchange_dropped_total": Family("counter", "Entries a full queue dropped.", ("queue",)),
    "exchange_commit_batch_size": Family("histogram", "Units in one commit.", (), _SIZES),
    "exchange_commit_seconds": Family("histogram", "One group commit.", (), _ADDED),
    "exchange_buyer_connections_total": Family(
        "counter", "Connections to a buyer: new, reused, failed.", ("buyer", "kind")
    ),
    "exchange_late_replies_total": Family(
        "counter", "Replies of buyers that came after the deadline.", ("buyer",)
    ),
    "exchange_loop_lag_seconds": Family("histogram", "Lateness of the event loop.", (), _ADDED),
    "exchange_queue_length": Family("gauge", "Entries waiting in a queue.", ("queue",)),
    "exchange_up": Family("gauge", "1 when Postgres or Valkey answers.", ("server",)),
    "exchange_buyer_healthy": Family("gauge", "0 while an endpoint is rested.", ("buyer",)),
    "exchange_buyer_in_flight": Family("gauge", "Requests to a buyer under way.", ("buyer",)),
    "exchange_book_version": Family("gauge", "The version of the book in force."),
    "exchange_book_age_seconds": Family("gauge", "Since the book in force was taken up."),
}
