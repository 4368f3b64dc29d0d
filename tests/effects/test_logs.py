"""The log: what is logged, what never is, and that nobody waits for it."""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exchange.core.model import Candidate, ContractAnswer, Ping, PingConsent
from exchange.core.reasons import Delivery, Loss, NonBid, Reason
from exchange.core.records import PingRecord, PostRecord, PostStep, RequestRecord
from exchange.effects.logs import Log

CANARY = "canary-7c1f"
SAMPLED_LOW, SAMPLED_HIGH = "00000001", "ffffffff"


class Clock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


def ping_id(tail: str = SAMPLED_LOW) -> str:
    return f"01890a5d-ac96-774b-bcce-b302{tail}"


def ping_record(
    *, outcome: str = "offer", reason: int | None = None, tail: str = SAMPLED_LOW, **changes: Any
) -> PingRecord:
    ping = Ping(
        ping_id=ping_id(tail),
        seller_id=7,
        source_id=1,
        vertical_id=3,
        fields={"zip": CANARY, "phone": CANARY},
        received_at=datetime(2026, 5, 1, tzinfo=UTC),
        tmax_ms=1_500,
        sub_id=CANARY,
        external_id=CANARY,
        consent=PingConsent(kind="tcpa", ping_url=CANARY, text_version=CANARY),
        gated=(CANARY,),
    )
    record = PingRecord(
        ping=ping,
        outcome="offer",
        reason=reason,
        answers=(
            ContractAnswer(contract_id=1, buyer_id=21, non_bid=None, buyer_ref=CANARY),
            ContractAnswer(contract_id=2, buyer_id=22, non_bid=NonBid.TIMEOUT),
        ),
        ranking=(
            Candidate(
                contract_id=1,
                buyer_id=21,
                rank=1,
                price_micros=9,
                payout_micros=8,
                fee_micros=1,
                buyer_ref=CANARY,
            ),
        ),
        payout_micros=8,
        expires_at_ms=1,
        eligible=2,
        reason_counts={},
        book_version=1,
        mask_id=1,
        took_ms=41.123456,
        waited_ms=40.0,
        added_ms=0.8,
        late_ms=0.0,
        worker="w",
    )
    return msgspec.structs.replace(record, outcome=outcome, **changes)


def post_record() -> PostRecord:
    step = PostStep(
        contract_id=2,
        buyer_id=22,
        rank=1,
        price_micros=9,
        payout_micros=8,
        loss=Loss.POST_REJECTED,
        attempt_id="a-1",
        delivery=Delivery.REJECTED,
        buyer_reason=CANARY,
    )
    return PostRecord(
        lead_id=ping_id(),
        seller_id=7,
        source_id=1,
        vertical_id=3,
        direct=False,
        status="unsold",
        reason=Reason.NOBODY_BOUGHT,
        price_micros=0,
        payout_micros=0,
        fee_micros=0,
        currency="USD",
        steps=(step,),
        replayed=False,
        took_ms=54.0,
        committed_ms=3.0,
        delivered_ms=50.0,
        reserved_ms=0.0,
        worker="w",
    )


def opened(target: Path, **changes: Any) -> Log:
    settings = {"no_offer_share": 0.5, "queue_max": 1_000, "worker": "2", **changes}
    return Log(clock=Clock(), target=str(target), **settings)


def lines(target: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in target.read_text().splitlines()]


def test_a_ping_is_one_line_with_its_decision(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    log.pings([ping_record()])
    log.close()
    [line] = lines(tmp_path / "log")
    assert line["event"] == "ping"
    assert line["worker"] == "2"
    assert line["ping_id"] == ping_id()
    assert line["answers"] == {"1": "bid", "2": "timeout"}
    assert (line["winner"], line["took_ms"], line["gated"]) == (1, 41.123, 1)


def test_a_post_is_one_line_with_every_candidates_turn(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    log.post(post_record())
    log.close()
    [line] = lines(tmp_path / "log")
    assert (line["event"], line["status"], line["reason"]) == ("post", "unsold", "nobody_bought")
    [step] = line["steps"]
    assert (step["loss"], step["delivery"]) == ("post_rejected", "rejected")


def test_a_refused_request_is_one_line(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    log.request(
        RequestRecord(route="/v1/ping", status=401, problem="no_key", party_id=None, took_ms=0.25)
    )
    log.close()
    [line] = lines(tmp_path / "log")
    assert line["event"] == "request"
    assert (line["route"], line["status"], line["problem"]) == ("/v1/ping", 401, "no_key")


@pytest.mark.parametrize(
    ("outcome", "tail", "share", "logged"),
    [
        ("offer", SAMPLED_HIGH, 0.0, True),
        ("no_offer", SAMPLED_LOW, 0.5, True),
        ("no_offer", SAMPLED_HIGH, 0.5, False),
        ("no_offer", SAMPLED_LOW, 0.0, False),
        ("no_offer", SAMPLED_HIGH, 1.0, True),
    ],
)
def test_pings_without_an_offer_are_sampled_by_their_own_id(
    tmp_path: Path, outcome: str, tail: str, share: float, logged: bool
) -> None:
    log = opened(tmp_path / "log", no_offer_share=share)
    log.pings([ping_record(outcome=outcome, reason=Reason.NO_BIDS, tail=tail)])
    log.close()
    assert len(lines(tmp_path / "log")) == int(logged)


# --- nothing personal -----------------------------------------------------------------------------


class Unprintable:
    def __str__(self) -> str:
        return CANARY

    __repr__ = __str__


def test_no_canary_planted_anywhere_in_a_record_or_an_error_reaches_the_log(
    tmp_path: Path,
) -> None:
    log = opened(tmp_path / "log")
    log.pings([ping_record(), ping_record(outcome="no_offer", reason=Reason.NO_BIDS)])
    log.post(post_record())
    events = log.events(part="jobs")
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        events.error("job_failed", exc_info=error, what=Unprintable())
        events.exception("job_failed_again")
    library = logging.Logger("library")
    library.addHandler(log.bridge())
    library.warning("bad request line: %r", CANARY)
    library.warning(f"bad request line: {CANARY}")  # libraries do
    library.error("failed", exc_info=ValueError(CANARY))
    log.close()
    text = (tmp_path / "log").read_text()
    assert len(text.splitlines()) == 8
    assert CANARY not in text


def test_an_error_is_told_by_its_type_and_place(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    try:
        raise LookupError("secret")
    except LookupError as error:
        log.events(part="jobs").error("job_failed", exc_info=error, job="reconcile")
    log.close()
    [line] = lines(tmp_path / "log")
    assert (line["event"], line["level"], line["part"]) == ("job_failed", "error", "jobs")
    assert (line["job"], line["exception"]) == ("reconcile", "LookupError")
    assert line["frames"][0].startswith("test_logs.py:")


# --- nobody waits ---------------------------------------------------------------------------------


def stalled_pipe(tmp_path: Path) -> tuple[Path, int]:
    """A named pipe whose reader reads nothing."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    return pipe, os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)


def test_a_reader_that_stalls_costs_lines_and_never_blocks_the_caller(tmp_path: Path) -> None:
    pipe, reader = stalled_pipe(tmp_path)
    log = opened(pipe, queue_max=50)
    for _ in range(5_000):
        log.post(post_record())
    assert log.queued <= 50
    assert log.dropped >= 5_000 - 50 - 1_000
    os.close(reader)  # the write that hangs fails now, and the log carries on to its end
    log.close()


def test_a_reader_that_left_is_counted_not_raised(tmp_path: Path) -> None:
    pipe, reader = stalled_pipe(tmp_path)
    log = opened(pipe)
    os.close(reader)
    log.post(post_record())
    log.close()
    assert log.dropped == 1


def test_closing_writes_what_is_queued_and_later_lines_are_dropped(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    for _ in range(100):
        log.post(post_record())
    log.close()
    log.post(post_record())
    assert len(lines(tmp_path / "log")) == 100
    assert log.dropped == 1
