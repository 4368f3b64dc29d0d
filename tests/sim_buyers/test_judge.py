"""The judge passes a good run and catches every breach by the check that is named for it."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from buyers_sim.caps import SLACK, fillings, window
from buyers_sim.events import Event, encode
from buyers_sim.evidence import Case, Market, Told
from buyers_sim.judge import judged
from buyers_sim.truth import Truth

START = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
MARKET = {
    "contracts": {
        "acme-solar": {
            "buyer": "acme",
            "zone": "America/Chicago",
            "caps": [
                {"leads": 2, "per": "day"},
                {"leads": 1, "per": "hour", "each": "state"},
                {"money": "40.00", "per": "month"},
            ],
        },
        "beacon-solar": {"buyer": "beacon", "caps": [{"leads": 9, "per": "total"}]},
    },
    "personal": {"solar": ["phone"]},
}


def post(lead: str, buyer: str, answered: str = "accepted", **more: Any) -> Event:
    number = int(lead[1:])
    state = ("CA", "NV", "OR", "TX")[number % 4]
    body = {"lead_id": lead, "lead": {"phone": f"+1310555{number:04d}", "state": state}}
    values: dict[str, Any] = {
        "at": START + timedelta(seconds=number),
        "buyer": buyer,
        "kind": "post",
        "accepted": answered.startswith("accepted"),
        "answered": answered,
        "lead_id": lead,
        "attempt_id": f"{lead}-{buyer}",
        "idempotency_key": f"{lead}-{buyer}",
        "contract": f"{buyer}-solar",
        "price": "20.00",
        "body": json.dumps(body),
    }
    return Event(**{**values, **more})


def ping(lead: str, buyer: str, body: str = '{"state": "CA"}', answered: str = "bid") -> Event:
    at = START + timedelta(seconds=int(lead[1:]) - 0.5)
    return Event(
        at=at,
        buyer=buyer,
        kind="ping",
        accepted=False,
        answered=answered,
        ping_id=lead,
        body=body,
    )


def status(lead: str, buyer: str, answered: str) -> Event:
    at = START + timedelta(seconds=int(lead[1:]) + 0.1)
    attempt_id = f"{lead}-{buyer}"
    return Event(
        at=at,
        buyer=buyer,
        kind="status",
        accepted=answered == "accepted",
        answered=answered,
        attempt_id=attempt_id,
    )


def told(lead: str, status: str, *, payout: str = "17.00", promise: str = "17.00", **sent: Any):
    phone = f"+1310555{int(lead[1:]):04d}"
    offer = {"ping_id": lead, "status": "offer", "payout": promise}
    fields = {"vertical": "solar", "fields": {"phone": phone}}
    reply: dict[str, Any] = {"lead_id": lead, "status": status}
    if status == "sold":
        reply["payout"] = payout
    body = {"ping_id": lead, "lead": {"phone": phone}, **sent}
    return [
        Told(kind="ping", http=200, sent=fields, reply=offer),
        Told(kind="post", http=200, sent=body, reply=reply),
    ]


def good_run() -> tuple[list[Event], list[Told]]:
    """Lead 1 sold at once, 2 after a no, 3 after a lost answer, 4 unsold, 5 still in doubt."""
    events = [ping(f"l{n}", buyer) for n in range(1, 6) for buyer in ("acme", "beacon")]
    events += [
        post("l1", "acme"),
        post("l2", "beacon", "rejected"),
        post("l2", "acme", at=START + timedelta(seconds=2.5)),
        post("l3", "beacon", "accepted_then_reset"),
        status("l3", "beacon", "accepted"),
        post("l4", "beacon", "rejected"),
        post("l5", "beacon", "hung"),
        ping("l6", "beacon", answered="hung"),
    ]
    lines = [*told("l1", "sold"), *told("l2", "sold"), *told("l3", "pending")]
    lines += [*told("l4", "unsold"), *told("l5", "pending")]
    final = {"lead_id": "l3", "status": "sold", "payout": "17.00"}
    lines.append(Told(kind="final", http=200, reply=final))
    lines.append(Told(kind="direct", http=422, sent={"vertical": "solar"}, reply={"status": 422}))
    return events, lines


def violated(events: list[Event], lines: list[Told], market: Any = MARKET) -> set[str]:
    by_buyer: dict[str, list[Event]] = {}
    for event in events:
        by_buyer.setdefault(event.buyer, []).append(event)
    case = Case(Truth(by_buyer), lines, msgspec.convert(market, Market))
    return {check.name for check in judged(case).checks if check.violations}


def test_a_good_run_holds_and_every_check_has_something_to_test():
    events, lines = good_run()
    assert violated(events, lines) == set()
    by_buyer = {
        name: [event for event in events if event.buyer == name] for name in ("acme", "beacon")
    }
    judgement = judged(Case(Truth(by_buyer), lines, msgspec.convert(MARKET, Market)))
    assert all(check.count for check in judgement.checks)
    assert judgement.happened == {
        "pings": 11,
        "posts": 6,
        "accepted_leads": 3,
        "caps_filled": 4,
        "fell_through": 1,
        "in_doubt": 2,
        "in_doubt_then_sold": 1,
        "hung_pings": 1,
    }


BREACHES: list[tuple[str, list[Event], list[Told], set[str]]] = [
    ("a third lead of a day", [post("l7", "acme", price="0.01")], [], {"caps_never_exceeded"}),
    (
        "a second lead of a segment",
        [post("l5", "acme", price="0.01", at=START)],
        [],
        {"caps_never_exceeded", "released_again_only_after_a_no"},
    ),
    (
        "a lead of a contract nobody knows",
        [post("l8", "beacon", contract="")],
        [],
        {"caps_never_exceeded"},
    ),
    (
        "a lead at two buyers",
        [post("l1", "beacon", at=START + timedelta(seconds=2))],
        [],
        {
            "no_exclusive_lead_sold_twice",
            "sold_means_accepted_once",
            "released_again_only_after_a_no",
        },
    ),
    ("sold, and in nobody's books", [], told("l9", "sold"), {"sold_means_accepted_once"}),
    (
        "unsold, and in somebody's books",
        [post("l9", "beacon")],
        told("l9", "unsold"),
        {"unsold_means_accepted_by_nobody"},
    ),
    (
        "less than promised",
        [post("l9", "beacon")],
        told("l9", "sold", payout="16.99"),
        {"payout_keeps_the_promise"},
    ),
    (
        "less than the seller agreed to",
        [post("l9", "beacon")],
        told("l9", "sold", payout="14.99", min_payout="15.00"),
        {"payout_keeps_the_promise"},
    ),
    (
        "more than the buyer pays",
        [post("l9", "beacon", price="16.00")],
        told("l9", "sold"),
        {"payout_within_the_price"},
    ),
    (
        "resold while in doubt",
        [post("l5", "acme", "rejected", at=START + timedelta(seconds=6))],
        [],
        {"released_again_only_after_a_no"},
    ),
    (
        "released to four buyers",
        [post("l9", name, "rejected") for name in ("beacon", "cedar", "delta", "ember")],
        [],
        {"released_again_only_after_a_no"},
    ),
    (
        "a post without its key",
        [post("l9", "beacon", "rejected", idempotency_key="")],
        [],
        {"posts_carry_key_and_signature"},
    ),
    (
        "a post that is not signed",
        [post("l9", "beacon", "unsigned", signature="missing")],
        [],
        {"posts_carry_key_and_signature"},
    ),
    (
        "a phone in a ping",
        [ping("l1", "beacon", '{"p": "%2B13105550001"}')],
        [],
        {"no_canary_at_a_loser"},
    ),
    (
        "a phone of a refused request",
        [ping("l1", "beacon", "3105559999")],
        [Told(kind="direct", http=422, sent={}, canaries=("+13105559999",))],
        {"no_canary_at_a_loser"},
    ),
]


@pytest.mark.parametrize(
    ("events", "lines", "names"),
    [pytest.param(*breach[1:], id=breach[0]) for breach in BREACHES],
)
def test_a_breach_is_caught_by_its_check(events, lines, names):
    run, replies = good_run()
    assert violated(run + events, replies + lines) == names


def test_money_over_its_cap_is_caught():
    events, lines = good_run()
    dear = [msgspec.structs.replace(e, price="20.01") for e in events if e.kind == "post"]
    rest = [event for event in events if event.kind != "post"]
    assert violated(rest + dear, lines) == {"caps_never_exceeded"}


def test_a_cap_that_cannot_be_judged_is_a_violation():
    events, lines = good_run()
    for cap in ({"leads": 9, "per": "day"}, {"leads": 9, "per": "hour", "each": "color"}):
        contract = {"buyer": "beacon", "caps": [cap]}
        market = {**MARKET, "contracts": {**MARKET["contracts"], "beacon-solar": contract}}
        assert violated(events, lines, market) == {"caps_never_exceeded"}


@pytest.mark.parametrize(
    ("answered", "seen", "allowed"),
    [
        ("hung", "never_seen", True),
        ("hung", "rejected", True),
        ("hung", "error", False),
        ("error", None, False),
        ("malformed:empty", "rejected", True),
        ("accepted_then_hung", "never_seen", False),
    ],
)
def test_after_silence_only_an_inquiry_frees_a_lead(answered, seen, allowed):
    events = [post("l9", "beacon", answered)]
    events += [status("l9", "beacon", seen)] if seen else []
    events.append(post("l9", "acme", "rejected", at=START + timedelta(seconds=10)))
    assert ("released_again_only_after_a_no" in violated(events, [])) is not allowed


def test_a_direct_lead_is_held_against_its_floor():
    events = [post("l9", "beacon")]
    reply = {"lead_id": "l9", "status": "sold", "payout": "9.99"}
    for floor, names in (("9.99", set()), ("10", {"payout_keeps_the_promise"})):
        line = Told(kind="direct", http=200, sent={"floor": floor}, reply=reply)
        assert violated(events, [line]) == names


def test_the_promise_is_that_of_the_offer_taken_up():
    asked, posted = told("l9", "sold", payout="15.00", offer_id="o2")
    offers = [{"offer_id": "o1", "payout": "17.00"}, {"offer_id": "o2", "payout": "15.00"}]
    asked = msgspec.structs.replace(asked, reply={**(asked.reply or {}), "offers": offers})
    assert violated([post("l9", "beacon")], [asked, posted]) == set()


CHICAGO = ZoneInfo("America/Chicago")


@pytest.mark.parametrize(
    ("per", "before", "after"),
    [
        ("day", "2026-01-06T05:59:59Z", "2026-01-06T06:00:00Z"),
        ("day", "2026-03-09T04:59:59Z", "2026-03-09T05:00:00Z"),  # the day after the clocks changed
        ("week", "2026-01-05T05:59:59Z", "2026-01-05T06:00:00Z"),  # Monday
        ("month", "2026-02-01T05:59:59Z", "2026-02-01T06:00:00Z"),
        ("hour", "2026-11-01T06:59:59Z", "2026-11-01T07:00:00Z"),  # 1 o'clock, and again 1 o'clock
    ],
)
def test_windows_begin_when_the_zone_says(per, before, after):
    first, second = datetime.fromisoformat(before), datetime.fromisoformat(after)
    assert window(per, second, CHICAGO) == window(per, first, CHICAGO) + 1
    assert window("total", first, CHICAGO) == window("total", second, CHICAGO)


def test_sales_just_after_an_edge_count_where_there_is_room():
    edge = datetime(2026, 1, 6, 6, 0, tzinfo=UTC)
    before, just_after = edge - timedelta(hours=1), edge + SLACK / 2
    later = edge + timedelta(hours=1)

    def most(*at: datetime, limit: int = 2) -> int:
        sales = [(moment, 1) for moment in at]
        return max(fillings(sales, per="day", limit=limit, zone=CHICAGO).values())

    assert most(before, just_after, just_after, later) == 2
    assert most(before, before, just_after, just_after) == 2
    assert most(before, before, just_after, just_after, later) == 3
    assert most(before, before, before) == 3


@pytest.fixture
def files(tmp_path):
    events, lines = good_run()
    (tmp_path / "truth").mkdir()
    for event in events:
        with (tmp_path / "truth" / f"{event.buyer}.jsonl").open("ab") as file:
            file.write(encode(event) + b"\n")
    content = b"\n".join(msgspec.json.encode(line) for line in lines)
    (tmp_path / "sellers.jsonl").write_bytes(content)
    (tmp_path / "market.json").write_text(json.dumps(MARKET))
    return tmp_path


def judge(folder, *more: str) -> subprocess.CompletedProcess[str]:
    names = ("--truth", "truth"), ("--sellers", "sellers.jsonl"), ("--market", "market.json")
    paths = [part for name, path in names for part in (name, str(folder / path))]
    command = [sys.executable, "-m", "buyers_sim.judge", *paths, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_json_and_its_exit_code_is_the_verdict(files):
    good = judge(files, "--json")
    assert good.returncode == 0
    checks = json.loads(good.stdout)["checks"]
    assert len(checks) == 9
    assert {"name", "count", "violations"} <= set(checks[0])
    with (files / "truth" / "beacon.jsonl").open("ab") as file:
        file.write(encode(post("l1", "beacon")) + b"\n")
    bad = judge(files)
    assert bad.returncode == 1
    assert "lead l1 was accepted by acme, beacon" in bad.stdout


def test_the_command_refuses_files_that_do_not_read(files):
    (files / "market.json").write_text("{")
    assert judge(files).returncode == 2
