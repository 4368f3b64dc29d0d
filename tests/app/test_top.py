"""`exchange top`: what lies between two scrapes, a page that fits its terminal, and a command that
says so when there is nothing to watch."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console
from typer.testing import CliRunner

from exchange.__main__ import cli
from exchange.app.top.frame import BuyerLine, CapLine, Frame, frame, fullest
from exchange.app.top.page import page, sparkline
from exchange.app.top.reading import Between, Reading, read
from exchange.flows.caps import CapRow

BEFORE = """
exchange_up{server="postgres",worker="0"} 1
exchange_up{server="valkey",worker="0"} 1
exchange_pings_total{outcome="offer",reason="",vertical="auto",way="two_step"} 100
exchange_pings_total{outcome="no_offer",reason="no_bids",vertical="auto",way="two_step"} 7
exchange_ping_added_seconds_bucket{le="0.001"} 50
exchange_ping_added_seconds_bucket{le="0.002"} 50
exchange_ping_added_seconds_bucket{le="+Inf"} 50
exchange_answers_total{buyer="acme",answer="bid"} 10
exchange_buyer_healthy{buyer="acme",worker="0"} 1
exchange_buyer_healthy{buyer="acme",worker="1"} 0
exchange_buyer_healthy{buyer="beacon",worker="0"} 1
exchange_buyer_braked{buyer="beacon",worker="0"} 1
exchange_buyer_healthy{buyer="cedar",worker="0"} 1
"""
AFTER = """
exchange_up{server="postgres",worker="0"} 1
exchange_up{server="valkey",worker="0"} 0
exchange_start_timestamp_seconds{worker="0"} 1000
exchange_start_timestamp_seconds{worker="1"} 1600
exchange_book_version{worker="0"} 4
exchange_pings_total{outcome="offer",reason="",vertical="auto",way="two_step"} 140
exchange_pings_total{outcome="no_offer",reason="no_bids",vertical="auto",way="two_step"} 17
exchange_ping_added_seconds_bucket{le="0.001"} 60
exchange_ping_added_seconds_bucket{le="0.002"} 150
exchange_ping_added_seconds_bucket{le="+Inf"} 150
exchange_answers_total{buyer="acme",answer="bid"} 40
exchange_answers_total{buyer="acme",answer="timeout"} 10
exchange_deliveries_total{buyer="acme",delivery="accepted"} 15
exchange_price_micros_total{buyer="acme",currency="USD"} 123456789
exchange_buyer_healthy{buyer="acme",worker="0"} 1
exchange_buyer_healthy{buyer="acme",worker="1"} 0
exchange_buyer_healthy{buyer="beacon",worker="0"} 1
exchange_buyer_braked{buyer="beacon",worker="0"} 1
exchange_buyer_healthy{buyer="cedar",worker="0"} 1
exchange_open_attempts{buyer="acme",state="posting",worker="2"} 3
exchange_open_attempts{buyer="acme",state="unknown",worker="2"} 2
exchange_doubt_price_micros{currency="USD",worker="2"} 50000000
exchange_doubt_oldest_seconds{worker="2"} 90
exchange_proof_violations{proof="ledger",worker="2"} 0
exchange_queue_length{queue="journal",worker="0"} 3
exchange_queue_length{queue="journal",worker="1"} 4
"""


def made(**changes: Any) -> Frame:
    """The frame of ten seconds."""
    between = Between(read(BEFORE, 0.0), read(AFTER, 10.0))
    return replace(frame(between, wall_s=4_600, caps=None), **changes)


def cap(**changes: Any) -> CapRow:
    row = CapRow(
        buyer="acme",
        contract="acme-auto",
        unit="leads",
        per="day",
        each=None,
        segment=None,
        win="1.1.d2026-05-01",
        used=3,
        held=1,
        limit=5,
        resets_at=None,
        booked=4,
        difference=0,
        mode="strict",
    )
    return replace(row, **changes)


# --- numbers --------------------------------------------------------------------------------------


def test_rates_are_of_what_happened_between_the_two_looks() -> None:
    now = made()
    assert (now.pings_per_s, now.offers_per_s) == (5, 4)
    assert now.outcomes == {"no_bids": 1}
    assert now.revenue_per_min == {"USD": "740.74"}
    assert (now.processes, now.up_s, now.book_version) == (2, 3_600, 4)
    assert now.servers == {"postgres": True, "valkey": False}
    assert (now.doubts, now.doubt_money, now.doubt_oldest_s) == (2, {"USD": "50.00"}, 90)
    assert now.queues["journal"] == 7
    assert now.violations == 0


def test_quantiles_are_of_the_time_between_and_interpolated_within_their_bucket() -> None:
    [added, *_] = made().latencies
    assert (added.p50_ms, added.p99_ms) == (pytest.approx(1.444), pytest.approx(1.989))


def test_a_buyer_is_worst_of_what_any_worker_says_and_those_asked_most_come_first() -> None:
    acme, beacon, cedar = made().buyers
    assert (acme.health, beacon.health, cedar.health) == ("resting", "braked", "ok")
    assert (acme.asked_per_s, acme.bid, acme.timed_out) == (4, 0.75, 0.25)
    assert (acme.sold_per_min, acme.won) == (90, 0.5)


def test_a_counter_that_fell_began_anew() -> None:
    between = Between(read("a_total 9\n", 0.0), read("a_total 4\n", 1.0))
    assert between.sum("a_total") == 4


def test_nothing_that_happened_has_no_quantile() -> None:
    empty = Reading(0.0, {})
    assert Between(empty, empty).quantile(0.5, "exchange_ping_seconds") is None
    assert all(
        one.p50_ms is None for one in frame(Between(empty, empty), wall_s=0, caps=()).latencies
    )


def test_caps_nearest_to_full_come_first_and_those_that_cannot_be_read_before_all() -> None:
    rows = [cap(), cap(contract="b", used=None, held=None), cap(contract="c", unit="money", used=5)]
    assert fullest(rows, 2) == (
        CapLine(contract="b", cap="leads a day", taken="?", limit="5", share=None),
        CapLine(contract="c", cap="money a day", taken="0.000006", limit="0.000005", share=1.2),
    )


def test_bars_are_of_the_highest() -> None:
    assert sparkline([0, 1, 2, 4]) == " ▂▄█"
    assert sparkline([0, 0]) == "  "


# --- the page -------------------------------------------------------------------------------------


def lines_of(now: Frame, width: int, height: int, note: str = "") -> list[str]:
    paper = StringIO()
    console = Console(file=paper, width=width, height=height, color_system=None)
    console.print(
        page(now, where="127.0.0.1:8080", history=(1, 2), width=width, height=height, note=note)
    )
    return paper.getvalue().splitlines()


def crowded() -> Frame:
    """A market that has more than any terminal."""
    buyer = BuyerLine(
        buyer="a-buyer-with-a-very-long-key-indeed",
        asked_per_s=12_345.6,
        bid=1.0,
        timed_out=1.0,
        p50_ms=12_345.6,
        sold_per_min=12_345.6,
        won=1.0,
        in_flight=99_999,
        health="resting",
    )
    full = CapLine(
        contract="a-contract-with-a-very-long-key",
        cap="money a month, state NY",
        taken="123456.78",
        limit="1000000.00",
        share=0.12,
    )
    reasons = {f"reason_{number}": 1.0 for number in range(20)}
    return made(
        buyers=(buyer,) * 50,
        caps=(full,) * 20,
        outcomes=reasons,
        not_sold=reasons,
        refused=reasons,
        limits=reasons,
        dropped=reasons,
        violations=3,
    )


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
@pytest.mark.parametrize("now", [made(), crowded()], ids=["quiet", "crowded"])
def test_a_page_fits_its_terminal(now: Frame, width: int, height: int) -> None:
    lines = lines_of(now, width, height, note="does not answer (TimeoutError) ")
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "sold/min" in " ".join(lines)


def test_a_page_says_what_is_wrong() -> None:
    text = "\n".join(lines_of(made(violations=2, dropped={"journal": 1.5}), 120, 40))
    for words in ("2 leads fail their proof", "dropped journal 1.5/s", "resting", "braked"):
        assert words in text
    assert "no jobs process" in "\n".join(lines_of(made(violations=None), 80, 24))


# --- the command ----------------------------------------------------------------------------------


class Told(BaseHTTPRequestHandler):
    """Tells `AFTER` as metrics, and nothing anywhere else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(AFTER.encode() if self.path == "/metrics" else b"")

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def exchange_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def called(*words: str, folder: Path) -> Any:
    return CliRunner().invoke(cli, ["top", "--data-dir", str(folder), "--every", "0.2", *words])


def test_once_prints_a_frame_and_json_is_for_programs(exchange_url: str, tmp_path: Path) -> None:
    page_told = called("--once", "--url", exchange_url, folder=tmp_path)
    assert page_told.exit_code == 0
    assert "book 4" in page_told.stdout
    told = json.loads(called("--json", "--url", exchange_url, folder=tmp_path).stdout)
    assert told["book_version"] == 4
    assert told["caps"] is None


@pytest.mark.parametrize("where", ["http://127.0.0.1:1", "/elsewhere"])
def test_nothing_to_watch_is_said_in_a_sentence(
    exchange_url: str, tmp_path: Path, where: str
) -> None:
    url = where if where.startswith("http") else exchange_url + where
    told = called("--once", "--url", url, folder=tmp_path)
    assert told.exit_code == 1
    assert "nothing to watch" in told.stderr
    assert "exchange serve" in told.stderr
    assert not list(tmp_path.iterdir())
